"""Models of scikit-learn to compare with."""

import time
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import root_mean_squared_error
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from .metrics import Split, predict, score

MIN_SAMPLES_LEAF = 20  # rows in a leaf of boosted trees, at least, as scikit-learn has it
MLP_EPOCHS = 500  # of the MLP, at most


def underperformance_warning(split: Split, row: Mapping[str, Any], recall: float | None = None) -> list[str]:
    """A note if a model with these metrics is worse than one that looks at no column; recall: its mean over the classes."""
    if split.balanced and recall is not None:
        share = 1 / len(np.unique(split.y_test))
        worse, measured = recall < share, f"mean recall of the classes of held-out rows is {recall:.4f}"
        baseline = f"below that of always predicting one class, {share:.4f}"
    elif split.classes:
        usual = np.bincount(split.y, split.weights).argmax()
        share = float(np.average(split.y_test == usual, weights=split.weights_test))
        worse, measured = row["accuracy"] < share, f"accuracy on held-out rows is {row['accuracy']:.4f}"
        baseline = f"below that of always predicting the most frequent class, {share:.4f}"
    else:
        mean = np.full(len(split.y_test), np.average(split.y, weights=split.weights))
        error = root_mean_squared_error(split.y_test, mean, sample_weight=split.weights_test)
        worse, measured = row["rmse"] > error, f"RMSE on held-out rows is {row['rmse']:.5g}"
        baseline = f"above that of always predicting the training rows' mean, {error:.5g}"
    return [f"HanNet is of no use here: its {measured}, {baseline}"] if worse else []


def evaluate(model: Any, split: Split, began: float) -> dict[str, Any]:
    """A trained model's metrics on the held-out rows, its size, and the seconds since its training began."""
    seconds = time.perf_counter() - began
    metrics = score(split.y_test, predict(model, split.x_test), split.weights_test, split.groups_test)
    return metrics | {"size": model_size(model), "seconds": seconds}


def model_size(model: Any) -> dict[str, Any]:
    """How many numbers a model consists of; of trees, how many leaves."""
    model = getattr(model, "regressor_", model)
    model = model[-1] if isinstance(model, Pipeline) else model
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
    """The smallest number of rows in a leaf: fewer than MIN_SAMPLES_LEAF where no tree could split otherwise."""
    return MIN_SAMPLES_LEAF if rows >= 2 * MIN_SAMPLES_LEAF else max(2, rows // 10)


def baseline_note(split: Split) -> str:
    """A note on the models that `baselines` gives."""
    small = len(split.y) < 2 * MIN_SAMPLES_LEAF
    leaves = f" but {_min_samples_leaf(len(split.y))} rows to a leaf" if small else ""
    return (
        "the models below HanNet are scikit-learn's, with the same rows and inputs: an MLP with its defaults (100 units, no "
        f"early stopping) but up to {MLP_EPOCHS} epochs, boosted trees (HistGradientBoosting) with their defaults{leaves}; trees "
        f"have leaves, the others weights{'; classes count alike for them too' * split.balanced}"
    )


def baselines(split: Split, seed: int) -> dict[str, Any]:
    """Untrained models of scikit-learn by name, with the settings that `baseline_note` states."""
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


def fit_scaled(model: Any, split: Split) -> Any:
    """Train a model on standardised inputs and, in regression, on a standardised target."""
    scaled, weights = make_pipeline(StandardScaler(), model), training_weights(split)
    given = {} if weights is None else {f"{scaled.steps[-1][0]}__sample_weight": weights}
    if not split.classes:
        scaled = TransformedTargetRegressor(scaled, transformer=StandardScaler())
    with warnings.catch_warnings(action="ignore"):  # that it has not converged: its numbers show it
        return scaled.fit(split.x, split.y, **given)


def training_weights(split: Split) -> np.ndarray | None:
    """What each row counts in the training: its weight, over that of its class where classes count alike; None: all the same."""
    if not split.balanced:
        return split.weights
    weights = np.ones(len(split.y)) if split.weights is None else split.weights
    balanced = weights / np.bincount(split.y, weights)[split.y]
    return balanced * (len(balanced) / balanced.sum())
