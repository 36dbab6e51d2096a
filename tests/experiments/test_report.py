import io
import json

import pytest
from matplotlib.figure import Figure
from rich.console import Console

from hannet.cli.console import rich_table
from hannet.experiments.base import EXPERIMENTS, load_experiment
from hannet.experiments.record import Record, Run
from hannet.experiments.report import save, summary
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
    kept = json.loads(contents[1])
    assert kept["rows"][0]["test"] == 99.234
    assert kept["records"][0]["metrics"] == {"loss": None}
    assert kept["columns"]["test"] == ["test %", "{:.1f}"]


PLANS = {  # settings of an experiment, and what `hannet reproduce` is told
    "figure1": ((None, False), "figure1"),
    "figure6": ((None, True, ["fcnet"]), "figure6 --only fcnet --quick"),
    "table2": (((4,), False), "table2 --seeds 4,"),
    "table3": (((0, 3), False), "table3 --seeds 0,3"),
    "table6": (((0, 1), False), "table6 --seeds 2"),
}


@pytest.mark.parametrize("name", PLANS)
def test_a_summary_says_how_it_is_made(name):
    settings, arguments = PLANS[name]
    made = summary(TABLE, {}, load_experiment(name, *settings))
    assert made["command"] == ["hannet", "reproduce", *arguments.split()]
    assert made["comparable"] == ("--quick" not in arguments)


def test_fewer_epochs_and_other_images_are_told():
    made = summary(TABLE, {}, load_experiment("table12", None, False, dataset="cifar100", epochs=2))
    assert made["command"] == ["hannet", "reproduce", "table12", "--dataset", "cifar100", "--epochs", "2"]
    assert not made["comparable"]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_as_it_comes_is_told_by_its_name(name):
    assert load_experiment(name, None, False).arguments == [name]


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "trial.png").mkdir()
    with pytest.raises(StoreError, match=r"trial\.png"):
        save(tmp_path / "trial", TABLE, {}, figure())
