"""HanRegressor beside its own pipeline with dense layers, each with the same search of its rate, and beside tabular's methods.

A control is HanRegressor to the last setting (staircases, scaling, members, AdamW with cosine, weight decay, held-out rows,
best epoch, seeds), but its members have the hidden layers of FCNet, Linear + ReLU. `dense, equal size` has five of them, as
the paper's FCNets and HanRegressor have, of the largest width whose parameters are at most those of HanRegressor's member on
the same rows (39 to 52 units here); `dense 5x200` is the paper's larger FCNet, whatever it costs.

HanRegressor's rate was chosen for Han-layers. `searched` and both controls choose theirs among the same four, once a set and
share of training rows: one member is trained with each rate on the training rows of seed 0's split, and its best loss on the
fifth of them that it holds out decides. All seeds are then trained with that rate. No other setting was searched here; all were
chosen for HanRegressor (docs/log.md), which is its advantage. Five seeds of the control of equal size and of `searched` take about
40 minutes of one core; the parts `dense-5x200` (two hours) and `tabm-full` are run only if they are asked for.

The records of HanRegressor, scikit-learn's methods and TabM are those of `tabular`, so the command is
`hannet reproduce tabular-controls --out results/tabular`. The part `tabm-full` (`--only tabm-full`, or with the names of sets
beside it) adds TabM of its authors' default size for three seeds, an estimated three core-hours each.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch import nn

from ...models.hannet import FCNet
from ...reporting.progress import OnProgress
from ...reporting.tables import Table
from ..base import Result, format_seeds
from ..record import Record, Run
from . import tabular
from ._paired import PER_CELL, compare, over_cells
from .table9 import FRACTIONS, PAPER_RMSE, read, splits_of
from .tabular import COLUMNS, METHODS, Array, Fitted, Method, fit_tabm

if TYPE_CHECKING:
    from ...estimators.base import HanRegressor

RATES = (1e-3, 3e-3, 1e-2, 3e-2)
SEARCH_SEED = 0
DEFAULT, SEARCHED = "HanRegressor", "HanRegressor, searched"
FULL_TABM, LARGE = "TabM, full", "dense 5x200"
ON_REQUEST = {"tabm-full": FULL_TABM, "dense-5x200": LARGE}  # parts that take hours


def equal_fcnet(in_features: int, out_features: int, width: int, depth: int) -> FCNet:
    """The widest FCNet with at most the parameters of the HanNet of this shape."""
    ends = in_features + 1 + out_features
    most = width * ends + 2 * width * (depth - 1)
    widest = next(w for w in range(width, 0, -1) if w * ends + w * (w + 1) * (depth - 1) <= most)
    return FCNet(in_features, out_features, widest, depth)


SEARCHES: dict[str, tuple[str | Callable[..., nn.Module], dict[str, Any]]] = {  # members, parameters of the estimator
    SEARCHED: ("HanNet", {}),
    "dense, equal size": (equal_fcnet, {}),
    LARGE: ("FCNet", {"width": 200, "depth": 5}),
}


def _fit(x: Array, y: Array, seed: int, quick: bool, *, name: str, **settings: Any) -> "HanRegressor":
    """HanRegressor's pipeline with the members of that name."""
    from ...estimators.base import HanRegressor

    network, parameters = SEARCHES[name]
    model = HanRegressor(random_state=seed, **parameters, **settings, **({"epochs": 2} if quick else {}))
    model._network = network
    return model.fit(x, y)


def _method(name: str, **settings: Any) -> Method:
    def fit(x: Array, y: Array, seed: int, quick: bool) -> Fitted:
        model = _fit(x, y, seed, quick, name=name, **settings)
        return model.predict, model.n_parameters_

    return fit


def _search(name: str, data: Mapping[str, Any], quick: bool) -> dict[str, float]:
    """The rate of the lowest loss on held-out training rows of seed 0's split; what a record keeps of it."""
    table = read(data["set"])
    (split,) = splits_of(table, data["fraction"], [SEARCH_SEED])
    rows = split.train.numpy()
    began, losses = time.process_time(), {}
    for rate in RATES:
        try:
            model = _fit(table.x[rows], table.y[rows], SEARCH_SEED, quick, name=name, members=1, learning_rate=rate)
            losses[rate] = float(np.nanmin(model.history_["validation"]))
        except RuntimeError:  # it diverged
            losses[rate] = math.inf
    found = {f"held_out_{rate:g}": loss for rate, loss in losses.items()}
    best = min(RATES, key=losses.__getitem__)
    return {**found, "learning_rate": best, "search_cpu_seconds": time.process_time() - began}


