"""Callbacks of the estimators' trainings: members kept at their best epoch, and lines for `verbose`."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..train.callbacks import Callback, TrainingState
from ..train.schedules import Schedule

_LINE_EVERY = 2  # seconds between the lines of verbose=1


class EarlyStopping(Callback):
    """Keeps each member at its best validation loss, and ends the training when none improves any more.

    patience: epochs without a gain of any member that end the training, None for no end; validate: the loss on held-out rows,
    (members,), None where there are none. best_epochs: (members,), 0 for a diverged member; the last epoch without validation.
    history: mean losses of the living members after each epoch.
    """

    def __init__(self, members: int, patience: int | None, validate: Callable[[TrainingState], Tensor] | None):
        self.patience, self.validate = patience, validate
        self.best = torch.full((members,), torch.inf, dtype=torch.float32, device="cpu")
        self.best_epochs = torch.zeros(members, dtype=torch.int64, device="cpu")
        self.history: dict[str, list[float]] = {"loss": [], "validation": []}

    def on_epoch_end(self, state: TrainingState) -> None:
        """Compares the members with their best so far."""
        self.history["loss"].append(_finite_mean(state.loss))
        if self.validate is None:
            self.best_epochs = state.loss.isfinite() * state.epoch
            return
        loss = self.validate(state)
        self.history["validation"].append(_finite_mean(loss))
        better = loss < self.best
        state.snapshot_best(better)
        self.best[better], self.best_epochs[better] = loss[better], state.epoch
        if self.patience is not None and state.epoch - int(self.best_epochs.max()) >= self.patience:
            state.stop()

    def state_dict(self) -> dict[str, Any]:
        """Losses that are not finite become None, as JSON has none."""
        best = _jsonable(self.best.tolist())
        history = {name: _jsonable(values) for name, values in self.history.items()}
        return {"best": best, "best_epochs": self.best_epochs.tolist(), "history": history}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """What `state_dict` gave."""
        best = [math.inf if value is None else value for value in state["best"]]
        self.best = torch.tensor(best, dtype=torch.float32, device="cpu")
        self.best_epochs = torch.tensor(state["best_epochs"], dtype=torch.int64, device="cpu")
        for name, values in state["history"].items():
            self.history[name][:] = [math.nan if value is None else value for value in values]


class VerboseLines(Callback):
    """Prints a line after every epoch, or about every two seconds."""

    def __init__(self, history: Mapping[str, list[float]], schedule: Schedule, lr: float, *, every_epoch: bool):
        self.history, self.schedule, self.lr, self.every_epoch = history, schedule, lr, every_epoch

    def on_epoch_end(self, state: TrainingState) -> None:
        """Prints what is known of the epoch."""
        before = state.seconds * (1 - 1 / state.epoch)
        last = state.stopped or state.epoch == state.epochs
        if self.every_epoch or last or before // _LINE_EVERY != state.seconds // _LINE_EVERY:
            losses = [f"{name} {values[-1]:.4g}" for name, values in self.history.items() if values]
            left = 0 if last else state.seconds / state.epoch * (state.epochs - state.epoch)
            progress = f"epoch {state.epoch}/{state.epochs}: {', '.join(losses)}"
            rate = self.lr * self.schedule.rate((state.epoch - 1) / state.epochs)
            print(f"{progress}, rate {rate:.2g}, {left:.0f} s left")


def _finite_mean(values: Tensor) -> float:
    return float(values[values.isfinite()].mean())


def _jsonable(values: list[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values]
