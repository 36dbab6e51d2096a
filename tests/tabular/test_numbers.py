"""Numbers in the notations of people."""

import numpy as np
import pandas as pd
import pytest

from hannet.tabular.encoders import Encoder
from hannet.tabular.numbers import beside_numbers, infer_decimal_marks, parse, parse_numbers
from hannet.tabular.readers import Table, TableError, read
from hannet.tabular.target import infer_target
from tabular_toy import texts

POINT = {
    "currency signs": {"₹1,23,456.50": 123456.5, "5 €": 5, "-$5": -5, "$-5": -5, "US$ 1,200": 1200, "₦7": 7, "₴ 7": 7, "¥１,２００": 1200},
    "currency codes": {"USD 5": 5, "5 SEK": 5, "XOF 1 000": 1000, "CHF 1'234.50": 1234.5, "5USD": 5, "usd 5": 5},
    "local currencies": {"Rs. 500": 500, "kr 5": 5, "5 Kč": 5, "zł 5": 5, "RM 7.50": 7.5},
    "groups": {"1,234,567": 1234567, "12,34,567.8": 1234567.8, "12 345 678": 12345678, "1'000’000": 1e6, "1\u202f234": 1234},
    "brackets": {"(1,234.50)": -1234.5, "($5)": -5, "$(5.00)": -5, "(5%)": -5, "( 5 )": -5},
    "minus and plus": {"5-": -5, "1,234.50-": -1234.5, "−5": -5, "–5": -5, "+5": 5, "10,000+": 10000},
    "percent": {"5%": 5, "5 %": 5, "5‰": 5, "5 pct": 5},
    "suffixes": {"1.5k": 1500, "2M": 2e6, "3B": 3e9, "3bn": 3e9, "2 mn": 2e6, "€3 Mio.": 3e6, "$1.2bn": 1.2e9, "5 lakh": 5e5},
    "units": {"12 kg": 12, "1,000 CC": 1000, "12.5 km/h": 12.5, "20 °C": 20, "5 m²": 5, "30 sq. ft": 30, "5″": 5, "3rd": 3},
    "programs": {"1e5": 1e5, "-1.5E-3": -1.5e-3, "inf": np.inf, ".5": 0.5, "5.": 5},
    "laboratories": {"<0.01": 0.01, "> 5": 5, "≤5": 5, "~5": 5, "approx. 5": 5},
}  # fmt: skip
COMMA = {
    "1.234,5": 1234.5,
    "1 234,5": 1234.5,
    "3,5 Mrd. €": 3.5e9,
    "1,5e3": 1500,
    "-1.234.567": -1234567,
    "(1,5)": -1.5,
    "R$ 1.234,50": 1234.5,
}
NONE = [
    "5 (kg)",
    "2021-03-05",
    "12:30",
    "1.2.3",
    "abc",
    "Q3",
    "5-10",
    "12 Main St 5",
    "(null)",
    "0x1",
    "1_0",
    "1,2,3",
    "1,2345",
    "5 3 kg",
    "v1.2",
    "(a) 5",
    "-",
    "+",
    "()",
]


@pytest.mark.parametrize("kind", POINT)
def test_numbers_with_a_decimal_point(kind):
    np.testing.assert_allclose(parse_numbers(texts(POINT[kind])), list(POINT[kind].values()))


def test_numbers_with_a_decimal_comma():
    np.testing.assert_allclose(parse_numbers(texts(COMMA), ","), list(COMMA.values()))


def test_what_is_no_number():
    for mark in ".,":
        assert np.isnan(parse_numbers(texts([text for text in NONE if mark == "." or text[1:2] != ","]), mark)).all()


def test_long_cells_are_no_numbers_and_take_no_time():
    assert np.isnan(parse_numbers(texts(["1 " * 100_000, "1" * 70 + "x", "(" * 50 + "1"]))).all()


def fit(values, **options):
    """An encoder of a column x, its values, and all notes."""
    cells = pd.DataFrame({"x": texts(values)})
    marks, notes = infer_decimal_marks(Table(cells))
    encoder = Encoder.fit(cells, None, marks, **options)
    x, more = encoder.encode(cells)
    return encoder, x[:, 0], [*notes, *encoder.notes, *more]


