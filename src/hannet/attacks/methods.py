"""The attacks themselves, through foolbox."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from .rows import Norm, is_wrong, per_row

Loss = Literal["cross-entropy", "margin"]


@dataclass(frozen=True)
class PGD:
    """Projected gradient ascent of a loss from a random point of the ball (Madry et al., 2018).

    Args:
        norm: of the ball, "l2" or "linf".
        eps: the radius of the ball.
        steps: how many are taken.
        rel_stepsize: the length of a step over eps; None for 2.5 / steps, which reaches the edge from anywhere.
        loss: "cross-entropy" as in the paper, whose gradient vanishes where logits are far apart: a net that merely
            multiplies its logits by 30 looks robust. "margin" is max_{j != y} z_j - z_y, which no such factor hides.

    Raises:
        ValueError: for an unknown norm or loss, and numbers that are not above 0 and finite.
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
        require_positive(
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
            kind.get_loss_fn = _margin_loss
        return _run_foolbox(kind, model, x, y, self.eps, start)


@dataclass(frozen=True)
class FGSM:
    """One step of length eps along the gradient of the cross entropy, in linf along its sign (Goodfellow et al., 2015).

    Args:
        norm: "l2" or "linf".
        eps: the length of the step.

    Raises:
        ValueError: for an unknown norm, and an eps that is not above 0 and finite.
    """

    norm: Norm = "linf"
    eps: float = 0.1

    def __post_init__(self) -> None:
        _require_norm(self.norm)
        require_positive(eps=self.eps)

    def perturb(self, model: Any, x: Tensor, y: Tensor, _: Tensor) -> Tensor:
        """The point after the step. model: foolbox's."""
        import foolbox

        kinds = {"l2": foolbox.attacks.L2FastGradientAttack, "linf": foolbox.attacks.LinfFastGradientAttack}
        return _run_foolbox(kinds[self.norm](), model, x, y, self.eps, x)


@dataclass(frozen=True)
class CW:
    """min ||x' - x||^2 + c max(0, z_y - max_{j != y} z_j) by Adam, c fixed: the nearest point found that is misclassified.

    (Carlini and Wagner, 2017; they search for c, the paper's Table 5 fixes it.)

    Args:
        c: the weight of the misclassification against the distance.
        steps: of Adam; all of them are taken.
        lr: the learning rate of Adam.

    Raises:
        ValueError: for numbers that are not above 0 and finite.
    """

    c: float = 1.0
    steps: int = 1000
    lr: float = 0.01
    norm: ClassVar[Norm] = "l2"
    eps: ClassVar[float] = math.inf

    def __post_init__(self) -> None:
        require_positive(c=self.c, steps=self.steps, lr=self.lr)

    def perturb(self, model: Any, x: Tensor, y: Tensor, _: Tensor) -> Tensor:
        """The nearest misclassified point, x where there is none. model: foolbox's."""
        import foolbox

        found = torch.zeros_like(y, dtype=torch.bool)

        class Criterion(foolbox.criteria.Misclassification):
            """Remembers where it held: foolbox gives the zero vector where it never did."""

            def __call__(self, perturbed: Any, outputs: Any) -> Any:
                nonlocal found
                adversarial = is_wrong(outputs.raw, y) & perturbed.raw.isfinite().flatten(1).all(1)
                found = found | adversarial
                return type(outputs)(adversarial)

        kind = foolbox.attacks.L2CarliniWagnerAttack
        # abort_early would stop a point because of the others in its batch
        options = {"initial_const": self.c, "steps": self.steps, "stepsize": self.lr, "abort_early": False}
        nearest = kind(binary_search_steps=1, **options).run(model, x, Criterion(y))
        return torch.where(per_row(found, x), nearest, x)


Attack = PGD | CW | FGSM


def _run_foolbox(kind: Any, model: Any, x: Tensor, y: Tensor, eps: float, start: Tensor) -> Tensor:
    import eagerpy

    usual = kind.normalize

    def normalize(gradients: Any, **options: Any) -> Any:
        """Where a gradient is not a number, stay: where the logits are none either, the point is found."""
        return usual(eagerpy.astensor(gradients.raw.nan_to_num(0, 0, 0)), **options)

    kind.normalize = normalize
    kind.get_random_start = lambda x0, epsilon: x0 + epsilon * eagerpy.astensor(start)
    return kind.run(model, x, y, epsilon=eps)


def _margin_loss(model: Any, y: Any) -> Callable[[Any], Any]:
    """foolbox's way to say: of a batch x, the sum of max_{j != y} z_j - z_y."""

    def loss(x: Any) -> Any:
        logits = model(x).raw
        own = y.raw[:, None]
        return type(x)((logits.scatter(1, own, -math.inf).amax(1) - logits.gather(1, own)[:, 0]).sum())

    return loss


def _require_norm(norm: str) -> None:
    if norm not in ("l2", "linf"):
        raise ValueError(f'norm must be "l2" or "linf", got {norm!r}')


def require_positive(**values: float) -> None:
    """Raises ValueError for a value that is not above 0 and finite."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be above 0 and finite, got {value}")
