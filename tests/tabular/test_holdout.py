import numpy as np
import pandas as pd
import pytest

from hannet.tabular.holdout import group_mask, holdout_mask, last_mask
from hannet.tabular.readers import Table, TableError
from tabular_toy import learn, texts


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


@pytest.mark.parametrize("classes", [False, True])
def test_groups_are_held_out_whole(classes):
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.repeat(np.arange(40), rng.integers(1, 30, 40)))
    y = rng.integers(0, 3, len(groups)) if classes else rng.normal(size=len(groups))
    for seed in range(5):
        test = group_mask(y, groups, 0.2, seed, classes=classes)
        assert not np.intersect1d(groups[test], groups[~test]).size
        assert test.mean() == pytest.approx(0.2, abs=0.03)
        if classes:
            np.testing.assert_allclose(np.bincount(y[test]) / test.sum(), np.bincount(y) / len(y), atol=0.1)
    assert (group_mask(y, groups, 0.2, 0, classes=classes) == group_mask(y, groups, 0.2, 0, classes=classes)).all()
    with pytest.raises(TableError, match="--group: all rows are of one group"):
        group_mask(y, np.zeros(len(y)), 0.2, 0, classes=classes)


def test_a_class_of_one_group_is_trained_on():
    groups, y = np.repeat(np.arange(10), 10), np.repeat([0, 1], 50)
    y[groups == 9] = 2
    for seed in range(10):
        assert set(y[~group_mask(y, groups, 0.3, seed, classes=True)]) == {0, 1, 2}


def test_the_last_rows_are_later_than_all_others():
    times = np.random.default_rng(0).integers(0, 50, 400).astype(float)
    for fraction in (0.01, 0.2, 0.9):
        test = last_mask(times, fraction)
        assert times[~test].max() < times[test].min()
        assert test.mean() == pytest.approx(fraction, abs=0.02)
    assert last_mask(np.array([3.0, 3, 3, 4]), 0.9).tolist() == [False, False, False, True]
    with pytest.raises(TableError, match="--time: all rows are of one time"):
        last_mask(np.ones(30), 0.2)


@pytest.fixture(scope="module")
def visits():
    """A number for each visit of thirty patients, in a mixed order; the time tells the visit."""
    rng = np.random.default_rng(0)
    patient, visit = np.repeat(np.arange(30), 4), np.tile(np.arange(4), 30)
    cells = pd.DataFrame(
        {
            "patient": [f"{number}.0" if n % 2 else str(number) for n, number in enumerate(patient)],
            "day": pd.date_range("2020-01-01", periods=120).strftime("%d.%m.%Y"),
            "a": rng.normal(size=120),
            "b": rng.normal(size=120),
            "visit": visit,
            "y": patient + 0.1 * visit,
        }
    )
    return Table(cells.sample(frac=1, random_state=0, ignore_index=True).apply(texts))


def test_a_group_is_on_one_side_and_no_feature(visits):
    model, report, _ = learn(visits, "y", group="patient", baselines=False)
    assert report.facts["split"] == {"by": "group", "column": "patient", "groups": 30, "test_groups": 6}
    assert any(
        "24 held out by group: all rows of 6 of the 30 values of 'patient'" in note for note in report.facts["notes"]
    )
    assert report.facts["dropped"]["patient"] == "groups the rows"
    assert "patient" not in model.encoder.groups
    assert report.facts["test_rows"] == 24
    assert "bootstrap of groups" in report.files()["report.html"].decode()


def test_of_few_groups_there_is_no_interval(visits):
    few = Table(visits.cells.assign(patient=texts(visits.cells["patient"].astype(float).astype(int) // 10)))
    facts = learn(few, "y", group="patient", baselines=False)[1].facts
    assert "interval" not in facts["rows"][0]
    assert "groups held out: 1, too few for an interval" in facts["notes"]


def test_groups_reach_the_validation_of_the_estimator(visits, monkeypatch):
    from hannet.estimators import members

    seen, hold_out = [], members.group_validation_rows
    monkeypatch.setattr(members, "group_validation_rows", lambda *rest: seen.append(rest[1]) or hold_out(*rest))
    learn(visits, "y", group="patient", baselines=False)
    assert len(np.unique(seen[0])) == 24


def test_the_last_part_tests(visits):
    model, report, _ = learn(visits, "y", time="day", baselines=False)
    assert report.facts["split"] == {"by": "time", "column": "day", "from": "06.04.2020"}
    assert any(
        "96 rows to train on, 24 held out by time: those from 'day' = '06.04.2020' on, all later than" in note
        for note in report.facts["notes"]
    )
    assert "day" in model.encoder.groups
    _, report, _ = learn(visits, "y", time="visit", baselines=False)
    assert report.facts["split"] == {"by": "time", "column": "visit", "from": "3"}
    assert report.facts["test_rows"] == 30


def test_rows_without_a_time_are_left_out_and_told(visits):
    cells = visits.cells.copy()
    cells.loc[:4, "visit"] = ""
    _, report, _ = learn(Table(cells), "y", time="visit", baselines=False)
    assert report.facts["train_rows"] + report.facts["test_rows"] == 115
    assert "rows left out, as 'visit' holds no time there: 5 of 120" in report.facts["notes"]


def test_a_class_that_only_comes_last_is_not_predicted(visits):
    visit = visits.cells["visit"]
    cells = visits.cells.drop(columns="y").assign(kind=np.where(visit == "3", "c", np.where(visit > "1", "a", "b")))
    cells.loc[visit[visit == "3"].index[:20], "kind"] = "a"
    _, report, _ = learn(Table(cells), "kind", time="visit")
    assert report.facts["target"]["classes"] == ("a", "b")
    assert report.facts["test_rows"] == 20
    assert "classes in no row to train on, so not predicted and not measured: 'c' (10 rows)" in report.facts["notes"]
    cells["kind"] = np.where(visit == "3", "c", "a")
    with pytest.raises(TableError, match="the rows to train on hold one class of 'kind' only"):
        learn(Table(cells), "kind", time="visit")
