from torch import nn

from hannet import HanBlock, HanLayer, HanLinear, HanStack, Householder
from hannet.surgery.costs import Cost, cost_of


def test_multiply_adds_of_each_kind():
    assert cost_of(nn.Linear(6, 4)) == Cost(28, 112, 24)
    assert cost_of(HanLayer(6)).multiply_adds == 12
    assert cost_of(HanStack(6, 3, reflections=2)).multiply_adds == 72
    assert cost_of(Householder(6, reflections=2)).multiply_adds == 24
    assert cost_of(HanLinear(6, 4, reflections=3)).multiply_adds == 2 * 3 * 10 + 4
    assert cost_of(HanBlock(6, 9, 2, scale=1.0)).multiply_adds == 2 * 9 * 3 + 6
    assert cost_of(nn.Sequential(nn.Linear(6, 4), nn.ReLU(), HanLayer(4))).multiply_adds == 32


def test_a_shared_parameter_counts_once():
    one, other = nn.Linear(4, 4), nn.Linear(4, 4)
    other.weight = one.weight
    assert cost_of(one, other).parameters == 16 + 8
    assert cost_of(one) + cost_of(one) == Cost(40, 160, 32)
