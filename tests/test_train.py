import copy
import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from hannet import FCNet, HanNet
from hannet.train import Recipe, predict, train

X = torch.linspace(-1, 1, 250)[:, None] * torch.tensor([1.0, -0.5])
Y = torch.stack([X[:, 0].abs(), (3 * X[:, 1]).sin()], 1)
BUILD = {
    "HanNet": lambda: HanNet(2, 2, width=16, depth=5),
    "HanNet with dense ends": lambda: HanNet(2, 2, width=16, depth=5, dense_ends=True),
    "FCNet": lambda: FCNet(2, 2, width=16, depth=2),
    "other modules": lambda: nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2)),
}


def recipes(*rates, **options):
    return [Recipe(lr=rate, **{"iterations": 300, "batch": 50, **options}) for rate in rates]


def parameters(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


@pytest.fixture(params=BUILD)
def networks(request):
    return [BUILD[request.param]() for _ in range(3)]


def test_members_equal_the_runs_alone(networks):
    alone, together = copy.deepcopy(networks), networks
    plan, seeds = recipes(0.01, 0.02, 0.002), [4, 5, 4]
    train(together, plan, seeds, X, Y)
    for one in zip(alone, plan, seeds, strict=True):
        train(*([each] for each in one), X, Y)
    for one, other in zip(together, alone, strict=True):
        assert_close(parameters(one), parameters(other), rtol=1e-3, atol=1e-4)


def test_equals_torchs_own_sgd(networks):
    """The same batches, by autograd and torch.optim, in float64."""
    network = networks[0].double()
    expected = copy.deepcopy(network)
    recipe = recipes(0.01, weight_decay=1e-3, momentum=0.8, lasso=0.02, iterations=60)[0]
    x, y = X.double(), Y.double()
    train([network], [recipe], [7], x, y)
    optimizer = torch.optim.SGD(expected.parameters(), recipe.lr, momentum=0.8, weight_decay=1e-3)
    generator, order = torch.Generator().manual_seed(7), []
    for step in range(recipe.iterations):
        order = order or list(torch.randperm(len(x), generator=generator).split(50))
        rows = order.pop(0)
        optimizer.param_groups[0]["lr"] = recipe.lr * recipe.rate(step)
        optimizer.zero_grad()
        lasso = recipe.lasso * next(expected.parameters()).norm(dim=1).sum()
        (nn.functional.mse_loss(expected(x[rows]), y[rows]) + lasso).backward()
        optimizer.step()
    assert_close(parameters(network), parameters(expected), rtol=1e-5, atol=1e-7)


def test_training_lowers_the_loss_and_repeats_bit_by_bit(networks):
    again = copy.deepcopy(networks)
    before = (predict(networks, X) - Y).square().mean((1, 2))
    for each in (networks, again):
        train(each, recipes(0.01, 0.01, 0.01), [0, 1, 0], X, Y)
    after = (predict(networks, X) - Y).square().mean((1, 2))
    assert (after < before).all()
    assert all(torch.equal(parameters(a), parameters(b)) for a, b in zip(networks, again, strict=True))


def test_a_diverging_member_goes_alone(networks):
    alone = copy.deepcopy(networks)
    train(networks, recipes(0.01, 1e9, 0.01), [0, 1, 2], X, Y)
    assert not parameters(networks[1]).isfinite().all()
    train(alone[::2], recipes(0.01, 0.01), [0, 2], X, Y)
    for index in (0, 2):
        assert_close(parameters(networks[index]), parameters(alone[index]), rtol=1e-3, atol=1e-4)


def test_one_seed_means_one_order_of_batches(networks):
    twins = [networks[0], copy.deepcopy(networks[0]), copy.deepcopy(networks[0])]
    train(twins, recipes(0.01, 0.01, 0.01, iterations=20), [3, 3, 4], X, Y)
    assert_close(parameters(twins[0]), parameters(twins[1]), rtol=0, atol=1e-6)
    assert (parameters(twins[0]) - parameters(twins[2])).abs().max() > 1e-4


@pytest.mark.parametrize("rows", [1, 7, 50, 51])
def test_any_number_of_rows(rows):
    networks = [HanNet(2, 2, width=8, depth=3)]
    before = parameters(networks[0])
    train(networks, recipes(0.01, iterations=5), [0], X[:rows], Y[:rows])
    assert parameters(networks[0]).isfinite().all()
    assert not torch.equal(before, parameters(networks[0]))


def test_a_recipe_is_what_differs_from_the_default():
    assert Recipe().differences() == {}
    assert Recipe(lr=0.1, lasso=1e-3).differences() == {"lr": 0.1, "lasso": 1e-3}


def test_schedule_of_steps():
    recipe = Recipe(iterations=100, milestones=(0.5, 0.7), factor=0.2)
    assert [recipe.rate(step) for step in (0, 49, 50, 69, 70, 99)] == pytest.approx([1, 1, 0.2, 0.2, 0.04, 0.04])


def test_schedule_of_a_cosine_after_a_warmup():
    recipe = Recipe(iterations=100, schedule="cosine", warmup=0.2)
    rates = [recipe.rate(step) for step in range(100)]
    assert rates[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert rates[20] == 1
    assert rates[60] == pytest.approx(0.5)
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert 0 < rates[99] < 0.001
    assert rates[40] == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))


