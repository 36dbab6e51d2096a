"""Feed-forward: in a small GPT, what a HanBlock gives in place of the feed-forward, beside other small ones of as many parameters.

Not in the paper. A GPT over the characters of Shakespeare's plays (4 blocks of width 128, 4 heads, context 64, batch 12, 2,000
steps), whose feed-forwards have 0.5, 2, 8, 30 or 100% of the parameters of the usual ones, 128-512-128 with GELU: HanBlocks, narrow
ones, and ones whose matrices are of low rank, block-diagonal or products of two such (Monarch); and none at all. All train alike, at
rates that `feedforward-search` chose.
A run takes one to four minutes of a core.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, ClassVar

from ...reporting.figures import Figure, new_figure
from ...reporting.progress import OnProgress
from ...reporting.tables import Table
from ...train.recipe import Recipe
from ..base import BaseExperiment, Result, mean_and_std, number
from ..record import Record, Run
from ..store import Store
from . import _gpt

STEPS, QUICK_STEPS = 2_000, 4
DATA = {"set": "tinyshakespeare", "train": 0.9, "validation": 0.1}
FULL = 526_848  # parameters of the four usual feed-forwards
ALLOWED = 1.04  # how far above its budget a feed-forward may be: sizes come in steps
METHODS = ("HanBlock", "narrow MLP", "low rank", "Monarch", "grouped", "none")


@dataclass(frozen=True)
class Candidate:
    """A method at a budget, in % of the usual parameters, and its feed-forward. step: time of a step, relative; rate: of learning."""

    method: str
    budget: float
    form: Mapping[str, Any]
    step: float = 1.0
    rate: float = 2e-3  # where `feedforward-search` did not find another


CANDIDATES = {
    "han-0.5": Candidate("HanBlock", 0.5, {"form": "HanBlock", "hidden": 128, "scale": 1.0}, rate=4e-3),
    "mlp-0.5": Candidate("narrow MLP", 0.5, {"form": "dense", "hidden": 2}),
    "low-rank-0.5": Candidate("low rank", 0.5, {"form": "low-rank", "hidden": 100, "size": 1}, 1.2),
    "grouped-0.5": Candidate("grouped", 0.5, {"form": "grouped", "hidden": 128, "size": 128}, 1.5),
    "none": Candidate("none", 0.0, {"form": "none"}, 0.9),
    "han-8": Candidate("HanBlock", 8, {"form": "HanBlock", "hidden": 512, "reflections": 9, "scale": 1.0}, 1.8),
    "mlp-8": Candidate("narrow MLP", 8, {"form": "dense", "hidden": 42}),
    "mlp-100": Candidate("narrow MLP", 100, {"form": "dense", "hidden": 512}, 2.2),
    "low-rank-8": Candidate("low rank", 8, {"form": "low-rank", "hidden": 512, "size": 8}, 1.7),
    "monarch-8": Candidate("Monarch", 8, {"form": "monarch", "hidden": 512, "size": 16}, 2.3, 1e-3),
    "grouped-8": Candidate("grouped", 8, {"form": "grouped", "hidden": 320, "size": 8}, 1.8),
    "han-2": Candidate("HanBlock", 2, {"form": "HanBlock", "hidden": 256, "reflections": 4, "scale": 1.0}, 1.4),
    "mlp-2": Candidate("narrow MLP", 2, {"form": "dense", "hidden": 10}),
    "low-rank-2": Candidate("low rank", 2, {"form": "low-rank", "hidden": 256, "size": 3}, 1.4),
    "monarch-2": Candidate("Monarch", 2, {"form": "monarch", "hidden": 384, "size": 64}, 2.2),
    "grouped-2": Candidate("grouped", 2, {"form": "grouped", "hidden": 512, "size": 64}, 2.2),
    "han-30": Candidate("HanBlock", 30, {"form": "HanBlock", "hidden": 512, "reflections": 39, "scale": 1.0}, 3.5),
    "mlp-30": Candidate("narrow MLP", 30, {"form": "dense", "hidden": 159}, 1.4),
    "low-rank-30": Candidate("low rank", 30, {"form": "low-rank", "hidden": 512, "size": 31}, 1.9),
    "monarch-30": Candidate("Monarch", 30, {"form": "monarch", "hidden": 496, "size": 4}, 2.3),
    "grouped-30": Candidate("grouped", 30, {"form": "grouped", "hidden": 624, "size": 4}, 2.2),
    "low-rank-100": Candidate("low rank", 100, {"form": "low-rank", "hidden": 512, "size": 102}, 2.4),
}


class Training(BaseExperiment):
    """Candidates that train alike."""

    def run(self, part: str, seed: int, rate: float, data: Mapping[str, Any] = DATA) -> Run:
        """One training of a candidate."""
        recipe = _gpt.recipe(rate, QUICK_STEPS if self.quick else STEPS)
        network = {"kind": "GPT", "feedforward": CANDIDATES[part].form}
        config = {"network": network, "recipe": recipe.differences(), "data": data}
        return Run("shakespeare" + "-quick" * self.quick, config, seed)

    def cost(self, run: Run) -> float:
        """Expected time of a run, in any unit."""
        return CANDIDATES[part_of(run)].step

    def compute(self, group: Sequence[Run], on_progress: OnProgress) -> list[Result]:
        """Train one GPT and measure its loss on the validation text."""
        (run,) = group
        training, validation = _gpt.parts(run.config["data"])
        network = _gpt.build(run.config["network"], run.seed)
        recipe = Recipe(**run.config["recipe"])
        label = f"{part_of(run)}, rate {recipe.lr:g}, seed {run.seed}"
        seconds = _gpt.train(network, recipe, run.seed, training, label, on_progress)
        metrics = {
            "validation_loss": _gpt.loss(network, validation),
            "parameters": _gpt.size(network),
            "feedforward_parameters": _gpt.size(network.feedforwards()),
            "step_milliseconds": 1000 * seconds / recipe.iterations,
        }
        return [Result(metrics)]


def part_of(run: Run) -> str:
    """The name of a run's candidate."""
    return next(part for part, one in CANDIDATES.items() if one.form == run.config["network"]["feedforward"])


