"""How far a command is: a live bar on a terminal, lines in a log."""

import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..reporting.progress import ProgressEvent, format_metric


class _Display:
    """Shows progress events and failures; derives rates and the time left from when each work was first seen."""

    def __init__(self) -> None:
        self.first: dict[tuple[str, str], tuple[float, float]] = {}

    def __call__(self, event: ProgressEvent) -> None:
        """Show how far the work is."""
        whole = event.within or event
        rate, whole_rate = self._rate(event), self._rate(whole)
        eta_seconds = (whole.total - whole.step) / whole_rate if whole_rate else None
        self.show(event, whole.fraction, describe(event, rate, eta_seconds))

    def _rate(self, event: ProgressEvent) -> float | None:
        now, key = time.monotonic(), (event.label, event.unit)
        if key not in self.first or self.first[key][1] > event.step:
            self.first[key] = now, event.step
        then, step = self.first[key]
        return (event.step - step) / (now - then) if now > then and event.step > step else None

    def show(self, event: ProgressEvent, fraction: float, text: str) -> None:
        """Show a line for an event."""
        raise NotImplementedError

    def fail(self, message: str) -> None:
        """Print a failure on a line of its own, while the rest goes on."""
        print(f"failed: {message}", file=sys.stderr, flush=True)


class _Bar(_Display):
    """A live bar on a terminal, and the course of the loss."""

    def __init__(self, bar: Any) -> None:
        super().__init__()
        self.bar, self.task = bar, bar.add_task("starting", total=1.0, curve="")
        self.levels = levels(bar.console.encoding)
        self.label, self.losses = "", list[float]()

    def show(self, event: ProgressEvent, fraction: float, text: str) -> None:
        if event.label != self.label:
            self.label, self.losses = event.label, []
        loss = event.metrics.get("loss")
        if isinstance(loss, float) and 0 < loss < math.inf:
            self.losses.append(loss)
        curve = sparkline(self.losses, self.levels) if len(self.losses) > 1 else ""
        self.bar.update(self.task, completed=fraction, description=text, curve=curve)

    def fail(self, message: str) -> None:
        self.bar.console.print(f"failed: {message}", markup=False, highlight=False)


class _Log(_Display):
    """A line in a log when a piece of work ends, and else every ten seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.printed = time.monotonic()

    def show(self, event: ProgressEvent, fraction: float, text: str) -> None:
        if event.step == event.total or time.monotonic() - self.printed > 10:
            self.printed = time.monotonic()
            print(f"{fraction:4.0%} {text}", file=sys.stderr, flush=True)


@contextmanager
def progress_bar() -> Iterator[_Display]:
    """Progress on standard error: a live bar on a terminal, lines in a log. Takes ProgressEvents; `fail` prints a failure."""
    if not sys.stderr.isatty():
        yield _Log()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
    from rich.table import Column

    text = TextColumn("{task.description}", markup=False, table_column=Column())  # wraps on a narrow terminal
    curve = TextColumn("{task.fields[curve]}", markup=False, table_column=Column(no_wrap=True))
    columns = (BarColumn(16), TaskProgressColumn(table_column=Column(min_width=4, no_wrap=True)), curve, text)
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield _Bar(bar)


def levels(encoding: str) -> str:
    """Characters from low to high: blocks, or ASCII where the encoding has no blocks."""
    blocks = "▁▂▃▄▅▆▇█"
    try:
        blocks.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return "_.-:=+*#"
    return blocks


def sparkline(values: Sequence[float], levels: str, width: int = 12) -> str:
    """Positive values as a line of characters, their logarithms from the lowest level to the highest.

    >>> sparkline([8, 4, 2, 1], "_-=#")
    '#=-_'
    """
    count = min(len(values), width)
    shown = [math.log(values[(len(values) - 1) * place // max(count - 1, 1)]) for place in range(count)]
    low, span = min(shown), max(shown) - min(shown)
    return "".join(levels[round((value - low) / span * (len(levels) - 1)) if span else 0] for value in shown)


def describe(event: ProgressEvent, rate: float | None, eta_seconds: float | None) -> str:
    """One line: what is worked on, how far and how fast, its metrics and those of the larger work, the time left."""
    parts = [event.label]
    if event.unit:
        parts[0] += f" {event.step:,}/{event.total:,}"
        parts += [] if rate is None else [f"{rate:,.{0 if rate >= 10 else 1}f} {event.unit}/s"]
    for metrics in (event.metrics, event.within.metrics if event.within else {}):
        parts += [format_metric(name, value) for name, value in metrics.items()]
    if eta_seconds is not None:
        parts.append(f"{int(eta_seconds) // 60}:{int(eta_seconds) % 60:02d} left")
    return ", ".join(parts)
