"""Tables of results, as text and as Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """Rows of plain values. columns: heading and number format (or "") by key; a row may lack a key."""

    title: str
    columns: Mapping[str, tuple[str, str]]
    rows: Sequence[Mapping[str, Any]]
    notes: Sequence[str] = ()


def format_cells(table: Table) -> list[list[str]]:
    """The table's rows as text, "–" where a value is missing."""
    return [[_cell(row.get(key), form) for key, (_, form) in table.columns.items()] for row in table.rows]


def _cell(value: Any, form: str) -> str:
    if value is None:
        return "–"
    return form.format(value) if form else str(value)


def markdown(table: Table) -> str:
    """The table as GitHub shows it, its notes as a list below."""
    rule = ["---:" if form else "---" for _, form in table.columns.values()]
    lines = [[heading for heading, _ in table.columns.values()], rule, *format_cells(table)]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    notes = "\n".join(f"- {note}" for note in table.notes)
    return f"# {table.title}\n\n{body}\n\n{notes}\n"
