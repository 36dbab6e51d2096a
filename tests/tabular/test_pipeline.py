import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hannet.estimators.serialization import ModelError
from hannet.storage.files import StoreError
from hannet.tabular import metrics
from hannet.tabular.encoders import Encoder
from hannet.tabular.model import Model, require_free
from hannet.tabular.parsing import DEFAULT_MISSING, unmatched_missing_tokens
from hannet.tabular.pipeline import FitOptions, fit, holdout_mask
from hannet.tabular.readers import Table, TableError, read
from hannet.tabular.report import importance_note
from hannet.tabular.target import Target, infer_target

TINY = {"members": 1, "epochs": 3, "width": 8, "depth": 3}
KINDS = {"regression": "number", "classification": "color"}


def texts(values):
    return pd.Series(list(map(str, values)), dtype="str")


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 120))
    kind = rng.choice(["x", "y", ""], 120)
    columns = {
        "a": a,
        "b": b,
        "kind": kind,
        "number": 100 * a + 50 * (kind == "x"),
        "color": np.where(a > 0, "red", "blue"),
        "id": [f"row {n}" for n in range(120)],
    }
    return Table(pd.DataFrame({name: texts(values) for name, values in columns.items()}))


def learn(table, target, **choices):
    seen = []
    options = choices.pop("options", TINY)
    others = [name for name in KINDS.values() if name != target and target in KINDS.values()]
    cells = table.cells.drop(columns=others, errors="ignore")
    model, report = fit(Table(cells, table.notes), FitOptions(target, options=options, **choices), seen.append)
    return model, report, seen


@pytest.mark.parametrize("task", KINDS)
def test_fit_measures_beside_other_models(table, task):
    _, report, seen = learn(table, KINDS[task])
    rows = {row["model"]: row for row in report.facts["rows"]}
    assert report.facts["task"] == task
    assert next(iter(rows)) == "HanNet"
    assert len(rows) == 5
    for row in rows.values():
        first = row["rmse"] if task == "regression" else row["accuracy"]
        assert row["interval"][0] <= first <= row["interval"][1]
        assert row["size"]["count"] >= 1
    assert rows["boosted trees"]["size"]["of"] == "leaves"
    assert report.facts["train_rows"] == 96
    assert report.facts["test_rows"] == 24
    assert report.facts["dropped"] == {"id": "nearly all values differ: free text or an identifier"}
    assert max(report.facts["importance"], key=report.facts["importance"].get) != "b"
    fractions = [event.within.fraction for event in seen]
    assert fractions == sorted(fractions)
    files = report.files()
    assert b"| HanNet |" in files["report.md"]
    assert json.loads(files["report.json"])["target"]["name"] == KINDS[task]
    assert files["report.png"].startswith(b"\x89PNG")
    assert b"<svg" in files["report.svg"]


def test_a_real_fit_beats_the_mean(table):
    _, report, _ = learn(
        table, "number", options={"members": 2, "epochs": 100, "width": 16, "depth": 3, "learning_rate": 0.02}
    )
    rows = {row["model"]: row for row in report.facts["rows"]}
    assert rows["HanNet"]["rmse"] < 0.3 * rows["mean"]["rmse"]


def test_the_same_seed_gives_the_same_numbers(table):
    first, second = (learn(table, "number", baselines=False, seed=3)[1].facts["rows"][0] for _ in range(2))
    assert {k: v for k, v in first.items() if k != "seconds"} == {k: v for k, v in second.items() if k != "seconds"}


@pytest.mark.parametrize("target", KINDS.values())
def test_a_saved_model_predicts_the_same(table, target, tmp_path):
    model, report, _ = learn(table, target, baselines=False)
    model.save(tmp_path / "model", report.files())
    again = Model.load(tmp_path / "model")
    assert again.encoder == model.encoder
    assert again.predict(table).cells.equals(model.predict(table).cells)
    assert {path.name for path in tmp_path.iterdir()} == {"model"}


