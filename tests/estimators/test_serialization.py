import json
import math
import pickle
from hashlib import sha256

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

pytest.importorskip("sklearn")
from sklearn.exceptions import NotFittedError

from hannet import HanClassifier, HanRegressor
from hannet.estimators import base, serialization
from hannet.estimators.serialization import ModelError

X = np.random.default_rng(0).normal(size=(90, 3))
TARGETS = {
    HanRegressor: np.abs(X[:, 0]) - X[:, 1],
    HanClassifier: np.array(["low", "middle", "high"])[np.arange(90) % 3],
}
BOTH = pytest.mark.parametrize("kind", [HanRegressor, HanClassifier])


def fitted(kind, x=X, **options):
    options = {"width": 16, "depth": 3, "members": 2, "epochs": 3, "random_state": 0, **options}
    return kind(**options).fit(x, TARGETS[kind])


def outputs(model, x=X):
    return model.predict_proba(x) if isinstance(model, HanClassifier) else model.predict(x)


@BOTH
def test_a_loaded_model_is_the_saved_one(kind, tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["a", "b", "c"])
    model = fitted(kind, frame, epochs=np.int64(12), random_state=np.random.RandomState(3))
    model.set_params(width=99).save(tmp_path / "new" / "folder")
    state = torch.get_rng_state()
    for again in (kind.load(tmp_path / "new" / "folder"), base.load(str(tmp_path / "new" / "folder"))):
        assert type(again) is kind
        assert np.array_equal(outputs(again, frame), outputs(model, frame))
        assert again.get_params() == model.set_params(random_state=None).get_params()
        assert again.history_ == model.history_
        assert (again.n_iter_, again.best_epochs_, again.n_parameters_) == (
            model.n_iter_, model.best_epochs_, model.n_parameters_,
        )  # fmt: skip
        assert again.n_features_in_ == 3
        assert again.feature_names_in_.tolist() == ["a", "b", "c"]
        assert np.array_equal(outputs(pickle.loads(pickle.dumps(again)), frame), outputs(model, frame))  # noqa: S301
    assert torch.equal(torch.get_rng_state(), state)
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == [
        "estimator.json",
        "model.safetensors",
    ]
    names = load_file(tmp_path / "new" / "folder" / "model.safetensors")
    assert {"0.layers.0.weight", "1.layers.2.u"} <= names.keys()
    assert json.loads((tmp_path / "new" / "folder" / "estimator.json").read_text())["versions"]["scikit-learn"]


@pytest.fixture
def folder(tmp_path):
    fitted(HanClassifier).save(tmp_path)
    return tmp_path


def change(folder, *keys, to=None):
    """Writes another value, or none, at a place of estimator.json."""
    path = folder / "estimator.json"
    kept = place = json.loads(path.read_text())
    for key in keys[:-1]:
        place = place[key]
    if to is None:
        del place[keys[-1]]
    else:
        place[keys[-1]] = to
    path.write_text(json.dumps(kept))


def change_weights(folder, change_tensors):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change_tensors(tensors)
    content = save(tensors)
    path.write_bytes(content)
    change(folder, "sha256", to=sha256(content).hexdigest())


@pytest.mark.parametrize(
    ("keys", "to", "sentence"),
    [
        (["format"], 2, "of format 2, but this hannet reads format 1"),
        (["format"], "x", "not written by hannet"),
        (["class"], "HanRegressor", "holds a HanRegressor, not a HanClassifier"),
        (["features"], None, "the entry 'features' is missing"),
        (["features", "mean"], [0.0, 1.0], "damaged, or of another version .3 finite numbers expected"),
        (["features", "std"], [0.0, 1.0, "a"], "damaged, or of another version"),
        (["parameters", "wings"], 2, "damaged, or of another version"),
        (["network", "width"], 0, "damaged, or of another version"),
        (["target", "classes"], ["a"], "damaged, or of another version .3 classes expected"),
        (["target", "type"], "nonsense", "damaged, or of another version"),
        (["history"], 3, "damaged, or of another version"),
        (["n_features_in"], math.inf, "damaged, or of another version"),
        (["best_epochs"], 3, "damaged, or of another version"),
    ],
    ids=str,
)
def test_a_changed_json_is_refused(folder, keys, to, sentence):
    change(folder, *keys, to=to)
    with pytest.raises(ModelError, match=rf"estimator.json: {sentence}") as caught:
        HanClassifier.load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "to"),
    [(["network", "width"], 8), (["network", "depth"], 4), (["best_epochs"], [1]), (["best_epochs"], [1] * 3)],
)
def test_weights_of_another_shape_are_refused(folder, keys, to):
    change(folder, *keys, to=to)
    with pytest.raises(ModelError, match=r"model.safetensors: does not fit the networks"):
        HanClassifier.load(folder)


