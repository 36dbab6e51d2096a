"""A table from a file: CSV or Parquet, as text; and text as numbers, in the spelling that a column has."""

import codecs
import csv
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..data import DataError

MISSING = frozenset({"", "na", "n/a", "#n/a", "<na>", "nan", "nat", "null", "?", "-", "--"})
USUAL = ("default",)  # among chosen words, it stands for these
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "|"}
KNOWN = "a table is a .csv, .tsv or .parquet file, or one of the first two with .gz"
CONTROL = re.compile(r"[\x00-\x08\x0e-\x19\x1b-\x1f]")  # not \x1a, with which old programs end a text
TOLD = re.compile(r"\Asep=([,;\t|])\r?\n")  # Excel's own first line
STRANGE = 0.05  # this share of a column's values may be no numbers, or no dates: they are taken as missing
# Numbers for people: with a currency or percent sign, and marks between thousands.
SIGN = r"(?:[$€£%]|CHF|EUR|GBP|USD)"
GAP = "[ '\u2019\u00a0\u202f]"  # between thousands, or between number and sign
MINUS = "\N{MINUS SIGN}"


def _grammar(thousands: str, decimal: str) -> str:
    groups = "|".join(rf"[1-9]\d{{0,2}}(?:{mark}\d{{3}})+" for mark in (thousands, GAP))
    body = rf"(?:(?:\d+|{groups})(?:{decimal}\d*)?|{decimal}\d+)(?:[eE][+-]?\d+)?"
    return rf"[+{MINUS}-]?{SIGN}?{GAP}?[+{MINUS}-]?{body}{GAP}?{SIGN}?"


GRAMMAR = {".": _grammar(",", r"\."), ",": _grammar(r"\.", ",")}  # by the decimal mark


class TableError(DataError):
    """A table that cannot be read or learned from; the message is one sentence for the user."""


@dataclass(frozen=True)
class Table:
    """The cells of a file as text, column by column, and what its reader should know of how they were read.

    plain: columns that the file itself holds as numbers, so that their text has a decimal point.
    """

    cells: pd.DataFrame
    notes: tuple[str, ...] = ()
    delimiter: str = ","
    plain: frozenset[str] = frozenset()