def test_predictions_stand_beside_the_columns(table):
    model, _, _ = learn(table, "color", baselines=False)
    shuffled = Table(table.cells[["kind", "b", "a"]].assign(prediction="mine", extra="new"))
    told = model.predict(shuffled)
    assert list(told.cells)[3:] == ["prediction", "extra", "prediction 2", "probability blue", "probability red"]
    assert set(told.cells["prediction 2"]) <= {"blue", "red"}
    assert told.metrics is None
    assert "ignored: prediction, extra" in told.notes[0]
    straight = model.predict(table)
    assert straight.cells["prediction"].equals(told.cells["prediction 2"].rename("prediction"))
    assert straight.metrics.keys() == {"accuracy", "interval", "log_loss", "auc"}
    assert "any that trained the model make it look better" in straight.notes[-1]


def test_odd_new_tables(table):
    model, _, _ = learn(table, "number", baselines=False)
    new = table.cells[:4].drop(columns="color")
    new["a"] = texts(["", "inf", "oops", "1"])
    new["kind"] = texts(["never seen", "NA", "x", ""])
    new["number"] = texts(["", "?", "1", "2"])
    told = model.predict(Table(new))
    assert np.isfinite(told.cells["prediction"].astype(float)).all()
    assert [note.split("'")[1] for note in told.notes if "'" in note] == ["a", "kind", "number"]
    assert "measured on few rows (2)" in told.notes[-1]
    assert told.metrics["rmse"] > 0
    with pytest.raises(TableError, match="lacks 2 of the model's columns: 'a', 'kind'"):
        model.predict(Table(new[["b"]]))


def test_the_encoder_learns_from_training_rows_only(table, monkeypatch):
    rows, learn_encoder = [], Encoder.fit
    monkeypatch.setattr(Encoder, "fit", lambda cells, *rest: rows.append(len(cells)) or learn_encoder(cells, *rest))
    _, report, _ = learn(table, "number", baselines=False, test=0.4)
    assert rows == [report.facts["train_rows"]] == [72]


def test_splits_are_even_and_leave_each_class_to_learn_from():
    y = np.repeat([0, 1, 2, 3], [500, 300, 50, 1])
    alone = np.arange(len(y))
    test = holdout_mask(y, alone, 0.2, 0, classes=True)
    np.testing.assert_allclose(np.bincount(y[test], minlength=4)[:3], [100, 60, 10], atol=1)
    assert not test[-1]
    assert holdout_mask(y, alone, 0.2, 0, classes=False).sum() == 170
    assert (holdout_mask(y, alone, 0.2, 0, classes=True) == test).all()
    assert (holdout_mask(y, alone, 0.2, 1, classes=True) != test).any()


@pytest.mark.parametrize("classes", [False, True])
def test_equal_rows_are_on_one_side(classes):
    rng = np.random.default_rng(0)
    copies = np.concatenate([rng.permutation(np.repeat(np.arange(100), 5)), np.arange(100, 400), np.repeat(400, 30)])
    y = copies % 3
    test = holdout_mask(y, copies, 0.2, 0, classes=classes)
    assert not np.intersect1d(copies[test], copies[~test]).size
    assert test.mean() == pytest.approx(0.2, abs=0.04)
    if classes:
        np.testing.assert_allclose(np.bincount(y[test]) / np.bincount(y), 0.2, atol=0.06)
    for seed in range(5):  # each class is learned from, if there is but one row of it
        few = np.repeat([0, 1, 2], [40, 9, 9])
        rows = np.concatenate([np.arange(40), [50] * 9, [51] * 9])
        assert set(few[~holdout_mask(few, rows, 0.5, seed, classes=True)]) == {0, 1, 2}


def test_repeated_rows_are_held_out_together_and_told():
    rng = np.random.default_rng(0)
    once = pd.DataFrame({name: texts(rng.normal(size=100)) for name in "abcdy"})
    cells = pd.concat([once] * 5, ignore_index=True)
    _, report, _ = learn(Table(cells.assign(n=texts(range(500)))), "y")
    assert next(row["r2"] for row in report.facts["rows"] if row["model"] == "boosted trees") < 0.1
    assert report.facts["test_rows"] == 100
    assert any("repeat another: 400 of 500; equal rows are held out together" in note for note in report.facts["notes"])


def test_rows_that_are_equal_by_chance_are_drawn_one_by_one():
    rng = np.random.default_rng(0)
    cells = pd.DataFrame({name: texts(rng.integers(2, size=300)) for name in "aby"})
    facts = learn(Table(cells), "y", baselines=False)[1].facts
    assert facts["test_rows"] == 60
    assert any("repeat another: 292 of 300, too many" in note for note in facts["notes"])


