"""How networks are trained, as plain values."""

import math
from dataclasses import dataclass, fields
from typing import Any

from . import losses


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    schedule: "steps" (the rate x factor at each milestone), "cosine" (to 0) or "constant".
    optimizer: "sgd" (with momentum), "adam", or "adamw" (weight decay decoupled from the gradient).
    loss: "mse"; of targets that are probabilities of classes "cross_entropy" of the outputs / temperature; of targets that are
    classes "multi_margin" and "hkr", with a margin, and in hkr alpha times its hinge.
    defence: train on FGSM samples at linf distance eps, of inputs in [0, 1]: "adversarial" on those alone, "trades" on the inputs
    with beta times the divergence of the outputs on the samples (defences.py).
    warmup: the share of all iterations over which the rate rises linearly from 0.
    lasso: strength of a group lasso on the rows of the first layer's weight, lasso * sum_i ||w_i||, which leaves few units
    that look at the input.
    orthogonal: strength of orthogonal * sum_i ||W_i^T W_i - I||_F^2 over the weights of all nn.Linear.
    """

    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "steps"
    milestones: tuple[float, ...] = (0.5, 0.7, 0.9)
    factor: float = 0.2
    warmup: float = 0.0
    lasso: float = 0.0
    orthogonal: float = 0.0
    batch: int = 100
    iterations: int = 40_000
    optimizer: str = "sgd"
    loss: str = "mse"
    temperature: float = 1.0
    margin: float = 1.0
    alpha: float = 10.0
    defence: str = ""
    eps: float = 0.1
    beta: float = 6.0

    def __post_init__(self) -> None:
        if self.optimizer not in ("sgd", "adam", "adamw"):
            raise ValueError(f"optimizer must be sgd, adam or adamw, got {self.optimizer!r}")
        if self.loss not in losses.NAMES:
            raise ValueError(f"loss must be one of {', '.join(losses.NAMES)}, got {self.loss!r}")
        if self.schedule not in ("steps", "cosine", "constant"):
            raise ValueError(f"schedule must be steps, cosine or constant, got {self.schedule!r}")
        if not (self.lr > 0 and 0 <= self.momentum < 1 and 0 <= self.warmup < 1):
            raise ValueError(f"lr must be above 0, momentum and warmup at least 0 and below 1, got {self}")
        if not (self.weight_decay >= 0 and self.lasso >= 0 and self.orthogonal >= 0):
            raise ValueError(f"weight_decay, lasso and orthogonal must be at least 0, got {self}")
        if self.batch < 1 or self.iterations < 1:
            raise ValueError(f"batch and iterations must be at least 1, got {self.batch} and {self.iterations}")
        if self.defence not in ("", "adversarial", "trades") or (self.defence and self.loss != "cross_entropy"):
            raise ValueError(
                f"defence must be adversarial or trades, with the loss cross_entropy, got {self.defence!r}"
            )
        if not all(value > 0 for value in (self.temperature, self.margin, self.alpha, self.eps, self.beta)):
            raise ValueError(f"temperature, margin, alpha, eps and beta must be above 0, got {self}")

    def loss_function(self) -> losses.Loss:
        """The loss with its constants."""
        return losses.loss(self.loss, self.temperature, self.margin, self.alpha)

    def differences(self) -> dict[str, Any]:
        """What differs from the default recipe, so that a record keeps its name when a recipe learns something new."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}

    def rate(self, step: int) -> float:
        """The learning rate at `step`, as a multiple of lr."""
        done = step / self.iterations
        if done < self.warmup:
            return (step + 1) / (self.warmup * self.iterations)
        if self.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * (done - self.warmup) / (1 - self.warmup)))
        if self.schedule == "constant":
            return 1.0
        return self.factor ** sum(done >= milestone for milestone in self.milestones)
