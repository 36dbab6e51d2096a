import json
import shutil
import webbrowser
from pathlib import Path

import pytest

from html_pages import parse

RESULTS = Path(__file__).parents[2] / "results"
OLD = Path(__file__).parents[1] / "fixtures" / "saved_by_0_1_0"


@pytest.fixture
def old(tmp_path):
    """Models that the first version saved."""
    return Path(shutil.copytree(OLD, tmp_path / "old"))


@pytest.mark.parametrize(("name", "said"), [("table", "Predicting price"), ("images-hannet", "Classifier of images")])
def test_a_folder_of_any_version_gets_its_page(hannet, old, name, said):
    code, out, err = hannet("report", str(old / name))
    assert (code, out, err) == (0, f"{old / name / 'report.html'}\n", "")
    assert said in parse((old / name / "report.html").read_text()).text
    assert json.loads(hannet("report", str(old / name), "--json")[1]) == {"report": str(old / name / "report.html")}


def test_the_browser_opens_the_page(hannet, old, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda page: opened.append(page) or True)
    monkeypatch.chdir(old)
    code, _, err = hannet("report", "table", "--open")
    assert (code, err) == (0, "")
    assert opened == [(old / "table" / "report.html").as_uri()]


def test_no_browser_is_said(hannet, old, monkeypatch):
    monkeypatch.setattr(webbrowser, "open", lambda _: False)
    code, out, err = hannet("report", str(old / "table"), "--open")
    assert (code, out) == (0, f"{old / 'table' / 'report.html'}\n")
    assert err == "No browser could be started: open the page yourself\n"


@pytest.mark.parametrize(
    ("name", "fault"),
    [("nowhere", "is no folder"), ("", "holds nothing that has a report"), ("hannet", "neither report.json nor a")],
)
def test_a_folder_without_a_report_is_one_sentence(hannet, old, name, fault):
    code, out, err = hannet("report", str(old / name))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert fault in err


def test_a_folder_that_cannot_be_read_is_one_sentence(hannet, old, monkeypatch):
    exists = Path.exists

    def denied(path):
        if path.name == "table.json":
            raise PermissionError(13, "Permission denied", str(path))
        return exists(path)

    monkeypatch.setattr(Path, "exists", denied)
    code, out, err = hannet("report", str(old / "table"))
    assert (code, out) == (1, "")
    assert err == f"hannet: {old / 'table' / 'table.json'}: Permission denied\n"


def test_a_folder_that_cannot_be_written_is_one_sentence(hannet, old):
    (old / "table" / "report.html").mkdir()
    code, _, err = hannet("report", str(old / "table"))
    assert (code, err.count("\n")) == (1, 1)
    assert "report.html" in err


def test_the_whole_paper_is_one_page(hannet, tmp_path):
    shutil.copytree(RESULTS / "figure1", tmp_path / "results" / "figure1")
    code, out, err = hannet("reproduce", "all", "--as-is", "--out", str(tmp_path / "results"))
    assert (code, err) == (0, "")
    assert "within tolerance" in out
    assert out.endswith(f"Saved: {tmp_path / 'results' / 'report.html'}\n")
    page = (tmp_path / "results" / "report.html").read_text()
    facts = json.loads(hannet("reproduce", "all", "--as-is", "--out", str(tmp_path / "results"), "--json")[1])
    assert facts["experiments"][0]["verdict"] in out
    assert facts["result"] in parse(page).text
    assert hannet("report", str(tmp_path / "results"))[0] == 0
    assert (tmp_path / "results" / "report.html").read_text() == page
    assert hannet("report", str(tmp_path / "results" / "figure1"))[0] == 0


ALL_FAULTS = {
    "all trains nothing": [],
    "all has no --seeds": ["--as-is", "--seeds", "3"],
    "nowhere is no folder of results": ["--as-is", "--out", "nowhere"],
}


@pytest.mark.parametrize("fault", ALL_FAULTS)
def test_what_all_does_not_do_is_one_sentence(hannet, fault):
    code, out, err = hannet("reproduce", "all", *ALL_FAULTS[fault])
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert fault in err