def read(path: Path, *, header: bool = True) -> Table:
    """The table in a file; without a header its columns are c0, c1, ...  Raises TableError."""
    try:
        content = path.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise TableError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if not content.strip():
        raise TableError(f"{path} is empty")
    notes: tuple[str, ...] = ()
    delimiter, plain = ",", frozenset[str]()
    if content.startswith(b"PAR1"):
        names, columns, plain = _parquet(path, content)
    else:
        text, notes = _decode(path, content)
        del content  # a large table need not be held twice
        delimiter = _delimiter(text)
        names, rows = _rows(path, TOLD.sub("\n", text), delimiter, header=header)
        columns = [pd.Series(column, dtype="str").str.strip() for column in zip(*rows, strict=True)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise TableError(f"{path}: the column name {twice[0]!r} comes twice; every column needs its own")
    if not columns or not len(columns[0]):
        raise TableError(f"{path} has a header ({_listed(names)}) but no rows")
    return Table(pd.DataFrame(dict(zip(names, columns, strict=True))), notes, delimiter, plain)


def _listed(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _parquet(path: Path, content: bytes) -> tuple[list[str], list[pd.Series], frozenset[str]]:
    """Names, columns, and which hold numbers; their text reads back as the same number."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise TableError(f"{path}: to read Parquet files, pip install pyarrow; or save the table as CSV") from error
    try:
        table = parquet.ParquetFile(io.BytesIO(content)).read()
    except (pa.ArrowException, OSError) as error:
        raise TableError(f"{path} is a damaged Parquet file") from error
    columns = []
    for column in table.columns:
        try:
            texts = column.cast(pa.string()).to_pylist()
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid):  # lists, structs, bytes that are no text
            texts = [None if value is None else str(value) for value in column.to_pylist()]
        columns.append(pd.Series(["" if text is None else text for text in texts], dtype="str").str.strip())
    names = [name.strip() for name in table.column_names]
    numeric = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    kinds = zip(names, table.schema.types, strict=True)
    return names, columns, frozenset(name for name, kind in kinds if any(test(kind) for test in numeric))


def _decode(path: Path, content: bytes) -> tuple[str, tuple[str, ...]]:
    """The text, and a note if its encoding had to be guessed."""
    notes: tuple[str, ...] = ()
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")
        notes = (f"{path} is not UTF-8: read as Windows-1252, so check letters with accents",)
    if CONTROL.search(text):
        raise TableError(f"{path} is not text: {KNOWN} (save a spreadsheet as CSV)")
    return text, notes


def _delimiter(text: str) -> str:
    """The delimiter that cuts most of the first lines into as many fields, more than one, as the header has."""
    if told := TOLD.match(text):
        return told[1]

    def fit(delimiter: str) -> tuple[float, int]:
        try:
            rows = [row for row in csv.reader(text[:100_000].splitlines()[:30], delimiter=delimiter) if row]
        except csv.Error:
            return 0.0, 0
        width = len(rows[0]) if rows else 0
        return (width > 1) * sum(len(row) == width for row in rows) / max(len(rows), 1), width

    return max(DELIMITERS, key=fit)


def _rows(path: Path, text: str, delimiter: str, *, header: bool) -> tuple[list[str], list[list[str]]]:
    """Names and rows, each row as long as the header."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    rows: list[list[str]] = []
    try:
        for row in reader:
            if not row or (len(row) == 1 and not row[0].strip("\x1a \t")):
                continue  # a blank line
            width = len(rows[0]) if rows else len(row)
            while len(row) > width and not row[-1].strip():
                row.pop()  # some programs end each row with a delimiter
            if len(row) != width:
                raise TableError(
                    f"{path}, line {reader.line_num}: fields: {len(row)}, but the first row has {width} "
                    f"(delimiter: {DELIMITERS[delimiter]})"
                )
            rows.append(row)
    except csv.Error as error:
        raise TableError(f"{path}, line {reader.line_num}: {error}; is a quotation mark missing?") from error
    if not rows:
        raise TableError(f"{path} is empty")
    if not header and rows[0][0].strip() != "c0":  # what we wrote of such a table has a header
        return [f"c{number}" for number in range(len(rows[0]))], rows
    filled = [name for name in rows[0] if name.strip()]
    if filled and all(map(_is_number, filled)):
        raise TableError(
            f"{path}: the first row holds only numbers; if it is no header, pass --no-header: "
            "the columns are then c0, c1, ..."
        )
    return [name.strip() or f"column {number}" for number, name in enumerate(rows[0], 1)], rows[1:]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def missing_tokens(words: Collection[str]) -> frozenset[str]:
    """What a missing cell may hold, in lower case: nothing, or one of the words, where USUAL stands for MISSING."""
    return user_tokens(words) | (MISSING if _named(words).issuperset(USUAL) else {""})


def user_tokens(words: Collection[str]) -> frozenset[str]:
    """The words that a person named, in lower case."""
    return _named(words) - {*USUAL}


def _named(words: Collection[str]) -> frozenset[str]:
    return frozenset(word.lower() for word in words)


def missing(cells: pd.Series, words: Collection[str] = USUAL) -> np.ndarray:
    """Where a cell is empty or one of the words, in any case.

    Of MISSING "-" is a value where "+" is one too, and "NA" where all others are codes of two capitals.
    """
    found = cells.str.lower().isin(missing_tokens(words)).to_numpy(bool)
    named = _named(words)
    if named.issuperset(USUAL) and found.any():
        others = cells[~found]
        if "-" not in named and (others == "+").any():
            found = found & (cells != "-").to_numpy(bool)
        if "na" not in named and others.nunique() > 1 and others.str.fullmatch("[A-Z]{2}").all():
            found = found & (cells != "NA").to_numpy(bool)
    return found


def missing_numeric(cells: pd.Series, words: Collection[str] = USUAL) -> np.ndarray:
    """Missing, or by default "none" too: as a category that is a level, among numbers and dates it is not."""
    found = missing(cells, words)
    return found | (cells.str.lower() == "none").to_numpy(bool) if _named(words).issuperset(USUAL) else found


def told_missing(cells: pd.DataFrame, words: Collection[str], most: int = 5) -> list[str]:
    """A note on the words that are read as missing, how often and in which columns."""
    counts: Counter[str] = Counter()
    columns: dict[str, list[str]] = {}
    for name in cells:
        found = cells[name][missing(cells[name], words) & (cells[name] != "")].value_counts()
        counts.update(found.to_dict())
        for word in found.index:
            columns.setdefault(word, []).append(repr(name))
    named = [f"{word!r} ({count:,}, in {_listed(columns[word])})" for word, count in counts.most_common(most)]
    more = ", ..." if len(counts) > most else ""
    return [f"read as missing: {', '.join(named)}{more}; --missing names other words"] if named else []


def unmatched_missing_tokens(cells: pd.DataFrame, words: Collection[str]) -> list[str]:
    """A note on the words named that no cell holds: -999 is not found where the file has -999.0."""
    silent = [
        word
        for word in sorted(user_tokens(words))
        if not any((cells[name].str.lower() == word).any() for name in cells)
    ]
    return [f"--missing: no cell holds {_listed([repr(word) for word in silent])}"] if silent else []


def numbers(cells: pd.Series, decimal: str = ".") -> np.ndarray:
    """The cells as float64, read with this decimal mark; NaN where one is no number."""
    cells = cells.str.replace(MINUS, "-", regex=False)
    values = np.full(len(cells), np.nan)
    if decimal == ".":  # all that programs write, such as 1e3 and inf
        values = np.array(pd.to_numeric(cells, errors="coerce"), float)
    people = np.isnan(values) & cells.str.fullmatch(GRAMMAR[decimal]).to_numpy(bool)
    bare = cells[people].str.replace(f"{SIGN}|{GAP}", "", regex=True)
    bare = bare.str.replace("," if decimal == "." else ".", "", regex=False).str.replace(decimal, ".", regex=False)
    values[people] = pd.to_numeric(bare, errors="coerce")
    return values


def signs(cells: pd.Series) -> list[str]:
    """The currencies and percent signs beside numbers; "": a number without one."""
    signed = cells[cells.str.contains(SIGN)]
    found = set(signed.str.extract(f"({SIGN})", expand=False))
    return sorted(found | {""} if len(signed) < len(cells) else found)


def infer_decimal_marks(table: Table, words: Collection[str] = USUAL) -> tuple[dict[str, str], list[str]]:
    """The decimal mark of each column, chosen by all its cells, and notes where a person might read otherwise."""
    sure: dict[str, str] = {}
    either: dict[str, pd.Series] = {}  # such as 1.234
    for name in table.cells.columns.difference(list(table.plain), sort=False):
        cells = table.cells[name][~missing_numeric(table.cells[name], words)]
        point, comma = (cells.str.fullmatch(GRAMMAR[mark]) for mark in ".,")
        if max(point.sum(), comma.sum()) < max(1.0, (1 - STRANGE) * len(cells)):
            continue  # text
        if point.sum() == comma.sum():
            either[name] = cells[point & cells.str.contains("[.,]")]
        else:
            sure[name] = "," if comma.sum() > point.sum() else "."
    clear = set(sure.values())
    usual = "," if "," in clear or (table.delimiter == ";" and "." not in clear) else "."
    commas = [name for name, mark in sure.items() if mark == ","]
    notes = [f"numbers have decimal commas in {_listed(list(map(repr, commas)))}"] if commas else []
    # Nobody takes 1.234 for anything else where numbers have points.
    asked = {
        name: cells for name, cells in either.items() if cells.str.contains(",|[.]" if usual == "," else ",").any()
    }
    if asked:
        example = next(iter(asked.values()))[:1]
        notes.append(
            f"numbers such as {example.iloc[0]!r} can be read in two ways, here as {numbers(example, usual)[0]:.12g}, in "
            f"{_listed(list(map(repr, asked)))}"
        )
    return dict.fromkeys(table.cells, usual) | dict.fromkeys(table.plain, ".") | sure, notes
