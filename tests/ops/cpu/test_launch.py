"""Kernel against reference, judged by the reference in float64."""

import os
import subprocess
import sys
import types
from collections.abc import Iterator
from itertools import product

import pytest
import torch
from torch.testing import assert_close

from hannet.ops import reference
from hannet.ops.cpu import launch

WIDTHS = [1, 2, 3, 7, 8, 100, 257, 784]
ROWS = [0, 1, 2, 3, 4, 5, 13]


def by_reference(grad_y, x, u, b, reflections=1, apply_abs=True, dim=-1):
    """y and the gradients of x, u and b."""
    leaves = [t.detach().clone().requires_grad_() for t in (x, u, b) if t is not None]
    y = reference.stack(*leaves, *[None] * (b is None), reflections, apply_abs, dim)
    return y.detach(), *torch.autograd.grad(y, leaves, grad_y)


def by_kernel(grad_y, x, u, b, reflections=1, apply_abs=True, dim=-1):
    y, signs = launch.forward(x, u, b, reflections, apply_abs, True, dim)
    grads = launch.backward(grad_y, y, signs, u, b, reflections, apply_abs, dim)
    return y, *grads[: 2 if b is None else 3]


def converted(tensors, dtype):
    return [t if t is None else t.to(dtype) for t in tensors]


def in_columns(x, matrices):
    """(..., matrices * n, width) as (..., matrices, width, n): features last but one."""
    return x.unflatten(-2, (matrices, -1)).mT.contiguous()


def assert_as_accurate(inputs, reflections=1, apply_abs=True, dim=-1):
    """The float32 kernel errs at most twice as much as the float32 reference, plus a few units in the last place."""
    single = converted(inputs, torch.float32)
    exact = by_reference(*inputs, reflections, apply_abs, dim)
    eager = by_reference(*single, reflections, apply_abs, dim)
    fused = by_kernel(*single, reflections, apply_abs, dim)
    for name, truth, theirs, ours in zip(("y", "x", "u", "b"), exact, eager, fused, strict=False):
        allowed = 2 * (theirs - truth).norm() + 4 * torch.finfo(torch.float32).eps * truth.norm()
        assert (ours - truth).norm() <= allowed, (name, float((ours - truth).norm()), float(allowed))


@pytest.mark.slow
def test_the_default_device_does_not_matter():
    """In a process of its own: what is not on the CPU has no address, and a write there would end this one."""
    program = """if True:
        import torch
        from hannet import HanStack
        model, x = HanStack(8, 3), torch.randn(5, 8)
        torch.set_default_device("meta")
        model(x).sum().backward()
        assert model.u.grad.device == model(x).device == x.device
    """
    run = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("rows", ROWS)
def test_float32_is_as_accurate_as_the_reference(make, rows, width):
    for depth in (1, 2, 40):
        x, u, b = make(rows, width, depth)
        assert_as_accurate((torch.randn_like(x).float().double(), x, u, b))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("rows", ROWS)
def test_float64_equals_the_reference(make, rows, width):
    for depth in (1, 3, 20):
        x, u, b = make(rows, width, depth)
        inputs = torch.randn_like(x), x, u, b
        for ours, theirs in zip(by_kernel(*inputs), by_reference(*inputs), strict=True):
            assert_close(ours, theirs, rtol=0, atol=1e-12 * (1 + float(theirs.norm())))


