"""Certificates: how much a model can stretch a change of its input, and how far an input may move before its class changes.

A module stands for a map f of real numbers, and the machine computes something close to it. Six numbers tell all that is
needed: f is `lipschitz`-Lipschitz in l2; ||f(0)|| <= at_zero; ||computed(x) - f(x)|| <= relative ||x|| + absolute; and
no intermediate result exceeds peak ||x|| + peak_at_zero. They compose along a chain of modules, so that a radius holds for the
model as it is computed, whatever the order in which a kernel adds (Higham 2002, chapter 3). The bounds themselves are
computed in float64 and rounded up.
"""

import math
from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from . import reference
from .layers import Abs, GroupSort, HanLayer, HanStack, Householder, MaxMin, Standardise, UnitLinear
from .models.hannet import FCNet, HanNet

_SAFE = 1 + 1e-9  # more than the roundings of a million float64 operations on positive numbers can take away
_SQUARINGS = 30  # of a Gram matrix: the bound is then above the norm by a factor of less than rank ** 2**-31
_CHAINS = (nn.Sequential, HanNet, FCNet)
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
        max(f.peak, g.peak * slope),
        max(f.peak_at_zero, g.peak * offset + g.peak_at_zero),
    )
    return _Map(*(_SAFE * value for value in composed))


def lipschitz_bound(model: nn.Module) -> float:
    """L with ||f(x) - f(x')|| <= L ||x - x'|| for all x, x' (l2): the product of the bounds of the model's modules.

    Han-layers, ABS, ReLU, MaxMin and GroupSort have 1 (Prop. 2 of the paper), linear maps their spectral norm (`spectral_bound`),
    averages over windows and constant scalings what they stretch at most. nn.Sequential, HanNet and FCNet are followed inside.
    Raises CertificateError, naming the module, for any other module, for one in training mode that acts differently then, and
    for parameters that are not finite.

    >>> from hannet import HanNet
    >>> 1 <= lipschitz_bound(HanNet(2, 3, width=8, depth=50)) < 1.001  # an isometry, 49 Han-layers, orthonormal rows
    True
    """
    return math.prod(_SAFE * _map(name, module, _floats(torch.float64)).lipschitz for name, module in _leaves(model))


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
    leaves = list(_leaves(model))
    _require_plain_arithmetic(model, x)
    logits = torch.cat([_run(model, part) for part in x.split(batch)]).double()
    if logits.dim() != 2 or logits.shape[1] < 2:
        raise CertificateError(f"the model must give (n, classes) with two classes or more, got {tuple(logits.shape)}")
    shapes = _shapes(model, leaves, x[:1])
    maps = [_map(*leaf, _floats(x.dtype, shape)) for leaf, shape in zip(leaves, shapes, strict=True)]
    body, whole = reduce(_then, maps[:-1], _Map()), reduce(_then, maps, _Map())
    winner = logits.argmax(1)
    last = leaves[-1][1]
    if isinstance(last, nn.Linear):
        rows = _weight(last)
        apart = (rows[:, None] - rows).norm(dim=2) + 2 * _row_error(last, _floats(torch.float64))
        slope = body.lipschitz * apart[winner]
    else:
        slope = logits.new_full(logits.shape, math.sqrt(2) * whole.lipschitz)
    margin = logits.gather(1, winner[:, None]) - logits
    norm = _SAFE * x.double().flatten(1).norm(dim=1, keepdim=True)
    lost = _SAFE * 2 * math.sqrt(2) * (whole.relative * norm + whole.absolute)
    radii = (margin - lost) / (_SAFE * (slope + math.sqrt(2) * whole.relative))
    radius = radii.nan_to_num(0.0, math.inf, 0.0).scatter(1, winner[:, None], math.inf).amin(1).clamp_min(0) / _SAFE
    room = (torch.finfo(x.dtype).max / 4 - whole.peak_at_zero) / whole.peak - norm[
        :, 0
    ]  # farther out numbers may overflow
    radius = torch.minimum(radius, room.clamp_min(0))
    return torch.where(logits.isfinite().all(1), radius, 0.0)


def certified_accuracy(model: nn.Module, x: Tensor, y: Tensor, radii: Sequence[float]) -> list[float]:
    """For every radius the share of rows that the model gets right, and certainly so within that l2 distance.

    x: (n, ...); y: (n,), integers; radii at least 0, which at 0 gives the accuracy. Raises as certified_radius does.
    """
    if y.shape != x.shape[:1] or y.is_floating_point():
        raise CertificateError(f"y must be ({len(x)},), one class a row of x, got {tuple(y.shape)} in {y.dtype}")
    if not all(0 <= radius < math.inf for radius in radii):
        raise CertificateError(f"radii must be at least 0 and finite, got {list(radii)}")
    certain = certified_radius(model, x)
    right = torch.cat([_run(model, part).argmax(1) for part in x.split(4096)]) == y
    return [(right & ((certain > radius) | (radius == 0))).double().mean().item() for radius in radii]


