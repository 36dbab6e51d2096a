import numpy as np
import pytest

from hannet.estimators.rows import (
    complement,
    distinct,
    group_codes,
    group_validation_rows,
    relative_weights,
    unit_scale,
    validation_rows,
)

X = np.random.default_rng(0).normal(size=(90, 3))


def test_rare_classes_stay_in_training_and_shares_are_kept():
    strata = np.array([0.0] * 60 + [1.0] * 40 + [2.0])
    for seed in range(5):
        for held in validation_rows(strata, 0.1, 3, np.random.RandomState(seed)):
            assert np.abs(np.bincount(strata[held].astype(int)) - [6, 4]).max() <= 1
        for held in validation_rows(strata, 0.99, 2, np.random.RandomState(seed)):
            assert set(np.delete(strata, held)) == {0, 1, 2}
    assert validation_rows(strata[:19], 0.5, 3, np.random.RandomState(0)).shape == (3, 0)
    assert validation_rows(strata, 0.0, 3, np.random.RandomState(0)).shape == (3, 0)


def test_members_hold_out_other_rows_and_train_on_the_rest():
    held = validation_rows(np.zeros(101), 0.2, 5, np.random.RandomState(0))
    assert held.shape == (5, 20)
    assert len(np.unique(held)) == 100
    taught = complement(held, 101)
    assert taught.shape == (5, 81)
    for mine, rest in zip(held, taught, strict=True):
        assert sorted([*mine, *rest]) == list(range(101))
    assert complement(np.empty((2, 0), np.int64), 4).tolist() == [[0, 1, 2, 3]] * 2


def test_more_members_than_folds_share_some_rows_but_none_twice():
    held = validation_rows(np.zeros(50), 0.4, 4, np.random.RandomState(0))
    assert [len(np.unique(mine)) for mine in held] == [20] * 4


def test_distinct_rows():
    x, y, weights = distinct(
        np.array([[0.0, 1], [-0.0, 1], [0, 1], [2, 3]]), np.array([[5.0], [5], [6], [5]]), np.arange(1.0, 5)
    )
    assert sorted(zip(x[:, 0], y[:, 0], weights, strict=True)) == [(0, 5, 3), (0, 6, 3), (2, 5, 4)]


def test_distinct_rows_of_another_memory_order():
    x, _, weights = distinct(np.asfortranarray(np.vstack([X, X])), np.ones((180, 1)), np.ones(180))
    assert len(x) == 90
    assert weights.tolist() == [2.0] * 90


@pytest.mark.parametrize("unit", [1.0, 8.0, 0.1, np.pi, 1e-5, 1e-300, 1e304, 1e-310])
def test_the_unit_of_weights_changes_no_bit(unit):
    weights = np.random.default_rng(0).integers(1, 2000, 5000) / (7 if unit > 1e-307 else 1)
    assert (relative_weights(unit_scale(unit * weights)) == relative_weights(unit_scale(weights))).all()


def test_weights_are_those_beside_the_median():
    assert relative_weights(unit_scale(np.array([5e-324, 5e-324, 15e-324]))).tolist() == [1, 1, 3]
    counts = np.array([1.0, 1, 2, 3, 700])
    assert (relative_weights(unit_scale(counts)) == counts / 2).all()
    spread = relative_weights(unit_scale(np.array([1e-300, 1.0, 1e-300, 1e-300])))
    assert spread == pytest.approx([1e-300, 1, 1e-300, 1e-300], rel=1e-6)
    rng = np.random.default_rng(1)
    weights = rng.lognormal(0, 20, 1000)
    found = relative_weights(unit_scale(weights))
    assert found / found[0] == pytest.approx(weights / weights[0], rel=2e-6)


def test_labels_of_groups_of_any_kind():
    y = np.zeros(4)
    assert group_codes(None, y).tolist() == [0, 0, 0, 0]
    for labels in (["b", "a", "b", "c"], [7, -1, 7, 9], np.array(["b", None, "b", "c"], object)):
        codes = group_codes(labels, y)
        assert codes[0] == codes[2]
        assert len(set(codes)) == 3
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        group_codes([1, 2], y)


@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.5, 0.9])
def test_no_member_validates_on_a_group_that_it_trains_on(fraction):
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 40, 600).astype(float)
    strata = (groups % 3 == 0).astype(float)
    held = group_validation_rows(strata, groups, fraction, 5, np.random.RandomState(0))
    taught = complement(held, 600)
    for mine, rest in zip(held, taught, strict=True):
        mine, rest = mine[mine < 600], rest[rest < 600]  # noqa: PLW2901
        assert not np.intersect1d(groups[mine], groups[rest]).size
        assert sorted([*mine, *rest]) == list(range(600))
        assert len(mine) / 600 == pytest.approx(fraction, abs=0.06)
        assert fraction < 0.2 or strata[mine].mean() == pytest.approx(strata.mean(), abs=0.15)
    if fraction == 0.2:
        assert len(np.unique(held[held < 600])) == 600


def test_few_groups_leave_a_stratum_to_learn_from():
    groups, strata = np.repeat([0.0, 1, 2, 3], 30), np.repeat([0.0, 0, 0, 1], 30)
    for seed in range(5):
        held = group_validation_rows(strata, groups, 0.3, 3, np.random.RandomState(seed))
        for mine, rest in zip(held, complement(held, 120), strict=True):
            assert set(strata[rest[rest < 120]]) == {0, 1}
            assert 3 not in groups[mine[mine < 120]]
    for none in ((strata, np.zeros(120), 0.3), (strata, groups, 0.0), (strata[:19], groups[:19], 0.3)):
        assert group_validation_rows(*none, 3, np.random.RandomState(0)).shape == (3, 0)


def test_members_that_hold_out_less_are_filled_up():
    held = np.array([[0, 1, 5], [2, 5, 5]])
    assert complement(held, 5).tolist() == [[2, 3, 4, 5], [0, 1, 3, 4]]
