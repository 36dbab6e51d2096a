"""What tests of the experiments share."""

import numpy as np
import pytest
import torch

from hannet.data.regression import SETS, Regression
from hannet.experiments.paper import _mnist, table9


@pytest.fixture
def few_digits(monkeypatch):
    """700 rows of noise in place of each part of MNIST: 300 train, 300 validate; all train where all would."""

    def whole(part):
        x = torch.rand(700, _mnist.PIXELS, generator=torch.Generator().manual_seed(len(part)))
        return _mnist.Digits(x, x[:, :10].argmax(1))

    monkeypatch.setattr(_mnist, "_whole", whole)
    for data, train, validation in ((_mnist.FEW, 300, 300), (_mnist.ALL, 700, 0)):
        monkeypatch.setitem(data, "train", train)
        monkeypatch.setitem(data, "validation", validation)


@pytest.fixture
def few_rows(monkeypatch):
    """A table of 120 rows in place of each regression set."""

    def regression(name: str) -> Regression:
        x = np.random.default_rng(0).normal(size=(120, 3))
        groups = (np.arange(120) // 12).astype(np.int64) if name == "parkinsons" else None
        return Regression(x, 100 + 5 * x[:, 1], groups, SETS[name])

    monkeypatch.setattr(table9, "regression", regression)
