import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from hannet import HanLinear
from hannet.surgery import replace_linear, sensitivity


def test_each_layer_is_measured_alone_and_put_back():
    model, x = (
        nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)),
        torch.randn(20, 8),
    )
    expected, state = model(x).detach(), copy.deepcopy(model.state_dict())
    planned = replace_linear(model, by=1, steps=0, dry_run=True)
    seen, reports = [], []

    def evaluate(model):
        seen.append([isinstance(module, HanLinear) for module in model if not isinstance(module, nn.ReLU)])
        return (model(x) - expected).square().mean().item()

    found = sensitivity(model, evaluate, planned, reports.append)
    assert seen == [[False] * 3, [True, False, False], [False, True, False], [False, False, True]]
    assert found.before == 0
    assert all(effect.change == effect.value > 0 for effect in found.effects)
    assert found.effects[0].saved == 72 - (2 * 8 + 8 + 8)
    assert [event.step for event in reports] == [1, 2, 3]
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in state.items())
    best = min(found.effects, key=lambda effect: effect.change)
    assert found.smallest(1) == [best.name]
    planned.apply(*found.smallest(1))
    assert_close(evaluate(model), best.value)


def test_a_failing_measurement_leaves_the_model_as_it_was():
    model = nn.Sequential(nn.Linear(4, 4))
    kept = model[0]

    def evaluate(model):
        return 1 / (model[0] is kept)

    with pytest.raises(ZeroDivisionError):
        sensitivity(model, evaluate)
    assert model[0] is kept


def test_a_plan_must_be_of_this_model_and_not_carried_out():
    model = nn.Sequential(nn.Linear(4, 4))
    for planned in (replace_linear(copy.deepcopy(model), dry_run=True), replace_linear(model, by=1, steps=0)):
        with pytest.raises(ValueError, match="planned must be a dry run on this model"):
            sensitivity(model, lambda _: 0.0, planned)
