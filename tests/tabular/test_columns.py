"""What each kind of column becomes, and what a new table of other notations becomes."""

import json

import numpy as np
import pandas as pd
import pytest

from hannet.tabular.encoders import Encoder
from hannet.tabular.numbers import infer_decimal_marks
from hannet.tabular.readers import Table, TableError
from tabular_toy import texts


def fit(values, name="x", kinds=None):
    cells = pd.DataFrame({name: texts(values)})
    return Encoder.fit(cells, None, infer_decimal_marks(Table(cells))[0], kinds=kinds)


def encode(encoder, values, name="x"):
    return encoder.encode(pd.DataFrame({name: texts(values)}))


DAYS = pd.date_range("2019-11-25", periods=60, freq="5D")


@pytest.mark.parametrize(
    "form", ["%d.%m.%Y", "%m/%d/%Y", "%d %B %Y", "%Y-%m-%dT00:00:00Z", "%a, %d %b %Y", "%y-%m-%d", "%Y%m%d", "%d.%m.%y"]
)
def test_dates_in_another_format_give_the_same_matrix(form):
    encoder = fit(DAYS.strftime("%Y-%m-%d"))
    expected, notes = encode(encoder, DAYS.strftime("%Y-%m-%d"))
    assert notes == []
    x, notes = encode(encoder, DAYS.strftime(form))
    np.testing.assert_array_equal(x, expected)
    assert all("dates are read as" in note for note in notes)


def test_seconds_since_1970_give_the_same_matrix():
    encoder = fit(DAYS.strftime("%Y-%m-%d"))
    seconds = [int(day.timestamp()) for day in DAYS]
    np.testing.assert_array_equal(encode(encoder, seconds)[0], encode(encoder, DAYS.strftime("%Y-%m-%d"))[0])


def test_the_order_learned_stands_where_a_new_table_leaves_a_choice():
    encoder = fit(["25/12/2020", "13/02/2021", "05/06/2021"])
    x, notes = encode(encoder, ["03/04/2021"])
    assert (x == encode(encoder, ["2021-04-03"])[0]).all()
    assert notes == []
    x, _ = encode(encoder, ["3-4-2021 00:00"])
    assert (x == encode(encoder, ["2021-04-03"])[0]).all()


def test_months_after_the_last_one_are_later_and_told():
    months = [f"{month} {year}" for year in range(2015, 2020) for month in ("Jan", "Apr", "Jul", "Okt")]
    encoder = fit(months)
    x, notes = encode(encoder, ["Jan 2019", "Jan 2021", "Jan 2022"])
    assert (np.diff(x[:, 0]) > 300).all()
    assert notes == ["column 'x': 2 of 3 dates lie after 2019-10-01, the last one trained on"]


@pytest.mark.parametrize(
    ("ends", "days"),
    [
        ("9999-12-31", DAYS.strftime("%Y-%m-%d")),
        ("0001-01-01", DAYS.strftime("%Y-%m-%d")),
        ("1900-01-01 00:00:00", DAYS.strftime("%Y-%m-%d %H:%M:%S")),
        ("31.12.9999", DAYS.strftime("%d.%m.%Y")),
        ("12/31/2999", DAYS.strftime("%m/%d/%Y")),
        ("1970-01-01", DAYS.strftime("%Y-%m-%d")),
    ],
)
def test_open_ends_are_no_dates_where_the_others_lie_together(ends, days):
    encoder = fit([ends, *days, ends])
    assert f"{ends!r} (2) far from all other dates is read as no date" in encoder.notes[-1]
    x, _ = encode(encoder, [ends, days[3]])
    assert x[:, -1].tolist() == [1, 0]
    assert x[0, 0] == pytest.approx(np.median(encode(encoder, days)[0][:, 0]))


def test_the_same_days_are_dates_among_others_like_them():
    births = [f"{year}-01-01" for year in range(1890, 1990, 5)]
    encoder = fit(births)
    assert "x missing" not in encoder.inputs
    assert encoder.notes == []


def test_years_of_two_digits_are_told_and_kept():
    encoder = fit([f"12.05.{50 + number % 50}" for number in range(100)], "born")
    assert "years of two digits are read as 1950 to 1999" in encoder.notes[-1]
    again = Encoder.from_dict(json.loads(json.dumps(encoder.to_dict())))
    assert again == encoder
    for year in ("55", "1955"):
        x, _ = encode(again, [f"12.05.{year}"], "born")
        assert x[0, 1] == 1955


