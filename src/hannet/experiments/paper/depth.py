"""Depth that trains: gradients through up to 1,000 layers, accuracy, memory and time, HanNet beside nets of dense layers.

Not in the paper, but its title: "gradient-stable". Nets of 10 to 1,000 hidden layers on 10,000 images of MNIST and on two of
Table 9's sets (80% of the rows train), all with the same few steps of Adam with a cosine and the same search: each of four rates is
trained to the end, and the validation rows decide which one is tested. So the question is what trains within these steps, not what
each could reach. The peers are the FCNet with ReLU; dense + ABS whose weights start orthogonal but do not stay so; the same with
weights that stay orthogonal (Cayley map); and a residual net with LayerNorm, whose step is measured with checkpointing too (the same
gradients, hence the same accuracy). A deep HanNet's step takes a fraction of the others' time, so that HanNet is shown with ten times
the steps as well.

Gradients at the start, memory and time are measured at every depth. HanNet is trained at every depth too, the others to 300 layers,
or to 1,000 with `--only deep` (about a minute of one core a run), the always orthogonal net to 100; at width 256 (`--only width-256`)
all but HanNet to 100. A seed at width 64 takes about 15 minutes of one core, with the deep ones twice as long.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data.regression import standardise
from ...models.registry import build_model
from ...reporting.figures import Figure, new_figure
from ...reporting.progress import OnProgress
from ...reporting.tables import Table
from ...train import trainer as training
from ...train.callbacks import ProgressReporter
from ...train.recipe import Recipe
from ..base import BaseExperiment, Result, format_seeds, mean_and_std, number
from ..record import Record, Run
from ..store import Store
from . import _deep, _mnist, table9

DEPTHS = (10, 30, 100, 300, 1000)
WIDTH, WIDE, WIDE_PART = 64, 256, "width-256"
DEEP_PART = "deep"
HAN, LONGER, MORE = "HanNet", "HanNet, ten times the steps", 10
RESIDUAL, CHECKPOINTING = "residual, LayerNorm", "residual, LayerNorm, checkpointing"
KINDS = {
    HAN: "HanNet",
    LONGER: "HanNet",
    "dense + ReLU": "FCNet",
    "dense + ABS, orthogonal at the start": "orthogonal FCNet",
    "dense + ABS, always orthogonal": "orthogonal",
    RESIDUAL: "residual",
}
SHALLOW, MIDDLE = 100, 300  # layers at most, where training more would take too long
RATES = (1e-5, 1e-4, 1e-3, 1e-2)
RECIPE = Recipe(optimizer="adam", schedule="cosine", batch=64, iterations=150)
QUICK_STEPS = 2
TABLES = ("bikesharing", "calhousing")
TASKS = ("mnist", *TABLES)
PROBE = 256  # training rows on which gradients are measured
POINTS = 51  # of a curve of gradient norms


class Rows(NamedTuple):
    """x: (n, in); y: (n, out), as the loss takes them."""

    x: Tensor
    y: Tensor


class Task(NamedTuple):
    """score: from outputs (n, out) and targets, the larger the better."""

    score: Callable[[Tensor, Tensor], float]
    train: Rows
    validation: Rows
    test: Rows


def _accuracy(outputs: Tensor, y: Tensor) -> float:
    return float(_mnist.Digits(outputs, y.argmax(1)).accuracy(outputs))


def _minus_rmse(outputs: Tensor, y: Tensor) -> float:
    error = (outputs - y).square().mean().sqrt()
    return -float(error) if error.isfinite() else -torch.inf


def load_task(data: Mapping[str, Any], seed: int) -> Task:
    """The rows of a config. Of a table the split is the seed's, and targets have mean 0 and deviation 1 on its training rows."""
    if data["set"] == "mnist":
        found = [_mnist.digits(data, part) for part in ("train", "validation", "test")]
        return Task(_accuracy, *(Rows(part.x, F.one_hot(part.y, _mnist.CLASSES).float()) for part in found))
    table = table9.read(data["set"])
    split = table9.split(len(table.y), data["fraction"], seed)
    x, y = standardise(table.x), torch.from_numpy(table.y).float()[:, None]
    y = (y - y[split.train].mean()) / y[split.train].std()
    return Task(_minus_rmse, *(Rows(x[part], y[part]) for part in (split.train, split.validation, split.test)))


