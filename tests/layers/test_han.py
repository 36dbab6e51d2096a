import copy
import io
import math
import pickle

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from hannet import HanLayer, HanStack, Householder
from hannet.layers.activations import Abs, GroupSort, MaxMin
from hannet.layers.affine import Standardise, UnitLinear

MODULES = {
    "HanLayer": lambda: HanLayer(6),
    "HanLayer without bias": lambda: HanLayer(6, bias=False),
    "HanLayer of 3 reflections": lambda: HanLayer(6, reflections=3),
    "HanStack": lambda: HanStack(6, 4),
    "HanStack without bias": lambda: HanStack(6, 4, bias=False),
    "HanStack of 2 reflections": lambda: HanStack(6, 4, reflections=2),
    "HanStack in float64": lambda: HanStack(6, 4, dtype=torch.float64),
    "Householder": lambda: Householder(6),
    "Householder with bias": lambda: Householder(6, bias=True),
    "Householder of 2 reflections": lambda: Householder(6, bias=True, reflections=2),
}


def shapes(module):
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def results(module):
    """The output for fixed rows, and the gradients of the parameters."""
    x = torch.linspace(-1, 1, 30, dtype=module.u.dtype).view(5, 6)
    y = module(x)
    return [y.detach(), *torch.autograd.grad(y.sum(), list(module.parameters()))]


def assert_equal_results(one, other):
    assert all(torch.equal(a, b) for a, b in zip(results(one), results(other), strict=True))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("HanLayer", {"u": (6,), "b": (6,)}),
        ("HanLayer without bias", {"u": (6,)}),
        ("HanLayer of 3 reflections", {"u": (3, 6), "b": (6,)}),
        ("HanStack", {"u": (4, 6), "b": (4, 6)}),
        ("HanStack without bias", {"u": (4, 6)}),
        ("HanStack of 2 reflections", {"u": (8, 6), "b": (4, 6)}),
        ("Householder", {"u": (6,)}),
        ("Householder with bias", {"u": (6,), "b": (6,)}),
        ("Householder of 2 reflections", {"u": (2, 6), "b": (6,)}),
    ],
)
def test_state_dicts_have_fixed_shapes(name, expected):
    assert shapes(MODULES[name]()) == expected


def saved(module):
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


COPIES = {
    "deepcopy": lambda module, _: copy.deepcopy(module),
    "pickle": lambda module, _: pickle.loads(pickle.dumps(module)),  # noqa: S301
    "state dict": lambda module, fresh: (fresh.load_state_dict(module.state_dict()), fresh)[1],
    "file": lambda module, fresh: (fresh.load_state_dict(saved(module)), fresh)[1],
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("name", MODULES)
def test_copies_compute_the_same_and_own_their_parameters(name, how):
    module = MODULES[name]()
    other = COPIES[how](module, MODULES[name]())
    assert_equal_results(module, other)
    with torch.no_grad():
        other.u.zero_()
    assert module.u.norm() > 0


@pytest.mark.parametrize("name", MODULES)
def test_initialises_as_the_authors_do(name):
    module = MODULES[name]()
    assert_close(module.u.norm(dim=-1), torch.ones(module.u.shape[:-1], dtype=module.u.dtype))
    if module.b is not None:
        assert module.b.abs().max() <= 6**-0.5
        assert module.b.unique().numel() == module.b.numel()
    before = module.u.clone()
    module.reset_parameters()
    assert not torch.equal(before, module.u)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("reflections", [1, 3])
def test_a_stack_is_the_sequence_of_its_layers(bias, reflections):
    stack = HanStack(6, 5, bias, reflections=reflections, dtype=torch.float64)
    x = torch.randn(7, 6, dtype=torch.float64, requires_grad=True)
    y, apart = stack(x), nn.Sequential(*stack)(x)
    assert_close(y, apart)
    assert_close(torch.autograd.grad(y.sum(), x), torch.autograd.grad(apart.sum(), x))
    assert len(stack) == len(list(stack)) == 5
    assert_equal_results(HanStack.from_layers(list(stack)), stack)


def test_layers_of_a_stack_share_its_memory():
    stack, x = HanStack(6, 5), torch.randn(7, 6)
    with torch.no_grad():
        stack[1].u.zero_()
        stack[-1].b.fill_(3)
        stack[2:4].u.zero_()
    assert stack.u[1:4].norm() == 0
    assert (stack.b[4] == 3).all()
    assert_close(stack[3:](stack[:3](x)), stack(x))
    assert isinstance(stack[0], HanLayer)
    assert [len(stack[part]) for part in (slice(None), slice(1, 3), slice(None, None, 2))] == [5, 2, 3]


@pytest.mark.parametrize("name", ["u", "b"])
def test_a_change_through_a_layer_is_noticed(name):
    stack, x = HanStack(6, 5), torch.randn(7, 6)
    y = stack(x)
    with torch.no_grad():
        getattr(stack[2], name).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_from_layers_copies():
    layers = [HanLayer(6) for _ in range(3)]
    stack = HanStack.from_layers(layers)
    with torch.no_grad():
        stack.u.zero_()
    assert layers[0].u.norm() > 0


@pytest.mark.parametrize(
    "parts",
    [lambda stack: [stack[1]], lambda stack: [stack[1:]], list],
    ids=["index", "slice", "iteration"],
)
def test_parts_of_a_stack_inside_torch_compile(parts):
    stack, x = HanStack(6, 3), torch.randn(7, 6)

    def run(x):
        for part in parts(stack):
            x = part(x)
        return x

    assert_close(torch.compile(run, backend="eager")(x), run(x))


@pytest.mark.parametrize("index", [5, -6])
def test_an_index_beyond_the_stack_is_an_index_error(index):
    with pytest.raises(IndexError):
        HanStack(6, 5)[index]


def test_layers_that_differ_make_no_stack():
    for other in (HanLayer(7), HanLayer(6, bias=False), HanLayer(6, reflections=2), HanLayer(6, dim=0)):
        with pytest.raises(ValueError, match="layer 1 differs from layer 0"):
            HanStack.from_layers([HanLayer(6), other])
    with pytest.raises(ValueError, match="layers must be a positive integer, got 0"):
        HanStack.from_layers([])
    with pytest.raises(ValueError, match="depth must be a positive integer, got 0"):
        HanStack(6, 5)[3:3]


@pytest.mark.parametrize("value", [0, -1, 2.0, "3", True, None])
@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("features", HanLayer),
        ("features", lambda n: HanStack(n, 3)),
        ("features", Householder),
        ("depth", lambda n: HanStack(6, n)),
        ("reflections", lambda n: HanLayer(6, reflections=n)),
        ("reflections", lambda n: HanStack(6, 3, reflections=n)),
        ("group", GroupSort),
    ],
)
def test_sizes_are_positive_integers(name, build, value):
    with pytest.raises(ValueError, match=f"{name} must be a positive integer, got {value!r}"):
        build(value)


