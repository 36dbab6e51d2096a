"""Figure 1: on the checkerboard a HanNet finds the pattern where a much larger FCNet memorises the training points.

The paper reports the best test accuracy of ten learning rates: 99.2% for HanNet, 85.3% for FCNet. We train HanNet (width
100, depth 20), its variant with dense ends (which is what the authors' script trains) and FCNet (width 100, depth 6), and
report three selections side by side: `paper` as above, `held-out` (the rate with the lowest training loss, so the test
points decide nothing), and `one recipe` for all seeds. One seed takes about four and a half minutes on two cores.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from .. import train as training
from ..data.synthetic import SIDE, Checkerboard, checkerboard
from ..models.hannet import FCNet, HanNet
from ..runs import Record, Run, Store
from ..train import Recipe
from . import Result, Status, Table, seeds_named

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CONSTRUCTORS: dict[str, Callable[..., nn.Module]] = {"HanNet": HanNet, "FCNet": FCNet}
NETWORKS: dict[str, dict[str, Any]] = {
    "HanNet": {"kind": "HanNet", "width": 100, "depth": 20},
    "HanNet, dense ends": {"kind": "HanNet", "width": 100, "depth": 20, "dense_ends": True},
    "FCNet": {"kind": "FCNet", "width": 100, "depth": 6},
}
RATES = (0.001, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5)
_OURS = Recipe(lr=0.05, schedule="cosine", warmup=0.05, lasso=1e-3)
RECIPES = {"HanNet": _OURS, "HanNet, dense ends": _OURS}
RESTARTS = 4  # starts that one recipe trains side by side; it keeps the one with the lowest training loss
PAPER = {"HanNet": 99.2, "HanNet, dense ends": 99.2, "FCNet": 85.3}  # test accuracy in %, section 4
COST = {"HanNet": 1.0, "HanNet, dense ends": 2.2, "FCNet": 3.8}  # time of a step, relative
QUICK_RATES = (0.025, 0.05, 0.1)
QUICK_ITERATIONS = 500
EVALUATE_EVERY = 3.0  # seconds: the members' accuracies cost more than a training step


@dataclass(frozen=True)
class Experiment:
    """Figure 1 for some seeds. quick: few rates and iterations, to see the command work; its numbers mean nothing."""

    seeds: tuple[int, ...]
    quick: bool = False

    title: ClassVar[str] = "Figure 1: checkerboard, 12 x 12 squares"
    stem: ClassVar[str] = "figure1"
    networks: ClassVar[Mapping[str, Mapping[str, Any]]] = NETWORKS
    rates: ClassVar[tuple[float, ...]] = RATES
    recipes: ClassVar[Mapping[str, Recipe]] = RECIPES
    paper: ClassVar[Mapping[str, float]] = PAPER
    drawn: ClassVar[tuple[str, str]] = ("HanNet", "FCNet")
    draws_models: ClassVar[bool] = True
    trials: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """figure1, or figure1-quick."""
        return f"{self.stem}-quick" if self.quick else self.stem

    def groups(self) -> list[list[Run]]:
        """The rates of one network and seed are members of one training; so are the seeds of one recipe."""
        groups = []
        for label in self.networks:
            if self.rates:
                groups += [self._at_rates(label, seed) for seed in self.seeds]
            if label in self.recipes:
                groups.append([self._with_recipe(label, seed) for seed in self.seeds])
        return groups

    def _run(self, label: str, recipe: Recipe, seed: int, restarts: int = 1) -> Run:
        if self.quick:
            recipe = replace(recipe, iterations=QUICK_ITERATIONS)
        data = {"squares": 12, "split_seed": 0}
        config = {"network": self.networks[label], "recipe": recipe.differences(), "data": data}
        return Run(
            "checkerboard" + "-quick" * self.quick, config | ({"restarts": restarts} if restarts > 1 else {}), seed
        )

    def _at_rates(self, label: str, seed: int) -> list[Run]:
        return [self._run(label, Recipe(lr=rate), seed) for rate in (QUICK_RATES if self.quick else self.rates)]

    def _with_recipe(self, label: str, seed: int) -> Run:
        return self._run(label, self.recipes[label], seed, RESTARTS)

    def cost(self, run: Run) -> float:
        """Expected time of a run, in any unit."""
        return (
            COST.get(self._label(run), 1.0) * Recipe(**run.config["recipe"]).iterations * run.config.get("restarts", 1)
        )

    def _label(self, run: Run) -> str:
        return next(label for label, network in self.networks.items() if network == run.config["network"])

    def compute(self, group: Sequence[Run], on_status: Callable[[Status], None]) -> list[Result]:
        """Train the runs of one group together."""
        board = checkerboard(**group[0].config["data"])
        starts = [(run, run.seed + 1000 * start) for run in group for start in range(run.config.get("restarts", 1))]
        networks = [_build(run.config, seed) for run, seed in starts]
        recipes = [Recipe(**run.config["recipe"]) for run, _ in starts]
        seeds = [seed for _, seed in starts]
        watch = _Watch(f"{self._label(group[0])}, {seeds_named(sorted({run.seed for run in group}))}", board, on_status)
        training.train(networks, recipes, seeds, board.x_train, board.y_train, on_progress=watch)
        fitted, unseen = training.predict(networks, board.x_train), training.predict(networks, board.x_test)
        losses = (fitted - board.y_train).square().mean((1, 2))
        columns = losses, accuracy(fitted, board.y_train), accuracy(unseen, board.y_test)
        outcomes = iter(zip(*(column.tolist() for column in columns), networks, strict=True))
        results: list[Result] = []
        for run in group:
            mine = islice(outcomes, run.config.get("restarts", 1))
            loss, train, test, network = min(mine, key=lambda outcome: _worst_if_nan(outcome[0]))
            metrics = {"train_loss": loss, "train_accuracy": train, "test_accuracy": test}
            results.append(Result(metrics, network))
        return results

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
            f"{seeds_named(self.seeds)}; 1,640 training points, 4,921 test points",
            "size: number of parameters; std, lowest, highest: over seeds; rates: the learning rates picked",
        ]
        if self.rates:
            rates = len(QUICK_RATES if self.quick else self.rates)
            notes += [
                f"paper: the rate of {rates} with the best test accuracy, per seed, as in the paper",
                "held-out: the rate with the lowest training loss, per seed; the test points decide nothing",
            ]
        if self.recipes:
            notes.append(
                f"one recipe: the same for every seed; of {RESTARTS} starts the one with the lowest training loss"
            )
        if self.quick:
            notes.insert(0, f"QUICK: {QUICK_ITERATIONS} iterations, {len(QUICK_RATES)} rates: only shows that it works")
        return Table(self.title + " (quick)" * self.quick, columns, rows, notes)

    def _selections(self, label: str, records: Mapping[str, Record]) -> dict[str, list[Record]]:
        chosen = {}
        if self.rates:
            tried = [[records[run.key] for run in self._at_rates(label, seed)] for seed in self.seeds]
            chosen["paper"] = [max(seed, key=lambda record: _metric(record, "test_accuracy")) for seed in tried]
            chosen["held-out"] = [min(seed, key=lambda record: _metric(record, "train_loss")) for seed in tried]
        if label in self.recipes:
            chosen["one recipe"] = [records[self._with_recipe(label, seed).key] for seed in self.seeds]
        return chosen

    def _row(self, label: str, selection: str, chosen: Sequence[Record]) -> dict[str, Any]:
        test = [100 * _metric(record, "test_accuracy") for record in chosen]
        return {
            "network": label,
            "parameters": _parameters(_build(chosen[0].config, chosen[0].seed)),
            "selection": selection,
            "test": fmean(test),
            "std": stdev(test) if len(test) > 1 else None,
            "lowest": min(test),
            "highest": max(test),
            "train": fmean(100 * _metric(record, "train_accuracy") for record in chosen),
            "paper": self.paper.get(label) if selection == "paper" else None,
            "rates": ", ".join(
                f"{rate:g}" for rate in sorted({Recipe(**record.config["recipe"]).lr for record in chosen})
            ),
        }

    def picture(self, store: Store) -> "Figure":
        """Target, training points, and the surfaces of two networks: first seed, the last selection of the table."""
        from matplotlib.figure import Figure

        board = checkerboard()
        figure = Figure(figsize=(13.5, 4.1), layout="constrained")
        axes = figure.subplots(1, 4, sharey=True)
        surface = axes[0].imshow(_grid(board.target), **_IMAGE)
        axes[0].set_title("target\n12 x 12 squares, 6,561 points", fontsize=10)
        axes[1].scatter(*board.x_train.T.numpy(), c=board.y_train[:, 0].numpy(), s=2, rasterized=True, **_COLOURS)
        axes[1].set_title(f"training points\n{len(board.x_train):,}, a quarter of the mesh", fontsize=10)
        axes[1].set_aspect("equal")
        records = store.records()
        for axis, label in zip(axes[2:], self.drawn, strict=True):
            selection, (record, *_) = list(self._selections(label, records).items())[-1]
            model = store.load_model(record.key, _build(record.config, record.seed))
            axis.imshow(_grid(training.predict([model], board.mesh)[0].mean(-1)), **_IMAGE)
            test, train = (100 * _metric(record, name) for name in ("test_accuracy", "train_accuracy"))
            axis.set_title(
                f"{label}: {_parameters(model):,} parameters\ntest {test:.1f}%, train {train:.1f}%\n"
                f"({selection}: rate {Recipe(**record.config['recipe']).lr:g}, seed {record.seed})",
                fontsize=10,
            )
        for axis in axes:
            axis.set(xlabel="$x_1$", xlim=(-1.02, 1.02), ylim=(-1.02, 1.02), xticks=(-1, 0, 1), yticks=(-1, 0, 1))
        axes[0].set_ylabel("$x_2$")
        figure.colorbar(surface, ax=axes, label="mean of the two outputs", extend="both", shrink=0.8)
        if self.quick:
            figure.suptitle(f"QUICK: {QUICK_ITERATIONS} iterations only")
        return figure


class _Watch:
    """Turns the trainer's progress into a status, with accuracies as fresh as EVALUATE_EVERY."""

    def __init__(self, label: str, board: Checkerboard, on_status: Callable[[Status], None]) -> None:
        self.label, self.board, self.on_status = label, board, on_status
        self.evaluated, self.metrics = time.perf_counter(), ""

    def __call__(self, progress: training.Progress) -> None:
        if time.perf_counter() - self.evaluated > EVALUATE_EVERY or progress.step == progress.steps:
            train = accuracy(progress.predict(self.board.x_train), self.board.y_train)
            test = accuracy(progress.predict(self.board.x_test), self.board.y_test)
            best = int(test.argmax())
            self.metrics = f"best member train {100 * train[best]:.1f}%, test {100 * test[best]:.1f}%"
            self.evaluated = time.perf_counter()
        rate = progress.step / progress.seconds if progress.seconds else 0.0
        self.on_status(Status(self.label, progress.step, progress.steps, rate, self.metrics))


