"""One file per table or figure of the paper, and here what they share.

A file defines `Experiment(seeds, quick)`; `hannet reproduce NAME` finds it by its name in NAMES.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import import_module
from statistics import fmean, stdev
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from ..reporting.figures import Figure
from ..reporting.progress import OnProgress
from ..reporting.tables import Table
from .verdicts import Comparison

if TYPE_CHECKING:
    from torch import nn

    from .record import Record, Run
    from .store import Store

EXPERIMENTS = (
    "figure1",
    "figure3",
    "table2",
    "recipe",
    "smallest",
    "figure6",
    "figure6-full",
    "figure7",
    "figure8",
    "checkerboard-baselines",
    "recipe-search",
    "recipe-controls",
    "table3",
    "table6",
    "table9",
    "table12",
    "table14",
    "narrow-mixer",
    "tabular",
    "tabular-controls",
    "certified-search",
    "certified",
    "feedforward-search",
    "feedforward",
    "depth",
    "distilled",
)


@dataclass(frozen=True)
class Result:
    """What one run gave. model: weights to keep, if any; curves: numbers an epoch, for pictures; device: where it trained."""

    metrics: Mapping[str, float]
    model: "nn.Module | None" = None
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    device: str = "cpu"


class Experiment(Protocol):
    """What `hannet reproduce` asks of an experiment."""

    @property
    def name(self) -> str:
        """Of its files."""

    @property
    def needs_weights(self) -> bool:
        """Whether its picture needs the weights of its runs."""

    @property
    def partial(self) -> bool:
        """Whether its table and picture can leave out what is missing."""

    @property
    def arguments(self) -> list[str]:
        """Those of `hannet reproduce` that make it."""

    @property
    def comparable(self) -> bool:
        """Whether its numbers stand beside the paper's: it is trained in full."""

    def groups(self) -> "list[list[Run]]":
        """The runs, in the groups that train together; a run may stand in several groups."""

    def cost(self, run: "Run") -> float:
        """Expected time of a run, in any unit."""

    def compute(self, group: "Sequence[Run]", on_progress: OnProgress) -> list[Result]:
        """The results of one group's runs."""

    def table(self, records: "Mapping[str, Record]") -> Table:
        """Ours beside the paper's. records: by the key of their run, all runs among them."""

    def picture(self, store: "Store") -> Figure:
        """The picture, from the store's records and models."""


QUICK = "QUICK: a few iterations only, to see that it works; the numbers mean nothing"


@dataclass(frozen=True)
class BaseExperiment:
    """What every experiment here has: seeds, and perhaps some of its parts only.

    quick: a few iterations, to see it work; its numbers mean nothing.
    """

    seeds: tuple[int, ...]
    quick: bool = False
    only: tuple[str, ...] = ()

    stem: ClassVar[str]
    parts: ClassVar[tuple[str, ...]] = ()
    needs_weights: ClassVar[bool] = False
    partial: ClassVar[bool] = False
    trials: ClassVar[int] = 1
    comparisons: ClassVar[tuple[Comparison, ...]] = ()

    @property
    def name(self) -> str:
        """The stem, with the parts if not all of them, and quick if it is."""
        return "-".join([self.stem, *self.only, *(["quick"] if self.quick else [])])

    @property
    def arguments(self) -> list[str]:
        """Those of `hannet reproduce` that make it: its stem, and what differs from the default."""
        count = len(self.seeds)
        seeds = str(count) if self.seeds == tuple(range(count)) else ",".join(map(str, self.seeds)) + "," * (count == 1)
        options = {"--seeds": seeds if self.seeds != tuple(range(self.trials)) else "", "--only": ",".join(self.only)}
        own = [setting for setting in fields(self) if setting.name not in BaseExperiment.__dataclass_fields__]
        values = {f"--{setting.name}": (getattr(self, setting.name), setting.default) for setting in own}
        options |= {name: str(value) for name, (value, default) in values.items() if value != default}
        given = [word for pair in options.items() if pair[1] for word in pair]
        return [self.stem, *given, *(["--quick"] if self.quick else [])]

    @property
    def comparable(self) -> bool:
        """Whether it is trained in full."""
        return not self.quick

    @property
    def chosen_parts(self) -> tuple[str, ...]:
        """Those asked for, else all."""
        return self.only or self.parts

    def make_table(
        self,
        title: str,
        columns: Mapping[str, tuple[str, str]],
        rows: Sequence[Mapping[str, Any]],
        notes: Sequence[str],
    ) -> Table:
        """A table, which says so if it is of a quick run."""
        return Table(title + " (quick)" * self.quick, columns, rows, [QUICK] * self.quick + [*notes])

    def annotate_quick(self, figure: Figure) -> Figure:
        """The picture, which says so if it is of a quick run."""
        if self.quick:
            figure.suptitle(QUICK)
        return figure


def format_seeds(seeds: Sequence[int]) -> str:
    """The seeds in words: "seed 0", "seeds 0, 1"."""
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def mean_and_std(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Over seeds; None where a value is missing or not finite, or where there is but one to have a deviation."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known or len(known) < len(values):
        return None, None
    return fmean(known), stdev(known) if len(known) > 1 else None


def number(metric: float | None) -> float:
    """A metric, or NaN for one that was not finite."""
    return math.nan if metric is None else metric


def describe_experiment(name: str) -> str:
    """What an experiment shows: the first sentence of its file."""
    return " ".join((_module(name).__doc__ or "").split("\n\n")[0].split())


def comparisons(name: str) -> tuple[Comparison, ...]:
    """What an experiment compares with the paper's numbers, and how near counts as the same."""
    return cast("tuple[Comparison, ...]", _module(name).Experiment.comparisons)


def load_experiment(
    name: str, seeds: Sequence[int] | None, quick: bool, only: Sequence[str] = (), **settings: Any
) -> Experiment:
    """The experiment of that name, imported now. seeds: None for as many as the paper's table averages over.

    only: the parts of it to run, for experiments that have parts; settings: of its own, None as if not given.
    Raises ValueError if there are no such parts or settings.
    """
    kind = _module(name).Experiment
    given = {setting: value for setting, value in settings.items() if value is not None}
    own = {f.name for f in fields(kind)} - {f.name for f in fields(BaseExperiment)}
    if foreign := sorted(given.keys() - own):
        raise ValueError(f"{name} has no {foreign[0]}, only {', '.join(sorted(own)) or 'seeds and parts'}")
    known = kind.parts
    if wrong := [part for part in only if part not in known]:
        raise ValueError(f"{wrong[0]!r} is not a part of {name}, which has {', '.join(known) or 'no parts'}")
    chosen = [tuple(part for part in known if part in only)] if only else []
    return cast("Experiment", kind(tuple(seeds or range(kind.trials)), quick, *chosen, **given))


def _module(name: str) -> ModuleType:
    return import_module(f".paper.{name.replace('-', '_')}", __package__)
