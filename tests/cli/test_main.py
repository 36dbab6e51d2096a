import importlib
import json
import resource
import shutil
import subprocess
import sys

import pytest
import torch

from hannet import __version__, cli
from hannet.cli.reproduce import parse_seeds
from hannet.experiments.base import EXPERIMENTS
from hannet.experiments.paper import _board, figure1
from hannet.experiments.record import Record, Run
from hannet.experiments.store import Store


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(_board, "QUICK_ITERATIONS", 10)
    monkeypatch.setattr(_board, "QUICK_RATES", (0.05,))


def test_help_has_an_example_for_each_command(hannet):
    code, out, _ = hannet("--help")
    assert code == 0
    for command in ("reproduce", "runs", "info", "fit", "predict"):
        assert command in out
        assert f"Example: hannet {command}" in hannet(command, "-h")[1]


def test_version(hannet):
    assert hannet("--version") == (0, f"hannet {__version__}\n", "")


@pytest.mark.parametrize(("text", "seeds"), [("1", (0,)), ("5", (0, 1, 2, 3, 4)), ("0,3", (0, 3)), ("7,", (7,))])
def test_seeds(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("name", cli.ERRORS)
def test_an_error_with_a_sentence_for_the_user_is_that_sentence(hannet, monkeypatch, name):
    module, code = cli.ERRORS[name]
    error = getattr(importlib.import_module(f"hannet.{module}"), name)

    def fails():
        raise error("no luck")

    monkeypatch.setattr(torch, "get_num_threads", fails)
    assert hannet("info") == (code, "", "hannet: no luck\n")


USAGE = {
    "words for seeds": (["reproduce", "figure1", "--seeds", "banana"], "'banana'"),
    "no seeds": (["reproduce", "figure1", "--seeds", "0"], "--seeds"),
    "empty seeds": (["reproduce", "figure1", "--seeds", ""], "--seeds"),
    "negative seeds": (["reproduce", "figure1", "--seeds", "-3"], "--seeds"),
    "a seed too large": (["reproduce", "figure1", "--seeds", "99999999999999999999,"], "--seeds"),
    "too many seeds": (["reproduce", "figure1", "--seeds", "99999999999999999999"], "more than 10,000 seeds"),
    "a part of nothing": (["reproduce", "figure1", "--as-is", "--shard", "1/2"], "leave --shard out"),
    "a first part of nothing": (
        ["reproduce", "table9", "--only", "boston", "--only", "elevators"],
        "'boston' is not a part",
    ),
    "a second part of nothing": (
        ["reproduce", "table9", "--only", "elevators", "--only", "boston"],
        "'boston' is not a part",
    ),
    "seeds twice": (["reproduce", "figure1", "--seeds", "1,1"], "--seeds"),
    "a fraction of seeds": (["reproduce", "figure1", "--seeds", "1.5"], "--seeds"),
    "an unknown experiment": (["reproduce", "figure99"], "not one of figure1"),
    "no experiment": (["reproduce"], "experiment"),
    "a shard beyond the last": (["reproduce", "figure1", "--shard", "3/2"], "'3/2' is not a part such as 2/8"),
    "a shard that is none": (["reproduce", "figure1", "--shard", "half"], "--shard"),
    "shard 0": (["reproduce", "figure1", "--shard", "0/2"], "--shard"),
    "a cluster nowhere": (["reproduce", "figure1", "--cluster", "nowhere"], "'nowhere' is neither an address such as"),
    "jobs on a cluster": (["reproduce", "figure1", "--cluster", "tcp://a:1", "--jobs", "2"], "leave --jobs out"),
    "records of nothing": (["runs", "nowhere"], "nowhere holds no records"),
    "an unknown command": (["reprodcue"], "reprodcue"),
    "an unknown option": (["info", "--yaml"], "--yaml"),
    "a file for a folder": (["reproduce", "figure1", "--out", __file__], "--out"),
    "a folder that cannot be": (["reproduce", "figure1", "--out", "/proc/none"], "/proc/none"),
}


@pytest.mark.parametrize("case", USAGE)
def test_a_bad_command_line_is_one_sentence_and_exit_code_2(hannet, case):
    arguments, part = USAGE[case]
    code, out, err = hannet(*arguments)
    assert (code, out) == (2, "")
    assert part in err
    assert err.startswith("hannet: ")
    assert err.count("\n") == 1


@pytest.mark.slow
def test_reproduce(hannet, tiny, tmp_path):
    arguments = ("reproduce", "figure1", "--quick", "--out", str(tmp_path))
    code, out, err = hannet(*arguments)
    assert code == 0
    assert all(
        part in out
        for part in ("HanNet, dense ends", "99.2", "85.3", "held-out", "5 of 5 runs were new", str(tmp_path))
    )
    assert "100%" in err
    code, out, _ = hannet(*arguments, "--json")
    summary = json.loads(out)
    assert code == 0
    assert len(summary["rows"]) == 8
    assert len(summary["files"]) == 5
    assert json.loads((tmp_path / "figure1-quick.json").read_text())["rows"] == summary["rows"]


@pytest.mark.slow
def test_a_shard_says_what_is_missing_and_the_last_one_shows_the_table(hannet, tiny, tmp_path):
    arguments = ("reproduce", "figure1", "--quick", "--jobs", "1", "--out", str(tmp_path))
    code, out, _ = hannet(*arguments, "--shard", "1/2")
    assert code == 0
    assert out.startswith("Part 1/2 is done: ")
    assert "without --shard or --as-is shows the table" in out
    counts = json.loads(hannet(*arguments, "--shard", "1/2", "--json")[1])
    assert (counts["shard"], counts["new"], counts["there"] + counts["missing"]) == ("1/2", 0, 5)
    assert counts["there"] * counts["missing"] > 0
    code, out, _ = hannet(*arguments, "--shard", "2/2")
    assert code == 0
    assert f"{counts['missing']} of 5 runs were new" in out
    shutil.rmtree(tmp_path / "models")
    out = hannet(*arguments, "--as-is")[1]
    assert "5 are missing (5 have records, but not the weights that the picture draws); when" in out


def test_a_net_that_fails_is_named_and_the_command_ends_in_one_sentence(hannet, tiny, tmp_path, monkeypatch):
    def fails(*_):
        raise ArithmeticError("no luck")

    monkeypatch.setattr(figure1.Experiment, "compute", fails)
    code, out, err = hannet("reproduce", "figure1", "--quick", "--jobs", "1", "--out", str(tmp_path))
    assert (code, out) == (1, "")
    assert err.count("\nfailed: ") + err.startswith("failed: ") == 5
    assert "failed: checkerboard-quick FCNet 100 6, seed 0: ArithmeticError: no luck\n" in err
    assert err.splitlines()[-1].startswith("hannet: 5 of 5 groups failed, the first: ")


def test_the_experiments_are_listed(hannet):
    code, out, _ = hannet("reproduce", "--list", "--json")
    assert code == 0
    assert list(json.loads(out)) == list(EXPERIMENTS)
    assert json.loads(out)["figure1"].startswith("Figure 1: on the checkerboard")
    assert all(name in hannet("reproduce", "--list")[1] for name in EXPERIMENTS)


@pytest.fixture
def records(tmp_path):
    """A store of ten records."""
    store = Store(tmp_path / "store")
    runs = [Run("trial", {"network": {"width": 10 * width}}, seed) for width in range(5) for seed in range(2)]
    store.append([Record.of(run, {"loss": 1 / (1 + place)}, 1.0) for place, run in enumerate(runs)])
    return store.folder


def test_runs_are_listed_filtered_and_sorted(hannet, records):
    arguments = (
        "runs",
        str(records),
        "--where",
        "seed=1",
        "--where",
        "config.network.width>=20",
        "--sort",
        "metrics.loss",
    )
    code, out, _ = hannet(*arguments)
    assert code == 0
    assert "3 runs" in out
    assert "hannet" not in out
    found = json.loads(
        hannet(*arguments, "--limit", "2", "--columns", "config.network.width, metrics.loss", "--json")[1]
    )
    assert found == [
        {"config.network.width": 40, "metrics.loss": 0.1},
        {"config.network.width": 30, "metrics.loss": 0.125},
    ]


def test_runs_are_written_as_csv(hannet, records, tmp_path):
    printed = hannet("runs", str(records), "--csv", "-")[1]
    code, out, _ = hannet("runs", str(records), "--csv", str(tmp_path / "runs.csv"))
    assert (code, out) == (0, f"10 runs. Saved: {tmp_path / 'runs.csv'}\n")
    assert (tmp_path / "runs.csv").read_text() == printed
    assert len(printed.splitlines()) == 11


@pytest.mark.parametrize(
    "wrong", [["--where", "sed=1"], ["--where", "seed~1"], ["--sort", "los"], ["--columns", "los"]]
)
def test_a_key_or_operator_that_is_not_there_is_one_sentence(hannet, records, wrong):
    code, out, err = hannet("runs", str(records), *wrong)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert wrong[1].removesuffix("=1") in err


def test_no_records_are_one_sentence(hannet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = hannet("runs")
    assert (code, err) == (1, "hannet: there are no records in hannet-results; name the folders that have some\n")
    Store(tmp_path / "empty")
    assert hannet("runs", "empty")[::2] == (1, "hannet: empty: no run has ended there yet\n")


def test_a_full_disk_is_one_sentence_and_exit_code_1(hannet, tiny, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        code, _, err = hannet("reproduce", "figure1", "--quick", "--out", str(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 1
    assert err.splitlines()[-1].startswith(f"hannet: {tmp_path}")
    assert err.splitlines()[-1].endswith("File too large")
    assert "Traceback" not in err


def test_a_spoilt_store_is_one_sentence_and_exit_code_1(hannet, tiny, tmp_path):
    (tmp_path / "records.jsonl").write_text("spoilt\n")
    code, _, err = hannet("reproduce", "figure1", "--quick", "--out", str(tmp_path))
    assert (code, err.count("\n")) == (1, 1)
    assert "line 1" in err


def test_info(hannet):
    code, out, _ = hannet("info", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["threads"] >= 1
    assert {"torch", "numba", "hannet"} <= set(facts["versions"])
    assert {"device", "dtype", "path", "reason"} == set(facts["paths"][0])
    code, out, _ = hannet("info")
    assert code == 0
    assert all(line["dtype"] in out for line in facts["paths"])


@pytest.mark.slow
def test_without_typer_one_sentence_says_what_to_install():
    code = "import sys; sys.modules['typer'] = None; from hannet.cli import main; main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "pip install 'hannet[experiments]'" in result.stderr
    assert result.stderr.count("\n") == 1


def test_without_matplotlib_too(hannet, tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, _, err = hannet("reproduce", "figure1", "--quick", "--out", str(tmp_path))
    assert code == 1
    assert "pip install 'hannet[all]'" in err


@pytest.mark.slow
def test_as_is_trains_nothing_and_shows_what_there_is(hannet, monkeypatch, tmp_path):
    from hannet.experiments.paper import _board, figure6

    monkeypatch.setattr(_board, "QUICK_ITERATIONS", 5)
    monkeypatch.setattr(figure6.Experiment, "widths", (20,))
    monkeypatch.setattr(figure6.Experiment, "depths", (2, 4))
    arguments = ["reproduce", "figure6", "--quick", "--out", str(tmp_path)]
    code, out, _ = hannet(*arguments, "--as-is")
    assert code == 0
    assert out.startswith("0 runs of all parts are there, 15 are missing")
    assert hannet(*arguments, "--shard", "1/2", "--jobs", "1")[0] == 0
    code, out, _ = hannet(*arguments, "--as-is", "--json")
    summary = json.loads(out)
    assert 0 < sum(row["sizes"] for row in summary["rows"] if row["selection"] == "paper") < 5
    assert len(summary["records"]) < 15
    assert "runs are missing" in hannet(*arguments, "--as-is")[1]
