import json
import re
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from hannet.tabular import metrics
from hannet.tabular.encoders import Encoder
from hannet.tabular.readers import Table, TableError, read
from hannet.tabular.report import importance_note
from tabular_toy import KINDS, TINY, learn, texts


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
    assert report.facts["dropped"] == {"id": "nearly all values differ: an identifier"}
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


def test_predictions_stand_beside_the_columns(table):
    model, _, _ = learn(table, "color", baselines=False)
    shuffled = Table(table.cells[["kind", "b", "a"]].assign(prediction="mine", extra="new"))
    prediction = model.predict(shuffled)
    assert list(prediction.cells)[3:] == ["prediction", "extra", "prediction 2", "probability blue", "probability red"]
    assert set(prediction.cells["prediction 2"]) <= {"blue", "red"}
    assert prediction.metrics is None
    assert "ignored: prediction, extra" in prediction.notes[0]
    straight = model.predict(table)
    assert straight.cells["prediction"].equals(prediction.cells["prediction 2"].rename("prediction"))
    assert straight.metrics.keys() == {"accuracy", "interval", "log_loss", "auc"}
    assert "if some of them trained the model, it looks better" in straight.notes[-1]


def test_odd_new_tables(table):
    model, _, _ = learn(table, "number", baselines=False)
    new = table.cells[:4].drop(columns="color")
    new["a"] = texts(["", "inf", "oops", "1"])
    new["kind"] = texts(["never seen", "NA", "x", ""])
    new["number"] = texts(["", "?", "1", "2"])
    prediction = model.predict(Table(new))
    assert np.isfinite(prediction.cells["prediction"].astype(float)).all()
    assert [note.split("'")[1] for note in prediction.notes if "'" in note] == ["a", "kind", "number"]
    assert "measured on few rows (2)" in prediction.notes[-1]
    assert prediction.metrics["rmse"] > 0
    with pytest.raises(TableError, match="lacks 2 of the model's columns: 'a', 'kind'"):
        model.predict(Table(new[["b"]]))


def test_the_encoder_learns_from_training_rows_only(table, monkeypatch):
    rows, learn_encoder = [], Encoder.fit
    monkeypatch.setattr(Encoder, "fit", lambda cells, *rest: rows.append(len(cells)) or learn_encoder(cells, *rest))
    _, report, _ = learn(table, "number", baselines=False, test=0.4)
    assert rows == [report.facts["train_rows"]] == [72]


def test_repeated_rows_are_held_out_together_and_told():
    rng = np.random.default_rng(0)
    once = pd.DataFrame({name: texts(rng.normal(size=100)) for name in "abcdy"})
    cells = pd.concat([once] * 5, ignore_index=True)
    _, report, _ = learn(Table(cells.assign(n=texts(range(500)))), "y")
    assert next(row["r2"] for row in report.facts["rows"] if row["model"] == "boosted trees") < 0.1
    assert report.facts["test_rows"] == 100
    assert any(
        "repeat the features of another: 400 of 500; equal rows are held out together" in note
        for note in report.facts["notes"]
    )


def test_rows_that_are_equal_by_chance_are_drawn_one_by_one():
    rng = np.random.default_rng(0)
    cells = pd.DataFrame({name: texts(rng.integers(2, size=300)) for name in "aby"})
    facts = learn(Table(cells), "y", baselines=False)[1].facts
    assert facts["test_rows"] == 60
    assert any("repeat the features of another: 296 of 300, " in note for note in facts["notes"])


