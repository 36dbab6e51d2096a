import numpy as np

from hannet.export.integers import round_shift


def test_halves_are_rounded_away_from_zero():
    assert round_shift(np.array([3, -3, 2, -2, 5, 1]), 1).tolist() == [2, -2, 1, -1, 3, 1]
    assert round_shift(np.array([7, -7]), 0).tolist() == [7, -7]
