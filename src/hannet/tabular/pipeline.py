"""From a table and the name of a column to a model of that column, and a report of how well it does."""

import math
import re
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning

from ..estimators.base import HanClassifier, HanRegressor
from ..reporting.progress import OnProgress, ProgressEvent
from ..train.callbacks import Callback, TrainingState
from . import baselines, metrics
from .encoders import Encoder
from .missing import DEFAULT_MISSING, missing_tokens_note, unmatched_missing_tokens
from .model import Model
from .numbers import infer_decimal_marks, parse_numbers
from .readers import Table, TableError
from .report import Report, make_report
from .target import MIN_ROWS, dropped_rows_note, infer_target, target_column

PANDAS_INDEX = re.compile(r"__index_level_\d+__")  # a column of Parquet


@dataclass(frozen=True)
class FitOptions:
    """What a person may choose about a fit.

    Args:
        target: The column to predict.
        task: "regression" or "classification"; None leaves it to the target's values.
        test: Share of the rows to test on.
        seed: Of the rows held out and of the training.
        header: Whether the table has one.
        baselines: Whether to train models of scikit-learn to compare with.
        missing: Tokens for a missing value.
        options: Parameters of the estimator.
    """

    target: str
    task: str | None = None
    test: float = 0.2
    seed: int = 0
    header: bool = True
    baselines: bool = True
    missing: Sequence[str] = DEFAULT_MISSING
    options: Mapping[str, Any] | None = None


def holdout_mask(y: np.ndarray, groups: np.ndarray, fraction: float, seed: int, *, classes: bool) -> np.ndarray:
    """A mask of the rows to test on: at random, of classes an even share, and never all rows of a class.

    groups: equal numbers for rows that must stay together; they have one y.
    """
    _, first, position, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    labels = y[first]
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(first))
    strata = labels if classes else np.zeros(len(first))
    order = order[np.lexsort((sizes[order], strata[order]))]  # at random within equal ones
    count = min(max(2, round(fraction * len(first))), len(first) - 2)
    test = np.zeros(len(first), bool)
    test[order[((np.arange(count) + rng.random()) / count * len(first)).astype(int)]] = True
    if classes:
        lost = np.setdiff1d(labels[test], labels[~test])
        test[[np.flatnonzero(labels == code)[0] for code in lost]] = False
    return test[position]


def _duplicate_groups(cells: pd.DataFrame, limit: float) -> tuple[np.ndarray, list[str]]:
    """A number for each row, the same for equal rows unless they are so by chance, or more than the limit; and a note."""
    groups, distinct = pd.factorize(pd.util.hash_pandas_object(cells, index=False))
    repeated = len(groups) - len(distinct)
    if not repeated:
        return groups, []
    note = f"rows that repeat another: {repeated:,} of {len(groups):,}"
    combinations = math.prod(cells[name].nunique() for name in cells)
    if combinations < len(groups) or len(distinct) < MIN_ROWS or np.bincount(groups).max() > limit:
        return np.arange(len(groups)), [f"{note}, too many to hold out equal rows together"]
    return groups, [f"{note}; equal rows are held out together or not at all"]


