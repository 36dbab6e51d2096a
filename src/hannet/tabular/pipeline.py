"""From a table and the name of a column to a model of that column, and a report of how well it does."""

import math
import re
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning

from ..estimators.base import HanClassifier, HanRegressor
from ..reporting.progress import OnProgress, ProgressEvent
from ..train.callbacks import Callback, TrainingState
from . import baselines, metrics
from .encoders import Encoder
from .model import Model
from .parsing import DEFAULT_MISSING, infer_decimal_marks, missing_tokens_note, parse_numbers, unmatched_missing_tokens
from .readers import Table, TableError
from .report import Report, make_report
from .target import MIN_ROWS, dropped_rows_note, infer_target, target_column

if TYPE_CHECKING:
    pass
PANDAS_INDEX = re.compile(r"__index_level_\d+__")  # a column of Parquet


@dataclass(frozen=True)
class FitOptions:
    """What a person may choose. missing: words for a missing value; options: of the estimator."""

    target: str
    task: str | None = None
    test: float = 0.2
    seed: int = 0
    header: bool = True
    baselines: bool = True
    missing: Sequence[str] = DEFAULT_MISSING
    options: Mapping[str, Any] | None = None


def holdout_mask(y: np.ndarray, copies: np.ndarray, fraction: float, seed: int, *, classes: bool) -> np.ndarray:
    """A mask of the rows to test on: at random, of classes an even share, and never all rows of a class.

    copies: equal numbers for rows that must stay together; they have one y.
    """
    _, first, place, sizes = np.unique(copies, return_index=True, return_inverse=True, return_counts=True)
    kinds = y[first]
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(first))
    order = order[np.lexsort((sizes[order], kinds[order] if classes else np.zeros(len(first))))]  # else still at random
    count = min(max(2, round(fraction * len(first))), len(first) - 2)
    test = np.zeros(len(first), bool)
    test[order[((np.arange(count) + rng.random()) / count * len(first)).astype(int)]] = True
    if classes:
        lost = np.setdiff1d(kinds[test], kinds[~test])
        test[[np.flatnonzero(kinds == code)[0] for code in lost]] = False
    return test[place]


def _duplicate_groups(cells: pd.DataFrame, most: float) -> tuple[np.ndarray, list[str]]:
    """A number for each row, the same for equal rows unless they are so by chance, or more than most; and a note."""
    copies, distinct = pd.factorize(pd.util.hash_pandas_object(cells, index=False))
    repeated = len(copies) - len(distinct)
    if not repeated:
        return copies, []
    note = f"rows that repeat another: {repeated:,} of {len(copies):,}"
    ways = math.prod(cells[name].nunique() for name in cells)  # to make a row of the columns' values
    if ways < len(copies) or len(distinct) < MIN_ROWS or np.bincount(copies).max() > most:
        return np.arange(len(copies)), [f"{note}, too many to hold out equal rows together"]
    return copies, [f"{note}; equal rows are held out together or not at all"]


def fit(table: Table, plan: FitOptions, on_progress: OnProgress) -> tuple[Model, Report]:
    """Train on a part of the rows, measure on the others. Raises TableError."""
    column = target_column(table, plan.target)
    decimals, spelt = infer_decimal_marks(table, plan.missing)
    target, notes = infer_target(column, plan.target, plan.task, decimals[plan.target], plan.missing)
    codes, counts = target.codes(table, plan.missing)
    others = table.cells.drop(columns=plan.target)
    unwanted = {name: "numbers the rows" for name in others if _is_row_number(others[name], decimals[name])}
    unwanted |= {name: "an index that pandas kept" for name in others if PANDAS_INDEX.fullmatch(name)}
    notes += dropped_rows_note(column, counts, classes=bool(target.classes))
    y = codes[counts]
    copies, repeated = _duplicate_groups(table.cells[counts].drop(columns=list(unwanted)), plan.test * len(y) / 2)
    test = holdout_mask(y, copies, plan.test, plan.seed, classes=bool(target.classes))
    order, train = np.argsort(test, kind="stable"), int((~test).sum())
    y, cells = y[order], others[counts].iloc[order]  # so both parts are views of one matrix
    encoder = Encoder.fit(cells[:train], unwanted, decimals, plan.missing)
    x, odd = encoder.encode(cells)
    split = metrics.Split(x[:train], y[:train], x[train:], y[train:], len(target.classes))
    notes = [*table.notes, *spelt, *notes, *repeated, *encoder.notes, *odd]
    notes += missing_tokens_note(cells[list(encoder.groups)], plan.missing) + unmatched_missing_tokens(
        table.cells, plan.missing
    )
    estimator, rows = _train(split, plan, on_progress, notes)
    model = Model(target, plan.header, encoder, estimator)
    importances = metrics.permutation_importance(estimator, encoder.groups, split, plan.seed)
    return model, make_report(model, split, rows, importances, notes, asdict(plan))


def _is_row_number(cells: pd.Series, decimal: str) -> bool:
    values = parse_numbers(cells, decimal)
    return bool(values[0] in (0, 1) and (np.diff(values) == 1).all())


class _EpochReporter(Callback):
    """Reports every epoch of the HanNets, the first of some models.  share: of the whole work."""

    def __init__(self, report: OnProgress, models: int, share: float):
        self.report, self.models, self.share = report, models, share

    def on_epoch_end(self, state: TrainingState) -> None:
        epochs = state.epoch if state.stopped else state.epochs
        fit = ProgressEvent("models", self.share * state.epoch / epochs, 1, "", {"model": f"1/{self.models}"})
        loss = {"loss": float(state.loss.nanmean())}
        self.report(ProgressEvent("HanNet", state.epoch, epochs, "epochs", loss, fit))


def _train(
    split: metrics.Split, plan: FitOptions, on_progress: OnProgress, notes: list[str]
) -> tuple[HanRegressor | HanClassifier, list[dict[str, Any]]]:
    """The estimator, and the rows of the table that compares it with others."""
    others = baselines.baselines(split, plan.seed) if plan.baselines else {}
    models, ours = 1 + len(others), 0.9 if others else 1.0  # the share of the work that is ours, about

    def on_other(number: int, name: str, done: int) -> None:
        share = ours + (1 - ours) * (number - 1 + done) / len(others)
        fit = ProgressEvent("models", share, 1, "", {"model": f"{number + 1}/{models}"})
        on_progress(ProgressEvent(f"{name} {'trained' if done else 'training'}", done, 1, "", within=fit))

    kind = HanClassifier if split.classes else HanRegressor
    estimator = kind(random_state=plan.seed, **(plan.options or {}))
    began = time.perf_counter()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            estimator.fit(split.x, split.y, callbacks=[_EpochReporter(on_progress, models, ours)])
    except RuntimeError as error:
        raise TableError(f"the training failed: {error}") from error
    notes += [str(warning.message) for warning in caught if issubclass(warning.category, ConvergenceWarning)]
    rows = [{"model": "HanNet"} | baselines.evaluate(estimator, split, began)]
    for number, (name, model) in enumerate(others.items(), 1):
        on_other(number, name, done=0)
        began = time.perf_counter()
        rows.append({"model": name} | baselines.evaluate(baselines.ScaledModel(model, split), split, began))
        on_other(number, name, done=1)
    return estimator, rows
