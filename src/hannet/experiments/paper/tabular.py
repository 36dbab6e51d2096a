"""HanRegressor as it comes, on the sets and splits of Table 9, beside what else a person would take for a table of numbers.

HanRegressor's defaults were chosen on another split of these very sets (docs/log.md); the others have their libraries'.
Every method gets the training rows only, and holds out of them what it needs; the test rows are those of Table 9, and so
is the paper's HanNet beside ours, although the paper took its best epoch on the test rows. MLPRegressor (inputs and targets
standardised) and HistGradientBoostingRegressor have scikit-learn's defaults. TabM (package tabm; 16 members, 3 blocks of
128 units, AdamW 2e-3, weight decay 3e-4, batch 256, best of at most 100 epochs on a tenth of the rows, patience 16) is
smaller than its authors' default of 679,000 parameters, whose step takes 14 times as long on a CPU; it still is the slowest,
so only the first seed of it is run.
"""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ...models.registry import seeded
from ...reporting.progress import OnProgress, ProgressEvent
from ...reporting.tables import Table
from ..base import Result, format_seeds, mean_and_std
from ..record import Record, Run
from ..store import Store
from .table9 import BY_SUBJECT, FRACTIONS, PAPER_RMSE, Cells, read, splits_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
Fitted = tuple[Callable[[Array], Array], int]  # predict, and how many numbers the model has learned
Method = Callable[[Array, Array, int, bool], Fitted]


def _han(x: Array, y: Array, seed: int, quick: bool) -> Fitted:
    from ...estimators.base import HanRegressor

    model = HanRegressor(random_state=seed, **({"epochs": 2} if quick else {})).fit(x, y)
    return model.predict, model.n_parameters_


