from pathlib import Path

import pytest
import torch

from hannet.experiments.base import load_experiment
from hannet.experiments.paper import _gpt, feedforward
from hannet.experiments.paper.feedforward_search import DATA, RATES, SEARCHED, START
from hannet.experiments.report import save
from hannet.experiments.runner import run_sweep
from hannet.experiments.store import Store

RESULTS = Path(__file__).parents[3] / "results" / "feedforward-search"


def test_the_search_sees_neither_the_last_tenth_nor_a_start_of_the_comparison(monkeypatch):
    monkeypatch.setattr(_gpt, "characters", lambda: torch.arange(1000))
    assert START not in range(feedforward.Experiment.trials)
    seen = torch.cat(_gpt.parts(DATA))
    _, held_out = _gpt.parts(feedforward.DATA)
    assert seen.max() < held_out.min()


def test_every_candidate_has_the_same_rates():
    runs = [run for group in load_experiment("feedforward-search", None, quick=False).groups() for run in group]
    tried = {
        part: {run.config["recipe"]["lr"] for run in runs if feedforward.part_of(run) == part} for part in SEARCHED
    }
    assert set(map(frozenset, tried.values())) == {frozenset(RATES)}
    assert len({run.key for run in runs}) == len(runs) == len(RATES) * len(SEARCHED)


def test_trains_reports_and_draws(monkeypatch, tmp_path):
    monkeypatch.setattr(_gpt, "characters", lambda: torch.arange(2000) % _gpt.SYMBOLS)
    plan, store = load_experiment("feedforward-search", None, quick=True, only=["none", "han-0.5"]), Store(tmp_path)
    assert run_sweep(plan, store, lambda _: None) == 2 * len(RATES)
    records = store.records()
    none, han = reversed(plan.table(records).rows)
    assert (none["method"], han["method"]) == ("none", "HanBlock")
    assert none[f"{none['best']:g}"] == min(none[f"{rate:g}"] for rate in RATES)
    for path in save(tmp_path / plan.name, plan.table(records), records, plan.picture(store)):
        assert path.stat().st_size > 500


@pytest.mark.parametrize("part", SEARCHED)
def test_the_comparison_takes_the_best_rate(part):
    losses = load_experiment("feedforward-search", None, quick=False).losses(
        part, Store(RESULTS, write=False).records()
    )
    assert len(losses) == len(RATES)
    assert feedforward.CANDIDATES[part].rate == min(losses, key=losses.__getitem__)
