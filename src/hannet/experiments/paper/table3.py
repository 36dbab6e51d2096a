"""Table 3: which parts of a HanNet the checkerboard needs, the reflections, the absolute value, or both.

The paper's seven nets (section 4.2) under the protocol of Figure 1, each the best of ten learning rates: Householder layers of
width 100 and depth 20 with ABS (that is HanNet), ReLU, MaxMin and GroupSort; fully connected layers with ABS; and such layers
kept near orthogonal by a penalty beta * sum_i ||W_i^T W_i - I||_F^2, with ABS and with ReLU.

GroupSort(5) is read as five groups, of 20: the number of groups is what the sorting function takes that the authors of
GroupSort published. Groups of five stand in a row of our own, (d5).

The paper names neither the size of the dense nets nor how they start nor beta: they have the size of Figure 1's FCNet (width
100, depth 6) and start orthogonal as a HanNet's dense layers do (from Kaiming's distribution nets with ABS diverge at all ten
rates). Beta is 0.0001: of that, 0.001, 0.01 and 0.1 it did best with ABS on a fifth of the training points; with ReLU it tied
with two others, all of them close to a constant (docs/log.md). Five seeds take hours on one thread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, ClassVar, NamedTuple

from ...reporting.figures import Figure, new_figure
from ...reporting.progress import OnProgress
from ...reporting.tables import Table
from ...train.recipe import Recipe
from ..base import BaseExperiment, Result, format_seeds, mean_and_std
from ..record import Record, Run
from ..store import Store
from ..verdicts import Comparison
from . import _board


class Row(NamedTuple):
    """A net of the table. beta: strength of the orthogonal penalty; paper: its test accuracy in %, if there; cost: of a step."""

    layers: str
    activation: str
    network: Mapping[str, Any]
    beta: float
    paper: float | None
    cost: float


def _net(layers: str, activation: str) -> dict[str, Any]:
    return {"kind": "ablation", "width": 100, "depth": DEPTHS[layers], "layers": layers, "activation": activation}


DEPTHS = {"householder": 20, "dense": 6}
BETA = 1e-4
ROWS = {
    "a": Row("Householder", "ABS", {"kind": "HanNet", "width": 100, "depth": 20}, 0.0, 99.2, 1.0),
    "b": Row("Householder", "ReLU", _net("householder", "relu"), 0.0, 66.2, 4.0),
    "c": Row("Householder", "MaxMin", _net("householder", "maxmin"), 0.0, 77.6, 8.0),
    "d": Row("Householder", "GroupSort, 5 groups", _net("householder", "groupsort20"), 0.0, 81.4, 14.0),
    "d5": Row("Householder", "GroupSort, groups of 5", _net("householder", "groupsort5"), 0.0, None, 9.0),
    "e": Row("dense", "ABS", _net("dense", "abs"), 0.0, 85.3, 4.5),
    "f1": Row("dense, orthogonal", "ABS", _net("dense", "abs"), BETA, 86.7, 7.0),
    "f2": Row("dense, orthogonal", "ReLU", _net("dense", "relu"), BETA, 75.5, 7.0),
}
SELECTIONS = ("paper", "held-out")


class Experiment(BaseExperiment):
    """Table 3 for some seeds and rows."""

    stem: ClassVar[str] = "table3"
    comparisons: ClassVar[tuple[Comparison, ...]] = (
        Comparison(
            "paper_test", "paper", 2.0, ["row", "layers", "activation"], "test %", "paper_std", without={"row": "(a)"}
        ),  # (a) is the HanNet of Figure 1, which compares it
    )
    parts: ClassVar[tuple[str, ...]] = tuple(ROWS)
    trials: ClassVar[int] = 5

    def groups(self) -> list[list[Run]]:
        """The rates of one net and seed are members of one training."""
        return [self._at_rates(row, seed) for row in self.chosen_parts for seed in self.seeds]

    def _at_rates(self, row: str, seed: int) -> list[Run]:
        return _board.learning_rate_sweep(ROWS[row].network, seed, self.quick, recipe=Recipe(orthogonal=ROWS[row].beta))

    def _row(self, run: Run) -> str:
        beta = run.config["recipe"].get("orthogonal", 0.0)
        return next(name for name, row in ROWS.items() if (row.network, row.beta) == (run.config["network"], beta))

    def cost(self, run: Run) -> float:
        """Expected time of a run, in any unit."""
        return ROWS[self._row(run)].cost

    def compute(self, group: Sequence[Run], on_progress: OnProgress) -> list[Result]:
        """Train the runs of one group together."""
        name = self._row(group[0])
        label = f"({name}) {ROWS[name].layers}, {ROWS[name].activation}, seed {group[0].seed}"
        return [replace(result, model=None) for result in _board.fit(group, label, on_progress)]

    def table(self, records: Mapping[str, Record]) -> Table:
        """One row per net, beside the paper's; accuracies in %, mean and standard deviation over seeds."""
        columns = {
            "row": ("row", ""),
            "layers": ("layers", ""),
            "activation": ("activation", ""),
            "parameters": ("size", "{:,}"),
            "paper_test": ("test %", "{:.1f}"),
            "paper_std": ("std", "{:.1f}"),
            "paper": ("paper %", "{:.1f}"),
            "paper_train": ("train %", "{:.1f}"),
            "held-out_test": ("held-out %", "{:.1f}"),
            "held-out_std": ("std", "{:.1f}"),
            "rates": ("rates", ""),
        }
        rows = []
        for name in self.chosen_parts:
            chosen = {selection: self._chosen(name, selection, records) for selection in SELECTIONS}
            row = ROWS[name]
            shown = {"row": f"({name})", "layers": row.layers, "activation": row.activation, "paper": row.paper}
            shown["parameters"] = _board.parameters(_board.build(chosen["paper"][0].config, 0))
            for selection, picked in chosen.items():
                test = [100 * _board.metric(record, "test_accuracy") for record in picked]
                shown[f"{selection}_test"], shown[f"{selection}_std"] = mean_and_std(test)
                shown[f"{selection}_train"] = fmean(100 * _board.metric(record, "train_accuracy") for record in picked)
            shown["rates"] = _board.rates_of(chosen["paper"])
            rows.append(shown)
        notes = [
            f"{format_seeds(self.seeds)}; 1,640 training points, 4,921 test points; size: number of parameters; std: over seeds",
            "test, std, train, rates: under the selection paper",
            *_board.selection_notes(self.quick),
            f"orthogonal: with {BETA:g} * sum_i ||W_i^T W_i - I||^2 added to the loss",
        ]
        return self.make_table("Table 3: ablation on the checkerboard", columns, rows, notes)

    def _chosen(self, row: str, selection: str, records: Mapping[str, Record]) -> list[Record]:
        return _board.chosen(selection, (self._at_rates(row, seed) for seed in self.seeds), records)

    def picture(self, store: Store) -> Figure:
        """A bar for each net and selection, every seed a dot, the paper's number a line."""
        records = store.records()
        figure = new_figure(10, 4.4)
        axis = figure.subplots()
        for offset, selection in zip((-0.2, 0.2), SELECTIONS, strict=True):
            for place, name in enumerate(self.chosen_parts):
                test = [100 * _board.metric(r, "test_accuracy") for r in self._chosen(name, selection, records)]
                label = f"ours ({selection})" if place == 0 else None
                colour = f"C{SELECTIONS.index(selection)}"
                axis.bar(place + offset, fmean(test), 0.38, color=colour, alpha=0.6, label=label)
                axis.scatter([place + offset] * len(test), test, s=8, color="black", zorder=3)
        paper = {n: value for n, name in enumerate(self.chosen_parts) if (value := ROWS[name].paper) is not None}
        left, right = ([place + side for place in paper] for side in (-0.45, 0.45))
        axis.hlines(list(paper.values()), left, right, color="C3", zorder=4, label="paper")
        names = [
            "\n".join((f"({name})", *ROWS[name].layers.split(" "), *ROWS[name].activation.split(", ")))
            for name in self.chosen_parts
        ]
        axis.set(xticks=range(len(names)), xticklabels=names, ylabel="test accuracy in %", ylim=(50, 101))
        figure.legend(loc="outside lower center", ncols=3)
        axis.set_title("Checkerboard: what a HanNet needs (dots: seeds)")
        return self.annotate_quick(figure)
