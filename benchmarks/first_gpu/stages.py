"""The stages in order of value: what each does, and its share of the time."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

import gpu
from hannet.ops import dispatch

from . import correctness, pictures, profiling, tuning
from .keeping import Keeper

_TINY = ["6x5x2"]


class Stage(NamedTuple):
    """share: of the time, beside those of the other stages; what a stage leaves is there for those after it."""

    name: str
    share: float
    run: Callable[[Keeper, Path], None]


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


def check(keeper: Keeper, _folder: Path) -> None:
    """The kernels against float64."""
    correctness.check(keeper)


def speed(keeper: Keeper, _folder: Path) -> None:
    """HanStack beside what one would use instead, but torch.compile."""
    for shape in _TINY if keeper.rehearsal else gpu.SHAPES:
        sizes = map(int, shape.split("x"))
        seconds = 0.0 if keeper.rehearsal else 0.4
        keeper.tell(shape, lambda sizes=tuple(sizes), seconds=seconds: gpu.beside_eager(*sizes, seconds))


def speed_of_found(keeper: Keeper, folder: Path) -> None:
    """The same with the tiles that were found."""
    tuning.use_found(keeper)
    speed(keeper, folder)


def compiled(keeper: Keeper, _folder: Path) -> None:
    """HanStack beside torch.compile."""
    tuning.use_found(keeper)
    for mode in ["eager"] if keeper.rehearsal else gpu.MODES:
        for shape in _TINY if keeper.rehearsal else gpu.SHAPES:
            sizes = map(int, shape.split("x"))
            seconds = 0.0 if keeper.rehearsal else 0.4
            work = lambda sizes=tuple(sizes), mode=mode, seconds=seconds: gpu.beside_compiled(*sizes, mode, seconds)  # noqa: E731
            keeper.tell(shape, work, mode=mode)


def tune(keeper: Keeper, _folder: Path) -> None:
    """Tiles of rows."""
    tuning.tune(keeper)


def steps(keeper: Keeper, folder: Path) -> None:
    """A step of every row of Table 12."""
    tuning.use_found(keeper)
    pictures.steps(keeper, folder)


def cifar(keeper: Keeper, folder: Path) -> None:
    """Four rows of Table 12 on CIFAR-10."""
    tuning.use_found(keeper)
    pictures.train(keeper, folder)


def longer(keeper: Keeper, folder: Path) -> None:
    """The same for as many epochs as this stage's time has room for."""
    tuning.use_found(keeper)
    pictures.train(keeper, folder, 2)


def others(keeper: Keeper, folder: Path) -> None:
    """MobileViT and CIFAR-100."""
    tuning.use_found(keeper)
    pictures.more(keeper, folder)


def members(keeper: Keeper, _folder: Path) -> None:
    """Fifty networks that train under a graph."""

    def work() -> dict[str, float]:
        between, few, many, network = (200, 2200), 1, 50, {}
        if keeper.rehearsal:
            between, few, many, network = (1, 2), 1, 2, {"width": 5, "depth": 3}
        one, fifty = (gpu.step_of(count, between, **network) for count in (few, many))
        return {"members: microseconds": fifty * 1e6, "members: 50 over 1": fifty / one}

    keeper.tell("HanNet 100x20", work)


def trace(keeper: Keeper, _folder: Path) -> None:
    """Profiles."""
    tuning.use_found(keeper)
    profiling.trace(keeper)


FIRST = (
    Stage("environment", 10, environment),
    Stage("correctness", 60, check),
    Stage("speed", 60, speed),
    Stage("tune", 70, tune),
    Stage("steps", 40, steps),
    Stage("cifar", 110, cifar),
    Stage("members", 20, members),
    Stage("profile", 30, trace),
    Stage("compile", 60, compiled),
)
MORE = (
    Stage("speed of found tiles", 40, speed_of_found),
    Stage("longer", 200, longer),
    Stage("compile", 60, compiled),
    Stage("others", 160, others),
)
