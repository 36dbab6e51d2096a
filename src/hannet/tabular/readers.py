"""A table from a file: CSV or Parquet, as text."""

import codecs
import csv
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..data import DataError

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "|"}
SUPPORTED = "a table is a .csv, .tsv or .parquet file, or one of the first two with .gz"
CONTROL = re.compile(r"[\x00-\x08\x0e-\x19\x1b-\x1f]")  # not \x1a, with which old programs end a text
EXCEL_HINT = re.compile(r"\Asep=([,;\t|])\r?\n")  # Excel's own first line


class TableError(DataError):
    """A table that cannot be read or learned from; the message is one sentence for the user."""


@dataclass(frozen=True)
class Table:
    """The cells of a file as text, column by column.

    Args:
        cells: Columns of strings; "" is an empty cell.
        notes: What a person should know of how the file was read.
        delimiter: Between the fields of a line.
        numeric: Columns that the file itself holds as numbers, so that their text has a decimal point.
    """

    cells: pd.DataFrame
    notes: tuple[str, ...] = ()
    delimiter: str = ","
    numeric: frozenset[str] = frozenset()


def read(path: Path, *, header: bool = True) -> Table:
    """Read a table from a file.

    Args:
        path: CSV, gzipped or not, or Parquet: the content decides, not the name.
        header: Whether the first line names the columns, which else are c0, c1, ...

    Returns:
        The cells as text, and how they were read.

    Raises:
        TableError: The file cannot be read, is no table, has no rows, or uses a name for two columns.
    """
    try:
        content = path.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise TableError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if not content.strip():
        raise TableError(f"{path} is empty")
    notes: tuple[str, ...] = ()
    delimiter, numeric = ",", frozenset[str]()
    if content.startswith(b"PAR1"):
        names, columns, numeric = _read_parquet(path, content)
    else:
        text, notes = _decode(path, content)
        del content  # a large table need not be held twice
        delimiter = _infer_delimiter(text)
        names, rows = _read_csv(path, EXCEL_HINT.sub("\n", text), delimiter, header=header)
        columns = [pd.Series(column, dtype="str").str.strip() for column in zip(*rows, strict=True)]
    if duplicates := [name for name, count in Counter(names).items() if count > 1]:
        raise TableError(f"{path}: the column name {duplicates[0]!r} comes twice; every column needs its own")
    if not columns or not len(columns[0]):
        raise TableError(f"{path} has a header ({join_names(names)}) but no rows")
    return Table(pd.DataFrame(dict(zip(names, columns, strict=True))), notes, delimiter, numeric)


def join_names(names: Sequence[str], limit: int = 6) -> str:
    """The first of the names, with commas between."""
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")


def _read_parquet(path: Path, content: bytes) -> tuple[list[str], list[pd.Series], frozenset[str]]:
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
    types = zip(names, table.schema.types, strict=True)
    return names, columns, frozenset(name for name, type_ in types if any(test(type_) for test in numeric))


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
        raise TableError(f"{path} is not text: {SUPPORTED} (save a spreadsheet as CSV)")
    return text, notes


def _infer_delimiter(text: str) -> str:
    """The delimiter that cuts most of the first lines into as many fields, more than one, as the header has."""
    if hint := EXCEL_HINT.match(text):
        return hint[1]

    def rate(delimiter: str) -> tuple[float, int]:
        try:
            rows = [row for row in csv.reader(text[:100_000].splitlines()[:30], delimiter=delimiter) if row]
        except csv.Error:
            return 0.0, 0
        width = len(rows[0]) if rows else 0
        return (width > 1) * sum(len(row) == width for row in rows) / max(len(rows), 1), width

    return max(DELIMITERS, key=rate)


def _read_csv(path: Path, text: str, delimiter: str, *, header: bool) -> tuple[list[str], list[list[str]]]:
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
    if _are_numbers([name for name in rows[0] if name.strip()]):
        raise TableError(
            f"{path}: the first row holds only numbers; if it is no header, pass --no-header: the columns are then c0, c1, ..."
        )
    return [name.strip() or f"column {number}" for number, name in enumerate(rows[0], 1)], rows[1:]


def _are_numbers(texts: Sequence[str]) -> bool:
    try:
        return bool(list(map(float, texts)))
    except ValueError:
        return False
