"""What is the layer's own: nets of other layers trained by HanNet's recipe, each with the rate and lasso that its own search found.

Not in the paper. `recipe-search` chose rate and lasso on folds of the training points of one split. Every net gets the same
iterations and four starts, and keeps the start with the lowest training loss: the test points decide nothing. Five seeds on that
split, and, of all but the two large dense nets, one seed on each of four others and on the authors' own. About 35 minutes on two cores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any, ClassVar

from ...reporting.figures import Figure, new_figure
from ...reporting.progress import OnProgress
from ...reporting.tables import Table
from ...train.recipe import Recipe
from ..base import Result, format_seeds, mean_and_std
from ..record import Record, Run
from ..store import Store
from . import _board
from ._paired import permutation_p
from .recipe_search import NETWORKS, RECIPE, Networks, label_of

CHOSEN = {  # rate and lasso, by recipe-search
    "HanNet 100x20": (0.05, 1e-3),
    "HanNet 100x20, u frozen": (0.05, 0.0),
    "orthogonal + ABS 20x10": (0.1, 1e-3),
    "dense + ABS 28x6": (0.05, 3e-3),
    "dense + ABS 100x6": (0.025, 3e-3),
    "dense + ReLU 100x6": (0.025, 3e-3),
}
RESTARTS = 4
SPLITS: dict[str, list[dict[str, Any]]] = {
    "split 0": [_board.CHECKERBOARD],
    "splits 1 to 4": [_board.CHECKERBOARD | {"split_seed": seed} for seed in (1, 2, 3, 4)],
    "authors' split": [{"squares": 12, "split": "authors"}],
}
SEEDS_ELSEWHERE = 1  # on each split but the first
SPLIT_0_ONLY = ("dense + ABS 100x6", "dense + ReLU 100x6")  # the large nets, whose runs take longest
HAN = next(iter(NETWORKS))


class Experiment(Networks):
    """The controls for some seeds."""

    stem: ClassVar[str] = "recipe-controls"
    trials: ClassVar[int] = 5

    def _runs(self, label: str, splits: str) -> list[list[Run]]:
        """By split."""
        rate, lasso = CHOSEN[label]
        recipe = replace(RECIPE, lr=rate, lasso=lasso, iterations=Recipe().iterations)
        seeds = self.seeds if splits == "split 0" else self.seeds[:SEEDS_ELSEWHERE]
        return [
            [_board.run(NETWORKS[label], recipe, seed, self.quick, data=data, restarts=RESTARTS) for seed in seeds]
            for data in SPLITS[splits]
        ]

    def groups(self) -> list[list[Run]]:
        """The seeds of one network and split are members of one training."""
        return [
            group for label in self.networks for splits in self._splits(label) for group in self._runs(label, splits)
        ]

    def _splits(self, label: str) -> list[str]:
        return ["split 0"] if label in SPLIT_0_ONLY else list(SPLITS)

    def compute(self, group: Sequence[Run], on_progress: OnProgress) -> list[Result]:
        """Train the runs of one group together."""
        data = group[0].config["data"]
        results = _board.fit(
            group, f"{label_of(group[0])}, split {data.get('split_seed', 'of the authors')}", on_progress
        )
        return [replace(result, model=None) for result in results]

    def _accuracies(self, label: str, splits: str, records: Mapping[str, Record]) -> list[float]:
        some = SPLITS if splits == "all" else [splits]
        runs = (run for part in some for group in self._runs(label, part) for run in group)
        return [100 * _board.metric(records[run.key], "test_accuracy") for run in runs]

    def table(self, records: Mapping[str, Record]) -> Table:
        """One row a network and kind of split; test accuracy in %, and a paired test against HanNet."""
        columns = {
            "network": ("network", ""),
            "size": ("size", "{:,}"),
            "splits": ("points", ""),
            "test": ("test %", "{:.1f}"),
            "std": ("std", "{:.1f}"),
            "median": ("median", "{:.1f}"),
            "lowest": ("lowest", "{:.1f}"),
            "highest": ("highest", "{:.1f}"),
            "behind": ("behind HanNet", "{:.1f}"),
            "p": ("p", "{:.3f}"),
            "recipe": ("rate, lasso", ""),
        }
        rows = []
        for label in self.networks:
            size = _board.parameters(_board.build({"network": NETWORKS[label]}, 0))
            for splits in [*self._splits(label), *["all"] * (label not in SPLIT_0_ONLY)]:
                test = self._accuracies(label, splits, records)
                mean, std = mean_and_std(test)
                row = {"network": label, "size": size, "splits": splits, "test": mean, "std": std, "runs": len(test)}
                row |= {"median": median(test), "lowest": min(test), "highest": max(test)}
                if HAN in self.networks and label != HAN:
                    han = self._accuracies(HAN, splits, records)
                    row |= {"behind": sum(han) / len(han) - sum(test) / len(test), "p": permutation_p(han, test)}
                rows.append(row | {"recipe": "{:g}, {:g}".format(*CHOSEN[label])})
        notes = [
            f"split 0: {format_seeds(self.seeds)}; elsewhere {format_seeds(self.seeds[:SEEDS_ELSEWHERE])} on each split",
            "the two large dense nets: split 0 alone, for their runs take longest",
            f"{Recipe().iterations:,} iterations, of {RESTARTS} starts the one with the lowest training loss; the same for every net",
            "rate, lasso: by recipe-search, on folds of the training points of split 0, one grid for all nets",
            "p: exact paired permutation test of the mean difference from HanNet, over splits and seeds, two-sided, not corrected",
            "p of five pairs is 0.062 at least, of four 0.125",
            "size: numbers that are learnt; std over splits and seeds",
        ]
        return self.make_table("One recipe for every net: checkerboard", columns, rows, notes)

    def picture(self, store: Store) -> Figure:
        """Every run's test accuracy, a column a network."""
        records = store.records()
        figure = new_figure(10.0, 4.2)
        axis = figure.subplots()
        for number, (splits, marker) in enumerate(zip(SPLITS, "osD", strict=True)):
            for place, label in enumerate(self.networks):
                if splits not in self._splits(label):
                    continue
                test = self._accuracies(label, splits, records)
                places = [place + 0.22 * (number - 1) + 0.02 * (index - len(test) / 2) for index in range(len(test))]
                axis.plot(places, test, marker, color=f"C{number}", alpha=0.7, label=splits if place == 0 else None)
        axis.set(
            xticks=range(len(self.networks)),
            ylabel="test accuracy in %",
            title="Checkerboard, one recipe for every net",
        )
        axis.set_xticklabels([label.replace(" + ", " +\n").replace(", ", ",\n") for label in self.networks], fontsize=8)
        axis.grid(axis="y", alpha=0.3)
        axis.legend(title="training points")
        return self.annotate_quick(figure)
