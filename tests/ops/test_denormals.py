import pytest
import torch

from hannet import FCNet
from hannet.ops.denormals import flush_denormals, zero_subnormals
from hannet.train.recipe import Recipe
from hannet.train.trainer import train

SUBNORMAL = 1e-40


def product() -> float:
    return float(torch.full((), SUBNORMAL) * 1)


@pytest.mark.parametrize("before", [False, True])
def test_subnormals_are_zero_inside_and_as_before_outside(before):
    torch.set_flush_denormal(before)
    try:
        with flush_denormals():
            assert product() == 0
        assert (product() == 0) == before
        with pytest.raises(KeyError), flush_denormals():
            raise KeyError
        assert (product() == 0) == before
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
@pytest.mark.parametrize("before", [False, True])
def test_numbers_of_another_kind_do_not_hide_what_was_before(before, dtype):
    torch.set_flush_denormal(before)
    torch.set_default_dtype(dtype)
    try:
        with torch.device("meta"), flush_denormals():
            pass
    finally:
        torch.set_default_dtype(torch.float32)
        vanished = product() == 0
        torch.set_flush_denormal(False)
    assert vanished == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_only_subnormals_become_zero(dtype):
    normal = torch.finfo(dtype).smallest_normal
    x = torch.tensor([0.0, normal / 4, -normal / 4, 2 * normal, -2 * normal, 1.0, torch.inf, torch.nan], dtype=dtype)
    y = x.clone()
    zero_subnormals([y])
    expected = x.clone()
    expected[1:3] = 0
    torch.testing.assert_close(y, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_weight_decay_leaves_no_subnormals(optimizer):
    network = FCNet(3, 1, width=4, depth=1)
    with torch.no_grad():
        network.layers[0].weight[:, 0] = 1e-39
    x = torch.rand(50, 3) * torch.tensor([0.0, 1, 1])  # nothing holds the first column's weights
    train([network], [Recipe(1e-3, weight_decay=1e-3, iterations=50, optimizer=optimizer)], [0], x, x[:, :1])
    weight = network.layers[0].weight
    assert not ((weight != 0) & (weight.abs() < torch.finfo().smallest_normal)).any()