def _mlp(x: Array, y: Array, seed: int, quick: bool) -> Fitted:
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    mlp = MLPRegressor(random_state=seed, **({"max_iter": 2} if quick else {}))
    model = make_pipeline(StandardScaler(), TransformedTargetRegressor(mlp, transformer=StandardScaler()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # its default of 200 epochs is the person's too
        model.fit(x, y)
    fitted = model[-1].regressor_
    return model.predict, sum(part.size for part in [*fitted.coefs_, *fitted.intercepts_])


def _trees(x: Array, y: Array, seed: int, quick: bool) -> Fitted:
    from sklearn.ensemble import HistGradientBoostingRegressor

    model = HistGradientBoostingRegressor(random_state=seed, **({"max_iter": 5} if quick else {})).fit(x, y)
    nodes = sum(len(tree.nodes) for stage in model._predictors for tree in stage)
    return model.predict, nodes


def fit_tabm(x: Array, y: Array, seed: int, quick: bool, **shape: int) -> Fitted:
    """All members see each batch; the mean of their squared errors is the loss, and their mean the prediction."""
    from sklearn.preprocessing import StandardScaler
    from tabm import TabM

    scaler = StandardScaler().fit(x)  # it takes a column that varies by rounding only for constant
    middle, spread = y.mean(), y.std()
    inputs = torch.from_numpy(scaler.transform(x)).float()
    targets = torch.from_numpy((y - middle) / spread).float()
    generator = torch.Generator().manual_seed(seed)
    held, taught = torch.randperm(len(x), generator=generator).tensor_split([max(1, len(x) // 10)])
    with seeded(seed):
        model = TabM.make(n_num_features=x.shape[1], d_out=1, **shape)
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=3e-4)
        best, best_epoch, weights = float("inf"), 0, model.state_dict()
        for epoch in range(2 if quick else 100):
            model.train()
            for batch in taught[torch.randperm(len(taught), generator=generator)].split(256):
                optimizer.zero_grad()
                (model(inputs[batch])[..., 0] - targets[batch, None]).square().mean().backward()
                optimizer.step()
            loss = float((_mean_of_tabm(model, inputs[held]) - targets[held]).square().mean())
            if loss < best:
                best, best_epoch = loss, epoch
                weights = {name: value.clone() for name, value in model.state_dict().items()}
            if epoch - best_epoch >= 16:
                break
        model.load_state_dict(weights)

    def predict(x: Array) -> Array:
        outputs = _mean_of_tabm(model, torch.from_numpy(scaler.transform(x)).float())
        return outputs.double().numpy() * spread + middle

    return predict, sum(p.numel() for p in model.parameters())


@torch.no_grad()
def _mean_of_tabm(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    model.eval()
    return torch.cat([model(part)[..., 0].mean(1) for part in x.split(1024)])


METHODS: dict[str, Method] = {
    "HanRegressor": _han,
    "MLPRegressor": _mlp,
    "HistGradientBoosting": _trees,
    "TabM": partial(fit_tabm, k=16, n_blocks=3, d_block=128),
}
REVISIONS: dict[str, int] = {}  # by method: to be raised with what decides its results and is not in its config


COLUMNS = {  # of both tables of methods, first
    "set": ("set", ""),
    "fraction": ("train", "{:.0%}"),
    "method": ("method", ""),
    "rmse": ("RMSE", "{:.3f}"),
    "rmse_std": ("std", "{:.3f}"),
}


class Experiment(Cells):
    """The comparison for some seeds and sets."""

    stem: ClassVar[str] = "tabular"
    fewer_trials: ClassVar[Mapping[str, int]] = {"TabM": 1}  # of the slow methods
    costs: ClassVar[Mapping[str, float]] = {
        "HanRegressor": 10.0,
        "MLPRegressor": 2.0,
        "HistGradientBoosting": 0.2,
        "TabM": 20.0,
    }

    @property
    def methods(self) -> Mapping[str, Method]:
        """What is compared, in the order of the table."""
        return METHODS

    def groups(self) -> list[list[Run]]:
        """Every run alone."""
        return [[run] for cell in self.cells(self.methods) for run in self._runs(*cell)]

    def _runs(self, part: str, fraction: float, method: str) -> list[Run]:
        config = {"method": method, "data": {"set": part, "fraction": fraction}, **self.settings(method)}
        if method in REVISIONS:
            config["revision"] = REVISIONS[method]
        seeds = self.seeds[: self.fewer_trials.get(method)]
        return [Run("tabular" + "-quick" * self.quick, config, seed) for seed in seeds]

    def settings(self, method: str) -> dict[str, Any]:
        """What else a config says of a method."""
        if method != "HanRegressor":
            return {}
        from ...estimators.base import HanRegressor

        return {"parameters": HanRegressor().get_params()}

    def cost(self, run: Run) -> float:
        """Expected time of a run, in any unit."""
        rows = {"skillcraft": 0.2, "parkinsons": 0.35, BY_SUBJECT: 0.35}.get(run.config["data"]["set"], 1.0)
        return self.costs[run.config["method"]] * rows * run.config["data"]["fraction"]

    def compute(self, group: Sequence[Run], on_progress: OnProgress) -> list[Result]:
        """Fit one method to each split."""
        return [self.measure(run, self.methods[run.config["method"]], on_progress) for run in group]

    def measure(self, run: Run, fit: Method, on_progress: OnProgress) -> Result:
        """Time the fit to a run's split, and judge it on the test rows."""
        data = run.config["data"]
        table = read(data["set"])
        (split,) = splits_of(table, data["fraction"], [run.seed])
        train, test = split.train.numpy(), split.test.numpy()
        began, began_cpu = time.perf_counter(), time.process_time()
        predict, size = fit(table.x[train], table.y[train], run.seed, self.quick)
        seconds, cpu = time.perf_counter() - began, time.process_time() - began_cpu
        errors = predict(table.x[test]) - table.y[test]
        rmse = float(np.sqrt(np.square(errors).mean()))
        r2 = 1 - (rmse / float(table.y[test].std())) ** 2
        label = f"{run.config['method']}, {data['set']} {data['fraction']:.0%}, seed {run.seed}"
        on_progress(ProgressEvent(label, 1, 1, "fits", {"test RMSE": rmse}))
        metrics = {"test_rmse": rmse, "test_r2": r2, "parameters": float(size), "seconds": seconds, "cpu_seconds": cpu}
        return Result(metrics)

    def table(self, records: Mapping[str, Record]) -> Table:
        """One row per set, share of training rows and method: mean and standard deviation over seeds."""
        columns = {
            **COLUMNS,
            "r2": ("R²", "{:.3f}"),
            "paper": ("paper's HanNet RMSE", "{:.3f}"),
            "size": ("size", "{:,.0f}"),
            "seconds": ("CPU s", "{:,.1f}"),
        }
        rows = [self._row(*cell, [records[run.key] for run in self._runs(*cell)]) for cell in self.cells(self.methods)]
        notes = [
            f"{format_seeds(self.seeds)}, each with the split that it has in table9; std: over seeds",
            "HanRegressor's defaults were chosen on another split of these sets, which shares rows with the test rows here",
            f"TabM: {format_seeds(self.seeds[: self.fewer_trials['TabM']])} only, as it is slow",
            "every method saw the training rows only; the paper's HanNet was taken at its best epoch on the test rows",
            "size: number of parameters, of trees their nodes; CPU s: processor seconds of one fit, mean over seeds",
        ]
        if BY_SUBJECT in self.chosen_parts:
            notes.append(f"{BY_SUBJECT}: no patient on both sides of a split, patient's number left out")
        return self.make_table("HanRegressor beside other methods", columns, rows, notes)

    @staticmethod
    def _row(part: str, fraction: float, method: str, records: Sequence[Record]) -> dict[str, Any]:
        means = {
            name: mean_and_std([record.metrics[metric] for record in records])
            for name, metric in {
                "rmse": "test_rmse",
                "r2": "test_r2",
                "size": "parameters",
                "seconds": "cpu_seconds",
            }.items()
        }
        paper = PAPER_RMSE[part][3 * FRACTIONS.index(fraction)] if part in PAPER_RMSE else None
        row = {"set": part, "fraction": fraction, "method": method, "rmse_std": means["rmse"][1]}
        ours = method == "HanRegressor"
        return row | {name: mean for name, (mean, _) in means.items()} | {"paper": paper if ours else None}

    def picture(self, store: Store) -> "Figure":
        """Test RMSE of every method, by set and share of training rows; the paper's HanNet as a line."""
        from matplotlib.figure import Figure

        rows = self.table(store.records()).rows
        parts = self.chosen_parts
        figure = Figure(figsize=(2.6 * len(parts), 3.6), layout="constrained")
        for axis, part in zip(figure.subplots(1, len(parts), squeeze=False)[0], parts, strict=True):
            for number, method in enumerate(self.methods):
                mine = [row for row in rows if row["set"] == part and row["method"] == method]
                step = 0.72 / len(self.methods)
                places = [index + step * (number - (len(self.methods) - 1) / 2) for index in range(len(mine))]
                axis.bar(
                    places, [row["rmse"] for row in mine], 0.94 * step, yerr=[row["rmse_std"] or 0 for row in mine],
                    color=f"C{number}", label=method, error_kw={"linewidth": 0.8},
                )  # fmt: skip
            for index, fraction in enumerate(FRACTIONS):
                if part in PAPER_RMSE:
                    paper = PAPER_RMSE[part][3 * FRACTIONS.index(fraction)]
                    axis.plot([index - 0.4, index + 0.4], [paper, paper], "k--", linewidth=1, label="paper's HanNet")
            axis.set(title=part, xticks=range(len(FRACTIONS)), xlabel="training rows", ylim=(0, None))
            axis.set_xticklabels([f"{fraction:.0%}" for fraction in FRACTIONS])
        figure.axes[0].set_ylabel("test RMSE")
        kept = {
            label: handle
            for axis in figure.axes
            for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
        }
        figure.legend(kept.values(), kept.keys(), loc="outside lower center", ncols=len(kept))
        return self.annotate_quick(figure)
