"""The stages in order of value: what each does, and its share of the time."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

import gpu
from hannet.ops import dispatch

from . import correctness, pictures, profiling, tuning
from .keeping import Keeper

_TINY = ["6x5x2"]


class Stage(NamedTuple):
    """share: of the time, beside those of the other stages; tiles: whether it takes those that the stage `tune` found, if there are any."""

    name: str
    share: float
    run: Callable[[Keeper, Path], None]
    tiles: bool = False


def environment(keeper: Keeper, _folder: Path) -> None:
    """What `hannet info` says, and the memory's speed."""

    def work() -> dict[str, float]:
        size = 1 << (12 if keeper.rehearsal else 30)
        source = torch.randint(0, 255, (size,), dtype=torch.uint8, device=gpu.device())
        target = torch.empty_like(source)
        seconds = gpu.compare({"copy": lambda: target.copy_(source)}, 0.0 if keeper.rehearsal else 0.3)["copy"]
        found = {"copy: GB/s read and written": 2 * size / seconds / 1e9}
        if torch.cuda.is_available():
            about = torch.cuda.get_device_properties(0)
            found |= {"multiprocessors": about.multi_processor_count, "GiB": about.total_memory / 2**30}
        return found

    keeper.tell("copy", work, implementations=[list(choice) for choice in dispatch.kernel_choices()])


def speed(keeper: Keeper, _folder: Path) -> None:
    """HanStack beside what one would use instead, but torch.compile."""
    for shape in _TINY if keeper.rehearsal else gpu.SHAPES:
        sizes = map(int, shape.split("x"))
        seconds = 0.0 if keeper.rehearsal else 0.4
        keeper.tell(shape, lambda sizes=tuple(sizes), seconds=seconds: gpu.beside_eager(*sizes, seconds))


def compiled(keeper: Keeper, _folder: Path) -> None:
    """HanStack beside torch.compile."""
    for mode in ["eager"] if keeper.rehearsal else gpu.MODES:
        for shape in _TINY if keeper.rehearsal else gpu.SHAPES:
            sizes = map(int, shape.split("x"))
            seconds = 0.0 if keeper.rehearsal else 0.4
            work = lambda sizes=tuple(sizes), mode=mode, seconds=seconds: gpu.beside_compiled(*sizes, mode, seconds)  # noqa: E731
            keeper.tell(shape, work, mode=mode)


def members(keeper: Keeper, _folder: Path) -> None:
    """Fifty networks that train under a graph."""
    options: dict[str, Any] = {"between": (200, 2200)}
    if keeper.rehearsal:
        options = {"between": (1, 2), "many": 2, "width": 5, "depth": 3}
    keeper.tell("HanNet 100x20", lambda: gpu.members(1, **options))


FIRST = (
    Stage("environment", 10, environment),
    Stage("correctness", 60, correctness.check),
    Stage("speed", 60, speed),
    Stage("tune", 70, tuning.tune),
    Stage("steps", 40, pictures.steps, tiles=True),
    Stage("cifar", 110, pictures.train, tiles=True),
    Stage("members", 20, members),
    Stage("profile", 30, profiling.trace, tiles=True),
    Stage("compile", 60, compiled, tiles=True),
)
MORE = (
    Stage("speed of found tiles", 40, speed, tiles=True),
    Stage("longer", 200, partial(pictures.train, more=2), tiles=True),
    Stage("compile", 60, compiled, tiles=True),
    Stage("others", 160, pictures.more, tiles=True),
)
