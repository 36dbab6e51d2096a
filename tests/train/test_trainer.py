import copy
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from hannet import FCNet, HanNet
from hannet.train import batches as batch_module
from hannet.train.recipe import Recipe
from hannet.train.trainer import predict, train

sys.path.append(str(Path(__file__).parents[1]))
from callbacks_toy import OnEpoch, OnProgress

X = torch.linspace(-1, 1, 250)[:, None] * torch.tensor([1.0, -0.5])
Y = torch.stack([X[:, 0].abs(), (3 * X[:, 1]).sin()], 1)
BUILD = {
    "HanNet": lambda: HanNet(2, 2, width=16, depth=5),
    "HanNet with dense ends": lambda: HanNet(2, 2, width=16, depth=5, dense_ends=True),
    "lipschitz HanNet": lambda: HanNet(2, 2, width=16, depth=5, lipschitz=True, reflections=2),
    "FCNet": lambda: FCNet(2, 2, width=16, depth=2),
    "other modules": lambda: nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2)),
}


def recipes(*rates, **options):
    return [Recipe(lr=rate, **{"iterations": 300, "batch": 50, **options}) for rate in rates]


def parameters(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def batches(seed):
    """The rows of each batch of 50."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(len(X), generator=generator).split(50)


def same_bits(networks, others):
    return all(torch.equal(parameters(a), parameters(b)) for a, b in zip(networks, others, strict=True))


@pytest.fixture(params=BUILD)
def networks(request):
    return [BUILD[request.param]() for _ in range(3)]


SHORT = {"iterations": 30}
PLANS = {"sgd": recipes(0.01, 0.02, 0.002)} | {
    name: recipes(0.001, 0.002, optimizer=name, **SHORT) + recipes(0.001, optimizer=name, weight_decay=0.1, **SHORT)
    for name in ("adam", "adamw")
}
PLANS["mixed"] = (
    recipes(0.001, optimizer="adam", **SHORT) + recipes(0.01, **SHORT) + recipes(0.01, momentum=0.5, **SHORT)
)
PLANS["orthogonal"] = recipes(0.01, **SHORT) + recipes(0.01, 0.02, orthogonal=0.1, **SHORT)


@pytest.mark.parametrize("options", [{}, {"optimizer": "adam"}, {"defence": "trades", "loss": "cross_entropy"}])
def test_the_default_device_does_not_matter(networks, options):
    others = copy.deepcopy(networks)
    train(networks, recipes(0.01, 0.01, 0.02, **SHORT, **options), [0, 1, 2], X, Y.abs())
    with torch.device("meta"):  # as torch.set_default_device
        train(others, recipes(0.01, 0.01, 0.02, **SHORT, **options), [0, 1, 2], X, Y.abs())
    assert same_bits(networks, others)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_members_equal_the_runs_alone(networks, plan):
    alone, together, seeds = copy.deepcopy(networks), networks, [4, 5, 4]
    train(together, plan, seeds, X, Y)
    for one in zip(alone, plan, seeds, strict=True):
        train(*([each] for each in one), X, Y)
    for one, other in zip(together, alone, strict=True):
        assert_close(parameters(one), parameters(other), rtol=1e-3, atol=1e-4)


def test_equals_torchs_own_sgd(networks):
    """The same batches, by autograd and torch.optim, in float64."""
    network = networks[0].double()
    expected = copy.deepcopy(network)
    lasso = 0.02 if next(expected.parameters()).shape == (16, 2) else 0.0  # of the first layer, if it is a Linear
    recipe = recipes(0.01, weight_decay=1e-3, momentum=0.8, lasso=lasso, iterations=60)[0]
    x, y = X.double(), Y.double()
    train([network], [recipe], [7], x, y)
    optimizer = torch.optim.SGD(expected.parameters(), recipe.lr, momentum=0.8, weight_decay=1e-3)
    rate = recipe.learning_rates(recipe.iterations).rate
    for step, rows in zip(range(recipe.iterations), batches(7), strict=False):
        optimizer.param_groups[0]["lr"] = recipe.lr * rate(step / recipe.iterations)
        optimizer.zero_grad()
        lasso = recipe.lasso * next(expected.parameters()).norm(dim=1).sum()
        (nn.functional.mse_loss(expected(x[rows]), y[rows]) + lasso).backward()
        optimizer.step()
    assert_close(parameters(network), parameters(expected), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("loss", [nn.functional.mse_loss, nn.functional.cross_entropy])
@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.AdamW])
def test_equals_torchs_own_adam(networks, optimizer, loss):
    """Each member with a rate and a weight decay of its own, by autograd and torch.optim, in float64."""
    networks = [network.double() for network in networks]
    expected, seeds = copy.deepcopy(networks), [7, 8, 7]
    options = {"optimizer": optimizer.__name__.lower(), "loss": loss.__name__.removesuffix("_loss"), "iterations": 30}
    plan = [
        *recipes(0.01, **options),
        *recipes(0.003, weight_decay=0.1, **options),
        *recipes(0.03, weight_decay=0.01, **options),
    ]
    x, y = X.double(), torch.stack([Y[:, 0], 1 - Y[:, 0]], 1).double()
    train(networks, plan, seeds, x, y)
    for network, other, recipe, seed in zip(networks, expected, plan, seeds, strict=True):
        torchs = optimizer(other.parameters(), weight_decay=recipe.weight_decay)
        rate = recipe.learning_rates(recipe.iterations).rate
        for step, rows in zip(range(recipe.iterations), batches(seed), strict=False):
            torchs.param_groups[0]["lr"] = recipe.lr * rate(step / recipe.iterations)
            torchs.zero_grad()
            loss(other(x[rows]), y[rows]).backward()
            torchs.step()
        assert_close(parameters(network), parameters(other), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "loss"),
    [
        ({"loss": "multi_margin", "margin": 2.0}, lambda f, y: nn.MultiMarginLoss(margin=2.0)(f, y.argmax(1))),
        (
            {"loss": "cross_entropy", "temperature": 0.2},
            lambda f, y: 0.2 * nn.functional.cross_entropy(f / 0.2, y),
        ),
        (
            {"loss": "hkr", "margin": 0.5, "alpha": 4.0},
            lambda f, y: (
                4 * (0.25 - (2 * y - 1) * f).clamp_min(0).mean()
                - ((f * y).sum(0) / y.sum(0) - (f * (1 - y)).sum(0) / (1 - y).sum(0)).mean()
            ),
        ),
    ],
)
def test_margin_losses_equal_a_plain_loop(networks, options, loss):
    networks = [network.double() for network in networks]
    expected, x = copy.deepcopy(networks), X.double()
    y = nn.functional.one_hot((X[:, 0] > 0).long(), 2).double()
    plan = recipes(0.01, 0.02, 0.01, iterations=20, **options)
    train(networks, plan, [7, 8, 7], x, y)
    for network, other, recipe, seed in zip(networks, expected, plan, [7, 8, 7], strict=True):
        torchs = torch.optim.SGD(other.parameters(), recipe.lr, momentum=0.9)
        rate = recipe.learning_rates(recipe.iterations).rate
        for step, rows in zip(range(recipe.iterations), batches(seed), strict=False):
            torchs.param_groups[0]["lr"] = recipe.lr * rate(step / recipe.iterations)
            torchs.zero_grad()
            loss(other(x[rows]), y[rows]).backward()
            torchs.step()
        assert_close(parameters(network), parameters(other), rtol=1e-6, atol=1e-8)


def test_training_lowers_the_loss_and_repeats_bit_by_bit(networks):
    again = copy.deepcopy(networks)
    before = (predict(networks, X) - Y).square().mean((1, 2))
    for each in (networks, again):
        train(each, recipes(0.01, 0.01, 0.01), [0, 1, 0], X, Y)
    after = (predict(networks, X) - Y).square().mean((1, 2))
    assert (after < before).all()
    assert same_bits(networks, again)


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


def test_progress_is_told():
    networks = [HanNet(2, 2, width=8, depth=3) for _ in range(2)]
    told = []
    train(networks, recipes(0.01, 0.02, iterations=20), [0, 1], X, Y, callbacks=[OnProgress(told.append)], every=0)
    assert [progress.step for progress in told] == list(range(1, 21))
    last = told[-1]
    assert last.total == 20
    assert 0 < told[0].seconds < last.seconds
    assert last.loss.shape == (2,)
    assert not last.loss.requires_grad
    assert_close(last.predict(X), torch.stack([network(X) for network in networks]).detach())
    assert_close(last.predict(X), predict(networks, X))
    assert len({float(progress.loss[0]) for progress in told}) > 10  # each its own, not one reused buffer
    rarely = []
    train(networks, recipes(0.01, 0.02, iterations=20), [0, 1], X, Y, callbacks=[OnProgress(rarely.append)], every=1e9)
    assert [progress.step for progress in rarely] == [20]


@pytest.mark.parametrize("options", [{}, {"optimizer": "adam", "weight_decay": 0.1}, {"orthogonal": 0.1}])
def test_frozen_parameters_stay_and_the_others_learn(networks, options):
    before = [{name: p.detach().clone() for name, p in network.named_parameters()} for network in networks]
    frozen = list(before[0])[1:3]
    for network in networks:
        for name in frozen:
            network.get_parameter(name).requires_grad_(False)
    train(networks, recipes(0.01, 0.02, 1e30, iterations=110, **options), [0, 1, 2], X, Y)  # the last one is retired
    for network, start in zip(networks[:2], before, strict=False):
        stayed = {name for name, p in network.named_parameters() if torch.equal(p, start[name])}
        assert stayed == set(frozen)


def test_all_members_diverging_end_the_training_and_are_told():
    network, told = FCNet(2, 2, width=8, depth=2), []
    train([network], recipes(1e9), [0], X, Y, callbacks=[OnProgress(told.append)])
    assert told[-1].step == told[-1].total
    assert not told[-1].loss.isfinite().any()


def test_a_weight_of_two_is_a_row_twice(networks):
    network, doubled = networks[0].double(), copy.deepcopy(networks[0]).double()
    x, y, counts = X[::25].double(), Y[::25].double(), torch.tensor([2, 1]).repeat(5)
    twice = torch.arange(10).repeat_interleave(counts)
    train([network], recipes(0.02, iterations=30), [0], x, y, weights=counts.double())  # 15 gradients, over 10 rows
    train([doubled], recipes(0.03, iterations=30), [0], x[twice], y[twice])
    assert_close(parameters(network), parameters(doubled), rtol=1e-6, atol=1e-8)


def test_rows_of_weight_zero_teach_nothing(networks):
    others = copy.deepcopy(networks)
    weights = (torch.arange(len(X)) % 3 > 0).float()
    for each, y in ((networks, Y), (others, torch.where(weights[:, None] > 0, Y, 1e3))):
        train(each, recipes(0.01, 0.01, 0.01, iterations=30), [0, 1, 2], X, y, weights=weights)
    assert same_bits(networks, others)


@pytest.mark.parametrize("options", [{}, {"optimizer": "adam"}, {"loss": "cross_entropy"}])
def test_weights_of_one_change_no_bit(networks, options):
    others, plan = copy.deepcopy(networks), recipes(0.01, 0.01, 0.002, iterations=20, **options)
    train(networks, plan, [0, 1, 2], X, Y)
    train(others, plan, [0, 1, 2], X, Y, weights=torch.ones(len(X)))
    assert same_bits(networks, others)


def test_each_member_trains_on_its_own_rows(networks):
    alone, plan, seeds = copy.deepcopy(networks), recipes(0.01, 0.02, 0.01, iterations=30), [4, 4, 5]
    rows, weights = torch.stack([torch.randperm(len(X))[:120] for _ in networks]), torch.rand(len(X))
    train(networks, plan, seeds, X, Y, rows=rows, weights=weights)
    for network, recipe, seed, mine in zip(alone, plan, seeds, rows, strict=True):
        train([network], [recipe], [seed], X[mine], Y[mine], weights=weights[mine])
    for one, other in zip(networks, alone, strict=True):
        assert_close(parameters(one), parameters(other), rtol=1e-3, atol=1e-4)


def test_the_loss_of_an_epoch_is_the_mean_of_its_batches_before_each_step(networks):
    others, steps, epochs = copy.deepcopy(networks), [], []
    plan, seeds = recipes(0.01, 0.02, 0.002, iterations=17), [0, 1, 2]  # five batches an epoch, two are left over
    train(others, plan, seeds, X, Y, callbacks=[OnProgress(lambda state: steps.append(state.loss))], every=0)

    def note(state):
        epochs.append((state.epoch, state.epochs, state.loss, state.predict(X), state.seconds))

    train(networks, plan, seeds, X, Y, callbacks=[OnEpoch(note)])
    assert same_bits(networks, others)
    assert [epoch[:2] for epoch in epochs] == [(1, 3), (2, 3), (3, 3)]
    for number, _, loss, prediction, _ in epochs:
        assert_close(loss, torch.stack(steps[5 * number - 5 : 5 * number]).mean(0))
        assert prediction.shape == (3, 250, 2)
    assert 0 < epochs[0][4] < epochs[2][4]


def test_stop_ends_the_training_and_keep_is_what_networks_end_with(networks):
    stopped, last, told = copy.deepcopy(networks), copy.deepcopy(networks), []
    plan, seeds = recipes(0.01, 0.02, 0.002, iterations=25), [0, 1, 2]
    train(last, plan, seeds, X, Y)
    train(
        stopped,
        plan,
        seeds,
        X,
        Y,
        callbacks=[OnEpoch(lambda state: state.epoch == 3 and state.stop()), OnProgress(told.append)],
    )
    assert told[-1].step == told[-1].total
    kept = {}

    def keep(state):
        if state.epoch in (1, 3):
            better = torch.tensor([state.epoch == 3, True, False])
            state.snapshot_best(better)
            kept.update({state.epoch: state.predict(X)})

    train(networks, plan, seeds, X, Y, callbacks=[OnEpoch(keep)])
    assert same_bits(networks[:2], stopped[:2])
    assert same_bits(networks[2:], last[2:])
    assert not any(same_bits([one], [other]) for one, other in zip(stopped, last, strict=True))
    assert_close(predict(networks, X)[:2], kept[3][:2])


@pytest.mark.parametrize("rates", [(0.01, 1e9, 0.01), (1e9, 1e9, 1e9)])
def test_a_member_that_was_kept_before_it_diverged_ends_so(networks, rates):
    """One batch an epoch: the first step still gives numbers; step 101 finds that the next did not."""
    once, longer, epochs = copy.deepcopy(networks), copy.deepcopy(networks), []
    options = {"batch": 250, "milestones": ()}
    train(once, recipes(*rates, iterations=1, **options), [0, 1, 2], X, Y)
    train(longer, recipes(*rates, iterations=110, **options), [0, 1, 2], X, Y)

    def keep(state):
        if state.epoch in (1, 110):
            epochs.append(state)
            state.snapshot_best(torch.tensor([state.epoch == 110, True, False]))

    train(networks, recipes(*rates, iterations=120, **options), [0, 1, 2], X, Y, callbacks=[OnEpoch(keep)])
    assert same_bits(networks[1:2], once[1:2])
    if rates[0] < 1:
        assert epochs[1].loss.isnan().tolist() == [False, True, False]
        assert epochs[1].predict(X).isnan().all(2).all(1).tolist() == [False, True, False]
        assert_close(parameters(networks[0]), parameters(longer[0]))


def test_gathering_fewer_batches_at_once_changes_nothing(monkeypatch):
    nets = [BUILD["HanNet"]() for _ in range(2)]
    again = copy.deepcopy(nets)
    train(nets, recipes(0.01, 0.02, iterations=30), [0, 1], X, Y)
    monkeypatch.setattr(batch_module, "_GATHER", 1)
    train(again, recipes(0.01, 0.02, iterations=30), [0, 1], X, Y)
    assert all(torch.equal(parameters(a), parameters(b)) for a, b in zip(nets, again, strict=True))
