"""Table 6: on MNIST a HanNet withstands attacks that fool an FCNet, about as well as FCNets trained against attacks.

20 Han-layers of width 784 and a Linear; one dense hidden layer of that width, trained as it is, by TRADES and by adversarial
training, both on FGSM samples. 10,000 training images, Adam, 100 epochs. PGD (30 steps) in l2 and linf, on all 10,000 test
images; CW with a fixed c, 1,000 steps, on 1,000 of them. The paper's text lost the radii, the FGSM distance and the weight
decays it searched, and the rate of CW: docs/log.md tells how they were found, on other images than the test images.

The HanNet's weight decay is searched as in the paper, but on 10,000 images of their own: the most robust one (PGD, l2, 2)
whose accuracy stays over 92.5%, and over 90% as in the paper. Not in the paper: a HanNet made to be certified
(`lipschitz=True`), and PGD on the margin of logits. Five seeds take about 75 minutes on two cores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, ClassVar, NamedTuple

import torch
from torch import nn

from ...attacks import CW, PGD, Attack, attack
from ...reporting.figures import Figure, new_figure
from ...reporting.progress import OnProgress, ProgressEvent
from ...reporting.tables import Table
from ...train.recipe import Recipe
from ..base import BaseExperiment, Result, format_seeds, mean_and_std
from ..record import Record, Run
from ..store import Store
from ..verdicts import Comparison
from . import _mnist

_HAN = {"kind": "Han-layers", "layers": 20}
_FC = {"kind": "FCNet", "width": _mnist.PIXELS, "depth": 1}
_LIPSCHITZ = {"kind": "HanNet", "width": 1024, "depth": 4, "lipschitz": True, "reflections": 8}
WEIGHT_DECAYS = (0.03, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1, 0.12, 0.15, 0.2)  # of the HanNet
FGSM_EPS = 0.1
TRADES_BETA = 1.0  # what the authors of TRADES take for MNIST


class Method(NamedTuple):
    """A net and what its recipe changes of Table 4's. paper: its column; least_clean: of the weight decays tried."""

    part: str
    network: Mapping[str, Any]
    options: Mapping[str, Any]
    paper: int | None = None
    least_clean: float | None = None


METHODS = {
    "HanNet": Method("han", _HAN, {}, 0, 0.925),
    "HanNet, over 90%": Method("han-90", _HAN, {}, 0, 0.9),
    "HanNet, lipschitz": Method(
        "lipschitz", _LIPSCHITZ, {"weight_decay": 0.0, "temperature": 1.0, "lr": 3e-3, "schedule": "cosine"}
    ),
    "FCNet": Method("fc", _FC, {}, 1),
    "FCNet, TRADES": Method("trades", _FC, {"defence": "trades", "eps": FGSM_EPS, "beta": TRADES_BETA}, 2),
    "FCNet, adversarial": Method("adversarial", _FC, {"defence": "adversarial", "eps": FGSM_EPS}, 3),
}
CW_RATE = 0.002  # of CW's Adam, which the paper does not tell: with it the FCNet comes out as in its table
ATTACKS: dict[str, Attack] = {
    **{f"cw_c{c}": CW(c, lr=CW_RATE) for c in (1, 3, 5)},
    **{f"pgd_l2_{eps}": PGD("l2", eps) for eps in (1, 2, 3)},
    **{f"pgd_linf_0_{tenths}": PGD("linf", tenths / 10) for tenths in (1, 2, 3)},
    "pgd_margin_l2_2": PGD("l2", 2, loss="margin"),
    "pgd_margin_linf_0_2": PGD("linf", 0.2, loss="margin"),
}
SEARCHED = PGD("l2", 2.0)
SEARCH_POINTS = 10_000
POINTS = {"pgd": 10_000, "cw": 1_000}
QUICK_POINTS = 100
EPOCHS, QUICK_EPOCHS = 100, 1
PAPER = {  # accuracies: HanNet, FCNet, FCNet by TRADES, FCNet by adversarial training
    "clean": (0.925, 0.964, 0.969, 0.967),
    "cw_c1": (0.887, 0.684, 0.828, 0.815),
    "cw_c3": (0.757, 0.069, 0.437, 0.348),
    "cw_c5": (0.653, 0.032, 0.216, 0.176),
    "pgd_l2_1": (0.783, 0.705, 0.866, 0.859),
    "pgd_l2_2": (0.529, 0.121, 0.448, 0.412),
    "pgd_l2_3": (0.260, 0.007, 0.071, 0.051),
    "pgd_linf_0_1": (0.753, 0.467, 0.861, 0.867),
    "pgd_linf_0_2": (0.406, 0.018, 0.475, 0.420),
    "pgd_linf_0_3": (0.075, 0.001, 0.042, 0.041),
}
SHOWN = {
    "clean": "none",
    **{f"cw_c{c}": f"CW, c = {c}" for c in (1, 3, 5)},
    **{f"pgd_l2_{eps}": f"PGD, l2, {eps}" for eps in (1, 2, 3)},
    **{f"pgd_linf_0_{tenths}": f"PGD, linf, 0.{tenths}" for tenths in (1, 2, 3)},
    "pgd_margin_l2_2": "PGD on the margin, l2, 2",
    "pgd_margin_linf_0_2": "PGD on the margin, linf, 0.2",
}


