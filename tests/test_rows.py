import numpy as np

from hannet.rows import Scaler, distinct, held_out

X = np.random.default_rng(0).normal(size=(90, 3))


def test_rare_classes_stay_in_training_and_shares_are_kept():
    strata = np.array([0.0] * 60 + [1.0] * 40 + [2.0])
    for seed in range(5):
        held = held_out(strata, 0.1, np.random.RandomState(seed))
        assert np.bincount(strata[held].astype(int)).tolist() == [6, 4]
        assert set(strata[~held]) == {0, 1, 2}
        assert set(strata[~held_out(strata, 0.99, np.random.RandomState(seed))]) == {0, 1, 2}
    assert not held_out(strata[:19], 0.5, np.random.RandomState(0)).any()


def test_distinct_rows():
    x, y, weights = distinct(
        np.array([[0.0, 1], [-0.0, 1], [0, 1], [2, 3]]), np.array([[5.0], [5], [6], [5]]), np.arange(1.0, 5)
    )
    assert sorted(zip(x[:, 0], y[:, 0], weights, strict=True)) == [(0, 5, 3), (0, 6, 3), (2, 5, 4)]


def test_scaler_weighs_as_repetitions_do():
    scaler = Scaler().fit(X, np.arange(90.0))
    repeated = X.repeat(np.arange(90), 0)
    assert np.allclose(scaler.mean, repeated.mean(0))
    assert np.allclose(scaler.std, repeated.std(0))
