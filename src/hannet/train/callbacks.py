"""What a training tells those who follow it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..reporting.progress import OnProgress, ProgressEvent


@dataclass
class TrainingState:
    """Where a training stands.

    Attributes:
        step: Steps done; `total` at the end, also where the training ends early.
        total: Steps of the whole training.
        epoch: Passes over the rows done, of `epochs`.
        epochs: Passes of the whole training.
        seconds: Time since the training began.
        loss: (members,), NaN for those that diverged: at the end of an epoch the mean over it, measured before each step; else of
            the last step, or of the epoch so far.
        predict: x (n, in) or (members, n, in) -> (members, n, out), without gradients; NaN for those that diverged.
        snapshot_best: Takes a mask (members,): these members' networks end with their present parameters instead of the last.
        error: At the end of an epoch, the share of the training rows that were misclassified, where targets are classes.
        checkpoint_error: Why the last checkpoint could not be written.

    """

    step: int
    total: int
    epoch: int
    epochs: int
    seconds: float
    loss: Tensor
    predict: Callable[[Tensor], Tensor]
    snapshot_best: Callable[[Tensor], None]
    error: float | None = None
    checkpoint_error: OSError | None = None
    stopped: bool = field(default=False, init=False)

    def stop(self) -> None:
        """End the training here."""
        self.stopped = True


class Callback:
    """Follows a training: override what you need.

    >>> class StopEarly(Callback):
    ...     def on_epoch_end(self, state):
    ...         if float(state.loss.min()) < 1e-3:
    ...             state.stop()
    """

    def on_progress(self, state: TrainingState) -> None:
        """Called about twice a second, and at the end."""

    def on_epoch_end(self, state: TrainingState) -> None:
        """Called after each pass over the training rows."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of it, as JSON."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` gave."""


class ProgressReporter(Callback):
    """Passes the progress of a training on as ProgressEvents.

    metrics: what to show of a state, the mean loss by default; scale: units a step, such as its images.
    """

    def __init__(
        self,
        report: OnProgress,
        label: str,
        metrics: Callable[[TrainingState], Mapping[str, float | str]] | None = None,
        *,
        unit: str = "it",
        scale: int = 1,
    ):
        self.report, self.label, self.unit, self.scale = report, label, unit, scale
        self.metrics = metrics or (lambda state: {"loss": float(state.loss.nanmean())})

    def on_progress(self, state: TrainingState) -> None:
        """Report it."""
        metrics = dict(self.metrics(state))
        if error := state.checkpoint_error:
            metrics[""] = f"no checkpoint could be written ({error.strerror or error})"
        step, total = state.step * self.scale, state.total * self.scale
        self.report(ProgressEvent(self.label, step, total, self.unit, metrics))
