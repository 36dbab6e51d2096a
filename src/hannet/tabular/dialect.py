"""How a text is divided into lines and fields: found by trying what is usual."""

import csv
import io
import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from .table import TableError

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "|", ":": "colon", " ": "blanks", "": "none"}
# Colons and blanks also stand within dates and texts.
PRIORS = {",": 1, ";": 1, "\t": 1, "|": 1, "||": 1.2, "::": 1.2, "~": 0.7, "^": 0.7, "\x01": 1, ":": 0.7, " ": 0.7}
STAND_IN = "\x1f"  # for delimiters that are no single character
COMMENTS = ("#", "%", "//")
MIN_SCORE = 0.05  # below, a table has one column
MAX_ROWS = 100  # to look at
NUMBER = re.compile(
    r"[(+−-]?\s?(?:[$€£¥₹]\s?)?[+−-]?(?!0\d)"
    r"(?:\d+(?:[.,]\d*)?|[1-9]\d{0,2}(?:[,.'’\s]\d{2,3})+(?:[.,]\d+)?|[.,]\d+)(?:[eE][+-]?\d+)?\s?[%€]?\)?"
)
TIME = re.compile(
    r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?:[T ]\d{1,2}:\d\d[\d:.]*(?: ?[A-Za-z+-][A-Za-z\d:]{0,5})?)?|\d{1,2}:\d\d(?::\d\d[\d.]*)?"
)
WORD = re.compile(r"(?=.*[^\W\d_])[^\t;|\n]*")
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?", "-", "--", ".", "missing"})


@dataclass(frozen=True)
class Dialect:
    """delimiter: " " is any number of blanks, "" none; widths: of the columns where they are fixed; quote, escape: "" is none."""

    delimiter: str
    quote: str = '"'
    escape: str = ""
    widths: tuple[int, ...] = ()

    @property
    def separator(self) -> str:
        """The single character between the fields of what `unify` returns."""
        return self.delimiter if len(self.delimiter) == 1 and self.delimiter != " " else STAND_IN


class Row(NamedTuple):
    """A row; line: where it begins, from 0; after_gap: whether a blank line stands before it."""

    line: int
    fields: list[str]
    after_gap: bool


def is_value(text: str) -> bool:
    """Whether a cell is a number, a date or a time."""
    return bool(NUMBER.fullmatch(text) or TIME.fullmatch(text))


@contextmanager
def long_fields() -> Iterator[None]:
    """The csv module reads fields of any length in this block."""
    limit = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def split_lines(text: str) -> list[str]:
    """The lines of a text with their ends, as `reader` counts them."""
    return list(io.StringIO(text, newline=""))


def reader(text: str, dialect: Dialect, *, strict: bool = False) -> Any:
    """The rows of a text that `unify` returned."""
    return csv.reader(
        io.StringIO(text, newline=""),
        delimiter=dialect.separator,
        quotechar=dialect.quote or None,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        escapechar=dialect.escape or None,
        skipinitialspace=True,
        strict=strict,
    )


def split_rows(text: str, dialect: Dialect, limit: int = MAX_ROWS) -> list[Row]:
    """The first rows of a text that are not blank."""
    rows: list[Row] = []
    line, gap = 0, False
    with long_fields():
        lines = reader(text, dialect)
        try:
            for fields in lines:
                blank = not any(field.strip("\x1a \t") for field in fields) and len(fields) < 2
                if not blank:
                    rows.append(Row(line, fields, gap))
                line, gap = lines.line_num, blank
                if len(rows) == limit:
                    break
        except csv.Error:  # not of this dialect
            return []
    return rows


def unify(content: bytes, dialect: Dialect) -> bytes:
    """The content with a single character between fields, and no blanks before quotes."""
    quote, separator = dialect.quote.encode(), dialect.separator.encode()
    if dialect.widths:
        return b"".join(_cut(line, dialect.widths) + b"\n" for line in content.decode().splitlines())
    if dialect.delimiter == " ":
        content = re.sub(rb"(?m)^[ \t]+|[ \t]+(?=\r?$)", b"", content)
        pattern, new = rb"[ \t]+", separator
    elif len(dialect.delimiter) > 1:
        pattern, new = re.escape(dialect.delimiter.encode()), separator
    elif quote and b" " + quote in content and re.search(rb"%b +%b" % (re.escape(separator), quote), content):
        pattern, new = rb"(?<=%b) +\Z" % re.escape(separator), b""
    else:
        return content
    parts = content.split(quote) if quote and content.count(quote) % 2 == 0 else [content]
    parts[::2] = [re.sub(pattern, new, part) for part in parts[::2]]
    return quote.join(parts)


def _cut(line: str, widths: tuple[int, ...]) -> bytes:
    """The cells of a line; raises TableError if one lies across the edge of a column, which the first lines showed."""
    ends = [sum(widths[:number]) for number in range(1, len(widths))]
    if any(line[end - 1 : end].strip() and line[end : end + 1].strip() for end in ends):
        raise TableError(
            f": columns of fixed width cannot be told apart: {line.strip()[:60]!r} has text across the edge of one"
        )
    cells = [line[start:end].strip() for start, end in zip([0, *ends], [*ends, None], strict=True)]
    return STAND_IN.join(cells).encode() if line.strip() else b""


