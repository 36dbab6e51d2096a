import numpy as np
import pandas as pd
import pytest

from hannet.tabular.readers import Table, TableError
from tabular_toy import learn, texts


def test_dropped_columns_are_no_features(table):
    cells = table.cells.drop(columns="color").rename(columns={"b": "b, c"})
    for drop in (["kind", "b, c"], ["b, c", "kind,id"], ["kind , id"]):
        model, report, _ = learn(Table(cells), "number", drop=drop, baselines=False)
        assert "kind" not in model.encoder.groups
        assert ("b, c" in model.encoder.groups) == ("b, c" not in drop)
        assert report.facts["dropped"]["kind"] == "asked for with --drop"
        assert "column 'kind' is left out: asked for with --drop" in report.facts["notes"]


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        ({"drop": ["kindd"]}, "--drop: the table has no column 'kindd'; closest: 'kind'"),
        ({"drop": ["a,zzzzz"]}, "--drop: the table has no column 'zzzzz'; it has 'a', 'b', 'kind', 'number', 'id'"),
        ({"group": "KIND"}, "--group: the table has no column 'KIND'; closest: 'kind'"),
        ({"time": "tim"}, "--time: the table has no column 'tim'; it has"),
        ({"weights": "bb"}, "--weights: the table has no column 'bb'; closest: 'b'"),
        ({"kinds": {"knd": "text"}}, "--kind: the table has no column 'knd'; closest: 'kind'"),
        ({"kinds": {"number": "text"}}, "--kind: 'number' is the target"),
        ({"drop": ["number"]}, "--drop: 'number' is the target"),
        ({"weights": "number"}, "--weights: 'number' is the target"),
        ({"group": "kind", "time": "a"}, "--group and --time each decide which rows are held out"),
        ({"time": "kind"}, "--time: 'kind' must hold a number or a date in every row, but was read as category"),
        ({"time": "id"}, "--time: 'id' must"),
        ({"weights": "kind"}, "--weights: 'kind' must hold a number in every row, but was read as category"),
        ({"weights": "b"}, r"--weights: 'b' must hold a number of at least 0 in every row, but holds '-"),
        ({"class_weight": "balanced"}, "--class-weight is for classes, but the target is a number"),
        ({"drop": ["a", "b", "kind", "id"]}, "no column to predict from is left"),
    ],
)
def test_names_that_do_not_fit_are_one_sentence(table, choices, sentence):
    with pytest.raises(TableError) as caught:
        learn(table, "number", baselines=False, **choices)
    assert sentence in str(caught.value)


@pytest.fixture(scope="module")
def weighed():
    """Half of the rows, those that count nothing, say the opposite."""
    rng = np.random.default_rng(0)
    a, half = rng.normal(size=200), np.arange(200) % 2
    y = np.where(half, a, -a)
    cells = pd.DataFrame(
        {"a": a, "b": rng.normal(size=200), "w": half * 2.5, "y": y, "sign": np.where(y > 0, "+1x", "-1x")}
    )
    return Table(cells.apply(texts))


@pytest.mark.parametrize("target", ["y", "sign"])
def test_weights_count_in_training_metrics_and_baselines(weighed, target):
    table = Table(weighed.cells.drop(columns="sign" if target == "y" else "y"))
    _, report, _ = learn(table, target, weights="w", options={"members": 1, "epochs": 30, "width": 8, "depth": 3})
    assert report.facts["dropped"]["w"] == "weighs the rows"
    rows = {row["model"]: row for row in report.facts["rows"]}
    best = {name: row["rmse"] if target == "y" else 1 - row["accuracy"] for name, row in rows.items()}
    assert best["HanNet"] < 0.4
    assert max(best["boosted trees"], best["ridge" if target == "y" else "logistic"], best["MLP"]) < 0.3
    plain = learn(table, target, drop=["w"], baselines=False)[1].facts["rows"][0]
    assert (plain["rmse"] if target == "y" else 1 - plain["accuracy"]) > 0.3


@pytest.mark.parametrize("value", ["", "inf", "x", "-1"])
def test_a_bad_weight_is_named(weighed, value):
    cells = weighed.cells.drop(columns="sign").copy()
    cells.loc[7, "w"] = value
    with pytest.raises(
        TableError, match=r"--weights: 'w' must hold a number of at least 0 in every row.* \(1 such rows\)"
    ):
        learn(Table(cells), "y", weights="w")


def test_weights_of_any_unit_give_the_same_numbers(weighed):
    cells = weighed.cells.drop(columns="sign")
    first, second = (
        learn(
            Table(cells.assign(w=texts(cells["w"].astype(float) * unit + 1e-9 * unit))),
            "y",
            weights="w",
            baselines=False,
        )[1]
        for unit in (1.0, 1e28)
    )
    keys = ("rmse", "mae", "r2")
    assert [first.facts["rows"][0][key] for key in keys] == pytest.approx(
        [second.facts["rows"][0][key] for key in keys]
    )


def test_rows_without_a_group_are_told(table):
    cells = table.cells.drop(columns="color")
    _, report, _ = learn(Table(cells), "number", group="kind", baselines=False)
    empty = (cells["kind"] == "").sum()
    assert f"rows without a value of 'kind' count as one group: {empty}" in report.facts["notes"]


def test_a_kind_that_is_asked_for_is_taken(table):
    cells = table.cells.drop(columns="color").assign(code=texts(np.arange(120) % 4))
    kinds = {None: "number", "category": "category"}
    for asked, kind in kinds.items():
        report = learn(Table(cells), "number", baselines=False, kinds={"code": asked} if asked else {})[1]
        assert report.facts["columns"]["code"]["kind"] == kind
    assert report.facts["plan"]["kinds"] == {"code": "category"}
