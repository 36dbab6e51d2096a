"""Triton kernel against reference, judged by the reference in float64.

On a GPU with `pytest -m gpu`; everywhere through Triton's interpreter with `TRITON_INTERPRET=1 pytest tests/ops/cuda`.
"""

import os
from itertools import product

import pytest
import torch
from torch.func import vmap
from torch.testing import assert_close

from hannet import HanStack, ops
from hannet.functional import han_stack, han_stacks
from hannet.ops import dispatch, library, reference

pytest.importorskip("triton")
from hannet.ops.cuda import launch, tiles, triton_kernels

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@pytest.fixture(params=["cpu" if INTERPRETED else pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request, monkeypatch):
    """Where the kernels run: tensors of the CPU go to the interpreter."""
    if INTERPRETED:
        monkeypatch.setattr(dispatch, "on_gpu", lambda _: True)
    return request.param


@pytest.fixture(params=["alone", "few", "many"])
def rows_as_if(request, monkeypatch):
    """One launch for each pass, or tiles as for few rows or for many, and so few programs that each has several tiles."""
    monkeypatch.setattr(tiles, "_ALONE", 256 if request.param == "alone" else 0)
    monkeypatch.setattr(tiles, "_FEW", 1_000_000 if request.param == "few" else 0)
    monkeypatch.setattr(launch, "_multiprocessors", lambda _: 1)
    monkeypatch.setattr(launch, "_WARPS_AT_ONCE", 2)
    launch._plan.cache_clear()
    yield request.param
    launch._plan.cache_clear()


def by_reference(grad_y, x, u, b, reflections=1, apply_abs=True):
    """y and the gradients of x, u and b."""
    leaves = [t.detach().clone().requires_grad_() for t in (x, u, b) if t is not None]
    y = reference.stack(*leaves, *[None] * (b is None), reflections, apply_abs)
    return y.detach(), *torch.autograd.grad(y, leaves, grad_y)


def by_kernel(grad_y, x, u, b, reflections=1, apply_abs=True):
    y, signs = launch.forward(x, u, b, reflections, apply_abs, True)
    assert signs.shape == launch.signs_shape(x.shape, u.shape, x.dtype, reflections, apply_abs)
    grads = launch.backward(grad_y, y, signs, u, b, reflections, apply_abs)
    return y, *grads[: 2 if b is None else 3]


def on(device, tensors, dtype=None):
    return [t if t is None else t.to(device, dtype or t.dtype) for t in tensors]


def assert_as_accurate(device, inputs, reflections=1, apply_abs=True, dtypes=(torch.float32,) * 4):
    """The kernel errs at most twice as much as the reference in the same dtypes, plus a few units in the last place."""
    low = [t if t is None else t.to(dtype) for t, dtype in zip(inputs, dtypes, strict=True)]
    exact = by_reference(*on(None, low, torch.float64), reflections, apply_abs)
    eager = by_reference(*low, reflections, apply_abs)
    fused = on("cpu", by_kernel(*on(device, low), reflections, apply_abs))
    for name, truth, theirs, ours in zip(("y", "x", "u", "b"), exact, eager, fused, strict=False):
        assert ours.dtype == theirs.dtype
        allowed = 2 * (theirs - truth).norm() + 4 * torch.finfo(ours.dtype).eps * truth.norm()
        assert (ours - truth).norm() <= allowed, (name, float((ours - truth).norm()), float(allowed))


@pytest.mark.parametrize(
    ("rows", "width", "depth"),
    [
        (7, 1, 9), (33, 2, 7), (7, 3, 5), (33, 5, 7), (7, 31, 5), (9, 100, 6), (3, 130, 3), (17, 784, 1), (3, 1000, 2), (1, 1, 1),
        (3, 2000, 2), (2, 8192, 1),
    ],
)  # fmt: skip
def test_float32_is_as_accurate_as_the_reference(make, device, rows_as_if, rows, width, depth):
    x, u, b = make(rows, width, depth)
    assert_as_accurate(device, (torch.randn_like(x).float().double(), x, u, b))


@pytest.mark.parametrize("width", [5, 100, 300])
def test_float64_equals_the_reference(make, device, rows_as_if, width):
    x, u, b = make(5, width, 3)
    inputs = torch.randn_like(x), x, u, b
    for ours, theirs in zip(on("cpu", by_kernel(*on(device, inputs))), by_reference(*inputs), strict=True):
        assert_close(ours, theirs, rtol=0, atol=1e-12 * (1 + float(theirs.norm())))


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("parameters", ["half", "single"])
def test_half_is_as_accurate_as_the_reference(make, device, half, parameters):
    x, u, b = make(9, 100, 3, margin=0.03)
    for_parameters = half if parameters == "half" else torch.float32
    inputs = [t.to(half).double() for t in (torch.randn_like(x), x, u, b)]
    x, u, b = inputs[1:]
    if parameters == "half":
        assert_as_accurate(device, inputs, dtypes=(half, half, half, half))
        return
    low = [t.to(dtype) for t, dtype in zip(inputs, (half, half, for_parameters, for_parameters), strict=True)]
    expected = by_reference(*on(None, low, torch.float32))
    for ours, theirs in zip(on("cpu", by_kernel(*on(device, low))), expected, strict=True):
        assert (ours - theirs).norm() <= 4 * torch.finfo(half).eps * theirs.norm()


@pytest.mark.parametrize("members", [None, 2])
@pytest.mark.parametrize("reflections", [1, 2, 3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("apply_abs", [True, False])
def test_every_option_is_as_accurate_as_the_reference(make, device, members, reflections, bias, apply_abs):
    x, u, b = make(5, 6, 3, members=members, reflections=reflections, bias=bias)
    assert_as_accurate(device, (torch.randn_like(x).float().double(), x, u, b), reflections, apply_abs)


@pytest.mark.parametrize("width", [4, 5, 8])
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 6, 7, 8, 9, 13])
def test_sign_bits_fill_words_of_every_size(make, device, width, depth):
    x, u, b = make(2, width, depth)
    assert_as_accurate(device, (torch.randn_like(x).float().double(), x, u, b))


def test_one_bit_an_activation():
    for width, most in ((64, 1), (100, 1.3), (512, 1), (1024, 1)):
        _, size = launch.signs_shape((1000, width), (20, width), torch.bfloat16, 1, True)
        assert size * 8 <= most * 1000 * width * 20
    assert launch.signs_shape((1000, 64), (1, 64), torch.float32, 1, True)[1] * 8 <= 2 * 64_000
    assert launch.signs_shape((1000, 64), (20, 64), torch.float32, 1, False) == (1, 0)


def test_no_width_wastes_a_third():
    for width in range(1, 8193):
        columns, chunks = launch.chunks_of(width)
        assert width <= columns * chunks <= 1.35 * width
        assert chunks <= 8


@pytest.mark.parametrize("shape", [(0, 5), (2, 0, 5)])
def test_no_rows(device, shape):
    members = shape[:-2]
    x, u, b = torch.ones(shape), torch.ones(*members, 4, 5), torch.ones(*members, 4, 5)
    y, grad_x, grad_u, grad_b = by_kernel(*on(device, (x, x, u, b)))
    assert y.shape == grad_x.shape == shape
    assert not grad_u.any()
    assert not grad_b.any()


class Poisoned:
    """torch, except that new tensors lie between guard bands and are filled with `byte`; 0xFF is NaN in every float."""

    BAND = 256

    def __init__(self, byte):
        self.byte, self.buffers = byte, []

    def __getattr__(self, name):
        return getattr(torch, name)

    def empty(self, *size, dtype=torch.float32, device="cpu"):
        shape = torch.Size(size[0] if isinstance(size[0], tuple) else size)
        buffer = torch.full(
            (shape.numel() * dtype.itemsize + 2 * self.BAND,), self.byte, dtype=torch.uint8, device=device
        )
        self.buffers.append(buffer)
        return buffer[self.BAND : -self.BAND].view(dtype).view(shape)

    def empty_like(self, tensor):
        return self.empty(tuple(tensor.shape), dtype=tensor.dtype, device=tensor.device)

    def assert_bands_untouched(self):
        for buffer in self.buffers:
            assert (buffer[: self.BAND] == self.byte).all()
            assert (buffer[-self.BAND :] == self.byte).all()


@pytest.mark.parametrize(
    ("rows", "width", "reflections", "bias"), [(5, 7, 1, True), (13, 33, 2, False), (1, 1, 1, True)]
)
def test_writes_every_element_and_nothing_else(make, device, rows_as_if, monkeypatch, rows, width, reflections, bias):
    x, u, b = make(rows, width, 3, members=2, reflections=reflections, bias=bias, dtype=torch.float32)
    outcomes = []
    for byte in (0xFF, 0):
        poisoned = Poisoned(byte)
        inputs = on(device, (torch.ones_like(x), x, u, b))
        inputs = [t if t is None else poisoned.empty_like(t).copy_(t) for t in inputs]
        with monkeypatch.context() as patch:
            patch.setattr(launch, "torch", poisoned)
            outcomes.append(by_kernel(*inputs, reflections))
            outcomes[-1] += (launch.forward(*inputs[1:], reflections, True, False)[0],)
        poisoned.assert_bands_untouched()
    assert all(map(torch.equal, *outcomes))


@pytest.mark.parametrize(("rows", "launches"), [(3, 2), (3000, 5)])
def test_few_rows_take_one_launch_a_pass(make, device, monkeypatch, rows, launches):
    taken = []

    class Counted:
        def __getattr__(self, name):
            taken.append(name)
            return getattr(triton_kernels, name)

    x, u, b = on(device, make(rows, 4, 2, dtype=torch.float32))
    monkeypatch.setattr(launch, "triton_kernels", Counted())
    by_kernel(x, x, u, b)
    assert len(taken) == launches


def test_equal_calls_give_equal_bits(make, device, rows_as_if):
    inputs = on(device, [torch.randn(2, 30, 9), *make(30, 9, 4, members=2, dtype=torch.float32)])
    first = by_kernel(*inputs)
    for _ in range(1 if INTERPRETED else 20):
        assert all(map(torch.equal, first, by_kernel(*inputs)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_counts_as_positive(device, dtype):
    x = torch.tensor([[0.0, -0.0, 1.0, -1.0]], dtype=dtype)
    for b in (None, torch.zeros(1, 4, dtype=dtype), -x):
        inputs = torch.ones_like(x), x, torch.zeros(1, 4, dtype=dtype), b
        y, grad_x, *_ = on("cpu", by_kernel(*on(device, inputs)))
        assert torch.equal(grad_x, by_reference(*inputs)[1])
        assert not y.signbit().any()


def test_a_zero_row_is_the_identity(make, device):
    x, u, b = make(5, 6, 4)
    u[1] = u[3] = 0
    assert_as_accurate(device, (torch.randn_like(x).float().double(), x, u, b))


@pytest.mark.parametrize(
    ("dtype", "size"),
    [
        (torch.float32, 1e-44),
        (torch.float32, 1e-30),
        (torch.float32, 1e30),
        (torch.float64, 1e-200),
        (torch.float64, 1e200),
    ],
)
def test_every_norm_of_u(make, device, dtype, size):
    """Judged by u of norm about 1, to which its gradient is as 1 to `size`."""
    x, u, b = make(5, 6, 4, dtype=dtype)
    u = (u * size).nan_to_num()
    exact = by_reference(*on(None, (torch.ones_like(x), x, u.double() / size, b), torch.float64))
    y, grad_x, grad_u, grad_b = on("cpu", by_kernel(*on(device, (torch.ones_like(x), x, u, b))))
    near = 1e-5 if dtype == torch.float32 else 1e-12
    for ours, truth in zip((y, grad_x, grad_u.double() * size, grad_b), exact, strict=True):
        if size > 1e-38 or dtype == torch.float64 or truth is not exact[2]:  # else beyond float32
            assert (ours - truth).norm() <= near * truth.norm()


@pytest.mark.skipif(INTERPRETED, reason="takes the interpreter minutes")
def test_a_thousand_layers_can_be_rebuilt(device):
    depth, width = 1_000, 100
    x, grad_y = torch.randn(2, 4, width).to(device)
    u, b = torch.randn(depth, width).to(device), (torch.randn(depth, width) / width**0.5).to(device)
    ours = by_kernel(grad_y, x, u, b)[2]
    between, _ = launch.forward(x, u[:1].contiguous(), b[:1].contiguous(), 1, True, False)
    grad_between = by_kernel(grad_y, between, u[1:].contiguous(), b[1:].contiguous())[1]
    expected = by_reference(*on("cpu", (grad_between, x, u[:1], b[:1]), torch.float64))[2]
    assert (ours[:1].cpu() - expected).norm() <= 1e-4 * expected.norm()


@pytest.mark.parametrize("layout", ["transposed", "every other", "expanded", "three dimensions"])
def test_autograd_for_every_layout(make, device, layout):
    x, u, b = make(6, 5, 3, dtype=torch.float32)
    x = {
        "transposed": x.T.contiguous().T,
        "every other": x.repeat_interleave(2, 1)[:, ::2],
        "expanded": x[:1].expand(4, 5),
        "three dimensions": x.view(2, 3, 5),
    }[layout]
    inputs = [t.detach().requires_grad_() for t in on(device, (x, u, b))]
    grads = torch.autograd.grad(han_stack(*inputs).square().sum(), inputs)
    leaves = [t.detach().double().requires_grad_() for t in (x, u, b)]
    expected = torch.autograd.grad(reference.stack(*leaves).square().sum(), leaves)
    for ours, theirs in zip(on("cpu", grads), expected, strict=True):
        assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dim", [0, 1, -2])
def test_features_before_other_dimensions(make, device, dim, dtype):
    """The same kernel, so the same bits as from the rows themselves."""
    rows, u, b = (t.to(device, dtype).requires_grad_() for t in make(51, 6, 3, dtype=torch.float32, margin=0.03))
    expected = torch.autograd.grad((y := han_stack(rows, u, b)).square().sum(), (rows, u, b))
    x = rows.detach().unflatten(0, (3, 17)).movedim(-1, dim).contiguous().requires_grad_()
    found = han_stack(x, u, b, dim=dim)
    grads = torch.autograd.grad(found.square().sum(), (x, u, b))
    assert found.dtype == dtype
    for ours, theirs in ((found, y), (grads[0], expected[0])):
        assert torch.equal(ours.movedim(dim, -1).flatten(0, 1), theirs)
    for ours, theirs in zip(grads[1:], expected[1:], strict=True):
        assert_close(ours, theirs)


def test_members_with_the_features_last_but_one(make, device):
    x, u, b = (t.to(device) for t in make(17, 6, 3, members=2, dtype=torch.float32))
    assert torch.equal(ops.stack(x.mT.contiguous(), u, b, dim=-2), han_stack(x, u, b).mT)
    with pytest.raises(ValueError, match="along -2"):
        library.stack(x.mT.contiguous(), u, b, 1, True, -2)
    assert_close(vmap(lambda *one: han_stack(*one, dim=0))(x.mT.contiguous(), u, b), han_stack(x, u, b).mT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_run_of_stacks_goes_stack_by_stack(make, device, dtype):
    (x, *channels), (_, *tokens) = make(6, 17, 2, dtype=torch.float32), make(17, 6, 2, dtype=torch.float32)
    x, *flat = (t.to(device).requires_grad_() for t in (x.expand(2, 6, 17), *tokens, *channels))
    y = han_stacks(x.to(dtype), [(*flat[:2], -2), (*flat[2:], -1)])
    expected = han_stack(han_stack(x.to(dtype).float(), *flat[:2], dim=-2), *flat[2:]).to(dtype)
    assert torch.equal(y, expected)
    grads = [torch.autograd.grad(out.float().square().sum(), (x, *flat)) for out in (y, expected)]
    assert_close(*grads)


def test_the_operator_keeps_pytorchs_rules(make, device):
    inputs = [t.to(device).requires_grad_() for t in make(2, 3, 2, margin=1e-3)]
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(library.stack, (*inputs, 1, True), test_utils=tests)
    torch.autograd.gradcheck(lambda *inputs: ops.stack(*inputs, 1, True), inputs, fast_mode=True)


def test_vmap(make, device):
    x, u, b = on(device, make(3, 5, 2, members=2))
    y = vmap(han_stack)(x, u, b)
    assert_close(y, torch.stack([han_stack(*one) for one in zip(x, u, b, strict=True)]))


def test_second_derivatives(make, device):
    inputs = [t.to(device).requires_grad_() for t in make(2, 3, 1, margin=1e-3)]
    torch.autograd.gradgradcheck(lambda *inputs: ops.stack(*inputs, 1, True), inputs, fast_mode=True)


def test_compiles_for_any_number_of_rows(device):
    model = HanStack(5, 3, device=device)
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    for rows in (4, 9):
        x = torch.randn(rows, 5, device=device)
        assert_close(compiled(x), model(x))
        parameters = list(model.parameters())
        grads = torch.autograd.grad(compiled(x).sum(), parameters)
        assert_close(grads, torch.autograd.grad(model(x).sum(), parameters))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_modules_take_half(device, dtype):
    stack, x = HanStack(6, 3, device=device), torch.randn(4, 6, device=device)
    exact = stack(x)
    assert_close(stack(x.to(dtype)).float(), exact, rtol=0.02, atol=0.02)
    stack.to(dtype)(x.to(dtype)).sum().backward()
    assert stack.u.grad.dtype == dtype
    assert stack.u.grad.isfinite().all()


@pytest.mark.gpu
def test_wide_rows_take_the_reference():
    x, u = torch.randn(2, 8193, device="cuda"), torch.randn(1, 8193, device="cuda")
    assert dispatch.choose(x, u, None) == dispatch.REFERENCE
    assert_close(han_stack(x, u), reference.stack(x, u, None))


@pytest.mark.gpu
def test_a_captured_graph_gives_the_same(make):
    x, u, b = on("cuda", make(33, 100, 6, dtype=torch.float32))
    expected = by_kernel(x, x, u, b)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = by_kernel(x, x, u, b)
    graph.replay()
    assert all(map(torch.equal, found, expected))


def test_says_how_it_runs():
    assert launch.describe().startswith("Triton ")


def test_words_of_members_stay_apart(make, device, rows_as_if):
    for rows, width in product((1, 5), (5, 20)):
        x, u, b = make(rows, width, 3, members=3)
        assert_as_accurate(device, (torch.randn_like(x).float().double(), x, u, b))
