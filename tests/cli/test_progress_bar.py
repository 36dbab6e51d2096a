import io
import math
import re
import sys

import pytest

from hannet.cli import progress_bar
from hannet.reporting.progress import ProgressEvent


def test_progress_in_words():
    event = ProgressEvent("HanNet, seed 0", 50, 200, metrics={"loss": 0.25, "test accuracy": 0.99})
    assert progress_bar.describe(event, None, None) == "HanNet, seed 0 50/200, loss 0.25, test accuracy 99.0%"
    assert progress_bar.describe(event, 12.3, None) == "HanNet, seed 0 50/200, 12 it/s, loss 0.25, test accuracy 99.0%"
    sweep = ProgressEvent("sweep", 2, 4, "", {"group": "3/4", "runs/min": 7.25, "failed": 2})
    later = ProgressEvent("waiting", 0, 1, "", within=sweep)
    assert progress_bar.describe(later, None, 83.0) == "waiting, group 3/4, runs/min 7.25, failed 2, 1:23 left"


def test_progress_in_a_log(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress_bar.time, "monotonic", lambda: clock[0])
    with progress_bar.progress_bar() as bar:
        for seconds, step in ((0, 10), (5, 60), (11, 120), (12, 130)):
            clock[0] = seconds
            bar(ProgressEvent("net", step, 130, within=ProgressEvent("sweep", step, 260, "")))
        bar.fail("net: it diverged")
    assert capsys.readouterr().err.splitlines() == [
        " 46% net 120/130, 10 it/s, 0:14 left",
        " 50% net 130/130, 10 it/s, 0:13 left",
        "failed: net: it diverged",
    ]


class Terminal(io.StringIO):
    def __init__(self, encoding):
        super().__init__()
        self.coded = encoding

    @property
    def encoding(self):
        return self.coded

    def isatty(self):
        return True


@pytest.fixture
def shown(monkeypatch):
    """What a terminal is sent while a loss falls and rises again."""

    def show(encoding):
        terminal = Terminal(encoding)
        monkeypatch.setattr(sys, "stderr", terminal)
        with progress_bar.progress_bar() as bar:
            for step, loss in enumerate((8.0, 4.0, 2.0, math.nan, 1.0, 8.0)):
                bar(ProgressEvent("net", step, 6, metrics={"loss": loss}))
        return terminal.getvalue()

    for name, value in {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    return show


def test_progress_on_a_terminal_is_one_live_bar_with_the_course_of_the_loss(shown, monkeypatch):
    before, _, last = shown("utf-8").rpartition("net 5/6")
    assert all(part in last for part in (" it/s, loss 8, ", " left"))
    assert re.search(r"83%.{0,10} █▆▃▁█ .{0,10}$", before)


def test_where_there_are_no_blocks_the_course_is_ascii(shown):
    sent = shown("ascii")
    assert "83% #+-_# net 5/6" in re.sub(r"\x1b\[[\d;]*m", "", sent)
    assert sent.isascii()


def test_on_a_narrow_terminal_the_words_wrap_and_the_course_does_not(shown, monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    last = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", shown("utf-8")).rpartition("83%")[2]
    assert last.startswith(" █▆▃▁█ net 5/6")
    assert "left" in last


def test_colours_respect_no_color(shown, monkeypatch):
    colour = re.compile(r"\x1b\[[\d;]*3[0-8][\d;]*m")
    assert colour.search(shown("utf-8"))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colour.search(shown("utf-8"))


def test_a_sparkline_has_the_width_it_is_given():
    assert progress_bar.sparkline([1.0], "_#") == "_"
    assert progress_bar.sparkline([2.0, 2.0], "_#") == "__"
    assert progress_bar.sparkline([2.0**-step for step in range(1000)], "3210"[::-1], width=4) == "3210"
