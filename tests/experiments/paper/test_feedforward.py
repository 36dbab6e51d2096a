import pytest
import torch

from hannet.experiments.base import load_experiment
from hannet.experiments.paper import _gpt
from hannet.experiments.paper.feedforward import ALLOWED, CANDIDATES, FULL, METHODS, Experiment
from hannet.experiments.report import save
from hannet.experiments.runner import run_sweep
from hannet.experiments.store import Store
from hannet.reporting.tables import markdown


@pytest.fixture
def few_characters(monkeypatch):
    """2,000 characters that repeat in place of the plays."""
    monkeypatch.setattr(_gpt, "characters", lambda: torch.arange(2000) % _gpt.SYMBOLS)


@pytest.mark.parametrize("part", CANDIDATES)
def test_a_candidate_keeps_within_its_budget(part):
    candidate = CANDIDATES[part]
    made = _gpt.build_feedforward(**candidate.form)
    size = 0 if made is None else _gpt.BLOCKS * _gpt.size(made)
    budget = FULL * candidate.budget / 100
    assert 0.7 * budget <= size <= ALLOWED * budget
    assert made is None or made(torch.randn(2, 3, 128)).shape == (2, 3, 128)
    assert part.startswith({"HanBlock": "han", "narrow MLP": "mlp"}.get(candidate.method, candidate.method.lower()[:3]))


def test_all_train_alike_but_for_the_rate():
    runs = [run for group in Experiment((0, 1)).groups() for run in group]
    assert len({run.key for run in runs}) == 2 * len(CANDIDATES)
    assert len({str({**run.config["recipe"], "lr": None}) for run in runs}) == 1
    assert {candidate.method for candidate in CANDIDATES.values()} == {*METHODS}


def test_the_usual_feedforward_is_the_whole_budget():
    assert _gpt.BLOCKS * _gpt.size(_gpt.build_feedforward(**CANDIDATES["mlp-100"].form)) == FULL


def test_trains_measures_reports_and_draws(few_characters, tmp_path):
    plan = load_experiment("feedforward", [0, 1], quick=True, only=["none", "han-0.5", "mlp-0.5"])
    store, seen = Store(tmp_path), []
    assert run_sweep(plan, store, seen.append) == 6
    assert seen[-1].label == "none, rate 0.002, seed 1"
    records = store.records()
    assert {record.metrics["feedforward_parameters"] for record in records.values()} == {0, 2560, 2568}
    table = plan.table(records)
    assert [(row["method"], row["seeds"]) for row in table.rows] == [("none", 2), ("HanBlock", 2), ("narrow MLP", 2)]
    assert all(2 < row["loss"] < 6 and row["step"] > 0 for row in table.rows)
    assert "QUICK" in markdown(table)
    for path in save(tmp_path / plan.name, table, records, plan.picture(store)):
        assert path.stat().st_size > 500


def test_what_is_missing_is_left_out(few_characters, tmp_path):
    plan, store = load_experiment("feedforward", [0, 1], quick=True, only=["none", "mlp-0.5"]), Store(tmp_path)
    store.append([])
    alone = load_experiment("feedforward", [1], quick=True, only=["none"])
    run_sweep(alone, store, lambda _: None)
    (row,) = plan.table(store.records()).rows
    assert (row["seeds"], row["loss_std"]) == (1, None)
    plan.picture(store)
