"""Results as a person reads them: tables beside the paper's numbers, pictures, machine-readable summaries."""

import io
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .base import Table
from .store import Record, write

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table as RichTable


def cells(table: Table) -> list[list[str]]:
    """The table's rows as text, "–" where a value is missing."""
    return [[_cell(row.get(key), form) for key, (_, form) in table.columns.items()] for row in table.rows]


def _cell(value: Any, form: str) -> str:
    if value is None:
        return "–"
    return form.format(value) if form else str(value)


def on_terminal(table: Table) -> "RichTable":
    """The table for `rich.print`; numbers to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable

    notes = "\n".join(table.notes)
    shown = RichTable(title=table.title, caption=notes, caption_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading, form in table.columns.values():
        # One word a line: with headings as narrow as their numbers, the table fits 80 columns.
        shown.add_column(heading.replace(" ", "\n"), justify="right" if form else "left", no_wrap=bool(form))
    for row in cells(table):
        shown.add_row(*row)
    return shown


def markdown(table: Table) -> str:
    """The table as GitHub shows it, its notes as a list below."""
    rule = ["---:" if form else "---" for _, form in table.columns.values()]
    lines = [[heading for heading, _ in table.columns.values()], rule, *cells(table)]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    notes = "\n".join(f"- {note}" for note in table.notes)
    return f"# {table.title}\n\n{body}\n\n{notes}\n"


def summary(table: Table, records: Mapping[str, Record]) -> dict[str, Any]:
    """The table's rows and the records behind them, ready for JSON."""
    return {
        "title": table.title,
        "rows": [dict(row) for row in table.rows],
        "notes": list(table.notes),
        "records": [{k: v for k, v in asdict(record).items() if k != "curves"} for record in records.values()],
    }


def save(stem: Path, table: Table, records: Mapping[str, Record], figure: "Figure") -> list[Path]:
    """Write STEM.md, .json, .png and .svg, each aside and then renamed. Returns their paths; raises StoreError."""
    contents = {
        ".md": markdown(table).encode(),
        ".json": (json.dumps(summary(table, records), indent=1, allow_nan=False) + "\n").encode(),
        ".png": image(figure, "png"),
        ".svg": image(figure, "svg"),
    }
    paths = [stem.with_name(stem.name + suffix) for suffix in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        write(path, content)
    return paths


def image(figure: "Figure", form: str) -> bytes:
    """The picture as a png or svg file; equal pictures are equal files."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "hannet"}):  # with no date either, equal results are equal files
        figure.savefig(buffer, format=form, dpi=150, metadata={"Date": None} if form == "svg" else None)
    return buffer.getvalue()