def test_one_unit_throughout_is_told():
    encoder, x, notes = fit([f"{n} kg" for n in range(30)])
    assert x.tolist() == list(range(30))
    assert notes == ["column 'x': numbers in kg"]
    assert encoder.encode(pd.DataFrame({"x": texts(["7", "500 g"])}))[0].tolist() == [[7.0], [0.5]]
    with pytest.raises(
        TableError, match=r"cannot be read as numbers, which the model was trained on in kg: 1 of 1 .* '5 miles'"
    ):
        encoder.encode(pd.DataFrame({"x": texts(["5 miles"])}))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1 kg", "500 g", "2 t"], [1, 0.5, 2000]),
        (["1 km", "500 m", "2 cm"], [1000, 500, 0.02]),
        (["2 h", "30 min", "5 s"], [7200, 1800, 5]),
        (["1.5 GB", "200 MB", "3 kB"], [1.5e9, 2e8, 3e3]),
        (["1st", "2nd", "3rd"], [1, 2, 3]),
        (["1.5m", "200k", "3"], [1.5e6, 2e5, 3]),
    ],
)
def test_units_that_convert_are_converted(values, expected):
    encoder, x, _ = fit(values)
    np.testing.assert_allclose(x, expected)
    np.testing.assert_allclose(encoder.encode(pd.DataFrame({"x": texts(values[:1])}))[0][0, 0], expected[0])


@pytest.mark.parametrize("values", [["5 kg", "6 stone"], ["5 kg", "500 g", "6"], ["5M", "6 W"], ["1A", "2B", "3C"]])
def test_units_that_do_not_convert_are_told_and_not_mixed(values):
    encoder, _, notes = fit(values * 10)
    assert encoder.columns[0].kind == "category"
    assert "cannot be compared, so they are no numbers here; --kind x=number takes them as they are" in notes[0]
    assert fit(values * 10, kinds={"x": "number"})[0].columns[0].kind == "number"


def test_addresses_are_no_numbers_and_no_note_speaks_of_units():
    encoder, _, notes = fit(
        [f"{n} {street}" for n in range(3) for street in ["Elm", "Oak", "Main", "Hill", "Lake", "Park", "Mill", "High"]]
        * 2
    )
    assert encoder.columns[0].kind == "category"
    assert notes == []


def test_a_column_of_plain_numbers_needs_no_other_notation():
    parsed = parse(texts(["1.5", "2", "-3e5"]))
    assert not parsed.scaled
    assert set(parsed.units) == set(parsed.signs) == {""}


def test_other_notations_of_the_same_numbers_give_the_same_matrix():
    encoder = fit(["$1,000", "$2,500.50", "$300", "($40)"])[0]
    for spelled in (
        ["1000", "2500.5", "-40"],
        ["1.000", "2.500,50", "-40"],
        ["USD 1k", "2500.5 USD", "40-"],
        ["€1'000", "€2'500.50", "€ −40"],
    ):
        assert encoder.encode(pd.DataFrame({"x": texts(spelled)}))[0].tolist() == [[1000], [2500.5], [-40]]


def test_a_target_may_have_units_suffixes_and_gaps():
    target, notes = infer_target(texts([f"{n / 10}k kg" for n in range(1, 40)] + ["unknown"] * 9), "y", None)
    assert target.classes == ()
    assert notes[-1] == "column 'y': numbers in kg"
    codes, known = target.codes(Table(pd.DataFrame({"y": texts(["1k kg", "500 g", "n.a."])})))
    assert codes[known].tolist() == [1000, 0.5]
    with pytest.raises(TableError, match="values are no numbers"):
        infer_target(texts([f"{n} {unit}" for n in range(40) for unit in ("kg", "stone")]), "y", "regression")


NAN = np.nan


def table_of(delimiter, **columns):
    return Table(pd.DataFrame({name: texts(values) for name, values in columns.items()}), (), delimiter)


