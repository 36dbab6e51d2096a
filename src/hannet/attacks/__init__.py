"""How easily a classifier is fooled: PGD, CW and FGSM through foolbox, and a search that tries to break certificates."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..ops.denormals import flush_denormals

Norm = Literal["l2", "linf"]
Loss = Literal["cross-entropy", "margin"]
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class PGD:
    """Projected gradient ascent of a loss from a random point of the ball (Madry et al., 2018).

    norm: of the ball, whose radius is eps. rel_stepsize: over eps; None for 2.5/steps, which reaches the edge from anywhere.
    loss: the cross entropy, as in the paper, whose gradient vanishes where logits are far apart: a net that merely
    multiplies its logits by 30 looks robust. "margin" is max_{j != y} z_j - z_y, which no such factor hides.
    """

    norm: Norm = "l2"
    eps: float = 1.0
    steps: int = 30
    rel_stepsize: float | None = None
    loss: Loss = "cross-entropy"

    def __post_init__(self) -> None:
        _require_norm(self.norm)
        if self.loss not in ("cross-entropy", "margin"):
            raise ValueError(f'loss must be "cross-entropy" or "margin", got {self.loss!r}')
        _require_positive(
            eps=self.eps, steps=self.steps, rel_stepsize=1.0 if self.rel_stepsize is None else self.rel_stepsize
        )

    def perturb(self, model: Any, x: Tensor, y: Tensor, start: Tensor) -> Tensor:
        """The last of `steps` points. model: foolbox's; start: (n, ...), a point of the unit ball for each row."""
        import foolbox

        kinds = {"l2": foolbox.attacks.L2PGD, "linf": foolbox.attacks.LinfPGD}
        options = {
            "steps": self.steps,
            "rel_stepsize": 2.5 / self.steps if self.rel_stepsize is None else self.rel_stepsize,
        }
        kind = kinds[self.norm](**options)
        if self.loss == "margin":
            kind.get_loss_fn = _margin
        return _ascend(kind, model, x, y, self.eps, start)


@dataclass(frozen=True)
class FGSM:
    """One step of length eps along the gradient of the cross entropy, in linf along its sign (Goodfellow et al., 2015)."""

    norm: Norm = "linf"
    eps: float = 0.1

    def __post_init__(self) -> None:
        _require_norm(self.norm)
        _require_positive(eps=self.eps)

    def perturb(self, model: Any, x: Tensor, y: Tensor, _: Tensor) -> Tensor:
        """The point after the step. model: foolbox's."""
        import foolbox

        kinds = {"l2": foolbox.attacks.L2FastGradientAttack, "linf": foolbox.attacks.LinfFastGradientAttack}
        return _ascend(kinds[self.norm](), model, x, y, self.eps, x)


@dataclass(frozen=True)
class CW:
    """min ||x' - x||^2 + c max(0, z_y - max_{j != y} z_j) by Adam, c fixed: the nearest point found that is misclassified.

    (Carlini and Wagner, 2017; they search for c, the paper's Table 5 fixes it.) All of its steps are taken.
    """

    c: float = 1.0
    steps: int = 1000
    lr: float = 0.01
    norm: ClassVar[Norm] = "l2"
    eps: ClassVar[float] = math.inf

    def __post_init__(self) -> None:
        _require_positive(c=self.c, steps=self.steps, lr=self.lr)

    def perturb(self, model: Any, x: Tensor, y: Tensor, _: Tensor) -> Tensor:
        """The nearest misclassified point, x where there is none. model: foolbox's."""
        import foolbox

        found = torch.zeros_like(y, dtype=torch.bool)

        class Criterion(foolbox.criteria.Misclassification):
            """Remembers where it held: foolbox gives the zero vector where it never did."""

            def __call__(self, perturbed: Any, outputs: Any) -> Any:
                nonlocal found
                adversarial = _fails(outputs.raw, y) & perturbed.raw.isfinite().flatten(1).all(1)
                found = found | adversarial
                return type(outputs)(adversarial)

        kind = foolbox.attacks.L2CarliniWagnerAttack
        # abort_early would stop a point because of the others in its batch
        options = {"initial_const": self.c, "steps": self.steps, "stepsize": self.lr, "abort_early": False}
        nearest = kind(binary_search_steps=1, **options).run(model, x, Criterion(y))
        return torch.where(_wide(found, x), nearest, x)


Attack = PGD | CW | FGSM


