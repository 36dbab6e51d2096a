"""HanNet, and the fully connected net that the paper compares it with."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

from torch import Tensor, nn

from ..layers.activations import Abs, GroupSort, MaxMin
from ..layers.affine import UnitLinear
from ..layers.han import HanStack
from ..layers.validation import require_positive
from .hub import PretrainedMixin

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "abs": Abs,
    "maxmin": MaxMin,
    "groupsort5": partial(GroupSort, 5),
    "groupsort20": partial(GroupSort, 20),
}


def _orthogonal(in_features: int, out_features: int, kind: type[nn.Linear] = nn.Linear) -> nn.Linear:
    linear = kind(in_features, out_features)
    nn.init.orthogonal_(linear.weight)
    return linear


def _require_features(x: Tensor, features: int) -> None:
    if x.dim() == 0 or x.shape[-1] != features:
        raise ValueError(f"x must be (..., {features}), in_features last, got {tuple(x.shape)}")


class HanNet(nn.Module, PretrainedMixin):
    """Linear + ABS, depth - 1 Han-layers, Linear.  x: (..., in_features) -> (..., out_features).

    Linear weights start orthogonal, everything else as in nn.Linear and HanStack (the authors' published code).

    Args:
        in_features: features of x.
        out_features: features of the output.
        width: units of each hidden layer.
        depth: hidden layers, at least 2; 4 with dense_ends, 1 with lipschitz.
        dense_ends: makes the second and the last hidden layer Linear + ABS too, as the authors' checkerboard script does.
        lipschitz: makes it a network to certify (hannet.certify): the input is padded with zeros to `width`, all hidden layers
            are Han-layers, and the rows of the last layer have norm 1, so that every output is 1-Lipschitz.
        reflections: in each Han-layer.

    Raises:
        ValueError: for sizes that do not fit together, and in `forward` for an x of other than in_features.

    >>> sum(p.numel() for p in HanNet(13, 1, width=200, depth=20).parameters())
    10601
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        width: int = 100,
        depth: int = 20,
        dense_ends: bool = False,
        lipschitz: bool = False,
        reflections: int = 1,
    ):
        require_positive(
            in_features=in_features, out_features=out_features, width=width, depth=depth, reflections=reflections
        )
        dense = 0 if lipschitz else 3 if dense_ends else 1
        if lipschitz and (dense_ends or width < in_features):
            fault = "no dense_ends" if dense_ends else f"a width of at least in_features ({in_features}), got {width}"
            raise ValueError(f"a lipschitz HanNet must have {fault}")
        if depth <= dense:
            raise ValueError(f"depth must be at least {dense + 1}{' with dense ends' * dense_ends}, got {depth}")
        super().__init__()
        self.in_features = in_features
        first = [nn.ZeroPad1d((0, width - in_features))] if lipschitz else [_orthogonal(in_features, width), Abs()]
        hidden: list[nn.Module] = [*first, HanStack(width, depth - dense, reflections=reflections)]
        if dense_ends:
            hidden[2:2] = [_orthogonal(width, width), Abs()]
            hidden += [_orthogonal(width, width), Abs()]
        self.layers = nn.Sequential(*hidden, _orthogonal(width, out_features, UnitLinear if lipschitz else nn.Linear))

    def forward(self, x: Tensor) -> Tensor:
        _require_features(x, self.in_features)
        return self.layers(x)


class FCNet(nn.Module, PretrainedMixin):
    """`depth` hidden layers Linear + activation, then Linear.  x: (..., in_features) -> (..., out_features).

    Weights start from Kaiming's normal distribution (the authors' published code).

    Args:
        in_features: features of x.
        out_features: features of the output.
        width: units of each hidden layer.
        depth: hidden layers.
        activation: "relu", "abs", "maxmin" (for an even width), "groupsort5" or "groupsort20" (in groups of so many).

    Raises:
        ValueError: for sizes below 1 and other activations, and in `forward` for an x of other than in_features.

    >>> import torch
    >>> FCNet(2, 2, width=100, depth=6)(torch.randn(7, 2)).shape
    torch.Size([7, 2])
    """

    def __init__(self, in_features: int, out_features: int, width: int = 100, depth: int = 6, activation: str = "relu"):
        require_positive(in_features=in_features, out_features=out_features, width=width, depth=depth)
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
        super().__init__()
        self.in_features = in_features
        sizes = [in_features, *[width] * depth]
        hidden: list[nn.Module] = []
        for before, after in pairwise(sizes):
            hidden += [nn.Linear(before, after), ACTIVATIONS[activation]()]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, out_features))
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        _require_features(x, self.in_features)
        return self.layers(x)