def spectral_bound(weight: Tensor) -> float:
    """An upper bound of the largest singular value, rounding covered.  weight: (m, n).

    ||G||_F^(1 / 2^k) >= ||weight|| for G = (W^T W)^(2^(k-1)), which falls to the norm as k grows (Gram iteration, Delattre et al.
    2023); each product adds what rounding may have taken from it. Raises CertificateError unless weight is a finite matrix.

    >>> round(spectral_bound(torch.diag(torch.tensor([3.0, 4.0]))), 6)
    4.0
    """
    if weight.dim() != 2 or not weight.isfinite().all():
        raise CertificateError(f"weight must be a finite matrix, got {tuple(weight.shape)}")
    matrix = weight.detach().double().cpu()
    matrix = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.mT
    if not matrix.any():
        return 0.0
    lost, exponents = [], []
    for _ in range(_SQUARINGS):
        exponent = math.frexp(matrix.abs().max().item())[1]
        matrix = torch.ldexp(matrix, torch.tensor(-exponent))  # exact, and no square overflows
        square = matrix.square().sum().item()
        inner = matrix.shape[0]
        lost.append(
            _SAFE * _floats(torch.float64).gamma(inner + 2) * square + inner**2 * torch.finfo(torch.float64).tiny
        )
        exponents.append(exponent)
        matrix = matrix.mT @ matrix
    bound = _SAFE * matrix.norm().item()
    for more, exponent in zip(reversed(lost), reversed(exponents), strict=True):
        bound = math.ldexp(math.sqrt(bound + more) * (1 + 2**-50), exponent)
    return _SAFE * bound


