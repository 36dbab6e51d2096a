"""Figure 6: the checkerboard over widths and depths, HanNets over 99% where FCNets stay about 85%.

The paper shows heat maps of train and test accuracy for more than 200 pairs, widths 20 to 100 and depths 2 to 30, each the
best of ten learning rates. Here the grid has every second width and eight depths (figure6-full has all 261 pairs), and a
third family: HanNets with dense ends, which the authors' script trains. On one quiet core HanNets
take about 20 minutes and FCNets more than two hours; records are kept as they come, so the command may be interrupted, or
shared out (docs/sweeps.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from statistics import fmean, median
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from ...reporting.figures import Figure, new_figure
from ...reporting.progress import OnProgress
from ...reporting.tables import Table
from ..base import BaseExperiment, Result, format_seeds
from ..record import Record, Run
from ..store import Store
from . import _board

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FAMILIES: dict[str, dict[str, Any]] = {
    "hannet": {"kind": "HanNet"},
    "dense-ends": {"kind": "HanNet", "dense_ends": True},
    "fcnet": {"kind": "FCNet"},
}
NAMES = {"hannet": "HanNet", "dense-ends": "HanNet, dense ends", "fcnet": "FCNet"}
SHALLOWEST = {"dense-ends": 4}  # three of its hidden layers are dense
PAPER = {"hannet": "over 99", "dense-ends": "over 99", "fcnet": "about 85"}  # test accuracy in %, section 4
MAPS = (("paper", "train"), ("paper", "test"), ("held-out", "test"))


class Experiment(BaseExperiment):
    """Figure 6 for some seeds and families."""

    stem: ClassVar[str] = "figure6"
    parts: ClassVar[tuple[str, ...]] = tuple(FAMILIES)
    partial: ClassVar[bool] = True  # its table and picture leave out what is missing
    widths: ClassVar[Sequence[int]] = (20, 40, 60, 80, 100)
    depths: ClassVar[Sequence[int]] = (2, 4, 8, 12, 16, 20, 25, 30)

    def _sizes(self, family: str) -> list[tuple[int, int]]:
        least = SHALLOWEST.get(family, 2)
        return [(width, depth) for width in self.widths for depth in self.depths if depth >= least]

    def _at_rates(self, family: str, size: tuple[int, int], seed: int) -> list[Run]:
        width, depth = size
        return _board.learning_rate_sweep(FAMILIES[family] | {"width": width, "depth": depth}, seed, self.quick)

    def groups(self) -> list[list[Run]]:
        """The rates of one network and seed are members of one training."""
        return [
            self._at_rates(family, size, seed)
            for family in self.chosen_parts
            for size in self._sizes(family)
            for seed in self.seeds
        ]

    def cost(self, run: Run) -> float:
        """Expected time of a run, in any unit."""
        network = run.config["network"]
        width, depth = network["width"], network["depth"]
        dense = {"FCNet": depth}.get(network["kind"], 2 * network.get("dense_ends", False))
        return 4 + depth * (2 + width) / 25 + dense * (2 + width) ** 2 / 160

    def compute(self, group: Sequence[Run], on_progress: OnProgress) -> list[Result]:
        """Train the runs of one group together."""
        network = group[0].config["network"]
        kind = {name: network[name] for name in ("kind", "dense_ends") if name in network}
        family = next(NAMES[name] for name, options in FAMILIES.items() if options == kind)
        label = f"{family} {network['width']}x{network['depth']}, seed {group[0].seed}"
        return [replace(result, model=None) for result in _board.fit(group, label, on_progress)]

    def table(self, records: Mapping[str, Record]) -> Table:
        """One row per family and selection: what its sizes reach, in %; the picture shows each."""
        columns = {
            "family": ("family", ""),
            "sizes": ("sizes", "{}"),
            "selection": ("selection", ""),
            "test": ("test %", "{:.1f}"),
            "median": ("median", "{:.1f}"),
            "lowest": ("lowest", "{:.1f}"),
            "highest": ("highest", "{:.1f}"),
            "over_99": ("over 99%", "{}"),
            "train": ("train %", "{:.1f}"),
            "paper": ("paper %", ""),
        }
        cases = product(self.chosen_parts, ("paper", "held-out"))
        rows = [
            self._row(family, selection, cells)
            for family, selection in cases
            if (cells := self._cells(family, selection, records))
        ]
        widths, depths = (", ".join(map(str, sizes)) for sizes in (self.widths, self.depths))
        notes = [
            f"{format_seeds(self.seeds)}; widths {widths}; depths {depths} (dense ends: from {SHALLOWEST['dense-ends']})",
            "test, median, lowest, highest, over 99%: over the sizes, each the mean of its seeds",
            *_board.selection_notes(self.quick),
        ]
        return self.make_table("Figure 6: checkerboard over widths and depths", columns, rows, notes)

    @staticmethod
    def _row(family: str, selection: str, cells: "Cells") -> dict[str, Any]:
        test = [cell.test for cell in cells.values()]
        return {
            "family": NAMES[family],
            "sizes": len(cells),
            "selection": selection,
            "test": fmean(test),
            "median": median(test),
            "lowest": min(test),
            "highest": max(test),
            "over_99": sum(value > 99 for value in test),
            "train": fmean(cell.train for cell in cells.values()),
            "paper": PAPER[family] if selection == "paper" else None,
        }

    def _cells(self, family: str, selection: str, records: Mapping[str, Record]) -> "Cells":
        """The sizes that all runs are there of."""
        cells = {}
        for size in self._sizes(family):
            runs = [self._at_rates(family, size, seed) for seed in self.seeds]
            if not all(run.key in records for tried in runs for run in tried):
                continue
            chosen = _board.chosen(selection, runs, records)
            train, test = (
                [100 * _board.metric(r, name) for r in chosen] for name in ("train_accuracy", "test_accuracy")
            )
            cells[size] = Accuracies(fmean(train), fmean(test))
        return cells

    def picture(self, store: Store) -> Figure:
        """Heat maps, width over depth: a column a family; train and test as the paper selects, and test held out."""
        records, families = store.records(), self.chosen_parts
        figure = new_figure(1 + 4.6 * len(families), 8.4)
        axes = figure.subplots(len(MAPS), len(families), sharex=True, sharey=True, squeeze=False)
        for line, (selection, name) in zip(axes, MAPS, strict=True):
            for axis, family in zip(line, families, strict=True):
                values = np.full((len(self.widths), len(self.depths)), np.nan)
                for (width, depth), cell in self._cells(family, selection, records).items():
                    values[self.widths.index(width), self.depths.index(depth)] = getattr(cell, name)
                shown = axis.imshow(values, origin="lower", aspect="auto", cmap="viridis", vmin=60, vmax=100)
                if values.size <= 60:
                    _write(axis, values)
                axis.set_title(f"{NAMES[family]}: {name} ({selection})", fontsize=10)
        for axis in axes[-1]:
            axis.set(xlabel="depth", xticks=range(len(self.depths)), xticklabels=self.depths)
        for axis in axes[:, 0]:
            axis.set(ylabel="width", yticks=range(len(self.widths)), yticklabels=self.widths)
        figure.colorbar(shown, ax=axes, label="accuracy in %", extend="min", shrink=0.8)
        return self.annotate_quick(figure)


class Accuracies(NamedTuple):
    """Of one network, in %, mean over seeds."""

    train: float
    test: float


Cells = dict[tuple[int, int], Accuracies]


def _write(axis: "Axes", values: np.ndarray) -> None:
    """The numbers onto their cells."""
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "black" if value > 90 else "white"
            axis.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=7, color=colour)