def places(depth: int) -> list[int]:
    """The layers, from 0 on, whose gradients a record keeps."""
    return sorted({round(index * (depth - 1) / (POINTS - 1)) for index in range(POINTS)})


class Experiment(BaseExperiment):
    """All depths for some seeds and sets, at width 64 unless the other is asked for."""

    stem: ClassVar[str] = "depth"
    parts: ClassVar[tuple[str, ...]] = (*TASKS, WIDE_PART, DEEP_PART)
    trials: ClassVar[int] = 3

    @property
    def tasks(self) -> tuple[str, ...]:
        """Those asked for, else all."""
        return tuple(part for part in self.only if part in TASKS) or TASKS

    @property
    def width(self) -> int:
        """Of all layers."""
        return WIDE if WIDE_PART in self.only else WIDTH

    def depths(self, net: str) -> list[int]:
        """Those at which a net is trained."""
        if KINDS[net] == "HanNet":
            return list(DEPTHS)
        slow = self.width == WIDE or KINDS[net] == "orthogonal"
        most = SHALLOW if slow else DEPTHS[-1] if DEEP_PART in self.only else MIDDLE
        return [depth for depth in DEPTHS if depth <= most]

    def starts(self, depth: int, net: str) -> list[Run]:
        """One a seed: what is measured without training."""
        network = {"kind": KINDS[net], "width": self.width, "depth": depth}
        config = {"network": network, "batch": RECIPE.batch, "data": _mnist.FEW}
        return [Run("depth-start" + "-quick" * self.quick, config, seed) for seed in self.seeds]

    def runs(self, depth: int, net: str, task: str) -> list[Run]:
        """One a seed."""
        loss = "cross_entropy" if task == "mnist" else "mse"
        steps = (QUICK_STEPS if self.quick else RECIPE.iterations) * (MORE if net == LONGER else 1)
        recipe = replace(RECIPE, loss=loss, iterations=steps)
        config = {
            "network": {"kind": KINDS[net], "width": self.width, "depth": depth},
            "recipe": recipe.differences(),
            "rates": list(RATES),
            "data": _mnist.FEW if task == "mnist" else {"set": task, "fraction": 0.8},
        }
        return [Run("depth" + "-quick" * self.quick, config, seed) for seed in self.seeds]

    def groups(self) -> list[list[Run]]:
        """Every run alone: the members of a training are its rates."""
        starts = [run for depth in DEPTHS for net in KINDS if net != LONGER for run in self.starts(depth, net)]
        trainings = [
            run
            for net in KINDS
            for depth in self.depths(net)
            for task in self.tasks
            for run in self.runs(depth, net, task)
        ]
        return [[run] for run in starts + trainings]

    def cost(self, run: Run) -> float:
        """Expected time of a run, in any unit."""
        network = run.config["network"]
        steps = run.config["recipe"]["iterations"] / RECIPE.iterations if "recipe" in run.config else 0.05
        slow = {"HanNet": 0.05, "orthogonal": 3.0, "residual": 1.5}.get(network["kind"], 1.0)
        return (
            steps * slow * network["depth"] * (network["width"] / WIDTH) ** (1 if network["kind"] == "HanNet" else 1.5)
        )

    def compute(self, group: Sequence[Run], on_progress: OnProgress) -> list[Result]:
        """Measure nets at the start; train at every rate, and measure the one that the validation rows choose."""
        return [_train(run, on_progress) if "recipe" in run.config else _start(run) for run in group]

    def table(self, records: Mapping[str, Record]) -> Table:
        """One row a depth and net; mean and standard deviation over seeds."""
        scores: dict[str, tuple[str, str]] = {}
        for task in self.tasks:
            scores[task] = ("MNIST %", "{:.2f}") if task == "mnist" else (task, "{:.3f}")
            scores[f"{task}_std"] = ("std", scores[task][1])
        columns = {
            "depth": ("layers", "{:,}"),
            "network": ("network", ""),
            "size": ("size", "{:,}"),
            "start": ("spread at start", "{:.3g}"),
            "end": ("trained", "{:.3g}"),
            "distance": ("distance kept", "{:.2g}"),
            **scores,
            "rates": ("rates", ""),
            "mib": ("MiB", "{:,.1f}"),
            "milliseconds": ("ms a step", "{:,.1f}"),
        }
        rows = []
        for depth, net in product(DEPTHS, KINDS):
            starts = [records[run.key] for run in self.starts(depth, net)]
            tasks = self.tasks if depth in self.depths(net) else ()
            trained = {task: [records[run.key] for run in self.runs(depth, net, task)] for task in tasks}
            rows.append({"depth": depth, "network": net} | _row(starts, trained))
            if net == RESIDUAL:
                rows.append(rows[-1] | {"network": CHECKPOINTING} | _costs(starts, "checkpointing_"))
        return self.make_table("Depth that trains", columns, rows, self._notes())

    def _notes(self) -> list[str]:
        rates = ", ".join(f"{rate:g}" for rate in RATES)
        return [
            f"{format_seeds(self.seeds)}, width {self.width}; std: over seeds, of a table each with its split",
            f"{RECIPE.iterations} steps of Adam (but for one row), batch {RECIPE.batch}, cosine, each net at the rates {rates}",
            f"rates: those that the validation rows chose, on {', '.join(self.tasks)} in turn; without one: not trained at this depth",
            "MNIST: test accuracy, 10,000 training images; tables: test RMSE in deviations of the target, so that 1 is a constant's",
            "spread: largest over smallest norm of the loss's gradient by a hidden layer's output, on MNIST, largest of all seeds",
            "trained: the same after training, largest of all sets and seeds; no spread: a norm is 0 or not finite in float32",
            "distance kept: at the start, by the hidden layers but the first, between rows of MNIST, relative to their norms",
            "MiB: the most that a training step on MNIST holds, with parameters and Adam; ms: of the processor, one net by autograd",
            "at few layers many nets choose the largest rate, so more of it might do better",
            "checkpointing: not trained again, as its gradients are the same",
        ]

    def picture(self, store: Store) -> Figure:
        """Gradient norms through the deepest nets at the start, and the score on each set over depth."""
        records = store.records()
        figure = new_figure(3.0 + 3.3 * len(self.tasks), 3.8)
        norms, *others = figure.subplots(1, 1 + len(self.tasks))
        for colour, net in enumerate(KINDS):
            depths = self.depths(net)
            style: dict[str, Any] = {"color": f"C{colour}", "linewidth": 3 if KINDS[net] == "HanNet" else 1.5}
            start = records[self.starts(DEPTHS[-1], net)[0].key].curves["start_norms"]
            shares = [place / (DEPTHS[-1] - 1) for place in places(DEPTHS[-1])]
            norms.plot(shares, [norm or torch.nan for norm in start], label=net, **style)
            for task, axis in zip(self.tasks, others, strict=True):
                scores = [_scores([records[run.key] for run in self.runs(d, net, task)], task)[0] for d in depths]
                axis.plot(depths, [torch.nan if s is None else s for s in scores], "o-", markersize=4, **style)
        norms.set(yscale="log", xlabel="place in the net", ylabel="norm")
        norms.set_title(f"gradient in {DEPTHS[-1]:,} layers, at the start", fontsize=10)
        for task, axis in zip(self.tasks, others, strict=True):
            axis.set(xscale="log", xlabel="hidden layers", ylabel="accuracy in %" if task == "mnist" else "RMSE")
            axis.set_title(f"{task}: test", fontsize=10)
        figure.legend(loc="outside lower center", ncols=3, fontsize=8)
        return self.annotate_quick(figure)


