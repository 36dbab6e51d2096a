"""How far a piece of work is, as everything that takes long reports it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ProgressEvent:
    """Where a piece of work stands. What shows it derives rate and time left from the events and their times.

    label: what is worked on. step, total: how much is done, of how much, in `unit`s (such as "it", "epochs", "images"; "" if
    a unit means nothing to a person). metrics: what to show beside it, by name; names that end in "accuracy" or "error" are
    shares. within: the larger work that this is a part of, such as a sweep.

    >>> ProgressEvent("HanNet, seed 0", 500, 40_000, metrics={"loss": 0.25, "test accuracy": 0.981}).fraction
    0.0125
    """

    label: str
    step: float
    total: float
    unit: str = "it"
    metrics: Mapping[str, float | str] = field(default_factory=dict)
    within: "ProgressEvent | None" = None

    @property
    def fraction(self) -> float:
        """The share that is done, from 0 to 1."""
        return self.step / self.total if self.total else 1.0


OnProgress = Callable[[ProgressEvent], None]


def format_metric(name: str, value: float | str) -> str:
    """A metric with its name, such as "loss 0.25" or "test accuracy 98.1%".

    >>> format_metric("test accuracy", 0.981), format_metric("loss", 0.25), format_metric("failed", 2)
    ('test accuracy 98.1%', 'loss 0.25', 'failed 2')
    """
    if isinstance(value, str):
        return f"{name} {value}".strip()
    if name.endswith(("accuracy", "error")):
        return f"{name} {value:.1%}"
    return f"{name} {value:,}" if isinstance(value, int) else f"{name} {value:.3g}"