def most_common_width(rows: list[Row]) -> int:
    """How many fields most rows have, without those of one field."""
    widths = Counter(len(row.fields) for row in rows if len(row.fields) > 1)
    return max(widths, key=widths.__getitem__, default=1)


def fits(fields: list[str], width: int) -> bool:
    """Whether a row has so many fields; some programs end each row with a delimiter."""
    return len(fields) >= width and not any(field.strip() for field in fields[width:])


def sniff(text: str) -> Dialect:
    """The dialect in which the first lines of a text make most sense as a table."""
    found = [Dialect(delimiter) for delimiter in PRIORS if delimiter in text or (delimiter == " " and "\t" in text)]
    found = [dialect for dialect in found if not _is_doubled(text, dialect.delimiter)]
    if re.search(r"(?m)(^|[,;|\t ])\s*'[^'\n]*'\s*([,;|\t ]|$)", text) and '"' not in text:
        found = [replace(dialect, quote="'") for dialect in found] + found  # of equal ones the first wins
    escape = find_escape(text.encode())
    found = [replace(dialect, escape=escape if dialect.quote == '"' else "") for dialect in found]
    scores = {dialect: _score(text, dialect) for dialect in found}
    best = max(scores, key=scores.__getitem__, default=Dialect(""))
    if scores.get(best, 0) < MIN_SCORE or _is_blank_prose(text, best):
        widths = _fixed_widths(text)
        if widths and all(len(line.split()) == len(widths) for line in text.splitlines() if line.strip()):
            return Dialect(" ")  # the same cells, wherever longer ones end
        return Dialect(STAND_IN if widths else "", '"' if not widths else "", escape if not widths else "", widths)
    return best


def find_escape(content: bytes) -> str:
    r"""The backslash if all of those before quotes escape them, rather than end a quoted path such as "C:\temp\"."""
    if b'\\"' not in content:
        return ""
    return "" if re.search(rb'\\"(?=\s*(?:[,;|\t]|\r?\n|$))', content) else "\\"


def _is_doubled(text: str, delimiter: str) -> bool:
    return len(delimiter) == 1 and delimiter in ":|" and text.count(2 * delimiter) * 2 == text.count(delimiter)


def _is_blank_prose(text: str, dialect: Dialect) -> bool:
    """Whether blanks stand within cells too, as lines have them in different numbers."""
    if dialect.delimiter != " ":
        return False
    rows = split_rows(unify(text.encode(), dialect).decode(), dialect)
    width = most_common_width(rows)
    return sum(len(row.fields) == width for row in rows) < 0.8 * len(rows) and bool(_fixed_widths(text))


def _fixed_widths(text: str) -> tuple[int, ...]:
    """The widths of columns with blanks between them in all lines; none if there is only one, or lines are few."""
    lines = [line.expandtabs() for line in text.splitlines() if line.strip()][:MAX_ROWS]
    if len(lines) < 5:  # in a few lines of prose, blanks meet by chance
        return ()
    length = max(map(len, lines))
    blank = [all(line[place : place + 1] in ("", " ") for line in lines) for place in range(length)]
    starts = [
        0,
        *(place for place in range(1, length) if blank[place - 1] and not blank[place] and not all(blank[:place])),
    ]
    ends = [*starts[1:], length]
    columns = [[is_value(line[start:end].strip()) for line in lines] for start, end in zip(starts, ends, strict=True)]
    if len(columns) < 2 or not any(2 * sum(column) > len(column) for column in columns):
        return ()
    return tuple(end - start for start, end in zip(starts, ends, strict=True))


def _score(text: str, dialect: Dialect) -> float:
    """How regular the rows are, how many columns they have, and how many cells look like values or words."""
    rows = split_rows(unify(text.encode(), dialect).decode(), dialect)
    width = most_common_width(rows)
    if width < 2:
        return 0.0
    regular = [row.fields[:width] for row in rows if fits(row.fields, width)]
    cells = [cell.strip() for fields in regular for cell in fields]
    values = sum(map(is_value, cells)) / len(cells)
    first = fits(rows[0].fields, width) or (len(rows[0].fields) == width - 1 and text.startswith('"'))  # R names rows
    if dialect.delimiter in (":", " ") and (
        not first or (dialect.delimiter == " " and values < 0.5 and '"' not in text)
    ):
        return 0.0
    kinds = sum(1 if is_value(cell) else _rate_text(cell) for cell in cells) / len(cells)
    shape = (width - 1) / width * len(regular) / len(rows)
    return PRIORS[dialect.delimiter] * shape * kinds * (1 if first else 0.6)


def _rate_text(cell: str) -> float:
    if not cell:
        return 0.6
    return (0.6 if "," in cell else 0.9) if WORD.fullmatch(cell) and "::" not in cell else 0.0
