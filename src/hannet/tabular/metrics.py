"""How well a model predicts held-out rows, beside what a person would otherwise pick."""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESAMPLES = 1000
FEW = 30  # rows: of fewer, resamples tell little of others
SHUFFLED_ROWS = 1000  # with at most so many columns, importance takes seconds
SHUFFLED_COLUMNS = 100
LEAF = 20  # rows in a leaf of boosted trees, at least, as scikit-learn has it
EPOCHS = 500  # of the MLP, at most
NAMES = {
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
        low, high = _interval(square)
        return {
            "rmse": float(np.sqrt(square.mean())),
            "interval": (low**0.5, high**0.5),
            "mae": float(np.abs(output - y).mean()),
            "r2": float(1 - square.sum() / spread) if spread > 0 else None,
        }
    hit = output.argmax(1) == y
    metrics = {"accuracy": float(hit.mean()), "interval": _wilson(hit), "log_loss": _log_loss(y, output)}
    if output.shape[1] == 2:
        metrics["auc"] = float(roc_auc_score(y, output[:, 1])) if 0 < y.mean() < 1 else None
    return metrics


def digits(rows: Sequence[Mapping[str, Any]]) -> str:
    """The number format that shows four digits of the smallest error, or four decimals of accuracies."""
    if "rmse" not in rows[0]:
        return ".4f"
    least = min(row["rmse"] for row in rows)
    return f",.{max(0, 3 - floor(log10(least)))}f" if 1e-3 <= least < 1e9 else ".2e"


def headings(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, str]]:
    """Heading and number format of each metric in the rows."""
    form = digits(rows)
    forms = {"interval": f"{{0[0]:{form}}}–{{0[1]:{form}}}", "rmse": f"{{:{form}}}", "mae": f"{{:{form}}}"}
    return {
        key: (name, forms.get(key, "{:z.3f}" if key == "r2" else "{:.4f}"))
        for key, name in NAMES.items()
        if any(key in row for row in rows)
    }


def _log_loss(y: np.ndarray, output: np.ndarray) -> float:
    return float(-np.log(np.maximum(output[np.arange(len(y)), y], 1e-15)).mean())


def _interval(values: np.ndarray) -> tuple[float, float]:
    """Where the mean lies in 95 % of resamples, the same ones for every model."""
    rng = np.random.default_rng(0)
    means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(RESAMPLES)]
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def _wilson(hit: np.ndarray) -> tuple[float, float]:
    """(p + z²/2n ± z sqrt(p (1 - p)/n + z²/4n²)) / (1 + z²/n) for a share p of n."""
    share, n, z = float(hit.mean()), len(hit), 1.959964
    middle, half = share + z**2 / (2 * n), z * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    low, high = (min(max(end / (1 + z**2 / n), 0.0), 1.0) for end in (middle - half, middle + half))
    return min(low, share), max(high, share)  # rounding aside they are so


def underperformance_warning(split: Split, row: Mapping[str, Any]) -> list[str]:
    """A note if a model with these metrics is worse than one that looks at no column."""
    if split.classes:
        share = float((split.y_test == np.bincount(split.y).argmax()).mean())
        told = f"{row['accuracy']:.4f}, below that of always the most frequent class, {share:.4f}"
        return [f"HanNet is of no use here: its accuracy on held-out rows is {told}"] * (row["accuracy"] < share)
    mean = _rmse(split.y_test, np.full(len(split.y_test), split.y.mean()))
    told = f"{row['rmse']:.5g}, above that of always the training rows' mean, {mean:.5g}"
    return [f"HanNet is of no use here: its RMSE on held-out rows is {told}"] * (row["rmse"] > mean)


def small_sample_warning(rows: int) -> list[str]:
    """A note where an interval says little."""
    return [f"measured on few rows ({rows}): the 95% interval is rough"] if rows < FEW else []


def measure(model: Any, split: Split, began: float) -> dict[str, Any]:
    """A trained model's metrics on the held-out rows, its size, and the seconds since it began."""
    seconds = time.perf_counter() - began
    return score(split.y_test, predict(model, split.x_test)) | {"size": size(model), "seconds": seconds}


def size(model: Any) -> dict[str, Any]:
    """How many numbers a model consists of; of trees, how many leaves."""
    model = model.model if isinstance(model, Scaled) else model
    if hasattr(model, "_predictors"):
        return {"count": sum(tree.get_n_leaf_nodes() for trees in model._predictors for tree in trees), "of": "leaves"}
    if hasattr(model, "n_parameters_"):
        count = model.n_parameters_
    elif hasattr(model, "coefs_"):
        count = sum(part.size for part in (*model.coefs_, *model.intercepts_))
    elif hasattr(model, "coef_"):
        count = model.coef_.size + np.size(model.intercept_)
    else:
        count = np.size(getattr(model, "class_prior_", 0.0))
    return {"count": int(count), "of": "weights"}


