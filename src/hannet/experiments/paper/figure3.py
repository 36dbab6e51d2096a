"""Figures 3 and 4: a net with one dense hidden layer (FC-1) and one with three Han-layers (Han-3) approximate each other.

The paper draws the test RMSE over the width, 30 to 100, of either net trained on a random net of either kind, and the
landscapes of both. A target, its 2,000 training and 10,000 test points and the start of the net are drawn from the seed.
All Linear weights start orthogonal, biases as in nn.Linear. The recipes are Table 1's sixteen, 1000 epochs each.

The formulas of nets and domain are lost in the paper's text. We take [-1, 1]^n, as many outputs as inputs, and an input
layer with the net's activation, as in our HanNet and FCNet. Tried with one seed (100; width 100, Adam, no weight decay): this
gave 0.6 to 1.25 times Table 2's numbers for 2 and 4 inputs, and 1.0 and 1.8 times the two for 3 inputs that were tried; an
input layer without activation 1.3 to 2.8 times those for 2 inputs. With one output, FC-1 on FC-1 with 2 inputs reached
0.00032 instead of 0.00022, where the paper has 0.00033. With 2 inputs SGD stayed 1.3 to 5 times above Adam.

One core takes about half an hour a seed; `--only adam` (without weight decay) 9 minutes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby, product
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ...models.registry import MODELS, build_model
from ...reporting.figures import Figure, new_figure
from ...reporting.progress import OnProgress
from ...reporting.tables import Table
from ...train import trainer as training
from ...train.callbacks import ProgressReporter, TrainingState
from ...train.recipe import Recipe
from ..base import BaseExperiment, Result, format_seeds
from ..record import Record, Run
from ..store import Store
from . import _board

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

NETWORKS: dict[str, dict[str, Any]] = {"FC-1": {"kind": "FCNet", "depth": 2}, "Han-3": {"kind": "HanNet", "depth": 4}}
PAIRS = tuple(product(NETWORKS, NETWORKS))  # target, trained
WIDTHS = (30, 40, 50, 60, 70, 80, 90, 100)
RATES = (1e-4, 1e-3, 1e-2, 1e-1)
PARTS = {"adam": ("adam", 0.0), "adam-decay": ("adam", 1e-3), "sgd": ("sgd", 0.0), "sgd-decay": ("sgd", 1e-3)}
POINTS = {"train": 2000, "test": 10_000}
PROTOCOL = Recipe(iterations=20_000, milestones=(0.6, 0.9))  # 1000 epochs of batches of 100
QUICK_ITERATIONS = 200
QUICK_RATES, QUICK_WIDTHS = (1e-2,), (30, 100)
TARGETS, SAMPLES = 1_000_000, 2_000_000  # where the seeds of targets and points begin: no net starts as its target
DRAWN = (100, 2)  # width and inputs of the landscapes
SIDE = 33  # points along one side of a landscape
SELECTIONS = {"paper": "test_rmse", "held-out": "train_loss"}  # what each has the lowest of
# What width 100 adds to the time of a step, in ms.
COST = {("FCNet", "adam"): 0.2, ("FCNet", "sgd"): 0.12, ("HanNet", "adam"): 0.06, ("HanNet", "sgd"): 0.04}
COLOURS = {"FC-1": "tab:orange", "Han-3": "tab:blue"}
LINES = {"paper": "o-", "held-out": ".--"}


class Cell(NamedTuple):
    """One net on one kind of target, at one size."""

    target: str
    trained: str
    width: int
    inputs: int = 2


class Experiment(BaseExperiment):
    """Figure 3 for some seeds and recipes."""

    stem: ClassVar[str] = "figure3"
    parts: ClassVar[tuple[str, ...]] = tuple(PARTS)
    along: ClassVar[str] = "width"  # what the picture has on its axis, a field of Cell
    trials: ClassVar[int] = 3

    @property
    def _widths(self) -> tuple[int, ...]:
        return QUICK_WIDTHS if self.quick else WIDTHS

    def cells(self) -> list[Cell]:
        """What the table has numbers of."""
        return [Cell(*pair, width) for pair in PAIRS for width in self._widths]

    def groups(self) -> list[list[Run]]:
        """The recipes of one optimizer are members of one training."""
        cases = product(self.cells(), self.seeds)
        by_optimizer = (groupby(self._tried(*case), lambda run: _recipe(run).optimizer) for case in cases)
        return [list(group) for groups in by_optimizer for _, group in groups]

    def _tried(self, cell: Cell, seed: int) -> list[Run]:
        protocol = replace(PROTOCOL, iterations=QUICK_ITERATIONS) if self.quick else PROTOCOL
        target, network = ({**NETWORKS[kind], "width": cell.width} for kind in (cell.target, cell.trained))
        config = {"target": target, "network": network, "inputs": cell.inputs, "points": POINTS}
        recipes = [replace(protocol, optimizer=name, lr=lr, weight_decay=decay) for name, decay, lr in self._grid()]
        runs = [config | {"recipe": recipe.differences()} for recipe in recipes]
        return [Run("approximation" + "-quick" * self.quick, run, seed) for run in runs]

    def _grid(self) -> list[tuple[str, float, float]]:
        rates = QUICK_RATES if self.quick else RATES
        return [(*PARTS[part], lr) for part in self.chosen_parts for lr in rates]

    def cost(self, run: Run) -> float:
        """Expected time of a run, in any unit."""
        network = run.config["network"]
        return 0.1 + COST[network["kind"], _recipe(run).optimizer] * (network["width"] / 100) ** 2

    def compute(self, group: Sequence[Run], on_progress: OnProgress) -> list[Result]:
        """Train the runs of one group together."""
        config, seed = group[0].config, group[0].seed
        problem = problem_of(config, seed)
        networks = [build(config["network"], config["inputs"], seed) for _ in group]
        recipes = [_recipe(run) for run in group]
        size = f"width {config['network']['width']}, {config['inputs']} inputs"
        label = f"{_label(config['target'])} by {_label(config['network'])}, {size}, seed {seed}"

        def lowest(state: TrainingState) -> dict[str, float]:
            return {"lowest RMSE of a batch": float(state.loss.nan_to_num(torch.inf).min().sqrt())}

        seeds, follow = [seed] * len(group), ProgressReporter(on_progress, label, lowest)
        training.train(networks, recipes, seeds, problem.x_train, problem.y_train, callbacks=[follow])
        fitted, unseen = (training.predict(networks, x) for x in (problem.x_train, problem.x_test))
        losses = (fitted - problem.y_train).square().mean((1, 2)).tolist()
        errors = (unseen - problem.y_test).square().mean((1, 2)).sqrt().tolist()
        spread = problem.y_test.var(0, correction=0).mean().sqrt().item()
        metrics = [
            {"train_loss": loss, "test_rmse": error, "target_std": spread}
            for loss, error in zip(losses, errors, strict=True)
        ]
        best = {min(range(len(group)), key=lambda i: _board.worst_if_nan(values[i])) for values in (losses, errors)}
        drawn = best if (config["network"]["width"], config["inputs"]) == DRAWN else set()
        curves = [{"landscape": _landscape(net).tolist()} if i in drawn else {} for i, net in enumerate(networks)]
        return [Result(values, curves=curve) for values, curve in zip(metrics, curves, strict=True)]

    def chosen(self, selection: str, cell: Cell, records: Mapping[str, Record]) -> list[Record]:
        """For every seed the recipe with the lowest test RMSE ("paper") or training loss ("held-out")."""
        tried = ([records[run.key] for run in self._tried(cell, seed)] for seed in self.seeds)
        return [min(of_seed, key=lambda record: _board.metric(record, SELECTIONS[selection])) for of_seed in tried]

    def table(self, records: Mapping[str, Record]) -> Table:
        """One row per pair and selection: the RMSE at each width in thousandths, mean over seeds."""
        columns = {"target": ("target", ""), "trained": ("trained", ""), "selection": ("selection", "")}
        columns |= {f"width_{width}": (f"d={width}", "{:.2f}") for width in self._widths}
        rows = []
        for (target, trained), selection in product(PAIRS, SELECTIONS):
            row: dict[str, Any] = {"target": target, "trained": trained, "selection": selection}
            for width in self._widths:
                rmse = over_seeds(self.chosen(selection, Cell(target, trained, width), records))
                row[f"width_{width}"] = 1000 * rmse.mean
            rows.append(row)
        notes = [*self.notes(), "RMSE x 1000 on the test points, by width d; mean over the seeds"]
        return self.make_table("Figure 3: FC-1 and Han-3 approximate each other", columns, rows, notes)

    def notes(self) -> list[str]:
        """What stands below the table: seeds and selections."""
        recipes = f"{len(self._grid())} recipes ({', '.join(self.chosen_parts)})"
        return [
            f"{format_seeds(self.seeds)}; drawn from it: target, {POINTS['train']:,} and {POINTS['test']:,} points, start",
            f"paper: of {recipes} the one with the lowest test RMSE, per seed",
            "held-out: the one with the lowest training loss; the test points decide nothing",
        ]

    def picture(self, store: Store) -> Figure:
        """Figure 3 above, RMSE over the width; Figure 4 below, the landscapes of targets and nets of the first seed."""
        records = store.records()
        figure = new_figure(10, 9.2)
        parts = figure.add_gridspec(2, 1, height_ratios=(1, 1.45))
        self.draw_errors(figure.add_subfigure(parts[0]), records)
        self._draw_landscapes(figure.add_subfigure(parts[1]), records)
        return self.annotate_quick(figure)

    def draw_errors(self, figure: "Figure | SubFigure", records: Mapping[str, Record]) -> "Sequence[Axes]":
        """A panel a target: test RMSE of both nets, mean of the seeds under both selections; the paper's with its range."""
        panels: Sequence[Axes] = figure.subplots(1, len(NETWORKS), sharey=True)
        for axis, target in zip(panels, NETWORKS, strict=True):
            for (trained, colour), (selection, line) in product(COLOURS.items(), LINES.items()):
                cells = [cell for cell in self.cells() if (cell.target, cell.trained) == (target, trained)]
                along = [getattr(cell, self.along) for cell in cells]
                of_cells = [over_seeds(self.chosen(selection, cell, records)) for cell in cells]
                means, low, high = ([getattr(e, name) for e in of_cells] for name in ("mean", "lowest", "highest"))
                axis.plot(along, means, line, color=colour, markersize=3, label=f"{trained} ({selection})")
                if selection == "paper":
                    axis.fill_between(along, low, high, color=colour, alpha=0.15, linewidth=0)
            axis.set(yscale="log", xlabel=self.along, ylabel="test RMSE", title=f"target {target}", xticks=along)
            axis.grid(which="both", alpha=0.2)
        panels[0].legend(fontsize=8)
        return panels

    def _draw_landscapes(self, figure: "SubFigure", records: Mapping[str, Record]) -> None:
        """A row a target: the target, then for each kind of net its landscape (paper selection)."""
        axes = figure.subplots(len(NETWORKS), 1 + len(NETWORKS), sharex=True, sharey=True)
        for line, target in zip(axes, NETWORKS, strict=True):
            cells = [Cell(target, trained, *DRAWN) for trained in NETWORKS]
            best = [self.chosen("paper", cell, records)[0] for cell in cells]
            true = _landscape(_target(best[0].config, best[0].seed))
            heights = [true, *(torch.tensor(record.curves["landscape"]) for record in best)]
            titles = [f"target {target}"]
            for trained, record in zip(NETWORKS, best, strict=True):
                titles.append(f"trained {trained}, RMSE {_board.metric(record, 'test_rmse'):.5f}")
            for axis, values, title in zip(line, heights, titles, strict=True):
                shown = axis.imshow(
                    values.reshape(SIDE, SIDE).T.numpy(),
                    origin="lower",
                    extent=(-1, 1, -1, 1),
                    vmin=true.min().item(),
                    vmax=true.max().item(),
                )
                axis.set_title(title, fontsize=10)
            line[0].set_ylabel("$x_2$")
            figure.colorbar(shown, ax=line, label="first output", shrink=0.8)
        for axis in axes[-1]:
            axis.set(xlabel="$x_1$", xticks=(-1, 0, 1), yticks=(-1, 0, 1))


