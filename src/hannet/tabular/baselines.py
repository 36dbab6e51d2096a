"""Models of scikit-learn to compare with."""

import time
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler

if TYPE_CHECKING:
    pass
from .metrics import Split, predict, rmse, score

MIN_SAMPLES_LEAF = 20  # rows in a leaf of boosted trees, at least, as scikit-learn has it
MLP_EPOCHS = 500  # of the MLP, at most


def underperformance_warning(split: Split, row: Mapping[str, Any]) -> list[str]:
    """A note if a model with these metrics is worse than one that looks at no column."""
    if split.classes:
        share = float((split.y_test == np.bincount(split.y).argmax()).mean())
        told = f"{row['accuracy']:.4f}, below that of always the most frequent class, {share:.4f}"
        return [f"HanNet is of no use here: its accuracy on held-out rows is {told}"] * (row["accuracy"] < share)
    mean = rmse(split.y_test, np.full(len(split.y_test), split.y.mean()))
    told = f"{row['rmse']:.5g}, above that of always the training rows' mean, {mean:.5g}"
    return [f"HanNet is of no use here: its RMSE on held-out rows is {told}"] * (row["rmse"] > mean)


def evaluate(model: Any, split: Split, began: float) -> dict[str, Any]:
    """A trained model's metrics on the held-out rows, its size, and the seconds since it began."""
    seconds = time.perf_counter() - began
    return score(split.y_test, predict(model, split.x_test)) | {"size": model_size(model), "seconds": seconds}


def model_size(model: Any) -> dict[str, Any]:
    """How many numbers a model consists of; of trees, how many leaves."""
    model = model.model if isinstance(model, ScaledModel) else model
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


def _min_samples_leaf(rows: int) -> int:
    """Fewer than MIN_SAMPLES_LEAF where no tree could split otherwise."""
    return MIN_SAMPLES_LEAF if rows >= 2 * MIN_SAMPLES_LEAF else max(2, rows // 10)


def baseline_note(split: Split) -> str:
    """A note on what `baselines` gives."""
    few = f" but {_min_samples_leaf(len(split.y))} rows to a leaf" if len(split.y) < 2 * MIN_SAMPLES_LEAF else ""
    return (
        "the models below HanNet are scikit-learn's, with the same rows and inputs: an MLP with its defaults (100 units, no "
        f"early stopping) but up to {MLP_EPOCHS} epochs, boosted trees (HistGradientBoosting) with their defaults{few}; trees have "
        "leaves, the others weights"
    )


def baselines(split: Split, seed: int) -> dict[str, Any]:
    """Models of scikit-learn to compare with, by name: as a person would take them, and as `baseline_note` says."""
    leaf = _min_samples_leaf(len(split.y))
    if not split.classes:
        return {
            "mean": DummyRegressor(),
            "ridge": Ridge(),
            "MLP": MLPRegressor(max_iter=MLP_EPOCHS, random_state=seed),
            "boosted trees": HistGradientBoostingRegressor(min_samples_leaf=leaf, random_state=seed),
        }
    # The tenth that early stopping watches must hold two rows, and one of each class.
    may_stop = bool(min(np.bincount(split.y)) > 1 and len(split.y) >= 10 * max(2, split.classes))
    return {
        "most frequent": DummyClassifier(strategy="prior"),
        "logistic": LogisticRegression(max_iter=1000),
        "MLP": MLPClassifier(max_iter=MLP_EPOCHS, random_state=seed),
        "boosted trees": HistGradientBoostingClassifier(
            early_stopping="auto" if may_stop else False, min_samples_leaf=leaf, random_state=seed
        ),
    }


class ScaledModel:
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