def test_inputs_that_do_not_fit_are_named():
    for module in (HanLayer(6), HanStack(6, 4), Householder(6)):
        with pytest.raises(ValueError, match=r"x must have 6 features last, got \(2, 5\)"):
            module(torch.ones(2, 5))


@pytest.mark.parametrize("dim", [0, 1, -2, -3])
def test_features_may_stand_in_another_dimension(dim):
    x = torch.randn(6, 6, 6, dtype=torch.float64)
    for there, last in (
        (HanLayer(6, dtype=x.dtype, dim=dim), HanLayer(6, dtype=x.dtype)),
        (HanStack(6, 4, dtype=x.dtype, dim=dim), HanStack(6, 4, dtype=x.dtype)),
        (Householder(6, dtype=x.dtype, dim=dim), Householder(6, dtype=x.dtype)),
    ):
        last.load_state_dict(there.state_dict())
        assert_close(there(x), last(x.movedim(dim, -1)).movedim(-1, dim))
    stack = HanStack(6, 4, dtype=x.dtype, dim=dim)
    assert_close(nn.Sequential(*stack)(x), stack(x))
    assert HanStack.from_layers(list(stack)).dim == dim
    with pytest.raises(TypeError, match=r"dim must be an integer, got 1\.0"):
        HanLayer(6, dim=1.0)


