import pytest

from hannet.experiments.base import EXPERIMENTS, comparisons
from hannet.experiments.verdicts import Comparison, compare, count, verdict_table

ROWS = [
    {"net": "HanNet", "inputs": 2, "share": 0.8, "test": 98.5, "std": 2.2, "paper": 99.2},
    {"net": "FCNet", "inputs": 3, "share": 0.2, "test": 80.0, "std": None, "paper": 90.0},
    {"net": "MLP", "inputs": 4, "share": 0.2, "test": None, "std": None, "paper": 85.0},
    {"net": "ours", "inputs": 4, "share": 0.2, "test": 50.0, "std": 1.0, "paper": None},
]


def test_each_row_that_the_paper_has_gets_a_verdict():
    found = compare(ROWS, [Comparison("test", "paper", 1.0, ["net", "inputs", "share"], "test %", "std")])
    assert [verdict.same for verdict in found] == [True, False, None]
    first, second, third = (verdict.cells() for verdict in found)
    assert first == {
        "row": "HanNet, inputs 2, 80%, test %",
        "ours": "98.5 ± 2.2",
        "theirs": "99.2",
        "difference": "-0.7",
        "verdict": "✓ within tolerance",
    }
    assert second["verdict"] == "≠ differs: worse"
    assert third["verdict"] == "not run"
    assert count(found) == "1 of 3 within tolerance, 1 not run"


def test_less_may_be_better_and_a_tolerance_relative():
    rows = [{"rmse": 1.2, "paper": 1.0}, {"rmse": 0.5, "paper": 1.0}]
    comparison = Comparison("rmse", "paper", 0.2, [], relative=True, higher_is_better=False)
    near, far = compare(rows, [comparison])
    assert near.same
    assert far.cells()["verdict"] == "≠ differs: better"
    assert compare([{"rmse": 1.21, "paper": 1.0}], [comparison])[0].cells()["verdict"] == "≠ differs: worse"


def test_a_row_whose_number_another_has_is_not_compared():
    found = compare(ROWS, [Comparison("test", "paper", 1.0, ["net"], without={"net": "FCNet"})])
    assert [verdict.row for verdict in found] == ["HanNet", "MLP"]


def test_a_misspelt_key_is_an_error():
    with pytest.raises(KeyError, match="tset"):
        compare(ROWS, [Comparison("tset", "paper", 1.0, ["net"])])


def test_the_table_states_its_tolerances():
    two = [Comparison("test", "paper", 1.0, ["net"], "test %", "std"), Comparison("std", "std", 0.5, ["net"], "spread")]
    notes = verdict_table(compare(ROWS, two)).notes
    assert notes[0] == "tolerance: a difference of at most 1 (test %); 0.5 (spread)"
    assert notes[1] == "±: standard deviation over seeds"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_states_what_it_compares(name):
    assert all(comparison.within > 0 and comparison.rows for comparison in comparisons(name))