def fit(table: Table, config: FitOptions, on_progress: OnProgress) -> tuple[Model, Report]:
    """Train on a part of the rows, measure on the others.

    Args:
        table: Holds the target and other columns.
        config: What to predict, and how.
        on_progress: Called while the models train.

    Returns:
        The model, and a report of how well it does beside others.

    Raises:
        TableError: There is nothing to learn, or the training failed.
    """
    column = target_column(table, config.target)
    decimals, decimal_notes = infer_decimal_marks(table, config.missing)
    target, target_notes = infer_target(column, config.target, config.task, decimals[config.target], config.missing)
    codes, known = target.codes(table, config.missing)
    others = table.cells.drop(columns=config.target)
    unwanted = {name: "numbers the rows" for name in others if _is_row_number(others[name], decimals[name])}
    unwanted |= {name: "an index that pandas kept" for name in others if PANDAS_INDEX.fullmatch(name)}
    y = codes[known]
    groups, group_notes = _duplicate_groups(table.cells[known].drop(columns=list(unwanted)), config.test * len(y) / 2)
    test = holdout_mask(y, groups, config.test, config.seed, classes=bool(target.classes))
    order, train = np.argsort(test, kind="stable"), int((~test).sum())
    y, cells = y[order], others[known].iloc[order]  # so both parts are views of one matrix
    encoder = Encoder.fit(cells[:train], unwanted, decimals, config.missing)
    x, encoding_notes = encoder.encode(cells)
    split = metrics.Split(x[:train], y[:train], x[train:], y[train:], len(target.classes))
    estimator, rows, training_notes = _train(split, config, on_progress)
    notes = [*table.notes, *decimal_notes, *target_notes]
    notes += dropped_rows_note(column, known, classes=bool(target.classes))
    notes += [*group_notes, *encoder.notes, *encoding_notes]
    notes += missing_tokens_note(cells[list(encoder.groups)], config.missing, encoder.numeric)
    notes += [*unmatched_missing_tokens(table.cells, config.missing), *training_notes]
    model = Model(target, config.header, encoder, estimator)
    importances = metrics.permutation_importance(estimator, encoder.groups, split, config.seed)
    return model, make_report(model, split, rows, importances, notes, asdict(config))


def _is_row_number(cells: pd.Series, decimal: str) -> bool:
    values = parse_numbers(cells, decimal)
    return bool(values[0] in (0, 1) and (np.diff(values) == 1).all())


class _EpochReporter(Callback):
    """Reports every epoch of the HanNets, the first of some models; share: of the whole work."""

    def __init__(self, report: OnProgress, models: int, share: float):
        self.report, self.models, self.share = report, models, share

    def on_epoch_end(self, state: TrainingState) -> None:
        epochs = state.epoch if state.stopped else state.epochs
        fit = ProgressEvent("models", self.share * state.epoch / epochs, 1, "", {"model": f"1/{self.models}"})
        loss = {"loss": float(state.loss.nanmean())}
        self.report(ProgressEvent("HanNet", state.epoch, epochs, "epochs", loss, fit))


def _train(
    split: metrics.Split, config: FitOptions, on_progress: OnProgress
) -> tuple[HanRegressor | HanClassifier, list[dict[str, Any]], list[str]]:
    """The estimator, the rows of the table that compares it with others, and notes."""
    others = baselines.baselines(split, config.seed) if config.baselines else {}
    models, share = 1 + len(others), 0.9 if others else 1.0  # of the work that is the HanNets', about

    def report_baseline(number: int, name: str, done: int) -> None:
        progress = share + (1 - share) * (number - 1 + done) / len(others)
        fit = ProgressEvent("models", progress, 1, "", {"model": f"{number + 1}/{models}"})
        on_progress(ProgressEvent(f"{name} {'trained' if done else 'training'}", done, 1, "", within=fit))

    estimator_class = HanClassifier if split.classes else HanRegressor
    estimator = estimator_class(random_state=config.seed, **(config.options or {}))
    began = time.perf_counter()
    try:
        with warnings.catch_warnings(record=True, action="always") as caught:
            estimator.fit(split.x, split.y, callbacks=[_EpochReporter(on_progress, models, share)])
    except RuntimeError as error:
        raise TableError(f"the training failed: {error}") from error
    rows = [{"model": "HanNet"} | baselines.evaluate(estimator, split, began)]
    for number, (name, model) in enumerate(others.items(), 1):
        report_baseline(number, name, done=0)
        began = time.perf_counter()
        rows.append({"model": name} | baselines.evaluate(baselines.fit_scaled(model, split), split, began))
        report_baseline(number, name, done=1)
    notes = [str(warning.message) for warning in caught if issubclass(warning.category, ConvergenceWarning)]
    return estimator, rows, notes
