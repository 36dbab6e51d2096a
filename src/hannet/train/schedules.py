"""How the learning rate changes over a training, the same for every kind of training."""

import math
from dataclasses import dataclass

SCHEDULES = ("steps", "cosine", "constant")


@dataclass(frozen=True)
class Schedule:
    """The multiplier of the learning rate over a training of so many steps.

    name: "steps" (x factor at each milestone, a share of the training), "cosine" (to 0) or "constant".
    warmup: the share of the training over which the multiplier rises linearly to 1.
    """

    name: str
    steps: int
    milestones: tuple[float, ...] = ()
    factor: float = 1.0
    warmup: float = 0.0

    def rate(self, progress: float) -> float:
        """The multiplier, from 0 to 1, of the step that follows when this share of the training is done.

        >>> Schedule("steps", 100, milestones=(0.5,), factor=0.2).rate(0.7)
        0.2
        """
        if progress < self.warmup:  # counted in steps, so that the first is above 0
            return (round(progress * self.steps) + 1) / (self.warmup * self.steps)
        if self.name == "cosine":
            return 0.5 * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup)))
        if self.name == "constant":
            return 1.0
        return self.factor ** sum(progress >= milestone for milestone in self.milestones)