class Experiment(tabular.Experiment):
    """tabular with the controls, on the paper's sets alone."""

    stem: ClassVar[str] = "tabular-controls"
    parts: ClassVar[tuple[str, ...]] = (*PAPER_RMSE, *ON_REQUEST)
    fewer_trials: ClassVar[Mapping[str, int]] = {**tabular.Experiment.fewer_trials, FULL_TABM: 3}
    costs: ClassVar[Mapping[str, float]] = {
        **tabular.Experiment.costs,
        SEARCHED: 13.0,
        "dense, equal size": 16.0,
        LARGE: 80.0,
        FULL_TABM: 280.0,
    }

    @property
    def methods(self) -> Mapping[str, Method]:
        """HanRegressor, the controls, the others; those that take hours only if they were asked for."""
        controls = {name: _method(name) for name in SEARCHES}
        full = partial(fit_tabm, k=32, n_blocks=3, d_block=512)
        left_out = {name for part, name in ON_REQUEST.items() if part not in self.only}
        methods: dict[str, Method] = {DEFAULT: METHODS[DEFAULT], **controls, **METHODS, FULL_TABM: full}
        return {name: method for name, method in methods.items() if name not in left_out}

    @property
    def chosen_parts(self) -> tuple[str, ...]:
        """The sets asked for, else all."""
        return tuple(part for part in self.only if part in PAPER_RMSE) or tuple(PAPER_RMSE)

    def groups(self) -> list[list[Run]]:
        """The seeds of a search together, every other run alone."""
        cells = [self._runs(*cell) for cell in self.cells(self.methods)]
        return [
            group
            for runs in cells
            for group in ([runs] if runs[0].config["method"] in SEARCHES else [[run] for run in runs])
        ]

    def compute(self, group: Sequence[Run], on_progress: OnProgress) -> list[Result]:
        """Fit one method to each split, with the rate found for its cell."""
        method = group[0].config["method"]
        if method not in SEARCHES:
            return super().compute(group, on_progress)
        found = _search(method, group[0].config["data"], self.quick)
        fit = _method(method, learning_rate=found["learning_rate"])
        results = [self.measure(run, fit, on_progress) for run in group]
        return [Result({**result.metrics, **found}) for result in results]

    def settings(self, method: str) -> dict[str, Any]:
        """The members' network, the estimator's parameters, and how the rate was found."""
        if method not in SEARCHES:
            return super().settings(method)
        from ...estimators.base import HanRegressor

        network, parameters = SEARCHES[method]
        return {
            "network": network if isinstance(network, str) else "FCNet of equal size",
            "parameters": HanRegressor(**parameters).get_params(),
            "search": {"rates": list(RATES), "members": 1, "seed": SEARCH_SEED},
        }

    def table(self, records: Mapping[str, Record]) -> Table:
        """One row per set, share of training rows and method, then one per method over all cells."""
        columns = {
            **COLUMNS,
            "best": ("best", ""),
            "ratio_default": ("to HanRegressor", "{:.3f}"),
            "p_default": ("p", "{:.2g}"),
            "ratio_searched": ("to searched", "{:.3f}"),
            "p_searched": ("p", "{:.2g}"),
            "worse": ("worse than searched", ""),
            "rate": ("rate", "{:g}"),
            "size": ("size", "{:,.0f}"),
            "bytes": ("bytes", "{:,.0f}"),
            "seconds": ("CPU s", "{:,.1f}"),
            "search_seconds": ("CPU s of search", "{:,.1f}"),
        }
        cells = [self._cell(part, fraction, records) for part in self.chosen_parts for fraction in FRACTIONS]
        rows = [row for cell in cells for row in cell]
        rows += [_summary(method, cells) for method in self.methods if method != DEFAULT]
        return self.make_table(
            "HanRegressor, its pipeline with dense layers, and other methods", columns, rows, self._notes()
        )

    def _cell(self, part: str, fraction: float, records: Mapping[str, Record]) -> list[dict[str, Any]]:
        """The rows of a set and share of training rows."""
        found = {m: [records[run.key] for run in self._runs(part, fraction, m)] for m in self.methods}
        rows = []
        for method, mine in found.items():
            row = self._row(part, fraction, method, mine)
            row["bytes"] = None if method == "HistGradientBoosting" else 4 * row["size"]
            if method in SEARCHES:
                row["rate"] = mine[0].metrics["learning_rate"]
                row["search_seconds"] = mine[0].metrics["search_cpu_seconds"]
            for name, other in (("default", DEFAULT), ("searched", SEARCHED)):
                if method not in (DEFAULT, other):
                    row[f"ratio_{name}"], row[f"p_{name}"] = compare(mine, found[other])
            rows.append(row)
        if known := [row for row in rows if row["rmse"] is not None]:
            min(known, key=lambda row: row["rmse"])["best"] = "best"
        return rows

    def _notes(self) -> list[str]:
        fewer = {name: trials for name, trials in self.fewer_trials.items() if name in self.methods}
        return [
            f"{format_seeds(self.seeds)}, each with the split that it has in table9; std: over seeds",
            *(f"{name}: {format_seeds(self.seeds[:trials])} only, as it is slow" for name, trials in fewer.items()),
            "best: lowest mean RMSE of all methods",
            f"to HanRegressor, to searched: ratio of mean RMSE on the seeds that both have; p: {PER_CELL}",
            "all cells: geometric mean of the ratios; p: Wilcoxon's signed-rank test on their logarithms, exact, two-sided",
            "the two cells of a set are not independent",
            f"rate: chosen on held-out training rows of seed {SEARCH_SEED}, among {', '.join(map('{:g}'.format, RATES))}",
            "all other settings of HanRegressor, and so of the dense nets, were chosen for Han-layers on another split of these sets",
            "size: number of parameters, of trees their nodes; bytes: of the parameters in float32; CPU s: of a fit without the search",
        ]


def _summary(method: str, cells: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """A method over all cells: ratios and tests, none where a cell lacks its own."""
    mine = [row for rows in cells for row in rows if row["method"] == method]
    summary: dict[str, Any] = {"set": "all cells", "method": method, "rmse": None, "rmse_std": None}
    for name in ("default", "searched"):
        ratios = [ratio for row in mine if (ratio := row.get(f"ratio_{name}")) is not None]
        if len(ratios) == len(mine):
            summary[f"ratio_{name}"], worse, summary[f"p_{name}"] = over_cells(ratios)
            if name == "searched":
                summary["worse"] = f"{worse} of {len(ratios)}"
    return summary
