import json
import resource
import subprocess
import sys

import pytest

from hannet import cli
from hannet.experiments import figure1


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(figure1, "QUICK_ITERATIONS", 10)
    monkeypatch.setattr(figure1, "QUICK_RATES", (0.05,))


def test_help_has_an_example_for_each_command(hannet):
    code, out, _ = hannet("--help")
    assert code == 0
    for command in ("reproduce", "info", "fit", "predict"):
        assert command in out
        assert f"Example: hannet {command}" in hannet(command, "-h")[1]


@pytest.mark.parametrize(("text", "seeds"), [("1", (0,)), ("5", (0, 1, 2, 3, 4)), ("0,3", (0, 3)), ("7,", (7,))])
def test_seeds(text, seeds):
    assert cli.parse_seeds(text) == seeds


USAGE = {
    "words for seeds": (["reproduce", "figure1", "--seeds", "banana"], "'banana'"),
    "no seeds": (["reproduce", "figure1", "--seeds", "0"], "--seeds"),
    "empty seeds": (["reproduce", "figure1", "--seeds", ""], "--seeds"),
    "negative seeds": (["reproduce", "figure1", "--seeds", "-3"], "--seeds"),
    "seeds twice": (["reproduce", "figure1", "--seeds", "1,1"], "--seeds"),
    "a fraction of seeds": (["reproduce", "figure1", "--seeds", "1.5"], "--seeds"),
    "an unknown experiment": (["reproduce", "figure99"], "not one of figure1"),
    "no experiment": (["reproduce"], "experiment"),
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
    assert len(summary["files"]) == 4
    assert json.loads((tmp_path / "figure1-quick.json").read_text())["rows"] == summary["rows"]


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