def test_progress_is_told():
    networks = [HanNet(2, 2, width=8, depth=3) for _ in range(2)]
    told = []
    train(networks, recipes(0.01, 0.02, iterations=20), [0, 1], X, Y, on_progress=told.append, every=0)
    assert [progress.step for progress in told] == list(range(1, 21))
    last = told[-1]
    assert last.steps == 20
    assert 0 < told[0].seconds < last.seconds
    assert last.loss.shape == (2,)
    assert not last.loss.requires_grad
    assert_close(last.predict(X), torch.stack([network(X) for network in networks]).detach())
    assert_close(last.predict(X), predict(networks, X))
    assert len({float(progress.loss[0]) for progress in told}) > 10  # each its own, not one reused buffer
    rarely = []
    train(networks, recipes(0.01, 0.02, iterations=20), [0, 1], X, Y, on_progress=rarely.append, every=1e9)
    assert [progress.step for progress in rarely] == [20]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"recipes": []}, "as many recipes and seeds as networks: 2, 0 and 2 came"),
        ({"seeds": [0]}, "as many recipes and seeds as networks: 2, 2 and 1 came"),
        ({"networks": [], "recipes": [], "seeds": []}, "0, 0 and 0 came"),
        ({"y": Y[1:]}, "same rows, at least one: 250 and 249 came"),
        ({"x": X[:0], "y": Y[:0]}, "same rows, at least one: 0 and 0 came"),
        ({"recipes": [Recipe(batch=10), Recipe(batch=20)]}, "may differ in lr and weight_decay only"),
    ],
)
def test_arguments_that_do_not_fit_together_are_named(arguments, sentence):
    fitting = {"networks": [FCNet(2, 2, 4, 1), FCNet(2, 2, 4, 1)], "recipes": recipes(0.1, 0.2), "seeds": [0, 1]}
    with pytest.raises(ValueError, match=sentence):
        train(**{**fitting, "x": X, "y": Y, **arguments})


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"schedule": "linear"}, "schedule must be steps or cosine, got 'linear'"),
        ({"batch": 0}, "must be at least 1, got 0 and"),
        ({"iterations": 0}, "must be at least 1, got 100 and 0"),
    ],
)
def test_a_bad_recipe_is_named(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        Recipe(**arguments)


def test_frozen_parameters_and_flat_targets_are_refused():
    network = HanNet(2, 2, width=8, depth=3)
    with pytest.raises(ValueError, match=r"x and y must be \(n, in\) and \(n, out\)"):
        train([network], recipes(0.01), [0], X, Y[:, 0])
    network.layers[2].requires_grad_(False)
    with pytest.raises(ValueError, match=r"layers.2.u does not require gradients"):
        train([network], recipes(0.01), [0], X, Y)


def test_all_members_diverging_end_the_training_and_are_told():
    network, told = FCNet(2, 2, width=8, depth=2), []
    train([network], recipes(1e9), [0], X, Y, on_progress=told.append)
    assert told[-1].step == told[-1].steps
    assert not told[-1].loss.isfinite().any()
