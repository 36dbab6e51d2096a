"""The recipe that brings HanNet past 99% on the checkerboard, searched anew for other nets with the same effort.

Not in the paper. Warm-up, cosine and a group lasso on the first layer's rows were found for HanNet; a gain is the layer's only
if other layers lack it under the same recipe. Rate and strength of the lasso are searched here on folds of the training points,
over one grid for all nets; `recipe-controls` then trains each with what it found. As many reflections as there are units make any
rotation: that is the orthogonal net. About 25 minutes on two cores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from statistics import fmean
from typing import Any, ClassVar

from ...reporting.figures import Figure, new_figure
from ...reporting.progress import OnProgress
from ...reporting.tables import Table
from ...train.recipe import Recipe
from ..base import BaseExperiment, Result
from ..record import Record, Run
from ..store import Store
from . import _board

_DENSE_ABS = {
    "kind": "ablation",
    "depth": 6,
    "layers": "dense",
    "activation": "abs",
}  # which starts orthogonal, as HanNet
NETWORKS: dict[str, dict[str, Any]] = {
    "HanNet 100x20": {"kind": "HanNet", "width": 100, "depth": 20},
    "HanNet 100x20, u frozen": {"kind": "frozen HanNet", "width": 100, "depth": 20},
    "orthogonal + ABS 20x10": {"kind": "HanNet", "width": 20, "depth": 10, "reflections": 20},
    "Householder + MaxMin 100x20": {
        "kind": "ablation",
        "width": 100,
        "depth": 20,
        "layers": "householder",
        "activation": "maxmin",
    },
    "dense + ABS 28x6": _DENSE_ABS | {"width": 28},
    "dense + ABS 100x6": _DENSE_ABS | {"width": 100},
    "dense + ReLU 100x6": {"kind": "FCNet", "width": 100, "depth": 6},
}
PARTS = dict(zip(("han", "frozen", "orthogonal", "maxmin", "abs-small", "abs", "relu"), NETWORKS, strict=True))
COST = dict(zip(NETWORKS, (1.0, 1.1, 1.9, 1.5, 0.7, 2.8, 3.8), strict=True))  # time of a step, relative
RATES = (0.01, 0.025, 0.05, 0.1, 0.2)
LASSOS = (0.0, 1e-3, 3e-3, 1e-2)  # the last of each were added for all nets, because some were best at the edge
RECIPE = Recipe(schedule="cosine", warmup=0.05, iterations=20_000)
FOLDS = (0, 1)  # each draws a fifth of the training points to validate on
STARTS = (100, 101)  # seeds that no result uses


def label_of(run: Run) -> str:
    """The name of a run's network."""
    return next(label for label, network in NETWORKS.items() if network == run.config["network"])


class Networks(BaseExperiment):
    """Some of the networks."""

    parts: ClassVar[tuple[str, ...]] = tuple(PARTS)

    @property
    def networks(self) -> list[str]:
        """Their labels."""
        return [PARTS[part] for part in self.chosen_parts]

    def cost(self, run: Run) -> float:
        """Expected time of a run, in any unit."""
        return COST[label_of(run)]


