import io
import json

import pytest
from matplotlib.figure import Figure
from rich.console import Console

from hannet.cli.console import rich_table
from hannet.experiments.record import Record, Run
from hannet.experiments.report import save
from hannet.reporting.tables import Table, markdown
from hannet.storage.files import StoreError

TABLE = Table(
    "Accuracy",
    {"network": ("network", ""), "test": ("test %", "{:.1f}"), "size": ("parameters", "{:,}")},
    [{"network": "HanNet", "test": 99.234, "size": 4302}, {"network": "FCNet", "test": None}],
    ["two seeds"],
)


def test_markdown():
    assert markdown(TABLE) == (
        "# Accuracy\n\n"
        "| network | test % | parameters |\n| --- | ---: | ---: |\n| HanNet | 99.2 | 4,302 |\n| FCNet | – | – |\n\n"
        "- two seeds\n"
    )


def test_terminal():
    stream = io.StringIO()
    Console(file=stream, width=80).print(rich_table(TABLE))
    assert all(text in stream.getvalue() for text in ("Accuracy", "99.2", "4,302", "–", "two seeds"))


def figure() -> Figure:
    picture = Figure()
    picture.subplots().plot([1, 2])
    return picture


def test_equal_results_are_equal_files(tmp_path):
    runs = [Run("trial", {}, seed) for seed in range(2)]
    records = {run.key: Record.of(run, {"loss": float("inf")}, 1.0) for run in runs}
    for _ in range(2):
        records = dict(reversed(records.items()))  # as if the other had ended first
        paths = save(tmp_path / "trial", TABLE, records, figure())
        contents = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in save(tmp_path / "trial", TABLE, records, figure())] == contents
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trial.json", "trial.md", "trial.png", "trial.svg"]
    summary = json.loads(contents[1])
    assert summary["rows"][0]["test"] == 99.234
    assert summary["records"][0]["metrics"] == {"loss": None}


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "trial.png").mkdir()
    with pytest.raises(StoreError, match=r"trial\.png"):
        save(tmp_path / "trial", TABLE, {}, figure())
