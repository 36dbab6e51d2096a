"""Batches of points, row by row: norms, draws, and which are misclassified."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

Norm = Literal["l2", "linf"]


def unit_ball(x: Tensor, norm: Norm, seed: int) -> Tensor:
    """For each row a point of the unit ball, uniform; drawn at once, so that batches don't matter."""
    generator = torch.Generator().manual_seed(seed)
    if norm == "linf":
        return 2 * draw_like(torch.rand, x.shape, x, generator) - 1
    share = draw_like(torch.rand, x.shape[:1], x, generator) ** (1 / x[0].numel())
    return with_norms(draw_like(torch.randn, x.shape, x, generator), share)


def draw_like(draw: Callable[..., Tensor], shape: Sequence[int], x: Tensor, generator: torch.Generator) -> Tensor:
    """Drawn on the CPU, so that a seed means the same everywhere; of the dtype and on the device of x."""
    return draw(*shape, generator=generator, dtype=x.dtype, device="cpu").to(x.device)


def is_wrong(logits: Tensor, y: Tensor) -> Tensor:
    """(n,), bool: misclassified, or given logits that are not finite.  logits: (n, classes); y: (n,)."""
    return (logits.argmax(1) != y) | ~logits.isfinite().all(1)


def per_row(values: Tensor, x: Tensor) -> Tensor:
    """One value a row, with dimensions of size 1 to broadcast against x.  values: (n,)."""
    return values.reshape(-1, *[1] * (x.ndim - 1))


def norms_of(x: Tensor, norm: Norm) -> Tensor:
    """The norm of each row.  x: (n, ...) -> (n,)."""
    return x.flatten(1).norm(dim=1, p=2 if norm == "l2" else math.inf)


def with_norms(x: Tensor, norms: Tensor) -> Tensor:
    """Each row with that l2 norm, a little less for rounding; rows of zeros stay, and no square overflows or vanishes."""
    info = torch.finfo(x.dtype)
    unit = x / per_row(x.flatten(1).abs().amax(1).clamp(min=info.tiny), x)
    return unit * per_row(norms * (1 - 8 * info.eps) / unit.flatten(1).norm(dim=1).clamp(min=info.tiny), x)


def batches(rows: Tensor, batch: int) -> Iterator[tuple[int, Tensor]]:
    """Rows, and how many there are so far."""
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        yield start + len(part), part
