"""Activations that keep the norm of gradients."""

import torch
from torch import Tensor, nn

from ..ops import reference
from .validation import require_positive


class Abs(nn.Module):
    """|x| with derivative +1 at 0, as inside a Han-layer.

    >>> Abs()(torch.tensor([-2.0, 0.0, 3.0]))
    tensor([2., 0., 3.])
    """

    def forward(self, x: Tensor) -> Tensor:
        return reference.absolute(x)


class GroupSort(nn.Module):
    """Sorts the features in groups of `group` (Anil et al. 2019).  x: (..., d), d a multiple of `group` -> (..., d).

    Args:
        group: neighbouring features that are sorted together.

    Raises:
        ValueError: for a group below 1, and in `forward` for another number of features.

    >>> GroupSort(3)(torch.tensor([3.0, 1.0, 2.0, 0.0, 5.0, 4.0]))
    tensor([1., 2., 3., 0., 4., 5.])
    """

    def __init__(self, group: int):
        require_positive(group=group)
        super().__init__()
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 0 or x.shape[-1] % self.group:
            raise ValueError(f"features must come in groups of {self.group}, got {tuple(x.shape)}")
        return x.unflatten(-1, (-1, self.group)).sort(-1).values.flatten(-2)

    def extra_repr(self) -> str:
        return str(self.group)


class MaxMin(nn.Module):
    """(max, min) of each pair of neighbouring features (Anil et al. 2019).  x: (..., d), d even -> (..., d).

    Raises:
        ValueError: in `forward` for an odd number of features.

    >>> MaxMin()(torch.tensor([1.0, 2.0, 4.0, 3.0]))
    tensor([2., 1., 4., 3.])
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 0 or x.shape[-1] % 2:
            raise ValueError(f"features must come in pairs, got {tuple(x.shape)}")
        a, b = x[..., ::2], x[..., 1::2]
        return torch.stack((torch.maximum(a, b), torch.minimum(a, b)), -1).flatten(-2)
