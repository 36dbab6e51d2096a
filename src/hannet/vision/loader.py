"""Batches of images, taken and changed on the device where the network is."""

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

import torch
from torch import Tensor

from ..data import Images
from ..train.batches import seed_of
from ..train.distributed import SingleProcess
from .augmentation import apply, draw
from .preprocessing import EVALUATION_BATCH, normalise_and_resize
from .recipe import ImageRecipe


class Batches:
    """What this process sees of all batches. What is in one depends on seed, epoch and step alone."""

    def __init__(self, images: Images, recipe: ImageRecipe, seed: int, processes: SingleProcess):
        self.recipe, self.seed, self.processes, self.device = recipe, seed, processes, processes.device
        self.x, self.y = _to_device_if_it_fits(images.x, self.device), images.y.to(self.device)
        self.on_device = self.x.device.type == self.device.type  # one of the two may come with a number
        self.copy_stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" and not self.on_device else None
        self.prefetcher: Prefetcher[tuple[int, int], Tensor] = Prefetcher(
            lambda place: self._start_copy(self._rows(*place))
        )
        self.per_epoch = len(images.y) // recipe.batch
        self.epoch = -1
        self.order = torch.empty(0, dtype=torch.int64, device="cpu")

    def at(self, epoch: int, step: int, /) -> tuple[Tensor, Tensor]:
        """What a step of an epoch trains on: images as the network takes them, and their classes."""
        rows = self._rows(epoch, step)
        generator = torch.Generator().manual_seed(seed_of(self.seed, epoch, step))
        height, width = self.x.shape[2:]
        draws = draw(self.recipe.batch, (height, width), self.recipe.augmentation, generator, self.device)
        start = len(rows) * self.processes.place
        y = self._classes(rows)
        following = (epoch, step + 1) if step + 1 < self.per_epoch else (epoch + 1, 0)
        x = self._images(rows) if self.on_device else self.prefetcher.get((epoch, step), following)
        return self._prepare(apply(x, draws.part(start, start + len(rows)))), y

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing: a batch depends on its step alone."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor], step: int) -> None:
        """Nothing to do."""

    def _rows(self, epoch: int, step: int) -> Tensor:
        """The places of this process's images of a step."""
        if epoch != self.epoch:
            generator = torch.Generator().manual_seed(seed_of(self.seed, epoch))
            self.epoch, self.order = epoch, torch.randperm(len(self.y), generator=generator, device="cpu")
        mine = self.recipe.batch // self.processes.count
        start = step * self.recipe.batch + mine * self.processes.place
        return self.order[start : start + mine]

    def parts(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All images, unchanged, a part at a time; processes share the parts."""
        parts = torch.arange(len(self.y), device="cpu").split(EVALUATION_BATCH)
        for rows in parts[self.processes.place :: self.processes.count]:
            yield self._prepare(self._images(rows)), self._classes(rows)

    def _classes(self, rows: Tensor) -> Tensor:
        return self.y[rows.to(self.device, non_blocking=True)]

    def _images(self, rows: Tensor) -> Tensor:
        return self.x[rows.to(self.device, non_blocking=True)] if self.on_device else self._start_copy(rows)()

    def _start_copy(self, rows: Tensor) -> Callable[[], Tensor]:
        """Images on their way to the device, beside what it computes; what it gives waits for them."""
        if self.copy_stream is None:
            x = self.x[rows].to(self.device)
            return lambda: x
        pinned = torch.empty(len(rows), *self.x.shape[1:], dtype=self.x.dtype, pin_memory=True, device="cpu")
        torch.index_select(self.x, 0, rows, out=pinned)
        with torch.cuda.stream(self.copy_stream):
            x = pinned.to(self.device, non_blocking=True)
            copied = self.copy_stream.record_event()

        def wait() -> Tensor:
            current = torch.cuda.current_stream(self.device)
            current.wait_event(copied)
            x.record_stream(current)  # else its memory might be filled again before it is read
            return x

        return wait

    def _prepare(self, x: Tensor) -> Tensor:
        x = normalise_and_resize(x, self.recipe.mean, self.recipe.std, self.recipe.resize)
        return x.contiguous(memory_format=torch.channels_last) if self.recipe.channels_last else x


def _to_device_if_it_fits(x: Tensor, device: torch.device) -> Tensor:
    """The images on the device, if they take less than half of what is free there; else where they are."""
    if device.type != "cuda":
        return x
    free, _ = torch.cuda.mem_get_info(device)
    return x.to(device) if 2 * x.nbytes < free else x


Key = TypeVar("Key")
Thing = TypeVar("Thing")


class Prefetcher(Generic[Key, Thing]):
    """What is asked for one after the other, each begun while the one before it is in use.

    begin: key -> what waits for the thing that was begun, and gives it.
    """

    def __init__(self, begin: Callable[[Key], Callable[[], Thing]]):
        self.begin = begin
        self.begun: dict[Key, Callable[[], Thing]] = {}

    def get(self, key: Key, following: Key) -> Thing:
        """The thing of a key; that of the following one is on its way when this returns."""
        wait = self.begun.pop(key, None) or self.begin(key)
        thing = wait()
        self.begun = {following: self.begin(following)}
        return thing
