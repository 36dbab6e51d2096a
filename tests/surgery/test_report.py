import re

import pytest
import torch
from torch import nn

from hannet.surgery import SurgeryError, replace_linear, report, sensitivity
from hannet.surgery.report import recommend, repeated
from html_pages import parse


def operated(name="0", by=2):
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3)).train()
    return model, replace_linear(model, name, by=by, steps=0)


def quality(value_before, value_after):
    return lambda model: value_after if type(model[0]) is not nn.Linear else value_before


def test_a_report_says_what_was_measured_before_and_after(tmp_path):
    model, done = operated()
    found = report(done, torch.randn(3, 64), quality(0.9, 0.9), seconds=0.01)
    rows = {row["what"]: row for row in found.tables[0].rows}
    total = sum(p.numel() for p in model.parameters())
    assert rows["parameters"]["before"] == "4,355"
    assert rows["parameters"]["after"] == f"{total:,}"
    assert rows["parameters"]["ratio"] == pytest.approx(total / 4355)
    assert rows["bytes"]["after"] == f"{4 * total:,}"
    assert rows["multiply-adds a row"]["before"] == f"{64 * 64 + 64 * 3:,}"
    assert {"milliseconds, batch 1", "milliseconds, batch 64", "accuracy"} <= rows.keys()
    assert re.search(r"medians on cpu, \d+ thread", found.tables[0].notes[0])
    assert found.worth_it
    assert found.recommendation.startswith("Worth it")
    assert model.training, "measuring changes no mode"
    paths = found.save(tmp_path / "made" / "anew")
    assert [path.name for path in paths] == ["report.md", "report.html"]
    page = parse(paths[1].read_text())
    assert not page.loads
    assert page.tags.count("tr") == 2 + len(found.tables[0].rows) + len(found.tables[1].rows)
    assert found.recommendation in paths[0].read_text()


def test_names_are_escaped():
    model = nn.Sequential()
    model.add_module("<b>", nn.Linear(64, 64))
    found = report(replace_linear(model, by=1, steps=0), torch.randn(1, 64), seconds=0.01)
    assert "<b>" not in found.html()
    assert "&lt;b&gt;" in found.html()


def test_losses_count_the_other_way():
    _, done = operated()
    assert report(done, torch.randn(1, 64), quality(1.0, 2.0), seconds=0.01).worth_it
    found = report(done, torch.randn(1, 64), quality(1.0, 2.0), higher_is_better=False, seconds=0.01)
    assert found.worth_it is False
    assert "worse by 1, more than the 0.01 tolerated" in found.recommendation


def test_effects_of_layers_have_a_table():
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    planned = replace_linear(model, by=1, steps=0, dry_run=True)
    effects = sensitivity(model, quality(1.0, 0.5), planned)
    found = report(planned.apply(), torch.randn(1, 8), effects=effects, seconds=0.01)
    assert [table.title for table in found.tables] == ["Before and after", "Surgery", "Sensitivity"]


@pytest.mark.parametrize(
    ("smaller", "faster", "worse", "expected", "words"),
    [
        (0.5, 2.0, 0.0, True, "Worth it: 50.0% fewer parameters; 2.00 times as fast"),
        (0.5, 0.5, -0.1, True, "2.00 times as slow at batch 1; no worse (better by 0.1)"),
        (0.5, 2.0, 0.1, False, "Not worth it as it is: worse by 0.1"),
        (0.5, 2.0, float("nan"), False, "Not worth it as it is: evaluate gave NaN"),
        (0.05, 1.0, 0.0, False, "Not worth it: the model is neither much smaller nor faster"),
        (-0.2, 0.9, None, False, "20.0% more parameters"),
        (0.5, 1.0, None, None, "Whether that is worth it depends on its accuracy"),
    ],
)
def test_the_recommendation_is_plain(smaller, faster, worse, expected, words):
    worth_it, why = recommend(smaller, {1: faster}, worse, 0.01)
    assert worth_it is expected
    assert words in why


def test_examples_of_every_kind_are_repeated():
    x = torch.arange(6).view(2, 3)
    assert torch.equal(repeated(x, 4), x[:1].expand(4, 3))
    assert repeated({"x": x, "flag": True}, 2)["flag"] is True
    assert repeated((x, None), 5)[0].shape == (5, 3)


def test_bad_arguments_are_named():
    _, done = operated()
    with pytest.raises(ValueError, match="tolerated must be at least 0, got -1"):
        report(done, torch.randn(1, 64), tolerated=-1)
    done.undo()
    with pytest.raises(SurgeryError, match="not carried out"):
        report(done, torch.randn(1, 64))
