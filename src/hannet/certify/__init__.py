"""Certificates: how much a model can stretch a change of its input, and how far an input may move before its class changes.

A module stands for a map f of real numbers, and the machine computes something close to it. Six numbers tell all that is
needed: f is `lipschitz`-Lipschitz in l2; ||f(0)|| <= at_zero; ||computed(x) - f(x)|| <= relative ||x|| + absolute; and
no intermediate result exceeds peak ||x|| + peak_at_zero. They compose along a chain of modules, so that a radius holds for the
model as it is computed, whatever the order in which a kernel adds (Higham 2002, chapter 3). The bounds themselves are
computed in float64 and rounded up.
"""

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from ..layers.activations import Abs, GroupSort, MaxMin
from ..layers.affine import Standardise, UnitLinear
from ..layers.han import HanLayer, HanStack, Householder
from ..models.hannet import FCNet, HanNet
from ..ops import reference
from ..ops.torch_internals import has_hooks

_SAFE = 1 + 1e-9  # more than the roundings of a million float64 operations on positive numbers can take away
_TINY = sys.float_info.min  # more than underflow can
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


class _Map(NamedTuple):
    lipschitz: float = 1.0
    at_zero: float = 0.0
    relative: float = 0.0
    absolute: float = 0.0
    peak: float = 1.0
    peak_at_zero: float = 0.0


class _Floats(NamedTuple):
    """The arithmetic a module runs in: unit roundoff, smallest normal and largest number, and the shape of its input's rows."""

    roundoff: float
    tiny: float
    largest: float
    shape: tuple[int, ...] | None

    def gamma(self, n: int) -> float:
        """Relative error of a sum of n products, in any order."""
        return n * self.roundoff / (1 - n * self.roundoff) if n * self.roundoff < 0.01 else math.inf


def _then(f: _Map, g: _Map) -> _Map:
    """What is known of g after f."""
    slope, offset = f.lipschitz + f.relative, f.at_zero + f.absolute  # of ||computed f(x)||
    composed = _Map(
        g.lipschitz * f.lipschitz,
        g.lipschitz * f.at_zero + g.at_zero,
        g.relative * slope + g.lipschitz * f.relative,
        g.relative * offset + g.absolute + g.lipschitz * f.absolute,
        max(g.peak * slope, f.peak),
        max(g.peak * offset + g.peak_at_zero, f.peak_at_zero),
    )  # max keeps a first number that is none: 0 * inf, where nothing is known
    return _Map(*(math.inf if math.isnan(value) else _SAFE * value + _TINY for value in composed))


def lipschitz_bound(model: nn.Module) -> float:
    """L with ||f(x) - f(x')|| <= L ||x - x'|| for all x, x' (l2): the product of the bounds of the model's modules.

    Han-layers, ABS, ReLU, MaxMin and GroupSort have 1 (Prop. 2 of the paper), linear maps their spectral norm (`spectral_bound`),
    averages over windows and constant scalings what they stretch at most. nn.Sequential, HanNet and FCNet are followed inside.
    Raises CertificateError, naming the module, for any other module, for one in training mode that acts differently then, and
    for parameters that are not finite real numbers.

    >>> from hannet import HanNet
    >>> 1 <= lipschitz_bound(HanNet(2, 3, width=8, depth=50)) < 1.001  # an isometry, 49 Han-layers, orthonormal rows
    True
    """
    return reduce(_then, (_map(leaf, _floats(torch.float64)) for _, leaf in _leaves(model)), _Map()).lipschitz


@torch.no_grad()
def certified_radius(model: nn.Module, x: Tensor, *, batch: int = 4096) -> Tensor:
    """The l2 distance within which no change of x changes the class the model gives it.  x: (n, ...) -> (n,), float64.

    With logits f, the largest f_i, and a last layer W h(x) + b behind an L-Lipschitz h: the smallest
    (f_i - f_j - rounding) / (L ||w_i - w_j||) over j. (If the last module is not linear: sqrt(2) times the bound of the
    whole.) It is 0 where rounding could decide the class, and where something is not finite.
    It holds for the model as computed in its own dtype. In float32 the worst case of rounding eats much of the radius of
    wide and deep networks; certify `model.double()`, which loses nothing.
    Raises CertificateError as lipschitz_bound does, and for an x that is empty or of another dtype than the model.
    Source: Tsuzuku et al. 2018 (margins over Lipschitz bounds); the rounding is ours.

    >>> net = nn.Linear(2, 2, bias=False, dtype=torch.float64)
    >>> net.weight.data = torch.eye(2, dtype=torch.float64)
    >>> certified_radius(net, torch.tensor([[3.0, 1.0]], dtype=torch.float64)).round(decimals=6)  # 2 / sqrt(2)
    tensor([1.4142], dtype=torch.float64)
    """
    return certificates(model, x, batch=batch)[1]


