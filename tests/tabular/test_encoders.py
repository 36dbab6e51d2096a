import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hannet.tabular.encoders import MAX_LEVELS, Encoder
from hannet.tabular.numbers import infer_decimal_marks
from hannet.tabular.readers import Table, TableError


def frame(**columns):
    return pd.DataFrame({name: pd.Series(values, dtype="str") for name, values in columns.items()})


def only(values):
    """The one column that the encoder makes of these cells, its matrix, and its notes."""
    cells = frame(x=values)
    encoder = Encoder.fit(cells)
    return encoder.columns[0], *encoder.encode(cells)


def test_numbers_and_what_is_missing():
    column, x, notes = only(["1", "2", "", "NA", "6", "none"])
    assert (column.kind, column.fill) == ("number", 2.0)
    np.testing.assert_array_equal(x, [[1, 0], [2, 0], [2, 1], [2, 1], [6, 0], [2, 1]])
    assert notes == []


def test_a_number_that_is_never_missing_needs_no_indicator():
    assert only(["1", "2", "3"])[1].shape == (3, 1)


@pytest.mark.parametrize("odd", ["inf", "-inf", "1e400", "1e99", "oops"])
def test_a_few_odd_values_among_numbers_are_missing_and_told(odd):
    column, x, notes = only([*map(str, range(30)), odd])
    assert column.kind == "number"
    assert x[-1].tolist() == [14.5, 1]
    assert f"values such as '{odd}' are no finite numbers, taken as missing (1)" in notes[0]


def test_the_decimal_mark_of_a_new_table_is_found_again():
    encoder = Encoder.fit(frame(x=["1.234,5", "7", "2,5"], y=["1,5", "2,5", "3,5"]), None, {"x": ",", "y": ","})
    new = frame(x=["1.234", "2.500", "1,5"], y=["1,5", "2,5", ""])
    assert encoder.encode(new)[0].tolist() == [[1234.0, 1.5], [2500.0, 2.5], [1.5, 2.5]]
    assert encoder.encode(new[:2])[0][:, 0].tolist() == [1234.0, 2500.0]
    assert encoder.encode(new[:1], {"x"})[0].tolist() == [[1.234, 1.5]]
    x, notes = encoder.encode(frame(x=["1.234", "2.5"], y=["2.5", "1.5"]))
    assert x.tolist() == [[1.234, 2.5], [2.5, 1.5]]
    assert notes == ["'x', 'y': decimal points here, commas in training; read accordingly"]
    wide = Encoder.fit(frame(x=["0,5", "7", "2000,5"], y=["1,5", "2,5", "3"]), None, {"x": ",", "y": ","})
    x, notes = wide.encode(frame(x=["1.234"], y=["2.5"]))  # that of y decides
    assert x.tolist() == [[1.234, 2.5]]
    assert notes[0] == "'y': decimal points here, commas in training; read accordingly"
    assert "here as 1.234, in 'x'" in notes[1]


def test_whole_numbers_are_not_told_to_have_other_decimal_marks():
    encoder = Encoder.fit(frame(x=["1", "2", "3"], y=["1,5", "2,5", "3,5"]), None, {"x": ",", "y": ","})
    notes = encoder.encode(frame(x=["1", "2"], y=["2.5", "1.5"]))[1]
    assert notes == ["'y': decimal points here, commas in training; read accordingly"]


@pytest.mark.parametrize("values", [["5%", "0.05"], ["$5", "€5"], ["$5", "$6", "€5"]])
def test_numbers_with_different_signs_are_told(values):
    encoder = Encoder.fit(frame(x=values))
    assert "signs beside numbers differ" in encoder.encode(frame(x=values))[1][0]
    alone = Encoder.fit(frame(x=["$1", "$2"]))
    assert alone.encode(frame(x=["$3"]))[1] == []
    assert "differ ($, none)" in alone.encode(frame(x=["3"]))[1][0]


def test_mixed_types_are_categories():
    assert only(["1", "2", "b", "a", "b", "1"])[0].kind == "category"


def test_booleans():
    column, x, _ = only(["yes", "No", "YES", "", "n"])
    assert column.kind == "boolean"
    np.testing.assert_array_equal(x[:, 0], [1, 0, 1, 0.5, 0])
    encoder = Encoder((column,), {})
    np.testing.assert_array_equal(encoder.encode(frame(x=["1", "0", "true"]))[0][:, 0], [1, 0, 1])


