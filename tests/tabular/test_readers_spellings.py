"""The same small table as many programs and people write it."""

import bz2
import io
import json
import lzma
import zipfile

import pandas as pd
import pytest

from hannet.tabular import readers, sampling
from hannet.tabular.readers import TableError, read

ROWS = [(i % 7, f"w{i % 3}", i * 1.5) for i in range(24)]
NAMES = ("a", "b", "y")


@pytest.fixture
def table(tmp_path):
    def make(content, **options):
        path = tmp_path / "data"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read(path, **options)

    return make


def lines(separator=",", header=NAMES, cell=str, rows=ROWS):
    return "".join(separator.join(map(cell, row)) + "\n" for row in ([header] if header else []) + list(rows))


def zipped(**files):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return content.getvalue()


RECORDS = [dict(zip(NAMES, row, strict=True)) for row in ROWS]
SPELLINGS = {  # content, and the words of a note
    "colons": (lines(":"), ""),
    "double bars": (lines("||"), ""),
    "double colons": (lines("::"), ""),
    "single quotes": (lines(cell=lambda cell: f"'{cell}'"), ""),
    "blanks before quotes": (lines(", ", cell=lambda cell: f'"{cell}"'), ""),
    "runs of blanks": (lines("   ", cell=lambda cell: f'"{cell}"'), ""),
    "comments with a hash": ("# station 7\n# units: m\n" + lines(), "comment lines, not read: 2"),
    "comments with slashes, also within": (
        "// one\n" + lines(rows=[*ROWS[:9], ["// two"], *ROWS[9:]]),
        "comment lines",
    ),
    "comments with a percent sign": ("% made up\n" + lines(";"), "comment lines"),
    "lines before": ("Report of 2024\nprinted by me, and you\n\n" + lines(), "before the table, not read: 2"),
    "fields before": ("Source,made up\n\nUpdated,2024-01-01\n\n" + lines(), "before the table, not read: 2"),
    "a title padded with delimiters": ("Report,,\n,,\n" + lines(), "before the table"),
    "a total behind": (lines() + "Total,,300\n", "after the table, not read: 1 (such as 'Total,,300')"),
    "remarks behind": (lines() + "\nSource: made up\nAll, numbers\n", "after the table, not read: 2"),
    "units": (lines(rows=[("kg", "", "m"), *ROWS]), "units or explanations, and not read: kg, m"),
    "zip": (zipped(**{"t.csv": lines(), "__MACOSX/._t.csv": "x"}), ""),
    "bzip2": (bz2.compress(lines().encode()), ""),
    "xz": (lzma.compress(lines().encode()), ""),
    "JSON lines": ("\n".join(map(json.dumps, RECORDS)), ""),
    "a list of JSON": (json.dumps(RECORDS, indent=1), ""),
    "JSON in an object": (json.dumps({"status": "ok", "data": RECORDS}), ""),
    "UTF-16 without a mark": (lines().encode("utf-16-le"), "UTF-16-LE"),
    "UTF-32 without a mark": (lines().encode("utf-32-be"), "UTF-32-BE"),
    "a mixture of line ends": (lines().replace("\n", "\r\n", 5), ""),
    "delimiters at some rows' ends": (lines().replace(",w0,", ",w0,", 1).replace("1.5\n", "1.5,\n", 1), ""),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_one_table_in_many_spellings(table, spelling):
    content, note = SPELLINGS[spelling]
    found = table(content)
    assert list(found.cells) == list(NAMES)
    assert found.cells["b"].tolist() == [row[1] for row in ROWS]
    assert found.cells[["a", "y"]].astype(float).to_numpy().tolist() == [[row[0], row[2]] for row in ROWS]
    assert note in " ".join(found.notes)
    assert len(found.notes) == bool(note)


@pytest.mark.parametrize("name", ["xlsx", "ods"])
def test_spreadsheets(table, name):
    pytest.importorskip("python_calamine")
    frame = pd.DataFrame(RECORDS).assign(day=pd.Timestamp("2024-05-01"))
    content = io.BytesIO()
    try:
        with pd.ExcelWriter(content, engine={"xlsx": "openpyxl", "ods": "odf"}[name]) as writer:
            frame.to_excel(writer, sheet_name="first", index=False, startrow=2)
            frame.to_excel(writer, sheet_name="second")
    except ImportError:
        pytest.skip("no writer of this format")
    found = table(content.getvalue())
    assert found.cells["y"].astype(float).tolist() == [row[2] for row in ROWS]
    assert found.cells["a"].tolist() == [str(row[0]) for row in ROWS]
    assert set(found.cells["day"]) == {"2024-05-01"}
    assert found.numeric == {"a", "y"}
    assert "the sheet 'first'; not read: 'second'" in found.notes[0]


def test_columns_of_fixed_width_may_hold_blanks(table):
    people = [("Ann Lee", 31, "New York"), ("Bo", 4, "Rome"), ("C. D.", 44, "San Jose"), ("D", 55, "Oslo")]
    content = "".join(f"{name:<10} {age:>3} {town:<10}\n" for name, age, town in [("name", "age", "town"), *people])
    assert [tuple(row) for row in table(content).cells.to_numpy()] == [(n, str(a), t) for n, a, t in people]


def test_columns_that_outgrow_the_width_of_the_first_lines(table):
    found = table("name         i\n" + "".join(f"{f'w{i % 9}':<8}{i:>6}\n" for i in range(2_000)))
    assert found.cells.iloc[:, 1].tolist()[-3:] == ["1997", "1998", "1999"]
    towns = "".join(
        f"{town:<12}{number:>6}\n" for town, number in [("New York", 1), ("Rome", 22), ("Bad Aibling", 3)] * 900
    )
    with pytest.raises(TableError, match="has text across the edge of one"):
        table("town         count\n" + towns + "Oslo    1234567890\n")


def test_names_of_rows_as_r_writes_them(table):
    found = table('"mpg" "cyl"\n"Mazda RX4" 21 6\n"Datsun 710" 22 4\n')
    assert found.cells.to_dict("list") == {
        "column 1": ["Mazda RX4", "Datsun 710"],
        "mpg": ["21", "22"],
        "cyl": ["6", "4"],
    }


def test_names_in_two_lines(table):
    found = table("price,,size,\nmin,max,min,max\n" + "1,2,3,4\n" * 5)
    assert list(found.cells) == ["price min", "price max", "size min", "size max"]


def test_a_comment_may_hold_the_names(table):
    assert table("# a b y\n1 2 3\n4 5 6\n").cells.to_dict("list") == {"a": ["1", "4"], "b": ["2", "5"], "y": ["3", "6"]}
    assert list(table("#a,b\n1,2\n", columns=["#a"]).cells) == ["#a", "b"]


def test_backslashes_escape_quotes_where_doubling_fails(table):
    content = 't,k\n"2\\" seam, blue",1\n"plain",2\n'
    assert table(content).cells["t"][0] == '2" seam, blue'
    assert table('t,k\n"C:\\temp\\",1\n"D:\\",2\n').cells["t"].tolist() == ["C:\\temp\\", "D:\\"]


def test_a_header_of_numbers_is_read_if_the_target_or_the_user_says_so(table):
    content = "2001,2002\n1,2\n3,4\n"
    for options in ({"header": True}, {"target": "2002"}, {"columns": ["2001"]}):
        assert table(content, **options).cells["2002"].tolist() == ["2", "4"]
    with pytest.raises(TableError, match="--header yes"):
        table(content)


def test_a_name_that_comes_twice_gets_a_number(table):
    found = table("a,a,a 2,y\n1,2,3,4\n")
    assert list(found.cells) == ["a", "a 3", "a 2", "y"]
    assert "'a 3'" in found.notes[0]
    with pytest.raises(TableError, match="'a' comes 2 times"):
        table("a,a,y\n1,2,3\n", target="a")


def test_skip_sets_the_lines_before(table):
    content = "x,1\n" + lines(header=("a", "b"), rows=[(1, 2)])
    assert list(table(content, skip=1).cells) == ["a", "b"]
    assert list(table(content, skip=0).cells) == ["x", "1"]
    with pytest.raises(TableError, match="to be skipped"):
        table(content, skip=9)


def test_control_characters_are_removed_and_told(table):
    found = table("a,text\n1,ok\n2,o\x1fk\n3,\x00\n")
    assert found.cells["text"].tolist() == ["ok", "ok", ""]
    assert found.notes == ("control characters removed: 2, the first in line 3, column 'text'",)


def test_long_cells(table):
    found = table('a,b\n1,"' + "x\n" * 1_000_000 + '"\n2,y\n')
    assert [len(cell) for cell in found.cells["b"]] == [1_999_999, 1]


def test_an_archive_of_several_files_is_one_sentence(table):
    with pytest.raises(TableError, match=r"files in the archive: 2: 'a.csv', 'b.csv'"):
        table(zipped(**{"a.csv": lines(), "b.csv": lines()}))


def test_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines().encode())))
    assert len(read(readers.STDIN).cells) == len(ROWS)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    with pytest.raises(TableError, match="standard input is empty"):
        read(readers.STDIN)


