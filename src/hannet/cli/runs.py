"""`hannet runs`: list, filter and export the records of experiments."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from .console import exit_with_error, stdout_console

DEFAULT = Path("hannet-results")


def runs(
    folders: Annotated[
        list[Path] | None, typer.Argument(help="Folders that hold records.  [default: all in hannet-results]")
    ] = None,
    where: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Only these; also with !=, <, <=, >, >=. Repeatable.")
    ] = None,
    sort: Annotated[str | None, typer.Option(metavar="KEY", help="Order by it; -KEY for the largest first.")] = None,
    columns: Annotated[
        str, typer.Option(metavar="KEY,...", help="What to show.  [default: what differs, and the metrics]")
    ] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="The first few only.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all columns as CSV; - prints them.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, all columns.")] = False,
) -> None:
    """List the records of experiments: filter, sort, write as CSV.

    Keys are such as seed, config.network.width, metrics.test_accuracy, or the end of one: width, test_accuracy.
    """
    from ..experiments import query
    from ..storage.files import write_atomic

    rows = _rows(folders or [])
    known = query.columns(rows)
    try:
        asked = (query.resolve_key(known, key.strip()) for key in columns.split(",") if key.strip())
        chosen = list(dict.fromkeys(asked))
        matching = query.select(rows, where or [], sort)
        rows = matching[:limit]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if csv:
        text = query.to_csv(rows, chosen or known)
        if str(csv) == "-":
            print(text, end="")
            return
        write_atomic(csv, text.encode())
        print(f"{len(rows)} runs. Saved: {csv}")
    elif as_json:
        print(json.dumps([{key: row[key] for key in chosen or row if key in row} for row in rows], allow_nan=False))
    else:
        _show(rows, chosen or query.informative_columns(matching), len(matching))


def _rows(folders: Sequence[Path]) -> list[dict[str, Any]]:
    from ..experiments import query
    from ..experiments.store import Store

    found = [store for folder in folders or [DEFAULT] for store in _stores(folder)]
    if not found:
        exit_with_error("there are no records in hannet-results; name the folders that have some", 1)
    rows = [
        {"folder": str(folder)} | query.flatten_record(record)
        for folder in found
        for record in Store(folder, write=False).records().values()
    ]
    if not rows:
        exit_with_error(f"{', '.join(map(str, found))}: no run has ended there yet", 1)
    return rows


def _stores(folder: Path) -> list[Path]:
    """The folder, or those in it, that hold records."""
    if (folder / "records.jsonl").is_file():
        return [folder]
    inside = sorted(path.parent for path in folder.glob("*/records.jsonl"))
    if not inside and folder != DEFAULT:
        raise typer.BadParameter(f"{folder} holds no records", param_hint="folders")
    return inside


def _show(rows: Sequence[dict[str, Any]], columns: Sequence[str], matching: int) -> None:
    """As many columns as the terminal has room for; in a file all, each row a line."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from ..experiments import query

    heads = {column: column.replace(".", ".\n").replace("_", "_\n") for column in columns}
    cells = {column: [_cell(row.get(column)) for row in rows] for column in columns}
    widths = {name: 3 + max(map(len, (*heads[name].split("\n"), *cells[name]))) for name in columns}
    room = stdout_console().width if sys.stdout.isatty() else sum(widths.values())
    shown = query.columns_that_fit(columns, widths, room)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in shown:
        table.add_column(heads[column], no_wrap=True)
    for line in zip(*(cells[column] for column in shown), strict=True):
        table.add_row(*line)
    Console(highlight=False, markup=False, width=max(room, 1)).print(table)
    print(f"{len(rows)} of {matching} runs" if len(rows) < matching else f"{matching} run{'s' * (matching != 1)}")
    if left := [column for column in columns if column not in shown]:
        print(f"No room for {query.truncate_list(left)}: a wider terminal, --columns or --csv - shows them.")


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) < 1e12 else f"{value:.4g}"
    return str(value)
