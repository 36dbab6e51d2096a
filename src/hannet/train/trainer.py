"""One training loop, for networks of one shape side by side and for any single module."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .arguments import check_arguments
from .batches import RowBatches
from .callbacks import Callback, TrainingState
from .checkpoint import Checkpointer, SaveResult, open_checkpoint
from .distributed import SingleProcess
from .ensemble import Ensemble
from .ensemble_backend import EnsembleBackend
from .interruption import deferred_signals, raise_interruption
from .module_backend import ModuleBackend
from .recipe import Recipe

_AGREE_AT_LEAST_EVERY = 50  # steps between two questions to the other processes


class Backend(Protocol):
    """What does the steps of a training.  is_main: whether this process reports and writes."""

    is_main: bool
    device: torch.device
    track_epochs: bool
    per_epoch: int
    total: int

    def step(self, number: int) -> bool:
        """The step of that number, from 1 on. Returns whether a network is left to train."""

    def predict(self, x: Tensor, /) -> Tensor:
        """What the networks make of x, without gradients.  (n, ...) -> (members, n, out)."""

    def loss(self) -> Tensor:
        """What to report of the last steps.  (members,)."""

    def end_epoch(self) -> tuple[Tensor, float | None]:
        """The mean loss over the epoch, (members,), and the share of rows misclassified, if targets are classes."""

    def snapshot_best(self, better: Tensor, /) -> None:
        """Remembers the parameters of these members, for the networks to end with."""

    def finish(self) -> None:
        """Leaves the networks as they are to be used."""

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All of the state, for a checkpoint: tensors, and values for JSON."""

    def load_state_dict(self, tensors: dict[str, Tensor], entries: dict[str, Any], step: int, /) -> None:
        """What `state_dict` gave after so many steps."""