def test_a_table_is_spelt_as_the_one_learned_from():
    rng = np.random.default_rng(0)
    a = rng.uniform(1000, 9000, 60)
    spelt = [f"{value:,.2f}".translate(str.maketrans(",.", ".,")) for value in a]
    cells = pd.DataFrame({"a": texts(spelt), "y": texts(spelt)})
    model, report, _ = learn(Table(cells, (), ";"), "y", baselines=False)
    assert "numbers have decimal commas in 'a', 'y'" in report.facts["notes"]
    new = pd.DataFrame(dict.fromkeys("ay", texts(["1.234", "2.500", "3.000,50"])))
    first, second = (model.predict(Table(new[:count], (), ",")) for count in (2, 3))
    assert first.cells["prediction"].tolist() == second.cells["prediction"][:2].tolist()
    told = model.predict(Table(pd.DataFrame({"a": texts(["1234.0", "2500.0"])}), plain=frozenset("a")))
    assert told.cells["prediction"].tolist() == first.cells["prediction"].tolist()
    assert (model.target.codes(Table(new))[0] == [1234, 2500, 3000.5]).all()


def test_the_matrix_is_held_once(table, monkeypatch):
    splits, split = [], metrics.Split
    monkeypatch.setattr(metrics, "Split", lambda *parts: splits.append(split(*parts)) or splits[-1])
    learn(table, "number", baselines=False)
    assert splits[0].x.base is splits[0].x_test.base is not None


@pytest.mark.parametrize("spelt", [["1,0", "2,00", "3"], ["1", "2,0", "3,000"]])
def test_classes_are_spelt_as_the_target(spelt):
    target, _ = infer_target(texts(spelt * 20), "y", None, ",")
    assert (target.classes, target.decimal) == (("1", "2", "3"), ",")


def test_a_target_of_different_signs_is_told():
    cells = texts([f"{value}{sign}" for value in np.linspace(0, 1, 30) for sign in ("%", "")])
    assert "signs beside numbers differ (%, none)" in infer_target(cells, "y", None)[1][-1]


def test_many_probabilities_are_added_without_a_warning(table):
    class Even:
        def predict_proba(self, x):
            return np.full((len(x), 150), 1 / 150)

    model, _, _ = learn(table, "number", baselines=False)
    classes = tuple(map(str, range(150)))
    many = replace(model, target=replace(model.target, name="class", classes=classes), estimator=Even())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        told = many.predict(Table(table.cells.assign(**{"probability 7": "mine"})))
    assert told.cells.shape[1] == table.cells.shape[1] + 152
    assert told.cells["probability 7"][0] == "mine"
    assert told.cells["probability 7 2"][0] == "0.006667"


def test_progress_ends_with_the_last_model(table):
    _, _, seen = learn(table, "number")
    assert (seen[-1].fraction, seen[-1].within.fraction, seen[-1].within.metrics) == (1.0, 1.0, {"model": "5/5"})
    assert seen[-1].label == "boosted trees trained"


def test_one_column_is_told_in_the_singular(table):
    cells = table.cells[["a", "number"]]
    assert "; 1 column became 1 input" in learn(Table(cells), "number", baselines=False)[1].facts["notes"][0]


def test_a_training_that_stops_early_tells_its_last_epoch(table):
    options = TINY | {"epochs": 200, "patience": 2, "learning_rate": 0.1}
    _, _, seen = learn(table, "number", baselines=False, options=options)
    assert seen[-1].step == seen[-1].total < 200
    assert seen[-1].within.fraction == 1.0


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (np.linspace(0, 1, 60), ()),
        ([0, 1] * 30, ("0", "1")),
        ([0.0, 1.0] * 30, ("0", "1")),
        ([-1, 1, ""] * 20, ("-1", "1")),
        (["b", "a"] * 30, ("a", "b")),
        (["True", "False"] * 30, ("False", "True")),
        (["+", "-"] * 30, ("+", "-")),
        ([2, 10, 1] * 20, ("1", "2", "10")),
        (list(range(20)) * 3, ()),
        (list(range(20)) * 20, tuple(map(str, range(20)))),
        ([*range(59), "oops"], ()),
    ],
)
def test_what_a_target_is_taken_for(values, classes):
    assert infer_target(texts(values), "y", None)[0].classes == classes


