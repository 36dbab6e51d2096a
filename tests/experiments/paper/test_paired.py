import math

import pytest

from hannet.experiments.paper._paired import compare, over_cells, paired_t, permutation_p
from hannet.experiments.record import Record, Run


def records(errors):
    runs = [Run("toy", {}, seed) for seed in range(len(errors))]
    return [Record.of(run, {"test_rmse": error}, 1.0) for run, error in zip(runs, errors, strict=True)]


def test_the_paired_t_test_is_the_textbooks():
    """Differences 1, 2, 3: t = 2 / (1 / sqrt(3)) with 2 degrees of freedom, where P(|t| > T) = 1 - T / sqrt(T^2 + 2)."""
    t = 2 * math.sqrt(3)
    assert paired_t([2.0, 4.0, 6.0], [1.0, 2.0, 3.0]) == pytest.approx(1 - t / math.sqrt(t * t + 2), rel=1e-3)
    assert paired_t([1.0, 2.0], [3.0, 1.0]) == paired_t([3.0, 1.0], [1.0, 2.0])


def test_one_pair_or_equal_methods_have_no_p():
    assert paired_t([1.0], [2.0]) is None
    assert paired_t([1.0, 2.0], [1.0, 2.0]) is None


def test_pairs_are_of_the_seeds_that_both_have():
    ratio, p = compare(records([2.0, 6.0]), records([1.0, 3.0, 100.0]))
    assert ratio == pytest.approx(2.0)
    assert p == pytest.approx(paired_t([2.0, 6.0], [1.0, 3.0]))
    assert compare(records([2.0]), records([1.0, 3.0])) == (2.0, None)


def test_a_seed_without_a_result_leaves_nothing_to_compare():
    assert compare(records([2.0, math.inf]), records([1.0, 3.0])) == (None, None)


def test_cells_that_all_agree_have_the_least_p_there_is():
    mean, worse, p = over_cells([1.1, 1.2, 1.3, 1.4, 1.5])
    assert mean == pytest.approx((1.1 * 1.2 * 1.3 * 1.4 * 1.5) ** 0.2, rel=1e-3)
    assert (worse, p) == (5, pytest.approx(2 / 2**5))


def test_equal_cells_decide_nothing():
    assert over_cells([1.0, 1.0]) == (1.0, 0, None)
    assert over_cells([1.0, 0.5, 2.0])[:2] == (pytest.approx(1.0), 1)
    assert over_cells([1.0, 0.5])[2] == over_cells([0.5])[2] == 1.0


def test_the_permutation_test_is_exact_for_few_pairs():
    assert permutation_p([1, 2, 3, 4, 5], [0] * 5) == pytest.approx(2 / 2**5)
    assert permutation_p([1, 2, 3], [3, 2, 1]) == 1
    assert permutation_p([1], [0]) is None
