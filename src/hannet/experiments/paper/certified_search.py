"""Certified nets, the search: rate, loss and shape of HanNets and of dense 1-Lipschitz nets over one grid.

Not in the paper. Each candidate trains for 8 epochs on 50,000 of MNIST's training images with a seed that no result uses, and is
judged by the share of 5,000 others that is right and provably stays so within an l2 distance. `certified` then trains what
was best at 1.58, and of HanNets at 0.5, anew on all 60,000. About an hour on two cores, most of it the dense nets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, ClassVar

from ...reporting.figures import Figure, new_figure
from ...reporting.progress import OnProgress
from ...reporting.tables import Table
from ...train.recipe import Recipe
from ..base import BaseExperiment, Result
from ..record import Record, Run
from ..store import Store
from . import _certified, _mnist
from ._certified import RADII

_HAN = {"kind": "HanNet", "lipschitz": True}
SHAPES: dict[str, dict[str, Mapping[str, Any]]] = {
    "HanNet": {
        "4 layers of 32 reflections": _HAN | {"width": 1024, "depth": 4, "reflections": 32},
        "1 layer of 31 reflections": _HAN | {"width": 784, "depth": 1, "reflections": 31},
    },
    "dense": {
        "3 layers of width 256": {"kind": "torchlip", "width": 256, "hidden": 3},
        "5 layers of width 128": {"kind": "torchlip", "width": 128, "hidden": 5},
    },
}
RATES = (1e-3, 3e-3, 1e-2, 3e-2)  # the last was added for all, because the best was at the edge
LOSSES: dict[str, dict[str, Any]] = {
    "cross entropy, temperature 0.5": {"temperature": 0.5},
    "cross entropy, temperature 1": {},
    "multi-margin 2": {"loss": "multi_margin", "margin": 2.0},
    "HKR, margin 2": {"loss": "hkr", "margin": 2.0},
}
DATA: dict[str, Any] = {"set": "mnist", "train": 50_000, "validation": 5_000, "split_seed": 0}
EPOCHS, QUICK_EPOCHS = 8, 1
SEED = 100


class Experiment(BaseExperiment):
    """The search. seeds are not used: it has one of its own."""

    stem: ClassVar[str] = "certified-search"
    parts: ClassVar[tuple[str, ...]] = tuple(SHAPES)

    def _run(self, kind: str, shape: str, rate: float, loss: str) -> Run:
        steps = _mnist.iterations(DATA, _certified.BATCH, QUICK_EPOCHS if self.quick else EPOCHS)
        recipe = replace(_certified.RECIPE, lr=rate, iterations=steps, **LOSSES[loss])
        config = {"network": SHAPES[kind][shape], "recipe": recipe.differences(), "data": DATA}
        return Run("mnist-certified" + "-quick" * self.quick, config, SEED)

    def _grid(self, kind: str) -> dict[tuple[str, float, str], Run]:
        choices = [(shape, rate, loss) for shape, rate, loss in product(SHAPES[kind], RATES, LOSSES)]
        return {choice: self._run(kind, *choice) for choice in (choices[1:2] if self.quick else choices)}

    def groups(self) -> list[list[Run]]:
        """Every candidate by itself."""
        return [[run] for kind in self.chosen_parts for run in self._grid(kind).values()]

    def cost(self, run: Run) -> float:
        """Expected time of a run, in any unit."""
        return 4.0 if run.config["network"]["kind"] == "torchlip" else run.config["network"]["depth"] / 4

    def compute(self, group: Sequence[Run], on_progress: OnProgress) -> list[Result]:
        """Train one candidate and certify it on the validation images."""
        (run,) = group
        recipe = Recipe(**run.config["recipe"])
        label = f"{run.config['network']['kind']}, {recipe.loss}, rate {recipe.lr:g}"
        network = _certified.train(run, label, on_progress)
        accuracy, shares = _certified.judge(network, _mnist.digits(DATA, "validation"))
        metrics = {"accuracy": accuracy, "parameters": _mnist.parameters(network)}
        return [Result(metrics | {f"certified_{radius:g}": share for radius, share in zip(RADII, shares, strict=True)})]

    def best(self, kind: str, radius: float, records: Mapping[str, Record]) -> tuple[str, float, str]:
        """Shape, rate and loss of the largest certified share at a radius; of equal ones the first."""
        grid = self._grid(kind)
        return max(grid, key=lambda choice: _share(records[grid[choice].key], radius))

    def table(self, records: Mapping[str, Record]) -> Table:
        """One row a kind of net and radius: what was best there, and the grid's median."""
        columns = {"network": ("network", ""), "radius": ("best at", "{:g}"), "shape": ("shape", "")}
        columns |= {"lr": ("rate", "{:g}"), "loss": ("loss", ""), "accuracy": ("validation %", "{:.1f}")}
        columns |= {f"certified_{r:g}": (f"at {r:g} %", "{:.1f}") for r in RADII}
        columns["median"] = ("median of the grid", "{:.1f}")
        rows = []
        for kind, radius in product(self.chosen_parts, RADII):
            grid = self._grid(kind)
            shape, rate, loss = choice = self.best(kind, radius, records)
            metrics = records[grid[choice].key].metrics
            row = {"network": kind, "radius": radius, "shape": shape, "lr": rate, "loss": loss}
            row |= {name: 100 * (metrics[name] or 0.0) for name in ("accuracy", *(f"certified_{r:g}" for r in RADII))}
            shares = sorted(_share(records[run.key], radius) for run in grid.values())
            rows.append(row | {"median": 100 * shares[len(shares) // 2]})
        notes = [
            f"rates {', '.join(f'{rate:g}' for rate in RATES)}; losses: {'; '.join(LOSSES)}; two shapes each",
            f"one seed, {EPOCHS} epochs on 50,000 of the training images; the 5,000 that validate are others, and none tests",
        ]
        return self.make_table("Certified accuracy on MNIST: the search", columns, rows, notes)

    def picture(self, store: Store) -> Figure:
        """Certified share at one radius over that at the other, a point a candidate."""
        records = store.records()
        figure = new_figure(6.5, 4.4)
        axis = figure.subplots()
        for place, kind in enumerate(self.chosen_parts):
            for shape, marker in zip(SHAPES[kind], "os", strict=True):
                mine = [records[run.key] for (form, *_), run in self._grid(kind).items() if form == shape]
                shares = [[100 * _share(record, radius) for record in mine] for radius in RADII]
                axis.plot(*shares, marker, color=f"C{place}", alpha=0.7, label=f"{kind}, {shape}")
        axis.set(xlabel=f"certified at {RADII[0]:g} in %", ylabel=f"certified at {RADII[1]:g} in %")
        axis.set_title("MNIST: 32 candidates of each kind, on images held out of the training")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
        return self.annotate_quick(figure)


def _share(record: Record, radius: float) -> float:
    """A net that diverged certifies nothing."""
    return record.metrics[f"certified_{radius:g}"] or 0.0
