"""Which tile of rows a pass over a stack takes: a rule, and a table of what was measured to be faster on a GPU.

The table is `tiles.json` beside this file: {"9.0": {"forward 64x8 float32": [rows, held, warps]}} for compute capability 9.0
and rows of 8 chunks of 64 columns, in float32 arithmetic. `benchmarks/first_gpu.py` finds and writes it.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

Table = Mapping[str, Mapping[str, list[int]]]

# Activations of four bytes that a thread holds. In the backward pass their gradients take as many registers again, the parameters up
# to half of that: 64 fill 255. With half as many each row would pay double for loading parameters and adding gradients up.
HELD = 64
_FEW = 64  # tiles: below this, smaller ones spread over more of the GPU
_ALONE = 256  # columns up to which a program prepares a layer's parameters in less time than it takes to go over it


class Tile(NamedTuple):
    """`rows` rows, `held` of them in every thread."""

    rows: int
    held: int
    warps: int


@cache
def measured() -> Table:
    """The table of the package."""
    return json.loads(Path(__file__).with_name("tiles.json").read_text(encoding="utf-8"))


def key(direction: str, columns: int, chunks: int, kind: torch.dtype) -> str:
    """What the table calls a pass over rows of that form.  direction: forward or backward; kind: of the arithmetic."""
    return f"{direction} {columns}x{chunks} {str(kind).removeprefix('torch.')}"


def small(columns: int) -> Tile:
    """A warp, or as many as lie across a chunk, and a row in each thread: for few rows."""
    across, beside = _layout(columns)
    return Tile(beside, 1, across)


def large(columns: int, chunks: int, most: int = HELD, warps: int | None = None) -> Tile:
    """For many rows: at most that many activations a thread, whose rows share the parameters that it loads."""
    across, beside = _layout(columns)
    warps = warps or max(4, min(8, columns // 16))
    held = 1 << max(0, (most // (4 * chunks)).bit_length() - 1)
    return Tile(warps // across * beside * held, held, warps)


def alone(rows: int, columns: int, chunks: int, levels: int, kind: torch.dtype) -> Tile | None:
    """A tile for all rows of a member, if these are few and narrow: then a pass is one launch. It has four warps, or else eight."""
    most = large(columns, chunks, HELD // 2 if kind == torch.float64 else HELD).held
    beside = _layout(columns)[1]
    if columns << levels > _ALONE or rows > 8 * beside * most:
        return None
    warps = 4 if rows <= 4 * beside else 8
    held = 1 << (-(-rows // (warps * beside)) - 1).bit_length()
    return Tile(warps * beside * held, held, warps)


def _layout(columns: int) -> tuple[int, int]:
    """Warps across a chunk, and rows beside each other in a warp; a thread has up to four columns."""
    return max(1, columns // 128), min(32, max(1, 128 // columns))


def choose(
    direction: str, rows: int, members: int, columns: int, chunks: int, kind: torch.dtype, capability: str
) -> Tile:
    """The tile of a pass: what was measured, else by rule; a small one where there are few rows."""
    found = measured().get(capability, {}).get(key(direction, columns, chunks, kind))
    most = HELD // 2 if kind == torch.float64 else HELD
    tile = Tile(*found) if found else large(columns, chunks, most)
    return small(columns) if members * -(-rows // tile.rows) < _FEW else tile
