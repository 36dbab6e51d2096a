"""A table from a file: text with separators, Parquet, JSON or a spreadsheet, as text."""

import io
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from .dialect import DELIMITERS
from .layout import Wish
from .sources import STDIN, open_source
from .table import Table, TableError, join_names

if TYPE_CHECKING:
    from .delimited import Columns

__all__ = ["DELIMITERS", "MAX_BYTES", "Table", "TableError", "join_names", "read"]

MAX_BYTES = 2**29  # of a larger table `hannet fit` reads a sample
SPREADSHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # .xlsx and .ods; .xls


def read(
    path: Path,
    *,
    header: bool | None = None,
    skip: int | None = None,
    encoding: str | None = None,
    columns: Collection[str] = (),
    target: str | None = None,
    max_bytes: int | None = None,
) -> Table:
    """Read a table from a file.

    Args:
        path: Text with separators, Parquet, JSON or a spreadsheet, compressed or not: the content decides, not the name. "-" is
            standard input.
        header: Whether the first line of the table names the columns, which else are c0, c1, ...; None: unless it holds only
            numbers, and none of them is in `columns` or the target.
        skip: Lines before the table. None: as many as do not look like it.
        encoding: Of text. None: found out.
        columns: Names of columns that the table should have.
        target: The name of one that must not come twice.
        max_bytes: Of a larger table a sample of the rows is read. None: all are.

    Returns:
        The cells as text, and how they were read.

    Raises:
        TableError: The file cannot be read, is no table, has no rows, or the target's name comes twice.
    """
    wish = Wish(header, skip, encoding, {*columns, *([target] if target else [])}, max_bytes)
    file = "standard input" if path == STDIN else str(path)
    try:
        with open_source(path) as stream:
            found = _read(stream, wish)
        names, notes = _unique_names(found.names, target)
    except TableError as error:
        raise TableError(f"{file}{error}") from error
    if not found.texts or not len(found.texts[0]):
        raise TableError(f"{file} has a header ({join_names(names)}) but no rows")
    cells = pd.DataFrame(
        {name: pd.Series(pd.array(text, dtype="str")) for name, text in zip(names, found.texts, strict=True)}
    )
    numeric = frozenset(names[place] for place in found.numeric)
    return Table(cells, (*found.notes, *notes), found.delimiter, numeric)


def _read(stream: io.BufferedReader, wish: Wish) -> "Columns":
    """The columns, without blanks around cells."""
    from . import delimited, typed_files
    from .rows import trim

    start = stream.peek(2**10)
    if start.startswith(b"PAR1"):
        found = typed_files.read_parquet(stream, wish)
    elif start.startswith(SPREADSHEETS):
        found = typed_files.read_workbook(stream, wish)
    elif typed_files.JSON.match(start):
        found = typed_files.read_json(stream, wish)
    else:
        found = delimited.read_text(stream, wish)
    return replace(found, texts=[trim(text) for text in found.texts])


def _unique_names(names: Sequence[str], target: str | None) -> tuple[list[str], list[str]]:
    """Names that differ, with numbers where the file has a name twice or none, and a note; raises TableError if it is the target's."""
    names = [name.strip() or f"column {place}" for place, name in enumerate(names, 1)]
    counts = Counter(names)
    if target and counts[target] > 1:
        raise TableError(f": the column name {target!r} comes {counts[target]} times; rename the one to predict")
    unique: dict[str, None] = {}
    for name in names:
        numbered = (f"{name} {number}" for number in count(2))
        unique[
            next(new for new in chain([name], numbered) if new not in unique and (new == name or new not in counts))
        ] = None
    renamed = [f"{new!r}" for new, name in zip(unique, names, strict=True) if new != name]
    return list(unique), [f"names that come twice got a number: {join_names(renamed)}"] if renamed else []
