"""From a table and the name of a column to a model of that column, and a report of how well it does."""

import re
import time
import warnings
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning

from ..estimators.base import HanClassifier, HanRegressor
from ..reporting.progress import OnProgress, ProgressEvent
from ..train.callbacks import Callback, TrainingState
from . import baselines, metrics
from .encoders import Encoder
from .holdout import Holdout, choose_rows
from .leaks import find_leaks
from .missing import missing_tokens_note, unmatched_missing_tokens
from .model import Model
from .numbers import infer_decimal_marks, parse_numbers
from .options import FitOptions, dropped_columns, read_roles
from .readers import Table, TableError, join_names
from .report import Findings, Report, make_report
from .target import MIN_ROWS, Target, dropped_rows_note, infer_target, target_column

PANDAS_INDEX = re.compile(r"__index_level_\d+__")  # a column of Parquet


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
    column, asked = target_column(table, config.target), dropped_columns(table, config)
    decimals, decimal_notes = infer_decimal_marks(table, config.missing)
    target, target_notes = infer_target(column, config.target, config.task, decimals[config.target], config.missing)
    codes, known = target.codes(table, config.missing)
    roles = read_roles(table, config, decimals)
    used = known & roles.used
    others = table.cells.drop(columns=config.target)
    unwanted = {name: "numbers the rows" for name in others if _is_row_number(others[name], decimals[name])}
    unwanted |= {name: "an index that pandas kept" for name in others if PANDAS_INDEX.fullmatch(name)} | asked
    features = others[used].drop(columns=list(unwanted))
    holdout = choose_rows(table, config, roles, used, codes[used], features, classes=bool(target.classes))
    target, y, kept, class_notes = _trained_classes(target, codes[used], holdout)
    order, train = np.argsort(holdout.test[kept], kind="stable"), int((~holdout.test).sum())
    place = np.flatnonzero(used)[kept][order]  # so both parts are views of one matrix
    cells = others.iloc[place]
    encoder = Encoder.fit(cells[:train], unwanted, decimals, config.missing, config.kinds)
    x, encoding_notes = encoder.encode(cells)
    weights, groups = (None if values is None else values[place] for values in (roles.weights, roles.groups))
    split = _split(x, y[order], train, len(target.classes), weights, groups, config)
    estimator, rows, training_notes = _train(split, config, on_progress)
    notes = [*table.notes, *decimal_notes, *target_notes]
    notes += dropped_rows_note(column, known, classes=bool(target.classes))
    notes += [*roles.notes, *class_notes, *holdout.notes, *encoder.notes, *encoding_notes]
    notes += missing_tokens_note(cells[list(encoder.groups)], config.missing, encoder.numeric)
    notes += [*unmatched_missing_tokens(table.cells, config.missing), *training_notes]
    model = Model(target, config.header, encoder, estimator, config.weights)
    findings = Findings(
        metrics.permutation_importance(estimator, encoder.groups, split, config.seed),
        encoder.count_missing(cells),
        find_leaks(encoder.groups, split, config.seed),
        holdout.described,
        holdout.facts,
    )
    return model, make_report(model, split, rows, findings, notes, asdict(config))


def _trained_classes(
    target: Target, codes: np.ndarray, holdout: Holdout
) -> tuple[Target, np.ndarray, np.ndarray, list[str]]:
    """The target with the classes of the training rows, the codes in it, a mask of the rows that have one, and a note.

    By time or group, a class may come among the rows to test on alone: it cannot be learned.
    """
    kept = np.ones(len(codes), bool)
    if not target.classes:
        return target, codes, kept, []
    learned = np.unique(codes[~holdout.test])
    if len(learned) < 2:
        raise TableError(f"the rows to train on hold one class of {target.name!r} only: there is nothing to predict")
    if len(learned) == len(target.classes):
        return target, codes, kept, []
    kept = np.isin(codes, learned)
    if not holdout.test[kept].any():
        raise TableError(
            f"the rows held out hold no class of {target.name!r} that the others hold: choose another --test"
        )
    lost = [repr(name) for code, name in enumerate(target.classes) if code not in learned]
    note = (
        f"classes in no row to train on, so not predicted and not measured: {join_names(lost)} ({(~kept).sum():,} rows)"
    )
    classes = tuple(target.classes[code] for code in learned)
    return replace(target, classes=classes), np.searchsorted(learned, codes[kept]), kept, [note]


def _split(
    x: np.ndarray,
    y: np.ndarray,
    train: int,
    classes: int,
    weights: np.ndarray | None,
    groups: np.ndarray | None,
    config: FitOptions,
) -> metrics.Split:
    """The first rows to train on, the others to test; raises TableError if they are too few, or count nothing."""
    if len(y) < MIN_ROWS:
        raise TableError(f"rows that can be used: {len(y)}; to train and to test, at least {MIN_ROWS} are needed")
    if config.class_weight and not classes:
        raise TableError(
            "--class-weight is for classes, but the target is a number; --task classification predicts classes"
        )
    parts = {} if groups is None else {"groups": groups[:train], "groups_test": groups[train:]}
    split = metrics.Split(
        x[:train], y[:train], x[train:], y[train:], classes, **parts, balanced=bool(config.class_weight)
    )
    if weights is None:
        return split
    weights = weights / weights.max(initial=1e-300)  # sums stay finite
    mine, held_out = weights[:train], weights[train:]
    if not (mine.any() and held_out.any()):
        raise TableError(f"--weights: {config.weights!r} is 0 in every row to train on, or in every row held out")
    if classes and len(np.unique(split.y[mine > 0])) < classes:
        raise TableError(f"--weights: {config.weights!r} is 0 in every row to train on of a class")
    return replace(split, weights=mine, weights_test=held_out)


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
    options: dict[str, Any] = {**({"class_weight": "balanced"} if split.balanced else {}), **(config.options or {})}
    estimator = estimator_class(random_state=config.seed, **options)
    began = time.perf_counter()
    try:
        with warnings.catch_warnings(record=True, action="always") as caught:
            follow = [_EpochReporter(on_progress, models, share)]
            estimator.fit(split.x, split.y, split.weights, groups=split.groups, callbacks=follow)
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
