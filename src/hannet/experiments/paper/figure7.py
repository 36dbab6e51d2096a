"""Figure 7: on a sum of two products of sines a HanNet follows both frequencies where a far larger FCNet does not.

The paper shows surfaces of the target, HanNet and FCNet (width 200, depth 20, 80,000 iterations, else as on the checkerboard)
and gives neither the frequencies nor a number. We take sin(2 pi x1) sin(2 pi x2) + sin(10 pi x1) sin(10 pi x2), and give the
MSE on the points that no training sees, for HanNet also with dense ends. About 65 minutes a seed on one core, 55 of them FCNet.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from ...reporting.figures import Figure, new_figure
from ...reporting.progress import OnProgress
from ...reporting.tables import Table
from ...train import trainer as training
from ...train.recipe import Recipe
from ..base import BaseExperiment, Result, format_seeds, mean_and_std
from ..record import Record, Run
from ..store import Store
from . import _board

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NETWORKS: dict[str, dict[str, Any]] = {
    "HanNet": {"kind": "HanNet", "width": 200, "depth": 20},
    "HanNet, dense ends": {"kind": "HanNet", "width": 200, "depth": 20, "dense_ends": True},
    "FCNet": {"kind": "FCNet", "width": 200, "depth": 20},
}
COST = {"HanNet": 1.0, "HanNet, dense ends": 2.5, "FCNet": 18.0}  # time of a step, relative
PROTOCOL = Recipe(iterations=80_000)
SELECTIONS = ("paper", "held-out")
HEIGHTS: dict[str, Any] = {"cmap": "viridis", "vmin": -2, "vmax": 2}
ERRORS: dict[str, Any] = {"cmap": "magma", "vmin": 0, "vmax": 1}


class Experiment(BaseExperiment):
    """Figure 7 for some seeds."""

    stem: ClassVar[str] = "figure7"
    needs_weights: ClassVar[bool] = True

    def _at_rates(self, label: str, seed: int) -> list[Run]:
        return _board.learning_rate_sweep(NETWORKS[label], seed, self.quick, recipe=PROTOCOL, data=_board.SINES)

    def groups(self) -> list[list[Run]]:
        """The rates of one network and seed are members of one training."""
        return [self._at_rates(label, seed) for label in NETWORKS for seed in self.seeds]

    def cost(self, run: Run) -> float:
        """Expected time of a run, in any unit."""
        return COST[_label(run)]

    def compute(self, group: Sequence[Run], on_progress: OnProgress) -> list[Result]:
        """Train the runs of one group together."""
        return _board.fit(group, f"{_label(group[0])}, seed {group[0].seed}", on_progress)

    def table(self, records: Mapping[str, Record]) -> Table:
        """One row per network and selection; MSE, mean and standard deviation over seeds."""
        columns = {
            "network": ("network", ""),
            "parameters": ("size", "{:,}"),
            "selection": ("selection", ""),
            "test": ("test MSE", "{:.2e}"),
            "std": ("std", "{:.1e}"),
            "train": ("train MSE", "{:.2e}"),
            "ratio": ("FCNet / it", "{:.1f}"),
            "rates": ("rates", ""),
        }
        rows = [self._row(label, selection, records) for label in NETWORKS for selection in SELECTIONS]
        variance = _board.square(_board.SINES).y_test.var(correction=0).item()
        notes = [
            f"{format_seeds(self.seeds)}; 1,640 training points, 4,921 test points; a constant has test MSE {variance:.2f}",
            "size: number of parameters; std: over seeds; rates: the learning rates picked",
            "FCNet / it: how many times larger FCNet's test MSE is; –: diverged at every rate",
            *_board.selection_notes(self.quick),
            "the paper itself shows surfaces, no number",
        ]
        return self.make_table("Figure 7: sum of two products of sines", columns, rows, notes)

    def _selected(self, label: str, selection: str, records: Mapping[str, Record]) -> list[Record]:
        return _board.chosen(selection, (self._at_rates(label, seed) for seed in self.seeds), records)

    def _row(self, label: str, selection: str, records: Mapping[str, Record]) -> dict[str, Any]:
        chosen = self._selected(label, selection, records)
        test, train, fcnet = (
            [_board.metric(record, name) for record in some]
            for name, some in (
                ("test_mse", chosen),
                ("train_loss", chosen),
                ("test_mse", self._selected("FCNet", selection, records)),
            )
        )
        mean, std = mean_and_std(test)
        return {
            "network": label,
            "parameters": _board.parameters(_board.build(chosen[0].config, chosen[0].seed)),
            "selection": selection,
            "test": mean,
            "std": std,
            "train": _board.finite(fmean(train)),
            "ratio": _board.finite(fmean(fcnet) / fmean(test)),
            "rates": _board.rates_of(chosen),
        }

    def picture(self, store: Store) -> Figure:
        """Target and training points, then each network's surface and its absolute error: first seed, held out."""
        square, records = _board.square(_board.SINES), store.records()
        figure = new_figure(13.5, 7.6)
        axes = figure.subplots(2, 1 + len(NETWORKS), sharex=True, sharey=True)
        heights = _draw(axes[0, 0], "target\n6,561 points", square.target, HEIGHTS)
        points, values = square.x_train.T.numpy(), square.y_train[:, 0].numpy()
        axes[1, 0].scatter(*points, c=values, s=2, rasterized=True, **HEIGHTS)
        axes[1, 0].set_title(f"training points\n{len(values):,}, a quarter of the mesh", fontsize=10)
        axes[1, 0].set_aspect("equal")
        for (above, below), label in zip(axes.T[1:], NETWORKS, strict=True):
            record = self._selected(label, SELECTIONS[-1], records)[0]
            model = store.load_model(record.key, _board.build(record.config, record.seed))
            surface = training.predict([model], square.mesh)[0, :, 0]
            rate = Recipe(**record.config["recipe"]).lr
            test = _board.metric(record, "test_mse")
            title = f"{label}: {_board.parameters(model):,} parameters\nrate {rate:g}, seed {record.seed}"
            _draw(above, title, surface, HEIGHTS)
            errors = _draw(below, f"absolute error\ntest MSE {test:.1e}", (surface - square.target).abs(), ERRORS)
        figure.colorbar(heights, ax=axes[0], label="value", extend="both", shrink=0.8)
        figure.colorbar(errors, ax=axes[1], label="absolute error", extend="max", shrink=0.8)
        return self.annotate_quick(figure)


def _label(run: Run) -> str:
    return next(label for label, network in NETWORKS.items() if network == run.config["network"])


def _draw(axis: "Axes", title: str, values: Tensor, colours: Mapping[str, Any]) -> Any:
    """A surface as an image."""
    axis.set_title(title, fontsize=10)
    axis.set(xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    return axis.imshow(_board.grid(values), **{**_board.IMAGE, **colours})
