"""Where in a text the table is: its header, and lines before and behind it."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from .dialect import MISSING, STAND_IN, Dialect, Row, fits, is_value, most_common_width, split_lines, split_rows
from .table import TableError, join_names

TOTALS = {
    "total", "totals", "sum", "subtotal", "average", "mean", "gesamt", "summe", "insgesamt", "mittelwert", "somme",
    "moyenne", "totale", "somma", "media", "suma", "promedio", "soma", "итого", "всего", "合計", "总计", "합계",
    "grand total",
}  # fmt: skip
MAX_BEFORE = 50  # lines before a table
MAX_BEHIND = 20
PHRASE = re.compile(r"\D+\s\S.*|.*:|[-=*]{3,}.*")  # words, or a line that rules


@dataclass(frozen=True)
class Wish:
    """What a person or a model says of a file.

    Args:
        header: Whether the first line of the table names the columns; None leaves it to the line.
        skip: Lines before it; None leaves it to the text.
        encoding: Its encoding; None leaves it to the text.
        columns: Names some of which a header holds, even a header of numbers.
        max_bytes: Of a larger text a sample of the rows is read; None reads all.
    """

    header: bool | None = None
    skip: int | None = None
    encoding: str | None = None
    columns: Collection[str] = ()
    max_bytes: int | None = None


@dataclass(frozen=True)
class Layout:
    """names: as they are in the file; line: where the rows begin, from 0; width: fields of a row; numeric: columns of values.

    If each row ends with a delimiter, it has one field more than there are names.
    """

    names: list[str]
    line: int
    width: int
    numeric: Sequence[bool] = ()
    notes: list[str] = field(default_factory=list)


def locate(text: str, dialect: Dialect, mark: str, wish: Wish) -> Layout:
    """Find the header and the first row; raises TableError if the first row may be no header.

    text: the first lines, as `unify` returned them; mark: with which the first line begins if it is a comment.
    """
    lines = split_lines(text)
    comments = [number for number, line in enumerate(lines) if mark and line.startswith(mark)]
    rows = [row for row in split_rows(text, dialect) if row.line not in comments]
    if not rows:
        raise TableError(" is empty")
    fields = most_common_width(rows)
    width = fields - _ends_with_delimiters(rows, fields)
    first = 0 if wish.skip is not None else _first_row(rows, width)
    before = [lines[row.line] for row in rows[:first]]
    notes = []
    if before:
        notes.append(
            f"lines before the table, not read: {len(before)} (such as {show(before[0])}); --skip sets how many"
        )
    above = [number for number in comments if number < rows[first].line]
    named = _comment_header(lines[above[-1]], mark, dialect, rows[first].fields, width, wish) if above else None
    if count := len(comments) - (named is not None):
        notes.append(f"comment lines, not read: {count:,} (such as {show(lines[comments[0]])})")
    layout = _name(rows[first:], width, named, wish, notes)
    return replace(layout, width=max(layout.width, fields)) if len(layout.names) == width else layout


def show(line: str) -> str:
    """The start of a line, for a message."""
    return repr(line.strip().replace(STAND_IN, " ")[:40])


def _ends_with_delimiters(rows: list[Row], width: int) -> bool:
    """Whether rows of this width, the usual one, end with delimiters, while the header has none at its end."""
    regular = [row.fields for row in rows if len(row.fields) == width]
    shorter = any(len(row.fields) == width - 1 for row in rows[:MAX_BEFORE])
    return shorter and width > 2 and not any(fields[-1].strip() for fields in regular)


def _first_row(rows: list[Row], width: int) -> int:
    """The row with which the table begins: the first that is long enough, or a later one that looks more like a header."""
    full = [fits(row.fields, width) and 2 * _filled(row) >= min(width, 3) for row in rows[:MAX_BEFORE]]
    named = len(rows[0].fields) == width - 1 == _filled(rows[0])  # R names rows, but not their column
    full[0] = full[0] or (named and _is_header(rows, width) and not _is_header(rows[1:], width))
    starts = [
        place
        for place, row in enumerate(rows[:MAX_BEFORE])
        if full[place] and (not place or row.after_gap or not full[place - 1])
    ]
    headers = [place for place in starts if _is_header(rows[place:], width)]
    first = next(iter(headers or starts), 0)
    names = rows[first].fields
    grouped = (
        first and len(set(names)) < len(names) and fits(rows[first - 1].fields, width) and _filled(rows[first - 1]) > 1
    )
    return first - 1 if grouped and not rows[first].after_gap else first


def _filled(row: Row) -> int:
    return sum(bool(cell.strip()) for cell in row.fields)


def _is_header(rows: list[Row], width: int) -> bool:
    """Whether the first row holds words, and one of them stands above numbers; a gap ends the table."""
    end = next((number for number, row in enumerate(rows[1:], 1) if row.after_gap), len(rows))
    names = [name.strip() for name in rows[0].fields[:width]]
    filled = [name for name in names if name]
    if len(filled) * 2 < width or any(map(is_value, filled)):
        return False
    numeric = numeric_columns(rows[1:end], width)
    return any(numeric[place] and name for place, name in enumerate(names))


def numeric_columns(rows: list[Row], width: int) -> list[bool]:
    """Whether nearly all cells of a column that are not missing are numbers or dates."""

    def is_numeric(place: int) -> bool:
        cells = [row.fields[place].strip() for row in rows if fits(row.fields, width)]
        present = [cell for cell in cells if cell.lower() not in MISSING]
        return bool(present) and sum(map(is_value, present)) >= 0.9 * len(present)

    return [is_numeric(place) for place in range(width)]


def _comment_header(
    line: str, mark: str, dialect: Dialect, first: list[str], width: int, wish: Wish
) -> list[str] | None:
    """The names in the last comment before a row of data, as some programs write them."""
    if wish.header is False or not any(is_value(cell.strip()) for cell in first):
        return None
    plain, raw = (split_rows(text, dialect) for text in (line.lstrip(mark + " " + dialect.separator), line))
    if raw and len(raw[0].fields) == width and raw[0].fields[0] in wish.columns:
        return raw[0].fields
    return plain[0].fields if plain and len(plain[0].fields) == width > 1 else None


def _name(rows: list[Row], width: int, named: list[str] | None, wish: Wish, notes: list[str]) -> Layout:
    """The names of the columns, from the first rows of the table."""
    first = [name.strip() for name in rows[0].fields]
    no_header = wish.header is False and first[0] != "c0"  # what we wrote of such a table has a header
    if named or no_header:
        names = named or [f"c{number}" for number in range(width)]
        return Layout(names, rows[0].line, width, numeric_columns(rows, width), notes)
    asked = wish.header is True or bool({*first} & {*wish.columns})
    if not asked and _are_numbers([name for name in first if name]):
        raise TableError(
            ": the first row holds only numbers; if it is no header, pass --header no: the columns are then c0, c1, ...; "
            "if it is one, --header yes"
        )
    names, body = _match_names(first, rows[1:], width, notes), rows[1:]
    for _ in range(2 * (not asked or len(set(names)) < len(names))):
        if _is_second_header(body, width):
            names = _join_headers(names, body[0], notes)
            body = body[1:]
    numeric = numeric_columns(body, width)
    suspects = [name for name, column in zip(names, numeric, strict=False) if column and is_value(name)]
    if suspects and not asked:
        notes.append(f"the first row is read as names, such as {suspects[0]!r}; if it is no header, --header no")
    return Layout(names, body[0].line if body else rows[0].line + 1, len(names), numeric, notes)


def _match_names(names: list[str], body: list[Row], width: int, notes: list[str]) -> list[str]:
    """A name for each column, if the header ends with delimiters or the rows have names."""
    if fits(names, width):
        return names[:width]
    labels = [row.fields[0] for row in body if len(row.fields) == width]
    if len(names) != width - 1 or len(set(labels)) < len(labels) or len(labels) < 2:
        return names  # the first row that is longer or shorter will be told
    notes.append(
        "the header has one name less than the rows have fields: their first one is taken for names of the rows"
    )
    return ["", *names]


def _is_second_header(body: list[Row], width: int) -> bool:
    """Whether words stand where all rows below have numbers, such as units."""
    if len(body) < 4 or not fits(body[0].fields, width):
        return False
    cells = [cell.strip() for cell in body[0].fields]
    numeric = [place for place, column in enumerate(numeric_columns(body[1:], width)) if column]
    words = {place: cells[place] for place in numeric if cells[place]}
    if any(is_value(word) or word.lower() in MISSING for word in words.values()):
        return False
    again = any(
        row.fields[place].strip() == word
        for row in body[1:]
        for place, word in words.items()
        if len(row.fields) > place
    )
    return (
        2 * len(words) >= len(numeric) and not again and (len(words) > 1 or any(w[0] in "([" for w in words.values()))
    )


def _join_headers(names: list[str], row: Row, notes: list[str]) -> list[str]:
    """The names of two lines in one, if those of the first alone do not tell all columns apart."""
    cells = [cell.strip() for cell in row.fields]
    shown = join_names([cell for cell in cells if cell], 4)
    if names.count("") <= 1 and len(set(names)) == len(names):
        notes.append(f"the line after the names is taken for units or explanations, and not read: {shown}")
        return names
    notes.append(f"the names of columns are made of two lines, the second one being {shown}")
    groups = [next((name for name in names[place::-1] if name), "") for place in range(len(names))]
    return [f"{group} {cell}".strip() for group, cell in zip(groups, cells, strict=False)]


def _are_numbers(texts: Sequence[str]) -> bool:
    try:
        return bool(list(map(float, texts)))
    except ValueError:
        return False


def find_end(text: str, dialect: Dialect, layout: Layout) -> tuple[int, list[str]]:
    """Where in the last lines of a table its rows end, and the lines behind: totals, sources, remarks.

    text: ends where the file does, and begins behind the first row.
    """
    lines = split_lines(text)
    end, behind = len(lines), list[str]()
    for number in range(len(lines) - 1, max(-1, len(lines) - 2 * MAX_BEHIND), -1):
        group = [line.strip("\r\n") for line in lines[number:] if line.strip("\x1a \t\r\n")]
        gap = number > 0 and not lines[number - 1].strip()
        if group and lines[number].strip() and all(_is_behind(line, dialect, layout, gap=gap) for line in group):
            end, behind = number, group
    return sum(map(len, lines[:end])) if behind else len(text), behind


def _is_behind(line: str, dialect: Dialect, layout: Layout, *, gap: bool) -> bool:
    """Whether a line at the end of a table is no row of it; gap: whether a blank line stands before."""
    rows = split_rows(line, dialect, 1)
    fields = [cell.strip() for row in rows for cell in row.fields]
    filled = [cell for cell in fields if cell]
    if not filled or layout.width < 2 or (dialect.quote and line.count(dialect.quote) % 2):
        return False
    total = filled[0].lower().strip(" :*") in TOTALS
    phrase = PHRASE.fullmatch(filled[0]) is not None
    if not fits(fields, layout.width):
        return total or (gap and not is_value(filled[0])) or (len(filled) == 1 and phrase)
    clash = any(
        numeric and cell.lower() not in MISSING and not is_value(cell)
        for numeric, cell in zip(layout.numeric, fields, strict=False)
    )
    return total or (gap and clash) or (phrase and len(filled) == 1 < layout.width - 1)