def test_the_task_may_be_chosen():
    cells = texts([3, 4, 5] * 20)
    assert infer_target(cells, "y", "regression")[0].classes == ()
    assert infer_target(texts(list(range(20)) * 3), "y", "classification")[0].classes[:3] == ("0", "1", "2")
    assert "--task regression" in infer_target(cells, "y", None)[1][0]


TARGETS = {
    "all missing": (["", "NA"] * 20, None, "missing in every row"),
    "all equal": ([5] * 30, None, "'5' in every row"),
    "all equal as numbers": (["5", "5.00"] * 15, "regression", "in every row"),
    "one row": ([5], None, "rows with a target: 1;"),
    "few rows left": ([1, 2, ""] * 9, None, "rows with a target: 18;"),
    "words to regress on": (["a", "b"] * 20, "regression", "regression needs numbers"),
    "classes all different": ([f"w{n}" for n in range(40)], None, "40 different values in 40 rows"),
    "numbers for classes": (np.linspace(0, 1, 40), "classification", "--task regression"),
    "all infinite": (["inf"] * 40, "regression", "regression needs numbers"),
}


ASIDE = {  # what is advised works
    "words among numbers": (
        [*range(40), *["sold", "NA"] * 10],
        None,
        "--missing default,sold leaves",
        {"words": ["default", "sold"]},
    ),
    "words to regress on": (["a", "b"] * 20, "regression", "--task classification", {"task": "classification"}),
    "numbers for classes": (np.linspace(0, 1, 40), "classification", "--task regression", {"task": "regression"}),
}


@pytest.mark.parametrize("case", ASIDE)
def test_what_is_advised_works(case):
    values, task, advice, instead = ASIDE[case]
    with pytest.raises(TableError, match=advice):
        infer_target(texts(values), "y", task)
    infer_target(texts(values), "y", instead.get("task", task), words=instead.get("words", DEFAULT_MISSING))


def test_nothing_is_advised_that_cannot_work():
    cells = texts([*range(40), *(f"w{n}" for n in range(40))])
    for task in (None, "classification", "regression"):
        with pytest.raises(TableError) as fault:
            infer_target(cells, "y", task)
        assert "40 of 80 values are no numbers, such as 'w0'" in str(fault.value)
        assert "--" not in str(fault.value)


@pytest.mark.parametrize("case", TARGETS)
def test_a_target_that_cannot_be_learned_is_one_sentence(case):
    values, task, part = TARGETS[case]
    with pytest.raises(TableError) as fault:
        infer_target(texts(values), "y", task)
    assert part in str(fault.value)


def test_a_wrong_target_is_one_sentence(table):
    with pytest.raises(TableError, match="no column 'Colour'; closest: 'color'"):
        learn(table, "Colour")
    with pytest.raises(TableError, match="no column 'zzz'; it has 'a', 'b', 'kind'"):
        learn(table, "zzz")
    with pytest.raises(TableError, match="one column only, 'a b c': columns are told apart by comma, semicolon"):
        learn(Table(pd.DataFrame({"a b c": texts(range(40))})), "c")
    with pytest.raises(TableError, match=r"no column to predict from is left: 'n' \(numbers the rows\)"):
        learn(Table(pd.DataFrame({"n": texts(range(40)), "y": texts([1, 2] * 20)})), "y")


def test_the_report_tells_what_became_of_odd_columns(table):
    days = pd.Series(pd.date_range("2020-01-01", periods=120).strftime("%m/%d/%Y"), dtype="str")
    cells = table.cells.drop(columns="color").assign(**{"day|\nnight": days, "same": "1"})
    report = learn(Table(cells, ("a note on reading",)), "number", baselines=False)[1].files()["report.md"].decode()
    assert "| day\\| night | date %m/%d/%Y |" in report
    assert "| same | left out: always the same | – | – |" in report
    assert "- a note on reading" in report


def test_classes_of_one_row_are_learned_from(table):
    cells = table.cells.assign(color=texts(["rare", *["red", "blue"] * 59, "odd"]))
    _, report, _ = learn(Table(cells), "color", test=0.5)
    assert report.facts["target"]["classes"] == ("blue", "odd", "rare", "red")


