"""A linear layer whose matrix is a product of reflections and a diagonal, and is never made."""

import math
from typing import Self

import torch
from torch import Tensor, nn

from .. import functional
from ..ops import reference
from . import spectral
from .validation import require_positive


class HanLinear(nn.Module):
    """H(v_k) ... H(v_1) diag(s) H(u_k) ... H(u_1) x + b.  x: (..., in_features) -> (..., out_features).

    diag(s) cuts the features that are too many, or pads with zeros. The parameters, about k (in_features + out_features), are a
    singular value decomposition whose orthogonal factors have k reflections each: with k = min(in_features, out_features) every
    matrix is one. Work and memory are O(k) a feature.

    Args:
        in_features: n, features of x.
        out_features: m, features of the output.
        bias: whether there is a b.
        device: of the parameters.
        dtype: of the parameters.
        reflections: k, of the input and of the output each.

    Raises:
        ValueError: for sizes below 1, and in `forward` for inputs that do not fit.

    >>> layer = HanLinear(768, 768, reflections=8)
    >>> layer(torch.randn(2, 3, 768)).shape, sum(p.numel() for p in layer.parameters())
    (torch.Size([2, 3, 768]), 13824)
    """

    b: nn.Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        reflections: int = 1,
    ):
        require_positive(in_features=in_features, out_features=out_features, reflections=reflections)
        super().__init__()
        self.in_features, self.out_features, self.reflections = in_features, out_features, reflections

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        self.u, self.v = parameter(reflections, in_features), parameter(reflections, out_features)
        self.s = parameter(min(in_features, out_features))
        self.register_parameter("b", parameter(out_features) if bias else None)
        self.relative_error: float | None = None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """u and v: random unit vectors; s: 1, so that the norm of x is kept; b: uniform in +-1/sqrt(in_features), as in nn.Linear."""
        with torch.no_grad():
            for vectors in (self.u, self.v):
                vectors.copy_(reference.unit(vectors.normal_()))
            self.s.fill_(1)
            if self.b is not None:
                bound = 1 / math.sqrt(self.in_features)
                self.b.uniform_(-bound, bound)

    @classmethod
    def from_linear(cls, linear: nn.Linear, reflections: int, *, steps: int = 200) -> Self:
        """A layer near `linear`, with its bias, on its device and in its dtype.

        Its start has the largest `reflections` singular values and vectors of the weight and the best diagonal for the rest, which is
        at least as close as the best factorisation of that rank; from there L-BFGS makes the squared distance smaller.
        `relative_error`, an attribute of the result, is ||W - W_fitted|| / ||W||, Frobenius.

        Args:
            linear: with a finite weight of floating-point numbers.
            reflections: k; with min(in_features, out_features) the weight is met up to rounding.
            steps: of L-BFGS at most, 0 for the start alone.

        Raises:
            ValueError: for a weight that is not finite, not floating-point or on the meta device, and for reflections below 1.

        >>> linear = nn.Linear(6, 4)
        >>> layer, x = HanLinear.from_linear(linear, 4), torch.randn(5, 6)
        >>> torch.allclose(layer(x), linear(x), atol=1e-5)
        True
        """
        require_positive(reflections=reflections)
        weight = linear.weight.detach()
        if weight.is_meta or not weight.is_floating_point() or not weight.isfinite().all():
            raise ValueError(f"the weight must be finite floating-point numbers, got {weight.dtype} on {weight.device}")
        out_features, in_features = weight.shape
        biased = linear.bias is not None
        layer = cls(in_features, out_features, biased, weight.device, weight.dtype, reflections=reflections)
        u, s, v = spectral.fit(weight, reflections, steps)
        with torch.no_grad():
            for parameter, values in ((layer.u, u), (layer.s, s), (layer.v, v), (layer.b, linear.bias)):
                if parameter is not None:
                    parameter.copy_(values)
            layer.train(linear.training)
            wanted = weight.double().cpu()
            size = wanted.norm().item()
            layer.relative_error = (layer.matrix().cpu() - wanted).norm().item() / size if size else 0.0
        return layer

    def to_linear(self) -> nn.Linear:
        """The nn.Linear that computes the same, on the same device and in the same dtype; the weight is computed in float64.

        >>> layer, x = HanLinear(6, 4, reflections=2), torch.randn(5, 6)
        >>> torch.allclose(layer.to_linear()(x), layer(x), atol=1e-6)
        True
        """
        factory = {"device": self.u.device, "dtype": self.u.dtype}
        linear = nn.utils.skip_init(nn.Linear, self.in_features, self.out_features, self.b is not None, **factory)
        with torch.no_grad():
            linear.weight.copy_(self.matrix())
            if self.b is not None:
                linear.bias.copy_(self.b)
        return linear.train(self.training)

    @torch.no_grad()
    def matrix(self) -> Tensor:
        """The matrix that this layer multiplies by, (out_features, in_features), in float64 on the CPU."""
        u, s, v = (t.detach().cpu().double() for t in (self.u, self.s, self.v))
        return functional.han_linear(torch.eye(self.in_features, dtype=torch.float64), u, s, v).mT

    def forward(self, x: Tensor) -> Tensor:
        return functional.han_linear(x, self.u, self.s, self.v, self.b)

    def extra_repr(self) -> str:
        sizes = f"in_features={self.in_features}, out_features={self.out_features}, bias={self.b is not None}"
        return f"{sizes}, reflections={self.reflections}"
