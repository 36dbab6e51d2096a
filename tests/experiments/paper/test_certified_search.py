from dataclasses import replace

import pytest

from hannet.experiments.base import load_experiment
from hannet.experiments.paper import _mnist
from hannet.experiments.paper.certified_search import DATA, LOSSES, RATES, SHAPES, Experiment
from hannet.experiments.record import Record
from hannet.experiments.report import save
from hannet.experiments.runner import run_sweep
from hannet.experiments.store import Store
from hannet.reporting.tables import markdown


def test_both_kinds_have_the_same_search():
    groups = Experiment((0,)).groups()
    assert len(groups) == len(SHAPES) * 2 * len(RATES) * len(LOSSES)
    recipes = {kind: [] for kind in ("HanNet", "torchlip")}
    for (run,) in groups:
        recipes[run.config["network"]["kind"]].append(str(run.config["recipe"]))
        assert run.config["data"] == DATA
    assert sorted(recipes["HanNet"]) == sorted(recipes["torchlip"])


def test_the_images_that_judge_neither_train_nor_test():
    train, validation = (
        _mnist.digits({**DATA, "train": 50, "validation": 20}, part) for part in ("train", "validation")
    )
    assert not (train.x[:, None] == validation.x).all(-1).any()


def test_the_best_at_each_radius_is_chosen():
    plan, records = Experiment((0,)), {}
    for number, (run,) in enumerate(plan.groups()):
        metrics = {
            "accuracy": 0.9,
            "parameters": 1.0,
            "certified_0.5": number / 100,
            "certified_1.58": 0.5 - number / 100,
        }
        records[run.key] = Record.of(run, metrics, 1.0)
    first, last = (name for name in SHAPES["HanNet"])
    assert plan.best("HanNet", 1.58, records) == (first, RATES[0], next(iter(LOSSES)))
    assert plan.best("HanNet", 0.5, records) == (last, RATES[-1], list(LOSSES)[-1])
    key = plan.groups()[0][0].key
    records[key] = replace(records[key], metrics={"accuracy": 0.1, "certified_0.5": None, "certified_1.58": None})
    assert plan.best("HanNet", 1.58, records) != (first, RATES[0], next(iter(LOSSES)))


@pytest.mark.parametrize("part", ["HanNet", "dense"])
def test_searches_reports_and_draws(part, few_digits, monkeypatch, tmp_path):
    if part == "dense":
        pytest.importorskip("deel.torchlip")
    monkeypatch.setitem(DATA, "train", 300)
    monkeypatch.setitem(DATA, "validation", 300)
    plan, store = load_experiment("certified-search", [0], quick=True, only=[part]), Store(tmp_path)
    assert run_sweep(plan, store, lambda _: None) == 1
    table = plan.table(store.records())
    assert "QUICK" in markdown(table)
    for path in save(tmp_path / plan.name, table, store.records(), plan.picture(store)):
        assert path.stat().st_size > 500
