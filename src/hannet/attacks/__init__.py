"""How easily a classifier is fooled: PGD, CW and FGSM through foolbox, and a search that tries to break certificates."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..models.modes import modes_kept
from ..ops.denormals import flush_denormals
from ..reporting.progress import OnProgress, ProgressEvent
from .methods import CW, FGSM, PGD, Attack, require_positive
from .rows import Norm, batches, draw_like, is_wrong, norms_of, per_row, unit_ball, with_norms

__all__ = ["CW", "FGSM", "PGD", "Adversaries", "Attack", "attack", "search"]


@dataclass(frozen=True)
class Adversaries:
    """What an attack found, on the device of its x. A point that is wrong to begin with counts as found, with norm 0.

    Args:
        x: (n, ...), misclassified points near the given ones, or the given ones where none was found.
        success: (n,), bool: whether one was found.
        norms: (n,), float64, of x minus the given points; infinite where none was found.
    """

    x: Tensor
    success: Tensor
    norms: Tensor

    @property
    def clean_accuracy(self) -> float:
        """The share of points that are right before the attack."""
        return float((self.norms > 0).double().mean())

    @property
    def accuracy(self) -> float:
        """The share of points that are right before the attack and after."""
        return float((~self.success).double().mean())

    @property
    def median_norm(self) -> float | None:
        """Of the perturbations that turned a right answer into a wrong one; None without any."""
        turned = self.norms[self.success & (self.norms > 0)]
        return float(turned.quantile(0.5)) if len(turned) else None


def attack(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    method: Attack,
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    batch: int = 1000,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Adversaries:
    """Look for misclassified points x' near x.

    Logits that are not finite count as misclassified: the model failed.

    Args:
        model: (n, ...) -> (n, classes), logits; used in eval mode, left as it was.
        x: (n, ...), float32 or float64 as the model's parameters, within the bounds.
        y: (n,), int64: the right classes.
        method: PGD, FGSM or CW, from this module.
        bounds: the smallest and the largest value that a point may have.
        batch: points attacked at once. Up to rounding the result does not depend on it.
        seed: of the random starting points.
        on_progress: called after every batch.

    Returns:
        The points found, for the rows of x.

    Raises:
        ValueError: for arguments that do not fit together.

    >>> model = nn.Linear(2, 2).requires_grad_(False)
    >>> _ = model.weight.copy_(torch.eye(2)), model.bias.zero_()
    >>> x, y = torch.tensor([[0.8, 0.2], [0.5, 0.4]]), torch.tensor([0, 0])
    >>> attack(model, x, y, FGSM("l2", eps=0.1)).success  # distances to x_1 = x_2: 0.42, 0.07
    tensor([False,  True])
    """
    import foolbox

    low, high = bounds
    if not low < high or (method.norm == "l2" and isinstance(method, CW) and not math.isfinite(high - low)):
        raise ValueError(f"bounds must be two numbers, the lower one first, and finite for CW, got {bounds}")
    _check_arguments(model, x, y, batch)
    if float(x.min()) < low or float(x.max()) > high:
        raise ValueError(f"x must be within {low:g} and {high:g}, got {float(x.min()):g} to {float(x.max()):g}")
    start = unit_ball(x, method.norm, seed) if isinstance(method, PGD) else x
    with _frozen(model, seed):
        adversaries = _unperturbed(model, x, y, batch)
        wrapped = foolbox.PyTorchModel(model, bounds=bounds, device=x.device)
        ready = (~adversaries.success).nonzero()[:, 0]
        for done, rows in batches(ready, batch):
            # Squares of small gradients are subnormal; success is judged without this, as the model computes.
            with flush_denormals():
                perturbed = method.perturb(wrapped, x[rows], y[rows], start[rows]).clamp(low, high)
            _record_successes(model, adversaries, rows, perturbed, x, y, method.norm, method.eps)
            if on_progress:
                on_progress(ProgressEvent(type(method).__name__, done, len(ready), "points"))
    return adversaries


def search(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    radius: Tensor,
    steps: int = 10_000,
    *,
    restarts: int = 10,
    batch: int = 1000,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Adversaries:
    """Try hard to find misclassified x' with ||x' - x||_2 <= radius, anywhere in R^n.

    Nine tenths of the steps ascend a margin z_j - z_y, with momentum, step lengths falling from radius/2 to 0: from x towards the
    best j, then from random points of the sphere towards each other class in turn. The rest are random points of the sphere.
    A point found is within the radius as measured in float64: a certificate of that radius is then false.

    Args:
        model: as in `attack`.
        x: (n, ...), as in `attack`, without bounds.
        y: (n,), int64: the right classes.
        radius: (n,), finite and at least 0.
        steps: gradients and random points for each row.
        restarts: starting points among which the gradient steps are divided.
        batch: points attacked at once.
        seed: of the random points.
        on_progress: called after every restart and every random point.

    Returns:
        The points found, for the rows of x.

    Raises:
        ValueError: for arguments that do not fit together.

    >>> model = nn.Linear(2, 2).double()
    >>> x, y = torch.zeros(1, 2).double(), model(torch.zeros(1, 2).double()).argmax(1)
    >>> distance = model.bias.diff().abs() / model.weight.diff(dim=0).norm()
    >>> [search(model, x, y, factor * distance.detach(), 500).accuracy for factor in (0.999, 1.001)]
    [1.0, 0.0]
    """
    _check_arguments(model, x, y, batch)
    require_positive(steps=steps, restarts=restarts)
    if radius.shape != y.shape or not bool((radius.isfinite() & (radius >= 0)).all()):
        raise ValueError(f"radius must be ({len(y)},), finite and not negative, got shape {tuple(radius.shape)}")
    limit, radius = radius.double().to(x.device), radius.to(x)
    generator = torch.Generator().manual_seed(seed)
    climbs, rounds = max(1, 9 * steps // (10 * restarts)), restarts + math.ceil(steps / 10)
    with _frozen(model, seed):
        adversaries = _unperturbed(model, x, y, batch)
        for turn in range(rounds):
            ready = (~adversaries.success & (radius > 0)).nonzero()[:, 0]
            delta = with_norms(draw_like(torch.randn, x.shape, x, generator), radius)
            for _, rows in batches(ready, batch):
                ascent = model, x[rows], y[rows], radius[rows], turn, delta[rows], climbs
                found = _ascend_margin(*ascent) if turn < restarts else x[rows] + delta[rows]
                _record_successes(model, adversaries, rows, found, x, y, "l2", limit[rows], strict=True)
            if on_progress:
                on_progress(ProgressEvent("search", turn + 1, rounds, "rounds"))
    return adversaries


def _ascend_margin(
    model: nn.Module, x: Tensor, y: Tensor, radius: Tensor, turn: int, delta: Tensor, steps: int
) -> Tensor:
    """For each row the first point on the way that is misclassified, else the last one."""
    delta = delta if turn else torch.zeros_like(x)
    with torch.no_grad():
        others = model(x).scatter(1, y[:, None], -math.inf).argsort(1, descending=True)[:, :-1]
    aim = others[:, turn % others.shape[1], None] if turn else None
    found, open_rows = x + delta, torch.arange(len(x), device=x.device)
    speed = torch.zeros_like(x)
    for step in range(steps):
        point = (x + delta).detach().requires_grad_()
        logits = model(point)
        fails = is_wrong(logits.detach(), y)
        found[open_rows] = point.detach()
        if fails.all():
            break
        best = logits.detach().scatter(1, y[:, None], -math.inf).argmax(1, keepdim=True) if aim is None else aim
        gain = (logits.gather(1, best) - logits.gather(1, y[:, None])).sum()
        (gradient,) = torch.autograd.grad(gain, point)
        keep = ~fails
        open_rows, x, y, radius, delta = (rows[keep] for rows in (open_rows, x, y, radius, delta))
        aim = aim if aim is None else aim[keep]
        speed = 0.75 * speed[keep] + with_norms(gradient[keep].nan_to_num(0), torch.ones_like(radius))
        size = 0.5 * radius * (1 - step / steps)
        delta = delta + with_norms(speed, size)
        norms = delta.flatten(1).norm(dim=1)
        delta = torch.where(per_row(norms > radius, delta), with_norms(delta, radius), delta)
    return found


@contextmanager
def _frozen(model: nn.Module, seed: int) -> Iterator[None]:
    """Inside, the model is in eval mode and its parameters want no gradient; then all is as before, global random state included."""
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in learnt:
            parameter.requires_grad_(False)
        random = torch.random.fork_rng(range(torch.cuda.device_count()))
        with modes_kept(model), torch.enable_grad(), random:
            model.eval()
            torch.manual_seed(seed)
            yield
    finally:
        for parameter in learnt:
            parameter.requires_grad_(True)


def _unperturbed(model: nn.Module, x: Tensor, y: Tensor, batch: int) -> Adversaries:
    """The points that are wrong already. Raises ValueError if the model gives no logits of enough classes."""
    with torch.no_grad():
        logits = torch.cat([model(part) for part in x.split(batch)])
    if logits.ndim != 2 or len(logits) != len(x) or logits.shape[1] < 2:
        raise ValueError(f"model must give logits ({len(x)}, classes), two classes or more, got {tuple(logits.shape)}")
    if int(y.min()) < 0 or int(y.max()) >= logits.shape[1]:
        raise ValueError(f"y must be from 0 to {logits.shape[1] - 1}, got {int(y.min())} to {int(y.max())}")
    wrong = is_wrong(logits, y)
    norms = torch.full(y.shape, math.inf, dtype=torch.float64, device=x.device)
    return Adversaries(x.clone(), wrong, norms.masked_fill(wrong, 0.0))


def _record_successes(
    model: nn.Module,
    adversaries: Adversaries,
    rows: Tensor,
    perturbed: Tensor,
    x: Tensor,
    y: Tensor,
    norm: Norm,
    largest: float | Tensor,
    *,
    strict: bool = False,
) -> None:
    """Judge the perturbed rows and keep those that are misclassified. strict: and within the largest norm to the last bit."""
    norms = norms_of(perturbed.double() - x[rows].double(), norm)
    if not strict:
        rounding = 4 * torch.finfo(x.dtype).eps * math.sqrt(x[0].numel()) * float(x.abs().max().clamp(min=1))
        assert bool((norms <= largest * (1 + 1e-5) + rounding).all()), "foolbox left the ball"
    with torch.no_grad():
        success = is_wrong(model(perturbed), y[rows])
    success &= norms.isfinite() & (norms <= largest if strict else True)
    kept = rows[success]
    adversaries.x[kept], adversaries.norms[kept] = perturbed[success], norms[success]
    adversaries.success[kept] = True


def _check_arguments(model: nn.Module, x: Tensor, y: Tensor, batch: int) -> None:
    if x.dtype not in (torch.float32, torch.float64) or x.ndim < 2 or not x.numel() or not bool(x.isfinite().all()):
        raise ValueError(f"x must be (n, ...), float32 or float64, finite, not empty, got {tuple(x.shape)}, {x.dtype}")
    if y.shape != x.shape[:1] or y.dtype != torch.int64:
        raise ValueError(f"y must be ({len(x)},), int64, got {tuple(y.shape)}, {y.dtype}")
    weight = next((p for p in model.parameters() if p.is_floating_point()), x)
    if (weight.dtype, weight.device) != (x.dtype, x.device):
        raise ValueError(f"x is {x.dtype} on {x.device}, but the model {weight.dtype} on {weight.device}")
    require_positive(batch=batch)
