import numpy as np
import pandas as pd
import pytest

from hannet.tabular.readers import Table
from tabular_toy import learn, texts


def rare(rows=400, every=20):
    rng = np.random.default_rng(0)
    a = rng.normal(size=rows)
    y = np.where(np.arange(rows) % every, "usual", "rare")
    return Table(pd.DataFrame({"a": a + 1.5 * (y == "rare"), "b": rng.normal(size=rows), "y": y}).apply(texts))


def test_recall_of_each_class_stands_in_the_report():
    _, report, _ = learn(rare(), "y", baselines=False)
    first, second = report.facts["classes"]
    assert [first[key] for key in ("class", "train_rows", "test_rows")] == ["rare", 16, 4]
    assert second["recall"] > first["recall"]
    assert "## HanNet by class" in (text := report.files()["report.md"].decode())
    assert "| rare | 16 | 4 | 0.0000 | – |" in text
    (note,) = (note for note in report.facts["notes"] if "imbalanced" in note)
    assert "(95.0% 'usual' and 5.0% 'rare' among the rows to train on)" in note
    assert note.endswith("--class-weight balanced lets them count alike")


def test_balanced_classes_are_recognised_alike():
    options = {"members": 1, "epochs": 30, "width": 8, "depth": 3}
    plain, balanced = (
        learn(rare(), "y", class_weight=weight, baselines=bool(weight), options=options)[1].facts
        for weight in (None, "balanced")
    )
    assert balanced["classes"][0]["recall"] > plain["classes"][0]["recall"]
    rows = {row["model"]: row for row in balanced["rows"]}
    assert rows["logistic"]["accuracy"] < 0.93  # it weighs them too
    assert any("classes count alike for them too" in note for note in balanced["notes"])
    assert not any("--class-weight" in note or "of no use" in note for note in balanced["notes"])
    assert balanced["plan"]["class_weight"] == "balanced"


@pytest.mark.parametrize(("classes", "shown"), [(2, True), (12, False)])
def test_many_classes_that_come_alike_have_no_table(classes, shown):
    rng = np.random.default_rng(0)
    cells = pd.DataFrame(
        {"a": rng.normal(size=240), "b": rng.normal(size=240), "y": [f"k{n % classes}" for n in range(240)]}
    )
    _, report, _ = learn(Table(cells.apply(texts)), "y", baselines=False)
    assert (report.classes is not None) == shown
    assert len(report.facts["classes"]) == classes
    assert ("by class" in report.files()["report.md"].decode()) == shown


def test_the_split_is_told(table):
    _, report, _ = learn(table, "color", baselines=False)
    assert report.facts["split"] == {"by": "chance"}
    assert "96 rows to train on, 24 held out by chance, an even share of each class; " in " ".join(
        report.facts["notes"]
    )
    notes = learn(table, "number", baselines=False)[1].facts["notes"]
    assert any("96 rows to train on, 24 held out by chance; " in note for note in notes)
