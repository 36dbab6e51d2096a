"""Modules: parameters here, arithmetic in functional."""

import math
import operator
from collections.abc import Iterator, Sequence
from typing import Any, overload

import torch
from torch import Tensor, nn

from .. import functional
from ..ops import reference
from .validation import require_positive


class _Reflecting(nn.Module):
    """Parameters u and b and their initialisation; `dim`, the dimension of an input that holds the features."""

    u: nn.Parameter
    b: nn.Parameter | None

    def __init__(
        self, features: int, u_shape: tuple[int, ...], b_shape: tuple[int, ...] | None, dim: int, **factory: Any
    ):
        if isinstance(dim, bool) or not isinstance(dim, int):
            raise TypeError(f"dim must be an integer, got {dim!r}")
        super().__init__()
        self.features, self.dim = features, dim
        self.u = nn.Parameter(torch.empty(u_shape, **factory))
        self.register_parameter("b", None if b_shape is None else nn.Parameter(torch.empty(b_shape, **factory)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """u: random unit vectors; b: uniform in +-1/sqrt(features). Source: the authors' published code."""
        with torch.no_grad():
            self.u.copy_(reference.unit(self.u.normal_()))
            if self.b is not None:
                bound = 1 / math.sqrt(self.features)
                self.b.uniform_(-bound, bound)

    def extra_repr(self) -> str:
        return f"{self.features}{self._options()}"

    def _options(self) -> str:
        reflections = getattr(self, "reflections", 1)
        options = ", bias=False" * (self.b is None) + f", reflections={reflections}" * (reflections > 1)
        return options + f", dim={self.dim}" * (self.dim != -1)


class HanLayer(_Reflecting):
    """|H(u) x + b| (Eq. 6), with 2d parameters.  x: (..., features) -> (..., features).

    Args:
        features: d.
        bias: whether there is a b.
        device: of the parameters.
        dtype: of the parameters.
        reflections: k > 1 makes it |H(u_k) ... H(u_1) x + b| with u of shape (k, features).
        dim: the dimension of x that holds the features.

    Raises:
        ValueError: for sizes below 1, and in `forward` for inputs that do not fit.

    >>> HanLayer(4)(torch.randn(2, 3, 4)).shape
    torch.Size([2, 3, 4])
    """

    def __init__(
        self,
        features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        reflections: int = 1,
        dim: int = -1,
    ):
        require_positive(features=features, reflections=reflections)
        u_shape = (features,) if reflections == 1 else (reflections, features)
        super().__init__(features, u_shape, (features,) if bias else None, dim, device=device, dtype=dtype)
        self.reflections = reflections

    def forward(self, x: Tensor) -> Tensor:
        return functional.han_layer(x, self.u, self.b, dim=self.dim)


class HanStack(_Reflecting):
    """`depth` Han-layers in one kernel; parameters u, b: (depth, features).  x: (..., features) -> (..., features).

    Computes what nn.Sequential of its layers computes. Indexing gives a HanLayer, slicing a HanStack: on the same memory, with
    gradients of their own.

    Args:
        features: d.
        depth: the number of layers.
        bias: whether there is a b.
        device: of the parameters.
        dtype: of the parameters.
        reflections: in each layer; u then has depth * reflections rows.
        dim: the dimension of x that holds the features.

    Raises:
        ValueError: for sizes below 1, and in `forward` for inputs that do not fit.

    >>> stack = HanStack(features=8, depth=100)
    >>> x = torch.randn(5, 8)
    >>> torch.allclose(stack(x), nn.Sequential(*stack)(x), atol=1e-4)
    True
    """

    def __init__(
        self,
        features: int,
        depth: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        reflections: int = 1,
        dim: int = -1,
    ):
        require_positive(features=features, depth=depth, reflections=reflections)
        shape = (depth * reflections, features)
        super().__init__(features, shape, (depth, features) if bias else None, dim, device=device, dtype=dtype)
        self.reflections = reflections

    @classmethod
    def from_layers(cls, layers: Sequence[HanLayer]) -> "HanStack":
        """A stack with copies of the parameters of `layers`, which must agree in all but values."""
        require_positive(layers=len(layers))
        first = layers[0]
        for index, layer in enumerate(layers):
            kinds = [(one.u.shape, one.u.dtype, one.u.device, one.b is None, one.dim) for one in (layer, first)]
            if kinds[0] != kinds[1]:
                raise ValueError(f"layer {index} differs from layer 0: {layer} and {first}")
        reflections = first.u.shape[0] if first.u.dim() == 2 else 1
        factory = first.u.device, first.u.dtype
        biased = first.b is not None
        stack = cls(first.features, len(layers), biased, *factory, reflections=reflections, dim=first.dim)
        with torch.no_grad():
            stack.u.copy_(torch.cat([layer.u.reshape(reflections, -1) for layer in layers]))
            if stack.b is not None:
                stack.b.copy_(torch.stack([layer.b for layer in layers if layer.b is not None]))
        return stack

    def __len__(self) -> int:
        return self.u.shape[0] // self.reflections

    @overload
    def __getitem__(self, index: int) -> HanLayer: ...
    @overload
    def __getitem__(self, index: slice) -> "HanStack": ...

    def __getitem__(self, index: int | slice) -> "HanLayer | HanStack":
        part: HanLayer | HanStack
        if isinstance(index, slice):
            depth = len(range(len(self))[index])
            part = HanStack(self.features, depth, reflections=self.reflections, dim=self.dim, device="meta")
        else:
            index = operator.index(index)
            part = HanLayer(self.features, reflections=self.reflections, dim=self.dim, device="meta")
        u = self.u.detach().unflatten(0, (-1, self.reflections))[index].reshape(part.u.shape)
        part.u = nn.Parameter(u, self.u.requires_grad)
        part.b = None if self.b is None else nn.Parameter(self.b.detach()[index], self.b.requires_grad)
        return part

    def __iter__(self) -> Iterator[HanLayer]:
        return (self[index] for index in range(len(self)))

    def forward(self, x: Tensor) -> Tensor:
        return functional.han_stack(x, self.u, self.b, reflections=self.reflections, dim=self.dim)

    def extra_repr(self) -> str:
        return f"{self.features}, depth={len(self)}{self._options()}"


class Householder(_Reflecting):
    """H(u) x + b, the reflection without the absolute value (Eq. 5).  x: (..., features) -> (..., features).

    Args:
        features: d.
        bias: whether there is a b.
        device: of the parameters.
        dtype: of the parameters.
        reflections: k > 1 makes it H(u_k) ... H(u_1) x + b with u of shape (k, features).
        dim: the dimension of x that holds the features.

    Raises:
        ValueError: for sizes below 1, and in `forward` for inputs that do not fit.

    >>> reflect = Householder(8)
    >>> x = torch.randn(8)
    >>> torch.allclose(reflect(reflect(x)), x, atol=1e-6)
    True
    """

    def __init__(
        self,
        features: int,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        reflections: int = 1,
        dim: int = -1,
    ):
        require_positive(features=features, reflections=reflections)
        u_shape = (features,) if reflections == 1 else (reflections, features)
        super().__init__(features, u_shape, (features,) if bias else None, dim, device=device, dtype=dtype)
        self.reflections = reflections

    def forward(self, x: Tensor) -> Tensor:
        return functional.householder(x, self.u, self.b, dim=self.dim)
