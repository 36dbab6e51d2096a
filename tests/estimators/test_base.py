import copy
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import hannet
from hannet import HanClassifier, HanNet, HanRegressor
from hannet.estimators import members

sys.path.append(str(Path(__file__).parents[1]))
from callbacks_toy import OnEpoch
from estimators_toy import BOTH, Toy

QUICK = {"width": 16, "depth": 3, "members": 2, "epochs": 40, "learning_rate": 0.02, "batch_size": 32}
TOY = Toy(np.random.default_rng(0).normal(size=(90, 3)), [-0.2, 0.8], **QUICK)
X, Y, LABELS = TOY.x, TOY.y, TOY.labels
quick, target, outputs = TOY.quick, TOY.target, TOY.outputs


def fitted(kind, **options):
    return quick(kind, **options).fit(X, target(kind))


@pytest.mark.slow
@parametrize_with_checks([HanRegressor(), HanClassifier(), HanRegressor(**QUICK), HanClassifier(**QUICK)])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


# Training


@BOTH
def test_weights_repetitions_and_order_are_one_data_set(kind):
    """40 rows and more, where some are held out: the same bits."""
    rng = np.random.default_rng(1)
    times, y = rng.integers(0, 4, len(X)), target(kind)
    weighted = quick(kind).fit(X, y, sample_weight=times)
    order = rng.permutation(times.sum())
    repeated = quick(kind).fit(X.repeat(times, 0)[order], y.repeat(times)[order])
    scaled = quick(kind).fit(X, y, sample_weight=8.0 * times)
    for other in (repeated, scaled):
        assert np.array_equal(outputs(weighted), outputs(other))
        assert weighted.history_ == other.history_
    assert not np.array_equal(outputs(weighted), outputs(quick(kind).fit(X[times > 0], y[times > 0])))


@BOTH
def test_an_int_repeats_the_bits_and_nothing_global_is_touched(kind):
    torch.manual_seed(5)
    state, drawn, threads = torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads()  # noqa: NPY002
    first, again, other = fitted(kind), fitted(kind), fitted(kind, random_state=1)
    assert np.array_equal(outputs(first), outputs(again))
    assert not np.array_equal(outputs(first), outputs(other))
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], drawn)  # noqa: NPY002
    assert torch.get_num_threads() == threads
    one, two = first.networks_
    assert not torch.equal(one.layers[0].weight, two.layers[0].weight)
    try:
        torch.set_default_dtype(torch.float64)
        assert fitted(kind).score(X, target(kind)) > 0.5
    finally:
        torch.set_default_dtype(torch.float32)


@BOTH
def test_the_default_device_does_not_matter(kind, tmp_path):
    expected = outputs(fitted(kind))
    with torch.device("meta"):  # as torch.set_default_device
        model = fitted(kind)
        model.save(tmp_path)
        assert np.array_equal(outputs(model), expected)
        assert np.array_equal(outputs(kind.load(tmp_path)), expected)


@BOTH
def test_each_member_ends_at_its_best_epoch(kind):
    """The networks are those of the epoch that validated best, and training ends `patience` epochs after the last gain."""
    seen, model = [], quick(kind, patience=5, epochs=300, learning_rate=0.05)
    predictions = OnEpoch(lambda state: seen.append(state.predict(model._features.transform(X)).double()))
    model.fit(X, target(kind), callbacks=[predictions])
    assert len(seen) == model.n_iter_ == len(model.history_["loss"]) == len(model.history_["validation"])
    assert max(model.best_epochs_) + 5 == model.n_iter_ < 300
    for index, (network, best) in enumerate(zip(model.networks_, model.best_epochs_, strict=True)):
        with torch.no_grad():
            mine = copy.deepcopy(network).double()(model._features.transform(X).double())
        torch.testing.assert_close(mine, seen[best - 1][index], rtol=1e-3, atol=1e-4)
    endless = fitted(kind, patience=None, learning_rate=0.05)
    assert endless.n_iter_ == 40
    assert len(endless.history_["loss"]) == 40


@BOTH
def test_nothing_is_held_out_of_few_rows_or_where_none_is_asked(kind):
    y = target(kind)
    for model in (quick(kind, patience=1).fit(X[:19], y[:19]), fitted(kind, validation_fraction=0, patience=1)):
        assert model.history_["validation"] == []
        assert model.n_iter_ == 40
        assert model.best_epochs_ == [40, 40]
    assert len(quick(kind).fit(X[:20], y[:20]).history_["validation"]) > 0


