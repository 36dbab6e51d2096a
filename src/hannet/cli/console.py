"""What all commands share: errors in one sentence, and tables as wide as the terminal."""

import shlex
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from ..reporting.tables import Table, format_cells
from ..reporting.text import printable

if TYPE_CHECKING:
    from rich.table import Table as RichTable


def exit_with_error(message: str, code: int) -> NoReturn:
    """End the command with one sentence, on one line whatever names it holds."""
    print(printable(f"hannet: {message}").replace("\n", "\\n"), file=sys.stderr)
    sys.exit(code)


def command_line() -> str:
    """The command as it was given, for the reports that say how something was made."""
    return shlex.join(["hannet", *sys.argv[1:]])


def say(*lines: str, to_stderr: bool = False) -> None:
    """Print lines in which names of files, classes and columns cannot steer the terminal."""
    if lines:
        print(*map(printable, lines), sep="\n", file=sys.stderr if to_stderr else sys.stdout, flush=True)


def stdout_console() -> Any:
    """Where tables go: as wide as the terminal, or wide enough for a file."""
    from rich.console import Console

    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 140)


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], **options: Any) -> None:
    """Print rows of text; options: those of rich's Table."""
    from rich.table import Table as RichTable

    shown = RichTable(*headings, **options)
    for row in rows:
        shown.add_row(*map(printable, row))
    stdout_console().print(shown)


def rich_table(table: Table) -> "RichTable":
    """The table for `rich.print`; numbers to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable

    notes = printable("\n".join(table.notes))
    shown = RichTable(
        title=printable(table.title), caption=notes, caption_justify="left", box=SIMPLE_HEAD, pad_edge=False
    )
    for heading, form in table.columns.values():
        # One word a line: with headings as narrow as their numbers, the table fits 80 columns.
        shown.add_column(printable(heading).replace(" ", "\n"), justify="right" if form else "left", no_wrap=bool(form))
    for row in format_cells(table):
        shown.add_row(*map(printable, row))
    return shown
