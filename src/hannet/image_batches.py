"""Batches of images, taken and changed on the device where the network is; and how long a step waits for them."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .augment import apply, draw
from .data import Images
from .joint import Processes
from .recipes import ImageRecipe

AT_ONCE = 500  # images to measure on at once: it bounds memory


def seed_of(*parts: int) -> int:
    """A seed for a part of a training, unlike those of other parts."""
    # the length, as numpy takes (1,) and (1, 0) for the same
    return int(np.random.SeedSequence([len(parts), *parts]).generate_state(1, np.uint64)[0] >> np.uint64(1))


class Batches:
    """What this process sees of all batches. What is in one depends on seed, epoch and step alone."""

    def __init__(self, images: Images, recipe: ImageRecipe, seed: int, processes: Processes):
        self.recipe, self.seed, self.processes, self.device = recipe, seed, processes, processes.device
        self.x, self.y = _near(images.x, self.device), images.y.to(self.device)
        self.per_epoch = len(images.y) // recipe.batch
        self.epoch = -1
        self.order = torch.empty(0, dtype=torch.int64)

    def at(self, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """What a step of an epoch trains on: images as the network takes them, and their classes."""
        if epoch != self.epoch:
            generator = torch.Generator().manual_seed(seed_of(self.seed, epoch))
            self.epoch, self.order = epoch, torch.randperm(len(self.y), generator=generator)
        mine = self.recipe.batch // self.processes.count
        start = mine * self.processes.place
        rows = self.order[step * self.recipe.batch :][start : start + mine]
        generator = torch.Generator().manual_seed(seed_of(self.seed, epoch, step))
        height, width = self.x.shape[2:]
        draws = draw(self.recipe.batch, (height, width), self.recipe.augmentation, generator, self.device)
        x, y = self._taken(rows)
        return self._prepared(apply(x, draws.part(start, start + mine))), y

    def parts(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All images, unchanged, a part at a time; processes share the parts."""
        for rows in list(torch.arange(len(self.y)).split(AT_ONCE))[self.processes.place :: self.processes.count]:
            x, y = self._taken(rows)
            yield self._prepared(x), y

    def _taken(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        there = rows.to(self.device, non_blocking=True)
        if self.x.device == self.device:
            return self.x[there], self.y[there]
        return self.x[rows].pin_memory().to(self.device, non_blocking=True), self.y[there]

    def _prepared(self, x: Tensor) -> Tensor:
        x = self.recipe.prepare(x)
        return x.contiguous(memory_format=torch.channels_last) if self.recipe.channels_last else x


def _near(x: Tensor, device: torch.device) -> Tensor:
    """The images on the device, if they take less than half of what is free there; else in memory that it can read."""
    if device.type != "cuda":
        return x
    free, _ = torch.cuda.mem_get_info(device)
    return x.to(device) if 2 * x.nbytes < free else x.pin_memory()


class Watch:
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
        """Of all steps since the last call; waits for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        made = sum(_between(start, made) for start, made, _ in self.steps)
        whole = sum(_between(start, end) for start, _, end in self.steps)
        self.steps = []
        return made / whole if whole else 0.0


def _between(start: Any, end: Any) -> float:
    return float(start.elapsed_time(end) if isinstance(start, torch.cuda.Event) else end - start)