def test_the_average_is_of_predictions_and_of_probabilities():
    for kind in (HanRegressor, HanClassifier):
        model = fitted(kind)
        x = model._features.transform(X).double()
        with torch.no_grad():
            single = torch.stack([copy.deepcopy(network).double()(x) for network in model.networks_])
        if kind is HanClassifier:
            expected = single.softmax(2).mean(0).numpy()
        else:
            expected = model._target_scaler.inverse(single.mean(0).numpy())[:, 0]
        assert np.allclose(outputs(model), expected, rtol=1e-12, atol=1e-12)
        assert outputs(model).dtype == np.float64
        assert model.n_parameters_ == sum(p.numel() for n in model.networks_ for p in n.parameters())
        assert all(type(network) is HanNet for network in model.networks_)


def test_chunks_change_nothing(monkeypatch):
    model = fitted(HanRegressor)
    whole = model.predict(X)
    monkeypatch.setattr(members, "_CHUNK", 7)
    assert np.allclose(model.predict(X), whole, rtol=1e-13, atol=1e-13)


def test_diverged_members_are_left_out(monkeypatch):
    build = members.build_model

    def broken_first(kind, seed, **shape):
        network = build(kind, seed, **shape)
        if not hasattr(broken_first, "done"):
            broken_first.done = True
            network.layers[0].weight.data.fill_(torch.nan)
        return network

    monkeypatch.setattr(members, "build_model", broken_first)
    with pytest.warns(ConvergenceWarning, match="1 of 2 members diverged and are left out: lower learning_rate"):
        model = fitted(HanRegressor)
    assert len(model.networks_) == len(model.best_epochs_) == 1
    assert model.score(X, Y) > 0.5


@BOTH
@pytest.mark.parametrize("fraction", [0, 0.1])
def test_all_diverged_is_one_sentence(kind, fraction):
    model = quick(kind, learning_rate=1e30, validation_fraction=fraction)
    with pytest.raises(RuntimeError, match=r"every member diverged: lower learning_rate, which is 1e\+30"):
        model.fit(X, target(kind))
    with pytest.raises(NotFittedError):
        model.predict(X)


@BOTH
def test_a_failed_fit_leaves_no_old_networks(kind):
    model = fitted(kind)
    with pytest.raises(RuntimeError, match="every member diverged"):
        model.set_params(learning_rate=1e30).fit(2 * X, target(kind))
    with pytest.raises(NotFittedError):
        outputs(model)


@pytest.mark.parametrize("sample_weight", [None, np.linspace(0.1, 1.7, 90)])
def test_constant_columns_and_targets(sample_weight):
    x = np.column_stack([X, np.full(90, 0.1)])
    y = np.column_stack([Y, np.full(90, 0.1)])
    model = quick(HanRegressor).fit(x, y, sample_weight)
    prediction = model.predict(x)
    assert prediction.shape == (90, 2)
    assert (prediction[:, 1] == 0.1).all()
    assert np.array_equal(model.predict(x + np.array([0, 0, 0, 7])), prediction)
    assert np.isfinite(model.predict(x * 1e300)).all()


@BOTH
@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("width", 0, "an integer of at least 1"),
        ("depth", 1, "an integer of at least 2"),
        ("members", 2.5, "an integer of at least 1"),
        ("epochs", "many", "None or an integer of at least 1"),
        ("batch_size", -3, "an integer of at least 1"),
        ("learning_rate", 0.0, "a finite number above 0"),
        ("weight_decay", float("inf"), "a finite number of at least 0"),
        ("validation_fraction", 1.0, "a number of at least 0 and below 1"),
        ("patience", 0, "None or an integer of at least 1"),
        ("verbose", None, "an integer of at least 0"),
    ],
)
def test_bad_parameters_are_named(kind, name, value, expected):
    with pytest.raises(ValueError, match=f"{name} must be {expected}, got {value!r}"):
        quick(kind, **{name: value}).fit(X, target(kind))


# Beside scikit-learn


