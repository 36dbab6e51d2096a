"""A stack's forward and backward pass on the CPU: memory, threads, and the call of the compiled passes."""

import ctypes
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache, lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..shapes import call_shape
from ..torch_internals import torch_library
from . import simd
from .passes import FIELDS, compiled
from .simd import ROWS

_forked = False


def _after_fork() -> None:
    """An OpenMP runtime does not survive a fork: the child computes on its one thread, PyTorch's own operators too."""
    global _forked
    _forked = True
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@cache
def openmp() -> Any:
    """GOMP_parallel of the OpenMP runtime that PyTorch itself runs on, so that one team of threads serves both; None without."""
    try:
        parallel = ctypes.CDLL(torch_library()).GOMP_parallel
    except (OSError, AttributeError):
        return None
    parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    parallel.restype = None
    return parallel


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="hannet")


def _launch(name: str, dtype: torch.dtype, job: Any, parts: int) -> None:
    call, address = compiled(name, dtype)
    where = ctypes.addressof(job)
    job[0], job[1] = 0, parts
    if parts == 1:
        call(where)
    elif parallel := openmp():
        parallel(address, where, parts, 0)
    else:
        wait([_pool(parts).submit(call, where) for _ in range(parts)])


_Arguments = ctypes.c_int64 * len(FIELDS)
_SMALLEST_PART = 65_536  # padded activations: below this a second thread costs more than it brings
_SMALLEST_CHUNK = 32  # rows: below this the sums of a chunk cost more than its rows
_MOST_CHUNKS = 64


class _Plan(NamedTuple):
    """Everything about a call that does not change from one to the next."""

    head: tuple[int, ...]
    forward_parts: int
    backward_parts: int
    finish_parts: int
    signs: tuple[int, int]
    forward_workspace: int
    backward_workspace: int
    partial: int


class _Shape(NamedTuple):
    """A call's sizes, whatever dimensions it leaves out. `columns`: elements behind each feature, 0 where the features are last."""

    members: int
    rows: int
    columns: int
    tiles: int
    padded: int
    depth: int
    width: int


def _shape(x: Sequence[int], u: Sequence[int], dtype: torch.dtype, dim: int) -> _Shape:
    members, rows, depth, width = call_shape(x, u, dim)
    step = simd.REGISTER // dtype.itemsize
    if dim == -1:
        return _Shape(members, rows, 0, -(-rows // ROWS), -(-width // step) * step, depth, width)
    return _Shape(members, rows, x[-1], rows * -(-x[-1] // (step * ROWS)), width * step, depth, width)


def signs_shape(x: Sequence[int], u: Sequence[int], dtype: torch.dtype, dim: int = -1) -> tuple[int, int]:
    """(members, bytes) of the sign bits that `forward` keeps, from the shapes of x and u."""
    sizes = _shape(x, u, dtype, dim)
    return sizes.members, sizes.tiles * sizes.depth * (sizes.padded * ROWS // 8)


@lru_cache(maxsize=256)
def _plan(
    x: torch.Size, u: torch.Size, dtype: torch.dtype, reflections: int, apply_abs: bool, dim: int, threads: int
) -> _Plan:
    sizes = _shape(x, u, dtype, dim)
    members, rows, columns, tiles, padded, depth, _ = sizes
    size = dtype.itemsize
    word, tile, parameters = padded * ROWS // 8, padded * ROWS * size, (2 * depth + 1) * padded * size
    work = tiles * ROWS * padded * depth
    most = (tiles * ROWS if columns else rows) // _SMALLEST_CHUNK
    chunks = max(1, min(work // _SMALLEST_PART, most, _MOST_CHUNKS))
    chunks = 1 << chunks.bit_length() - 1  # a power of two shares out evenly; of a member's shape alone, for equal bits

    def parts(work: int, pieces: int) -> int:
        return max(1, min(threads, work // _SMALLEST_PART, pieces))

    return _Plan(
        (chunks, *sizes, reflections, apply_abs, depth * word),
        parts(members * work, members * tiles),
        parts(members * work, members * chunks),
        parts(members * depth * padded * chunks, members * depth),
        signs_shape(x, u, dtype, dim),
        parameters + tile + -(-word // 64) * 64,
        parameters + 2 * tile,
        members * chunks * 2 * depth * padded * size,
    )


def _threads() -> int:
    return 1 if _forked else torch.get_num_threads()


def forward(
    x: Tensor,
    u: Tensor,
    b: Tensor | None,
    reflections: int,
    apply_abs: bool,
    keep: bool,
    dim: int = -1,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """A stack's output and its sign bits (none unless `keep`); shapes as in ops/dispatch.py, contiguous, one dtype.

    The output goes into `out` if it is given, which may be x itself.
    """
    plan = _plan(x.shape, u.shape, x.dtype, reflections, apply_abs, dim, _threads())
    y = torch.empty_like(x) if out is None else out
    # Layers without ABS write no signs; zeros there make the operator's second output the same at every call.
    new = torch.empty if apply_abs and reflections == 1 else torch.zeros
    signs = new(plan.signs if keep else 0, dtype=torch.uint8, device="cpu")
    scratch = torch.empty(plan.forward_parts * plan.forward_workspace, dtype=torch.uint8, device="cpu")
    job = _Arguments(
        0, 0, *plan.head, scratch.data_ptr(), plan.forward_workspace,
        x.data_ptr(), u.data_ptr(), 0 if b is None else b.data_ptr(), y.data_ptr(), signs.data_ptr() if keep else 0,
    )  # fmt: skip
    _launch("forward", x.dtype, job, plan.forward_parts)
    return y, signs


def backward(
    grad_y: Tensor,
    y: Tensor,
    signs: Tensor,
    u: Tensor,
    b: Tensor | None,
    reflections: int,
    apply_abs: bool,
    dim: int = -1,
    x: Tensor | None = None,
    grad_x: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of x, u and b from that of the output; rebuilds every layer's input from y and the sign bits.

    The stack's own input goes into `x` if it is given, which may be y itself, and its gradient into `grad_x`, which may be grad_y.
    """
    plan = _plan(y.shape, u.shape, y.dtype, reflections, apply_abs, dim, _threads())
    grad_x = torch.empty_like(y) if grad_x is None else grad_x
    grad_u, grad_b = torch.empty_like(u), None if b is None else torch.empty_like(b)
    sums = max(plan.backward_parts, plan.finish_parts) * plan.backward_workspace
    scratch = torch.empty(sums + plan.partial, dtype=torch.uint8, device="cpu")
    bias, grad_bias = (0, 0) if b is None or grad_b is None else (b.data_ptr(), grad_b.data_ptr())
    job = _Arguments(
        0, 0, *plan.head, scratch.data_ptr(), plan.backward_workspace,
        0 if x is None else x.data_ptr(), u.data_ptr(), bias, y.data_ptr(), signs.data_ptr(),
        grad_y.data_ptr(), grad_x.data_ptr(), grad_u.data_ptr(), grad_bias, scratch.data_ptr() + sums,
    )  # fmt: skip
    _launch("backward", y.dtype, job, plan.backward_parts)
    _launch("finish", y.dtype, job, plan.finish_parts)
    return grad_x, grad_u, grad_b


def describe() -> str:
    """How these kernels run here, in a few words."""
    return f"Numba, {simd.REGISTER * 8}-bit registers, {'OpenMP shared with PyTorch' if openmp() else 'Python threads'}"