def _leaves(model: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The modules that compute, first to last, by name."""
    called = f"{name or 'the model'} ({type(model).__name__})"
    if model._forward_hooks or model._forward_pre_hooks or "forward" in vars(model):
        raise CertificateError(f"{called} has hooks or a forward of its own, whose Lipschitz bound is not known")
    if type(model) not in _CHAINS:
        yield called, model
        return
    for key, child in (model.layers if isinstance(model, HanNet | FCNet) else model)._modules.items():
        if child is not None:
            yield from _leaves(child, f"{name}.{key}".lstrip("."))


def _floats(dtype: torch.dtype, shape: tuple[int, ...] | None = None) -> _Floats:
    info = torch.finfo(dtype)
    return _Floats(info.eps / 2, info.tiny, info.max, shape)


def _require_plain_arithmetic(model: nn.Module, x: Tensor) -> None:
    if x.dim() < 2 or not len(x):
        raise CertificateError(f"x must be (n, ...) with at least one row, got {tuple(x.shape)}")
    dtypes = {x.dtype} | {p.dtype for p in model.parameters()}
    if len(dtypes) > 1 or x.dtype not in (torch.float32, torch.float64):
        raise CertificateError(f"x and the model must both be float32 or float64, got {', '.join(map(str, dtypes))}")
    if x.dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest":
        raise CertificateError(
            "torch.set_float32_matmul_precision must be 'highest': a product in less has no bound here"
        )


def _run(model: nn.Module, x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        out: Tensor = model(x)
    return out


def _shapes(model: nn.Module, leaves: Sequence[tuple[str, nn.Module]], x: Tensor) -> list[tuple[int, ...]]:
    """The shape of a row as it enters each leaf."""
    seen: list[tuple[int, ...]] = []

    def note(_: nn.Module, inputs: tuple[Tensor]) -> None:
        seen.append(tuple(inputs[0].shape[1:]))

    hooks = [module.register_forward_pre_hook(note) for module in {id(leaf): leaf for _, leaf in leaves}.values()]
    try:
        _run(model, x)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _map(name: str, module: Any, floats: _Floats) -> _Map:
    """What is known of one module. Raises CertificateError, naming it, if nothing is."""
    parametrized = is_parametrized(module)
    kind = type(module).__mro__[1] if parametrized else type(module)
    if module.training and (parametrized or isinstance(module, nn.Dropout | nn.modules.batchnorm._BatchNorm)):
        raise CertificateError(f"{name} acts differently in training: call model.eval() first")
    if not all(tensor.isfinite().all() for tensor in module.state_dict().values()):
        raise CertificateError(f"{name} holds numbers that are not finite")
    if kind in (HanLayer, HanStack, Householder):
        return _reflecting(name, module, floats)
    if kind in (nn.Linear, UnitLinear):
        return _linear(module, floats)
    if kind in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d) and getattr(module, "running_var", None) is not None:
        scale = (module.running_var.double() + module.eps).rsqrt() * _or(module.weight, 1.0)
        return _scaling(scale, module.running_mean.double() * scale, _or(module.bias, 0.0), floats)
    if kind is Standardise:
        return _scaling(1 / module.std.double(), module.mean.double() / module.std.double(), torch.zeros(()), floats)
    if kind in _POOLS:
        return _pool(name, module, floats)
    if kind in _EXACT and not (isinstance(module, nn.Flatten) and module.start_dim != 1):
        return _Map()
    raise CertificateError(f"{name} has no Lipschitz bound that is known here")


def _or(tensor: Any, value: float) -> Any:
    return value if tensor is None else tensor.double()


def _norm(tensor: Tensor | None) -> float:
    return 0.0 if tensor is None else _SAFE * tensor.detach().double().norm().item()


def _positions(floats: _Floats, values: int) -> float:
    """The square root of how often a row holds as many values, by which norms of what is added everywhere grow."""
    return math.sqrt(max(1, math.prod(floats.shape) // values)) if floats.shape else 1.0


def _reflecting(name: str, module: Any, floats: _Floats) -> _Map:
    """One reflection after the other, each |x - 2 (v.x) v + b|: v is off by `unit`, v.x by gamma, and six roundings remain."""
    width = module.features
    u = module.u.detach().double().reshape(-1, width)
    largest = u.abs().amax(1)
    if ((largest > 0) & (largest < floats.tiny)).any():
        raise CertificateError(f"{name} has a u so small that its direction is lost")
    reflections = getattr(module, "reflections", 1)
    b = u.new_zeros(0) if module.b is None else module.b.detach().double().reshape(-1, width)
    biases = [_SAFE * _positions(floats, width) * bias.norm().item() for bias in b] or [0.0] * (len(u) // reflections)
    unit = _unit_error(width, floats)
    turned = 1.1 * (2 * floats.gamma(width) + 4 * unit + 10 * floats.roundoff)
    underflow = 4 * width * _positions(floats, width) * floats.tiny
    turn = _Map(relative=turned, absolute=underflow, peak=4.0)
    result = _Map()
    for bias in biases:
        shifted = turn._replace(at_zero=bias, absolute=underflow + 2 * floats.roundoff * bias, peak_at_zero=bias)
        result = reduce(_then, [turn] * (reflections - 1) + [shifted], result)
    return result


def _weight(module: Any) -> Tensor:
    """What a linear module multiplies by, in float64."""
    weight = module.weight.detach().double()
    return reference.unit(weight) if isinstance(module, UnitLinear) else weight


def _unit_error(width: int, floats: _Floats) -> float:
    """How far a computed u / ||u|| may be from the one meant: half the error of a sum of squares, and a few roundings."""
    return (width / 2 + 8) * floats.roundoff


def _row_error(module: Any, floats: _Floats) -> float:
    return _unit_error(module.in_features, floats) if isinstance(module, UnitLinear) else 0.0


def _linear(module: Any, floats: _Floats) -> _Map:
    weight, positions = _weight(module), _positions(floats, module.in_features)
    off = math.sqrt(module.out_features) * _row_error(module, floats)
    size, bias, gamma = _norm(weight) + off, positions * _norm(module.bias), floats.gamma(module.in_features + 2)
    return _Map(
        spectral_bound(weight) + math.sqrt(module.out_features) * _row_error(module, _floats(torch.float64)),
        bias,
        gamma * size + off,
        gamma * bias + positions * module.in_features * module.out_features * floats.tiny,
        max(1.0, size),
        bias,
    )


def _scaling(scale: Any, shift: Any, more: Any, floats: _Floats) -> _Map:
    """scale x - shift + more, computed in any order of its few operations."""
    largest, positions = _SAFE * scale.abs().max().item(), _positions(floats, scale.numel())
    added = _SAFE * positions * math.sqrt(scale.numel()) * float(torch.as_tensor(abs(shift) + abs(more)).max())
    absolute = 16 * floats.roundoff * added + 4 * positions * scale.numel() * floats.tiny
    return _Map(largest, added, 16 * floats.roundoff * largest, absolute, max(1.0, largest) * 2, 2 * added)


def _pool(name: str, module: Any, floats: _Floats) -> _Map:
    """Means over windows of n values, of which every value is in at most m: sqrt(m / n)."""
    if module.ceil_mode or getattr(module, "divisor_override", None) or not module.count_include_pad:
        raise CertificateError(
            f"{name} divides by what depends on the place (ceil_mode, count_include_pad, divisor_override)"
        )
    dims = {nn.AvgPool1d: 1, nn.AvgPool2d: 2, nn.AvgPool3d: 3}[type(module)]
    sizes, steps = (
        value if isinstance(value, tuple) else (value,) * dims for value in (module.kernel_size, module.stride)
    )
    n, m = math.prod(sizes), math.prod(-(-size // step) for size, step in zip(sizes, steps, strict=True))
    stretch = math.sqrt(m / n)
    inputs = math.prod(floats.shape or ())
    return _Map(_SAFE * stretch, 0.0, floats.gamma(n + 1) * stretch, inputs * floats.tiny, max(1.0, math.sqrt(n)), 0.0)
