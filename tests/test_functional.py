import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from hannet.functional import han_layer, han_stack, han_stacks, householder
from hannet.ops import reference

HALF = [torch.bfloat16, torch.float16]


def gradients(function, *inputs, weight=None):
    """The output and the gradients of every input that is not None; `weight` is the output's gradient."""
    leaves = [None if t is None else t.detach().clone().requires_grad_() for t in inputs]
    y = function(*leaves)
    weight = torch.ones_like(y) if weight is None else weight
    return y.detach(), *torch.autograd.grad(y, [t for t in leaves if t is not None], weight)


def assert_same(function, *inputs, atol=1e-12, **options):
    """The public function and the reference agree in value and gradients, NaN where the other has NaN."""
    weight = torch.linspace(-1, 1, inputs[0].numel(), dtype=inputs[0].dtype).view(inputs[0].shape)
    ours = gradients(function, *inputs, weight=weight)
    theirs = gradients(lambda *leaves: reference.stack(*leaves, **options), *inputs, weight=weight)
    for one, other in zip(ours, theirs, strict=True):
        finite = other[other.isfinite()]
        scale = 1.0 if finite.numel() == 0 else 1 + float(finite.abs().max())
        assert_close(one, other, rtol=1e-12, atol=atol * scale, equal_nan=True)


@pytest.mark.parametrize("lead", [(), (1,), (0,), (3, 0), (5,), (2, 3), (2, 1, 3)])
def test_any_leading_dimensions(make, lead):
    _, u, b = make(1, 7, 3)
    x = torch.randn(*lead, 7, dtype=torch.double)
    assert_same(han_stack, x, u, b)
    assert_same(han_layer, x, u[0], b[0])


@pytest.mark.parametrize("bias", [True, False])
def test_layer_and_reflection(make, bias):
    x, u, b = make(5, 7, 3, bias=bias)
    one = None if b is None else b[0]
    assert_same(han_layer, x, u[0], one)
    assert_same(han_layer, x, u, one, reflections=3)
    assert_same(householder, x, u[0], one, apply_abs=False)
    assert_same(lambda x, u, b: han_stack(x, u, b, reflections=3), x, u, one if b is None else b[:1], reflections=3)


@pytest.mark.parametrize("lead", [(5,), (), (2, 0), (2, 3)])
def test_members(lead):
    x, u, b = (torch.randn(3, *shape, 8, dtype=torch.double) for shape in (lead, (4,), (4,)))
    assert_same(han_stack, x, u, b)