def _leaf(rows: int) -> int:
    """Fewer than LEAF where no tree could split otherwise."""
    return LEAF if rows >= 2 * LEAF else max(2, rows // 10)


def baseline_note(split: Split) -> str:
    """A note on what `baselines` gives."""
    few = f" but {_leaf(len(split.y))} rows to a leaf" if len(split.y) < 2 * LEAF else ""
    return (
        "the models below HanNet are scikit-learn's, with the same rows and inputs: an MLP with its defaults (100 units, no "
        f"early stopping) but up to {EPOCHS} epochs, boosted trees (HistGradientBoosting) with their defaults{few}; trees have "
        "leaves, the others weights"
    )


def baselines(split: Split, seed: int) -> dict[str, Any]:
    """Models of scikit-learn to compare with, by name: as a person would take them, and as `beside` tells."""
    leaf = _leaf(len(split.y))
    if not split.classes:
        return {
            "mean": DummyRegressor(),
            "ridge": Ridge(),
            "MLP": MLPRegressor(max_iter=EPOCHS, random_state=seed),
            "boosted trees": HistGradientBoostingRegressor(min_samples_leaf=leaf, random_state=seed),
        }
    # The tenth that early stopping watches must hold two rows, and one of each class.
    may_stop = bool(min(np.bincount(split.y)) > 1 and len(split.y) >= 10 * max(2, split.classes))
    return {
        "most frequent": DummyClassifier(strategy="prior"),
        "logistic": LogisticRegression(max_iter=1000),
        "MLP": MLPClassifier(max_iter=EPOCHS, random_state=seed),
        "boosted trees": HistGradientBoostingClassifier(
            early_stopping="auto" if may_stop else False, min_samples_leaf=leaf, random_state=seed
        ),
    }


class Scaled:
    """A trained model of standardised inputs and, in regression, of a standardised target."""

    def __init__(self, model: Any, split: Split):
        self.model, self.scaler = model, StandardScaler().fit(split.x)
        self.mean, self.std = (0.0, 1.0) if split.classes else (float(split.y.mean()), float(split.y.std()) or 1.0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that one has not converged: its numbers show it
            model.fit(self.scaler.transform(split.x), split.y if split.classes else (split.y - self.mean) / self.std)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Numbers (rows,), or the probabilities of classes (rows, classes)."""
        return predict(self.model, self.scaler.transform(x)) * self.std + self.mean


def importance(model: Any, groups: Mapping[str, slice], split: Split, seed: int) -> dict[str, float]:
    """How much the error (RMSE or log loss) on held-out rows rises when a column is shuffled, the largest rise first.

    Of many held-out rows, on SHUFFLED_ROWS drawn at random.
    """
    if len(groups) > SHUFFLED_COLUMNS:
        return {}
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(split.y_test))[:SHUFFLED_ROWS]  # a table may be sorted
    x, y = split.x_test[rows], split.y_test[rows]
    error: Callable[[np.ndarray, np.ndarray], float] = _log_loss if split.classes else _rmse
    before = error(y, predict(model, x))
    rises = {}
    for name, place in groups.items():
        shuffled = x.copy()
        shuffled[:, place] = x[rng.permutation(len(x)), place]
        rises[name] = error(y, predict(model, shuffled)) - before
    return dict(sorted(rises.items(), key=lambda item: -item[1]))


def _rmse(y: np.ndarray, output: np.ndarray) -> float:
    return float(np.sqrt(np.square(output - y).mean()))


def plot_predictions(name: str, classes: tuple[str, ...], y: np.ndarray, output: np.ndarray) -> "Figure":
    """Of held-out rows: predicted against true numbers, or how often each class is taken for which."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 4.6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(f"{len(y):,} held-out rows", fontsize=10)
    kinds = ("predicted", "true") if classes else ("true", "predicted")
    axes.set_xlabel(f"{kinds[0]}: {_short(name)}", parse_math=False)
    axes.set_ylabel(f"{kinds[1]}: {_short(name)}", parse_math=False)
    if classes:
        _confusion(axes, classes, y, output.argmax(1))
    else:
        ends = [min(y.min(), output.min()), max(y.max(), output.max())]
        axes.plot(ends, ends, color="0.6", linewidth=1)
        _scale(axes, ends)
        axes.scatter(y, output, s=8, alpha=min(1.0, max(0.1, 300 / len(y))), linewidths=0, rasterized=True)
    return figure


def _scale(axes: Any, ends: Sequence[float]) -> None:
    """Few numbers along both axes, long ones as 150k or 1.5M, so that they stand apart."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    largest = max(map(abs, ends))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))
        if 1e4 <= largest < 1e9 and ends[1] - ends[0] > largest / 100:
            axis.set_major_formatter(EngFormatter(sep=""))


def _short(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:39]}…"


def _confusion(axes: Any, classes: tuple[str, ...], y: np.ndarray, predicted: np.ndarray) -> None:
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (y, predicted), 1)
    axes.imshow(counts, cmap="Blues")
    if len(classes) <= 30:
        names = [name if len(name) <= 14 else f"{name[:13]}…" for name in classes]
        turn = 90 if max(map(len, names)) * len(names) > 40 else 0
        axes.set_xticks(range(len(names)), names, rotation=turn, parse_math=False)
        axes.set_yticks(range(len(names)), names, parse_math=False)
    if len(classes) <= 12:
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if count > counts.max() / 2 else "black"
            axes.text(column, row, f"{count:,}", ha="center", va="center", color=color)
