import gzip

import numpy as np
import pandas as pd
import pytest

from hannet.tabular.parsing import (
    DEFAULT_MISSING,
    infer_decimal_marks,
    missing_mask,
    missing_numeric,
    missing_tokens_note,
    number_signs,
    parse_numbers,
)
from hannet.tabular.readers import TableError, read


@pytest.fixture
def table(tmp_path):
    """Reads a file of this content."""

    def make(content: str | bytes, name="data.csv", **options):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read(path, **options)

    return make


PLAIN = "a,b\n1,x\n2,y\n"
SPELLINGS = {
    "plain": PLAIN,
    "a semicolon": "a;b\n1;x\n2;y\n",
    "tabs": "a\tb\n1\tx\n2\ty\n",
    "bars": "a|b\n1|x\n2|y\n",
    "a byte order mark": b"\xef\xbb\xbf" + PLAIN.encode(),
    "UTF-16": PLAIN.encode("utf-16"),
    "Excel's word on the delimiter": "sep=;\r\na;b\r\n1;x\r\n2;y\r\n",
    "gzip": gzip.compress(PLAIN.encode()),
    "Windows lines": PLAIN.replace("\n", "\r\n"),
    "old Mac lines": PLAIN.replace("\n", "\r"),
    "blank lines": "\n\na,b\n\n1,x\n   \n2,y\n\n",
    "an end of file of DOS": PLAIN + "\x1a",
    "quotes": '"a","b"\n"1","x"\n"2","y"\n',
    "spaces": "a , b\n 1, x\n2 ,y\n",
    "a delimiter at each row's end": "a,b\n1,x,\n2,y,\n",
    "no line at the end": PLAIN.rstrip(),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_one_table_in_many_spellings(table, spelling):
    read = table(SPELLINGS[spelling])
    assert read.cells.to_dict("list") == {"a": ["1", "2"], "b": ["x", "y"]}
    assert read.notes == ()


def test_quoted_fields_hold_delimiters_quotes_and_lines(table):
    cells = table('a,b\n"1,5","say ""hi""\nthere"\n2,y\n').cells
    assert cells["b"][0] == 'say "hi"\nthere'
    assert cells["a"][0] == "1,5"


NAN = np.nan
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
def test_a_column_has_one_spelling_of_numbers(table, column):
    header, *cells = column
    content = [header, *(f'"{cell}"{header[1]}x' for cell in cells)]
    read = table("\n".join(content))
    mark, values = COLUMNS[column]
    assert read.cells["a"].tolist() == cells
    if not np.isnan(values).any():
        assert infer_decimal_marks(read)[0]["a"] == mark
    np.testing.assert_array_equal(parse_numbers(read.cells["a"], mark), values)


def test_the_clear_columns_of_a_file_decide_for_the_others(table):
    for clear, mark in {"1,5": ",", "1.5": "."}.items():
        marks, notes = infer_decimal_marks(table(f"a;b\n1.234;{clear}\n2.500;7\n"))
        assert marks == {"a": mark, "b": mark}
        assert [note.split("'")[1] for note in notes] == (["b", "1.234"] if mark == "," else [])
    assert infer_decimal_marks(table('a,b\n1.234,"1,5"\n'))[0]["a"] == ","
    assert "here as 1234, in 'a'" in infer_decimal_marks(table("a\tb\n1,234\tx\n"))[1][0]


def test_a_word_among_numbers_decides_nothing(table):
    assert infer_decimal_marks(table('a,b\n"1,5",2.5\nword,1\nother,7\n')) == ({"a": ".", "b": "."}, [])
    assert infer_decimal_marks(table('a,b\n"1,5",2.5\nnone,1\n,7\n'))[0] == {"a": ",", "b": "."}


def test_text_of_parquet_is_spelt_as_that_of_csv_but_not_its_numbers(tmp_path):
    frame = pd.DataFrame({"text": ["1,5", "2.000,0"], "float": [1.234, 2.345], "int": [1, 2]})
    frame.to_parquet(tmp_path / "t.parquet")
    assert infer_decimal_marks(read(tmp_path / "t.parquet"))[0] == {"text": ",", "float": ".", "int": "."}


def test_signs():
    assert number_signs(pd.Series(["$5", "6", "7 €"], dtype="str")) == ["", "$", "€"]
    assert number_signs(pd.Series(["5%", "6 %"], dtype="str")) == ["%"]


def test_without_a_header(table):
    assert list(table("c0,c1,prediction\n1,x,2\n", header=False).cells) == ["c0", "c1", "prediction"]
    assert table("1,x\n2,y\n", header=False).cells.to_dict("list") == {"c0": ["1", "2"], "c1": ["x", "y"]}


def test_a_nameless_column_gets_its_place_for_a_name(table):
    assert list(table(",b\n0,x\n").cells) == ["column 1", "b"]


def test_other_encodings_are_told(table):
    read = table("a,b\n1,Zürich\n".encode("cp1252"))
    assert read.cells["b"][0] == "Zürich"
    assert "not UTF-8" in read.notes[0]


FAULTS = {
    "an empty file": (b"", "is empty"),
    "only blanks": (b"\n  \n", "is empty"),
    "only an end of file": (b"\x1a\n", "is empty"),
    "only a header": ("a,b\n", "(a, b) but no rows"),
    "a name twice": ("a,b,a\n1,2,3\n", "'a' comes twice"),
    "a long row": ("a,b\n1,2\n\n1,2,3\n", "line 4: fields: 3, but the first row has 2 (delimiter: comma)"),
    "a short row": ("a,b\n1,2\n1\n", "line 3: fields: 1"),
    "an open quote": ('a,b\n1,"2\n3,4\n', "quotation mark"),
    "binary garbage": (bytes(range(256)) * 20, "is not text"),
    "a spreadsheet": (b"PK\x03\x04\x14\x00\x06\x00", "save a spreadsheet as CSV"),
    "broken gzip": (gzip.compress(PLAIN.encode())[:-9], "data.csv: "),
    "not really gzip": (b"\x1f\x8bnonsense", "data.csv: "),
    "broken Parquet": (b"PAR1 nonsense", "damaged Parquet"),
    "a first row of numbers": ("1,2\n3,4\n", "--no-header"),
    "a giant field": ("a,b\n" + "x" * 200_000 + ",1\n", "field limit"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_file_that_is_no_table_is_one_sentence(table, case):
    content, part = FAULTS[case]
    with pytest.raises(TableError) as fault:
        table(content)
    assert part in str(fault.value)
    assert "data.csv" in str(fault.value)
    assert "\n" not in str(fault.value)


def test_what_is_no_file_is_one_sentence(tmp_path):
    with pytest.raises(TableError, match="No such file"):
        read(tmp_path / "none.csv")
    with pytest.raises(TableError, match="directory"):
        read(tmp_path)


def test_parquet_reads_as_its_values(tmp_path):
    frame = pd.DataFrame(
        {
            "float": [0.1, np.nan, 1e-300],
            "int": [2**60, 1, 2],
            "bool": [True, None, False],
            "when": pd.to_datetime(["2020-01-02 03:04", None, "2021-01-01 00:00"]),
            "text": [" x", None, "ü"],
            "kind": pd.Categorical(["a", "b", None]),
            "list": [[1, 2], None, []],
            "bytes": [b"\xff", b"ok", None],
        }
    )
    frame.to_parquet(tmp_path / "t.parquet")
    cells = read(tmp_path / "t.parquet").cells
    np.testing.assert_array_equal(parse_numbers(cells["float"]), frame["float"])
    assert cells["int"][0] == str(2**60)
    assert cells["bool"].tolist() == ["true", "", "false"]
    assert cells["when"][0].startswith("2020-01-02 03:04")
    assert cells["text"].tolist() == ["x", "", "ü"]
    assert cells["kind"].tolist() == ["a", "b", ""]
    assert cells["list"].tolist() == ["[1, 2]", "", "[]"]


def test_parquet_without_pyarrow_is_one_sentence(table, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(TableError, match="pip install pyarrow"):
        table(b"PAR1")


def test_marks_of_missing_values():
    cells = pd.Series(["", "NA", "n/a", "null", "?", "-", "nan", "none", "0"], dtype="str")
    assert missing_mask(cells).tolist() == [True] * 7 + [False] * 2
    assert not missing_mask(pd.Series(["+", "-"], dtype="str")).any()


def test_numbers():
    cells = pd.Series(["1", "−2.5", "1e3", "inf", "abc", "", "0x10"], dtype="str")
    np.testing.assert_array_equal(parse_numbers(cells), [1, -2.5, 1000, np.inf, np.nan, np.nan, np.nan])


def test_na_is_a_value_among_codes_of_two_capitals():
    assert not missing_mask(pd.Series(["US", "NA", "DE"], dtype="str")).any()
    for others in (["US", "Germany"], ["US", "us"], ["US", "US"], ["1", "2"]):
        assert missing_mask(pd.Series(["NA", *others, "NA"], dtype="str")).tolist() == [True, False, False, True]


def test_words_for_a_missing_value_may_be_chosen():
    cells = pd.Series(["", "NA", "Unknown", "-999", "none"], dtype="str")
    assert missing_mask(cells, ["unknown", "-999"]).tolist() == [True, False, True, True, False]
    assert missing_mask(cells, ["default", "unknown"]).tolist() == [True, True, True, False, False]
    assert missing_numeric(cells, ["Default"]).tolist() == [True, True, False, False, True]
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
