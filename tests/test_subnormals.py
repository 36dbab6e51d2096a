import pytest
import torch

from hannet.subnormals import flushed

SUBNORMAL = 1e-40


def product() -> float:
    return float(torch.full((), SUBNORMAL) * 1)


@pytest.mark.parametrize("before", [False, True])
def test_subnormals_are_zero_inside_and_as_before_outside(before):
    torch.set_flush_denormal(before)
    try:
        with flushed():
            assert product() == 0
        assert (product() == 0) == before
        with pytest.raises(KeyError), flushed():
            raise KeyError
        assert (product() == 0) == before
    finally:
        torch.set_flush_denormal(False)