COLUMNS = {  # the mark by which a column of this file is read, and its numbers
    ("a;b", "1,5", "1.234,25", "-7"): (",", [1.5, 1234.25, -7]),
    ("a;b", "1.5", "1.234", "2"): (".", [1.5, 1.234, 2]),
    ("a;b", "1.234", "2.500", "7.000"): (",", [1234, 2500, 7000]),
    ("a;b", "0.234", "2.500", "7.000"): (".", [0.234, 2.5, 7]),
    ("a,b", "$1,234.50", "$3", "-$2"): (".", [1234.5, 3, -2]),
    ("a,b", "1,5", "2,250", "3,75"): (",", [1.5, 2.25, 3.75]),
    ("a,b", "1,234", "12,345", "1"): (".", [1234, 12345, 1]),
    ("a,b", "1.234", "2.500", "inf"): (".", [1.234, 2.5, np.inf]),
    ("a\tb", "1,234", "12,345", "1,234,567"): (".", [1234, 12345, 1234567]),
    ("a|b", "1,234", "12,345", "1,234.5"): (".", [1234, 12345, 1234.5]),
    ("a\tb", "1,23", "12,345", "1,234"): (",", [1.23, 12.345, 1.234]),
    ("a;b", "1.234,50 €", "€ 3", "12 %"): (",", [1234.5, 3, 12]),
    ("a,b", "CHF 1'234.50", "12\u00a0000", "USD -3"): (".", [1234.5, 12000, -3]),
    ("a;b", "1 234,50 EUR", ",5", "12 500"): (",", [1234.5, 0.5, 12500]),
    ("a;b", "1,5E-03", "−2,5", "1.5"): (",", [0.0015, -2.5, NAN]),
    ("a,b", "079 123 45 67", "12 34", "1 2345"): (".", [NAN] * 3),
    ("a;b", "0,5", "abc, d", "2.5"): (",", [0.5, NAN, NAN]),
}


@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_has_one_spelling_of_numbers(column):
    header, *cells = column
    read = table_of(header[1], a=cells, b=["x"] * len(cells))
    mark, values = COLUMNS[column]
    if not np.isnan(values).any():
        assert infer_decimal_marks(read)[0]["a"] == mark
    np.testing.assert_array_equal(parse_numbers(read.cells["a"], mark), values)


def test_the_clear_columns_of_a_file_decide_for_the_others():
    for clear, mark in {"1,5": ",", "1.5": "."}.items():
        marks, notes = infer_decimal_marks(table_of(";", a=["1.234", "2.500"], b=[clear, "7"]))
        assert marks == {"a": mark, "b": mark}
        assert [note.split("'")[1] for note in notes] == ["b", "1.234"][mark == "." :]
    assert infer_decimal_marks(table_of(",", a=["1.234"], b=["1,5"]))[0]["a"] == ","
    assert "here as 1234, in 'a'" in infer_decimal_marks(table_of("\t", a=["1,234"], b=["x"]))[1][0]


BESIDE = {  # what stands beside numbers such as 1.167, and how they are read
    (";", "836", "1.167"): (1167, "here as 1167, in 'a'"),
    (",", "836", "1.167"): (1167, "here as 1167, in 'a'"),
    (",", "1167", "1.416", "3", "5", "8"): (1416, "here as 1416, in 'a'"),
    (",", "836", "1,167"): (1167, "here as 1167, in 'a'"),
    (",", "500", "800", "120.000 €", "59.222 €"): (120_000, "here as 120000, in 'a'"),
    (";", "3", "5", "1.234"): (1.234, "here as 1.234, in 'a'"),
    (",", "150", "152.250"): (152.25, "here as 152.25, in 'a'"),
    ("\t", "3", "5", "1,234"): (1234, "here as 1234, in 'a'"),
    (",", "1.234", "2.345"): (1.234, None),
}


@pytest.mark.parametrize("column", BESIDE)
def test_whole_numbers_beside_tell_thousands_from_decimals(column):
    delimiter, *cells = column
    read = table_of(delimiter, a=cells, b=["1.5"] * len(cells))
    marks, notes = infer_decimal_marks(read)
    number, note = BESIDE[column]
    values = parse_numbers(read.cells["a"], marks["a"])
    assert number in values
    assert [text for text in notes if "in two ways" in text] == [text for text in notes if note and note in text]
    assert bool(note) == bool(notes)


def test_thousands_that_one_column_shows_hold_for_the_others_of_the_file():
    marks, notes = infer_decimal_marks(table_of(";", a=["836", "1.167"], b=["1.0", "2.0"], c=["59.222 €", "68.212 €"]))
    assert marks == {"a": ",", "b": ".", "c": ","}
    assert notes == ["numbers such as '1.167' can be read in two ways, here as 1167, in 'a', 'c'"]


