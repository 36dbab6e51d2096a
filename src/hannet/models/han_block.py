"""The Han-block that takes the place of a feed-forward: MobileViT's in section 5.4 of the paper, and that of any transformer."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.han import HanLayer, HanStack, Householder
from ..layers.validation import require_positive


class HanBlock(nn.Module):
    """H(u2)|H(u1) x + b1| + b2 for the paper's MobileViT, and what that leaves out.  x: (..., features), as returned.

    In full: x + c * (the first `features` of H(u')(|H(u) z + b| `depth` times) + b'), with z = LN(x) and zeros behind it up to
    `hidden`; the skip connection, the scale c, the norm and the zeros only where the arguments say so. Without them and without
    c it is 1-Lipschitz. Form and start of the plain block are those of the authors' published code; only without a LayerNorm do
    the counts of Table 14 come out.

    Args:
        features: of x.
        hidden: width of the Han-layers, at least `features`, which it is by default.
        depth: Han-layers; a reflection without ABS follows them.
        reflections: in each of them.
        scale: what the learned factor of each output starts as; None for no factor.
        norm: whether a LayerNorm comes first.
        skip: whether x is added to the output.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ValueError: for sizes that do not fit, and in `forward` for inputs that do not fit.

    >>> sum(p.numel() for p in HanBlock(64).parameters())
    256
    >>> HanBlock(64, hidden=128, depth=2, scale=0.5, norm=True, skip=True)(torch.randn(3, 64)).shape
    torch.Size([3, 64])
    """

    fold: HanLayer | HanStack
    scale: nn.Parameter | None

    def __init__(
        self,
        features: int,
        hidden: int | None = None,
        depth: int = 1,
        reflections: int = 1,
        *,
        scale: float | None = None,
        norm: bool = False,
        skip: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        hidden = features if hidden is None else hidden
        require_positive(features=features, hidden=hidden, depth=depth, reflections=reflections)
        if hidden < features:
            raise ValueError(f"hidden must be at least features ({features}), got {hidden}")
        if scale is not None and not math.isfinite(scale):
            raise ValueError(f"scale must be finite, got {scale}")
        super().__init__()
        self.features, self.hidden, self.reflections = features, hidden, reflections
        self.initial_scale, self.skip = scale, skip
        options: dict[str, Any] = {"device": device, "dtype": dtype, "reflections": reflections}
        self.norm = nn.LayerNorm(features, device=device, dtype=dtype) if norm else None
        self.fold = HanLayer(hidden, **options) if depth == 1 else HanStack(hidden, depth, **options)
        self.reflect = Householder(hidden, bias=True, **options)
        learned = None if scale is None else nn.Parameter(torch.empty(features, device=device, dtype=dtype))
        self.register_parameter("scale", learned)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """u: kaiming_uniform_ with a = sqrt(5) of a column, so uniform in +-1; b: uniform in +-1/sqrt(hidden): the authors' code.

        Of several reflections all but one or two come in pairs that cancel: a long product of random ones learns slowly.
        """
        for layer in (self.fold, self.reflect):
            layer.reset_parameters()
            with torch.no_grad():
                layer.u.uniform_(-1, 1)
                rows = layer.u.view(-1, self.reflections, self.hidden)
                first = 2 - self.reflections % 2
                rows[:, first + 1 :: 2] = rows[:, first::2]
        if self.norm is not None:
            self.norm.reset_parameters()
        if self.scale is not None:
            nn.init.constant_(self.scale, self.initial_scale or 0.0)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 0 or x.shape[-1] != self.features:
            raise ValueError(f"x must have {self.features} features last, got {tuple(x.shape)}")
        z = x if self.norm is None else self.norm(x)
        z = F.pad(z, (0, self.hidden - self.features)) if self.hidden > self.features else z
        z = self.reflect(self.fold(z))[..., : self.features]
        z = z if self.scale is None else z * self.scale.to(z.dtype)
        return x + z if self.skip else z

    def extra_repr(self) -> str:
        zeros = f", hidden={self.hidden}" * (self.hidden > self.features)
        return f"{self.features}{zeros}{f', scale={self.initial_scale}' * (self.scale is not None)}{', skip=True' * self.skip}"