@pytest.fixture(scope="module")
def learned(table):
    model, report, _ = learn(table, "number", baselines=False)
    return model, report.files()


@pytest.fixture
def saved(learned, tmp_path):
    learned[0].save(tmp_path / "model", learned[1])
    return tmp_path / "model"


@pytest.mark.parametrize("name", ["model.safetensors", "estimator.json", "table.json"])
@pytest.mark.parametrize("spoil", ["remove", "cut", "empty", "foreign", "list"])
def test_a_spoilt_model_is_one_sentence(saved, name, spoil):
    path = saved / name
    content = path.read_bytes()
    if spoil == "remove":
        path.unlink()
    else:
        path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "foreign": b"{}", "list": b"[1]"}[spoil])
    with pytest.raises(ModelError) as fault:
        Model.load(saved)
    assert name in str(fault.value)


def test_a_table_of_another_model_is_one_sentence(saved, table, tmp_path):
    other, report, _ = learn(table, "number", baselines=False, seed=1)
    other.save(tmp_path / "other", report.files())
    (saved / "table.json").write_bytes((tmp_path / "other" / "table.json").read_bytes())
    with pytest.raises(ModelError, match="another model"):
        Model.load(saved)
    with pytest.raises(ModelError, match="not a folder"):
        Model.load(tmp_path / "none")


def test_only_a_model_is_ever_replaced_and_only_by_force(saved, tmp_path):
    require_free(tmp_path / "new", force=False)
    require_free(saved, force=True)
    with pytest.raises(StoreError, match="--force"):
        require_free(saved, force=False)
    (saved / "notes.txt").touch()
    with pytest.raises(StoreError, match="no model's"):
        require_free(saved, force=True)
    with pytest.raises(StoreError, match="Not a directory"):
        require_free(saved / "notes.txt", force=True)


