"""How well a model predicts held-out rows, beside what a person would otherwise pick."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import roc_auc_score

if TYPE_CHECKING:
    pass

RESAMPLES = 1000
SMALL_SAMPLE = 30  # rows: of fewer, resamples tell little of others
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

    Of the RMSE a bootstrap interval; of the accuracy Wilson's, which is wide of few rows even if all are right (J. Am. Stat.
    Assoc. 22, 1927).
    """
    if output.ndim == 1:
        square, spread = np.square(output - y), np.square(y - y.mean()).sum()
        low, high = _bootstrap_interval(square)
        return {
            "rmse": float(np.sqrt(square.mean())),
            "interval": (low**0.5, high**0.5),
            "mae": float(np.abs(output - y).mean()),
            "r2": float(1 - square.sum() / spread) if spread > 0 else None,
        }
    hit = output.argmax(1) == y
    metrics = {"accuracy": float(hit.mean()), "interval": _wilson_interval(hit), "log_loss": _log_loss(y, output)}
    if output.shape[1] == 2:
        metrics["auc"] = float(roc_auc_score(y, output[:, 1])) if 0 < y.mean() < 1 else None
    return metrics


def error_format(rows: Sequence[Mapping[str, Any]]) -> str:
    """The number format that shows four digits of the smallest error, or four decimals of accuracies."""
    if "rmse" not in rows[0]:
        return ".4f"
    least = min(row["rmse"] for row in rows)
    return f",.{max(0, 3 - floor(log10(least)))}f" if 1e-3 <= least < 1e9 else ".2e"


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
    """Where the mean lies in 95 % of resamples, the same ones for every model."""
    rng = np.random.default_rng(0)
    means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(RESAMPLES)]
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def _wilson_interval(hit: np.ndarray) -> tuple[float, float]:
    """(p + z²/2n ± z sqrt(p (1 - p)/n + z²/4n²)) / (1 + z²/n) for a share p of n."""
    share, n, z = float(hit.mean()), len(hit), 1.959964
    middle, half = share + z**2 / (2 * n), z * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    low, high = (min(max(end / (1 + z**2 / n), 0.0), 1.0) for end in (middle - half, middle + half))
    return min(low, share), max(high, share)  # rounding aside they are so


def small_sample_warning(rows: int) -> list[str]:
    """A note where an interval says little."""
    return [f"measured on few rows ({rows}): the 95% interval is rough"] if rows < SMALL_SAMPLE else []


def permutation_importance(model: Any, groups: Mapping[str, slice], split: Split, seed: int) -> dict[str, float]:
    """How much the error (RMSE or log loss) on held-out rows rises when a column is shuffled, the largest rise first.

    Of many held-out rows, on IMPORTANCE_ROWS drawn at random.
    """
    if len(groups) > IMPORTANCE_COLUMNS:
        return {}
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(split.y_test))[:IMPORTANCE_ROWS]  # a table may be sorted
    x, y = split.x_test[rows], split.y_test[rows]
    error: Callable[[np.ndarray, np.ndarray], float] = _log_loss if split.classes else rmse
    before = error(y, predict(model, x))
    rises = {}
    for name, place in groups.items():
        shuffled = x.copy()
        shuffled[:, place] = x[rng.permutation(len(x)), place]
        rises[name] = error(y, predict(model, shuffled)) - before
    return dict(sorted(rises.items(), key=lambda item: -item[1]))


def rmse(y: np.ndarray, output: np.ndarray) -> float:
    """Root of the mean squared error."""
    return float(np.sqrt(np.square(output - y).mean()))
