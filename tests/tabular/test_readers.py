import gzip
import io
import zipfile

import numpy as np
import pandas as pd
import pytest

from hannet.tabular.numbers import parse_numbers
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


@pytest.mark.parametrize("lines", [1, 3, 40, 70_000])
def test_lines_within_a_cell_are_no_rows_wherever_a_block_of_the_reader_ends(table, lines):
    cell = "\n".join(f"{line},{line}" for line in range(lines))
    rows = max(2, 300_000 // lines)
    cells = table("a,b\n" + "".join(f'{row},"{cell}"\n' for row in range(rows))).cells
    assert cells["a"].tolist() == [str(row) for row in range(rows)]
    assert (cells["b"] == cell).all()


def test_without_a_header(table):
    assert list(table("c0,c1,prediction\n1,x,2\n", header=False).cells) == ["c0", "c1", "prediction"]
    assert table("1,x\n2,y\n", header=False).cells.to_dict("list") == {"c0": ["1", "2"], "c1": ["x", "y"]}


def test_a_nameless_column_gets_its_place_for_a_name(table):
    assert list(table(",b\n0,x\n").cells) == ["column 1", "b"]


def test_other_encodings_are_told(table):
    read = table("a,b\n1,Zürich\n".encode("cp1252"))
    assert read.cells["b"][0] == "Zürich"
    assert "not UTF-8" in read.notes[0]


def archive(name: bytes) -> bytes:
    """A zip file of one table, in which the table has a name of eight bytes that says it is UTF-8."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("täble.c", PLAIN)
    return packed.getvalue().replace("täble.c".encode(), name)


def parquet(columns: dict[str, list[str]]) -> bytes:
    """A file without compression."""
    content = io.BytesIO()
    pd.DataFrame(columns).to_parquet(content, compression=None)
    return content.getvalue()


FAULTS = {
    "an empty file": (b"", "is empty"),
    "only blanks": (b"\n  \n", "is empty"),
    "only an end of file": (b"\x1a\n", "is empty"),
    "only a header": ("a,b\n", "(a, b) but no rows"),
    "a long row": ("a,b\n1,2\n\n1,2,3\n", "line 4: fields: 3, but the first row has 2 (delimiter: comma)"),
    "a short row": ("a,b\n1,2\n1\n", "line 3: fields: 1"),
    "an open quote": ('a,b\n1,"2\n3,4\n', "quotation mark"),
    "binary garbage": (bytes(range(256)) * 20, "is not text"),
    "a spreadsheet": (b"PK\x03\x04\x14\x00\x06\x00", "not a zip file"),
    "broken gzip": (gzip.compress(PLAIN.encode())[:-9], "data.csv: "),
    "not really gzip": (b"\x1f\x8bnonsense", "data.csv: "),
    "broken Parquet": (b"PAR1 nonsense", "damaged Parquet"),
    "a first row of numbers": ("1,2\n3,4\n", "--header no"),
    "a web page": ("<!DOCTYPE html><html><body>404", "is a web page"),
    "a quote that closes rows later": ('a,b\n1,"2\n3,4\n5,"6"\n7,8\n', "line 2: "),
    "a row of an open quote": ('a,b\n1,2\n"3,4\n5,6\n', "line 3: "),
    "broken JSON": ('{"a": 1, "b": }\n', "damaged JSON"),
    "JSON without objects": ('{"a": 1}\n3\n', "no list of objects"),
    "UTF-8 that ends within a character": ("a,b\n1,ä\n2,ö".encode()[:-1], "is not text in utf-8"),
    "no UTF-8 behind its mark": (b"\xef\xbb\xbfa,b\n1,\xff\n", "is not text in utf-8"),
    "a tab that a cell of several lines ends with": (b"b\x1a'\nM\x1a*1\t4\n\"\t", "line 3: fields: 1"),
    "blank fields as the last line": ("p|q|r\n|\n" + "|5|\n\n\n" * 30, "line 2: fields: 2"),
    "an archive whose names are no text": (archive(name=b"\xfe" * 8), "is a damaged archive"),
    "Parquet with text that is no UTF-8": (parquet({"a": ["xq"] * 3}).replace(b"xq", b"x\xff"), "damaged Parquet"),
    "Parquet without rows": (parquet({"a": [], "b": []}), "(a, b) but no rows"),
    "a broken old spreadsheet": (b"\xd0\xcf\x11\xe0" + bytes(600), "damaged spreadsheet"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_file_that_is_no_table_is_one_sentence(table, case):
    content, part = FAULTS[case]
    with pytest.raises(TableError) as fault:
        table(content)
    assert part in str(fault.value)
    assert "data.csv" in str(fault.value)
    assert "\n" not in str(fault.value)


def test_a_file_in_an_archive_needs_no_name(table):
    assert table(archive(name=b"\0table.c")).cells["b"].tolist() == ["x", "y"]


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


def test_a_last_letter_beyond_ascii_is_no_beginning_of_utf8(table):
    """In UTF-8 the byte of an é begins a character of three."""
    found = table("a,b\n1,x\n2,café".encode("cp1252"))
    assert found.cells["b"].tolist() == ["x", "café"]
    assert "not UTF-8" in found.notes[0]


@pytest.mark.parametrize("nulls", [1, 5, 50])
def test_lists_within_lists_keep_their_places(table, nulls):
    """pyarrow loses those behind a null, or crashes."""
    inner = ", ".join(["null"] * nulls + ["[0]"])
    found = table(f'{{"a": [{inner}], "b": 1}}\n{{"a": null, "b": 2}}\n')
    assert found.cells["a"].tolist() == [f"[{inner}]", ""]
    assert found.cells["b"].tolist() == ["1", "2"]
    with pytest.raises(TableError, match="lists within lists"):
        table(f'{{"a": [{inner}], "b": 1}}\n' * 200, max_bytes=1000)


def test_other_bytes_far_behind_are_one_sentence(table):
    with pytest.raises(TableError, match=r"data\.csv is not text in utf-8"):
        table("a,b\n1,ä\n".encode() * 300 + b"1,\xff\n", max_bytes=1000)
    assert len(table("a,b\n" + "1,ä\n" * 300, max_bytes=1001).cells) > 50
