"""Figure 1: on the checkerboard a HanNet finds the pattern where a much larger FCNet memorises the training points.

The paper reports the best test accuracy of ten learning rates: 99.2% for HanNet, 85.3% for FCNet. We train HanNet (width
100, depth 20), its variant with dense ends (which is what the authors' script trains) and FCNet (width 100, depth 6), and
report three selections side by side: `paper` as above, `held-out` (the rate with the lowest training loss, so the test
points decide nothing), and `one recipe` for all seeds. One seed takes about four and a half minutes on two cores.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, ClassVar

from ...data.synthetic import checkerboard
from ...reporting.figures import Figure, new_figure
from ...reporting.progress import OnProgress
from ...reporting.tables import Table
from ...train import trainer as training
from ...train.recipe import Recipe
from ..base import BaseExperiment, Result, format_seeds, mean_and_std
from ..record import Record, Run
from ..store import Store
from ..verdicts import Comparison
from . import _board

NETWORKS: dict[str, dict[str, Any]] = {
    "HanNet": {"kind": "HanNet", "width": 100, "depth": 20},
    "HanNet, dense ends": {"kind": "HanNet", "width": 100, "depth": 20, "dense_ends": True},
    "FCNet": {"kind": "FCNet", "width": 100, "depth": 6},
}
_OURS = Recipe(lr=0.05, schedule="cosine", warmup=0.05, lasso=1e-3)
RECIPES = {"HanNet": _OURS, "HanNet, dense ends": _OURS}
RESTARTS = 4  # starts that one recipe trains side by side; it keeps the one with the lowest training loss
PAPER = {"HanNet": 99.2, "HanNet, dense ends": 99.2, "FCNet": 85.3}  # test accuracy in %, section 4
COST = {"HanNet": 1.0, "HanNet, dense ends": 2.2, "FCNet": 3.8}  # time of a step, relative


class Experiment(BaseExperiment):
    """Figure 1 for some seeds."""

    title: ClassVar[str] = "Figure 1: checkerboard, 12 x 12 squares"
    stem: ClassVar[str] = "figure1"
    comparisons: ClassVar[tuple[Comparison, ...]] = (
        Comparison("test", "paper", 1.0, ["network"], "test %", "std", without={"network": "HanNet, dense ends"}),
    )
    networks: ClassVar[Mapping[str, Mapping[str, Any]]] = NETWORKS
    rates: ClassVar[tuple[float, ...]] = _board.RATES
    recipes: ClassVar[Mapping[str, Recipe]] = RECIPES
    paper: ClassVar[Mapping[str, float]] = PAPER
    drawn: ClassVar[tuple[str, str]] = ("HanNet", "FCNet")
    needs_weights: ClassVar[bool] = True

    def groups(self) -> list[list[Run]]:
        """The rates of one network and seed are members of one training; so are the seeds of one recipe."""
        groups = []
        for label in self.networks:
            if self.rates:
                groups += [self._at_rates(label, seed) for seed in self.seeds]
            if label in self.recipes:
                groups.append([self._with_recipe(label, seed) for seed in self.seeds])
        return groups

    def _at_rates(self, label: str, seed: int) -> list[Run]:
        return _board.learning_rate_sweep(self.networks[label], seed, self.quick, self.rates)

    def _with_recipe(self, label: str, seed: int) -> Run:
        return _board.run(self.networks[label], self.recipes[label], seed, self.quick, restarts=RESTARTS)

    def cost(self, run: Run) -> float:
        """Expected time of a run, in any unit."""
        return (
            COST.get(self._label(run), 1.0) * Recipe(**run.config["recipe"]).iterations * run.config.get("restarts", 1)
        )

    def _label(self, run: Run) -> str:
        return next(label for label, network in self.networks.items() if network == run.config["network"])

    def compute(self, group: Sequence[Run], on_progress: OnProgress) -> list[Result]:
        """Train the runs of one group together."""
        label = f"{self._label(group[0])}, {format_seeds(sorted({run.seed for run in group}))}"
        return _board.fit(group, label, on_progress)

    def table(self, records: Mapping[str, Record]) -> Table:
        """One row per network and selection; accuracies in %, mean and standard deviation over seeds."""
        columns = {
            "network": ("network", ""),
            "parameters": ("size", "{:,}"),
            "selection": ("selection", ""),
            "test": ("test %", "{:.1f}"),
            "std": ("std", "{:.1f}"),
            "lowest": ("lowest", "{:.1f}"),
            "highest": ("highest", "{:.1f}"),
            "train": ("train %", "{:.1f}"),
            "paper": ("paper %", "{:.1f}"),
            "rates": ("rates", ""),
        }
        rows = [
            self._row(label, selection, chosen)
            for label in self.networks
            for selection, chosen in self._selections(label, records).items()
        ]
        notes = [
            f"{format_seeds(self.seeds)}; 1,640 training points, 4,921 test points",
            "size: number of parameters; std, lowest, highest: over seeds; rates: the learning rates picked",
        ]
        if self.rates:
            notes += _board.selection_notes(self.quick)
        if self.recipes:
            notes.append(
                f"one recipe: the same for every seed; of {RESTARTS} starts the one with the lowest training loss"
            )
        return self.make_table(self.title, columns, rows, notes)

    def _selections(self, label: str, records: Mapping[str, Record]) -> dict[str, list[Record]]:
        chosen: dict[str, list[Record]] = {}
        if self.rates:
            tried = [self._at_rates(label, seed) for seed in self.seeds]
            chosen |= {name: _board.chosen(name, tried, records) for name in ("paper", "held-out")}
        if label in self.recipes:
            chosen["one recipe"] = [records[self._with_recipe(label, seed).key] for seed in self.seeds]
        return chosen

    def _row(self, label: str, selection: str, chosen: Sequence[Record]) -> dict[str, Any]:
        test = [100 * _board.metric(record, "test_accuracy") for record in chosen]
        mean, std = mean_and_std(test)
        return {
            "network": label,
            "parameters": _board.parameters(_board.build(chosen[0].config, chosen[0].seed)),
            "selection": selection,
            "test": mean,
            "std": std,
            "lowest": min(test),
            "highest": max(test),
            "train": fmean(100 * _board.metric(record, "train_accuracy") for record in chosen),
            "paper": self.paper.get(label) if selection == "paper" else None,
            "rates": _board.rates_of(chosen),
        }

    def picture(self, store: Store) -> Figure:
        """Target, training points, and the surfaces of two networks: first seed, the last selection of the table."""
        square = checkerboard()
        figure = new_figure(13.5, 4.1)
        axes = figure.subplots(1, 4, sharey=True)
        surface = axes[0].imshow(_board.grid(square.target), **_board.IMAGE)
        axes[0].set_title("target\n12 x 12 squares, 6,561 points", fontsize=10)
        axes[1].scatter(
            *square.x_train.T.numpy(), c=square.y_train[:, 0].numpy(), s=2, rasterized=True, **_board.COLOURS
        )
        axes[1].set_title(f"training points\n{len(square.x_train):,}, a quarter of the mesh", fontsize=10)
        axes[1].set_aspect("equal")
        records = store.records()
        for axis, label in zip(axes[2:], self.drawn, strict=True):
            selection, (record, *_) = list(self._selections(label, records).items())[-1]
            model = store.load_model(record.key, _board.build(record.config, record.seed))
            axis.imshow(_board.grid(training.predict([model], square.mesh)[0].mean(-1)), **_board.IMAGE)
            test, train = (100 * _board.metric(record, name) for name in ("test_accuracy", "train_accuracy"))
            axis.set_title(
                f"{label}: {_board.parameters(model):,} parameters\ntest {test:.1f}%, train {train:.1f}%\n"
                f"({selection}: rate {Recipe(**record.config['recipe']).lr:g}, seed {record.seed})",
                fontsize=10,
            )
        for axis in axes:
            axis.set(xlabel="$x_1$", xlim=(-1.02, 1.02), ylim=(-1.02, 1.02), xticks=(-1, 0, 1), yticks=(-1, 0, 1))
        axes[0].set_ylabel("$x_2$")
        figure.colorbar(surface, ax=axes, label="mean of the two outputs", extend="both", shrink=0.8)
        return self.annotate_quick(figure)
