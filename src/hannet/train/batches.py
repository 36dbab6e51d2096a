"""Shuffled batches of rows, and how long a step waits for its batch."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

_GATHER = 1 << 23  # numbers gathered at once, as many batches as that makes: fewer calls, bounded memory


def seed_of(*parts: int) -> int:
    """A seed for a part of a training, unlike those of other parts."""
    # the length, as numpy takes (1,) and (1, 0) for the same
    return int(np.random.SeedSequence([len(parts), *parts]).generate_state(1, np.uint64)[0] >> np.uint64(1))


class BatchSource(Protocol):
    """Where a single network's batches come from."""

    per_epoch: int

    def at(self, epoch: int, step: int, /) -> Sequence[Tensor]:
        """Inputs and targets, and perhaps weights, of a step of an epoch; steps are asked for in their order."""

    def state_dict(self) -> dict[str, Tensor]:
        """What the next batches depend on."""

    def load_state_dict(self, state: Mapping[str, Tensor], step: int) -> None:
        """Continue after so many steps."""


class RowBatches:
    """Shuffled batches without end.  Members of one seed see the same; a last batch that is not full is left out."""

    def __init__(self, columns: Sequence[Tensor], rows: Tensor | None, seeds: Sequence[int], batch: int):
        self.columns, self.seeds = columns, list(seeds)
        self.rows = None if rows is None else rows.cpu()
        self.n = len(columns[0]) if rows is None else rows.shape[1]
        self.batch = min(batch, self.n)
        self.per_epoch = self.n // self.batch
        self.generators = {seed: torch.Generator().manual_seed(seed) for seed in seeds}
        self.states: dict[int, Tensor] = {}  # of the generators before the present pass was drawn
        self.skipped = 0  # batches of the first pass that were taken before a checkpoint
        size = len(self.seeds) * self.batch * sum(column[0].numel() for column in columns)
        self.at_once = min(max(_GATHER // size, 1), 64)
        self._batches: Iterator[list[Tensor]] | None = None

    def passes(self) -> Iterator[Tensor]:
        """The rows of all batches of one pass after the other, (batches, members, batch), on the device of the columns.

        They are drawn on the CPU, so that the seed means the same everywhere.
        """
        while True:
            self.states = {seed: generator.get_state() for seed, generator in self.generators.items()}
            drawn = {seed: torch.randperm(self.n, generator=g, device="cpu") for seed, g in self.generators.items()}
            order = torch.stack([drawn[seed] for seed in self.seeds])
            if self.rows is not None:
                order = self.rows.gather(1, order)
            order = order[:, : self.per_epoch * self.batch].view(len(self.seeds), self.per_epoch, self.batch)
            yield _to_device(order.transpose(0, 1), self.columns[0].device)

    def __iter__(self) -> Iterator[list[Tensor]]:
        """Batches: a part (members, batch, ...) of every column (n, ...)."""
        for order in self.passes():
            for some in order[self.skipped :].split(self.at_once):
                yield from map(list, zip(*(column[some] for column in self.columns), strict=True))
            self.skipped = 0

    def at(self, _epoch: int, _step: int, /) -> list[Tensor]:
        """The first member's next batch."""
        self._batches = self._batches or iter(self)
        return [part[0] for part in next(self._batches)]

    def state_dict(self) -> dict[str, Tensor]:
        """The generators' states before the present pass."""
        return {str(seed): state for seed, state in self.states.items()}

    def load_state_dict(self, state: Mapping[str, Tensor], step: int) -> None:
        """Continue after so many steps, at least one."""
        for seed, generator in self.generators.items():
            generator.set_state(state[str(seed)])
        self.skipped = (step - 1) % self.per_epoch + 1


def _to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Move a tensor, to a GPU without waiting for it."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.contiguous().pin_memory().to(device, non_blocking=True)


class LoaderTimer:
    """How much of a step's time makes its batch, on the clock of the device."""

    every = 8  # one step in so many is timed

    def __init__(self, device: torch.device):
        self.device = device
        self.steps: list[list[Any]] = []

    def _now(self) -> Any:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    @contextmanager
    def step(self, number: int) -> Iterator[Callable[[], None]]:
        """Around a step; it gives what to call when the batch is made."""
        if number % self.every:
            yield lambda: None
            return
        times = [self._now()]
        yield lambda: times.append(self._now())
        self.steps.append([*times, self._now()])

    def share(self) -> float:
        """The share of all steps' time since the last call; waits for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        waited = sum(_between(start, made) for start, made, _ in self.steps)
        total = sum(_between(start, end) for start, _, end in self.steps)
        self.steps = []
        return waited / total if total else 0.0


def _between(start: Any, end: Any) -> float:
    return float(start.elapsed_time(end) if isinstance(start, torch.cuda.Event) else end - start)
