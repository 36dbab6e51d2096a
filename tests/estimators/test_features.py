import json

import numpy as np
import pytest

from hannet.estimators import features as module
from hannet.estimators.features import Features, Scaler

X = np.random.default_rng(0).normal(size=(90, 3))
ONES = np.ones(90)


def test_scaler_weighs_as_repetitions_do():
    scaler = Scaler().fit(X, np.arange(90.0))
    repeated = X.repeat(np.arange(90), 0)
    assert np.allclose(scaler.mean, repeated.mean(0))
    assert np.allclose(scaler.std, repeated.std(0))


@pytest.mark.parametrize("size", [1e-250, 1e-170, 1e200, 1e300])
def test_scaler_of_numbers_whose_squares_leave_the_range(size):
    z = Scaler().fit(X * size, ONES).transform(X * size)
    assert np.allclose(z.numpy(), Scaler().fit(X, ONES).transform(X).numpy(), atol=1e-5)


def test_a_column_of_few_values_has_a_step_between_each_two():
    x = np.array([1.0, 2, 4] * 30)[:, None]
    features = Features().fit(x, ONES)
    assert features.width == 3
    seen = features.transform(np.array([[0.0], [1], [3], [4], [9]])).numpy()
    assert seen[:, 1:].tolist() == [[-0.5, -0.5], [-0.5, -0.5], [0.5, 0], [0.5, 0.5], [0.5, 0.5]]


def test_a_column_of_many_values_has_small_steps_between_quantiles():
    x = np.arange(1600.0)[:, None]
    features = Features().fit(x, np.ones(1600))
    assert features.width == 17
    steps = features.transform(x).numpy()[:, 1:]
    assert np.unique(steps).min() == pytest.approx(-0.05)
    assert np.allclose((steps == steps.max()).mean(0), np.arange(16)[::-1] / 16, atol=2e-3)


def test_no_input_is_far_off_and_constants_are_nothing():
    x = np.hstack([X, np.full((90, 1), 7.0), (X[:, :1] > 0).astype(float)])
    features = Features().fit(x, ONES)
    assert features.width == 5 + 3 * 16  # a constant and two values make no steps
    seen = features.transform(np.array([[1e300, -1e300, 0, 8, 1]])).numpy()
    assert np.isfinite(seen).all()
    assert np.abs(seen).max() <= 3.001
    assert seen[0, 3] == 0


def test_a_column_that_varies_by_rounding_is_constant():
    x = np.array([0.1, 0.1 + 2e-17, 0.1 + 4e-17] * 30)[:, None]
    features = Features().fit(x, ONES)
    assert features.width == 1
    assert features.transform(np.array([[0.0], [1.0]])).tolist() == [[0.0], [0.0]]


def test_features_weigh_as_repetitions_do():
    weights = np.random.default_rng(1).integers(1, 5, 90)
    weighted, repeated = Features().fit(X, weights * 1.0), Features().fit(X.repeat(weights, 0), np.ones(weights.sum()))
    assert all(np.array_equal(a, b) for a, b in zip(weighted.knots, repeated.knots, strict=True))


def test_large_tables_get_fewer_steps(monkeypatch):
    x = np.hstack([X, np.arange(90.0)[:, None] // 3])  # the last has 30 values
    for room, width in ((100, 4 + 3 * 16 + 29), (20, 4 + 4 * 16), (5, 4 + 4 * 5), (1, 4)):
        monkeypatch.setattr(module, "_ROOM", room * x.size)
        assert Features().fit(x, ONES).width == width


def test_wide_tables_of_few_rows_get_fewer_steps():
    rng = np.random.default_rng(0)
    for columns, rows, inputs, shrink in (
        (100, 40, 40, 1),
        (200, 40, 17, 1 / 2),
        (1200, 40, 5, 1 / 12),
        (2600, 40, 1, 1 / 26),
    ):
        features = Features().fit(rng.normal(size=(rows, columns)), np.ones(rows))
        assert (features.width, features.shrink) == (columns * inputs, shrink)
    assert Features().fit(rng.normal(size=(20_000, 101)), np.ones(20_000)).width == 101 * 17


def test_narrow_steps_do_not_overflow():
    x = np.array([0.0, 1e-300, 2e-300] * 30)[:, None]
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert np.isfinite(Features().fit(x, ONES).transform(np.array([[1e300], [-1e300]])).numpy()).all()


def test_features_come_back_from_json():
    features = Features().fit(X, ONES)
    kept = json.loads(json.dumps(features.to_dict()))
    assert np.array_equal(Features().from_dict(kept, 3).transform(X), features.transform(X))
    for wrong in (
        {"knots": kept["knots"][:2]},
        {"few": []},
        {"knots": [[2.0, 1.0]] * 3},
        {"knots": [["a"]] * 3},
        {"std": [1]},
    ):
        with pytest.raises((ValueError, TypeError)):
            Features().from_dict(kept | wrong, 3)
