"""How well a model predicts held-out rows, beside what a person would otherwise pick."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10
from statistics import fmean, stdev
from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score, root_mean_squared_error

from ..reporting.intervals import interval_form, wilson_interval

RESAMPLES = 1000
FEWEST_GROUPS = 5  # held out: of fewer, resamples say nothing
SMALL_SAMPLE = 30  # rows: of fewer, resamples say little about others
IMPORTANCE_ROWS = 1000  # with at most so many columns, importance takes seconds
IMPORTANCE_COLUMNS = 100
SHUFFLES, MANY_SHUFFLES = 5, 200  # of each column, as long as those of all are not too many; then fewer, but two
METRIC_NAMES = {
    "rmse": "RMSE",
    "accuracy": "accuracy",
    "interval": "95% interval",
    "mae": "MAE",
    "r2": "R²",
    "log_loss": "log loss",
    "auc": "ROC AUC",
}


@dataclass(frozen=True)
class Split:
    """Matrices (rows, inputs) and targets (rows,): numbers, or codes 0 to classes - 1, each of them among the training rows."""

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: int  # 0: regression
    weights: np.ndarray | None = None  # (rows,): what each counts in training, or in metrics; None: the same
    weights_test: np.ndarray | None = None
    groups: np.ndarray | None = None  # (rows,): equal numbers for rows that validation must not tear apart
    groups_test: np.ndarray | None = None
    balanced: bool = False  # whether classes count alike in training


def predict(model: Any, x: np.ndarray) -> np.ndarray:
    """Numbers (rows,), or the probabilities of classes (rows, classes)."""
    return model.predict_proba(x) if hasattr(model, "predict_proba") else model.predict(x)


def score(
    y: np.ndarray, output: np.ndarray, weights: np.ndarray | None = None, groups: np.ndarray | None = None
) -> dict[str, Any]:
    """The metrics of what `predict` gave, with the interval of the first; None where one is not defined.

    The RMSE has a bootstrap interval, the accuracy Wilson's. Rows of a group are no independent ones: then whole groups are
    resampled for either, and of a few groups there is no interval.

    Args:
        y: Numbers, or codes of classes.
        output: Numbers, or probabilities.
        weights: What each row counts.
        groups: A number for each row, equal within a group.
    """
    if output.ndim == 1:
        squares = np.square(output - y)
        variation = _mean(np.square(y - _mean(y, weights)), weights)
        ends = _bootstrap_interval(squares, weights, groups)
        return {
            "rmse": _mean(squares, weights) ** 0.5,
            **({"interval": (ends[0] ** 0.5, ends[1] ** 0.5)} if ends else {}),
            "mae": _mean(np.abs(output - y), weights),
            "r2": 1 - _mean(squares, weights) / variation if variation > 0 else None,
        }
    correct = output.argmax(1) == y
    resampled = groups is not None
    ends = (
        _bootstrap_interval(correct.astype(float), weights, groups) if resampled else _wilson_interval(correct, weights)
    )
    metrics = {
        "accuracy": _mean(correct, weights),
        **({"interval": ends} if ends else {}),
        "log_loss": _log_loss(y, output, weights),
    }
    if output.shape[1] == 2:
        both = 0 < _mean(y, weights) < 1
        metrics["auc"] = float(roc_auc_score(y, output[:, 1], sample_weight=weights)) if both else None
    return metrics


def class_scores(split: Split, output: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """Of each class: its rows, the share of them that is recognised, and the share of those taken for it that are; None if none."""
    labels = np.arange(split.classes)
    precision, recall, _, _ = precision_recall_fscore_support(
        split.y_test, output.argmax(1), labels=labels, sample_weight=split.weights_test, zero_division=np.nan
    )
    trained, tested = (np.bincount(y, minlength=split.classes).tolist() for y in (split.y, split.y_test))
    return [
        {"class": name, "train_rows": trained[code], "test_rows": tested[code]}
        | {"recall": _defined(recall[code]), "precision": _defined(precision[code])}
        for code, name in zip(labels, names, strict=True)
    ]


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def mean_recall(rows: Sequence[Mapping[str, Any]]) -> float:
    """The mean over the classes of the held-out rows: the balanced accuracy."""
    return float(np.mean([row["recall"] for row in rows if row["recall"] is not None]))


def _mean(values: np.ndarray, weights: np.ndarray | None) -> float:
    return float(values.mean() if weights is None else np.average(values, weights=weights))


def error_format(rows: Sequence[Mapping[str, Any]]) -> str:
    """The number format that shows four digits of the smallest error, or four decimals of accuracies."""
    if "rmse" not in rows[0]:
        return ".4f"
    smallest = min(row["rmse"] for row in rows)
    return f",.{max(0, 3 - floor(log10(smallest)))}f" if 1e-3 <= smallest < 1e9 else ".2e"


def headings(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, str]]:
    """Heading and number format of each metric in the rows."""
    form = error_format(rows)
    forms = {"interval": interval_form(form), "rmse": f"{{:{form}}}", "mae": f"{{:{form}}}"}
    return {
        key: (name, forms.get(key, "{:z.3f}" if key == "r2" else "{:.4f}"))
        for key, name in METRIC_NAMES.items()
        if any(key in row for row in rows)
    }


def _rmse(y: np.ndarray, output: np.ndarray, weights: np.ndarray | None) -> float:
    return float(root_mean_squared_error(y, output, sample_weight=weights))


def _log_loss(y: np.ndarray, output: np.ndarray, weights: np.ndarray | None = None) -> float:
    return _mean(-np.log(np.maximum(output[np.arange(len(y)), y], 1e-15)), weights)


def _bootstrap_interval(
    values: np.ndarray, weights: np.ndarray | None, groups: np.ndarray | None = None
) -> tuple[float, float] | None:
    """The interval of the mean in 95 % of resamples, of rows or of whole groups, the same ones for every model."""
    if groups is not None:  # a group counts as a row of the mean of its rows and of their weights together
        place, weights = np.unique(groups, return_inverse=True)[1], np.ones(len(values)) if weights is None else weights
        sums, weights = np.bincount(place, values * weights), np.bincount(place, weights)
        values = np.divide(sums, weights, out=np.zeros_like(sums), where=weights > 0)
        if len(values) < FEWEST_GROUPS:
            return None
    rng = np.random.default_rng(0)
    drawn = (rng.integers(len(values), size=len(values)) for _ in range(RESAMPLES))
    if weights is None:
        means = [values[rows].mean() for rows in drawn]
    else:
        products = values * weights
        means = [products[rows].sum() / total for rows in drawn if (total := weights[rows].sum()) > 0]
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def _wilson_interval(correct: np.ndarray, weights: np.ndarray | None) -> tuple[float, float]:
    """Of rows that do not count alike, so many count as have the same variance (Kish 1965)."""
    share, rows = _mean(correct, weights), len(correct)
    if weights is not None:
        rows = max(1, round(float(weights.sum() ** 2 / np.square(weights).sum())))
    return wilson_interval(share, rows)


def small_sample_warning(rows: int) -> list[str]:
    """A note if the rows are so few that an interval says little."""
    return [f"measured on few rows ({rows}): the 95% interval is rough"] if rows < SMALL_SAMPLE else []


def permutation_importance(
    model: Any, groups: Mapping[str, slice], split: Split, seed: int
) -> dict[str, tuple[float, float]]:
    """How much the error (RMSE or log loss) on held-out rows rises when a column is shuffled, the largest rise first.

    It is measured on at most IMPORTANCE_ROWS of them, drawn at random, and not at all with more than IMPORTANCE_COLUMNS.

    Returns:
        Of each column the mean over several shuffles, and their standard deviation.
    """
    if len(groups) > IMPORTANCE_COLUMNS:
        return {}
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(split.y_test))[:IMPORTANCE_ROWS]  # a table may be sorted
    x, y = split.x_test[rows], split.y_test[rows]
    weights = None if split.weights_test is None else split.weights_test[rows]
    error: Callable[..., float] = _log_loss if split.classes else _rmse
    baseline = error(y, predict(model, x), weights)
    importances, shuffles = {}, max(2, min(SHUFFLES, MANY_SHUFFLES // max(1, len(groups))))
    for name, place in groups.items():
        rises = []
        for _ in range(shuffles):
            shuffled = x.copy()
            shuffled[:, place] = x[rng.permutation(len(x)), place]
            rises.append(error(y, predict(model, shuffled), weights) - baseline)
        importances[name] = fmean(rises), stdev(rises)
    return dict(sorted(importances.items(), key=lambda item: -item[1][0]))