class Trainer:
    """Runs the steps of a backend: epochs, callbacks, checkpoints, and what signals ask for."""

    def __init__(
        self,
        backend: Backend,
        callbacks: Sequence[Callback] = (),
        *,
        every: float = 0.5,
        checkpointer: Checkpointer | None = None,
    ):
        """every: seconds between two reports of progress."""
        self.backend, self.callbacks, self.every, self.checkpointer = backend, callbacks, every, checkpointer
        self.reporting = backend.is_main and any(_overrides(callback, "on_progress") for callback in callbacks)
        backend.track_epochs |= any(_overrides(callback, "on_epoch_end") for callback in callbacks)
        self.step, self.over = 0, False
        self.start = self.asked = time.perf_counter()
        self.unasked, self.ask_after = 0, 1

    def run(self) -> None:
        """Trains to the end, from the checkpoint if there is one. The global random state is afterwards as it was.

        Members draw nothing from it, so that their training leaves it to other threads.
        """
        backend, total, per_epoch = self.backend, self.backend.total, self.backend.per_epoch
        if self.checkpointer:
            self.checkpointer.load(self._restore)
        signals: AbstractContextManager[list[int]] = deferred_signals() if self.checkpointer else nullcontext([])
        with signals as caught, self._forked_draws():
            reported = self.start
            while not self.over:
                self.step += 1
                over = not backend.step(self.step)
                if backend.track_epochs and self.step % per_epoch == 0:
                    over = self._end_epoch() or over
                self.over = over or self.step == total
                now = time.perf_counter()
                if self.reporting and (self.over or now - reported > self.every):
                    self._report()
                    reported = now
                if self.checkpointer:
                    self._checkpoint(self.checkpointer, caught[0] if caught else 0)
        backend.finish()

    def _forked_draws(self) -> AbstractContextManager[None]:
        if not isinstance(self.backend, ModuleBackend):
            return nullcontext()
        device = self.backend.device
        return torch.random.fork_rng([device] if device.type == "cuda" else [])

    def _state(self, loss: Tensor, **more: Any) -> TrainingState:
        backend, per_epoch = self.backend, self.backend.per_epoch
        epochs, seconds = backend.total // per_epoch, time.perf_counter() - self.start
        step = backend.total if self.over else self.step
        predict, snapshot = backend.predict, backend.snapshot_best
        return TrainingState(
            step, backend.total, self.step // per_epoch, epochs, seconds, loss, predict, snapshot, **more
        )

    def _end_epoch(self) -> bool:
        loss, error = self.backend.end_epoch()
        state = self._state(loss, error=error)
        for callback in self.callbacks:
            callback.on_epoch_end(state)
        return state.stopped

    def _report(self, **more: Any) -> None:
        state = self._state(self.backend.loss(), **more)
        for callback in self.callbacks:
            callback.on_progress(state)
        self.over = self.over or state.stopped

    def _checkpoint(self, checkpointer: Checkpointer, caught: int) -> None:
        """Saves the state where it is time to, and ends where a signal asks for it."""
        number, due = self._agreed(checkpointer.processes, caught, due=checkpointer.due())
        saved = False
        if due or self.over:
            result = self._save(checkpointer)
            saved = not result.error
            if result.error and self.reporting:
                self._report(checkpoint_error=result.error)
        if number and (saved or not self.over):  # what is over and not saved would be lost
            raise_interruption(number, str(self._save(checkpointer)))

    def _save(self, checkpointer: Checkpointer) -> SaveResult:
        tensors, entries = self.backend.state_dict()
        entries |= {"step": self.step, "over": self.over, "callbacks": [each.state_dict() for each in self.callbacks]}
        return checkpointer.save(tensors, entries)

    def _restore(self, tensors: dict[str, Tensor], entries: dict[str, Any]) -> int:
        self.step, self.over = entries["step"], entries["over"]
        self.backend.load_state_dict(tensors, entries, self.step)
        for callback, state in zip(self.callbacks, entries["callbacks"], strict=True):
            callback.load_state_dict(state)
        return self.step

    def _agreed(self, processes: SingleProcess, number: int, *, due: bool) -> tuple[int, bool]:
        """The signal that any process caught, 0 if none did, and whether to save the state: the same in all, about once a second."""
        if processes.count == 1:
            return number, due
        self.unasked += 1
        if self.unasked < self.ask_after and not self.over:
            return 0, False
        now = time.perf_counter()
        milliseconds = int(1000 * (now - self.asked) / self.unasked) + 1
        number, any_due, slowest = processes.all_reduce_max(number, int(due), milliseconds)
        self.asked, self.unasked, self.ask_after = now, 0, min(max(1000 // slowest, 1), _AGREE_AT_LEAST_EVERY)
        return number, bool(any_due)


def _overrides(callback: Callback, name: str) -> bool:
    return getattr(type(callback), name) is not getattr(Callback, name)


def device() -> torch.device:
    """Where experiments train: the GPU, if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def train(
    networks: Sequence[nn.Module],
    recipes: Sequence[Recipe],
    seeds: Sequence[int],
    x: Tensor,
    y: Tensor,
    *,
    rows: Tensor | None = None,
    weights: Tensor | None = None,
    callbacks: Sequence[Callback] = (),
    every: float = 0.5,
    checkpoint: Path | None = None,
    minutes: float = 10.0,
) -> None:
    """Trains networks of one shape together, in place.

    On a GPU the steps are replayed as a CUDA graph, if one can hold them. A network whose loss is no longer finite is left as it
    stands, and the others continue. Parameters that do not require gradients stay as they are.

    Args:
        networks: On the device of x and y, where they train. With `ema` or another precision than fp32, one alone.
        recipes: One for each; they may differ in lr, weight_decay, orthogonal, optimizer and momentum.
        seeds: One for each, for the order of the batches: a network's result does not depend on the others.
        x: (n, in).
        y: (n, out).
        rows: (members, m), the rows of x and y that each network trains on (default: all).
        weights: (n,), of the rows in the loss.
        callbacks: Follow the training, in their order.
        every: Seconds between two calls of `on_progress`.
        checkpoint: Folder for the state of the training: after SIGTERM, Ctrl-C or a crash the same call resumes from there.
        minutes: Minutes between two checkpoints.

    Raises:
        ValueError: The arguments do not go together.
        TrainingError: A single module (with `ema` or another precision) diverged.
        TerminatedError: SIGTERM ended a training with a checkpoint.
        CheckpointError: The checkpoint is damaged or belongs to another training.
        StoreError: Another training uses the checkpoint folder.

    >>> import torch
    >>> from hannet import HanNet
    >>> x = torch.linspace(-1, 1, 200)[:, None]
    >>> net = HanNet(1, 1, width=16, depth=4)
    >>> train([net], [Recipe(lr=0.02, iterations=500)], [0], x, x.abs())
    >>> bool((net(x) - x.abs()).square().mean() < 0.01)
    True

    """
    recipe = check_arguments(networks, recipes, seeds, x, y, rows, weights)
    columns = [x, y] if weights is None else [x, y, weights]
    batches, processes = RowBatches(columns, rows, seeds, recipe.batch), SingleProcess(x.device)
    data = columns if rows is None else [*columns, rows]
    with open_checkpoint(checkpoint, minutes, processes, networks, recipes, seeds, data) as checkpointer:
        backend: Backend
        if recipe.ema or recipe.precision != "fp32":
            backend = ModuleBackend(networks[0], recipes[0], seeds[0], batches, processes)
        else:
            backend = EnsembleBackend(networks, recipes, recipe, batches)
        Trainer(backend, callbacks, every=every, checkpointer=checkpointer).run()


def predict(networks: Sequence[nn.Module], x: Tensor) -> Tensor:
    """What each network makes of x, without gradients.  x: (n, in) -> (members, n, out)."""
    return Ensemble(networks).predict(x)
