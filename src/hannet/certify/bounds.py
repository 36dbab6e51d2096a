"""How much each kind of module can stretch a change of its input, and how far rounding can move its output.

A module stands for a map f of real numbers, and the machine computes something close to it. Six numbers say all that is
needed: f is `lipschitz`-Lipschitz in l2; ||f(0)|| <= at_zero; ||computed(x) - f(x)|| <= relative ||x|| + absolute; and
no intermediate result exceeds peak ||x|| + peak_at_zero. They compose along a chain of modules, so that a radius holds for the
model as it is computed, whatever the order in which a kernel adds (Higham 2002, chapter 3). The bounds themselves are
computed in float64 and rounded up.
"""

import math
import sys
from collections.abc import Iterator, Mapping
from functools import reduce
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized, type_before_parametrizations

from ..layers.activations import Abs, GroupSort, MaxMin
from ..layers.affine import Standardise, UnitLinear
from ..layers.han import HanLayer, HanStack, Householder
from ..models.hannet import FCNet, HanNet
from ..ops import reference
from ..ops.torch_internals import has_hooks

SAFE = 1 + 1e-9  # more than the roundings of a million float64 operations on positive numbers can take away
TINY = sys.float_info.min  # more than underflow can
_SQUARINGS = 30  # of a Gram matrix: the bound is then above the norm by a factor of less than rank ** 2**-31
_EXACT = (
    Abs,
    nn.ReLU,
    MaxMin,
    GroupSort,
    nn.Identity,
    nn.Flatten,
    nn.ZeroPad1d,
    nn.Dropout,
)  # 1-Lipschitz, no rounding
_REFLECTING = (HanLayer, HanStack, Householder)
_LINEAR = (nn.Linear, UnitLinear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)


class CertificateError(ValueError):
    """A model or an input that nothing can be certified for; the message is one sentence that names it."""


class Bound(NamedTuple):
    """What is known of one module, or of a chain of them: the six numbers above, here of the identity."""

    lipschitz: float = 1.0
    at_zero: float = 0.0
    relative: float = 0.0
    absolute: float = 0.0
    peak: float = 1.0
    peak_at_zero: float = 0.0


class Arithmetic(NamedTuple):
    """The arithmetic a module runs in: unit roundoff, smallest normal and largest number, and the shape of its input's rows."""

    roundoff: float
    tiny: float
    largest: float
    shape: tuple[int, ...] | None

    def gamma(self, n: int) -> float:
        """Relative error of a sum of n products, in any order."""
        return n * self.roundoff / (1 - n * self.roundoff) if n * self.roundoff < 0.01 else math.inf


def compose(f: Bound, g: Bound) -> Bound:
    """What is known of g after f."""
    slope, offset = f.lipschitz + f.relative, f.at_zero + f.absolute  # of ||computed f(x)||
    composed = Bound(
        g.lipschitz * f.lipschitz,
        g.lipschitz * f.at_zero + g.at_zero,
        g.relative * slope + g.lipschitz * f.relative,
        g.relative * offset + g.absolute + g.lipschitz * f.absolute,
        max(g.peak * slope, f.peak),
        max(g.peak * offset + g.peak_at_zero, f.peak_at_zero),
    )  # max keeps a first number that is none: 0 * inf, where nothing is known
    return Bound(*(math.inf if math.isnan(value) else SAFE * value + TINY for value in composed))


def spectral_bound(weight: Tensor) -> float:
    """An upper bound of the largest singular value of a matrix, rounding included.

    ||G||_F^(1 / 2^k) >= ||weight|| for G = (W^T W)^(2^(k-1)), which falls to the norm as k grows (Gram iteration, Delattre et al.
    2023); each product adds what rounding may have taken from it.

    Args:
        weight: (m, n), of any floating dtype.

    Returns:
        The bound; infinite where float64 cannot hold it.

    Raises:
        CertificateError: unless weight is a finite real matrix.

    >>> round(spectral_bound(torch.diag(torch.tensor([3.0, 4.0]))), 6)
    4.0
    """
    if weight.dim() != 2 or weight.is_complex() or not weight.isfinite().all():
        raise CertificateError(f"weight must be a finite matrix of real numbers, got {tuple(weight.shape)}")
    matrix = weight.detach().double().cpu()
    matrix = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.mT
    if not matrix.any():
        return 0.0
    lost, exponents = [], []
    for _ in range(_SQUARINGS):
        exponent = math.frexp(matrix.abs().max().item())[1]
        matrix = torch.from_numpy(np.ldexp(matrix.numpy(), -exponent))  # no square overflows
        square = matrix.square().sum().item()
        inner = matrix.shape[0]
        lost.append(
            SAFE * arithmetic_of(torch.float64).gamma(inner + 2) * square + inner**2 * torch.finfo(torch.float64).tiny
        )
        exponents.append(exponent)
        matrix = matrix.mT @ matrix
    bound = SAFE * matrix.norm().item()
    for more, exponent in zip(reversed(lost), reversed(exponents), strict=True):
        bound = _scaled(math.sqrt(bound + more) * (1 + 2**-50), exponent)
    return SAFE * bound + TINY


