import pytest
import torch

from hannet import FCNet
from hannet.train.recipe import Recipe
from hannet.train.trainer import train

X = torch.linspace(-1, 1, 250)[:, None] * torch.tensor([1.0, -0.5])
Y = torch.stack([X[:, 0].abs(), (3 * X[:, 1]).sin()], 1)


def recipes(*rates, **options):
    return [Recipe(lr=rate, **{"iterations": 300, "batch": 50, **options}) for rate in rates]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"recipes": []}, "as many recipes and seeds as networks: 2, 0 and 2 came"),
        ({"seeds": [0]}, "as many recipes and seeds as networks: 2, 2 and 1 came"),
        ({"networks": [], "recipes": [], "seeds": []}, "0, 0 and 0 came"),
        ({"y": Y[1:]}, "same rows, at least one: 250 and 249 came"),
        ({"x": X[:0], "y": Y[:0]}, "same rows, at least one: 0 and 0 came"),
        (
            {"recipes": [Recipe(batch=10), Recipe(batch=20)]},
            "may differ in lr, weight_decay, orthogonal, optimizer, momentum only",
        ),
    ],
)
def test_arguments_that_do_not_fit_together_are_named(arguments, sentence):
    fitting = {"networks": [FCNet(2, 2, 4, 1), FCNet(2, 2, 4, 1)], "recipes": recipes(0.1, 0.2), "seeds": [0, 1]}
    with pytest.raises(ValueError, match=sentence):
        train(**{**fitting, "x": X, "y": Y, **arguments})


def test_flat_targets_are_refused():
    with pytest.raises(ValueError, match=r"\(n, in\) and \(n, out\)"):
        train([FCNet(2, 1, width=4, depth=1)], recipes(0.1), [0], X, Y[:, 0])


def test_what_is_frozen_must_be_the_same_in_each():
    networks = [FCNet(2, 2, width=4, depth=1) for _ in range(2)]
    for frozen in (networks[:1], networks):
        for network in frozen:
            network.requires_grad_(False)
        with pytest.raises(ValueError, match="the same in each"):
            train(networks, recipes(0.1, 0.1), [0, 1], X, Y)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"rows": torch.zeros(3, 4).long()}, r"rows must be \(members, at least one row\), got \(3, 4\) for 2 members"),
        ({"rows": torch.zeros(4).long()}, r"rows must be \(members, at least one row\), got \(4,\)"),
        ({"rows": torch.zeros(2, 0).long()}, r"at least one row\), got \(2, 0\)"),
        ({"rows": torch.full((2, 3), 250)}, "int64 from 0 to 249, got torch.int64 from 250 to 250"),
        ({"rows": torch.tensor([[0], [-1]])}, "int64 from 0 to 249, got torch.int64 from -1 to 0"),
        ({"rows": torch.zeros(2, 4)}, "got torch.float32"),
        ({"weights": torch.ones(249)}, r"weights must be \(250,\), one a row of x, got \(249,\)"),
        ({"weights": torch.ones(250, 1)}, r"got \(250, 1\)"),
    ],
)
def test_rows_and_weights_that_do_not_fit_are_named(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        train([FCNet(2, 2, 4, 1), FCNet(2, 2, 4, 1)], recipes(0.1, 0.2), [0, 1], X, Y, **arguments)


def test_targets_of_another_width_are_named():
    with pytest.raises(ValueError, match=r"y must have a column for each of the 2 outputs, got \(250, 1\)"):
        train([FCNet(2, 2, 4, 1)], recipes(0.1), [0], X, Y[:, :1])