def test_categories_give_unseen_and_missing_cells_their_places():
    cells = frame(x=["red", "blue", "red", "", "blue", "?"])
    encoder = Encoder.fit(cells)
    assert encoder.inputs == ["x = missing", "x = blue", "x = red"]
    x, notes = encoder.encode(frame(x=["green", "red", "NA", ""]))
    np.testing.assert_array_equal(x, [[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 0]])
    assert "'green' are not among the training rows" in notes[0]


def test_plus_and_minus_are_two_categories():
    assert Encoder.fit(frame(x=["+", "-", "+", "-"])).inputs == ["x = +", "x = -"]


def test_ten_thousand_categories_stay_bounded():
    values = [f"c{number % 10_000}" for number in range(20_000)] + ["often"] * 500
    column, x, _ = only(values)
    assert x.shape[1] <= MAX_LEVELS + 1
    assert column.inputs[-1] == "x count"
    np.testing.assert_allclose(np.unique(x[:, -1]), [0, np.log1p(500)])
    assert Encoder((column,), {}).encode(frame(x=["new"]))[0].tolist() == [[0.0] * x.shape[1]]


def test_of_rare_levels_no_count_is_kept():
    values = [f"c{number % 6000}" for number in range(9000)] + [f"often {number % 3000}" for number in range(9000)]
    column, x, notes = only(values)
    assert set(column.counts.values()) == {3}
    assert len(column.counts) == 3000
    assert "are rare or not among the training rows" in notes[0]
    assert np.isfinite(x).all()
    with pytest.raises(TableError, match="an identifier"):
        only([f"c{number % 5000}" for number in range(15_000)])
    assert only([*map(str, range(50)), "", *["a"] * 30, *["b"] * 30])[0].counts == {"a": 30, "b": 30}


def test_for_very_many_rows_categories_have_fewer_columns(monkeypatch):
    cells = frame(x=[f"c{n % 20}" for n in range(400)], y=list(map(str, range(400))))
    monkeypatch.setattr("hannet.tabular.encoders.MAX_ENTRIES", 400 * 11)
    encoder = Encoder.fit(cells)
    assert len(encoder.columns[0].levels) == 10
    assert encoder.notes == ["for so many rows, categories have 10 columns at most, instead of 32"]
    monkeypatch.undo()
    assert Encoder.fit(cells).notes == []


@pytest.mark.slow
def test_very_many_categorical_columns_stay_bounded():
    rng = np.random.default_rng(0)
    cells = frame(**{f"x{n}": rng.choice([f"a{k}" for k in range(40)], 400) for n in range(200)})
    assert len(Encoder.fit(cells).inputs) <= 200 * 6


@pytest.mark.parametrize(
    "form",
    [
        "%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S+02:00", "%d.%m.%Y", "%d.%m.%Y %H:%M", "%m/%d/%Y", "%d/%m/%Y",
        "%d %b %Y", "%B %d, %Y", "%m/%d/%Y %I:%M %p", "%d-%b-%y",
    ],
)  # fmt: skip
def test_dates(form):
    days = pd.date_range("2019-11-25", periods=60, freq="35h")
    column, x, notes = only(list(days.strftime(form)))
    assert (column.kind, notes) == ("date", [])
    assert {"x time", "x year", "x year sin", "x week cos"} <= set(column.inputs)
    assert ("x day sin" in column.inputs) == ("%H" in form or "%I" in form)
    np.testing.assert_allclose(np.diff(x[:, 0]), 35 / 24, atol=1)


def test_days_that_may_be_months_are_told():
    days = ["01/01/2020", "03/04/2020", "12/11/2021"]
    assert Encoder.fit(frame(x=days)).notes == [
        "column 'x': '03/04/2020' is read as %m/%d/%Y, though all fits %d/%m/%Y as well"
    ]
    assert Encoder.fit(frame(x=[*days, "13/01/2020"])).notes == []
    assert Encoder.fit(frame(x=["5 May 2020", "6 May 2020", ""])).notes == []


def test_clocks_are_dates_without_a_day():
    column, x, _ = only(["06:00", "12:30", "", "18:00"])
    assert column.inputs == ["x time", "x day sin", "x day cos", "x missing"]
    np.testing.assert_allclose(x[:, 1], [1, np.sin(np.pi * 25 / 24), np.sin(np.pi * 25 / 24), -1], atol=1e-12)


def test_a_missing_or_odd_date_gets_medians():
    cells = frame(x=[f"2020-01-{day:02}" for day in range(1, 30)] + [""])
    encoder = Encoder.fit(cells)
    x, notes = encoder.encode(frame(x=["2020-01-15", "", "soon"]))
    np.testing.assert_array_equal(x[0, :-1][:1], x[1, :-1][:1])
    assert x[:, -1].tolist() == [0, 1, 1]
    assert "'soon' are no dates" in notes[0]