def _scaled(value: float, exponent: int) -> float:
    """value 2^exponent; infinite where it is too large for a float64, which math.ldexp takes for an error."""
    return math.ldexp(value, exponent) if math.frexp(value)[1] + exponent <= sys.float_info.max_exp else math.inf


def computing_modules(model: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The modules that compute, first to last, by name."""
    called = f"{name or 'the model'} ({_describe(model)})"
    if has_hooks(model, backward=False):
        raise CertificateError(f"{called} has hooks or a replaced forward, whose Lipschitz bound is not known")
    if type(model) in (HanNet, FCNet):
        children: Mapping[str, Any] = {"layers": model.layers}
    elif type(model) is nn.Sequential and len(model):
        children = model._modules
    else:
        _require_known(called, model)
        yield called, model
        return
    for key, child in children.items():
        if child is not None:
            yield from computing_modules(child, f"{name}.{key}".lstrip("."))


def arithmetic_of(dtype: torch.dtype, shape: tuple[int, ...] | None = None) -> Arithmetic:
    """That of a dtype, on rows of a shape."""
    info = torch.finfo(dtype)
    return Arithmetic(info.eps / 2, info.tiny, info.max, shape)


def _describe(module: nn.Module) -> str:
    kind: Any = type_before_parametrizations(module)
    if not is_parametrized(module) or kind.forward is not type(module).forward:
        return type(module).__name__
    return f"{kind.__name__} with parametrized {', '.join(cast('nn.ModuleDict', module.parametrizations))}"


def _trains(module: nn.Module) -> bool:
    """Whether a part is in training mode that can act on it: a new list of parametrizations is, and cannot."""
    parts = (part for part in module.modules() if type(part) not in (ParametrizationList, nn.ModuleDict))
    return any(part.training for part in parts)


def _require_known(name: str, module: Any) -> None:
    parametrized, kind = is_parametrized(module), cast("Any", type_before_parametrizations(module))
    known = kind in (*_REFLECTING, *_LINEAR, *_NORMS, *_POOLS, *_EXACT, Standardise)
    known = known and kind.forward is type(module).forward
    if not known or getattr(module, "start_dim", 1) != 1 or getattr(module, "running_var", module) is None:
        raise CertificateError(f"{name} has no known Lipschitz bound")
    if _trains(module) and (parametrized or isinstance(module, (nn.Dropout, *_NORMS))):
        raise CertificateError(f"{name} acts differently in training: call model.eval() first")
    made = [getattr(module, key) for key in module.parametrizations] if parametrized else []
    for tensor in (*module.state_dict().values(), *made):
        if tensor.is_complex() or not tensor.isfinite().all():
            raise CertificateError(f"{name} holds numbers that are not {'real' if tensor.is_complex() else 'finite'}")
    if kind in _NORMS and not ((module.running_var >= 0) & (module.running_var + module.eps > 1e-30)).all():
        raise CertificateError(f"{name} has a variance that is negative or vanishes")
    if kind in _POOLS and (module.ceil_mode or not module.count_include_pad or getattr(module, "divisor_override", 0)):
        raise CertificateError(
            f"{name} divides by numbers that vary with the position (ceil_mode, count_include_pad, divisor_override)"
        )


def module_bound(module: Any, floats: Arithmetic) -> Bound:
    """What is known of one module, as it is in eval mode."""
    kind = type_before_parametrizations(module)
    if kind in _REFLECTING:
        return _reflecting(module, floats)
    if kind in _LINEAR:
        return _linear(module, floats)
    if kind in _NORMS:
        scale = (module.running_var.double() + module.eps).rsqrt() * _or_default(module.weight, 1.0)
        return _scaling(scale, module.running_mean.double(), _or_default(module.bias, 0.0), floats)
    if kind is Standardise:
        return _scaling(1 / module.std.double(), module.mean.double(), 0.0, floats)
    return _pool(module, floats) if kind in _POOLS else Bound()


def _or_default(tensor: Any, value: float) -> Any:
    return value if tensor is None else tensor.detach().double()


def upper_norms(rows: Tensor) -> Tensor:
    """Upper bounds of norms along the last dimension, in float64; no square overflows or vanishes."""
    rows = rows.detach().double()
    largest = rows.abs().amax(-1, keepdim=True)
    scaled = rows / largest.where(largest > 0, 1.0)
    return SAFE * largest[..., 0] * scaled.norm(dim=-1) + TINY


def _upper_norm(tensor: Tensor | None) -> float:
    return 0.0 if tensor is None else upper_norms(tensor.flatten()).item()


def _repeats(floats: Arithmetic, values: int) -> float:
    """The square root of how often a row holds as many values, by which norms of what is added everywhere grow."""
    return math.sqrt(max(1, math.prod(floats.shape) // values)) if floats.shape else 1.0


def _reflecting(module: Any, floats: Arithmetic) -> Bound:
    """One reflection after the other, each |x - 2 (v.x) v + b|: v is off by `unit`, v.x by gamma, and six roundings remain."""
    width = module.u.shape[-1]
    layers = module.u.numel() // width
    biases = [0.0] * layers if module.b is None else [_upper_norm(b) for b in module.b.reshape(-1, width)]
    positions = _repeats(floats, width)
    relative = 1.1 * (2 * floats.gamma(width) + 4 * _unit_error(width, floats) + 10 * floats.roundoff)
    underflow = 4 * width * positions * floats.tiny
    turn = Bound(relative=relative, absolute=underflow, peak=4.0)
    result = Bound()
    for bias in biases:
        added = positions * bias
        shifted = turn._replace(at_zero=added, absolute=underflow + 3 * floats.roundoff * added, peak_at_zero=added)
        result = reduce(compose, [turn] * (layers // len(biases) - 1) + [shifted], result)
    return result


def linear_weight(module: Any) -> Tensor:
    """What a linear module multiplies by, in float64."""
    weight = module.weight.detach().double()
    return reference.unit(weight) if isinstance(module, UnitLinear) else weight


def _unit_error(width: int, floats: Arithmetic) -> float:
    """How far a computed u / ||u|| may be from the one meant: half the error of a sum of squares, and a few roundings."""
    return 0.51 * floats.gamma(width + 16)


def row_error(module: Any, floats: Arithmetic) -> float:
    """How far a computed row of the weight may be from the one meant."""
    return _unit_error(module.weight.shape[1], floats) if isinstance(module, UnitLinear) else 0.0


def _linear(module: Any, floats: Arithmetic) -> Bound:
    weight = linear_weight(module)
    norm = spectral_bound(weight)
    out, into = weight.shape
    positions, gamma = _repeats(floats, into), floats.gamma(into + 2)
    off = math.sqrt(out) * row_error(module, floats)
    size, bias = _upper_norm(weight) + off, positions * _upper_norm(module.bias)
    return Bound(
        norm + math.sqrt(out) * row_error(module, arithmetic_of(torch.float64)),
        bias,
        gamma * size + off,
        gamma * bias + positions * into * out * floats.tiny,
        max(1.0, size),
        bias,
    )


def _scaling(scale: Tensor, mean: Tensor, more: Any, floats: Arithmetic) -> Bound:
    """scale (x - mean) + more, also as scale x + (more - scale mean), with a scale that was computed and may have vanished."""
    largest, center = (SAFE * value.abs().max().item() for value in (scale, mean))
    shift = SAFE * (scale.abs() * mean.abs() + abs(more)).max().item()
    values = math.sqrt(scale.numel()) * _repeats(floats, scale.numel())
    return Bound(
        largest,
        values * shift,
        16 * (floats.roundoff * largest + floats.tiny),
        16 * values * (floats.roundoff * shift + floats.tiny * (1 + center)),
        2 * max(1.0, largest),
        2 * values * (center + shift),
    )


def _pool(module: Any, floats: Arithmetic) -> Bound:
    """Means over windows of n values, of which every value is in at most m: sqrt(m / n)."""
    dims = _POOLS.index(type(module)) + 1
    sizes, steps = (np.broadcast_to(value, dims).tolist() for value in (module.kernel_size, module.stride))
    n, m = math.prod(sizes), math.prod(-(-size // step) for size, step in zip(sizes, steps, strict=True))
    stretch = math.sqrt(m / n)
    inputs = math.prod(floats.shape or ())
    return Bound(SAFE * stretch, 0.0, floats.gamma(n + 1) * stretch, inputs * floats.tiny, max(1.0, math.sqrt(n)), 0.0)
