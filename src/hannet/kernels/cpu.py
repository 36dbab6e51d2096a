"""A stack's forward and backward pass on the CPU: memory, threads, and the call of the compiled passes."""

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import simd
from .passes import FIELDS, compiled
from .simd import ROWS

_forked = False


def _after_fork() -> None:
    """An OpenMP runtime does not survive a fork: the child computes on its one thread."""
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@cache
def openmp() -> Any:
    """GOMP_parallel of the OpenMP runtime that PyTorch itself runs on, so that one team of threads serves both; None without."""
    try:
        parallel = ctypes.CDLL(torch._C.__file__).GOMP_parallel
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
    job[0] = 0
    if parts == 1:
        call(where)
    elif parallel := openmp():
        parallel(address, where, parts, 0)
    else:
        for done in [_pool(parts).submit(call, where) for _ in range(parts)]:
            done.result()


_Arguments = ctypes.c_int64 * len(FIELDS)
_SMALLEST_PART = 65_536  # padded activations: below this a second thread costs more than it brings


class _Plan(NamedTuple):
    """Everything about a call that does not change from one to the next."""

    head: tuple[int, ...]
    parts: int
    forward_workspace: int
    backward_workspace: int
    partial: int


def _shape(x: Tensor, u: Tensor) -> tuple[int, int, int, int]:
    """(members, rows, layers, width), whatever dimensions the call leaves out."""
    width = u.shape[-1]
    members = u.shape[0] if u.dim() == 3 else 1
    return members, x.numel() // (members * width), 1 if u.dim() == 1 else u.shape[-2], width


def signs_shape(x: Tensor, u: Tensor) -> tuple[int, int]:
    """(members, bytes) of the sign bits that `forward` keeps."""
    members, rows, layers, width = _shape(x, u)
    step = simd.REGISTER // x.dtype.itemsize
    return members, -(-rows // ROWS) * layers * (-(-width // step) * step * ROWS // 8)


@lru_cache(maxsize=256)
def _plan(
    shape: tuple[int, int, int, int], reflections: int, fold: bool, signs: int, dtype: torch.dtype, threads: int
) -> _Plan:
    members, rows, depth, width = shape
    size, step = dtype.itemsize, simd.REGISTER // dtype.itemsize
    padded, tiles = -(-width // step) * step, -(-rows // ROWS)
    work = members * tiles * ROWS * padded * depth
    parts = max(1, min(threads, members * tiles, work // _SMALLEST_PART))
    parameters, tile, spare = (2 * depth + 1) * padded * size, padded * ROWS * size, -(-padded * ROWS // 8 // 64) * 64
    return _Plan(
        (0, parts, members, rows, depth, width, reflections, fold, signs // max(1, tiles)),
        parts,
        parameters + tile + spare,
        parameters + 2 * tile,
        (members + parts) * 2 * depth * padded * size,
    )


def _plan_for(x: Tensor, u: Tensor, reflections: int, fold: bool) -> _Plan:
    threads = 1 if _forked else torch.get_num_threads()
    return _plan(_shape(x, u), reflections, fold, signs_shape(x, u)[1], x.dtype, threads)


def forward(x: Tensor, u: Tensor, b: Tensor | None, reflections: int, fold: bool, keep: bool) -> tuple[Tensor, Tensor]:
    """A stack's output and its sign bits (none unless `keep`); shapes as in ops.py, contiguous, one dtype."""
    plan = _plan_for(x, u, reflections, fold)
    y = torch.empty_like(x)
    # Layers without ABS write no signs; zeros there make the operator's second output the same at every call.
    new = torch.empty if fold and reflections == 1 else torch.zeros
    signs = new(signs_shape(x, u) if keep else 0, dtype=torch.uint8)
    scratch = torch.empty(plan.parts * plan.forward_workspace, dtype=torch.uint8)
    job = _Arguments(
        *plan.head, scratch.data_ptr(), plan.forward_workspace,
        x.data_ptr(), u.data_ptr(), 0 if b is None else b.data_ptr(), y.data_ptr(), signs.data_ptr() if keep else 0,
    )  # fmt: skip
    _launch("forward", x.dtype, job, plan.parts)
    return y, signs


def backward(
    grad_y: Tensor, y: Tensor, signs: Tensor, u: Tensor, b: Tensor | None, reflections: int, fold: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of x, u and b from that of the output; rebuilds every layer's input from y and the sign bits."""
    plan = _plan_for(y, u, reflections, fold)
    grad_x, grad_u, grad_b = torch.empty_like(y), torch.empty_like(u), None if b is None else torch.empty_like(b)
    sums = plan.parts * plan.backward_workspace
    scratch = torch.empty(sums + plan.partial, dtype=torch.uint8)
    bias, grad_bias = (0, 0) if b is None or grad_b is None else (b.data_ptr(), grad_b.data_ptr())
    job = _Arguments(
        *plan.head, scratch.data_ptr(), plan.backward_workspace, 0, u.data_ptr(), bias, y.data_ptr(), signs.data_ptr(),
        grad_y.data_ptr(), grad_x.data_ptr(), grad_u.data_ptr(), grad_bias, scratch.data_ptr() + sums,
    )  # fmt: skip
    _launch("backward", y.dtype, job, plan.parts)
    _launch("finish", y.dtype, job, plan.parts)
    return grad_x, grad_u, grad_b


def describe() -> str:
    """How these kernels run here, in a few words."""
    team = "the OpenMP threads of PyTorch" if openmp() else "Python threads"
    return f"Numba, {simd.REGISTER * 8}-bit registers, {torch.get_num_threads()} of {team}"
