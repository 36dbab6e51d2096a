"""Rows, targets of both kinds, and estimators small enough for many fits."""

import numpy as np
import pytest

from hannet import HanClassifier, HanRegressor

BOTH = pytest.mark.parametrize("kind", [HanRegressor, HanClassifier])


class Toy:
    """cuts: of y, between three classes; options: of the estimators."""

    def __init__(self, x, cuts, **options):
        self.x, self.y, self.options = x, np.abs(x[:, 0]) - x[:, 1], {"random_state": 0, **options}
        self.labels = np.array(["low", "middle", "high"])[np.digitize(self.y, cuts)]

    def quick(self, kind, **options):
        return kind(**{**self.options, **options})

    def target(self, kind):
        return self.y if kind is HanRegressor else self.labels

    def outputs(self, model, x=None):
        x = self.x if x is None else x
        return model.predict_proba(x) if isinstance(model, HanClassifier) else model.predict(x)
