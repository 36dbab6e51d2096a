"""Distilled: dense nets that have learned MNIST keep how much accuracy, when small layers replace their large ones?

Not in the paper. An FCNet 784-784-10 and one of a layer more, trained on the 60,000 training images; then each 784 x 784 layer is
replaced so that the net has at most a tenth of its parameters: by the HanLinear nearest to its weight, by the matrix of low rank
nearest to it, or by a HanBlock, which starts untrained. Each is measured as it is, and distilled (layer by layer, then end to end,
without labels). All 10,000 test images test. A seed takes about four minutes of a core.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from ... import surgery
from ...layers.linear import HanLinear
from ...models.han_block import HanBlock
from ...reporting.figures import Figure, new_figure
from ...reporting.progress import OnProgress, ProgressEvent
from ...reporting.tables import Table
from ...train.recipe import Recipe
from ..base import BaseExperiment, Result, mean_and_std, number
from ..record import Record, Run
from ..store import Store
from . import _mnist

NETWORKS: dict[str, dict[str, Any]] = {
    "784-784-10": {"kind": "FCNet", "width": _mnist.PIXELS, "depth": 1},
    "784-784-784-10": {"kind": "FCNet", "width": _mnist.PIXELS, "depth": 2},
}
SIZES = {
    "784-784-10": 33,
    "784-784-784-10": 35,
}  # reflections a side, or rank, with which a tenth of the parameters is left
LAYERS = ("HanLinear", "low rank", "HanBlock")
TEACHER = Recipe(optimizer="adam", lr=1e-3, schedule="cosine", loss="cross_entropy", batch=256, iterations=5 * 234)
LAYERWISE = Recipe(optimizer="adam", lr=3e-3, schedule="cosine", batch=256, iterations=500)
END_TO_END = Recipe(optimizer="adam", lr=1e-3, schedule="cosine", epochs=4)
FIT_STEPS = 50  # of L-BFGS


@dataclass(frozen=True)
class Budget:
    """How much is trained: rows, steps of the fit, and the three recipes."""

    fit: int = FIT_STEPS
    batches: int = 234
    teacher: Recipe = TEACHER
    layerwise: Recipe = LAYERWISE
    end_to_end: Recipe = END_TO_END


QUICK = Budget(
    1,
    2,
    Recipe(**TEACHER.differences() | {"iterations": 4}),
    Recipe(batch=32, iterations=2, lr=1e-3),
    Recipe(lr=1e-3, epochs=1),
)


class Experiment(BaseExperiment):
    """Two nets, three layers, some seeds."""

    stem: ClassVar[str] = "distilled"
    parts: ClassVar[tuple[str, ...]] = tuple(NETWORKS)
    partial: ClassVar[bool] = True
    trials: ClassVar[int] = 5

    @property
    def budget(self) -> Budget:
        """That of a quick run, or the whole."""
        return QUICK if self.quick else Budget()

    def groups(self) -> list[list[Run]]:
        """The replacements of one trained net stand together."""
        return [[self._run(net, layer, seed) for layer in LAYERS] for seed in self.seeds for net in self.chosen_parts]

    def _run(self, network: str, layer: str, seed: int) -> Run:
        budget = self.budget
        config: dict[str, Any] = {
            "network": NETWORKS[network],
            "recipe": budget.teacher.differences(),
            "data": _mnist.ALL,
        }
        config |= {"layer": layer, "size": SIZES[network], "batches": budget.batches}
        config |= {"fit": budget.fit, "layerwise": budget.layerwise.differences()}
        config |= {"end_to_end": budget.end_to_end.differences()}
        return Run("mnist-distilled" + "-quick" * self.quick, config, seed)

    def cost(self, run: Run) -> float:
        """Expected time of a run, in any unit."""
        return float(run.config["network"]["depth"])

    def compute(self, group: Sequence[Run], on_progress: OnProgress) -> list[Result]:
        """Train one net, and replace its layers in each way."""
        config, seed = group[0].config, group[0].seed
        label = f"depth {config['network']['depth']}, seed {seed}"
        teacher = _mnist.build(config["network"], seed)
        _mnist.fit([teacher], [Recipe(**config["recipe"])], [seed], config["data"], label, on_progress)
        return [Result(_replaced(teacher.eval(), run, label, on_progress)) for run in group]

    def table(self, records: Mapping[str, Record]) -> Table:
        """One row a net and layer: test accuracy in % before, replaced and distilled, and the points that are lost."""
        columns = {
            "network": ("network", ""),
            "layer": ("its layers become", ""),
            "parameters": ("parameters", "{:,.0f}"),
            "share": ("of those before %", "{:.1f}"),
            "before": ("test %", "{:.2f}"),
            "replaced": ("replaced", "{:.2f}"),
            "replaced_std": ("std", "{:.2f}"),
            "distilled": ("distilled", "{:.2f}"),
            "distilled_std": ("std", "{:.2f}"),
            "lost": ("points lost", "{:.2f}"),
            "lost_std": ("std", "{:.2f}"),
            "seeds": ("seeds", "{}"),
        }
        rows = []
        for network in self.chosen_parts:
            for layer in LAYERS:
                keys = [self._run(network, layer, seed).key for seed in self.seeds]
                mine = [records[key].metrics for key in keys if key in records]
                if mine:
                    rows.append({"network": network, "layer": layer} | _row(mine))
        notes = [
            "std: over seeds; 10,000 test images; the nets train on 60,000 for five epochs",
            "replaced: as fitted to the weights; a HanBlock starts untrained; distilled: on the training images, without labels",
            "points lost: test accuracy before less distilled, of the same seed",
            "rates: one choice for all three layers, not searched",
            "HanLinear: as many reflections of the input as of the output; low rank: as many columns as that",
        ]
        return self.make_table("Small layers in trained nets on MNIST", columns, rows, notes)

    def picture(self, store: Store) -> Figure:
        """Points lost, a point a seed."""
        records = store.records()
        figure = new_figure(7.5, 3.6)
        axes = figure.subplots(1, len(self.chosen_parts), squeeze=False)[0]
        for axis, network in zip(axes, self.chosen_parts, strict=True):
            for place, layer in enumerate(LAYERS):
                keys = [self._run(network, layer, seed).key for seed in self.seeds]
                lost = [_lost(records[key].metrics) for key in keys if key in records]
                axis.plot([place] * len(lost), lost, "o", color=f"C{place}")
            axis.axhline(0, color="black", linewidth=0.5)
            axis.set(xticks=range(len(LAYERS)), xticklabels=LAYERS, title=network, ylabel="points of accuracy lost")
        return self.annotate_quick(figure)


def _lost(metrics: Mapping[str, float | None]) -> float:
    return 100 * (number(metrics["accuracy_before"]) - number(metrics["accuracy_distilled"]))


def _row(mine: Sequence[Mapping[str, float | None]]) -> dict[str, Any]:
    row: dict[str, Any] = {"seeds": len(mine), "parameters": mine[0]["parameters"]}
    row["share"] = 100 * number(mine[0]["parameters"]) / number(mine[0]["parameters_before"])
    row["before"], _ = mean_and_std([100 * number(metrics["accuracy_before"]) for metrics in mine])
    for name in ("replaced", "distilled"):
        row[name], row[f"{name}_std"] = mean_and_std([100 * number(metrics[f"accuracy_{name}"]) for metrics in mine])
    row["lost"], row["lost_std"] = mean_and_std([_lost(metrics) for metrics in mine])
    return row


def _replaced(teacher: nn.Module, run: Run, net: str, on_progress: OnProgress) -> dict[str, float]:
    """Accuracy of a copy whose layers are replaced, before and after it is distilled."""
    config, label = run.config, f"{net}, {run.config['layer']}"
    student, test = deepcopy(teacher), _mnist.digits(config["data"], "test")
    hidden = [f"layers.{2 * number}" for number in range(config["network"]["depth"])]

    def accuracy(network: nn.Module) -> float:
        return float(test.accuracy(_mnist.logits([network], test.x)[0]))

    on_progress(ProgressEvent(label, 0, 2, ""))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        changed = surgery.replace_linear(student, hidden, by=maker(config))
    metrics = {"accuracy_before": accuracy(teacher), "accuracy_replaced": accuracy(student)}
    metrics |= {"parameters_before": _mnist.parameters(teacher), "parameters": _mnist.parameters(student)}
    on_progress(ProgressEvent(label, 1, 2, ""))
    x = _mnist.digits(config["data"], "train").x
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(run.seed))
    batches = x[order].split(256)[: config["batches"]]
    layerwise, end_to_end = (Recipe(**config[name]) for name in ("layerwise", "end_to_end"))
    surgery.distill(changed, teacher, batches, layerwise=layerwise, end_to_end=end_to_end, loss="kl", seed=run.seed)
    return metrics | {"accuracy_distilled": accuracy(student)}


def maker(config: Mapping[str, Any]) -> Callable[[nn.Linear], nn.Module]:
    """Makes the layer of a config from the Linear that it replaces."""
    size = config["size"]

    def low_rank(linear: nn.Linear) -> nn.Module:
        left, values, right = torch.linalg.svd(linear.weight.detach().double(), full_matrices=False)
        first, last = nn.Linear(_mnist.PIXELS, size, bias=False), nn.Linear(size, _mnist.PIXELS)
        with torch.no_grad():
            root = values[:size].sqrt()
            first.weight.copy_(root[:, None] * right[:size])
            last.weight.copy_(left[:, :size] * root)
            last.bias.copy_(linear.bias)
        return nn.Sequential(first, last)

    makers: dict[str, Callable[[nn.Linear], nn.Module]] = {
        "HanLinear": lambda linear: HanLinear.from_linear(linear, size, steps=config["fit"]),
        "low rank": low_rank,
        "HanBlock": lambda _: HanBlock(_mnist.PIXELS, reflections=size),
    }
    return makers[config["layer"]]
