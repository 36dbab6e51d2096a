"""What all commands of the console share: one-sentence endings, output as wide as it should be, progress."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from ..reporting.tables import Table, format_cells

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from ..experiments.work_queue import Progress


def exit_with_error(message: str, code: int) -> NoReturn:
    """End the command with one sentence."""
    print(message if message.startswith("Usage") else f"hannet: {message}", file=sys.stderr)
    sys.exit(code)


def stdout_console() -> Any:
    """Where tables go: as wide as the terminal, or wide enough for a file."""
    from rich.console import Console

    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 140)


@contextmanager
def progress_bar() -> "Iterator[Callable[[Progress], None]]":
    """Progress on standard error: a live bar on a terminal, a line every ten seconds in a log. Failures have a line each."""
    if not sys.stderr.isatty():
        yield _Log()
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn
    from rich.progress import Progress as Bar
    from rich.table import Column

    text = TextColumn("{task.description}", markup=False, table_column=Column())  # wraps on a narrow terminal
    columns = (BarColumn(16), TaskProgressColumn(table_column=Column(min_width=4, no_wrap=True)), text)
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task, failed = bar.add_task("starting", total=1.0), 0

        def show(progress: "Progress") -> None:
            nonlocal failed
            for failure in progress.failures[failed:]:
                bar.console.print(f"failed: {failure}", markup=False, highlight=False)
            failed = len(progress.failures)
            bar.update(task, completed=progress.fraction, description=describe(progress))

        yield show


class _Log:
    """Prints a progress when a group ends or fails, and else every ten seconds."""

    def __init__(self) -> None:
        self.printed, self.failed = time.monotonic(), 0

    def __call__(self, progress: "Progress") -> None:
        for failure in progress.failures[self.failed :]:
            print(f"failed: {failure}", file=sys.stderr, flush=True)
        self.failed = len(progress.failures)
        if progress.status.step == progress.status.steps or time.monotonic() - self.printed > 10:
            self.printed = time.monotonic()
            print(f"{progress.fraction:4.0%} {describe(progress)}", file=sys.stderr, flush=True)


def describe(progress: "Progress") -> str:
    """One line: which network and seed, how far and how fast, accuracies; overall runs a minute, failures and time left."""
    status = progress.status
    parts = [f"{status.label} [{progress.group}/{progress.groups}]"]
    if status.unit:
        parts[0] += f" {status.step:,}/{status.steps:,}"
        parts.append(f"{_rounded(status.rate)} {status.unit}/s")
    if status.metrics:
        parts.append(status.metrics)
    if progress.a_minute:
        parts.append(f"{_rounded(progress.a_minute)} runs/min")
    if progress.failures:
        parts.append(f"{len(progress.failures)} failed")
    if progress.left is not None:
        parts.append(f"{int(progress.left) // 60}:{int(progress.left) % 60:02d} left")
    return ", ".join(parts)


def _rounded(rate: float) -> str:
    return f"{rate:,.{0 if rate >= 10 else 1}f}"


def rich_table(table: Table) -> "RichTable":
    """The table for `rich.print`; numbers to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable

    notes = "\n".join(table.notes)
    shown = RichTable(title=table.title, caption=notes, caption_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading, form in table.columns.values():
        # One word a line: with headings as narrow as their numbers, the table fits 80 columns.
        shown.add_column(heading.replace(" ", "\n"), justify="right" if form else "left", no_wrap=bool(form))
    for row in format_cells(table):
        shown.add_row(*row)
    return shown