def test_columns_of_no_use_are_dropped_and_told_why():
    many = 40
    encoder = Encoder.fit(
        frame(
            good=[str(number % 7) for number in range(many)],
            text=[f"some words {number}" for number in range(many)],
            constant=["a"] * many,
            empty=["", "NA"] * (many // 2),
            day=["2020-01-01", "2020-01-01 00:00"] * (many // 2),
        )
    )
    assert encoder.inputs == ["good"]
    assert {name: why.split()[0] for name, why in encoder.dropped.items()} == {
        "text": "nearly", "constant": "always", "empty": "empty", "day": "always",
    }  # fmt: skip


def test_nothing_left_is_one_sentence():
    with pytest.raises(TableError, match=r"no column to predict from is left: 'a' \(always the same\)"):
        Encoder.fit(frame(a=["1", "1"]))


def test_columns_are_found_by_name_and_all_must_be_there():
    cells = frame(a=["1", "2", "3"], b=["x", "y", "x"], c=["5", "6", "8"])
    encoder = Encoder.fit(cells)
    np.testing.assert_array_equal(encoder.encode(cells[["c", "b", "a"]])[0], encoder.encode(cells)[0])
    with pytest.raises(TableError, match="lacks 2 of the model's columns: 'b', 'c'"):
        encoder.encode(cells[["a"]])


CELLS = st.one_of(
    st.sampled_from(
        [
            "",
            "NA",
            "?",
            "-",
            "+",
            "none",
            "inf",
            "-inf",
            "nan",
            "True",
            "no",
            "1,5",
            "1.234",
            "$5",
            "1_0",
            "0x1",
            "1e999",
        ]
    ),
    st.integers().map(str),
    st.floats().map(repr),
    st.dates().map(str),
    st.datetimes().map(str),
    st.sampled_from(["a", "b", "c"]),
    st.text(st.characters(codec="utf-8"), max_size=8),
)
KINDS = [
    CELLS,
    *(
        st.sampled_from(["", *values])
        for values in (["1", "2.5"], ["a", "b"], ["2020-01-01", "1.1.2020"], ["yes", "no"])
    ),
]


@st.composite
def tables(draw):
    rows = draw(st.integers(1, 12))
    names = draw(st.lists(st.text(st.characters(codec="utf-8"), max_size=5), min_size=1, max_size=4, unique=True))
    cells = [draw(st.lists(draw(st.sampled_from(KINDS)), min_size=2 * rows, max_size=2 * rows)) for _ in names]
    both = pd.DataFrame(
        {name: pd.Series(column, dtype="str").str.strip() for name, column in zip(names, cells, strict=True)}
    )
    return both[:rows], both[rows:]


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(tables(), st.sampled_from([",", ";", "\t"]))
def test_any_table_becomes_finite_numbers_or_one_sentence(both, delimiter):
    old, new = both
    try:
        encoder = Encoder.fit(old, None, infer_decimal_marks(Table(old, (), delimiter))[0])
    except TableError:
        return
    again = Encoder.from_dict(json.loads(json.dumps(encoder.to_dict(), allow_nan=False)))
    assert again == encoder
    assert encoder.encode(old)[0].shape == (len(old), len(encoder.inputs))
    for cells in (old, new):
        try:
            x, _ = encoder.encode(cells)
        except TableError as error:
            assert cells is new and "cannot be read as" in str(error)  # noqa: PT017, PT018
            continue
        assert np.isfinite(x).all()
        np.testing.assert_array_equal(again.encode(cells)[0], x)


@pytest.mark.parametrize(
    "values", [["1", "2", "x", "999"], ["a", "b", "x", "999"] * 2, ["2020-01-01", "2021-02-03", "x", "999"]]
)
def test_chosen_words_are_missing_when_learning_and_when_encoding(values):
    encoder = Encoder.fit(frame(x=values), tokens=["x", "999"])
    again = Encoder.from_dict(json.loads(json.dumps(encoder.to_dict())))
    assert again == encoder
    assert encoder.columns[0].kind == {"1": "number", "a": "category", "2": "date"}[values[0][0]]
    for cells in (frame(x=["x", "999"]), frame(x=["", "X"])):
        x, notes = again.encode(cells)
        assert notes == ["column 'x' is empty here, and was not in the training rows: it carries no information"]
        assert (x == encoder.encode(frame(x=[""]))[0]).all()
    assert "999" not in str(encoder.inputs)
