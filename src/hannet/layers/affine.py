"""Affine maps: a linear layer with unit rows, and scaling by constants."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops import reference


class UnitLinear(nn.Linear):
    """V x + b, the rows of V those of `weight` divided by their norms.  x: (..., in_features) -> (..., out_features).

    Every output is 1-Lipschitz on its own; a row of zeros stays one. For the last layer of a network to certify. Arguments are
    those of nn.Linear.

    >>> layer = UnitLinear(3, 2)
    >>> bool((layer(torch.zeros(3)) == layer.bias).all())
    True
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 nn.Linear calls it so
        return F.linear(input, reference.unit(self.weight), self.bias)


class Standardise(nn.Module):
    """(x - mean) / std by constants, for each channel or for all alike.  x: (n, channels, ...), or any shape for scalars.

    Args:
        mean: a number, or one a channel.
        std: a number above 0, or one a channel.

    Raises:
        ValueError: for values that are not finite, a std that is not above 0, and in `forward` for another number of channels.

    >>> Standardise([1.0, 2.0], [0.5, 0.5])(torch.tensor([[2.0, 2.0]]))
    tensor([[2., 0.]])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]):
        super().__init__()
        for name, given in (("mean", mean), ("std", std)):
            value = torch.tensor(given, dtype=torch.get_default_dtype())
            if (
                value.dim() > 1
                or not value.numel()
                or not value.isfinite().all()
                or (name == "std" and value.min() <= 0)
            ):
                raise ValueError(
                    f"{name} must be finite{', above 0' * (name == 'std')}, a number or one a channel, got {given}"
                )
            self.register_buffer(name, value)

    def forward(self, x: Tensor) -> Tensor:
        def broadcast(value: Tensor) -> Tensor:
            if value.dim() == 0:
                return value
            if x.dim() < 2 or x.shape[1] != len(value):  # broadcasting would make copies of a single channel
                raise ValueError(f"x must be (n, {len(value)}, ...), got {tuple(x.shape)}")
            return value.view(-1, *[1] * (x.dim() - 2))

        return (x - broadcast(self.mean)) / broadcast(self.std)