@dataclass(frozen=True)
class _Setting:
    """What a run's net sees, and how it is built."""

    task: Task
    network: Mapping[str, Any]
    seed: int
    loss: str

    @classmethod
    def of(cls, run: Run) -> "_Setting":
        data = run.config["data"]
        loss = "cross_entropy" if data["set"] == "mnist" else "mse"
        return cls(load_task(data, run.seed), run.config["network"], run.seed, loss)

    def build(self) -> nn.Module:
        x, y = self.task.train
        return build_model(**self.network, seed=self.seed, in_features=x.shape[1], out_features=y.shape[1])

    def first(self, rows: int) -> tuple[Tensor, _deep.LossOf]:
        """So many of the training rows, and the loss on them."""
        x, y = (column[:rows] for column in self.task.train)
        value = Recipe(loss=self.loss).loss_function().value
        return x, lambda outputs: value(outputs[None], y[None])[0]


def _start(run: Run) -> Result:
    setting, network = _Setting.of(run), run.config["network"]
    net, (x, loss) = setting.build(), setting.first(PROBE)
    norms = _deep.gradient_norms(net, x, loss)
    metrics = {
        "parameters": float(_mnist.parameters(net)),
        "start_loss": _loss(net, x, loss),
        "start_spread": _deep.spread(norms),
        "start_distance_kept": _deep.distance_kept(net, x),
        **_measure(net, *setting.first(run.config["batch"])),
    }
    return Result(metrics, curves={"start_norms": [norms[place] for place in places(network["depth"])]})