ENCODINGS = {
    "cp1252": "name;price €\nKöln;1\nMünchen;2\n",
    "mac-roman": "nom;ville\nRené;Orléans\nHélène;Nîmes\nFrançois;Besançon\n",
    "cp1250": "jméno;město\nJiří;Plzeň\nTomáš;České Budějovice\n",
    "cp1251": "имя;город\nИван;Москва\nОльга;Казань\n",
    "cp932": "名前;都市\n田中;東京\n鈴木;大阪\n",
    "gb18030": "姓名;城市\n张伟;北京\n王芳;上海\n",
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encodings_are_found_out_or_named(table, encoding):
    content = ENCODINGS[encoding]
    rows = [line.split(";") for line in content.splitlines()]
    for options in ({}, {"encoding": encoding}):
        found = table(content.encode(encoding), **options)
        assert [list(found.cells), *found.cells.to_numpy().tolist()] == rows
        assert len(found.notes) == (not options)


def test_a_wrong_encoding_is_one_sentence(table):
    for encoding, part in {
        "nonsense": "no encoding 'nonsense'",
        "rot13": "no encoding",
        "utf-8": "not text in utf-8",
    }.items():
        with pytest.raises(TableError, match=part):
            table("a,b\n1,Zürich\n".encode("cp1252"), encoding=encoding)


def test_of_a_large_table_a_sample_is_read(table, monkeypatch):
    monkeypatch.setattr(sampling, "BLOCK", 1000)
    content = "i,k\n" + "".join(f"{i},{i % 4}\n" for i in range(20_000)) + "\nTotal\n"
    found = table(content, max_bytes=100_000)
    order = found.cells["i"].astype(int)
    assert order.is_monotonic_increasing
    assert 100 < len(order) < 10_000
    assert order.mean() == pytest.approx(10_000, rel=0.1)
    assert "of its 20,000 rows, drawn at random" in found.notes[0]
    assert len(table(content).cells) == 20_000


@pytest.mark.parametrize("kind", ["fixed width", "blanks"])
def test_a_sample_of_columns_without_separators_has_whole_rows(table, monkeypatch, kind):
    monkeypatch.setattr(sampling, "BLOCK", 997)
    form, name = ("{:<8}{:>6}\n", "w {}") if kind == "fixed width" else ("{}   {}\n", "w{}")
    rows = range(1_000, 7_000)
    content = form.format("name", "i") + "".join(form.format(name.format(i % 9), i) for i in rows)
    found = table(content, max_bytes=20_011)
    numbers = found.cells["i"].astype(int)
    assert 100 < len(numbers) < len(rows)
    assert numbers.is_monotonic_increasing
    assert numbers.is_unique
    assert found.cells["name"].tolist() == [name.format(i % 9) for i in numbers]


def test_some_rows_may_end_in_a_tab(table):
    assert table("a\tb\n1\t2\t\n3\t4\n5\t6\t\n").cells.to_dict("list") == {"a": ["1", "3", "5"], "b": ["2", "4", "6"]}
