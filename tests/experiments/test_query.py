import io

import pandas as pd
import pytest

from hannet.experiments.query import (
    columns,
    columns_that_fit,
    flatten_record,
    informative_columns,
    resolve_key,
    select,
    to_csv,
)
from hannet.experiments.record import Record, Run


def row(seed: int, width: int | None, loss: float, **config):
    network = {"kind": "HanNet", "width": width} if width else {"kind": "FCNet, of old"}
    run = Run("trial", {"network": network, "milestones": [0.5, 0.9], **config}, seed)
    return flatten_record(Record.of(run, {"loss": loss, "other": 1.0}, 2.0, {"loss": [1.0, loss]}))


@pytest.fixture
def rows():
    return [row(0, 20, 0.5), row(1, 100, 0.25, skip=True), row(2, None, float("nan")), row(3, 9, 1e-9)]


def seeds(rows) -> list[int]:
    return [row["seed"] for row in rows]


def test_a_record_is_flat_and_its_parts_stay_together(rows):
    known = columns(rows)
    assert rows[0]["config.network.width"] == 20
    assert rows[0]["config.milestones"] == "[0.5, 0.9]"
    assert rows[0]["versions.hannet"]
    assert not any(key.startswith("curves") for key in known)
    assert all(not isinstance(value, dict | list) for row in rows for value in row.values())
    assert known.index("config.skip") < known.index("seed") < known.index("metrics.loss")


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (["seed=0"], [0]),
        (["seed = 0.0"], [0]),
        (["seed!=0"], [1, 2, 3]),
        (["config.network.width=100"], [1]),
        (["config.network.width!=100"], [0, 2, 3]),
        (["config.network.width>9"], [0, 1]),
        (["config.network.width<=20", "seed>=1"], [3]),
        (["metrics.loss<0.5"], [1, 3]),
        (["metrics.loss=null"], [2]),
        (["config.skip=true"], [1]),
        (["config.network.kind=FCNet, of old"], [2]),
        (["config.network.kind=HanNet", "seed<2"], [0, 1]),
        (["seed=x"], []),
    ],
)
def test_conditions(rows, conditions, expected):
    assert seeds(select(rows, conditions)) == expected


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("metrics.loss", [3, 1, 0, 2]),
        ("-metrics.loss", [0, 1, 3, 2]),
        ("config.network.kind", [2, 0, 1, 3]),
        ("-config.network.width", [1, 0, 3, 2]),
    ],
)
def test_sorted_by_value_and_what_lacks_it_comes_last(rows, key, expected):
    assert seeds(select(rows, [], key)) == expected


@pytest.mark.parametrize(
    ("condition", "fault"),
    [
        ("widht=3", r"no record has 'widht'; there is config\.network\.width"),
        ("metrics.los>3", r"no record has 'metrics\.los'; there is metrics\.loss"),
        ("seed==0", "'==' is no operator"),
        ("seed=>0", "'=>' is no operator"),
        ("seed", "'seed' is not a condition such as seed=0; operators: = != <= >= < >"),
        ("=3", "not a condition"),
        ("seed>many", "compares with 'many', which is not a number"),
    ],
)
def test_a_bad_condition_is_named(rows, condition, fault):
    with pytest.raises(ValueError, match=fault):
        select(rows, [condition])
    with pytest.raises(ValueError, match="no record has 'sed'"):
        select(rows, [], "-sed")


def test_shown_is_what_differs_and_the_metrics(rows):
    assert set(informative_columns(rows)) == {
        *("experiment", "seed", "config.network.kind", "config.network.width", "config.skip"),
        *("metrics.loss", "metrics.other"),
    }


def test_csv_comes_back_as_it_went(rows):
    known = columns(rows)
    text = {key: str for key in known if isinstance(rows[0].get(key), str)}  # a commit such as 12e34 is no number
    table = pd.read_csv(io.StringIO(to_csv(rows, known)), dtype=text)
    assert list(table.columns) == known
    for key in known:
        expected = pd.Series([row.get(key) for row in rows])
        assert table[key].isna().tolist() == expected.isna().tolist()
        present = [value for value in expected if not pd.isna(value)]
        assert [type(one)(other) for one, other in zip(present, table[key].dropna(), strict=True)] == present


def test_the_end_of_a_key_is_enough_where_only_one_ends_so(rows):
    known = columns(rows)
    assert resolve_key(known, "width") == "config.network.width"
    assert resolve_key(known, "seed") == "seed"
    assert seeds(select(rows, ["width>=20"], "-loss")) == [0, 1]
    with pytest.raises(ValueError, match=r"'loss' may be any of config\.loss, metrics\.loss"):
        resolve_key(["config.loss", "metrics.loss"], "loss")
    with pytest.raises(ValueError, match=r"no record has 'wide'; there is config.network.width"):
        resolve_key(known, "wide")


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        (100, ["experiment", "config.width", "config.depth", "seed", "metrics.loss", "metrics.test"]),
        (40, ["experiment", "config.width", "seed", "metrics.loss"]),
        (30, ["experiment", "seed", "metrics.loss"]),
        (0, []),
    ],
)
def test_columns_for_which_there_is_no_room_are_left_out_in_turn(room, expected):
    keys = ["experiment", "config.width", "config.depth", "seed", "metrics.loss", "metrics.test"]
    assert columns_that_fit(keys, dict.fromkeys(keys, 10), room) == expected
