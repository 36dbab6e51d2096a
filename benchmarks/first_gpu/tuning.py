"""Which tiles of rows are fastest on this device: a table for hannet/ops/cuda/tiles.json, better than its rule by 3% at least.

And whether one launch a pass is faster than several where rows are few, which the rule takes for granted.
"""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple
from unittest.mock import patch

import torch

from gpu import SHAPES, compare, device, seconds_of, synchronize
from hannet.ops.cuda import launch, tiles
from hannet.ops.cuda.tiles import Tile
from hannet.storage.files import write_atomic
from registers import SHAPES as ALL_SHAPES

from .keeping import Keeper
from .workers import in_parallel

DIRECTIONS = "forward", "backward"
_BETTER = 0.97  # of the rule's time
_ROUNDS, _BURST = 9, 0.02  # in which a tile and the rule's take turns, and seconds of each
_TINY = ["9x20x2", "9x5x2"]


class Form(NamedTuple):
    """A shape's pass."""

    direction: str
    rows: int
    width: int
    depth: int

    @property
    def key(self) -> str:
        """In the table."""
        return tiles.key(self.direction, *launch.chunks_of(self.width), torch.float32)

    def candidates(self) -> list[Tile]:
        """The rule's first, then those beside it."""
        columns, chunks = launch.chunks_of(self.width)
        rule = tiles.large(columns, chunks)
        found = [rule]
        for warps in (rule.warps, rule.warps // 2, 2 * rule.warps):
            if max(1, columns // 128) <= warps <= 16:
                found += [tiles.large(columns, chunks, most, warps) for most in (64, 32, 128, 16)]
        return [tile for tile in dict.fromkeys(found) if tile.rows > 0]


def forms(rehearsal: bool) -> list[Form]:
    """What is tuned, the shapes that matter most first, both passes."""
    shapes = _TINY if rehearsal else [*SHAPES, *(shape for shape in ALL_SHAPES if shape not in SHAPES)]
    return [Form(direction, *map(int, shape.split("x"))) for shape in shapes for direction in DIRECTIONS]


def use(table: tiles.Table) -> None:
    """Has this process take tiles from the table."""
    tiles.measured = lambda: table
    launch.forget_plans()


def use_found(keeper: Keeper) -> None:
    """The same with what was found earlier, if anything was."""
    path = keeper.out / "tiles.json"
    if path.exists():
        use(json.loads(path.read_text()))


@contextlib.contextmanager
def only(form: Form, tile: Tile, capability: str) -> Iterator[None]:
    """Inside, a form's pass takes this tile."""
    before = tiles.measured
    use({capability: {form.key: list(tile)}})
    try:
        yield
    finally:
        tiles.measured = before
        launch.forget_plans()


def outputs_of(form: Form, rows: int) -> tuple[list[torch.Tensor], Callable[[], object]]:
    """What the pass gives, and what repeats it."""
    generator = torch.Generator(device()).manual_seed(0)
    x = torch.randn(rows, form.width, generator=generator, device=device()).to(torch.bfloat16)
    u, b = torch.randn(2, form.depth, form.width, generator=generator, device=device()).to(torch.bfloat16)
    b /= form.width**0.5
    again = partial(launch.forward, x, u, b, 1, True, True)
    if form.direction == "backward":
        again = partial(launch.backward, x, *again(), u, b, 1, True)
    return list(again()), again


def compile_all(rehearsal: bool) -> None:
    """Compiles the candidates in processes of their own, into Triton's cache: compiling takes longer than measuring."""
    jobs = [(form, tile) for form in forms(rehearsal) for tile in form.candidates()]
    with contextlib.suppress(SystemExit):  # measuring finds out what breaks
        in_parallel(_compile, jobs[: 1 if rehearsal else None], rehearsal)


def _compile(jobs: Sequence[tuple[Form, Tile]]) -> None:
    for form, tile in jobs:
        # some do not fit, which measuring finds out
        with contextlib.suppress(Exception), only(form, tile, capability()):
            outputs_of(form, min(form.rows, 64 * tile.rows))


def capability() -> str:
    """Of the device, as the table has it."""
    return launch.capability(device())


@contextlib.contextmanager
def alone_up_to(columns: int) -> Iterator[None]:
    """Inside, a pass over few rows is one launch up to a width."""
    with patch.object(tiles, "_ALONE", columns):
        launch.forget_plans()
        yield
    launch.forget_plans()


def one_launch(members: int, rehearsal: bool) -> dict[str, float]:
    """Both passes of 100x100x20 in a launch each, over the five that they would be else: called from Python, and in a graph."""
    shape = (5, 20, 2) if rehearsal else (100, 100, 20)
    x = torch.randn(members, *shape[:2], device=device())
    u, b = torch.randn(2, members, shape[2], shape[1], device=device())

    def passes() -> None:
        y, signs = launch.forward(x, u, b, 1, True, True)
        launch.backward(x, y, signs, u, b, 1, True)

    graphs, widths = {}, (tiles._ALONE, 0)
    for width in widths:
        with alone_up_to(width):
            passes()
            graphs[width] = captured(passes)
    ratios: dict[str, list[float]] = {"from Python": [], "in a graph": []}
    for _ in range(1 if rehearsal else _ROUNDS):
        for label, found in ratios.items():
            taken = []
            for width in widths:
                with alone_up_to(width):
                    taken.append(
                        seconds_of(graphs[width] if label == "in a graph" else passes, 1 if rehearsal else 300)
                    )
            found.append(taken[0] / taken[1])
    return {f"one launch over several, {label}": median(found) for label, found in ratios.items()}


def captured(work: Callable[[], None]) -> Callable[[], None]:
    """The same as a graph; as it is on a CPU."""
    if device().type != "cuda":
        return work
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def tune(keeper: Keeper, _folder: Path) -> None:
    """Measures whether one launch is faster for few rows, and every form's candidates; writes the table after each."""
    compile_all(keeper.rehearsal)
    for members in (1, 2 if keeper.rehearsal else 50):
        keeper.tell(f"one launch, {members} members", partial(one_launch, members, keeper.rehearsal))
    found: dict[str, list[int]] = {}
    for form in forms(keeper.rehearsal):
        best = keeper.tell(
            f"{form.direction} {form.rows}x{form.width}x{form.depth}", lambda form=form: _best(form, keeper), needs=1
        )
        if best and best["time over the rule's"] < _BETTER:
            found[form.key] = [int(best[name]) for name in Tile._fields]
        write_atomic(keeper.out / "tiles.json", json.dumps({capability(): found}, indent=1).encode() + b"\n")


def _best(form: Form, keeper: Keeper) -> dict[str, float]:
    times: dict[Tile, float] = {}
    truth: list[torch.Tensor] = []
    for tile in form.candidates()[: 2 if keeper.rehearsal else None]:
        if keeper.left <= 0 and times:
            break
        with only(form, tile, capability()):
            try:
                outputs, again = outputs_of(form, form.rows)
                synchronize()
            except Exception as error:  # noqa: BLE001  it needs more than a multiprocessor has; the others count
                print(f"{tile}: {type(error).__name__}: {str(error)[:200]}", flush=True)
                continue
            truth = truth or outputs
            if not all(_near(*pair) for pair in zip(outputs, truth, strict=True)):
                raise AssertionError(f"{tile} gives other numbers than the rule's tile")
            times[tile] = compare({"": again}, 0.0 if keeper.rehearsal else 0.1)[""]
        del outputs, again
    if not times:
        raise RuntimeError("no tile works")
    best = min(times, key=times.__getitem__)
    metrics = {
        "microseconds": 1e6 * times[best],
        "time over the rule's": _over_rule(form, best, times, keeper.rehearsal),
    }
    return metrics | {"candidates": len(times)} | {name: float(value) for name, value in best._asdict().items()}


def _over_rule(form: Form, tile: Tile, times: Mapping[Tile, float], rehearsal: bool) -> float:
    """A tile's time over that of the rule's, median of rounds in turn; 0 if the rule's does not work.

    The smallest of many times is small by luck too, and the first was taken while the clocks still rose.
    """
    rule = form.candidates()[0]
    if rule not in times:
        return 0.0
    again, ratios = outputs_of(form, form.rows)[1], []
    for _ in range(1 if rehearsal else _ROUNDS):
        taken = []
        for each in (tile, rule):
            with only(form, each, capability()):
                taken.append(seconds_of(again, 1 if rehearsal else max(1, int(_BURST / times[each]))))
        ratios.append(taken[0] / taken[1])
    return median(ratios)


def _near(found: torch.Tensor, truth: torch.Tensor) -> bool:
    """Sums in another order; a sign bit in many may differ."""
    if found.dtype == torch.uint8:
        return found.shape == truth.shape and bool(((found != truth).sum() <= 1e-3 * truth.numel() + 1).item())
    return bool(((found - truth).float().norm() <= 0.02 * truth.float().norm()).item())
