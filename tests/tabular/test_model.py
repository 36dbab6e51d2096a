"""A fitted model as a folder."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from hannet.estimators.serialization import ModelError
from hannet.storage import model_dir
from hannet.storage.files import StoreError
from hannet.tabular.model import Model
from hannet.tabular.readers import Table, TableError
from tabular_toy import KINDS, learn


@pytest.mark.parametrize("target", KINDS.values())
def test_a_saved_model_predicts_the_same(table, target, tmp_path):
    model, report, _ = learn(table, target, baselines=False)
    model.save(tmp_path / "model", report.files())
    again = Model.load(tmp_path / "model")
    assert again.encoder == model.encoder
    assert again.predict(table).cells.equals(model.predict(table).cells)
    assert {path.name for path in tmp_path.iterdir()} == {"model"}


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


def test_a_date_without_a_last_day_is_one_sentence(tmp_path):
    cells = pd.DataFrame(
        {"day": [f"2024-{n % 12 + 1:02d}-{n % 28 + 1:02d}" for n in range(60)], "y": map(str, range(60))}
    )
    model, report, _ = learn(Table(cells), "y", baselines=False)
    model.save(tmp_path / "model", report.files())
    path = tmp_path / "model" / "table.json"
    content = json.loads(path.read_bytes())
    (column,) = [part for part in content["encoder"]["columns"] if part.get("span")]
    column["span"] = column["span"][:1]
    path.write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"table\.json is damaged"):
        Model.load(tmp_path / "model")


def test_a_table_of_another_model_is_one_sentence(saved, table, tmp_path):
    other, report, _ = learn(table, "number", baselines=False, seed=1)
    other.save(tmp_path / "other", report.files())
    (saved / "table.json").write_bytes((tmp_path / "other" / "table.json").read_bytes())
    with pytest.raises(ModelError, match="another model"):
        Model.load(saved)
    with pytest.raises(ModelError, match="not a folder"):
        Model.load(tmp_path / "none")


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
    monkeypatch.setattr(model_dir, "_exchange", lambda *_: False)  # where the system cannot do it at one instant
    with pytest.raises((StoreError, KeyboardInterrupt)):
        model.save(saved, report.files())
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_rows_count_in_metrics_as_they_did_in_training(table, tmp_path):
    cells = table.cells.assign(w=["1", "3"] * (len(table.cells) // 2))
    model, report, _ = learn(Table(cells), "number", weights="w", baselines=False)
    model.save(tmp_path / "model", report.files())
    model = Model.load(tmp_path / "model")
    found = model.predict(Table(cells))
    doubled = Table(pd.concat([cells, cells[1::2], cells[1::2]]))  # the same by repetition
    plain = replace(model, weights=None).predict(doubled)
    assert found.metrics["rmse"] == pytest.approx(plain.metrics["rmse"])
    assert "rows count in the metrics as 'w' says" in found.notes
    assert found.metrics["rmse"] != pytest.approx(replace(model, weights=None).predict(Table(cells)).metrics["rmse"])


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda cells: cells.drop(columns="w"), "the table has no column 'w'"),
        (lambda cells: cells.assign(w="0"), "as "),
        (lambda cells: cells.assign(w=["0", "-1"] * (len(cells) // 2)), "must hold a number of at least 0"),
    ],
)
def test_without_usable_weights_rows_count_the_same_and_a_note_says_so(table, change, note):
    cells = table.cells.assign(w=["1", "3"] * (len(table.cells) // 2))
    model, _, _ = learn(Table(cells), "number", weights="w", baselines=False)
    changed = Table(change(cells))
    found = model.predict(changed)
    assert found.metrics == replace(model, weights=None).predict(changed).metrics
    (told,) = [text for text in found.notes if text.startswith("every row counts the same in the metrics")]
    assert note in told


def test_names_of_columns_that_differ_in_capitals_or_blanks_are_matched(learned, table):
    model, _ = learned
    renamed = table.cells.rename(columns={"a": "A", "kind": " Kind ", "number": "NUMBER"})
    found = model.predict(Table(renamed))
    truth = model.predict(table)
    assert found.metrics == truth.metrics
    assert list(found.cells) == [*renamed, "prediction"]
    assert found.cells["prediction"].equals(truth.cells["prediction"])
    assert "columns taken: 'NUMBER' for 'number', 'A' for 'a', ' Kind ' for 'kind'" in found.notes
    both = table.cells.rename(columns={"a": "A "}).assign(**{" A": table.cells["a"]})
    with pytest.raises(TableError, match="lacks 1 of the model's columns: 'a'"):
        model.predict(Table(both))