def _train(run: Run, on_progress: OnProgress) -> Result:
    setting, config = _Setting.of(run), run.config
    task, network, recipe = setting.task, config["network"], Recipe(**config["recipe"])
    label = (
        f"{network['kind']}, {network['depth']} layers of {network['width']}, {config['data']['set']}, seed {run.seed}"
    )
    networks = [setting.build() for _ in config["rates"]]
    recipes = [replace(recipe, lr=rate) for rate in config["rates"]]
    follow = ProgressReporter(on_progress, label, lambda state: {"training loss": float(state.loss.nanmean())})
    training.train(networks, recipes, [run.seed] * len(networks), *task.train, callbacks=[follow])

    scores = [_score(net, task.validation, task.score) for net in networks]
    best = max(range(len(scores)), key=scores.__getitem__)
    chosen, (x, loss) = networks[best], setting.first(PROBE)
    norms = _deep.gradient_norms(chosen, x, loss)
    metrics = {f"validation_{rate:g}": abs(score) for rate, score in zip(config["rates"], scores, strict=True)}
    metrics |= {
        "learning_rate": config["rates"][best],
        "test": abs(_score(chosen, task.test, task.score)),
        "end_loss": _loss(chosen, x, loss),
        "end_spread": _deep.spread(norms),
    }
    return Result(metrics, curves={"end_norms": [norms[place] for place in places(network["depth"])]})


@torch.no_grad()
def _score(network: nn.Module, rows: Rows, score: Callable[[Tensor, Tensor], float]) -> float:
    return score(torch.cat([network(x) for x in rows.x.split(2000)]), rows.y)


@torch.no_grad()
def _loss(network: nn.Module, x: Tensor, loss: _deep.LossOf) -> float:
    return float(loss(network(x)))


def _measure(network: nn.Module, x: Tensor, loss: _deep.LossOf) -> dict[str, float]:
    """Seconds and bytes of a step; of a residual net with checkpointing too, and by how much its gradients then differ."""
    found = {}
    if isinstance(network, _deep.ResidualNet):
        gradients = []
        for network.checkpointing in (False, True):
            gradients.append(torch.autograd.grad(loss(network(x)), list(network.parameters())))
        difference = max(float((a - b).abs().max()) for a, b in zip(*gradients, strict=True))
        seconds, held = _deep.step_cost(network, x, loss)
        found = {"checkpointing_step_seconds": seconds, "checkpointing_step_bytes": float(held)}
        found["checkpointing_difference"] = difference
        network.checkpointing = False
    seconds, held = _deep.step_cost(network, x, loss)
    return {"step_seconds": seconds, "step_bytes": float(held), **found}


def _scores(records: Sequence[Record], task: str) -> tuple[float | None, float | None]:
    factor = 100 if task == "mnist" else 1
    values = [record.metrics["test"] for record in records]
    return mean_and_std([None if value is None else factor * value for value in values])


def _costs(records: Sequence[Record], prefix: str = "") -> dict[str, float | None]:
    (seconds, _), (held, _) = (
        mean_and_std([record.metrics[f"{prefix}step_{unit}"] for record in records]) for unit in ("seconds", "bytes")
    )
    return {"milliseconds": 1000 * number(seconds), "mib": number(held) / 2**20}


def _row(starts: Sequence[Record], trained: Mapping[str, Sequence[Record]]) -> dict[str, Any]:
    """What the records of a net say; those of its trainings by task, none where it was not trained."""
    row: dict[str, Any] = {"size": int(number(starts[0].metrics["parameters"]))}
    row["start"] = _largest([record.metrics["start_spread"] for record in starts])
    row["end"] = _largest([record.metrics["end_spread"] for records in trained.values() for record in records])
    row["distance"], _ = mean_and_std([record.metrics["start_distance_kept"] for record in starts])
    for task, records in trained.items():
        row[task], row[f"{task}_std"] = _scores(records, task)
    row["rates"] = "; ".join(
        ", ".join(sorted({f"{record.metrics['learning_rate']:g}" for record in records}))
        for records in trained.values()
    )
    return row | _costs(starts)


def _largest(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return max(known) if known and len(known) == len(values) else None
