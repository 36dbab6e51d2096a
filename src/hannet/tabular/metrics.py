"""How well a model predicts held-out rows, beside what a person would otherwise pick."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import Any

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score, root_mean_squared_error

RESAMPLES = 1000
SMALL_SAMPLE = 30  # rows: of fewer, resamples say little about others
IMPORTANCE_ROWS = 1000  # with at most so many columns, importance takes seconds
IMPORTANCE_COLUMNS = 100
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


def predict(model: Any, x: np.ndarray) -> np.ndarray:
    """Numbers (rows,), or the probabilities of classes (rows, classes)."""
    return model.predict_proba(x) if hasattr(model, "predict_proba") else model.predict(x)


def score(y: np.ndarray, output: np.ndarray) -> dict[str, Any]:
    """The metrics of what `predict` gave, with the interval of the first; None where one is not defined.

    The RMSE has a bootstrap interval, the accuracy Wilson's, which is wide for few rows even if all are right (J. Am. Stat.
    Assoc. 22, 1927).
    """
    if output.ndim == 1:
        squares, variation = np.square(output - y), np.square(y - y.mean()).sum()
        low, high = _bootstrap_interval(squares)
        return {
            "rmse": float(np.sqrt(squares.mean())),
            "interval": (low**0.5, high**0.5),
            "mae": float(np.abs(output - y).mean()),
            "r2": float(1 - squares.sum() / variation) if variation > 0 else None,
        }
    correct = output.argmax(1) == y
    metrics = {
        "accuracy": float(correct.mean()),
        "interval": _wilson_interval(correct),
        "log_loss": _log_loss(y, output),
    }
    if output.shape[1] == 2:
        metrics["auc"] = float(roc_auc_score(y, output[:, 1])) if 0 < y.mean() < 1 else None
    return metrics


def error_format(rows: Sequence[Mapping[str, Any]]) -> str:
    """The number format that shows four digits of the smallest error, or four decimals of accuracies."""
    if "rmse" not in rows[0]:
        return ".4f"
    smallest = min(row["rmse"] for row in rows)
    return f",.{max(0, 3 - floor(log10(smallest)))}f" if 1e-3 <= smallest < 1e9 else ".2e"


def headings(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, str]]:
    """Heading and number format of each metric in the rows."""
    form = error_format(rows)
    forms = {"interval": f"{{0[0]:{form}}}–{{0[1]:{form}}}", "rmse": f"{{:{form}}}", "mae": f"{{:{form}}}"}
    return {
        key: (name, forms.get(key, "{:z.3f}" if key == "r2" else "{:.4f}"))
        for key, name in METRIC_NAMES.items()
        if any(key in row for row in rows)
    }


def _log_loss(y: np.ndarray, output: np.ndarray) -> float:
    return float(-np.log(np.maximum(output[np.arange(len(y)), y], 1e-15)).mean())


def _bootstrap_interval(values: np.ndarray) -> tuple[float, float]:
    """The interval of the mean in 95 % of resamples, the same ones for every model."""
    rng = np.random.default_rng(0)
    means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(RESAMPLES)]
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def _wilson_interval(correct: np.ndarray) -> tuple[float, float]:
    share = float(correct.mean())
    low, high = binomtest(int(correct.sum()), len(correct)).proportion_ci(method="wilson")
    return max(0.0, min(float(low), share)), min(1.0, max(float(high), share))  # rounding aside they are so


def small_sample_warning(rows: int) -> list[str]:
    """A note if the rows are so few that an interval says little."""
    return [f"measured on few rows ({rows}): the 95% interval is rough"] if rows < SMALL_SAMPLE else []


def permutation_importance(model: Any, groups: Mapping[str, slice], split: Split, seed: int) -> dict[str, float]:
    """How much the error (RMSE or log loss) on held-out rows rises when a column is shuffled, the largest rise first.

    It is measured on at most IMPORTANCE_ROWS of them, drawn at random, and not at all with more than IMPORTANCE_COLUMNS.
    """
    if len(groups) > IMPORTANCE_COLUMNS:
        return {}
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(split.y_test))[:IMPORTANCE_ROWS]  # a table may be sorted
    x, y = split.x_test[rows], split.y_test[rows]
    error: Callable[[np.ndarray, np.ndarray], float] = _log_loss if split.classes else root_mean_squared_error
    baseline = error(y, predict(model, x))
    importances = {}
    for name, place in groups.items():
        shuffled = x.copy()
        shuffled[:, place] = x[rng.permutation(len(x)), place]
        importances[name] = error(y, predict(model, shuffled)) - baseline
    return dict(sorted(importances.items(), key=lambda item: -item[1]))
