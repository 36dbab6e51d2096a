"""Rows of fields as columns of text, by pyarrow, which is fast; where it finds a fault, what the fault is and in which line."""

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from .dialect import DELIMITERS, Dialect, fits, long_fields, reader, split_lines, split_rows
from .layout import Layout, find_end, show
from .sampling import Blocks, sample
from .table import TableError

CONTROL = r"[\x00-\x08\x0e-\x19\x1b-\x1f]"  # not \x1a, with which old programs end a text
TAIL = 2**16  # bytes in which the end of a table is looked for
MAX_BAD = 100_000  # rows of another width that are kept
MAX_BLOCK = 2**31 - 1  # bytes, of pyarrow


@dataclass(frozen=True)
class Rows:
    """The lines of a table below its header.

    Args:
        text: The lines, in UTF-8, with a single character between fields.
        line: The number of the first one in the file.
        dialect: How fields are divided.
        layout: How many there are in a row.
        mark: How a comment begins, if there are any.
    """

    text: bytes
    line: int
    dialect: Dialect
    layout: Layout
    mark: str = ""

    def read(self) -> tuple[list[pa.ChunkedArray], list[str]]:
        """The columns, and notes; raises TableError where a row has another number of fields or a quotation mark is missing."""
        body, behind = self._split_end()
        notes = [f"lines after the table, not read: {len(behind)} (such as {show(behind[0])})"] if behind else []
        table, bad = body._parse()
        if len(bad) > 1:
            table, bad = body._parse(threads=False)  # several threads find rows in any order
        if bad and not self.dialect.escape and b'\\"' in self.text:
            escaped = replace(body, dialect=replace(self.dialect, escape="\\"))
            other, still_bad = escaped._parse()
            if not still_bad:
                body, table, bad = escaped, other, []
        if bad:
            body = body._without_ends({row.text for row in bad})
            table, bad = body._parse()
        if bad:
            raise body._fault(bad[0])
        ranges = list(map(byte_range, table.columns))
        if min(ranges)[0] <= 10:
            body._check_quotes()
        return body._clean(table, ranges, notes)

    def sample(self, rest: Callable[[bytes], Blocks], max_bytes: int) -> tuple[list[pa.ChunkedArray], list[str]]:
        """A sample of the rows of this text and the blocks that follow it."""
        stream, bad = rest(self.text), list[Any]()
        try:
            batches = arrow_csv.open_csv(stream, **self._options(bad, 2**24))
            table, notes = sample(batches, max_bytes, batches.schema)
        except pa.ArrowInvalid as error:
            raise TableError(f": {error}") from error
        behind = [row for row in bad if row.text.encode() in stream.end]
        if len(behind) < len(bad):
            raise TableError(f", row {bad[0].number:,}: {self._count(bad[0].actual_columns)}")
        return self._clean(table, list(map(byte_range, table.columns)), notes)

    def _split_end(self) -> tuple["Rows", list[str]]:
        """The rows, and the lines behind the table."""
        start = self.text.find(b"\n", max(0, len(self.text) - TAIL)) + 1
        end = self.text[start:].decode() if start else ""
        kept, behind = find_end(end, self.dialect, self.layout)
        return (replace(self, text=self.text[: start + len(end[:kept].encode())]), behind) if behind else (self, [])

    def _options(self, bad: list[Any] | None, block: int, *, threads: bool = True) -> dict[str, Any]:
        names = [str(place) for place in range(self.layout.width)]

        def on_bad(row: Any) -> str:
            text = row.text.strip("\x1a \t\r\n")
            if bad is not None and text and not (self.mark and text.startswith(self.mark)) and len(bad) < MAX_BAD:
                bad.append(row)
            return "skip"

        quote, escape = self.dialect.quote, self.dialect.escape
        return {
            "read_options": arrow_csv.ReadOptions(column_names=names, block_size=block, use_threads=threads),
            "parse_options": arrow_csv.ParseOptions(
                delimiter=self.dialect.separator,
                quote_char=quote or False,
                escape_char=escape or False,
                newlines_in_values=bool(quote) and quote.encode() in self.text,
                invalid_row_handler=None if bad is None else on_bad,  # reading takes longer with one
            ),
            "convert_options": arrow_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.large_string())),
        }

    def _parse(self, *, threads: bool = True) -> tuple[pa.Table, list[Any]]:
        """The columns, and rows of another width."""
        if not re.search(rb"\S", self.text):
            return pa.table({str(place): pa.array([], pa.large_string()) for place in range(self.layout.width)}), []
        whole = min(len(self.text), MAX_BLOCK)
        for block, careful in ((2**20, False), (2**20, True), (whole, True)):  # a row must fit into a block
            bad: list[Any] = []
            options = self._options(bad if careful else None, min(block, whole), threads=threads)
            try:
                return arrow_csv.read_csv(pa.BufferReader(self.text), **options), bad
            except pa.ArrowInvalid as error:
                fault = error
        raise TableError(f": {fault}") from fault

    def _without_ends(self, texts: set[str]) -> "Rows":
        """The same without the delimiters at the end of these rows, if that makes them fit."""
        separator = self.dialect.separator

        def cut(row: str) -> str:
            fields = next((found.fields for found in split_rows(row, self.dialect, 1)), [])
            return row.rstrip(" \r\n")[: -(len(fields) - self.layout.width)] if fits(fields, self.layout.width) else row

        new = {text: cut(text) for text in texts if text.rstrip(" \r\n").endswith(separator)}
        lines = split_lines(self.text.decode()) if new else []
        ends = [line[len(line.rstrip("\r\n")) :] for line in lines]
        text = "".join(
            new.get(line.rstrip("\r\n"), line.rstrip("\r\n")) + end for line, end in zip(lines, ends, strict=True)
        )
        return replace(self, text=text.encode()) if new else self

    def _count(self, fields: int) -> str:
        name = DELIMITERS.get(self.dialect.delimiter, self.dialect.delimiter)
        return f"fields: {fields}, but the first row has {len(self.layout.names)} (delimiter: {name})"

    def _number(self, position: int) -> int:
        return self.line + self.text.count(b"\n", 0, position)

    def _fault(self, row: Any) -> TableError:
        place = re.search(rb"(?:\A|(?<=\n))" + re.escape(row.text.encode()) + rb"(?=\r?\n|\Z)", self.text)
        line = self._number(place.start()) if place else self.line
        if "\n" in row.text.strip():
            return TableError(f", line {line}: a cell goes over several lines; is a quotation mark missing?")
        return TableError(f", line {line}: {self._count(row.actual_columns)}")

    def _check_quotes(self) -> None:
        """Raises TableError if a quotation mark is missing, so that a cell holds other rows; pyarrow does not mind."""
        line = 0
        with long_fields():
            rows = reader(self.text.decode(), self.dialect, strict=True)
            try:
                for _ in rows:
                    line = rows.line_num
            except csv.Error as error:
                raise TableError(f", line {self.line + line}: {error}; is a quotation mark missing?") from error

    def _clean(
        self, table: pa.Table, ranges: list[tuple[int, int]], notes: list[str]
    ) -> tuple[list[pa.ChunkedArray], list[str]]:
        """The columns without comments and control characters, and notes; ranges: of the columns' bytes."""
        if self.mark:
            table = table.filter(pc.invert(pc.starts_with(table.column(0), self.mark)))
            ranges = list(map(byte_range, table.columns))
        columns, found, count = [], [], 0
        if len(self.layout.names) < self.layout.width and ranges[-1][1] > 32:
            raise TableError(f", some rows: {self._count(self.layout.width)}")
        for name, column, (low, _) in zip(self.layout.names, table.columns, ranges, strict=False):
            clean = column
            if low < 32:
                first = pc.index(pc.match_substring_regex(column, CONTROL), True).as_py()
                found += [(first, name)] * (first >= 0)
                count += pc.sum(pc.count_substring_regex(column, CONTROL)).as_py()
                clean = pc.replace_substring_regex(column, CONTROL, "")
            columns.append(clean)
        if found:
            notes = [
                *notes,
                f"control characters removed: {count:,}, the first in {self._control_line()}column {min(found)[1]!r}",
            ]
        return columns, notes

    def _control_line(self) -> str:
        found = re.finditer(CONTROL.encode(), self.text)
        first = next((match for match in found if match[0] != self.dialect.separator.encode()), None)
        return f"line {self._number(first.start()):,}, " if first else ""


def trim(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The texts without blanks around them."""
    low, high = byte_range(column)
    return pc.utf8_trim_whitespace(column) if low < 33 or high > 127 else column


def byte_range(column: pa.ChunkedArray) -> tuple[int, int]:
    """The smallest and largest byte of the texts: a look at all of them that costs little."""
    buffers = [np.frombuffer(data, np.uint8) for chunk in column.chunks if (data := chunk.buffers()[2])]
    filled = [data for data in buffers if data.size]
    return min((data.min() for data in filled), default=255), max((data.max() for data in filled), default=0)
