"""What tests of the experiments share."""

import pytest
import torch

from hannet.experiments.paper import _mnist


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
