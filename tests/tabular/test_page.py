import json
import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hannet.reporting.html import ReportError
from hannet.tabular.page import make_page, page_of
from hannet.tabular.readers import Table
from html_pages import parse
from tabular_toy import learn, texts

OLD = Path(__file__).parents[1] / "fixtures" / "saved_by_0_1_0" / "table"
EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def fitted():
    """A model whose columns, classes and target are named by somebody who means harm; a fifth of a column is missing."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=200)
    color = np.where(a > 0, EVIL, "b&w")
    cells = pd.DataFrame(
        {EVIL: texts(a.round(3)), "gaps": texts(rng.normal(size=200).round(3)), "same": texts(["x"] * 200)}
    )
    cells.loc[::5, "gaps"] = ""
    return learn(Table(cells.assign(**{f"{EVIL}?": texts(color)}), [EVIL]), f"{EVIL}?")


def test_the_page_of_a_fit_says_what_a_person_asks(fitted):
    report = fitted[1]
    files = report.files(f"models/{EVIL}")
    page = files["report.html"].decode()
    found = parse(page)
    assert EVIL not in page
    assert f"Predicting {EVIL}?" in found.text
    first = report.facts["rows"][0]
    assert (
        f"{first['accuracy']:.1%} accuracy of HanNet on 40 rows that it was not trained on; 95% interval" in found.text
    )
    assert "(Wilson)" in found.text
    assert "Best of the 4 other models: " in found.text
    assert "boosted trees" in found.text
    assert re.search(r"gaps number\S* 20\.0% \d", found.text)  # of its cells are missing
    assert "left out: always the same" in found.text
    assert f"hannet predict 'models/{EVIL}' NEW.csv" in found.text
    assert "seed 0" in found.text
    assert len(found.loads) == 1
    assert "± " in found.text


def test_importance_has_a_mean_and_a_spread(fitted):
    facts = fitted[1].facts
    assert facts["importance"].keys() == facts["importance_std"].keys() == {EVIL, "gaps"}
    assert next(iter(facts["importance"])) == EVIL
    assert all(spread > 0 for spread in facts["importance_std"].values())


def test_the_page_of_a_folder_is_that_of_the_fit(fitted, tmp_path):
    model, report, _ = fitted
    files = report.files(str(tmp_path / "model"))
    model.save(tmp_path / "model", files)
    assert page_of(tmp_path / "model").render() == files["report.html"].decode()


def test_a_folder_of_the_first_version_has_a_page():
    found = parse(page_of(OLD).render())
    assert "95% interval 59.2–146.0 (bootstrap)" in found.text
    assert "size" in found.text


def test_a_table_of_very_many_columns_has_a_small_page(fitted):
    facts = json.loads(json.dumps(fitted[1].facts))
    facts["columns"] = {
        f"column {number}": {"kind": "number", "inputs": ["x"], "missing": 0} for number in range(20_000)
    }
    assert "and 19,701 more, in report.json" in parse(make_page(facts, "m", {}).render()).text  # one is left out


def test_a_better_model_is_named(fitted):
    facts = json.loads(json.dumps(fitted[1].facts))
    for row, accuracy in zip(facts["rows"], (0.5, 0.4, 0.6, 0.9, 0.7), strict=True):
        row["accuracy"] = accuracy
    assert "Best of the 4 other models: MLP, 90.0%, " in (text := parse(make_page(facts, "m", {}).render()).text)
    assert ", which is better." in text


@pytest.mark.parametrize("damage", [{"rows": 3}, {"target": None}, {"notes": None}, {"rows": []}])
def test_a_damaged_report_is_one_sentence(tmp_path, damage):
    facts = json.loads((OLD / "report.json").read_text()) | damage
    (tmp_path / "report.json").write_text(json.dumps(facts))
    with pytest.raises(ReportError, match="not written by `hannet fit`, or damaged"):
        page_of(tmp_path).render()


def test_the_lines_that_use_the_model_run(fitted, tmp_path, monkeypatch):
    model, report, _ = fitted
    monkeypatch.chdir(tmp_path)
    model.save(tmp_path / "model", report.files("model"))
    (tmp_path / "NEW.csv").write_text(f"{EVIL},gaps,same\n-1.5,,x\n1.5,0.1,x\n")
    code = next(block for part in page_of(Path("model")).sections for block in part.code if "import" in block)
    with redirect_stdout(StringIO()) as told:
        exec(compile(code, "page", "exec"), {})  # noqa: S102 - our own lines
    assert "Name: prediction" in told.getvalue()
