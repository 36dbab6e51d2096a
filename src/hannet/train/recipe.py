"""How networks are trained, as plain values."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch

from . import losses
from .schedules import SCHEDULES, Schedule

OPTIMIZERS = ("sgd", "adam", "adamw")
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Args:
        lr: Learning rate, which the schedule multiplies.
        momentum: Momentum of "sgd".
        weight_decay: Strength of the decay of all parameters.
        schedule: "steps" (the rate x factor at each milestone), "cosine" (to 0) or "constant".
        milestones: Shares of all steps.
        factor: What the rate is multiplied by at each milestone.
        warmup: Share of all steps over which the rate rises linearly from 0.
        lasso: Strength of a group lasso on the rows of the first layer's weight, lasso * sum_i ||w_i||, which leaves few
            units that look at the input.
        orthogonal: Strength of orthogonal * sum_i ||W_i^T W_i - I||_F^2 over the weights of all nn.Linear.
        batch: Rows a step, of all processes together.
        iterations: Steps in all, unless epochs are given.
        epochs: Passes over the rows; 0 to count iterations instead.
        optimizer: "sgd", "adam", or "adamw" (weight decay decoupled from the gradient).
        loss: "mse"; "cross_entropy" of the outputs / temperature, for targets that are probabilities; "multi_margin" and
            "hkr", with a margin, for targets that are classes.
        temperature: Temperature of "cross_entropy".
        margin: Margin of "multi_margin" and "hkr".
        alpha: Weight of the hinge in "hkr".
        defence: Trains on FGSM samples at linf distance eps, of inputs in [0, 1]: "adversarial" on those alone, "trades" on the
            inputs with beta times the divergence of the outputs on the samples (adversarial.py).
        eps: Distance of the samples of a defence.
        beta: Weight of the divergence in "trades".
        ema: Decay of the average of the weights that is measured and kept instead of the last ones; 0 for none.
        precision: "fp32", or "bf16" or "fp16" for what autocast computes in them.

    Raises:
        ValueError: A value is out of range.

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
    epochs: int = 0
    optimizer: str = "sgd"
    loss: str = "mse"
    temperature: float = 1.0
    margin: float = 1.0
    alpha: float = 10.0
    defence: str = ""
    eps: float = 0.1
    beta: float = 6.0
    ema: float = 0.0
    precision: str = "fp32"

    def __post_init__(self) -> None:
        for name, known in (
            ("optimizer", OPTIMIZERS),
            ("loss", losses.NAMES),
            ("schedule", SCHEDULES),
            ("precision", PRECISIONS),
        ):
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        if not (self.lr > 0 and 0 <= self.momentum < 1 and 0 <= self.warmup < 1 and 0 <= self.ema < 1):
            raise ValueError(f"lr must be above 0, momentum, warmup and ema at least 0 and below 1, got {self}")
        if not (self.weight_decay >= 0 and self.lasso >= 0 and self.orthogonal >= 0):
            raise ValueError(f"weight_decay, lasso and orthogonal must be at least 0, got {self}")
        if not 0 < self.factor < math.inf or not all(0 <= milestone <= 1 for milestone in self.milestones):
            raise ValueError(
                f"factor must be above 0 and milestones from 0 to 1, got {self.factor} and {self.milestones}"
            )
        if any(type(n) is not int for n in (self.batch, self.iterations, self.epochs)) or (
            min(self.batch, self.iterations) < 1 or self.epochs < 0
        ):
            sizes = f"{self.batch}, {self.iterations} and {self.epochs}"
            raise ValueError(f"batch, iterations and epochs must be integers, at least 1, got {sizes}")
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
        """What differs from the default recipe, so that a record keeps its key when a recipe gains a setting."""
        defaults = asdict(type(self)())
        return {name: value for name, value in asdict(self).items() if value != defaults[name]}

    def steps(self, per_epoch: int) -> int:
        """Steps of the whole training, with so many an epoch."""
        return self.epochs * per_epoch or self.iterations

    def learning_rates(self, steps: int) -> Schedule:
        """The multiplier of lr over a training of so many steps."""
        return Schedule(self.schedule, steps, self.milestones, self.factor, self.warmup)
