"""Figure 8: on MNIST 20 Han-layers do as well as a dense hidden layer, with a sixteenth of its parameters.

2 to 20 Han-layers of width 784 straight on the pixels, then a Linear, beside the FCNet with one hidden layer of that width;
10,000 training images, Adam, 100 epochs (Table 4). The paper tests on "the remaining" images and prints no numbers; here
they are MNIST's own 10,000 test images, and beside them all 60,000 of its 70,000 that do not train.
Nothing is selected: the last epoch counts. Five seeds take about half an hour on two cores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from ...reporting.figures import Figure, new_figure
from ...reporting.progress import OnProgress
from ...reporting.tables import Table
from ...train.recipe import Recipe
from ..base import BaseExperiment, Result, format_seeds, mean_and_std
from ..record import Record, Run
from ..store import Store
from . import _mnist

DEPTHS = tuple(range(2, 21))
NETWORKS: dict[str, dict[str, Any]] = {
    **{f"HanNet, {depth} layers": {"kind": "Han-layers", "layers": depth} for depth in DEPTHS},
    "FCNet, 1 layer": {"kind": "FCNet", "width": _mnist.PIXELS, "depth": 1},
}
FCNET = "FCNet, 1 layer"
EPOCHS, QUICK_EPOCHS = 100, 1
PARTS = ("train", "test", "rest")


class Experiment(BaseExperiment):
    """Figure 8 for some seeds."""

    stem: ClassVar[str] = "figure8"
    trials: ClassVar[int] = 5

    def groups(self) -> list[list[Run]]:
        """The seeds of one network are members of one training."""
        return [self._runs(label) for label in NETWORKS]

    def _runs(self, label: str) -> list[Run]:
        epochs = QUICK_EPOCHS if self.quick else EPOCHS
        recipe = replace(_mnist.PROTOCOL, iterations=_mnist.iterations(_mnist.FEW, _mnist.PROTOCOL.batch, epochs))
        config = {"network": NETWORKS[label], "recipe": recipe.differences(), "data": _mnist.FEW}
        return [Run("mnist" + "-quick" * self.quick, config, seed) for seed in self.seeds]

    def cost(self, run: Run) -> float:
        """Expected time of a run, in any unit."""
        return float(run.config["network"].get("layers", 40))

    def compute(self, group: Sequence[Run], on_progress: OnProgress) -> list[Result]:
        """Train the seeds of one network together."""
        config, seeds = group[0].config, [run.seed for run in group]
        label = next(label for label, network in NETWORKS.items() if network == config["network"])
        networks = [_mnist.build(config["network"], seed) for seed in seeds]
        recipes = [Recipe(**config["recipe"])] * len(seeds)
        _mnist.fit(networks, recipes, seeds, config["data"], f"{label}, {format_seeds(seeds)}", on_progress)
        held = {part: _mnist.digits(config["data"], part) for part in PARTS}  # type: ignore[arg-type]
        accuracies = {part: rows.accuracy(_mnist.logits(networks, rows.x)).tolist() for part, rows in held.items()}
        return [
            Result(
                {f"{part}_accuracy": values[member] for part, values in accuracies.items()}
                | {"parameters": _mnist.parameters(network)}
            )
            for member, network in enumerate(networks)
        ]

    def _accuracies(self, label: str, part: str, records: Mapping[str, Record]) -> list[float | None]:
        values = [records[run.key].metrics[f"{part}_accuracy"] for run in self._runs(label)]
        return [None if value is None else 100 * value for value in values]

    def table(self, records: Mapping[str, Record]) -> Table:
        """One row per network: accuracies in %, mean and standard deviation over seeds."""
        columns = {
            "network": ("network", ""),
            "parameters": ("size", "{:,}"),
            "train": ("train %", "{:.2f}"),
            "test": ("test %", "{:.2f}"),
            "test_std": ("std", "{:.2f}"),
            "rest": ("rest %", "{:.2f}"),
            "rest_std": ("std", "{:.2f}"),
        }
        rows = []
        for label in NETWORKS:
            row: dict[str, Any] = {"network": label}
            row["parameters"] = int(records[self._runs(label)[0].key].metrics["parameters"] or 0)
            for part in PARTS:
                row[part], row[f"{part}_std"] = mean_and_std(self._accuracies(label, part, records))
            rows.append(row)
        notes = [
            f"{format_seeds(self.seeds)}; 10,000 training images, {EPOCHS} epochs; size: number of parameters; std: over seeds",
            "test: MNIST's 10,000 test images; rest: all 60,000 images that do not train",
            "the paper prints no numbers: a 20-layer HanNet reaches the accuracy of the FCNet (section 5.1.1)",
        ]
        return self.make_table("Figure 8: MNIST, Han-layers beside a dense layer", columns, rows, notes)

    def picture(self, store: Store) -> Figure:
        """Train and test accuracy over the number of layers, mean and range over seeds, and the parameters beside them."""
        records = store.records()
        figure = new_figure(10.5, 4)
        accuracy, size = figure.subplots(1, 2, width_ratios=(3, 2))
        for part, style in (("train", "--"), ("test", "-")):
            values = [self._accuracies(f"HanNet, {depth} layers", part, records) for depth in DEPTHS]
            known = [[value for value in line if value is not None] for line in values]
            means = [sum(line) / len(line) for line in known]
            accuracy.plot(DEPTHS, means, style, marker="o", markersize=3, color="C0", label=f"HanNet, {part}")
            accuracy.fill_between(DEPTHS, list(map(min, known)), list(map(max, known)), color="C0", alpha=0.2)
            level, _ = mean_and_std(self._accuracies(FCNET, part, records))
            accuracy.axhline(level or 0.0, linestyle=style, color="C1", label=f"FCNet, {part}")
        accuracy.set(xlabel="Han-layers", ylabel="accuracy in %", xticks=DEPTHS[::2])
        accuracy.legend(loc="lower right")
        counts = {label: records[self._runs(label)[0].key].metrics["parameters"] or 0 for label in NETWORKS}
        size.plot(
            DEPTHS, [counts[f"HanNet, {depth} layers"] for depth in DEPTHS], marker="o", markersize=3, label="HanNet"
        )
        size.axhline(counts[FCNET], color="C1", label="FCNet")
        size.set(xlabel="Han-layers", ylabel="parameters", yscale="log", xticks=DEPTHS[::2])
        size.legend(loc="center right")
        figure.suptitle("MNIST, 10,000 training images (band: all seeds)")
        return self.annotate_quick(figure)