def test_moves_and_converts_like_any_module():
    stack = HanStack(6, 4)
    assert stack.double()(torch.ones(2, 6, dtype=torch.float64)).dtype == torch.float64
    assert stack.to(torch.bfloat16)(torch.ones(2, 6, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert stack.to("meta").u.is_meta
    assert HanStack(6, 4, device="meta").to_empty(device="cpu").u.shape == (4, 6)


def test_a_module_trains():
    stack, x, y = HanStack(6, 4), torch.randn(50, 6), torch.rand(50, 6)
    optimizer = torch.optim.Adam(stack.parameters(), 0.01)
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        loss = (stack(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (HanLayer(6), "HanLayer(6)"),
        (HanLayer(6, bias=False), "HanLayer(6, bias=False)"),
        (HanStack(6, 4), "HanStack(6, depth=4)"),
        (Householder(6), "Householder(6, bias=False)"),
        (GroupSort(3), "GroupSort(3)"),
        (HanLayer(6, dim=1), "HanLayer(6, dim=1)"),
        (HanStack(6, 4, dim=-2)[1:], "HanStack(6, depth=3, dim=-2)"),
    ],
)
def test_prints_its_sizes(module, text):
    assert repr(module) == text


ACTIVATIONS = {
    "Abs": (Abs(), torch.abs),
    "MaxMin": (MaxMin(), lambda x: x.unflatten(-1, (-1, 2)).sort(-1, descending=True).values.flatten(-2)),
    "GroupSort 2": (GroupSort(2), lambda x: x.unflatten(-1, (-1, 2)).sort(-1).values.flatten(-2)),
    "GroupSort 12": (GroupSort(12), lambda x: x.sort(-1).values),
    "GroupSort 1": (GroupSort(1), lambda x: x),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("lead", [(), (5,), (0,), (2, 3)])
def test_activations(name, lead):
    module, expected = ACTIVATIONS[name]
    x = torch.randn(*lead, 12, dtype=torch.double, requires_grad=True)
    y = module(x)
    assert torch.equal(y, expected(x))
    weight = torch.randn_like(y)
    (gradient,) = torch.autograd.grad(y, x, weight)
    assert_close(gradient.norm(dim=-1), weight.norm(dim=-1))  # permutations and sign flips keep the norm


@pytest.mark.parametrize("module", [MaxMin(), GroupSort(2), GroupSort(4)])
@pytest.mark.parametrize("shape", [(3, 7), ()])
def test_features_must_fill_the_groups(module, shape):
    with pytest.raises(ValueError, match=r"features must come in .*, got"):
        module(torch.ones(shape))


@pytest.mark.parametrize("lead", [(), (5,), (0,), (2, 3)])
def test_rows_of_a_unit_linear_have_norm_one(lead):
    layer, x = UnitLinear(6, 4).double(), torch.randn(*lead, 6, dtype=torch.double)
    rows = layer.weight / layer.weight.norm(dim=1, keepdim=True)
    assert_close(layer(x), x @ rows.mT + layer.bias)
    assert_close(UnitLinear(6, 4, bias=False).double()(0 * x), torch.zeros(*lead, 4).double())


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_scale_of_a_unit_linear_does_not_matter(scale):
    layer, x = UnitLinear(6, 4), torch.randn(5, 6)
    expected = layer(x)
    with torch.no_grad():
        layer.weight *= scale
    assert_close(layer(x), expected)


def test_gradients_of_a_unit_linear():
    layer, x = UnitLinear(3, 2).double(), torch.randn(4, 3, dtype=torch.double, requires_grad=True)

    def run(x, weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(run, (x, *layer.parameters()))
    assert torch.autograd.gradgradcheck(run, (x, *layer.parameters()))


def test_a_row_of_zeros_stays_one():
    layer = UnitLinear(3, 2)
    with torch.no_grad():
        layer.weight[0] = 0
    y = layer(torch.randn(5, 3))
    assert (y[:, 0] == layer.bias[0]).all()
    y.sum().backward()
    assert layer.weight.grad.isfinite().all()


@pytest.mark.parametrize("shape", [(5, 3), (5, 3, 4), (0, 3, 4, 4)])
def test_standardise_takes_constants_for_each_channel(shape):
    mean, std = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 1.0, 4.0])
    x, places = torch.randn(shape), (-1, *[1] * (len(shape) - 2))
    assert_close(Standardise(mean.tolist(), std.tolist())(x), (x - mean.view(places)) / std.view(places))
    assert_close(Standardise(0.5, 2.0)(x), (x - 0.5) / 2)
    assert {"mean", "std"} == set(Standardise(0.5, 2.0).state_dict())


@pytest.mark.parametrize(
    ("mean", "std", "sentence"),
    [
        (math.nan, 1.0, "mean must be finite, a number or one a channel, got nan"),
        ([0.0, math.inf], [1.0, 1.0], "mean must be finite"),
        (0.0, 0.0, "std must be finite, above 0, a number or one a channel, got 0.0"),
        ([0.0], [-1.0], "std must be finite, above 0"),
        ([], [], "mean must be finite"),
        ([[0.0]], 1.0, "one a channel"),
    ],
)
def test_constants_that_cannot_standardise_are_named(mean, std, sentence):
    with pytest.raises(ValueError, match=sentence):
        Standardise(mean, std)


@pytest.mark.parametrize("shape", [(5, 1), (5, 2), (3,), (5, 1, 3)])
def test_a_single_channel_is_not_copied_for_three_constants(shape):
    with pytest.raises(ValueError, match=r"x must be \(n, 3, ...\), got"):
        Standardise([0.0, 1.0, 2.0], [1.0, 1.0, 1.0])(torch.ones(shape))
