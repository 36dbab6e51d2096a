import copy
import math
import sys

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from hannet import FCNet, HanNet
from hannet.train.recipe import Recipe
from hannet.train.trainer import predict, train

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
    for step, rows in zip(range(recipe.iterations), batches(7), strict=False):
        optimizer.param_groups[0]["lr"] = recipe.lr * recipe.rate(step)
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
        for step, rows in zip(range(recipe.iterations), batches(seed), strict=False):
            torchs.param_groups[0]["lr"] = recipe.lr * recipe.rate(step)
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
        for step, rows in zip(range(recipe.iterations), batches(seed), strict=False):
            torchs.param_groups[0]["lr"] = recipe.lr * recipe.rate(step)
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


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"schedule": "linear"}, "schedule must be steps, cosine or constant, got 'linear'"),
        ({"batch": 0}, "must be at least 1, got 0 and"),
        ({"iterations": 0}, "must be at least 1, got 100 and 0"),
        ({"optimizer": "rmsprop"}, "optimizer must be sgd, adam or adamw, got 'rmsprop'"),
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


def test_flat_targets_are_refused():
    with pytest.raises(ValueError, match=r"\(n, in\) and \(n, out\)"):
        train([FCNet(2, 1, width=4, depth=1)], recipes(0.1), [0], X, Y[:, 0])


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


def test_what_is_frozen_must_be_the_same_in_each():
    networks = [FCNet(2, 2, width=4, depth=1) for _ in range(2)]
    for frozen in (networks[:1], networks):
        for network in frozen:
            network.requires_grad_(False)
        with pytest.raises(ValueError, match="the same in each"):
            train(networks, recipes(0.1, 0.1), [0, 1], X, Y)


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


def test_all_members_diverging_end_the_training_and_are_told():
    network, told = FCNet(2, 2, width=8, depth=2), []
    train([network], recipes(1e9), [0], X, Y, on_progress=told.append)
    assert told[-1].step == told[-1].steps
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
    train(others, plan, seeds, X, Y, on_progress=lambda progress: steps.append(progress.loss), every=0)

    def note(epoch):
        epochs.append((epoch.number, epoch.epochs, epoch.loss, epoch.predict(X), epoch.seconds))

    train(networks, plan, seeds, X, Y, on_epoch=note)
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
        stopped, plan, seeds, X, Y, on_epoch=lambda epoch: epoch.number == 3 and epoch.stop(), on_progress=told.append
    )
    assert told[-1].step == told[-1].steps
    kept = {}

    def keep(epoch):
        if epoch.number in (1, 3):
            better = torch.tensor([epoch.number == 3, True, False])
            epoch.keep(better)
            kept.update({epoch.number: epoch.predict(X)})

    train(networks, plan, seeds, X, Y, on_epoch=keep)
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

    def keep(epoch):
        if epoch.number in (1, 110):
            epochs.append(epoch)
            epoch.keep(torch.tensor([epoch.number == 110, True, False]))

    train(networks, recipes(*rates, iterations=120, **options), [0, 1, 2], X, Y, on_epoch=keep)
    assert same_bits(networks[1:2], once[1:2])
    if rates[0] < 1:
        assert epochs[1].loss.isnan().tolist() == [False, True, False]
        assert epochs[1].predict(X).isnan().all(2).all(1).tolist() == [False, True, False]
        assert_close(parameters(networks[0]), parameters(longer[0]))


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


def test_gathering_fewer_batches_at_once_changes_nothing(monkeypatch):
    nets = [BUILD["HanNet"]() for _ in range(2)]
    again = copy.deepcopy(nets)
    train(nets, recipes(0.01, 0.02, iterations=30), [0, 1], X, Y)
    monkeypatch.setattr(sys.modules["hannet.train.trainer"], "_GATHER", 1)
    train(again, recipes(0.01, 0.02, iterations=30), [0, 1], X, Y)
    assert all(torch.equal(parameters(a), parameters(b)) for a, b in zip(nets, again, strict=True))
