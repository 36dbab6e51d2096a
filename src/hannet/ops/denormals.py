"""Arithmetic without subnormal numbers, products with which take some 45 times as long (docs/log.md)."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def zero_subnormals(tensors: Iterable[Tensor]) -> None:
    """Makes them 0, in place, whatever the thread or device."""
    for tensor in tensors:
        tensor.copy_(F.hardshrink(tensor, torch.finfo(tensor.dtype).smallest_normal))


@contextmanager
def flush_denormals() -> Iterator[None]:
    """Inside, this thread takes numbers below the smallest normal one for 0; then all is as it was."""
    before = float(torch.full((), 1e-40, dtype=torch.float32, device="cpu") * 1) == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
