"""The certified radius: how far an input may move before its class changes, by the bounds of the modules and the margin of the logits."""

import math
from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from .bounds import (
    SAFE,
    Bound,
    CertificateError,
    arithmetic_of,
    compose,
    computing_modules,
    linear_weight,
    module_bound,
    row_error,
    upper_norms,
)


def lipschitz_bound(model: nn.Module) -> float:
    """L with ||f(x) - f(x')|| <= L ||x - x'|| for all x, x' (l2): the product of the bounds of the model's modules.

    Han-layers, ABS, ReLU, MaxMin and GroupSort have 1 (Prop. 2 of the paper), linear maps their spectral norm (`spectral_bound`),
    averages over windows and constant scalings what they stretch at most.

    Args:
        model: one such module, or a HanNet, an FCNet or an nn.Sequential of them.

    Returns:
        The bound; infinite where float64 cannot hold it.

    Raises:
        CertificateError: for any other module, which it names, for one that acts differently in training and is in training mode,
            and for parameters that are not finite real numbers.

    >>> from hannet import HanNet
    >>> 1 <= lipschitz_bound(HanNet(2, 3, width=8, depth=50)) < 1.001  # an isometry, 49 Han-layers, orthonormal rows
    True
    """
    return reduce(
        compose, (module_bound(leaf, arithmetic_of(torch.float64)) for _, leaf in computing_modules(model)), Bound()
    ).lipschitz


@torch.no_grad()
def certified_radius(model: nn.Module, x: Tensor, *, batch: int = 4096) -> Tensor:
    """The l2 distance within which no change of x changes the class that the model gives it.

    With logits f, the largest f_i, and a last layer W h(x) + b behind an L-Lipschitz h: the smallest
    (f_i - f_j - rounding) / (L ||w_i - w_j||) over j; if the last module is not linear, over sqrt(2) times the bound of the model.
    It holds for the model as computed in its own dtype. In float32 the worst case of rounding takes much of the radius of
    wide and deep networks; certify `model.double()`, which loses nothing.
    Source: Tsuzuku et al. 2018 (margins over Lipschitz bounds); the rounding is ours.

    Args:
        model: as in lipschitz_bound, with (n, classes) as its output.
        x: (n, ...), float32 or float64 like the model.
        batch: rows computed at once.

    Returns:
        (n,), float64; 0 where rounding could decide the class, and where something is not finite.

    Raises:
        CertificateError: as in lipschitz_bound, and for an x that is empty or of another dtype than the model.

    >>> net = nn.Linear(2, 2, bias=False, dtype=torch.float64)
    >>> net.weight.data = torch.eye(2, dtype=torch.float64)
    >>> certified_radius(net, torch.tensor([[3.0, 1.0]], dtype=torch.float64)).round(decimals=6)  # 2 / sqrt(2)
    tensor([1.4142], dtype=torch.float64)
    """
    return certificates(model, x, batch=batch)[1]


@torch.no_grad()
def certificates(model: nn.Module, x: Tensor, *, batch: int = 4096) -> tuple[Tensor, Tensor]:
    """The classes that the model gives x, (n,) and int64, and their certified_radius, from one run; arguments as there."""
    leaves = [leaf for _, leaf in computing_modules(model)]
    _require_plain_arithmetic(model, x)
    logits = torch.cat([_run(model, part) for part in x.split(batch)]).double()
    if logits.dim() != 2 or logits.shape[1] < 2:
        raise CertificateError(f"the model must give (n, classes) with two classes or more, got {tuple(logits.shape)}")
    shapes = _input_shapes(model, leaves, x[:1])
    maps = [module_bound(leaf, arithmetic_of(x.dtype, shape)) for leaf, shape in zip(leaves, shapes, strict=True)]
    bound, winner = reduce(compose, maps, Bound()), logits.argmax(1, keepdim=True)
    margin = logits.gather(1, winner) - logits
    norm = upper_norms(x.flatten(1))[:, None]
    lost = SAFE * 2 * math.sqrt(2) * (bound.relative * norm + bound.absolute)
    slope = _slopes(leaves[-1], maps, logits.shape[1]).to(x.device)[winner[:, 0]]
    radii = (margin - lost) / (SAFE * (slope + math.sqrt(2) * bound.relative)) / SAFE
    radius = radii.nan_to_num(0.0, math.inf, 0.0).scatter(1, winner, math.inf).amin(1)
    room = (torch.finfo(x.dtype).max / 4 - bound.peak_at_zero) / bound.peak - norm[:, 0]  # beyond, numbers may overflow
    radius = radius.minimum(room).nan_to_num(0.0).clamp_min(0)
    return winner[:, 0], radius.where(logits.isfinite().all(1), 0.0)


