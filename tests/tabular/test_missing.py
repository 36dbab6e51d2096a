"""Words for a missing value."""

import pandas as pd
import pytest

from hannet.tabular.encoders import Encoder
from hannet.tabular.missing import DEFAULT_MISSING, NUMERIC_TOKENS, missing_mask, missing_numeric, missing_tokens_note
from tabular_toy import texts

WORDS = (
    r"NULL|(null)|\N|n/a|#N/A|#REF!|#DIV/0!|#WERT!|None|Unknown|unknown?|not available|Not Applicable|missing|nil|.|..|…|-|--|---|–|"
    "k.A.|keine Angabe|s/o|s.o.|nd|n.d.|NR|tbd|?|??|*|undefined|inconnu|desconocido|sconosciuto|onbekend|0000-00-00|1.#QNAN"
)
DAYS = pd.date_range("2020-01-01", periods=60).strftime("%Y-%m-%d")


@pytest.mark.parametrize("rest", [[str(n * n) for n in range(60)], [f"${n},500" for n in range(1, 61)], list(DAYS)])
def test_words_of_databases_spreadsheets_and_offices_are_gaps_among_numbers_and_dates(rest):
    words = WORDS.split("|")
    cells = pd.DataFrame({"x": texts([*rest, *words])})
    encoder = Encoder.fit(cells)
    assert encoder.columns[0].kind in ("number", "date")
    assert encoder.columns[0].gaps == []
    x, notes = encoder.encode(cells)
    assert x[:, -1].tolist() == [0] * 60 + [1] * len(words)
    assert [note for note in notes if "no finite" in note or "no dates" in note] == []
    assert "'(null)' (1, in 'x')" not in missing_tokens_note(cells, ["default"])[0]
    assert any(f"{word!r} (1, in 'x')" in missing_tokens_note(cells, ["default"], ["x"])[0] for word in words)


def test_they_stay_levels_of_a_category():
    encoder = Encoder.fit(pd.DataFrame({"x": texts(["unknown", "mild", "none", "severe"] * 5)}))
    assert encoder.inputs == ["x = mild", "x = none", "x = severe", "x = unknown"]
    encoder = Encoder.fit(pd.DataFrame({"x": texts(["yes", "no", "unknown", "no"] * 5)}))
    assert encoder.inputs == ["x = no", "x = unknown", "x = yes"]


@pytest.mark.parametrize("rest", [[str(n * n) for n in range(60)], list(DAYS)])
def test_other_words_that_fill_gaps_are_told_with_the_flag_that_names_them(rest):
    cells = pd.DataFrame({"x": texts([*rest, *["Withheld"] * 40])})
    encoder = Encoder.fit(cells)
    assert encoder.columns[0].gaps == ["withheld"]
    assert "'Withheld' (40), taken as missing; --missing 'default,Withheld' says so" in encoder.notes[0]
    x, notes = encoder.encode(cells)
    assert x[:, -1].sum() == 40
    assert notes == []
    named = Encoder.fit(cells, tokens=["default", "withheld"])
    assert named.notes == []
    assert (named.encode(cells)[0] == x).all()


@pytest.mark.parametrize(
    "values",
    [["1", "2", "3", "b"] * 10, [*map(str, range(20)), *["sold"] * 30], [*map(str, range(30)), *"abcdef"]],
    ids=["few numbers", "more words than numbers", "many words"],
)
def test_words_beside_which_numbers_may_be_levels_are_no_gaps(values):
    assert "x missing" not in Encoder.fit(pd.DataFrame({"x": texts(values), "k": texts(range(len(values)))})).inputs


def test_the_words_are_in_lower_case_and_none_is_a_number():
    assert {word for word in NUMERIC_TOKENS if word != word.lower()} == set()
    assert r"\n" in NUMERIC_TOKENS


def test_marks_of_missing_values():
    cells = pd.Series(["", "NA", "n/a", "null", "?", "-", "nan", "none", "0"], dtype="str")
    assert missing_mask(cells).tolist() == [True] * 7 + [False] * 2
    assert not missing_mask(pd.Series(["+", "-"], dtype="str")).any()


def test_na_is_a_value_among_codes_of_two_capitals():
    assert not missing_mask(pd.Series(["US", "NA", "DE"], dtype="str")).any()
    for others in (["US", "Germany"], ["US", "us"], ["US", "US"], ["1", "2"]):
        assert missing_mask(pd.Series(["NA", *others, "NA"], dtype="str")).tolist() == [True, False, False, True]


def test_words_for_a_missing_value_may_be_chosen():
    cells = pd.Series(["", "NA", "Unknown", "-999", "none"], dtype="str")
    assert missing_mask(cells, ["unknown", "-999"]).tolist() == [True, False, True, True, False]
    assert missing_mask(cells, ["default", "unknown"]).tolist() == [True, True, True, False, False]
    assert missing_numeric(cells, ["Default"]).tolist() == [True, True, True, False, True]
    assert missing_numeric(cells, ["x"], ["-999"]).tolist() == [True, False, False, True, False]
    assert not missing_mask(pd.Series(["default", "+", "-"], dtype="str"), ["default"]).any()
    assert missing_mask(pd.Series(["US", "NA", "DE"], dtype="str"), ["default", "NA"]).tolist() == [False, True, False]
    assert missing_mask(cells, []).tolist() == [True, False, False, False, False]
    assert missing_mask(pd.Series(["US", "NA", "DE"], dtype="str"), ["na"]).tolist() == [False, True, False]


def test_words_read_as_missing_are_told():
    cells = pd.DataFrame({"a": ["?", "1", "?"], "b": ["?", "", "NA"], "c": ["x", "y", ""]}, dtype="str")
    assert missing_tokens_note(cells, DEFAULT_MISSING) == [
        "read as missing: '?' (3, in 'a', 'b'), 'NA' (1, in 'b'); --missing names other words"
    ]
    assert missing_tokens_note(cells, []) == []