@torch.no_grad()
def certificates(model: nn.Module, x: Tensor, *, batch: int = 4096) -> tuple[Tensor, Tensor]:
    """The classes the model gives x, and their certified_radius, for one run.  x: (n, ...) -> (n,), int64; (n,), float64.

    Raises CertificateError as certified_radius does.
    """
    leaves = [leaf for _, leaf in _leaves(model)]
    _require_plain_arithmetic(model, x)
    logits = torch.cat([_run(model, part) for part in x.split(batch)]).double()
    if logits.dim() != 2 or logits.shape[1] < 2:
        raise CertificateError(f"the model must give (n, classes) with two classes or more, got {tuple(logits.shape)}")
    shapes = _shapes(model, leaves, x[:1])
    maps = [_map(leaf, _floats(x.dtype, shape)) for leaf, shape in zip(leaves, shapes, strict=True)]
    whole, winner = reduce(_then, maps, _Map()), logits.argmax(1, keepdim=True)
    margin = logits.gather(1, winner) - logits
    norm = _norms(x.flatten(1))[:, None]
    lost = _SAFE * 2 * math.sqrt(2) * (whole.relative * norm + whole.absolute)
    slope = _slopes(leaves[-1], maps, logits.shape[1]).to(x.device)[winner[:, 0]]
    radii = (margin - lost) / (_SAFE * (slope + math.sqrt(2) * whole.relative)) / _SAFE
    radius = radii.nan_to_num(0.0, math.inf, 0.0).scatter(1, winner, math.inf).amin(1)
    room = (torch.finfo(x.dtype).max / 4 - whole.peak_at_zero) / whole.peak - norm[:, 0]  # beyond, numbers may overflow
    radius = radius.minimum(room).nan_to_num(0.0).clamp_min(0)
    return winner[:, 0], radius.where(logits.isfinite().all(1), 0.0)


def certified_accuracy(model: nn.Module, x: Tensor, y: Tensor, radii: Sequence[float]) -> list[float]:
    """For every radius the share of rows that the model gets right, and certainly so within that l2 distance.

    x: (n, ...); y: (n,), integers; radii at least 0, which at 0 gives the accuracy. Raises as certified_radius does.
    """
    if y.shape != x.shape[:1] or y.is_floating_point():
        raise CertificateError(f"y must be ({len(x)},), one class a row of x, got {tuple(y.shape)} in {y.dtype}")
    if not all(0 <= radius < math.inf for radius in radii):
        raise CertificateError(f"radii must be at least 0 and finite, got {list(radii)}")
    classes, certain = certificates(model, x)
    return [((classes == y) & ((certain > radius) | (radius == 0))).double().mean().item() for radius in radii]


def spectral_bound(weight: Tensor) -> float:
    """An upper bound of the largest singular value, rounding covered.  weight: (m, n).

    ||G||_F^(1 / 2^k) >= ||weight|| for G = (W^T W)^(2^(k-1)), which falls to the norm as k grows (Gram iteration, Delattre et al.
    2023); each product adds what rounding may have taken from it. Raises CertificateError unless weight is a finite real matrix.

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
            _SAFE * _floats(torch.float64).gamma(inner + 2) * square + inner**2 * torch.finfo(torch.float64).tiny
        )
        exponents.append(exponent)
        matrix = matrix.mT @ matrix
    bound = _SAFE * matrix.norm().item()
    for more, exponent in zip(reversed(lost), reversed(exponents), strict=True):
        bound = _scaled(math.sqrt(bound + more) * (1 + 2**-50), exponent)
    return _SAFE * bound + _TINY


def _scaled(value: float, exponent: int) -> float:
    """value 2^exponent; infinite where it is too large for a float64, which math.ldexp takes for an error."""
    return math.ldexp(value, exponent) if math.frexp(value)[1] + exponent <= sys.float_info.max_exp else math.inf


def _leaves(model: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The modules that compute, first to last, by name."""
    called = f"{name or 'the model'} ({type(model).__name__})"
    if has_hooks(model, backward=False):
        raise CertificateError(f"{called} has hooks or a forward of its own, whose Lipschitz bound is not known")
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
            yield from _leaves(child, f"{name}.{key}".lstrip("."))


