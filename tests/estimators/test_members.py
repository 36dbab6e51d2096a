"""What both estimators do beside scikit-learn's checks: weights, groups, inputs of other libraries, several fits at once."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("sklearn")
import sklearn
from joblib import Parallel, delayed
from scipy import sparse
from sklearn.metrics import recall_score
from sklearn.model_selection import cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from estimators_toy import BOTH, Toy
from hannet import HanClassifier, HanRegressor

TOY = Toy(
    np.random.default_rng(0).integers(-9, 9, size=(90, 3)).astype(float), [0.5, 8],
    width=8, depth=3, members=2, epochs=6, learning_rate=0.02, batch_size=32,
)  # fmt: skip
X, Y, LABELS = TOY.x, TOY.y, TOY.labels
quick, target, outputs = TOY.quick, TOY.target, TOY.outputs


def fit_and_predict(kind, seed):
    return outputs(quick(kind, random_state=seed).fit(X, target(kind)))


# Weights


@BOTH
@pytest.mark.parametrize("unit", [1e307, 1e-310, 0.3])
def test_the_unit_of_weights_changes_no_bit(kind, unit):
    times = np.random.default_rng(1).integers(0, 4, 90)
    expected, found = (quick(kind).fit(X, target(kind), sample_weight=times * scale) for scale in (1.0, unit))
    assert np.isfinite(outputs(found)).all()
    assert np.array_equal(outputs(found), outputs(expected))


def test_balanced_classes_count_alike():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 2))
    y = np.where(x[:, 0] + rng.normal(size=400) > 2, "rare", "usual")
    recalls = {}
    for weight in (None, "balanced", {"rare": 9.0, "usual": 1.0}):
        model = quick(HanClassifier, class_weight=weight, epochs=20).fit(x, y)
        recalls[str(weight)] = recall_score(y, model.predict(x), pos_label="rare")
    assert min(recalls["balanced"], recalls[str(weight)]) > recalls["None"] + 0.2
    share = np.where(y == "rare", (y == "usual").sum(), (y == "rare").sum())
    balanced, weighted = (
        quick(HanClassifier, class_weight="balanced").fit(x, y),
        quick(HanClassifier).fit(x, y, sample_weight=share),
    )
    assert np.array_equal(balanced.predict_proba(x), weighted.predict_proba(x))
    rare = y == "rare"
    numbers, weighted = (
        quick(HanClassifier, class_weight={0: 1, 1: 3}).fit(x, rare),
        quick(HanClassifier).fit(x, rare, sample_weight=np.where(rare, 3, 1)),
    )
    assert np.array_equal(numbers.predict_proba(x), weighted.predict_proba(x))


@pytest.mark.parametrize(
    "weight", ["even", {"low": -1.0}, {"low": np.nan}, {"high": 0, "low": 0, "middle": 0}, {"none": 2}]
)
def test_bad_class_weights_are_one_sentence(weight):
    with pytest.raises(ValueError, match=r"class_weight"):
        quick(HanClassifier, class_weight=weight).fit(X, LABELS)


def test_class_weights_are_saved_with_their_labels(tmp_path):
    model = quick(HanClassifier, class_weight={0: 1, np.int64(1): 3.0}).fit(X, (Y > 0).astype(int))
    model.save(tmp_path)
    again = HanClassifier.load(tmp_path)
    assert again.class_weight == {0: 1, 1: 3.0}
    assert np.array_equal(again.predict(X), model.predict(X))


# Groups


@BOTH
def test_groups_are_held_out_whole(kind, monkeypatch):
    groups, seen = np.array(["a", "b", "c", "d", "e", "f"]).repeat([10, 10, 10, 20, 20, 20]), []
    train = kind._train
    monkeypatch.setattr(kind, "_train", lambda self, *rest: seen.append(rest) or train(self, *rest))
    x = np.column_stack([np.arange(90.0), X])
    model = quick(kind).fit(x, target(kind), groups=groups)
    _, validation, columns, *_ = seen[0]
    row_of = {round(float(value), 4): number for number, value in enumerate(model._features.transform(x)[:, 0])}
    for held in validation:
        mine = {row_of[round(float(columns[row, 0]), 4)] for row in held if row < 90}
        assert mine == {row for row in range(90) if groups[row] in {groups[row] for row in mine}}
        assert 10 <= len(mine) < 90
    order = np.random.default_rng(0).permutation(90)
    again = quick(kind).fit(x[order], target(kind)[order], groups=groups[order])
    assert np.array_equal(outputs(model, x), outputs(again, x))
    assert not np.array_equal(outputs(model, x), outputs(quick(kind).fit(x, target(kind)), x))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        quick(kind).fit(x, target(kind), groups=groups[:5])


# What other libraries hold


@BOTH
@pytest.mark.parametrize("form", ["Int64", "Float64", "double[pyarrow]", "int64[pyarrow]", "polars"])
def test_data_frames_of_any_kind(kind, form):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("polars" if form == "polars" else "pyarrow")
    frame, y = pandas.DataFrame(X, columns=["a", "b", "c"]), pandas.Series(target(kind))
    weights = pandas.Series(np.arange(90.0))
    if form == "polars":
        import polars as pl

        frame, y, weights = (
            pl.DataFrame(X, schema=["a", "b", "c"]),
            pl.Series(y.tolist()),
            pl.Series(weights),
        )
    else:
        frame, weights = frame.astype(form), weights.astype(form)
        y = y.astype(form if kind is HanRegressor else "string")
    model = quick(kind).fit(frame, y, weights)
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    expected = quick(kind).fit(X, target(kind), np.arange(90.0))
    assert np.array_equal(outputs(model, frame), outputs(expected))


@pytest.mark.parametrize("form", ["Int64", "boolean", "bool[pyarrow]", "int64[pyarrow]", "category"])
def test_labels_of_any_kind(form):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    y = pandas.Series((Y > 0).astype(int)).astype(form)
    model = quick(HanClassifier).fit(X, y)
    assert model.classes_.tolist() == [0, 1]
    assert set(model.predict(X).tolist()) <= {0, 1}
    assert np.array_equal(model.predict_proba(X), quick(HanClassifier).fit(X, (Y > 0).astype(int)).predict_proba(X))
    with pytest.raises(ValueError, match=r"(?i)nan|label|missing"):
        quick(HanClassifier).fit(X, y.mask(np.arange(90) == 7))


@BOTH
@pytest.mark.parametrize("form", [sparse.csr_array, sparse.csc_matrix, sparse.coo_array])
def test_sparse_rows(kind, form):
    model, expected = quick(kind).fit(form(X), target(kind)), quick(kind).fit(X, target(kind))
    assert np.array_equal(outputs(model, form(X)), outputs(expected))
    weights = np.arange(90) % 3
    model, expected = (quick(kind).fit(x, target(kind), weights) for x in (form(X), X))
    assert np.array_equal(outputs(model), outputs(expected))


def test_several_labels_a_row_take_one_classifier_each():
    y = np.column_stack([Y > 0, X[:, 2] > 0]).astype(int)
    with pytest.raises(
        ValueError, match=r"y has 2 columns.*MultiOutputClassifier or sklearn.multiclass.OneVsRestClassifier"
    ):
        quick(HanClassifier).fit(X, y)
    for wrapper in (MultiOutputClassifier, OneVsRestClassifier):
        model = wrapper(quick(HanClassifier, epochs=40)).fit(X, y)
        assert model.predict(X).shape == (90, 2)
        assert (model.predict(X) == y).mean() > 0.8


@BOTH
def test_metadata_is_routed(kind):
    weights = np.random.default_rng(0).integers(1, 4, 90)
    with sklearn.config_context(enable_metadata_routing=True):
        model = make_pipeline(
            StandardScaler().set_fit_request(sample_weight=False),
            quick(kind).set_fit_request(sample_weight=True, groups=False),
        )
        model.fit(X, target(kind), sample_weight=weights)
        scores = cross_val_score(
            quick(kind).set_fit_request(sample_weight=True, groups=False).set_score_request(sample_weight=False),
            X, target(kind), cv=2, params={"sample_weight": weights},
        )  # fmt: skip
        assert "callbacks" not in quick(kind).get_metadata_routing().fit.requests
    expected = make_pipeline(StandardScaler(), quick(kind))
    expected.fit(X, target(kind), **{f"{expected.steps[-1][0]}__sample_weight": weights})
    assert np.array_equal(outputs(model[-1]), outputs(expected[-1]))
    assert np.isfinite(scores).all()


# Several fits at once


@BOTH
def test_fits_in_threads_are_those_in_turn(kind):
    in_turn = [fit_and_predict(kind, seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        at_once = list(pool.map(lambda seed: fit_and_predict(kind, seed), range(4)))
    assert all(map(np.array_equal, at_once, in_turn))


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize("backend", ["threading", "loky", "multiprocessing"])
def test_any_kind_of_jobs_gives_the_same_bits(kind, backend):
    in_turn = [fit_and_predict(kind, seed) for seed in range(3)]
    fits = (delayed(quick(kind, random_state=seed).fit)(X, target(kind)) for seed in range(3))
    fitted = Parallel(n_jobs=2, backend=backend)(fits)
    assert all(map(np.array_equal, map(outputs, fitted), in_turn))