@dataclass(frozen=True)
class Adversaries:
    """What an attack found, on the device of its x. A point that is wrong to begin with is broken by nothing.

    x: (n, ...), misclassified points near the given ones, or the given ones where none was found. success: (n,), bool.
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
    """Look for misclassified points x' near x, bounds[0] <= x' <= bounds[1].  x: (n, ...), float; y: (n,), integers.

    model: (n, ...) -> (n, classes), logits; used in eval mode, left as it was. Logits that are not finite count as
    misclassified: the model failed. The seed decides alone, whatever the size of the batches, up to rounding.
    on_progress: called with points done and points to do. Raises ValueError for arguments that do not fit.

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
    _require(model, x, y, batch)
    if float(x.min()) < low or float(x.max()) > high:
        raise ValueError(f"x must be within {low:g} and {high:g}, got {float(x.min()):g} to {float(x.max()):g}")
    start = _ball(x, method.norm, seed) if isinstance(method, PGD) else x
    with _held(model, seed):
        adversaries = _before(model, x, y, batch)
        wrapped = foolbox.PyTorchModel(model, bounds=bounds, device=x.device)
        ready = (~adversaries.success).nonzero()[:, 0]
        for done, rows in _batches(ready, batch):
            with (
                flush_denormals()
            ):  # squares of small gradients are subnormal; success is judged outside, as the model computes
                perturbed = method.perturb(wrapped, x[rows], y[rows], start[rows]).clamp(low, high)
            _settle(model, adversaries, rows, perturbed, x, y, method.norm, method.eps)
            if on_progress:
                on_progress(done, len(ready))
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
    """Try hard to find misclassified x', ||x' - x||_2 <= radius, anywhere in R^n.  x: (n, ...); radius: (n,), each >= 0.

    Gradient ascent of a margin z_j - z_y in the ball: momentum, steps that decay from radius/2 to nothing; from x towards
    the best j, then from random points of the sphere towards one other class after another; nine tenths of the `steps`.
    The last tenth are random points of the sphere. What it finds is within the radius as measured in float64: a
    certificate of that radius is then false. Arguments, failures and the result are as in `attack`; on_progress is called
    with rounds done and to do.

    >>> model = nn.Linear(2, 2).double()
    >>> x, y = torch.zeros(1, 2).double(), model(torch.zeros(1, 2).double()).argmax(1)
    >>> distance = model.bias.diff().abs() / model.weight.diff(dim=0).norm()
    >>> [search(model, x, y, factor * distance.detach(), 500).accuracy for factor in (0.999, 1.001)]
    [1.0, 0.0]
    """
    _require(model, x, y, batch)
    _require_positive(steps=steps, restarts=restarts)
    if radius.shape != y.shape or not bool((radius.isfinite() & (radius >= 0)).all()):
        raise ValueError(f"radius must be ({len(y)},), finite and not negative, got shape {tuple(radius.shape)}")
    limit, radius = radius.double().to(x.device), radius.to(x)
    generator = torch.Generator().manual_seed(seed)
    climbs = max(1, 9 * steps // (10 * restarts))
    rounds = restarts + math.ceil(steps / 10)
    with _held(model, seed):
        adversaries = _before(model, x, y, batch)
        for turn in range(rounds):
            ready = (~adversaries.success & (radius > 0)).nonzero()[:, 0]
            delta = _scaled(_drawn(torch.randn, x.shape, x, generator), radius)
            for _, rows in _batches(ready, batch):
                found = x[rows] + delta[rows]
                if turn < restarts:
                    found = _climb(model, x[rows], y[rows], radius[rows], turn, delta[rows], climbs)
                _settle(model, adversaries, rows, found, x, y, "l2", limit[rows], strict=True)
            if on_progress:
                on_progress(turn + 1, rounds)
    return adversaries


def _climb(model: nn.Module, x: Tensor, y: Tensor, radius: Tensor, turn: int, delta: Tensor, steps: int) -> Tensor:
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
        fails = _fails(logits.detach(), y)
        found[open_rows] = point.detach()
        if fails.all():
            break
        best = logits.detach().scatter(1, y[:, None], -math.inf).argmax(1, keepdim=True) if aim is None else aim
        gain = (logits.gather(1, best) - logits.gather(1, y[:, None])).sum()
        (gradient,) = torch.autograd.grad(gain, point)
        keep = ~fails
        open_rows, x, y, radius, delta = (rows[keep] for rows in (open_rows, x, y, radius, delta))
        aim = aim if aim is None else aim[keep]
        speed = 0.75 * speed[keep] + _scaled(gradient[keep].nan_to_num(0), torch.ones_like(radius))
        size = 0.5 * radius * (1 - step / steps)
        delta = delta + _scaled(speed, size)
        norms = delta.flatten(1).norm(dim=1)
        delta = torch.where(_wide(norms > radius, delta), _scaled(delta, radius), delta)
    return found


@contextmanager
def _held(model: nn.Module, seed: int) -> Iterator[None]:
    """The model in eval mode, gradients of inputs alone; then all as it was, the global random state too."""
    modes = [(module, module.training) for module in model.modules()]
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        model.eval()
        for parameter in learnt:
            parameter.requires_grad_(False)
        with torch.enable_grad(), torch.random.fork_rng(range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter in learnt:
            parameter.requires_grad_(True)


def _before(model: nn.Module, x: Tensor, y: Tensor, batch: int) -> Adversaries:
    """The points that are wrong already. Raises ValueError if the model gives no logits of enough classes."""
    with torch.no_grad():
        logits = torch.cat([model(part) for part in x.split(batch)])
    if logits.ndim != 2 or len(logits) != len(x) or logits.shape[1] < 2:
        raise ValueError(f"model must give logits ({len(x)}, classes), two classes or more, got {tuple(logits.shape)}")
    if int(y.min()) < 0 or int(y.max()) >= logits.shape[1]:
        raise ValueError(f"y must be from 0 to {logits.shape[1] - 1}, got {int(y.min())} to {int(y.max())}")
    wrong = _fails(logits, y)
    norms = torch.full(y.shape, math.inf, dtype=torch.float64, device=x.device)
    return Adversaries(x.clone(), wrong, norms.masked_fill(wrong, 0.0))


def _settle(
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
    norms = _norms(perturbed.double() - x[rows].double(), norm)
    if not strict:
        rounding = 4 * torch.finfo(x.dtype).eps * math.sqrt(x[0].numel()) * float(x.abs().max().clamp(min=1))
        assert bool((norms <= largest * (1 + 1e-5) + rounding).all()), "foolbox left the ball"
    with torch.no_grad():
        success = _fails(model(perturbed), y[rows])
    success &= norms.isfinite() & (norms <= largest if strict else True)
    kept = rows[success]
    adversaries.x[kept], adversaries.norms[kept] = perturbed[success], norms[success]
    adversaries.success[kept] = True


def _ascend(kind: Any, model: Any, x: Tensor, y: Tensor, eps: float, start: Tensor) -> Tensor:
    import eagerpy

    usual = kind.normalize

    def normalize(gradients: Any, **options: Any) -> Any:
        """Where a gradient is not a number, stay: where the logits are none either, the point is found."""
        return usual(eagerpy.astensor(gradients.raw.nan_to_num(0, 0, 0)), **options)

    kind.normalize = normalize
    kind.get_random_start = lambda x0, epsilon: x0 + epsilon * eagerpy.astensor(start)
    return kind.run(model, x, y, epsilon=eps)


def _margin(model: Any, y: Any) -> Callable[[Any], Any]:
    """foolbox's way to say: of a batch x, the sum of max_{j != y} z_j - z_y."""

    def loss(x: Any) -> Any:
        logits = model(x).raw
        own = y.raw[:, None]
        return type(x)((logits.scatter(1, own, -math.inf).amax(1) - logits.gather(1, own)[:, 0]).sum())

    return loss


def _ball(x: Tensor, norm: Norm, seed: int) -> Tensor:
    """For each row a point of the unit ball, uniform; drawn at once, so that batches don't matter."""
    generator = torch.Generator().manual_seed(seed)
    if norm == "linf":
        return 2 * _drawn(torch.rand, x.shape, x, generator) - 1
    share = _drawn(torch.rand, x.shape[:1], x, generator) ** (1 / x[0].numel())
    return _scaled(_drawn(torch.randn, x.shape, x, generator), share)


def _drawn(draw: Callable[..., Tensor], shape: Sequence[int], x: Tensor, generator: torch.Generator) -> Tensor:
    """Drawn on the CPU, so that a seed means the same everywhere; of the dtype and on the device of x."""
    return draw(*shape, generator=generator, dtype=x.dtype, device="cpu").to(x.device)


def _fails(logits: Tensor, y: Tensor) -> Tensor:
    return (logits.argmax(1) != y) | ~logits.isfinite().all(1)


def _wide(values: Tensor, x: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (x.ndim - 1))


def _norms(x: Tensor, norm: Norm) -> Tensor:
    return x.flatten(1).norm(dim=1, p=2 if norm == "l2" else math.inf)


def _scaled(x: Tensor, norms: Tensor) -> Tensor:
    """Each row with that l2 norm, a little less for rounding; rows of zeros stay, and no square overflows or vanishes."""
    info = torch.finfo(x.dtype)
    unit = x / _wide(x.flatten(1).abs().amax(1).clamp(min=info.tiny), x)
    return unit * _wide(norms * (1 - 8 * info.eps) / unit.flatten(1).norm(dim=1).clamp(min=info.tiny), x)


def _batches(rows: Tensor, batch: int) -> Iterator[tuple[int, Tensor]]:
    """Rows, and how many there are so far."""
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        yield start + len(part), part


def _require(model: nn.Module, x: Tensor, y: Tensor, batch: int) -> None:
    if x.dtype not in (torch.float32, torch.float64) or x.ndim < 2 or not x.numel() or not bool(x.isfinite().all()):
        raise ValueError(f"x must be (n, ...), float32 or float64, finite, not empty, got {tuple(x.shape)}, {x.dtype}")
    if y.shape != x.shape[:1] or y.dtype != torch.int64:
        raise ValueError(f"y must be ({len(x)},), int64, got {tuple(y.shape)}, {y.dtype}")
    weight = next((p for p in model.parameters() if p.is_floating_point()), x)
    if (weight.dtype, weight.device) != (x.dtype, x.device):
        raise ValueError(f"x is {x.dtype} on {x.device}, but the model {weight.dtype} on {weight.device}")
    _require_positive(batch=batch)


def _require_norm(norm: str) -> None:
    if norm not in ("l2", "linf"):
        raise ValueError(f'norm must be "l2" or "linf", got {norm!r}')


def _require_positive(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be above 0 and finite, got {value}")
