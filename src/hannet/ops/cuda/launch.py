"""A stack's forward and backward pass on a GPU: memory, tiles, and the launch of the compiled passes."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache, lru_cache
from typing import NamedTuple

import torch
import triton
from torch import Tensor

from ..shapes import call_shape
from . import tiles, triton_kernels
from .tiles import Tile

OPTIONS = {"enable_fp_fusion": True}  # the default of Triton changes with its version
_WARPS_AT_ONCE = 8  # on a multiprocessor of 65,536 registers, at 255 a thread


class _Plan(NamedTuple):
    """Everything about a call that does not change from one to the next.

    A row is `chunks` times `columns` features, and 2^levels at least as many chunks. per_word: layers whose signs share a word.
    alone: a tile has all rows of a member, and a pass is one launch.
    """

    members: int
    rows: int
    layers: int
    width: int
    columns: int
    chunks: int
    levels: int
    word: torch.dtype
    per_word: int
    forward: Tile
    backward: Tile
    alone: bool


def chunks_of(width: int) -> tuple[int, int]:
    """(columns, chunks) of a row: four to eight chunks, so that less than a quarter is wasted and words of sign bits fill up.

    A warp of 32 threads takes up to 128 columns, four a thread; wider chunks lie over several warps.
    """
    columns = 1 << max(0, (width // 4).bit_length() - 1)
    columns = max(min(columns, 128), 1 << (width - 1).bit_length() - 3 if width > 8 else 1)
    return columns, -(-width // columns)


def _words(depth: int, chunks: int) -> tuple[torch.dtype, int]:
    """The type of a word of sign bits, and of how many layers it holds those of a column: what takes the least memory."""

    def bits(word: torch.dtype) -> int:
        size = word.itemsize * 8
        return -(-depth // (size // chunks)) * size

    word = min((torch.int32, torch.int16, torch.uint8), key=bits)
    return word, min(depth, word.itemsize * 8 // chunks)


@lru_cache(maxsize=256)
def _plan(x: torch.Size, u: torch.Size, dtype: torch.dtype, reflections: int, device: torch.device) -> _Plan:
    members, rows, layers, width = call_shape(x, u)
    columns, chunks = chunks_of(width)
    word, per_word = _words(layers // reflections, chunks)
    levels, kind = (chunks - 1).bit_length(), _arithmetic(dtype)
    if alone := tiles.alone(rows, columns, chunks, levels, kind):
        passes = alone, alone
    else:
        call = rows, members, columns, chunks, kind, capability(device)
        passes = tiles.choose("forward", *call), tiles.choose("backward", *call)
    return _Plan(members, rows, layers, width, columns, chunks, levels, word, per_word, *passes, alone is not None)


def forget_plans() -> None:
    """Call after changing the table of tiles."""
    _plan.cache_clear()


def _arithmetic(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def signs_shape(
    x: Sequence[int], u: Sequence[int], dtype: torch.dtype, reflections: int, apply_abs: bool
) -> tuple[int, int]:
    """(members, bytes) of the sign bits that `forward` keeps, from the shapes of x and u, whose rows may be symbols."""
    members, rows, layers, width = call_shape(x, u)
    depth = int(layers) // reflections
    columns, chunks = chunks_of(int(width))
    word, per_word = _words(depth, chunks)
    return members, -(-depth // per_word) * rows * columns * word.itemsize * apply_abs


@cache
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


@cache
def capability(device: torch.device) -> str:
    """Compute capability, as the table of tiles has it; empty but on a GPU."""
    return "{}.{}".format(*torch.cuda.get_device_capability(device)) if device.type == "cuda" else ""


def _on(device: torch.device) -> AbstractContextManager:
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _warps(elements: int) -> int:
    return min(max(elements // 256, 1), 8)


def _parameters(plan: _Plan, u: Tensor, b: Tensor | None, biases: int, dtype: torch.dtype) -> Tensor:
    """Unit vectors and biases as a pass reads them; only the memory for them where the pass makes them itself."""
    padded = plan.columns * plan.chunks
    size = plan.members * (plan.layers + biases), padded
    parameters = torch.empty(size, dtype=_arithmetic(dtype), device=u.device)
    block = plan.columns << plan.levels
    if not plan.alone:
        triton_kernels.prepare[(len(parameters),)](
            u, u if b is None else b, parameters, plan.layers, biases,
            plan.width, padded, block, num_warps=_warps(block), **OPTIONS,
        )  # fmt: skip
    return parameters


def _together(plan: _Plan, tile: Tile) -> int:
    """Rows of parameters that a program prepares at once: eight elements a thread."""
    return max(1, 8 * 32 * tile.warps // (plan.columns << plan.levels))


def forward(
    x: Tensor, u: Tensor, b: Tensor | None, reflections: int, apply_abs: bool, keep: bool
) -> tuple[Tensor, Tensor]:
    """A stack's output and its sign bits (none unless `keep`); shapes as in ops/dispatch.py, contiguous.

    One floating dtype for all, or float32 u and b beside bfloat16 or float16 x; arithmetic in float32, in float64 for float64.
    """
    plan = _plan(x.shape, u.shape, x.dtype, reflections, x.device)
    tile = plan.forward
    y = torch.empty_like(x)
    size = signs_shape(x.shape, u.shape, x.dtype, reflections, apply_abs) if keep else 0
    signs = torch.empty(size, dtype=torch.uint8, device=x.device)
    if x.numel() == 0:
        return y, signs
    biases = 0 if b is None else plan.layers // reflections
    counts, words = (plan.rows, plan.layers, biases), signs.flatten().view(plan.word)
    form = plan.width, tile.rows, tile.held, plan.columns, plan.chunks, reflections, apply_abs, b is not None, keep
    with _on(x.device):
        parameters = _parameters(plan, u, b, biases, x.dtype)
        if plan.alone:
            triton_kernels.forward_alone[(plan.members,)](
                x, u, u if b is None else b, parameters, y, words, *counts,
                *form, plan.per_word, plan.levels, _together(plan, tile), num_warps=tile.warps, **OPTIONS,
            )  # fmt: skip
        else:
            triton_kernels.forward[(plan.members * -(-plan.rows // tile.rows),)](
                x, parameters, y, words, *counts, *form, plan.per_word, num_warps=tile.warps, **OPTIONS
            )
    return y, signs


def backward(
    grad_y: Tensor, y: Tensor, signs: Tensor, u: Tensor, b: Tensor | None, reflections: int, apply_abs: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of x, u and b from that of the output; rebuilds every layer's input from y and the sign bits."""
    plan = _plan(y.shape, u.shape, y.dtype, reflections, y.device)
    tile = plan.backward
    if y.numel() == 0:
        return torch.empty_like(y), torch.zeros_like(u), None if b is None else torch.zeros_like(b)
    grad_x, grad_u, grad_b = torch.empty_like(y), torch.empty_like(u), None if b is None else torch.empty_like(b)
    biases = 0 if b is None else plan.layers // reflections
    at_once = max(1, _multiprocessors(y.device) * _WARPS_AT_ONCE // tile.warps)
    programs = min(-(-plan.rows // tile.rows), -(-at_once // plan.members))
    counts, words = (plan.layers, biases), signs.flatten().view(plan.word)
    form = plan.width, tile.rows, tile.held, plan.columns, plan.chunks, reflections, apply_abs, b is not None
    ends = u, grad_u, grad_u if grad_b is None else grad_b
    with _on(y.device):
        parameters = _parameters(plan, u, b, biases, y.dtype)
        size = plan.members * programs, plan.layers + biases, plan.columns << plan.levels
        partial = torch.empty(size, dtype=parameters.dtype, device=y.device)
        if plan.alone:
            triton_kernels.backward_alone[(plan.members,)](
                grad_y, y, words, u, u if b is None else b, parameters, grad_x, partial, *ends[1:], plan.rows, *counts,
                *form, plan.per_word, plan.levels, _together(plan, tile), num_warps=tile.warps, **OPTIONS,
            )  # fmt: skip
            return grad_x, grad_u, grad_b
        triton_kernels.backward[(plan.members * programs,)](
            grad_y, y, words, parameters, grad_x, partial, plan.rows, *counts, programs,
            *form, plan.per_word, plan.levels, num_warps=tile.warps, **OPTIONS,
        )  # fmt: skip
        together = max(1, 1024 // size[-1])
        triton_kernels.finish[(len(parameters),)](
            partial, *ends, *counts, programs, plan.width, plan.columns, plan.levels, together,
            num_warps=_warps(together * size[-1]), **OPTIONS,
        )  # fmt: skip
    return grad_x, grad_u, grad_b


def describe() -> str:
    """How these kernels run here, in a few words."""
    return f"Triton {triton.__version__}"