def _floats(dtype: torch.dtype, shape: tuple[int, ...] | None = None) -> _Floats:
    info = torch.finfo(dtype)
    return _Floats(info.eps / 2, info.tiny, info.max, shape)


def _require_plain_arithmetic(model: nn.Module, x: Tensor) -> None:
    if x.dim() < 2 or not x.numel():
        raise CertificateError(f"x must be (n, ...) with at least one row, got {tuple(x.shape)}")
    dtypes = {x.dtype} | {tensor.dtype for tensor in model.state_dict().values()} - {torch.int64}
    if len(dtypes) > 1 or x.dtype not in (torch.float32, torch.float64):
        raise CertificateError(f"x and the model must both be float32 or float64, got {', '.join(map(str, dtypes))}")
    try:
        whole = torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # PyTorch's word for a precision that was set for one device alone
        whole = False
    if x.dtype == torch.float32 and not whole:
        raise CertificateError(
            "torch.set_float32_matmul_precision must be 'highest': a product in less has no bound here"
        )
    if not x.new_tensor(torch.finfo(x.dtype).tiny) / 2:
        raise CertificateError("torch.set_flush_denormal must be off: numbers that vanish have no bound here")


def _run(model: nn.Module, x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        out: Tensor = model(x.clone())  # a ReLU in place may come first
    return out


def _shapes(model: nn.Module, leaves: Sequence[nn.Module], x: Tensor) -> list[tuple[int, ...]]:
    """The shape of a row as it enters each leaf."""
    seen: list[tuple[int, ...]] = []

    def note(_: nn.Module, inputs: tuple[Tensor]) -> None:
        seen.append(tuple(inputs[0].shape[1:]))

    hooks = [module.register_forward_pre_hook(note) for module in set(leaves)]
    try:
        _run(model, x)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _kind(module: nn.Module) -> Any:
    return type(module).__mro__[1] if is_parametrized(module) else type(module)


def _require_known(name: str, module: Any) -> None:
    parametrized, kind = is_parametrized(module), _kind(module)
    known = kind in (*_REFLECTING, *_LINEAR, *_NORMS, *_POOLS, *_EXACT, Standardise)
    known = known and kind.forward is type(module).forward
    if not known or getattr(module, "start_dim", 1) != 1 or getattr(module, "running_var", module) is None:
        raise CertificateError(f"{name} has no Lipschitz bound that is known here")
    trains = any(part.training for part in module.modules())
    if trains and (parametrized or isinstance(module, nn.Dropout | nn.modules.batchnorm._BatchNorm)):
        raise CertificateError(f"{name} acts differently in training: call model.eval() first")
    made = [getattr(module, key) for key in module.parametrizations] if parametrized else []
    for tensor in (*module.state_dict().values(), *made):
        if tensor.is_complex() or not tensor.isfinite().all():
            raise CertificateError(f"{name} holds numbers that are not {'real' if tensor.is_complex() else 'finite'}")
    if kind in _NORMS and not ((module.running_var >= 0) & (module.running_var + module.eps > 1e-30)).all():
        raise CertificateError(f"{name} has a variance that is negative or vanishes")
    if kind in _POOLS and (module.ceil_mode or not module.count_include_pad or getattr(module, "divisor_override", 0)):
        raise CertificateError(
            f"{name} divides by what depends on the place (ceil_mode, count_include_pad, divisor_override)"
        )


def _map(module: Any, floats: _Floats) -> _Map:
    """What is known of one module, as it is in eval mode."""
    kind = _kind(module)
    if kind in _REFLECTING:
        return _reflecting(module, floats)
    if kind in _LINEAR:
        return _linear(module, floats)
    if kind in _NORMS:
        scale = (module.running_var.double() + module.eps).rsqrt() * _or(module.weight, 1.0)
        return _scaling(scale, module.running_mean.double(), _or(module.bias, 0.0), floats)
    if kind is Standardise:
        return _scaling(1 / module.std.double(), module.mean.double(), 0.0, floats)
    return _pool(module, floats) if kind in _POOLS else _Map()


def _slopes(last: nn.Module, maps: Sequence[_Map], classes: int) -> Tensor:
    """By how much the difference of two logits may change, for a change of x of norm 1.  -> (classes, classes)."""
    if not isinstance(last, nn.Linear):
        slope = math.sqrt(2) * reduce(_then, maps, _Map()).lipschitz
        return torch.tensor(slope, dtype=torch.float64, device="cpu").expand(classes, classes)
    rows = _weight(last)
    apart = torch.stack([_norms(row - rows) for row in rows]) + 2 * _row_error(last, _floats(torch.float64))
    return reduce(_then, maps[:-1], _Map()).lipschitz * apart


def _or(tensor: Any, value: float) -> Any:
    return value if tensor is None else tensor.detach().double()


def _norms(rows: Tensor) -> Tensor:
    """Upper bounds of norms along the last dimension, in float64; no square overflows or vanishes."""
    rows = rows.detach().double()
    largest = rows.abs().amax(-1, keepdim=True)
    scaled = rows / largest.where(largest > 0, 1.0)
    return _SAFE * largest[..., 0] * scaled.norm(dim=-1) + _TINY


def _norm(tensor: Tensor | None) -> float:
    return 0.0 if tensor is None else _norms(tensor.flatten()).item()


def _positions(floats: _Floats, values: int) -> float:
    """The square root of how often a row holds as many values, by which norms of what is added everywhere grow."""
    return math.sqrt(max(1, math.prod(floats.shape) // values)) if floats.shape else 1.0


def _reflecting(module: Any, floats: _Floats) -> _Map:
    """One reflection after the other, each |x - 2 (v.x) v + b|: v is off by `unit`, v.x by gamma, and six roundings remain."""
    width = module.u.shape[-1]
    layers = module.u.numel() // width
    biases = [0.0] * layers if module.b is None else [_norm(b) for b in module.b.reshape(-1, width)]
    positions = _positions(floats, width)
    turned = 1.1 * (2 * floats.gamma(width) + 4 * _unit_error(width, floats) + 10 * floats.roundoff)
    underflow = 4 * width * positions * floats.tiny
    turn = _Map(relative=turned, absolute=underflow, peak=4.0)
    result = _Map()
    for bias in biases:
        added = positions * bias
        shifted = turn._replace(at_zero=added, absolute=underflow + 3 * floats.roundoff * added, peak_at_zero=added)
        result = reduce(_then, [turn] * (layers // len(biases) - 1) + [shifted], result)
    return result


def _weight(module: Any) -> Tensor:
    """What a linear module multiplies by, in float64."""
    weight = module.weight.detach().double()
    return reference.unit(weight) if isinstance(module, UnitLinear) else weight


def _unit_error(width: int, floats: _Floats) -> float:
    """How far a computed u / ||u|| may be from the one meant: half the error of a sum of squares, and a few roundings."""
    return 0.51 * floats.gamma(width + 16)


def _row_error(module: Any, floats: _Floats) -> float:
    return _unit_error(module.weight.shape[1], floats) if isinstance(module, UnitLinear) else 0.0


def _linear(module: Any, floats: _Floats) -> _Map:
    weight = _weight(module)
    norm = spectral_bound(weight)
    out, into = weight.shape
    positions, gamma = _positions(floats, into), floats.gamma(into + 2)
    off = math.sqrt(out) * _row_error(module, floats)
    size, bias = _norm(weight) + off, positions * _norm(module.bias)
    return _Map(
        norm + math.sqrt(out) * _row_error(module, _floats(torch.float64)),
        bias,
        gamma * size + off,
        gamma * bias + positions * into * out * floats.tiny,
        max(1.0, size),
        bias,
    )


def _scaling(scale: Tensor, mean: Tensor, more: Any, floats: _Floats) -> _Map:
    """scale (x - mean) + more, also as scale x + (more - scale mean), with a scale that was computed and may have vanished."""
    largest, center = (_SAFE * value.abs().max().item() for value in (scale, mean))
    shift = _SAFE * (scale.abs() * mean.abs() + abs(more)).max().item()
    values = math.sqrt(scale.numel()) * _positions(floats, scale.numel())
    return _Map(
        largest,
        values * shift,
        16 * (floats.roundoff * largest + floats.tiny),
        16 * values * (floats.roundoff * shift + floats.tiny * (1 + center)),
        2 * max(1.0, largest),
        2 * values * (center + shift),
    )


def _pool(module: Any, floats: _Floats) -> _Map:
    """Means over windows of n values, of which every value is in at most m: sqrt(m / n)."""
    dims = _POOLS.index(type(module)) + 1
    sizes, steps = (np.broadcast_to(value, dims).tolist() for value in (module.kernel_size, module.stride))
    n, m = math.prod(sizes), math.prod(-(-size // step) for size, step in zip(sizes, steps, strict=True))
    stretch = math.sqrt(m / n)
    inputs = math.prod(floats.shape or ())
    return _Map(_SAFE * stretch, 0.0, floats.gamma(n + 1) * stretch, inputs * floats.tiny, max(1.0, math.sqrt(n)), 0.0)