def test_what_looks_like_dates_in_no_known_format_is_told():
    encoder = Encoder.fit(pd.DataFrame({"x": texts([f"May {n % 9}" for n in range(40)]), "y": texts(range(40))}))
    assert encoder.notes == [
        "column 'x': values such as 'May 0' look like dates, but in no known format, and are not read as such"
    ]


@pytest.mark.parametrize(
    ("values", "new", "kind"),
    [
        (range(40), ["a", "b", "3"], "numbers"),
        (DAYS.strftime("%Y-%m-%d"), ["a", "b", "2020-01-05"], "dates"),
        (["yes", "no"] * 9, ["oui", "non", "no"], "numbers"),
    ],
)
def test_a_column_of_which_most_cells_cannot_be_read_is_refused(values, new, kind):
    encoder = fit(values)
    with pytest.raises(
        TableError, match=f"column 'x' cannot be read as {kind}, which the model was trained on: 2 of 3 .* such as"
    ):
        encode(encoder, new)
    assert len(encode(encoder, new[1:])[0]) == 2  # half
    assert len(encode(encoder, ["", "NA", *new[1:]])[0]) == 4


@pytest.mark.parametrize("values", [range(40), DAYS.strftime("%Y-%m-%d"), ["a", "b"] * 9])
def test_a_column_that_is_empty_only_in_a_new_table_is_told(values):
    for new in (["", ""], ["NA", "-"]):
        assert encode(fit(values), new)[1] == [
            "column 'x' is empty here, and was not in the training rows: it carries no information"
        ]


def test_a_level_written_as_7_and_as_7_0_is_one():
    encoder = fit(["7", "7.0", "a", "b,0"] * 5)
    assert encoder.inputs == ["x = 7", "x = a", "x = b,0"]
    x, notes = encode(encoder, ["7.00", "7,0", "7", "7.5", "70", "7,000"])
    assert x[:, 0].tolist() == [1, 1, 1, 0, 0, 0]
    assert len(notes) == 1


def test_a_level_of_an_older_model_is_found_in_either_notation():
    state = {"kind": "category", "name": "x", "levels": ["7.0", "a"], "counts": {}}
    encoder = Encoder.from_dict({"columns": [state], "dropped": {}})
    assert encode(encoder, ["7.0", "7", "a"])[0][:, 0].tolist() == [1, 1, 0]


def test_models_without_the_newer_fields_encode_as_they_did():
    number = {"kind": "number", "name": "x", "fill": 2.0, "indicator": True, "decimal": ".", "signs": [""]}
    fills = {"time": 100.0, "year": 2010.0}
    date = {"kind": "date", "name": "x", "form": "%m/%d/%y", "fills": fills, "indicator": True}
    encoder = Encoder.from_dict({"columns": [number], "dropped": {}})
    assert encode(encoder, ["1", "oops", "", "3"])[0].tolist() == [[1, 0], [2, 1], [2, 1], [3, 0]]
    encoder = Encoder.from_dict({"columns": [date], "dropped": {}})
    assert encode(encoder, ["01/02/55", "oops", ""])[0][:, 1:].tolist() == [[2055, 0], [2010, 1], [2010, 1]]


APPLES = [f"{number} apples" if number % 3 else "none of it" for number in range(30)]


def test_a_kind_can_be_chosen():
    codes = [str(number % 30) for number in range(90)]
    assert fit(codes).columns[0].kind == "number"
    assert fit(codes, kinds={"x": "category"}).columns[0].kind == "category"
    assert fit(codes, kinds={"x": "text"}).columns[0].kind == "text"
    assert fit(APPLES, kinds={"x": "number"}).columns[0].kind == "number"
    seconds = fit([1_600_000_000 + 86_400 * number for number in range(30)], kinds={"x": "date"})
    assert seconds.columns[0].form == "seconds since 1970"
    assert fit([f"id {number // 2}" for number in range(40)], kinds={"x": "category"}).columns[0].kind == "category"


