import json
import re
import shutil
from pathlib import Path

import pytest

from hannet.experiments import base
from hannet.experiments.page import folder_page, paper_page
from hannet.reporting.html import ReportError
from hannet.reporting.tables import Table, markdown
from html_pages import parse

COMMITTED = Path(__file__).parents[2] / "results"
EVIL = "<script>alert(1)</script>"


def write(folder, stem, rows, title="A title", notes=(), **made):
    """What `hannet reproduce` keeps of an experiment."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = {name: (name, "{}") for name in rows[0]} | {"test": ("test %", "{:.1f}")}
    record = {
        "key": stem,
        "seed": 0,
        "seconds": 7200,
        "device": "cpu",
        "versions": {"torch": "2.13"},
        "commit": "abc",
        "config": {},
    }
    kept = {
        "title": title,
        "rows": rows,
        "notes": [*notes],
        "columns": columns,
        **made,
        "records": [record, record | {"key": f"{stem} 1", "seed": 1}],
    }
    (folder / f"{stem}.json").write_text(json.dumps(kept))
    (folder / f"{stem}.md").write_text(markdown(Table(title, columns, rows, notes)))
    (folder / f"{stem}.svg").write_text("<svg/>")
    (folder / "records.jsonl").write_text("")
    return folder


ROWS = [{"network": "HanNet", "test": 98.5, "std": 2.0, "paper": 99.2}, {"network": EVIL, "test": 9, "paper": 85.3}]

TABLE3 = [
    {"row": "(b)", "layers": "Householder", "activation": "ReLU", "paper_test": 66.0, "paper_std": 1.0, "paper": 66.2}
]


def test_the_page_of_a_folder_has_a_verdict_on_every_row(tmp_path):
    page = folder_page(write(tmp_path / "figure1", "figure1", ROWS, EVIL, [EVIL])).render()
    found = parse(page)
    assert EVIL not in page
    assert f"{EVIL} 1 of 2 of the paper's numbers here are met" in found.text
    assert "HanNet, test %: ours 98.5 ± 2.0 (standard deviation over seeds), the paper's 99.2." in found.text
    assert f"{EVIL}, test % 9.0 85.3 -76.3 ≠ differs: worse" in found.text
    assert len(found.loads) == 1
    assert found.links == ["./figure1.md", "./figure1.json", "./records.jsonl"]
    assert f"hannet reproduce figure1 --out {tmp_path / 'figure1'}" in found.text
    assert "runs 2, 4.0 hours seeds 0, 1 device cpu versions torch 2.13 commit abc" in found.text


def test_parts_and_quick_runs_are_made_by_their_own_command(tmp_path):
    command = ["hannet", "reproduce", "figure6", "--only", "hannet,fcnet", "--quick"]
    write(tmp_path, "figure6-hannet-fcnet-quick", ROWS, command=command, comparable=False)
    (write(tmp_path, "figure1", ROWS[:1]) / "notes.json").write_text("[]")
    (tmp_path / "notes.md").write_text("a file of somebody")
    text = parse(folder_page(tmp_path).render()).text
    assert f"hannet reproduce figure6 --only hannet,fcnet --quick --out {tmp_path}" in text
    assert "1 of 1 of the paper's numbers" in text  # none of the quick run
    assert "Where the paper picks its runs by their test score" in text


def test_a_folder_of_quick_runs_says_so(tmp_path):
    write(tmp_path, "figure1-quick", ROWS, comparable=False)
    text = parse(folder_page(tmp_path).render()).text
    assert "A quick or shortened run: its numbers mean nothing beside the paper's." in text
    assert "There is no number of the paper" not in text
    assert "differs" not in text


def test_tables_of_one_experiment_count_together_and_their_records_once(tmp_path):
    write(tmp_path, "figure1", ROWS)
    write(tmp_path, "figure1-part", ROWS[:1])
    kept = json.loads((tmp_path / "figure1.json").read_text())
    more = [kept["records"][0] | {"key": str(seed), "seed": seed} for seed in range(2, 23)]
    for name in ("figure1", "figure1-part"):
        (tmp_path / f"{name}.json").write_text(json.dumps(kept | {"records": kept["records"] + more}))
    page = paper_page(tmp_path)
    text = parse(page.render()).text
    assert page.sections[0].tables[0].rows[0]["verdict"] == "2 of 4 within tolerance"
    assert "runs 23, 46.0 hours" in text
    assert "18, 19 and 3 more" in text


def test_a_file_of_an_earlier_version_has_a_page(tmp_path):
    write(tmp_path, "figure1", ROWS)
    kept = json.loads((tmp_path / "figure1.json").read_text())
    (tmp_path / "figure1.json").write_text(
        json.dumps({key: kept[key] for key in ("title", "rows", "notes", "records")})
    )
    text = parse(folder_page(tmp_path).render()).text
    assert "network test std paper HanNet 98.5 2.0 99.2" in text
    assert "1 of 2 of the paper's numbers" in text
    assert f"hannet reproduce figure1 --out {tmp_path}" in text


@pytest.mark.parametrize("form", ["{:>999999999}", "{0.__class__}", "{test}", "{:x!}"])
def test_only_number_formats_of_a_file_are_used(tmp_path, form):
    write(tmp_path, "figure1", ROWS)
    kept = json.loads((tmp_path / "figure1.json").read_text())
    kept["columns"]["test"] = ["test %", form]
    (tmp_path / "figure1.json").write_text(json.dumps(kept))
    with pytest.raises(ReportError, match="not written by `hannet reproduce`, or damaged"):
        folder_page(tmp_path)


def test_one_page_is_of_the_whole_paper(tmp_path):
    write(tmp_path / "b" / "", "figure1", ROWS)
    write(tmp_path / "a", "table3", TABLE3)
    write(tmp_path / "a", "figure1-quick", ROWS, comparable=False)
    (tmp_path / "table6").mkdir()
    (tmp_path / "table6" / "records.jsonl").touch()
    verdicts = {row["name"]: row["verdict"] for row in paper_page(tmp_path).sections[0].tables[0].rows}
    assert list(verdicts) == [*base.EXPERIMENTS]
    assert verdicts["figure1"] == "1 of 2 within tolerance"
    assert verdicts["table6"] == "started, not all runs are there"
    assert verdicts["table9"] == "not run"
    found = parse(paper_page(tmp_path).render())
    assert "The paper, reproduced 2 of 3 of the paper's numbers here are met" in found.text
    assert f"2 of {len(base.EXPERIMENTS)} experiments have results here" in found.text
    assert "./b/records.jsonl" in found.links
    assert "quick" not in found.text
    assert folder_page(tmp_path) == paper_page(tmp_path)


def test_the_committed_results_are_one_page_that_is_small_enough(tmp_path):
    shutil.copytree(COMMITTED, tmp_path / "results")
    page = paper_page(tmp_path / "results").render()
    found = parse(page)
    same, all_rows = map(int, re.search(r"reproduced (\d+) of (\d+) of the paper's", found.text).groups())
    assert 0 < same <= all_rows
    assert "Figure 1: checkerboard" in found.text
    assert len(page) < 2_000_000  # so that it can be sent
    for link in found.links:
        assert link.startswith("#") or (tmp_path / "results" / link).is_file()


def test_a_folder_without_a_table_is_one_sentence(tmp_path):
    (tmp_path / "records.jsonl").touch()
    with pytest.raises(ReportError, match="holds records, but no table yet"):
        folder_page(tmp_path)


@pytest.mark.parametrize("damage", ["[]", "{", '{"rows": [1], "records": []}', '{"rows": [], "records": [{}]}'])
def test_a_damaged_file_is_one_sentence(tmp_path, damage):
    write(tmp_path, "figure1", ROWS)
    (tmp_path / "figure1.json").write_text(damage)
    with pytest.raises(ReportError, match="not written by `hannet reproduce`, or damaged"):
        folder_page(tmp_path)