class Errors(NamedTuple):
    """Test RMSE over seeds."""

    mean: float
    std: float | None
    lowest: float
    highest: float


def over_seeds(chosen: Sequence[Record]) -> Errors:
    """The test RMSE of one record a seed."""
    values = [_board.metric(record, "test_rmse") for record in chosen]
    return Errors(fmean(values), stdev(values) if len(values) > 1 else None, min(values), max(values))


class Problem(NamedTuple):
    """Points in [-1, 1]^n with what the target makes of them.  x: (points, n), y: (points, n)."""

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor


@torch.no_grad()
def problem_of(config: Mapping[str, Any], seed: int) -> Problem:
    """The target of a config on points drawn with the seed."""
    generator = torch.Generator().manual_seed(SAMPLES + seed)
    x = [2 * torch.rand(n, config["inputs"], generator=generator) - 1 for n in config["points"].values()]
    target = _target(config, seed)
    return Problem(x[0], target(x[0]), x[1], target(x[1]))


def build(network: Mapping[str, Any], inputs: int, seed: int) -> nn.Module:
    """A net with as many outputs as inputs, its weights orthogonal, fixed by the seed."""

    def orthogonal(kind: str, **options: Any) -> nn.Module:
        net = MODELS[kind](**options)
        for module in net.modules():
            if isinstance(module, nn.Linear):
                nn.init.orthogonal_(module.weight)
        return net

    return build_model(partial(orthogonal, **network), seed, in_features=inputs, out_features=inputs)


def _target(config: Mapping[str, Any], seed: int) -> nn.Module:
    return build(config["target"], config["inputs"], TARGETS + seed)


def _landscape(net: nn.Module) -> Tensor:
    """The first output over the square, x1 slowest.  -> (SIDE * SIDE,)"""
    axis = torch.linspace(-1, 1, SIDE)
    return training.predict([net], torch.cartesian_prod(axis, axis))[0, :, 0]


def _recipe(run: Run) -> Recipe:
    return Recipe(**run.config["recipe"])


def _label(network: Mapping[str, Any]) -> str:
    return next(name for name, options in NETWORKS.items() if options["kind"] == network["kind"])