class Experiment(BaseExperiment):
    """Table 6 for some seeds and methods."""

    stem: ClassVar[str] = "table6"
    comparisons: ClassVar[tuple[Comparison, ...]] = tuple(
        Comparison(name, f"{name}_paper", 0.03, ["attack"], what=f"accuracy of {name}", std=f"{name}_std", form=".3f")
        for name, method in METHODS.items()
        if method.paper is not None and name != "HanNet, over 90%"  # whose column HanNet has, with the paper's accuracy
    )
    parts: ClassVar[tuple[str, ...]] = tuple(method.part for method in METHODS.values())
    trials: ClassVar[int] = 5

    @property
    def _methods(self) -> list[str]:
        return [name for name, method in METHODS.items() if method.part in self.chosen_parts]

    def groups(self) -> list[list[Run]]:
        """Every run by itself; a HanNet's weight decays are members of one training."""
        return [[self._run(method, seed)] for method in self._methods for seed in self.seeds]

    def _run(self, method: str, seed: int) -> Run:
        chosen = METHODS[method]
        epochs = QUICK_EPOCHS if self.quick else EPOCHS
        steps = _mnist.iterations(_mnist.FEW, _mnist.PROTOCOL.batch, epochs)
        recipe = replace(_mnist.PROTOCOL, iterations=steps, **chosen.options)
        config: dict[str, Any] = {
            "network": chosen.network,
            "recipe": recipe.differences(),
            "data": _mnist.FEW,
            "points": dict.fromkeys(POINTS, QUICK_POINTS) if self.quick else POINTS,
            "cw_rate": CW_RATE,
        }
        if chosen.least_clean:
            config |= {"weight_decays": list(WEIGHT_DECAYS), "least_clean": chosen.least_clean}
            config["search_points"] = QUICK_POINTS if self.quick else SEARCH_POINTS
        return Run("mnist-attacks" + "-quick" * self.quick, config, seed)

    def cost(self, run: Run) -> float:
        """Expected time of a run, in any unit."""
        return {"trades": 16.0, "adversarial": 14.0}.get(run.config["recipe"].get("defence", ""), 10.0)

    def compute(self, group: Sequence[Run], on_progress: OnProgress) -> list[Result]:
        """Train one net, or a HanNet at every weight decay, and attack it, or the one of them that validation chooses."""
        (run,) = group
        label = f"{next(name for name in METHODS if self._run(name, run.seed) == run)}, seed {run.seed}"
        recipe = Recipe(**run.config["recipe"])
        recipes = [
            replace(recipe, weight_decay=decay) for decay in run.config.get("weight_decays", [recipe.weight_decay])
        ]
        networks = [_mnist.build(run.config["network"], run.seed) for _ in recipes]
        _mnist.fit(networks, recipes, [run.seed] * len(recipes), run.config["data"], label, on_progress)
        chosen, curves = 0, {}
        if len(networks) > 1:
            curves = _searched(networks, run.config)
            chosen = _choose(curves["clean"], curves["robust"], run.config["least_clean"])
        metrics = {"weight_decay": recipes[chosen].weight_decay, "parameters": _mnist.parameters(networks[chosen])}
        metrics |= _attacked(networks[chosen], run, label, on_progress)
        return [Result(metrics, networks[chosen], curves)]

    def table(self, records: Mapping[str, Record]) -> Table:
        """One row per attack: accuracy of each method, mean and standard deviation over seeds, beside the paper's."""
        columns = {"attack": ("attack", ""), **{f"{method}_shown": (method, "") for method in self._methods}}
        rows = []
        for name, shown in SHOWN.items():
            row: dict[str, Any] = {"attack": shown}
            for method in self._methods:
                mean, std = mean_and_std(self._accuracies(method, name, records))
                paper = _papers(method, name)
                row |= {method: mean, f"{method}_std": std, f"{method}_paper": paper}
                parts = ("–" if mean is None else f"{mean:.3f}", std and f"± {std:.3f}", paper and f"({paper:.3f})")
                row[f"{method}_shown"] = " ".join(part for part in parts if part)
            rows.append(row)
        counts = {method: self._metrics(method, "parameters", records)[0] for method in self._methods}
        notes = [
            f"{format_seeds(self.seeds)}; accuracy ± standard deviation over seeds (the paper's); parameters: "
            + ", ".join(f"{method} {count:,.0f}" for method, count in counts.items()),
            "PGD: 30 steps, 10,000 test images; CW: 1,000 steps, 1,000 test images, the same ones for all",
            f"CW's rate is {CW_RATE:g}, at which the FCNet comes out as in the paper; at 0.01 CW is much stronger (docs/log.md)",
            "PGD on the margin is not in the paper: no scale of the logits hides it, as it does cross entropy",
            f"FGSM samples of TRADES (beta {TRADES_BETA:g}) and adversarial training: linf {FGSM_EPS:g}",
        ]
        for method in self._methods:
            if least := METHODS[method].least_clean:
                decays = sorted({f"{decay:g}" for decay in self._metrics(method, "weight_decay", records)}, key=float)
                notes.append(
                    f"{method}: weight decay {', '.join(decays)}, of {', '.join(f'{decay:g}' for decay in WEIGHT_DECAYS)} the "
                    f"most robust (PGD, l2, 2) over {least:.1%} on images that neither train nor test"
                )
        return self.make_table("Table 6: MNIST under attack", columns, rows, notes)

    def _metrics(self, method: str, name: str, records: Mapping[str, Record]) -> list[float]:
        return [
            value for seed in self.seeds if (value := records[self._run(method, seed).key].metrics[name]) is not None
        ]

    def _accuracies(self, method: str, name: str, records: Mapping[str, Record]) -> list[float | None]:
        return [records[self._run(method, seed).key].metrics[name] for seed in self.seeds]

    def picture(self, store: Store) -> Figure:
        """A bar for each method and attack, the paper's number a line."""
        records = store.records()
        figure = new_figure(14.5, 4.2)
        axis = figure.subplots()
        width = 0.8 / len(self._methods)
        for place, method in enumerate(self._methods):
            left = [index - 0.4 + (place + 0.5) * width for index in range(len(SHOWN))]
            values = [fmean(value or 0.0 for value in self._accuracies(method, name, records)) for name in SHOWN]
            axis.bar(left, values, width, color=f"C{place}", alpha=0.7, label=method)
            known = [(x, paper) for x, name in zip(left, SHOWN, strict=True) if (paper := _papers(method, name))]
            for number, (x, paper) in enumerate(known):
                name = "paper" if place == number == 0 else None
                axis.plot([x - width / 2, x + width / 2], [paper, paper], color="black", linewidth=1, label=name)
        axis.set(xticks=range(len(SHOWN)), ylabel="accuracy", ylim=(0, 1), title="MNIST under attack")
        axis.set_xticklabels(
            [shown.replace(" on the ", " on\nthe ").replace(", ", "\n", 1) for shown in SHOWN.values()]
        )
        axis.set_xlabel("attack")
        figure.legend(loc="outside right upper")
        return self.annotate_quick(figure)


