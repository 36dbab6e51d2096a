"""Members, each against PyTorch's optimizer of one network, on the same gradients, in float64."""

from functools import partial

import pytest
import torch
from torch.testing import assert_close

from hannet.train.optimizers import SGD, Adam, OptimizerGroup

LR, DECAY = torch.tensor([0.01, 0.03, 0.001]), torch.tensor([0.0, 0.1, 0.01])
OURS = {
    "sgd": partial(SGD, momentum=0.0),
    "momentum": partial(SGD, momentum=0.8),
    "adam": partial(Adam, decoupled=False),
    "adamw": partial(Adam, decoupled=True),
}
TORCHS = {
    "sgd": torch.optim.SGD,
    "momentum": partial(torch.optim.SGD, momentum=0.8),
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}
RATES = [0.1, 1.0, 1.0, 0.5, 0.25, 0.25]


def start():
    return {"weight": torch.randn(3, 7, 5, dtype=torch.double), "bias": torch.randn(3, 7, dtype=torch.double)}


def draw(columns_first):
    """Gradients; columns_first: those of the weight lie in memory as the first layer's of a network do."""
    bias = torch.randn(3, 7, dtype=torch.double)
    if columns_first:
        return {"weight": torch.randn(3, 5, 7, dtype=torch.double).mT, "bias": bias}
    return {"weight": torch.randn(3, 7, 5, dtype=torch.double), "bias": bias}


def follow(name, parameters, gradients, member, lr, decay):
    """One member's parameters after PyTorch's steps."""
    leaves = {key: p[member].clone().requires_grad_() for key, p in parameters.items()}
    optimizer = TORCHS[name](leaves.values(), weight_decay=decay[member].item())
    for rate, step in zip(RATES, gradients, strict=False):
        optimizer.param_groups[0]["lr"] = rate * lr[member].item()
        for key, leaf in leaves.items():
            leaf.grad = step[key][member].clone()
        optimizer.step()
    return {key: leaf.detach() for key, leaf in leaves.items()}


@pytest.mark.parametrize("columns_first", [False, True])
@pytest.mark.parametrize("alike", [False, True])
@pytest.mark.parametrize("name", OURS)
def test_each_member_moves_as_with_torchs_optimizer(name, alike, columns_first):
    lr, decay = (LR[1].expand(3), DECAY[1].expand(3)) if alike else (LR, DECAY)
    parameters, gradients = start(), [draw(columns_first) for _ in RATES]
    expected = [follow(name, parameters, gradients, member, lr, decay) for member in range(3)]
    optimizer = OURS[name](parameters, lr, decay)
    for rate, step in zip(RATES, gradients, strict=True):
        optimizer.step(step, rate)
    for member in range(3):
        for key, p in expected[member].items():
            assert_close(parameters[key][member], p, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", OURS)
def test_gradients_are_left_as_they_are(name):
    parameters, gradients = start(), draw(columns_first=True)
    kept = {key: gradient.clone() for key, gradient in gradients.items()}
    OURS[name](parameters, LR, DECAY).step(gradients, 1.0)
    assert all(torch.equal(gradients[key], kept[key]) for key in kept)


@pytest.mark.parametrize("kept", [[0, 2], [1]])
@pytest.mark.parametrize("name", OURS)
def test_after_a_retirement_the_others_go_on(name, kept):
    """The state, rates and decays stay with their members."""
    parameters, gradients = start(), [draw(columns_first=False) for _ in RATES]
    expected = [follow(name, parameters, gradients, member, LR, DECAY) for member in range(3)]
    optimizer = OURS[name](parameters, LR, DECAY)
    for index, (rate, step) in enumerate(zip(RATES, gradients, strict=True)):
        if index == 3:
            parameters = {key: p[kept] for key, p in parameters.items()}
            optimizer.select(parameters, torch.tensor(kept))
        optimizer.step({key: g[kept] if index >= 3 else g for key, g in step.items()}, rate)
    for place, member in enumerate(kept):
        for key, p in expected[member].items():
            assert_close(parameters[key][place], p, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", OURS)
def test_a_member_moves_by_the_same_bits_alone(name):
    together, gradients = ({key: p.float() for key, p in each.items()} for each in (start(), draw(columns_first=True)))
    alone = {key: p[1:2].clone() for key, p in together.items()}
    many, one = OURS[name](together, LR, DECAY), OURS[name](alone, LR[1:2], DECAY[1:2])
    for rate in RATES:
        many.step(gradients, rate)
        one.step({key: g[1:2] for key, g in gradients.items()}, rate)
    assert all(torch.equal(together[key][1:2], alone[key]) for key in alone)


MIXED = ["adam", "momentum", "momentum"]  # of three members


def several(parameters, lr, decay):
    parts = (slice(0, 1), slice(1, 3))
    return OptimizerGroup(
        parameters, [1, 2], lambda number, mine: OURS[MIXED[number]](mine, lr[parts[number]], decay[parts[number]])
    )


@pytest.mark.parametrize("retired", [None, 0, 1, 2])
def test_members_with_optimizers_of_their_own_do_not_mix(retired):
    parameters, gradients = start(), [draw(True) for _ in RATES]
    expected = [follow(name, parameters, gradients, member, LR, DECAY) for member, name in enumerate(MIXED)]
    optimizer, kept = several(parameters, LR, DECAY), torch.arange(3)
    for number, (rate, step) in enumerate(zip(RATES, gradients, strict=True)):
        if number == 2 and retired is not None:
            kept = kept[kept != retired]
            parameters = {name: p[kept] for name, p in parameters.items()}
            optimizer.select(parameters, kept)
        optimizer.step({name: g[kept] for name, g in step.items()}, rate)
    for place, member in enumerate(kept.tolist()):
        for name, parameter in expected[member].items():
            assert_close(parameters[name][place], parameter)