def test_what_few_values_make_alike_is_measured_as_new_rows_are():
    """With equal rows and targets on one side, trees would learn the opposite of what is tested: 55% instead of 66%."""
    rng = np.random.default_rng(0)
    ward, sex, stays, age = (rng.integers(size, size=1200) for size in (4, 2, 3, 60))
    chance = np.where(ward + stays > 2, 0.75, 0.4) - 0.1 * sex
    y = np.where(rng.random(1200) < chance, "yes", "no")
    cells = pd.DataFrame({"ward": ward, "sex": sex, "stays": stays, "age": 20 + age}).apply(texts).assign(y=texts(y))
    found = [learn(Table(cells), "y", options={"epochs": 1, "members": 1}, seed=seed)[1].facts for seed in range(3)]
    trees = [next(row for row in facts["rows"] if row["model"] == "boosted trees") for facts in found]
    assert np.mean([row["auc"] for row in trees]) > 0.62
    assert all(facts["test_rows"] == 240 for facts in found)
    assert any(re.search("with another target, so that all count", note) for note in found[0]["notes"])


def test_a_table_is_spelt_as_the_one_learned_from():
    rng = np.random.default_rng(0)
    a = rng.uniform(1000, 9000, 60)
    formatted = [f"{value:,.2f}".translate(str.maketrans(",.", ".,")) for value in a]
    cells = pd.DataFrame({"a": texts(formatted), "y": texts(formatted)})
    model, report, _ = learn(Table(cells, (), ";"), "y", baselines=False)
    assert "numbers have decimal commas in 'a', 'y'" in report.facts["notes"]
    new = pd.DataFrame(dict.fromkeys("ay", texts(["1.234", "2.500", "3.000,50"])))
    first, second = (model.predict(Table(new[:count], (), ",")) for count in (2, 3))
    assert first.cells["prediction"].tolist() == second.cells["prediction"][:2].tolist()
    prediction = model.predict(Table(pd.DataFrame({"a": texts(["1234.0", "2500.0"])}), numeric=frozenset("a")))
    assert prediction.cells["prediction"].tolist() == first.cells["prediction"].tolist()
    assert (model.target.codes(Table(new))[0] == [1234, 2500, 3000.5]).all()


def test_the_matrix_is_held_once(table, monkeypatch):
    splits, split = [], metrics.Split
    monkeypatch.setattr(metrics, "Split", lambda *parts, **more: splits.append(split(*parts, **more)) or splits[-1])
    learn(table, "number", baselines=False)
    assert splits[0].x.base is splits[0].x_test.base is not None


def test_many_probabilities_are_added_without_a_warning(table):
    class Even:
        def predict_proba(self, x):
            return np.full((len(x), 150), 1 / 150)

    model, _, _ = learn(table, "number", baselines=False)
    classes = tuple(map(str, range(150)))
    many = replace(model, target=replace(model.target, name="class", classes=classes), estimator=Even())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prediction = many.predict(Table(table.cells.assign(**{"probability 7": "mine"})))
    assert prediction.cells.shape[1] == table.cells.shape[1] + 152
    assert prediction.cells["probability 7"][0] == "mine"
    assert prediction.cells["probability 7 2"][0] == "0.006667"


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


def test_extreme_numbers_neither_fail_nor_warn():
    rng = np.random.default_rng(0)
    cells = pd.DataFrame({"x": texts(10.0 ** rng.integers(-100, 300, 60)), "y": texts(rng.normal(size=60) * 1e29)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, report, _ = learn(Table(cells), "y")
    assert all(np.isfinite(row["rmse"]) and np.isfinite(row["r2"]) for row in report.facts["rows"])
    assert json.loads(json.dumps(report.facts, allow_nan=False))["rows"]


@pytest.mark.slow
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
    assert "no column, as the error rises with none" in importance_note({"a": -0.1, "b": 0.0}, split, ".4f")


def test_an_index_of_pandas_is_left_out_and_told(table, tmp_path):
    shuffled = table.cells.sample(frac=1, random_state=0)
    shuffled.to_parquet(tmp_path / "t.parquet")
    read_back = read(tmp_path / "t.parquet")
    assert "__index_level_0__" in read_back.cells
    model, report, _ = learn(read_back, "number", baselines=False)
    assert [column.name for column in model.encoder.columns] == ["a", "b", "kind"]
    assert "column '__index_level_0__' is left out: an index that pandas kept" in report.facts["notes"]
    assert model.predict(table).metrics["rmse"] == pytest.approx(model.predict(read_back).metrics["rmse"])
