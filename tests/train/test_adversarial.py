"""FGSM adversarial training and TRADES, against plain loops of autograd in float64."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from hannet import FCNet, HanNet
from hannet.train.adversarial import AdversarialTraining
from hannet.train.ensemble import Ensemble
from hannet.train.recipe import Recipe
from hannet.train.trainer import train

BUILD = {
    "HanNet": lambda: HanNet(6, 3, width=8, depth=4),
    "lipschitz HanNet": lambda: HanNet(6, 3, width=8, depth=4, lipschitz=True),
    "FCNet": lambda: FCNet(6, 3, width=8, depth=2),
    "other modules": lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)),
}
OPTIONS = {
    "adversarial": {"defence": "adversarial", "eps": 0.2},
    "trades": {"defence": "trades", "eps": 0.05, "beta": 4.0},
    "warm trades": {"defence": "trades", "temperature": 2.0},
}
X, LABELS = torch.rand(40, 6), torch.arange(40) % 3
Y = F.one_hot(LABELS, 3).float()


@pytest.fixture(params=BUILD)
def networks(request):
    return [BUILD[request.param]() for _ in range(3)]


def recipe(name, **options):
    return Recipe(loss="cross_entropy", **{"iterations": 6, "batch": 20, "lr": 0.05} | OPTIONS[name] | options)


def entropy(outputs, labels, recipe):
    return recipe.temperature * F.cross_entropy(outputs / recipe.temperature, labels)


def fgsm(x, start, loss, eps):
    leaf = start.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf), leaf)
    moved = start + eps * gradient.sign()
    return moved.maximum(x - eps).minimum(x + eps).clamp(0, 1)


def naive(network, x, labels, recipe, noise):
    """The samples of one network, and the loss there."""
    if recipe.defence == "adversarial":
        sample = fgsm(x, x, lambda leaf: entropy(network(leaf), labels, recipe), recipe.eps)
        return sample, entropy(network(sample), labels, recipe)
    clean = network(x).softmax(1).detach()
    near = x + 0.001 * noise
    sample = fgsm(x, near, lambda leaf: F.kl_div(network(leaf).log_softmax(1), clean, reduction="sum"), recipe.eps)
    divergence = F.kl_div(network(sample).log_softmax(1), network(x).softmax(1), reduction="batchmean")
    return sample, entropy(network(x), labels, recipe) + recipe.beta * divergence


@pytest.mark.parametrize("name", OPTIONS)
def test_a_step_is_that_of_a_plain_loop(networks, name):
    networks, plan, seeds = [network.double() for network in networks], recipe(name), [3, 8, 3]
    members, defence = Ensemble(networks), AdversarialTraining(plan, seeds)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    for rows in (20, 20, 13):  # again: the noise goes on, and memory is used again
        chosen = torch.stack([torch.randperm(40)[:rows] for _ in networks])
        x, y = X.double()[chosen], Y.double()[chosen]
        kept = x.clone()
        outputs, gradients = defence.gradients(members, plan.loss_function(), x, [y])
        assert torch.equal(x, kept)
        for member, network in enumerate(networks):
            noise = torch.randn(rows, 6, generator=generators[member])
            sample, loss = naive(network, x[member], LABELS[chosen[member]], plan, noise)
            assert (sample - x[member]).abs().max() <= plan.eps + 1e-12
            assert (sample - x[member]).abs().max() > plan.eps / 2
            seen = sample if plan.defence == "adversarial" else x[member]
            assert_close(outputs[member], network(seen).detach())
            for (key, _), gradient in zip(
                network.named_parameters(), torch.autograd.grad(loss, list(network.parameters())), strict=True
            ):
                assert_close(gradients[key][member], gradient)


@pytest.mark.parametrize("name", OPTIONS)
def test_members_equal_the_runs_alone(networks, name):
    """The noise of a member is its seed's, even when another is retired at the first step."""
    alone, together, seeds = copy.deepcopy(networks), networks, [4, 5, 4]
    plans = [recipe(name), recipe(name, lr=1e20), recipe(name, lr=0.02)]
    plans = [Recipe(**{**plan.differences(), "iterations": 104}) for plan in plans]
    train(together, plans, seeds, X, Y)
    for index in (0, 2):
        train([alone[index]], [plans[index]], [seeds[index]], X, Y)
        one, other = (torch.cat([p.detach().flatten() for p in nets[index].parameters()]) for nets in (together, alone))
        assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_defended_networks_withstand_what_they_train_on():
    """Two inputs: a faint one that tells the class, and a strong one that mostly does."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 2
    strong = torch.where(torch.rand(400, generator=generator) < 0.9, labels, 1 - labels)
    x = torch.stack([0.48 + 0.04 * labels, 0.2 + 0.6 * strong], 1)
    y = F.one_hot(labels, 2).float()
    found = {}
    for name, options in {"": {}, **OPTIONS}.items():
        torch.manual_seed(0)
        net = FCNet(2, 2, width=32, depth=1)
        plan = Recipe(
            **{"loss": "cross_entropy", "optimizer": "adam", "lr": 0.02, "iterations": 500} | options | {"eps": 0.1}
        )
        train([net], [plan], [0], x, y)
        sample = fgsm(x, x, lambda leaf, net=net: F.cross_entropy(net(leaf), labels), 0.1)
        found[name] = (net(sample).argmax(1) == labels).float().mean().item()
    assert all(found[name] > found[""] + 0.2 for name in OPTIONS), found