@BOTH
def test_pipelines_searches_and_data_frames(kind):
    pandas = pytest.importorskip("pandas")
    frame, y = pandas.DataFrame(X, columns=["a", "b", "c"]), target(kind)
    pipeline = make_pipeline(StandardScaler().set_output(transform="pandas"), quick(kind)).fit(frame, y)
    assert pipeline[-1].feature_names_in_.tolist() == ["a", "b", "c"]
    assert pipeline[-1].n_features_in_ == 3
    assert pipeline.score(frame, y) > 0.5
    search = GridSearchCV(quick(kind, epochs=np.int64(10)), {"width": np.array([4, 8])}, cv=2).fit(frame, y)
    assert search.best_params_["width"] in (4, 8)
    assert cross_val_score(quick(kind), frame, y, cv=2).shape == (2,)
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        search.predict(X)
    copied = clone(pipeline[-1])
    assert copied.get_params() == quick(kind).get_params()
    assert not hasattr(copied, "networks_")
    assert not hasattr(copied, "n_parameters_")
    weights = np.linspace(0, 1, 90)
    assert pipeline.score(frame, y, weights) != pipeline.score(frame, y)


def test_several_targets_and_the_column_warning():
    model = quick(HanRegressor).fit(X, np.column_stack([Y, -Y, X[:, 2]]))
    assert model.predict(X).shape == (90, 3)
    assert model.score(X, np.column_stack([Y, -Y, X[:, 2]])) > 0.5
    with pytest.warns(DataConversionWarning, match="column-vector y"):
        column = quick(HanRegressor).fit(X, Y[:, None])
    assert np.array_equal(column.predict(X), fitted(HanRegressor).predict(X))


@pytest.mark.parametrize(
    "names",
    [["a", "b"], [False, True], [-3, 7], [0.0, 2.0], np.array(["x", "yes"], object), np.array([1, 200], np.uint8)],
    ids=str,
)
def test_any_kind_of_labels_survives_prediction_and_saving(names, tmp_path):
    names = np.asarray(names)
    y = names[(Y > 0.5).astype(int)]
    model = quick(HanClassifier).fit(X, y)
    assert model.classes_.dtype == names.dtype
    assert model.score(X, y) > 0.8
    assert np.allclose(model.predict_log_proba(X), np.log(model.predict_proba(X)))
    model.save(tmp_path)
    again = HanClassifier.load(tmp_path)
    assert again.classes_.dtype == names.dtype
    assert [type(label) for label in again.classes_] == [type(label) for label in model.classes_]
    assert np.array_equal(again.predict(X), model.predict(X))


def test_one_class_is_predicted():
    model = quick(HanClassifier).fit(X, LABELS, sample_weight=LABELS == "low")
    assert model.classes_.tolist() == ["low"]
    assert (model.predict(X) == "low").all()
    assert (model.predict_proba(X) == 1).all()


@BOTH
def test_a_wide_table_of_few_rows_stays_near_the_mean(kind, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(248, 1200))
    y = x[:, 0] - x[:, 1] + 0.5 * rng.normal(size=248)
    y = y if kind is HanRegressor else y > 0
    model = kind(members=2, epochs=40, random_state=0).fit(x[:48], y[:48])
    assert max(model.history_["loss"]) < 1.5
    assert model.n_parameters_ < 1_000_000
    assert model.score(x[48:], y[48:]) > (-0.2 if kind is HanRegressor else 0.4)
    model.save(tmp_path)
    assert np.array_equal(outputs(kind.load(tmp_path), x), outputs(model, x))


@BOTH
def test_float32_input_and_nan(kind):
    y = target(kind)
    small = quick(kind).fit(X.astype(np.float32), y)
    assert np.array_equal(outputs(small), outputs(quick(kind).fit(X.astype(np.float32).astype(np.float64), y)))
    for bad in (np.nan, np.inf):
        x = X.copy()
        x[3, 1] = bad
        with pytest.raises(ValueError, match=r"(?i)input X contains (nan|infinity)"):
            quick(kind).fit(x, y)
        with pytest.raises(ValueError, match=r"(?i)input X contains (nan|infinity)"):
            small.predict(x)
    with pytest.raises(ValueError, match=r"(?i)negative values in data passed to `sample_weight`"):
        quick(kind).fit(X, y, sample_weight=-np.ones(90))