def _papers(method: str, name: str) -> float | None:
    column = METHODS[method].paper
    return PAPER[name][column] if column is not None and name in PAPER else None


def _searched(networks: Sequence[nn.Module], config: Mapping[str, Any]) -> dict[str, list[float]]:
    """Of each network the accuracy on the validation images, and that on the first of them under attack."""
    held = _mnist.digits(config["data"], "validation")
    x, y = held.x[: config["search_points"]], held.y[: config["search_points"]]
    robust = [attack(network, x, y, SEARCHED).accuracy for network in networks]
    return {"clean": held.accuracy(_mnist.logits(networks, held.x)).tolist(), "robust": robust}


def _choose(clean: Sequence[float], robust: Sequence[float], least_clean: float) -> int:
    """The most robust one that is right often enough; the one that is right most often if none is."""
    enough = [index for index, accuracy in enumerate(clean) if accuracy >= least_clean]
    if enough:
        return max(enough, key=lambda index: robust[index])
    return max(range(len(clean)), key=lambda index: clean[index])


def _attacked(network: nn.Module, run: Run, label: str, on_progress: OnProgress) -> dict[str, float]:
    test = _mnist.digits(run.config["data"], "test")
    order = torch.randperm(len(test.y), generator=torch.Generator().manual_seed(run.config["data"]["split_seed"]))
    found = {"clean": float(test.accuracy(_mnist.logits([network], test.x)[0]))}
    for name, method in ATTACKS.items():
        rows = order[: run.config["points"][name.split("_")[0]]]

        def report(event: ProgressEvent, label: str = f"{label}, under {SHOWN[name]}") -> None:
            on_progress(replace(event, label=label))

        found[name] = attack(network, test.x[rows], test.y[rows], method, on_progress=report).accuracy
    return found
