import numpy as np
import pytest
import torch

from hannet.ops.cpu.group_sort import sort_groups, unsort_groups


def sort(x, group, descending):
    """y and places for a flat x; poisoned first."""
    y, places = np.full_like(x, np.nan), np.full(x.shape, 255, np.uint8)
    sort_groups(x, group, descending, y, places)
    return y, places


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("groups", [1, 255, 256, 700])
@pytest.mark.parametrize("group", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sorts_each_group_and_knows_the_way_back(dtype, group, groups, descending):
    x = torch.randn(groups * group).numpy().astype(dtype)
    y, places = sort(x, group, descending)
    expected = torch.from_numpy(x).view(-1, group).sort(-1, descending=descending).values
    assert torch.equal(torch.from_numpy(y).view(-1, group), expected)
    back = np.full_like(x, np.nan)
    unsort_groups(y, places, group, back)
    assert np.array_equal(back, x)


def test_equal_values_keep_their_places():
    x = np.array([2, 1, 1, 1, 0, 0], np.float32)
    _, places = sort(x, 6, False)
    assert places.tolist() == [4, 5, 1, 2, 3, 0]


def test_every_value_goes_somewhere_even_beside_nan():
    x = np.array([3, np.nan, 1, 2, np.inf, -np.inf], np.float32)
    for group in (2, 3, 6):
        _, places = sort(x, group, False)
        assert np.array_equal(np.sort(places.reshape(-1, group), 1), np.tile(np.arange(group), (6 // group, 1)))
