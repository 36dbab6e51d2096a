import copy

import torch
from torch import nn
from torch.testing import assert_close

from hannet import FCNet
from hannet.train.recipe import Recipe
from hannet.train.trainer import train

X = torch.linspace(-1, 1, 250)[:, None] * torch.tensor([1.0, -0.5])
Y = torch.stack([X[:, 0].abs(), (3 * X[:, 1]).sin()], 1)


def recipes(*rates, **options):
    return [Recipe(lr=rate, **{"iterations": 300, "batch": 50, **options}) for rate in rates]


def test_the_orthogonal_penalty_is_that_of_autograd():
    network = FCNet(2, 2, width=6, depth=2).double()
    weights = [p for name, p in network.named_parameters() if name.endswith("weight")]
    x, y = X.double(), Y.double()
    penalty = sum((w.mT @ w - torch.eye(w.shape[1], dtype=w.dtype)).square().sum() for w in weights)
    loss = (network(x) - y).square().mean() + 0.3 * penalty
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    expected = [p - 0.01 * g for p, g in zip(network.parameters(), gradients, strict=True)]
    train([network], [Recipe(lr=0.01, orthogonal=0.3, iterations=1, batch=len(X))], [0], x, y)
    for p, q in zip(network.parameters(), expected, strict=True):
        assert_close(p, q)


def test_the_orthogonal_penalty_leaves_other_weights_alone():
    embedded = nn.ModuleDict({"table": nn.Embedding(4, 2), "out": nn.Linear(2, 2)})
    network = Shifted(embedded)
    plain = copy.deepcopy(network)
    train([network], recipes(0.01, orthogonal=0.5, iterations=1), [0], X, Y)
    train([plain], recipes(0.01, iterations=1), [0], X, Y)
    assert torch.equal(network.parts["table"].weight, plain.parts["table"].weight)
    assert not torch.equal(network.parts["out"].weight, plain.parts["out"].weight)


class Shifted(nn.Module):
    """A net whose weight of two dimensions is no Linear's, with a gradient that is one row expanded."""

    def __init__(self, parts):
        super().__init__()
        self.parts = parts

    def forward(self, x):
        return self.parts["out"](x + self.parts["table"].weight.sum(0))


def test_the_orthogonal_penalty_makes_orthogonal():
    network = FCNet(2, 2, width=6, depth=3)
    train([network], recipes(0.002, orthogonal=1.0), [0], X, Y)
    for layer in (network.layers[2], network.layers[4]):
        assert_close(layer.weight @ layer.weight.mT, torch.eye(6), atol=0.1, rtol=0)