@pytest.mark.parametrize("cell", ["1.167", "9.285"])
def test_the_range_of_the_training_rows_decides_at_predict(cell):
    encoder = fit(["836", "1167", "5822", "2100"])[0]
    x, notes = encoder.encode(pd.DataFrame({"x": texts([cell])}))
    assert x.tolist() == [[float(cell.replace(".", ""))]]
    assert notes == [f"numbers such as '{cell}' can be read in two ways, here as {cell.replace('.', '')}, in 'x'"]
    assert encoder.encode(pd.DataFrame({"x": texts(["1,167"])}))[1] == []
    small = fit(["0.5", "1.25", "7.5"])[0]
    assert small.encode(pd.DataFrame({"x": texts([cell])}))[0].tolist() == [[float(cell)]]


def test_an_encoder_saved_before_has_no_range_and_reads_as_it_learned():
    state = fit(["836", "1167", "5822"])[0].to_dict()
    del state["columns"][0]["sizes"]
    encoder = Encoder.from_dict(state)
    assert encoder.encode(pd.DataFrame({"x": texts(["1.167"])}))[0].tolist() == [[1.167]]


def test_a_word_among_numbers_decides_nothing():
    assert infer_decimal_marks(table_of(",", a=["1,5", "word", "other"], b=["2.5", "1", "7"])) == (
        {"a": ".", "b": "."},
        [],
    )
    assert infer_decimal_marks(table_of(",", a=["1,5", "none", ""], b=["2.5", "1", "7"]))[0] == {"a": ",", "b": "."}


def test_signs():
    assert beside(["$5", "6", "7 €", "USD 8"]) == ["", "$", "USD", "€"]
    assert beside(["5%", "6 %"]) == ["%"]
    assert beside(["5 kg", "6"]) == ["", "kg"]


def beside(values):
    parsed = parse(texts(values))
    return beside_numbers(parsed, ~np.isnan(parsed.values), {})


def test_euros_are_euros_however_they_are_written():
    encoder = fit(["5 €", "6 EUR", "7 eur"])[0]
    assert encoder.encode(pd.DataFrame({"x": texts(["€ 3", "4 EUR"])}))[1] == []
    assert "differ (€, $)" in encoder.encode(pd.DataFrame({"x": texts(["$3"])}))[1][0]


def test_ordinals_are_no_units():
    encoder, *_, notes = fit(["1st", "2nd", "3rd", "4th"])
    assert notes == []
    x, notes = encoder.encode(pd.DataFrame({"x": texts(["3", "2nd"])}))
    assert x.tolist() == [[3], [2]]
    assert notes == []
    state = encoder.to_dict()
    state["columns"][0]["units"] = {"nd": 1.0, "rd": 1.0, "st": 1.0}  # as models before had it
    assert Encoder.from_dict(state).encode(pd.DataFrame({"x": texts(["3rd", "2"])}))[0].tolist() == [[3], [2]]


def test_a_unit_that_no_training_row_had_is_a_warning():
    table = pd.DataFrame({"a": texts(["80 m²", "90 m²"]), "b": texts(["8 m²", "9 m²"]), "c": texts(["1 kg", "2 kg"])})
    plain = pd.DataFrame({"a": texts(["836", "1167"]), "b": texts(["3", "4"]), "c": texts(["5 kg", "6 kg"])})
    encoder = Encoder.fit(plain)
    warning = "warning: columns 'a', 'b': numbers in m2 here, and without a unit in training; they count as they are"
    assert encoder.encode(table)[1] == [warning]
    assert encoder.encode(plain)[1] == []


def test_numbers_of_programs():
    cells = pd.Series(["1", "−2.5", "1e3", "inf", "abc", "", "0x10"], dtype="str")
    np.testing.assert_array_equal(parse_numbers(cells), [1, -2.5, 1000, np.inf, np.nan, np.nan, np.nan])


def test_text_of_parquet_is_spelt_as_that_of_csv_but_not_its_numbers(tmp_path):
    frame = pd.DataFrame({"text": ["1,5", "2.000,0"], "float": [1.234, 2.345], "int": [1, 2]})
    frame.to_parquet(tmp_path / "t.parquet")
    assert infer_decimal_marks(read(tmp_path / "t.parquet"))[0] == {"text": ",", "float": ".", "int": "."}
