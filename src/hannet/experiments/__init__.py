"""One file per table or figure of the paper, and here what they share.

A file defines `Experiment(seeds, quick)`; `hannet reproduce NAME` finds it by its name in NAMES.
"""

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import nn

from ..runs import Record, Run, Store

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = (
    "figure1",
    "figure3",
    "table2",
    "recipe",
    "smallest",
    "figure6",
    "figure6-full",
    "table3",
    "figure7",
    "checkerboard-baselines",
    "table9",
    "tabular",
)


@dataclass(frozen=True)
class Table:
    """Rows of plain values. columns: heading and number format (or "") by key; a row may lack a key."""

    title: str
    columns: Mapping[str, tuple[str, str]]
    rows: Sequence[Mapping[str, Any]]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Status:
    """Where a training stands. metrics: what to show of it, or ""."""

    label: str
    step: int
    steps: int
    rate: float  # steps a second
    metrics: str
    unit: str = "it"  # what a step is


@dataclass(frozen=True)
class Progress:
    """Where a whole experiment stands. left: seconds, None before it can be guessed."""

    group: int
    groups: int
    fraction: float
    left: float | None
    status: Status


@dataclass(frozen=True)
class Result:
    """What one run gave. model: weights to keep, if any; curves: numbers an epoch, for pictures."""

    metrics: Mapping[str, float]
    model: nn.Module | None = None
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)


class Experiment(Protocol):
    """What `hannet reproduce` asks of an experiment."""

    name: str
    draws_models: bool  # whether its picture needs the weights of its runs

    def groups(self) -> list[list[Run]]:
        """The runs, in the groups that train together; a run may stand in several groups."""

    def cost(self, run: Run) -> float:
        """Expected time of a run, in any unit."""

    def compute(self, group: Sequence[Run], on_status: Callable[[Status], None]) -> list[Result]:
        """The results of one group's runs."""

    def table(self, records: Mapping[str, Record]) -> Table:
        """Ours beside the paper's. records: by the key of their run, all runs among them."""

    def picture(self, store: Store) -> "Figure":
        """The picture, from the store's records and models."""


def seeds_named(seeds: Sequence[int]) -> str:
    """The seeds in words: "seed 0", "seeds 0, 1"."""
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def load(name: str, seeds: Sequence[int] | None, quick: bool, only: Sequence[str] = ()) -> Experiment:
    """The experiment of that name, imported now. seeds: None for as many as the paper's table averages over.

    only: the parts of it to run, for experiments that have parts. Raises ValueError if there are no such parts.
    """
    kind = import_module(f".{name.replace('-', '_')}", __package__).Experiment
    known = getattr(kind, "parts", ())
    if wrong := [part for part in only if part not in known]:
        raise ValueError(f"{wrong[0]!r} is not a part of {name}, which has {', '.join(known) or 'no parts'}")
    chosen = [tuple(part for part in known if part in only)] if only else []
    return cast("Experiment", kind(tuple(seeds or range(kind.trials)), quick, *chosen))


def perform(experiment: Experiment, store: Store, on_progress: Callable[[Progress], None], jobs: int = 1) -> int:
    """Compute what the store lacks, `jobs` groups at a time, and keep each group as it ends. Returns how many runs that were.

    Several jobs are processes, each on its share of the threads: for small networks that is faster than threads inside.
    """
    groups = sorted(_pending(experiment, store), key=lambda group: -sum(map(experiment.cost, group)))
    track = _Tracker([sum(map(experiment.cost, group)) for group in groups], on_progress)
    if min(jobs, len(groups)) > 1:
        _share_out(experiment, store, groups, track, min(jobs, len(groups)))
    else:
        for number, group in enumerate(groups):
            _compute(experiment, store, group, partial(track, number))
    return sum(map(len, groups))


class _Tracker:
    """Turns the statuses of the groups into the progress of the whole."""

    def __init__(self, costs: Sequence[float], on_progress: Callable[[Progress], None]):
        self.costs, self.on_progress = costs, on_progress
        self.shares = [0.0] * len(costs)
        self.first: tuple[float, float] | None = None

    def __call__(self, number: int, status: Status) -> None:
        self.shares[number] = status.step / status.steps
        done = sum(cost * share for cost, share in zip(self.costs, self.shares, strict=True)) / sum(self.costs)
        now = time.perf_counter()
        then, before = self.first = self.first or (now, done)
        left = (now - then) * (1 - done) / (done - before) if done > before else None
        self.on_progress(Progress(number + 1, len(self.costs), done, left, status))


def _compute(experiment: Experiment, store: Store, group: Sequence[Run], report: Callable[[Status], None]) -> None:
    began = time.perf_counter()
    results = experiment.compute(group, report)
    share = (time.perf_counter() - began) / len(group)
    pairs = list(zip(group, results, strict=True))
    for run, result in pairs:
        if result.model is not None:
            store.save_model(run, result.model)
    store.append([Record.of(run, result.metrics, share, result.curves) for run, result in pairs])


class _Worker:
    """What a worker process knows: where its statuses go."""

    reports: Any

    @classmethod
    def start(cls, reports: Any, threads: int) -> None:
        cls.reports = reports
        torch.set_num_threads(threads)

    @classmethod
    def work(cls, experiment: Experiment, store: Store, number: int, group: Sequence[Run]) -> None:
        _compute(experiment, store, group, lambda status: cls.reports.put((number, status)))


def _share_out(
    experiment: Experiment, store: Store, groups: Sequence[Sequence[Run]], track: _Tracker, jobs: int
) -> None:
    context = multiprocessing.get_context("spawn")
    reports = context.SimpleQueue()
    threads, others = max(1, torch.get_num_threads() // jobs), set(multiprocessing.active_children())
    with ProcessPoolExecutor(jobs, context, _Worker.start, (reports, threads)) as pool:
        with _deaf_to_interrupts():  # and so are the workers, which inherit it: Ctrl-C is answered here
            futures = [
                pool.submit(_Worker.work, experiment, store, number, group) for number, group in enumerate(groups)
            ]
        try:
            waiting = set(futures)
            while waiting:
                done, waiting = wait(waiting, timeout=0.2)
                while not reports.empty():
                    track(*reports.get())
                for future in done:
                    future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in set(multiprocessing.active_children()) - others:
                child.terminate()
            raise


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _pending(experiment: Experiment, store: Store) -> list[list[Run]]:
    """The groups without the runs that are there already or stand in an earlier group; empty groups left out."""
    groups = experiment.groups()
    runs = (run for group in groups for run in group)
    missing = {run.key: run for run in store.missing(runs, models=experiment.draws_models)}
    pending = [[missing.pop(run.key) for run in group if run.key in missing] for group in groups]
    return [group for group in pending if group]