def test_damaged_and_foreign_weights_are_refused(folder):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for content in (b"", whole[:-5], whole[:50], b"PK" + whole, bytes([*whole[:-1], whole[-1] ^ 1])):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"model.safetensors: damaged, or of another model than estimator.json"):
            HanClassifier.load(folder)
    path.write_bytes(b"none of it")
    change(folder, "sha256", to=sha256(b"none of it").hexdigest())
    with pytest.raises(ModelError, match=r"model.safetensors: damaged, or not written by hannet"):
        HanClassifier.load(folder)
    path.unlink()
    with pytest.raises(ModelError, match=r"model.safetensors: cannot be read \(No such file"):
        HanClassifier.load(folder)


def test_weights_that_are_not_finite_or_not_all_there_are_refused(folder):
    change_weights(folder, lambda tensors: tensors.update({"0.layers.2.u": tensors["0.layers.2.u"] * torch.nan}))
    with pytest.raises(ModelError, match=r"model.safetensors: holds weights that are not finite"):
        HanClassifier.load(folder)
    change_weights(folder, lambda tensors: tensors.pop("0.layers.2.u"))
    with pytest.raises(ModelError, match=r"model.safetensors: does not fit"):
        HanClassifier.load(folder)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"\xff\xfe", b"null", b"[" * 100_000], ids=lambda c: repr(c[:5])
)
@pytest.mark.parametrize("load", [HanRegressor.load, base.load])
def test_foreign_json_is_refused(content, load, tmp_path):
    with pytest.raises(ModelError, match=r"estimator.json: cannot be read \(No such file"):
        load(tmp_path)
    with pytest.raises(ModelError, match="nope: there is no such folder"):
        load(tmp_path / "nope")
    (tmp_path / "estimator.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"estimator.json: .*not written by hannet"):
        load(tmp_path)


def test_the_other_class_is_refused(folder):
    with pytest.raises(ModelError, match="holds a HanClassifier, not a HanRegressor"):
        HanRegressor.load(folder)
    change(folder, "class", to="Pickle")
    with pytest.raises(ModelError, match="holds a Pickle, not a HanRegressor or HanClassifier"):
        base.load(folder)


def test_what_json_cannot_keep_is_refused(tmp_path):
    days = np.array(["2024-01-01", "2024-01-02"], "datetime64[D]")
    model = fitted(HanClassifier)
    for classes in (days, np.array([("a", 1), ("b", 2)], "O,O"), np.array([1, "a"], object)):
        model.classes_ = classes
        with pytest.raises(ModelError, match=r"classes of type .* cannot be saved: give them as strings"):
            model.save(tmp_path)
    model = fitted(HanRegressor).set_params(verbose=object())
    with pytest.raises(ModelError, match="JSON cannot keep every parameter"):
        model.save(tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(NotFittedError):
        HanRegressor().save(tmp_path)


def test_a_save_cut_short_never_mixes_two_models(folder, monkeypatch):
    write = serialization.write_atomic

    def first_only(path, content):
        if path.suffix == ".json":
            raise OSError(28, "No space left on device")
        write(path, content)

    before = outputs(base.load(folder))
    monkeypatch.setattr(serialization, "write_atomic", first_only)
    with pytest.raises(ModelError, match=r"cannot be written .*No space left"):
        fitted(HanClassifier, epochs=4).save(folder)
    assert np.array_equal(outputs(base.load(folder)), before)
    (folder / "notes.txt").touch()  # so that the folder cannot be replaced whole
    with pytest.raises(ModelError, match=r"cannot be written .*No space left"):
        fitted(HanClassifier, epochs=4).save(folder)
    with pytest.raises(ModelError, match=r"of another model than estimator.json beside it"):
        HanClassifier.load(folder)


def test_files_of_others_stay(folder):
    (folder / "notes.txt").write_text("mine")
    fitted(HanRegressor, epochs=1).save(folder)
    assert (folder / "notes.txt").read_text() == "mine"
    base.load(folder)