NUMBERS = np.random.default_rng(0).permutation(240) + 1
MONTHS = pd.period_range("2004-01", periods=240, freq="M")
HOURS = pd.date_range("2021-07-01", periods=240, freq="7h")
MEANING = {  # cells, and a number that they tell
    "utc": (HOURS.strftime("%Y-%m-%d %H:%M:%S UTC"), HOURS.hour),
    "offset": (HOURS.strftime("%Y-%m-%dT%H:%M:%S+00:00"), HOURS.hour),
    "zone by name": (HOURS.strftime("%d.%m.%Y %H:%M CET"), (HOURS.hour - 1) % 24),
    "am and pm": (HOURS.strftime("%Y-%m-%d %I:%M %p"), HOURS.hour),
    "a.m. and p.m.": (HOURS.strftime("%m/%d/%Y %I:%M ") + np.where(HOURS.hour < 12, "a.m.", "p.m."), HOURS.hour),
    "weekday in front": (HOURS.strftime("%a, %d %b %Y %H:%M"), HOURS.hour),
    "clock only": (HOURS.strftime("%I:%M %p"), HOURS.hour),
    "month and year": (MONTHS.strftime("%b-%Y"), MONTHS.year),
    "numbers of month and year": (MONTHS.strftime("%m/%Y"), MONTHS.year),
    "month and year with a point": (MONTHS.strftime("%m.%Y"), MONTHS.year),
    "quarters": ([f"{month.year}Q{month.quarter}" for month in MONTHS], MONTHS.year),
    "quarters in front": ([f"Q{month.quarter} {month.year}" for month in MONTHS], MONTHS.year),
    "weeks": ([f"{2004 + n // 52}-W{1 + n % 52:02d}" for n in range(240)], [2004 + n // 52 for n in range(240)]),
    "German": (
        [f"{1 + n % 28}. {['Januar', 'März', 'Mai', 'Dezember'][n % 4]} {1990 + n % 30}" for n in NUMBERS],
        1990 + NUMBERS % 30,
    ),
    "French": (
        [f"{1 + n % 28} {['janv.', 'févr.', 'août', 'déc.'][n % 4]} {1990 + n % 30}" for n in NUMBERS],
        1990 + NUMBERS % 30,
    ),
    "birth years": ([f"12/05/{50 + n % 50:02d}" for n in NUMBERS], NUMBERS % 50),
    "groups of two": ([f"₹{n:d},23,456" for n in NUMBERS % 90 + 1], NUMBERS % 90),
    "accountants": ([f"({n}.50)" if n % 3 else f"{n}.50" for n in NUMBERS], np.where(NUMBERS % 3, -NUMBERS, NUMBERS)),
    "trailing minus": ([f"{n}-" if n % 3 else f"{n}" for n in NUMBERS], np.where(NUMBERS % 3, -NUMBERS, NUMBERS)),
    "units": ([f"{n} bhp" for n in NUMBERS], NUMBERS),
    "two units": ([f"{n} kg" if n % 2 else f"{n * 1000} g" for n in NUMBERS], NUMBERS),
    "suffixes": ([f"{n / 1000}M" if n % 2 else f"{n}k" for n in NUMBERS], NUMBERS),
    "millions in German": ([f"{n},5 Mio. €" for n in NUMBERS], NUMBERS),
    "apostrophes": ([f"CHF {n}'500.00" for n in NUMBERS], NUMBERS),
    "percent": ([f"{n} %" for n in NUMBERS], NUMBERS),
}


@pytest.mark.parametrize("case", MEANING)
def test_what_a_notation_means_is_a_line_in_the_matrix(case):
    cells, y = MEANING[case]
    y = np.array(y, float)
    encoder = fit(cells)
    x = np.c_[encode(encoder, cells)[0], np.ones(240)]
    residual = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    assert 1 - residual.var() / np.var(y) > 0.97
    assert "x = " not in "".join(encoder.inputs)


def test_parts_of_dates_that_tell_nothing_are_left_out():
    assert fit([f"05.12.{1950 + n}" for n in range(50)]).inputs == [
        "x time",
        "x year",
    ]  # but for leap years and weekdays
    assert fit(MONTHS.strftime("%b %Y")).inputs == ["x time", "x year", "x year sin", "x year cos"]
    assert "x hour" in fit(HOURS.strftime("%Y-%m-%d %H:%M")).inputs


@pytest.mark.parametrize("kind", ["number", "date"])
def test_a_kind_that_a_column_cannot_be_is_one_sentence(kind):
    with pytest.raises(
        TableError,
        match=f"column 'x' cannot be read as {kind}s, as was asked for: 9 of 9 values are none, such as 'red'",
    ):
        fit(["red", "blue", "green"] * 3, kinds={"x": kind})