@BOTH
def test_progress_lines(kind, capsys):
    fitted(kind)
    assert capsys.readouterr().out == ""
    fitted(kind, verbose=1)
    assert len(capsys.readouterr().out.splitlines()) < 10
    model = fitted(kind, verbose=2, epochs=7)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7
    loss, validation = (model.history_[name][-1] for name in ("loss", "validation"))
    assert lines[-1].startswith(f"epoch 7/7: loss {loss:.4g}, validation {validation:.4g}, rate ")
    assert lines[-1].endswith(" 0 s left")


@BOTH
def test_callbacks_follow_a_fit_and_leave_no_trace(kind):
    model, seen = quick(kind), []
    follow = OnEpoch(lambda state: seen.append((state.epoch, len(model.history_["loss"]))))
    model.fit(X, target(kind), callbacks=[follow])
    assert seen == [(number, number) for number in range(1, model.n_iter_ + 1)]
    assert clone(model).get_params() == model.get_params()
    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):  # noqa: S301
        assert np.array_equal(outputs(twin), outputs(model))


# The package


@pytest.mark.slow
def test_the_estimators_are_names_of_the_package():
    assert hannet.HanRegressor is HanRegressor
    assert {"HanRegressor", "HanClassifier", "HanNet", "__version__"} <= set(dir(hannet))
    with pytest.raises(AttributeError, match="module 'hannet' has no attribute 'HanTransformer'"):
        hannet.HanTransformer  # noqa: B018
    code = "import sys; sys.modules['sklearn'] = None; import hannet; hannet.HanClassifier"
    without = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert without.stderr.endswith(
        "ImportError: hannet.HanClassifier needs scikit-learn: pip install 'hannet[sklearn]'\n"
    )


# Real data, with the defaults but for fewer members or epochs


def test_digits():
    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, random_state=0, stratify=y)
    assert HanClassifier(members=2, epochs=50, random_state=0).fit(x_train, y_train).score(x_test, y_test) > 0.95


@pytest.mark.slow
def test_iris_and_diabetes():
    x, y = load_iris(return_X_y=True)
    assert cross_val_score(HanClassifier(members=2, random_state=0), x, y, cv=3).mean() > 0.9
    x, y = load_diabetes(return_X_y=True)
    assert cross_val_score(HanRegressor(members=2, epochs=50, random_state=0), x, y, cv=3).mean() > 0.35


def test_bikesharing_is_not_linear():
    root = os.environ.get("HANNET_DATA")
    if not root:
        pytest.skip("HANNET_DATA is not set")
    table = np.loadtxt(Path(root, "regression", "bikesharing.csv"), delimiter=",", skiprows=1)
    rows = table[np.random.default_rng(0).permutation(len(table))[:2000]]
    x_train, x_test, y_train, y_test = train_test_split(rows[:, :-1], rows[:, -1], random_state=0)
    linear = LinearRegression().fit(x_train, y_train).score(x_test, y_test)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = HanRegressor(members=2, epochs=100, random_state=0).fit(x_train, y_train)
    assert model.score(x_test, y_test) > linear + 0.2


@BOTH
def test_weights_that_are_all_zero_are_named(kind):
    with pytest.raises(ValueError, match=r"zero|above 0"):
        quick(kind).fit(X, target(kind), sample_weight=np.zeros(len(X)))


@pytest.mark.parametrize("levels", [4, 8])
def test_rows_alike_but_for_their_class_are_learned_as_their_share(levels):
    """Of few values in few columns: a row of one class, held out by itself, would be judged by what its other class taught."""
    rng = np.random.default_rng(0)
    x = rng.integers(levels, size=(900, 2)).astype(float)
    chance = 0.2 + 0.6 * x.sum(1) / (2 * levels - 2)
    y = rng.random(900) < chance
    for seed in range(2):
        model = HanClassifier(width=16, depth=3, members=2, epochs=60, random_state=seed).fit(x, y)
        assert np.abs(model.predict_proba(x)[:, 1] - chance).mean() < 0.09


def test_rows_of_equal_features_are_validated_on_together():
    x = np.repeat(np.arange(30.0), 2)[:, None]
    y = np.tile([0.0, 1.0], 30)[:, None]
    rows = HanClassifier(members=3)._validation(x, y, None, np.random.RandomState(0))
    assert rows.size
    for held in (row[row < len(x)] for row in rows):
        assert len(np.unique(x[held])) * 2 == len(held)
    assert not HanClassifier(members=3)._validation(x[:30], y[:30], None, np.random.RandomState(0)).size