def certified_accuracy(model: nn.Module, x: Tensor, y: Tensor, radii: Sequence[float]) -> list[float]:
    """For every radius the share of rows that the model gets right, and provably so within that l2 distance.

    Args:
        model: as in certified_radius.
        x: (n, ...), as in certified_radius.
        y: (n,), integers: the right classes.
        radii: at least 0; for 0 the share is the accuracy.

    Returns:
        A share between 0 and 1 for each radius.

    Raises:
        CertificateError: as in certified_radius, and for y and radii that do not fit.

    >>> net = nn.Linear(2, 2, bias=False, dtype=torch.float64)
    >>> net.weight.data = torch.eye(2, dtype=torch.float64)
    >>> x = torch.tensor([[3.0, 1.0], [0.0, 1.0]], dtype=torch.float64)  # their radii are 1.41 and 0.71
    >>> certified_accuracy(net, x, torch.tensor([0, 1]), [0.0, 1.0])
    [1.0, 0.5]
    """
    if y.shape != x.shape[:1] or y.is_floating_point():
        raise CertificateError(f"y must be ({len(x)},), one class a row of x, got {tuple(y.shape)} in {y.dtype}")
    if not all(0 <= radius < math.inf for radius in radii):
        raise CertificateError(f"radii must be at least 0 and finite, got {list(radii)}")
    classes, certain = certificates(model, x)
    return [((classes == y) & ((certain > radius) | (radius == 0))).double().mean().item() for radius in radii]


def _require_plain_arithmetic(model: nn.Module, x: Tensor) -> None:
    if x.dim() < 2 or not x.numel():
        raise CertificateError(f"x must be (n, ...) with at least one row, got {tuple(x.shape)}")
    dtypes = {x.dtype} | {tensor.dtype for tensor in model.state_dict().values()} - {torch.int64}
    if len(dtypes) > 1 or x.dtype not in (torch.float32, torch.float64):
        raise CertificateError(f"x and the model must both be float32 or float64, got {', '.join(map(str, dtypes))}")
    try:
        full_precision = torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # PyTorch's answer where a precision was set for one device only
        full_precision = False
    if x.dtype == torch.float32 and not full_precision:
        raise CertificateError(
            "torch.set_float32_matmul_precision must be 'highest': products of lower precision have no bound here"
        )
    if not x.new_tensor(torch.finfo(x.dtype).tiny) / 2:
        raise CertificateError("torch.set_flush_denormal must be off: numbers flushed to 0 have no bound here")


def _run(model: nn.Module, x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        out: Tensor = model(x.clone())  # a ReLU in place may come first
    return out


def _input_shapes(model: nn.Module, leaves: Sequence[nn.Module], x: Tensor) -> list[tuple[int, ...]]:
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


def _slopes(last: nn.Module, maps: Sequence[Bound], classes: int) -> Tensor:
    """By how much the difference of two logits may change, for a change of x of norm 1.  -> (classes, classes)."""
    if not isinstance(last, nn.Linear):
        slope = math.sqrt(2) * reduce(compose, maps, Bound()).lipschitz
        return torch.tensor(slope, dtype=torch.float64, device="cpu").expand(classes, classes)
    rows = linear_weight(last)
    distances = torch.stack([upper_norms(row - rows) for row in rows]) + 2 * row_error(
        last, arithmetic_of(torch.float64)
    )
    return reduce(compose, maps[:-1], Bound()).lipschitz * distances