def accuracy(outputs: Tensor, y: Tensor) -> Tensor:
    """Fraction of points whose mean output is on the side of 1/2 that y says. outputs: (members, n, 2), y: (n, 2)."""
    right = (outputs.mean(-1) > 0.5) == (y.mean(-1) > 0.5)
    return (right & outputs.isfinite().all(-1)).float().mean(-1)  # a net that diverged is right nowhere


def _build(config: Mapping[str, Any], seed: int) -> nn.Module:
    network = dict(config["network"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CONSTRUCTORS[network.pop("kind")](2, 2, **network)


def _metric(record: Record, name: str) -> float:
    """A metric; one that was not finite counts as the worst loss."""
    value = record.metrics[name]
    return math.inf if value is None else value


def _worst_if_nan(loss: float) -> float:
    return math.inf if math.isnan(loss) else loss


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


_COLOURS: dict[str, Any] = {"cmap": "viridis", "vmin": 0, "vmax": 1}
_IMAGE: dict[str, Any] = {"origin": "lower", "extent": (-1.0125, 1.0125, -1.0125, 1.0125), **_COLOURS}


def _grid(values: Tensor) -> Any:
    """Values over the mesh as an image: rows are x2, columns x1."""
    return values.reshape(SIDE, SIDE).T.numpy()