@pytest.mark.parametrize("members", [None, 1, 3])
@pytest.mark.parametrize("reflections", [1, 2, 3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("apply_abs", [True, False])
def test_every_option_is_as_accurate_as_the_reference(make, members, reflections, bias, apply_abs):
    for rows, width in product((0, 5), (3, 40)):
        x, u, b = make(rows, width, 6, members=members, reflections=reflections, bias=bias)
        assert_as_accurate((torch.randn_like(x).float().double(), x, u, b), reflections, apply_abs)


@pytest.mark.parametrize("width", [1, 3, 64, 100])
@pytest.mark.parametrize("columns", [1, 15, 16, 17, 64, 65, 130])
def test_columns_are_as_accurate_as_the_reference(make, columns, width):
    for matrices, depth in ((1, 1), (3, 2), (2, 20)):
        x, u, b = make(matrices * columns, width, depth)
        x = in_columns(x, matrices)
        assert_as_accurate((torch.randn_like(x).float().double(), x, u, b), dim=-2)


@pytest.mark.parametrize("members", [None, 1, 3])
@pytest.mark.parametrize("reflections", [1, 2, 3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("apply_abs", [True, False])
def test_columns_in_float64_with_every_option(make, members, reflections, bias, apply_abs):
    for matrices, columns, width in ((1, 0, 5), (2, 7, 3), (3, 70, 40)):
        x, u, b = make(matrices * columns, width, 6, members=members, reflections=reflections, bias=bias)
        x = x.new_empty(*x.shape[:-2], matrices, width, 0) if columns == 0 else in_columns(x, matrices)
        inputs = torch.randn_like(x), x, u, b
        results = zip(
            by_kernel(*inputs, reflections, apply_abs, -2),
            by_reference(*inputs, reflections, apply_abs, -2),
            strict=True,
        )
        for ours, theirs in results:
            assert_close(ours, theirs, rtol=0, atol=1e-12 * (1 + float(theirs.norm())))


@pytest.mark.parametrize("depth", range(1, 41))
def test_every_depth(make, depth):
    x, u, b = make(6, 9, depth)
    assert_as_accurate((torch.randn_like(x).float().double(), x, u, b))


class Guarded:
    """torch, except that new tensors lie between guard bands and are filled with `byte`; 0xFF is NaN in every float."""

    BAND = 256

    def __init__(self, byte):
        self.byte, self.buffers = byte, []

    def __getattr__(self, name):
        return getattr(torch, name)

    def empty(self, *size, dtype=torch.float32, device="cpu"):
        shape = torch.Size(size[0] if isinstance(size[0], tuple) else size)
        size = shape.numel() * dtype.itemsize + 2 * self.BAND
        buffer = torch.full((size,), self.byte, dtype=torch.uint8, device=device)
        self.buffers.append(buffer)
        return buffer[self.BAND : -self.BAND].view(dtype).view(shape)

    def empty_like(self, tensor):
        return self.empty(tuple(tensor.shape), dtype=tensor.dtype)

    def assert_bands_untouched(self, tensors):
        made = {buffer.data_ptr() for buffer in self.buffers}
        assert {t.untyped_storage().data_ptr() for t in tensors if t is not None} <= made
        for buffer in self.buffers:
            assert (buffer[: self.BAND] == self.byte).all()
            assert (buffer[-self.BAND :] == self.byte).all()


@pytest.fixture(params=[1, 2])
def parts(request, threads, monkeypatch) -> Iterator[int]:
    """As many parts as threads, however small the work."""
    monkeypatch.setattr(launch, "_SMALLEST_PART", 1)
    launch._plan.cache_clear()
    threads(request.param)
    yield request.param
    launch._plan.cache_clear()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("members", [None, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_writes_every_element_and_nothing_else(make, monkeypatch, parts, dtype, members, bias):
    for rows, width, reflections in product((0, 1, 5, 13), (1, 7, 16, 33), (1, 2)):
        x, u, b = make(rows, width, 3, members=members, reflections=reflections, bias=bias, dtype=dtype)
        outcomes = []
        for byte in (0xFF, 0):
            guarded = Guarded(byte)
            inputs = [t if t is None else guarded.empty_like(t).copy_(t) for t in (torch.ones_like(x), x, u, b)]
            with monkeypatch.context() as patch:
                patch.setattr(launch, "torch", guarded)
                y, signs = launch.forward(*inputs[1:], reflections, True, True)
                outcomes.append([y, *launch.backward(inputs[0], y, signs, *inputs[2:], reflections, True)])
                outcomes[-1].append(launch.forward(*inputs[1:], reflections, True, False)[0])
            guarded.assert_bands_untouched(outcomes[-1])
        for poisoned, clean in zip(*outcomes, strict=True):
            assert poisoned is clean or torch.equal(poisoned, clean)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("members", [None, 3])
def test_columns_are_all_written_and_nothing_else(make, monkeypatch, parts, dtype, members):
    for columns, width, reflections in product((1, 17, 64, 130), (1, 7, 16), (1, 2)):
        x, u, b = make(2 * columns, width, 3, members=members, reflections=reflections, dtype=dtype)
        x = in_columns(x, 2)
        outcomes = []
        for byte in (0xFF, 0):
            guarded = Guarded(byte)
            inputs = [guarded.empty_like(t).copy_(t) for t in (torch.ones_like(x), x, u, b)]
            with monkeypatch.context() as patch:
                patch.setattr(launch, "torch", guarded)
                y, signs = launch.forward(*inputs[1:], reflections, True, True, -2)
                outcomes.append([y, *launch.backward(inputs[0], y, signs, *inputs[2:], reflections, True, -2)])
                outcomes[-1].append(launch.forward(*inputs[1:], reflections, True, False, -2)[0])
            guarded.assert_bands_untouched(outcomes[-1])
        assert all(map(torch.equal, *outcomes))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="protects pages with mprotect")
def test_reads_nothing_beyond_its_inputs():
    code = """
import ctypes, mmap, torch
from hannet.ops.cpu import launch as cpu
libc = ctypes.CDLL(None, use_errno=True)
def at_the_edge(tensor):
    size = -(-tensor.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    pages = mmap.mmap(-1, size + mmap.PAGESIZE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    assert libc.mprotect(ctypes.c_void_p(start + size), mmap.PAGESIZE, 0) == 0
    flat = torch.frombuffer(pages, dtype=tensor.dtype, count=tensor.numel(), offset=size - tensor.nbytes)
    return flat.view(tensor.shape).copy_(tensor)
for dtype in (torch.float32, torch.float64):
    for rows, width in ((1, 1), (3, 7), (5, 17), (4, 16)):
        x, u, b = (at_the_edge(torch.randn(n, width, dtype=dtype)) for n in (rows, 3, 3))
        y, signs = cpu.forward(x, u, b, 1, True, True)
        cpu.backward(at_the_edge(x), at_the_edge(y), at_the_edge(signs), u, b, 1, True)
    for columns, width in ((1, 1), (7, 3), (17, 5), (64, 4)):
        x, u, b = (at_the_edge(torch.randn(*n, dtype=dtype)) for n in ((2, width, columns), (3, width), (3, width)))
        y, signs = cpu.forward(x, u, b, 1, True, True, -2)
        cpu.backward(at_the_edge(x), at_the_edge(y), at_the_edge(signs), u, b, 1, True, -2)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_equal_calls_give_equal_bits(make, parts):
    inputs = [torch.randn(2, 30, 40), *make(30, 40, 9, members=2, dtype=torch.float32)]
    first = by_kernel(*inputs)
    for _ in range(3):
        assert all(map(torch.equal, first, by_kernel(*inputs)))
    inputs[:2] = (in_columns(t, 3) for t in inputs[:2])
    first = by_kernel(*inputs, dim=-2)
    for _ in range(3):
        assert all(map(torch.equal, first, by_kernel(*inputs, dim=-2)))


@pytest.mark.parametrize("members", [None, 2])
@pytest.mark.parametrize("dim", [-1, -2])
def test_works_in_place_and_gives_the_input_back(make, parts, dim, members):
    for width in (7, 16, 33):
        x, u, b = make(5 * 18, width, 4, members=members, reflections=2)
        x = in_columns(x, 5) if dim == -2 else x
        grad_y = torch.randn_like(x)
        y, signs = launch.forward(x, u, b, 2, True, True, dim)
        grads = launch.backward(grad_y, y, signs, u, b, 2, True, dim)
        place = x.clone()
        same, bits = launch.forward(place, u, b, 2, True, True, dim, place)
        assert same is place
        assert torch.equal(place, y)
        assert torch.equal(bits, signs)
        found = launch.backward(grad_y, place, bits, u, b, 2, True, dim, place, grad_y)
        assert found[0] is grad_y
        assert all(map(torch.equal, found, grads))
        assert_close(place, x)


@pytest.mark.parametrize(("rows", "matrices"), [(100, 0), (129, 0), (1000, 2), (1300, 13)])
def test_two_threads_agree_with_one(make, threads, rows, matrices):
    inputs, dim = [torch.randn(rows, 100), *make(rows, 100, 20, dtype=torch.float32)], -2 if matrices else -1
    if matrices:
        inputs[:2] = (in_columns(t, matrices) for t in inputs[:2])
    threads(1)
    alone = by_kernel(*inputs, dim=dim)
    threads(2)
    together = by_kernel(*inputs, dim=dim)
    assert torch.equal(alone[0], together[0])
    assert torch.equal(alone[1], together[1])
    for one, two in zip(alone[2:], together[2:], strict=True):
        assert_close(one, two, rtol=0, atol=1e-6 * float(one.norm()))


def test_python_threads_where_there_is_no_openmp(make, threads, monkeypatch):
    inputs = [torch.randn(200, 100), *make(200, 100, 20, dtype=torch.float32)]
    threads(2)
    expected = by_kernel(*inputs)
    monkeypatch.setattr(launch, "openmp", lambda: None)
    assert all(map(torch.equal, expected, by_kernel(*inputs)))
    assert launch.describe().endswith("Python threads")


@pytest.mark.parametrize("found", [None, types.SimpleNamespace()])
def test_no_openmp_runtime_is_found(monkeypatch, found):
    def load(path):
        if found is None:
            raise OSError(path)
        return found

    monkeypatch.setattr(launch.ctypes, "CDLL", load)
    assert launch.openmp.__wrapped__() is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_counts_as_positive(dtype):
    x = torch.tensor([[0.0, -0.0, 1.0, -1.0]], dtype=dtype)
    for b in (None, torch.zeros(1, 4, dtype=dtype), -x):
        y, grad_x, *_ = by_kernel(torch.ones_like(x), x, torch.zeros(1, 4, dtype=dtype), b)
        _, expected, *_ = by_reference(torch.ones_like(x), x, torch.zeros(1, 4, dtype=dtype), b)
        assert torch.equal(grad_x, expected)
        assert not y.signbit().any()


def test_ten_thousand_layers_can_be_rebuilt():
    """The gradient of the first u needs the input rebuilt through all the others."""
    depth, width = 10_000, 100
    x, grad_y = torch.randn(2, 8, width)
    u, b = torch.randn(depth, width), torch.randn(depth, width) / width**0.5
    grad_u = by_kernel(grad_y, x, u, b)[2]
    between, _ = launch.forward(x, u[:1], b[:1], 1, True, False)
    grad_between = by_kernel(grad_y, between, u[1:], b[1:])[1]
    expected = by_reference(*converted((grad_between, x, u[:1], b[:1]), torch.float64))[2]
    assert (grad_u[:1] - expected).norm() <= 1e-4 * expected.norm()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_and_its_parent_go_on():
    code = """
import os, torch
from hannet import HanStack
from torch.utils.data import DataLoader
torch.set_num_threads(2)
stack, x = HanStack(100, 20), torch.randn(200, 100)
def grads():
    stack.zero_grad()
    stack(x).sum().backward()
    return [stack(x).detach(), stack.u.grad.clone()]
expected = grads()
def same():
    return all(torch.allclose(a, b, atol=1e-3) for a, b in zip(grads(), expected))
child = os.fork()
if child == 0:
    os._exit(0 if same() else 1)
assert os.waitpid(child, 0)[1] == 0
assert same()
for y in DataLoader([stack, stack], batch_size=None, num_workers=1, collate_fn=lambda s: s(x[:50]).detach()):
    assert torch.equal(y, expected[0][:50])
assert same()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_trains_a_network_with_dense_layers():
    code = """
import os, torch
from hannet import HanNet
torch.set_num_threads(2)
def train():
    HanNet(13, 1, 200, 20)(torch.rand(2000, 13)).square().mean().backward()
train()
child = os.fork()
if child == 0:
    train()
    os._exit(torch.get_num_threads() != 1)
assert os.waitpid(child, 0)[1] == 0
assert torch.get_num_threads() == 2
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
