import math

import pytest

from hannet.train import losses
from hannet.train.recipe import Recipe
from hannet.vision.recipe import ImageRecipe

CROSS = {"loss": "cross_entropy"}


def test_a_recipe_is_what_differs_from_the_default():
    assert Recipe().differences() == {}
    assert Recipe(lr=0.1, lasso=1e-3).differences() == {"lr": 0.1, "lasso": 1e-3}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"schedule": "linear"}, "schedule must be one of steps, cosine, constant, got 'linear'"),
        ({"batch": 0}, "must be integers, at least 1, got 0, 40000"),
        ({"iterations": 0}, "at least 1, got 100, 0 and 0"),
        ({"optimizer": "rmsprop"}, "optimizer must be one of sgd, adam, adamw, got 'rmsprop'"),
        ({"loss": "hinge"}, "loss must be one of mse, cross_entropy, multi_margin, hkr, got 'hinge'"),
        ({"momentum": 1.0}, "lr must be above 0, momentum"),
        ({"lr": math.nan}, "lr must be above 0"),
        ({"orthogonal": -1.0}, "must be at least 0"),
        ({"weight_decay": math.nan}, "must be at least 0"),
    ],
)
def test_a_bad_recipe_is_named(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        Recipe(**arguments)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"defence": "pgd", **CROSS}, "defence must be adversarial or trades, with the loss cross_entropy, got 'pgd'"),
        ({"defence": "trades"}, "with the loss cross_entropy, got 'trades'"),
        ({"defence": "adversarial", "loss": "hkr"}, "with the loss cross_entropy, got 'adversarial'"),
        *[
            ({name: value}, "temperature, margin, alpha, eps and beta must be above 0")
            for name in ("temperature", "margin", "alpha", "eps", "beta")
            for value in (0.0, -1.0, math.nan)
        ],
    ],
)
def test_bad_settings_are_named(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        Recipe(**arguments)


@pytest.mark.parametrize("name", losses.NAMES)
def test_every_loss_has_a_recipe(name):
    assert Recipe(**Recipe(loss=name).differences()) == Recipe(loss=name)


def test_the_loss_has_the_recipes_constants():
    import torch

    outputs, y = torch.randn(1, 5, 3), torch.eye(3)[[0, 1, 2, 0, 1]][None]
    recipe = {"temperature": 0.3, "margin": 0.7, "alpha": 3.0}
    for name in losses.NAMES:
        ours, theirs = Recipe(loss=name, **recipe).loss_function(), losses.loss(name, **recipe)
        assert torch.equal(ours.value(outputs, y), theirs.value(outputs, y))
        if name != "mse":
            assert not torch.equal(ours.value(outputs, y), losses.loss(name).value(outputs, y))


def test_what_is_new_leaves_old_names_as_they_are():
    assert Recipe(lr=0.1, loss="cross_entropy", temperature=1.0, eps=0.1).differences() == {"lr": 0.1, **CROSS}
    assert Recipe(**CROSS, defence="trades", beta=5.0).differences() == {**CROSS, "defence": "trades", "beta": 5.0}


@pytest.mark.parametrize(
    ("argument", "values", "part"),
    [
        ("factor", (0.0, math.nan), "factor must be above 0"),
        ("milestones", ((7.0,), (math.nan,)), "milestones from 0 to 1"),
        ("batch", (0, 1.5, True), "must be integers, at least 1"),
        ("resize", (0, 2.0), "must be integers, at least 1"),
        ("std", ((0.0, 1.0, 1.0), (math.nan,) * 3), "std above 0"),
        ("mean", ((math.inf,) * 3,), "mean must be finite"),
    ],
)
def test_a_recipe_for_images_refuses_what_cannot_be(argument, values, part):
    for value in values:
        with pytest.raises(ValueError, match=part):
            ImageRecipe(**{argument: value})