def test_a_save_that_fails_leaves_what_was_there(saved, table, monkeypatch):
    model, report, _ = learn(table, "number", baselines=False, seed=1)
    before = {path.name: path.read_bytes() for path in saved.iterdir()}

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("hannet.tabular.model.write_atomic", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.save(saved, report.files())
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


@pytest.mark.parametrize("fault", [OSError("no"), KeyboardInterrupt()])
def test_a_rename_that_fails_brings_the_model_back(saved, table, monkeypatch, fault):
    model, report, _ = learn(table, "number", baselines=False, seed=1)
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    rename = Path.rename

    def fail(path, target):
        if target == saved and not path.name.endswith(".old"):
            raise fault
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises((StoreError, KeyboardInterrupt)):
        model.save(saved, report.files())
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_extreme_numbers_neither_fail_nor_warn():
    rng = np.random.default_rng(0)
    cells = pd.DataFrame({"x": texts(10.0 ** rng.integers(-100, 300, 60)), "y": texts(rng.normal(size=60) * 1e29)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, report, _ = learn(Table(cells), "y")
    assert all(np.isfinite(row["rmse"]) and np.isfinite(row["r2"]) for row in report.facts["rows"])
    assert json.loads(json.dumps(report.facts, allow_nan=False))["rows"]


def test_more_columns_than_importance_can_afford():
    rng = np.random.default_rng(0)
    cells = pd.DataFrame({f"x{n}": texts(values) for n, values in enumerate(rng.normal(size=(120, 40)))})
    report = learn(Table(cells), "x0", baselines=False)[1]
    assert report.facts["importance"] == {}
    assert "what matters most is not measured with more than 100 columns" in report.facts["notes"][-1]
    assert "importance: " not in report.files()["report.md"].decode()


@pytest.mark.parametrize(("target", "error"), [("number", "RMSE"), ("color", "log loss (in nats)")])
def test_importance_has_a_unit_and_tells_of_a_sample_only_where_there_is_one(table, target, error, monkeypatch):
    note = learn(table, target, baselines=False)[1].facts["notes"][-1]
    assert f"(rise of the {error} of held-out rows when the column is shuffled): a " in note
    monkeypatch.setattr(metrics, "IMPORTANCE_ROWS", 10)
    assert "shuffled among 10 of them, drawn at random)" in learn(table, target, baselines=False)[1].facts["notes"][-1]


def test_where_no_column_matters_it_is_told():
    split = metrics.Split(np.eye(2), np.ones(2), np.eye(2), np.ones(2), 0)
    assert "no column, as the error rises with none" in importance_note({"a": -0.1, "b": 0.0}, split, ".4f")[0]


def test_an_index_of_pandas_is_left_out_and_told(table, tmp_path):
    shuffled = table.cells.sample(frac=1, random_state=0)
    shuffled.to_parquet(tmp_path / "t.parquet")
    read_back = read(tmp_path / "t.parquet")
    assert "__index_level_0__" in read_back.cells
    model, report, _ = learn(read_back, "number", baselines=False)
    assert [column.name for column in model.encoder.columns] == ["a", "b", "kind"]
    assert "column '__index_level_0__' is left out: an index that pandas kept" in report.facts["notes"]
    assert model.predict(table).metrics["rmse"] == pytest.approx(model.predict(read_back).metrics["rmse"])


@pytest.fixture
def countries(table):
    return Table(table.cells.assign(land=texts(["US", "NA", "DE"] * 40)))


def test_a_class_that_is_called_na_is_learned_and_told(countries):
    model, report, _ = learn(countries, "land", baselines=False)
    assert model.target.classes == ("DE", "NA", "US")
    assert any("'NA' counts as a value of 'land'" in note for note in report.facts["notes"])
    assert set(model.predict(countries).cells["prediction"]) <= {"DE", "NA", "US"}


def test_words_that_cost_rows_are_told_and_may_be_chosen(countries, tmp_path):
    cells = countries.cells.assign(land=texts(["United States", "NA", "Germany"] * 40))
    _, report, _ = learn(Table(cells), "land", baselines=False)
    assert (
        "rows left out, as they have no target: 40 of 120 ('NA' 40; --missing \"\" takes words for classes)"
        in report.facts["notes"]
    )
    model, report, _ = learn(Table(cells), "land", baselines=False, missing=[])
    assert report.facts["target"]["classes"] == ("Germany", "NA", "United States")
    model.save(tmp_path / "model", report.files())
    again = Model.load(tmp_path / "model")
    assert again.encoder.missing == ()
    assert again.predict(Table(cells)).metrics["accuracy"] <= 1


def test_words_among_numbers_are_told_and_may_be_chosen(table):
    cells = table.cells.drop(columns="color").assign(number=texts([*table.cells["number"][:116], *["unknown"] * 3, ""]))
    cells["a"] = texts(["?", "?", *table.cells["a"][2:]])
    notes = learn(Table(cells), "number", baselines=False)[1].facts["notes"]
    assert "rows left out, as they have no target: 4 of 120 ('unknown' 3, empty 1)" in notes
    assert any(note.startswith("read as missing: '?' (2, in 'a')") for note in notes)
    cells["number"] = texts([*table.cells["number"][:90], *["999"] * 30])
    report = learn(Table(cells), "number", baselines=False, missing=["999"])[1]
    assert report.facts["train_rows"] + report.facts["test_rows"] == 90


def test_a_word_that_no_cell_holds_is_told():
    cells = pd.DataFrame({"a": ["-999.0", "1"], "b": ["x", "Unknown"]}, dtype="str")
    assert unmatched_missing_tokens(cells, ["default", "-999", "unknown"]) == ["--missing: no cell holds '-999'"]
    assert unmatched_missing_tokens(cells, ["default", "-999.0"]) == []


def test_advice_on_words_keeps_those_that_were_named():
    cells = pd.Series(["1.5", "2.5", "3.5", "4.5", "5.5", "6.5"] * 10 + ["n.a."] * 9 + ["-999"], dtype="str")
    with pytest.raises(TableError, match=r"--missing default,-999,n\.a\. leaves such rows out"):
        infer_target(cells, "y", "regression", words=["default", "-999"])


def test_a_word_that_was_named_is_no_class():
    table = Table(pd.DataFrame({"k": ["1", "2", "9", "9.0"]}, dtype="str"))
    codes, counts = Target("k", ("1", "2", "9"), ".").codes(table, ["default", "9"])
    assert counts.tolist() == [True, True, False, True]
    assert codes[:2].tolist() == [0, 1]
