import copy

import pytest
import torch
from safetensors.torch import load, save
from torch import nn
from torch.testing import assert_close

from hannet import HanLinear
from hannet.functional import han_linear

SIZES = [(5, 5), (6, 4), (4, 6), (1, 3), (3, 1), (17, 33)]


def reflection(u):
    return torch.eye(len(u), dtype=u.dtype) - 2 * torch.outer(u, u) / (u @ u)


def explicit(u, s, v):
    """The matrix of a HanLinear, from its equation."""
    diagonal = torch.zeros(v.shape[1], u.shape[1], dtype=s.dtype)
    diagonal.diagonal().copy_(s)
    matrix = torch.eye(u.shape[1], dtype=u.dtype)
    for row in u:
        matrix = reflection(row) @ matrix
    matrix = diagonal @ matrix
    for row in v:
        matrix = reflection(row) @ matrix
    return matrix


def random_layer(n, m, k=2, *, bias=True, dtype=torch.double):
    layer = HanLinear(n, m, bias, dtype=dtype, reflections=k)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer


@pytest.mark.parametrize("lead", [(), (7,), (0,), (2, 3)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("n", "m"), SIZES)
def test_it_is_the_product_of_its_equation(n, m, bias, lead):
    layer, x = random_layer(n, m, bias=bias), torch.randn(*lead, n, dtype=torch.double)
    matrix = explicit(layer.u, layer.s, layer.v)
    assert_close(layer(x), nn.functional.linear(x, matrix, layer.b))
    assert_close(layer.matrix(), matrix.detach())


@pytest.mark.parametrize(("n", "m"), SIZES)
def test_gradients_are_those_of_the_product(n, m):
    layer, x = random_layer(n, m, 3), torch.randn(4, n, dtype=torch.double, requires_grad=True)
    leaves = [x, *layer.parameters()]
    assert [name for name, _ in layer.named_parameters()] == ["u", "v", "s", "b"]
    expected = torch.autograd.grad((x @ explicit(layer.u, layer.s, layer.v).mT + layer.b).sin().sum(), leaves)
    assert_close(torch.autograd.grad(layer(x).sin().sum(), leaves), expected)


@pytest.mark.parametrize(("n", "m"), [(2, 1), (1, 2)])
def test_gradients_and_second_derivatives(n, m):
    layer = random_layer(n, m)
    inputs = torch.randn(3, n, dtype=torch.double, requires_grad=True), layer.u, layer.s, layer.v, layer.b
    assert torch.autograd.gradcheck(han_linear, inputs)
    assert torch.autograd.gradgradcheck(han_linear, inputs)


@pytest.mark.parametrize("extra", [0, 1, 2])
@pytest.mark.parametrize(("n", "m"), SIZES)
def test_with_the_smaller_side_as_reflections_every_matrix_is_one(n, m, extra):
    linear = nn.Linear(n, m, dtype=torch.double)
    layer = HanLinear.from_linear(linear, min(n, m) + extra)
    assert_close(layer.matrix(), linear.weight.detach(), rtol=0, atol=1e-12)
    assert layer.relative_error < 1e-12
    x = torch.randn(5, n, dtype=torch.double)
    assert_close(layer(x), linear(x))


@pytest.mark.parametrize("kind", ["zero", "identity", "one column", "equal singular values"])
def test_matrices_of_low_rank_are_met(kind):
    weight = {
        "zero": torch.zeros(4, 6),
        "identity": torch.eye(4, 6),
        "one column": torch.eye(4, 6) * (torch.arange(6) == 3),
    }
    linear = nn.Linear(6, 4)
    linear.weight = nn.Parameter(weight[kind] if kind in weight else nn.init.orthogonal_(torch.empty(4, 6)))
    layer = HanLinear.from_linear(linear, 4)
    assert_close(layer.matrix().float(), linear.weight.detach(), rtol=0, atol=1e-6)
    assert all(bool((row.norm(dim=1) > 0).all()) for row in (layer.u, layer.v)), "a row of zeros has no gradient"


def test_a_fit_is_closer_than_the_best_factorisation_of_its_size():
    linear, k = nn.Linear(24, 16), 3
    values = torch.linalg.svdvals(linear.weight.detach())
    low_rank = (values[k:].norm() / values.norm()).item()
    start = HanLinear.from_linear(linear, k, steps=0)
    fitted = HanLinear.from_linear(linear, k, steps=100)
    assert fitted.relative_error < 0.98 * start.relative_error < 0.98 * low_rank
    weight = linear.weight.detach().double()
    assert_close(fitted.relative_error, ((fitted.matrix() - weight).norm() / weight.norm()).item())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_and_back_keeps_dtype_bias_and_mode(dtype, bias):
    linear = nn.Linear(6, 4, bias, dtype=dtype).eval()
    layer = HanLinear.from_linear(linear, 4)
    back = layer.to_linear()
    assert {p.dtype for p in (*layer.parameters(), *back.parameters())} == {dtype}
    assert not layer.training
    assert not back.training
    tolerance = {torch.bfloat16: 0.05, torch.float32: 1e-6, torch.float64: 1e-12}[dtype]
    assert_close(back.weight, linear.weight, rtol=0, atol=tolerance)
    assert (back.bias is None) == (linear.bias is None)
    if bias:
        assert torch.equal(back.bias, linear.bias)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_computes_in_float32(dtype):
    layer, x = random_layer(6, 4, dtype=torch.float32), torch.randn(5, 6).to(dtype)
    expected = layer(x.float()).to(dtype)
    assert torch.equal(layer(x), expected)
    half = copy.deepcopy(layer).to(dtype)
    half(x).float().sum().backward()
    assert half.u.grad.dtype == dtype
    with torch.autocast("cpu", dtype):
        assert layer(x).dtype == dtype
        assert layer(x.float()).dtype == torch.float32


def test_copies_own_their_parameters_and_files_hold_them_all():
    layer, x = random_layer(6, 4), torch.randn(5, 6, dtype=torch.double)
    other = copy.deepcopy(layer)
    fresh = HanLinear(6, 4, dtype=torch.double, reflections=2)
    fresh.load_state_dict(load(save(layer.state_dict())))
    assert torch.equal(fresh(x), layer(x))
    with torch.no_grad():
        other.u.zero_()
    assert layer.u.norm() > 0
    assert {name: tuple(t.shape) for name, t in layer.state_dict().items()} == {
        "u": (2, 6), "v": (2, 4), "s": (4,), "b": (4,)
    }  # fmt: skip


def test_it_starts_by_keeping_the_norm():
    layer, x = HanLinear(6, 9, bias=False, reflections=3, dtype=torch.double), torch.randn(5, 6, dtype=torch.double)
    assert_close(layer(x).norm(dim=1), x.norm(dim=1))


def test_a_compiled_layer_is_one_graph_and_computes_the_same():
    layer, x = random_layer(6, 4), torch.randn(5, 6, dtype=torch.double)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert_close(compiled(x), layer(x))
    assert_close(
        torch.autograd.grad(compiled(x).sum(), list(layer.parameters())),
        torch.autograd.grad(layer(x).sum(), list(layer.parameters())),
    )


def test_an_exported_program_computes_the_same():
    layer, x = random_layer(6, 4), torch.randn(5, 6, dtype=torch.double)
    program = torch.export.export(layer, (x,), dynamic_shapes=({0: torch.export.Dim("n")},))
    more = torch.randn(8, 6, dtype=torch.double)
    assert_close(program.module()(more), layer(more))
    assert not any("hannet" in str(node.target) for node in program.graph.nodes)


BAD = {
    "in_features must be a positive integer, got 0": lambda: HanLinear(0, 4),
    "out_features must be a positive integer, got 2.5": lambda: HanLinear(4, 2.5),
    "reflections must be a positive integer, got 0": lambda: HanLinear.from_linear(nn.Linear(2, 2), 0),
    "x must have 4 features last, got (3, 5)": lambda: HanLinear(4, 2)(torch.ones(3, 5)),
    "the weight must be finite floating-point numbers, got torch.float32 on meta": lambda: HanLinear.from_linear(
        nn.Linear(2, 2, device="meta"), 1
    ),
    "s must be (2,), got (3,)": lambda: han_linear(torch.ones(4), torch.ones(1, 4), torch.ones(3), torch.ones(1, 2)),
    "v must be (reflections, d) with at least one, got (2,)": lambda: han_linear(
        torch.ones(4), torch.ones(1, 4), torch.ones(2), torch.ones(2)
    ),
    "x is torch.float64 but u is torch.float32; convert one of them": lambda: HanLinear(4, 2)(torch.ones(4).double()),
}


@pytest.mark.parametrize("sentence", BAD)
def test_bad_input_is_named_in_one_sentence(sentence):
    with pytest.raises(ValueError) as error:  # noqa: PT011  compared below, to the letter
        BAD[sentence]()
    assert str(error.value) == sentence


def test_a_weight_that_is_not_finite_is_refused():
    linear = nn.Linear(2, 2)
    nn.init.constant_(linear.weight, torch.nan)
    with pytest.raises(ValueError, match="the weight must be finite"):
        HanLinear.from_linear(linear, 1)