class Experiment(Networks):
    """The search. seeds are not used: its starts are its own."""

    stem: ClassVar[str] = "recipe-search"

    def _grid(self) -> list[Recipe]:
        grid = [replace(RECIPE, lasso=lasso, lr=rate) for lasso, rate in product(LASSOS, RATES)]
        return grid[:2] if self.quick else grid

    def _runs(self, label: str, recipe: Recipe, fold: int) -> list[Run]:
        data = _board.CHECKERBOARD | {"validation": fold}
        return [_board.run(NETWORKS[label], recipe, start, self.quick, data=data) for start in STARTS]

    def groups(self) -> list[list[Run]]:
        """The rates and starts of one network, lasso and fold are members of one training."""
        cells = product(self.networks, FOLDS, LASSOS)
        return [
            group
            for label, fold, lasso in cells
            if (
                group := [
                    r for recipe in self._grid() if recipe.lasso == lasso for r in self._runs(label, recipe, fold)
                ]
            )
        ]

    def compute(self, group: Sequence[Run], on_progress: OnProgress) -> list[Result]:
        """Train the runs of one group together."""
        label = f"{label_of(group[0])}, lasso {Recipe(**group[0].config['recipe']).lasso:g}"
        return [replace(result, model=None) for result in _board.fit(group, label, on_progress)]

    def score(self, label: str, recipe: Recipe, records: Mapping[str, Record]) -> float:
        """Mean validation accuracy over folds, of the start with the lowest training loss."""
        tried = ([records[run.key] for run in self._runs(label, recipe, fold)] for fold in FOLDS)
        return fmean(_board.metric(_board.select("held-out", starts), "test_accuracy") for starts in tried)

    def best(self, label: str, records: Mapping[str, Record]) -> Recipe:
        """The recipe of the highest score; of equal ones the first."""
        return max(self._grid(), key=lambda recipe: self.score(label, recipe, records))

    def table(self, records: Mapping[str, Record]) -> Table:
        """One row a network: what was chosen, and how well each rate did at its best lasso."""
        columns = {
            "network": ("network", ""),
            "size": ("size", "{:,}"),
            "lr": ("rate", "{:g}"),
            "lasso": ("lasso", "{:g}"),
            "validation": ("validation %", "{:.1f}"),
            "median": ("median of the grid", "{:.1f}"),
        }
        rows = []
        for label in self.networks:
            chosen = self.best(label, records)
            scores = sorted(100 * self.score(label, recipe, records) for recipe in self._grid())
            net = _board.build({"network": NETWORKS[label]}, 0)
            row = {"network": label, "size": _board.parameters(net), "lr": chosen.lr, "lasso": chosen.lasso}
            rows.append(row | {"validation": scores[-1], "median": scores[len(scores) // 2]})
        notes = [
            f"rates {', '.join(f'{rate:g}' for rate in RATES)}; lasso {', '.join(f'{lasso:g}' for lasso in LASSOS)}",
            f"{RECIPE.iterations:,} iterations, warm-up {RECIPE.warmup:.0%}, then cosine",
            "validation: accuracy on a fifth of the training points, two folds; of two starts the one with the lowest training loss",
            "the test points decide nothing; size: numbers that are learnt",
        ]
        return self.make_table("One recipe for every net: the search", columns, rows, notes)

    def picture(self, store: Store) -> Figure:
        """Validation accuracy over the grid, a panel a network."""
        records, grid = store.records(), self._grid()
        rates, lassos = (sorted({getattr(recipe, name) for recipe in grid}) for name in ("lr", "lasso"))
        figure = new_figure(2.3 * len(self.networks), 3.0)
        axes = figure.subplots(1, len(self.networks), sharey=True, squeeze=False)[0]
        for axis, label in zip(axes, self.networks, strict=True):
            scores = {(r.lasso, r.lr): 100 * self.score(label, r, records) for r in grid}
            values = [[scores[lasso, rate] for rate in rates] for lasso in lassos]
            shown = axis.imshow(values, origin="lower", cmap="viridis", vmin=50, vmax=100, aspect="auto")
            for (lasso, rate), score in scores.items():
                axis.text(
                    rates.index(rate),
                    lassos.index(lasso),
                    f"{score:.0f}",
                    ha="center",
                    va="center",
                    color="w",
                    fontsize=8,
                )
            axis.set_title(label.replace(" + ", " +\n", 1), fontsize=8)
            axis.set(xticks=range(len(rates)), yticks=range(len(lassos)), xlabel="rate")
            axis.set_xticklabels([f"{rate:g}" for rate in rates], fontsize=8)
            axis.set_yticklabels([f"{lasso:g}" for lasso in lassos], fontsize=8)
        axes[0].set_ylabel("group lasso")
        figure.colorbar(shown, ax=axes, label="validation accuracy in %", extend="min")
        return self.annotate_quick(figure)