class Experiment(Training):
    """The candidates for some seeds."""

    stem: ClassVar[str] = "feedforward"
    parts: ClassVar[tuple[str, ...]] = tuple(CANDIDATES)
    partial: ClassVar[bool] = True
    trials: ClassVar[int] = 5

    def groups(self) -> list[list[Run]]:
        """Every run by itself."""
        return [[self._run(part, seed)] for seed in self.seeds for part in self.chosen_parts]

    def _run(self, part: str, seed: int) -> Run:
        return self.run(part, seed, CANDIDATES[part].rate)

    def _found(self, records: Mapping[str, Record]) -> dict[str, list[Mapping[str, float | None]]]:
        """The metrics of each part's seeds, without what is missing."""
        keys = {part: [self._run(part, seed).key for seed in self.seeds] for part in self.chosen_parts}
        found = {part: [records[key].metrics for key in mine if key in records] for part, mine in keys.items()}
        return {part: metrics for part, metrics in found.items() if metrics}

    def table(self, records: Mapping[str, Record]) -> Table:
        """One row a candidate: validation loss, mean and standard deviation over seeds, parameters and time of a step."""
        columns = {
            "method": ("feed-forward", ""),
            "budget": ("budget %", "{:g}"),
            "feedforward_parameters": ("parameters", "{:,.0f}"),
            "loss": ("validation loss", "{:.3f}"),
            "loss_std": ("std", "{:.3f}"),
            "seeds": ("seeds", "{}"),
            "step": ("step, ms", "{:.1f}"),
        }
        rows = []
        for part, mine in sorted(self._found(records).items(), key=lambda item: _place(item[0])):
            candidate = CANDIDATES[part]
            mean, std = mean_and_std([metrics["validation_loss"] for metrics in mine])
            row = {"method": candidate.method, "budget": candidate.budget}
            row |= {"loss": mean, "loss_std": std, "seeds": len(mine)}
            row["feedforward_parameters"] = mine[0]["feedforward_parameters"]
            row["step"], _ = mean_and_std([metrics["step_milliseconds"] for metrics in mine])
            rows.append(row)
        notes = [
            f"Shakespeare's plays, 65 characters; nine tenths train, the last tenth validates and chose nothing; {STEPS:,} steps",
            f"budget: of the {FULL:,} parameters of the usual feed-forwards; parameters: of all four feed-forwards",
            "std: over seeds; step: processor time of a training step on one thread, on a machine that did other work too",
            "Adam, warm-up 5%, cosine; the rate of each is the best of `feedforward-search`, 0.002 for those of 2, 30 and 100%",
            "HanBlock's shape, scale and start were chosen there as well, the others' shapes follow from their sizes",
        ]
        return self.make_table("Feed-forwards of a small GPT", columns, rows, notes)

    def picture(self, store: Store) -> Figure:
        """Validation loss over parameters, mean and range over seeds."""
        found = self._found(store.records())
        figure = new_figure(7.5, 4.4)
        axis = figure.subplots()
        for place, method in enumerate(METHODS):
            mine = [found[part] for part in found if CANDIDATES[part].method == method]
            mine.sort(key=lambda metrics: number(metrics[0]["feedforward_parameters"]))
            losses = [[number(m["validation_loss"]) for m in metrics] for metrics in mine]
            if method == "none":
                for each in losses:
                    axis.axhline(fmean(each), color="black", linewidth=0.8, linestyle=":", label=method)
                continue
            sizes = [number(metrics[0]["feedforward_parameters"]) for metrics in mine]
            axis.plot(sizes, [fmean(each) for each in losses], "o-", color=f"C{place}", label=method, markersize=4)
            axis.fill_between(sizes, [min(e) for e in losses], [max(e) for e in losses], color=f"C{place}", alpha=0.2)
        axis.set(xscale="log", xlabel="parameters of all feed-forwards", ylabel="validation loss")
        axis.set_title("A GPT of 4 blocks: feed-forwards of several kinds")
        axis.legend(fontsize=8)
        return self.annotate_quick(figure)


def _place(part: str) -> tuple[float, int]:
    """Small budgets first, methods in one order."""
    return CANDIDATES[part].budget, METHODS.index(CANDIDATES[part].method)