LAYOUTS = {
    "transposed": lambda t: t.mT.contiguous().mT,
    "every other column": lambda t: t.repeat_interleave(2, -1)[..., ::2],
    "every other row": lambda t: t.repeat_interleave(2, -2)[..., ::2, :],
    "expanded": lambda t: t[..., :1, :].expand(t.shape),
    "one number": lambda t: t[..., :1, :1].expand(t.shape),
    "offset": lambda t: torch.cat([t.new_zeros(1), t.flatten()])[1:].view(t.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_memory_layout(make, layout):
    tensors = [LAYOUTS[layout](t) for t in make(6, 5, 6)]
    weight = LAYOUTS[layout](torch.randn(6, 5, dtype=torch.double))
    contiguous = [t.clone(memory_format=torch.contiguous_format) for t in tensors]
    ours = gradients(han_stack, *tensors, weight=weight)
    leaves = [t.detach().requires_grad_() for t in tensors]  # clone() would keep some layouts and drop others
    again = torch.autograd.grad(han_stack(*leaves), leaves, weight)
    for one, two, plain in zip(
        ours[1:], again, gradients(han_stack, *contiguous, weight=weight.clone())[1:], strict=True
    ):
        assert torch.equal(one, plain)
        assert torch.equal(two, plain)


@pytest.mark.parametrize("layout", [*LAYOUTS, "plain", "channels last"])
@pytest.mark.parametrize("after", [(1,), (3,), (4, 5), (40,), (0,)])
def test_features_in_any_dimension(make, layout, after):
    _, u, b = make(1, 7, 3)
    x = torch.randn(2, 7, *after, dtype=torch.double)
    layouts = LAYOUTS | {"plain": lambda t: t, "channels last": lambda t: t.movedim(1, -1).contiguous().movedim(-1, 1)}
    x = layouts[layout](x)
    for dim in (1, 1 - x.dim()):
        for function, parameters in ((han_stack, (u, b)), (han_layer, (u[0], b[0])), (householder, (u[0], b[0]))):
            ours = gradients(lambda *t, f=function, dim=dim: f(*t, dim=dim), x, *parameters)
            theirs = gradients(lambda *t, f=function: f(t[0].movedim(1, -1), *t[1:]).movedim(-1, 1), x, *parameters)
            assert ours[0].shape == x.shape
            for one, other in zip(ours, theirs, strict=True):
                assert_close(one, other, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_and_members_in_another_dimension(dtype):
    x, u, b = torch.randn(3, 8, 20).to(dtype), torch.randn(3, 4, 8), torch.randn(3, 4, 8)
    y = han_stack(x, u, b, dim=1)
    assert y.dtype == dtype
    assert_close(y.mT, han_stack(x.mT, u, b))
    for dim in (0, -3, 3, -4):
        with pytest.raises(ValueError, match=f"dim must be a dimension of x behind that of the members, got {dim}"):
            han_stack(x, u, b, dim=dim)
    with pytest.raises(ValueError, match="dim must be a dimension of x, got 3"):
        han_layer(x, u[0, 0], dim=3)
    with pytest.raises(ValueError, match=r"x must have 8 features in dimension 1, got \(3, 7, 20\)"):
        han_stack(x[:, :7], u, b, dim=1)


@pytest.mark.parametrize("wanted", ["x", "u", "b", "xu", "xb", "ub", "xub"])
def test_gradients_together_and_alone(make, wanted):
    inputs = dict(zip("xub", make(5, 7, 3), strict=True))
    every = dict(zip("xub", gradients(han_stack, *inputs.values())[1:], strict=True))
    for name in wanted:
        inputs[name].requires_grad_()
    y = han_stack(*inputs.values())
    y.sum().backward()
    for name, tensor in inputs.items():
        assert (tensor.grad is None) == (name not in wanted)
        assert tensor.grad is None or torch.equal(tensor.grad, every[name])


def test_no_gradient_is_kept_where_none_is_wanted(make):
    x, u, b = (t.requires_grad_() for t in make(5, 7, 3))
    with torch.no_grad():
        assert not han_stack(x, u, b).requires_grad
    with torch.inference_mode():
        assert_close(han_stack(x, u, b), han_stack(x, u, b))
    assert han_stack(x, u, b).requires_grad


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("parameters", [torch.float32, *HALF])
def test_half_precision_is_single_precision_rounded(dtype, parameters):
    x, u, b = torch.randn(5, 100).to(dtype), torch.randn(3, 100).to(parameters), torch.randn(3, 100).to(parameters)
    single = gradients(han_stack, x.float(), u.float(), b.float())
    half = gradients(han_stack, x, u, b)
    assert [t.dtype for t in half] == [dtype, dtype, parameters, parameters]
    for one, other in zip(half, single, strict=True):
        assert torch.equal(one, other.to(one.dtype))


@pytest.mark.parametrize(
    ("dtype", "norm"),
    [(torch.float32, 1e-30), (torch.float32, 1e30), (torch.float64, 1e-200), (torch.float64, 1e200)],
)
def test_the_norm_of_u_does_not_matter(make, dtype, norm):
    x, u, b = make(5, 7, 3, dtype=dtype)
    u = u / u.norm(dim=-1, keepdim=True)
    y, grad_x, grad_u, grad_b = gradients(han_stack, x, u * norm, b)
    expected = gradients(han_stack, x, u, b)
    for one, other in zip((y, grad_x, grad_u * norm, grad_b), expected, strict=True):
        assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_zero_u_is_the_identity_without_gradient(make, which):
    x, u, b = make(5, 7, 3)
    u[which] = 0
    y, _, grad_u, _ = gradients(han_stack, x, u, b)
    rest = [layer for layer in range(3) if layer != which]
    z = han_stack(x, u[:which], b[:which]) if which else x
    z = (z + b[which]).abs()
    assert_close(y, han_stack(z, u[which + 1 :], b[which + 1 :]) if which < 2 else z)
    assert torch.equal(grad_u[which], torch.zeros(7, dtype=torch.double))
    assert grad_u[rest].norm(dim=-1).min() > 0
    assert_same(han_stack, x, u, b)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("where", ["x", "u", "b"])
def test_what_is_not_finite_passes_through(make, bad, where):
    inputs = dict(zip("xub", make(5, 7, 3), strict=True))
    inputs[where][1, 2] = bad
    y = han_stack(*inputs.values())
    assert_close(y, reference.stack(*inputs.values()), equal_nan=True)
    assert not y[1].isfinite().all()
    assert where != "x" or y[[0, 2, 3, 4]].isfinite().all()
    weight = torch.ones_like(y)
    ours = gradients(han_stack, *inputs.values(), weight=weight)[1:]
    theirs = gradients(reference.stack, *inputs.values(), weight=weight)[1:]
    for one, other in zip(ours, theirs, strict=True):
        assert (one.isfinite() <= other.isfinite()).all()  # a rebuilt input may show it where PyTorch's would not
        both = one.isfinite()
        assert_close(one[both], other[both])


def test_sign_of_zero_is_plus_one():
    x = torch.tensor([[0.0, -0.0, 2.0, -3.0]], dtype=torch.double)
    zero = torch.zeros(1, 4, dtype=torch.double)
    for b in (zero, -x):
        assert_same(han_stack, x, zero, b, atol=0)
        assert torch.equal(gradients(han_stack, x, zero, b)[3][0, :2], torch.ones(2, dtype=torch.double))


def test_a_jacobian_stays_orthogonal_through_a_thousand_layers():
    width, depth = 30, 1000
    u, b = torch.randn(2, depth, width, dtype=torch.double)
    x = torch.randn(width, dtype=torch.double).expand(width, width).contiguous().requires_grad_()
    (J,) = torch.autograd.grad(han_stack(x, u, b), x, torch.eye(width, dtype=torch.double))
    assert (J @ J.T - torch.eye(width)).abs().max() <= 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keeps_the_norm_of_gradients_and_shortens_no_distance_beyond_one(dtype):
    u, b = torch.randn(2, 200, 64, dtype=dtype)
    x, other = torch.randn(2, 50, 64, dtype=dtype)
    weight = torch.randn(50, 64, dtype=dtype)
    y, grad_x, *_ = gradients(han_stack, x, u, b, weight=weight)
    assert_close(grad_x.norm(dim=-1), weight.norm(dim=-1), rtol=1e-4, atol=0)
    apart = (han_stack(other, u, b) - y).norm(dim=-1)
    assert (apart <= (other - x).norm(dim=-1) * (1 + 1e-4)).all()


@pytest.mark.parametrize("bias", [True, False])
def test_several_reflections_are_one_after_another(bias):
    x, u, b = torch.randn(5, 8).double(), torch.randn(3, 8).double(), torch.randn(8).double() if bias else None
    y = householder(householder(x, u[0]), u[1])
    assert_close(householder(x, u, b), householder(y, u[2], b))
    assert_close(householder(householder(x, u), u.flip(0)), x)


def test_householder_undoes_itself_and_keeps_the_norm():
    x, u = torch.randn(20, 33, dtype=torch.double), torch.randn(33, dtype=torch.double)
    y = householder(x, u)
    assert_close(householder(y, u), x)
    assert_close(y.norm(dim=-1), x.norm(dim=-1))
    assert_close(householder(u, u), -u)


def test_rows_do_not_see_each_other():
    x, u, b = torch.randn(37, 20), torch.randn(5, 20), torch.randn(5, 20)
    order = torch.randperm(37)
    y = han_stack(x, u, b)
    assert torch.equal(han_stack(x[order], u, b), y[order])
    assert torch.equal(torch.cat([han_stack(row, u, b) for row in x.split(1)]), y)


@settings(deadline=None, max_examples=60)
@given(
    lead=st.lists(st.integers(0, 5), max_size=3),
    width=st.integers(1, 70),
    depth=st.integers(1, 6),
    reflections=st.integers(1, 3),
    members=st.none() | st.integers(1, 3),
    steps=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    bias=st.booleans(),
)
def test_any_shape_stride_and_dtype(lead, width, depth, reflections, members, steps, dtype, bias):
    def strided(*shape):
        tensor = torch.randn(*shape[:-1], shape[-1] * steps[0]).to(dtype)[..., :: steps[0]]
        return tensor.repeat_interleave(steps[1], 0)[:: steps[1]] if tensor.dim() > 1 else tensor

    first = () if members is None else (members,)
    x, u = strided(*first, *lead, width), strided(*first, depth * reflections, width)
    b = strided(*first, depth, width) if bias else None
    y = han_stack(x, u, b, reflections=reflections)
    assert y.shape == x.shape
    assert y.dtype == dtype
    exact = reference.stack(x.double(), u.double(), None if b is None else b.double(), reflections)
    assert_close(y.double(), exact, rtol=0, atol=200 * torch.finfo(dtype).eps * (1 + float(exact.norm())))


F32, F64 = torch.float32, torch.float64
BAD = {
    "other features": (han_stack, (torch.ones(5, 7), torch.ones(3, 8)), ValueError, r"x must have 8 features.*\(5, 7\)"),
    "no dimension": (han_layer, (torch.ones(()), torch.ones(8)), ValueError, r"x must have 8 features.*\(\)"),
    "integer x": (han_layer, (torch.ones(8).long(), torch.ones(8)), TypeError, "floating point, got torch.int64"),
    "integer u": (han_layer, (torch.ones(8), torch.ones(8).long()), TypeError, "floating point, got .*torch.int64"),
    "bool b": (han_layer, (torch.ones(8), torch.ones(8), torch.ones(8).bool()), TypeError, "floating.*torch.bool"),
    "complex x": (han_layer, (torch.ones(8) * 1j, torch.ones(8)), TypeError, "floating point, got torch.complex64"),
    "eight bits": (
        han_layer, (torch.ones(8).to(torch.float8_e4m3fn),) * 2, TypeError, "got torch.float8_e4m3fn",
    ),
    "sparse x": (han_layer, (torch.ones(2, 8).to_sparse(), torch.ones(8)), TypeError, "dense tensor"),
    "no reflection": (han_layer, (torch.ones(8), torch.ones(0, 8)), ValueError, "at least one reflection"),
    "u elsewhere": (han_layer, (torch.ones(8), torch.ones(8, device="meta")), ValueError, "x is on cpu but u is on meta"),
    "b elsewhere": (
        han_layer, (torch.ones(8), torch.ones(8), torch.ones(8, device="meta")), ValueError, "x is on cpu but b is on meta",
    ),
    "double x": (han_layer, (torch.ones(8, dtype=F64), torch.ones(8)), ValueError, "x is torch.float64 but u is torch.float32"),
    "double b": (
        han_layer, (torch.ones(8), torch.ones(8), torch.ones(8, dtype=F64)), ValueError, "but b is torch.float64",
    ),
    "half u": (han_layer, (torch.ones(8), torch.ones(8).half()), ValueError, "x is torch.float32 but u is torch.float16"),
    "half x, double u": (
        han_layer, (torch.ones(8).half(), torch.ones(8, dtype=F64)), ValueError, "x is torch.float16 but u is torch.float64",
    ),
    "depth 0": (han_stack, (torch.ones(5, 8), torch.ones(0, 8)), ValueError, "got depth 0"),
    "features 0": (han_stack, (torch.ones(5, 0), torch.ones(3, 0)), ValueError, "at least one feature, got 0"),
    "features 0 of a layer": (han_layer, (torch.ones(0), torch.ones(0)), ValueError, "at least one feature, got 0"),
    "members 0": (han_stack, (torch.ones(0, 5, 8), torch.ones(0, 3, 8)), ValueError, "at least one member"),
    "u of a layer": (han_layer, (torch.ones(8), torch.ones(1, 3, 8)), ValueError, r"u must be \(d,\).*\(1, 3, 8\)"),
    "u of a stack": (han_stack, (torch.ones(8), torch.ones(8)), ValueError, r"u must be \(depth, d\).*\(8,\)"),
    "u of a reflection": (householder, (torch.ones(8), torch.ones(1, 2, 8)), ValueError, r"u must be \(d,\) or \(reflections, d\)"),
    "u without dimension": (han_layer, (torch.ones(8), torch.ones(())), ValueError, r"u must be \(d,\).*got \(\)"),
    "b of a layer": (han_layer, (torch.ones(8), torch.ones(8), torch.ones(7)), ValueError, r"b must be \(8,\).*\(7,\)"),
    "b of a stack": (han_stack, (torch.ones(8), torch.ones(3, 8), torch.ones(2, 8)), ValueError, r"b must be \(3, 8\)"),
    "b of a reflection": (householder, (torch.ones(8), torch.ones(8), torch.ones(1)), ValueError, r"b must be \(8,\)"),
    "b without members": (
        han_stack, (torch.ones(2, 5, 8), torch.ones(2, 3, 8), torch.ones(3, 8)), ValueError, r"b must be \(2, 3, 8\)",
    ),
    "other members": (
        han_stack, (torch.ones(4, 5, 8), torch.ones(2, 3, 8)), ValueError, r"with the 2 members of u first, got \(4, 5, 8\)",
    ),
    "no members in x": (han_stack, (torch.ones(8), torch.ones(2, 3, 8)), ValueError, r"2 members of u first, got \(8,\)"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_in_one_sentence(case):
    function, arguments, error, sentence = BAD[case]
    with pytest.raises(error, match=sentence) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reflections", [0, -1, 2])
def test_rows_of_u_must_make_whole_layers(reflections):
    with pytest.raises(ValueError, match=f"3 rows of u are no layers of {reflections} reflections"):
        han_stack(torch.ones(8), torch.ones(3, 8), reflections=reflections)


def test_negative_views_are_read_as_what_they_mean():
    x = torch.randn(3, 8)
    u, b = torch.randn(8), torch.randn(8)
    torch.testing.assert_close(han_layer(torch._neg_view(x), u, b), han_layer(-x, u, b))


def run_of_stacks(bias=True, dtype=torch.double):
    """x and stacks that take turns along tokens (7) and channels (20)."""
    shapes = [(2, 7), (3, 20), (1, 7), (2, 20)]
    parameters = [(torch.randn(s, dtype=dtype), torch.randn(s, dtype=dtype) if bias else None) for s in shapes]
    stacks = [(u, b, dim) for (u, b), dim in zip(parameters, (-2, -1, -2, -1), strict=True)]
    return torch.randn(3, 7, 20, dtype=dtype), stacks


def one_after_another(x, stacks):
    for u, b, dim in stacks:
        x = han_stack(x, u, b, dim=dim)
    return x


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layout", [*LAYOUTS, "plain"])
def test_a_run_of_stacks_is_one_after_another(bias, layout):
    x, stacks = run_of_stacks(bias)
    x = LAYOUTS.get(layout, lambda t: t)(x)
    flat = [t for u, b, _ in stacks for t in (u, b) if t is not None]
    kept = x.clone()

    def run(function):
        def call(x, *flat):
            given, dims = iter(flat), [dim for *_, dim in stacks]
            return function(x, [(next(given), next(given) if bias else None, dim) for dim in dims])

        weight = torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view(x.shape)
        return gradients(call, x, *flat, weight=weight)

    for ours, theirs in zip(run(han_stacks), run(one_after_another), strict=True):
        assert_close(ours, theirs, rtol=0, atol=1e-11)
    assert torch.equal(x, kept)
    with torch.no_grad():
        assert_close(han_stacks(x, stacks), one_after_another(x, stacks))
    narrow = x[..., :15]
    stacks = [(u[:, :15], None if b is None else b[:, :15], dim) for u, b, dim in stacks]
    assert torch.equal(han_stacks(narrow, stacks), one_after_another(narrow, stacks))
    assert han_stacks(x, []) is x


def test_training_a_run_of_stacks_keeps_two_activations_and_bits():
    x, stacks = run_of_stacks()
    x, kept = x.requires_grad_(), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t), t)[1], lambda t: t):
        y = han_stacks(x, stacks)
    large = [t for t in kept if t.shape == x.shape]
    assert {t.data_ptr() for t in large} == {x.data_ptr(), y.data_ptr()}


@pytest.mark.parametrize("dtype", HALF)
def test_a_run_of_stacks_in_half_precision_is_single_precision_rounded(dtype):
    x, stacks = run_of_stacks(dtype=torch.float32)
    assert torch.equal(han_stacks(x.to(dtype), stacks), han_stacks(x.to(dtype).float(), stacks).to(dtype))


def test_bad_runs_of_stacks_are_named():
    x, u = torch.ones(3, 7, 20), torch.ones(2, 7)
    for case, sentence in (
        ((x, [(u, None, 0)]), r"stacks are along the last two dimensions of x, got 0 of \(3, 7, 20\)"),
        ((x[0, 0], [(u, None, -1)]), r"stacks are along the last two dimensions of x, got -1 of \(20,\)"),
        ((x, [(u, u[:1], -2)]), r"u and b of a stack must be \(depth, d\) .* got \(2, 7\), \(1, 7\)"),
        ((x, [(u[0], None, -2)]), r"u and b of a stack must be \(depth, d\) .* got \(7,\), None"),
        ((x, [(u, None, -1)]), r"x must have 7 features last, got \(3, 7, 20\)"),
        ((x[:, :6], [(u, None, -2)]), r"x must have 7 features in dimension -2, got \(3, 6, 20\)"),
    ):
        with pytest.raises(ValueError, match=sentence):
            han_stacks(*case)
