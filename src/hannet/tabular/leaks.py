"""Columns that alone predict the target nearly perfectly, as those do that are known only after it."""

import shlex
from collections.abc import Mapping

import numpy as np
from scipy.stats import spearmanr
from sklearn.metrics import balanced_accuracy_score, r2_score
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from .metrics import Split

NEARLY_PERFECT = 0.99  # balanced accuracy, or R²
RANKS = 0.999  # rank correlation: of few rows, trees do not see that one number is a multiple of another
ROWS, CELLS = 2000, 2_000_000  # of the training, at most: a tree a column then takes milliseconds
RARE = 0.05  # share of the rows
NAMED = 3  # columns that get a note of their own


def find_leaks(groups: Mapping[str, slice], split: Split, seed: int) -> dict[str, float]:
    """How well each column alone predicts held-out thirds of the training rows, of those that do so nearly perfectly."""
    if len(groups) < 2:  # nothing else is left to predict from
        return {}
    rows = np.random.default_rng(seed).permutation(len(split.y))[: min(ROWS, max(200, CELLS // len(groups)))]
    rows = rows[_usual(split.y[rows])] if split.classes else rows
    y = split.y[rows]
    if np.ptp(y) == 0:
        return {}
    scores = {
        name: _score(split.x[rows, place], y, seed, classes=bool(split.classes)) for name, place in groups.items()
    }
    return dict(sorted(((name, score) for name, score in scores.items() if score), key=lambda item: -item[1]))


def _usual(codes: np.ndarray) -> np.ndarray:
    """A mask of the rows of classes that are no rare ones, such as "unknown", which nothing need predict."""
    counts = np.bincount(codes)
    usual = counts >= RARE * len(codes)
    return usual[codes] if usual.sum() > 1 else np.ones(len(codes), bool)


def _score(x: np.ndarray, y: np.ndarray, seed: int, *, classes: bool) -> float | None:
    """The score where it is nearly perfect."""
    tree = (DecisionTreeClassifier if classes else DecisionTreeRegressor)(random_state=seed)
    predicted = cross_val_predict(tree, x, y, cv=KFold(3))
    score = float((balanced_accuracy_score if classes else r2_score)(y, predicted))
    if score >= NEARLY_PERFECT:
        return score
    if classes or np.ptp(x[:, 0]) == 0:
        return None
    ranks = abs(float(spearmanr(x[:, 0], y).statistic))
    return ranks if ranks >= RANKS else None


def leak_notes(leaks: Mapping[str, float], target: str) -> list[str]:
    """A warning for each of the first columns."""
    notes = [
        f"warning: column {name!r} alone predicts {target!r} nearly perfectly ({score:.1%}): if it is not known yet when a "
        f"prediction is asked for, leave it out with --drop {shlex.quote(name)}"
        for name, score in list(leaks.items())[:NAMED]
    ]
    more = len(leaks) - NAMED
    return [*notes, f"warning: the same is true of {more:,} more column{'s' * (more > 1)}"] if more > 0 else notes
