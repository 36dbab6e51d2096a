from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hannet.certify import certificates, certified_accuracy
from hannet.experiments.base import load_experiment
from hannet.experiments.paper import _certified, _mnist, certified, certified_search
from hannet.experiments.paper.certified import CHOSEN, EPOCHS, RADII, Experiment
from hannet.experiments.paper.certified_search import SHAPES
from hannet.experiments.record import Record, Run
from hannet.experiments.report import save
from hannet.experiments.runner import run_sweep
from hannet.experiments.store import Store
from hannet.reporting.tables import markdown
from hannet.train.recipe import Recipe


def test_all_nets_train_alike_but_for_loss_and_rate():
    groups = Experiment((0, 1, 2, 3)).groups()
    assert len(groups) == 4 * len(CHOSEN) - 1  # of one part there are three
    recipes = [Recipe(**run.config["recipe"]) for (run,) in groups]
    assert {recipe.iterations for recipe in recipes} == {EPOCHS * (60_000 // 256)}
    assert {(recipe.batch, recipe.schedule, recipe.optimizer) for recipe in recipes} == {(256, "cosine", "adam")}
    sizes = [_mnist.parameters(_mnist.build(SHAPES["HanNet"][CHOSEN[part][1]], 0)) for part in ("HanNet", "small")]
    assert sizes == [145_418, 32_938]


def test_what_trains_is_what_the_search_found():
    store = Store(Path(__file__).parents[3] / "results" / "certified-search")
    search, records = certified_search.Experiment((0,)), store.records()
    for part, radius in (("HanNet", 1.58), ("HanNet-0.5", 0.5), ("dense", 1.58)):
        kind, *found = CHOSEN[part]
        assert search.best(kind, radius, records) == tuple(found)


@pytest.fixture
def tiny(few_digits, monkeypatch):
    monkeypatch.setattr(certified, "QUICK_EPOCHS", 2)


@pytest.mark.parametrize("part", ["small", "dense-0.003"])
def test_trains_certifies_reports_and_draws(part, tiny, tmp_path):
    if part.startswith("dense"):
        pytest.importorskip("deel.torchlip")
    plan, store, seen = load_experiment("certified", [0, 1], quick=True, only=[part]), Store(tmp_path), []
    assert run_sweep(plan, store, seen.append) == 2
    assert run_sweep(plan, store, seen.append) == 0
    assert seen[-1].label.startswith(part)
    for record in store.records().values():
        curve = record.curves["certified"]
        assert sorted(curve, reverse=True) == curve
        assert record.metrics["accuracy"] == pytest.approx(curve[0], abs=5e-3)
        assert record.metrics["accuracy"] >= record.metrics["certified_0.5"]
        assert record.metrics["certified_0.5"] >= record.metrics["certified_1.58"]
    table = plan.table(store.records())
    assert "QUICK" in markdown(table)
    for path in save(tmp_path / plan.name, table, store.records(), plan.picture(store)):
        assert path.stat().st_size > 500


def test_the_dense_net_is_as_certain_as_its_own_bound_says(tiny):
    """deel-torchlip's layers are 1-Lipschitz, so a certificate reaches at least margin / 2."""
    pytest.importorskip("deel.torchlip")
    (run,) = load_experiment("certified", [0], quick=True, only=["dense-0.003"]).groups()[0]
    net = _certified.train(run, "dense", lambda _: None)
    x = _mnist.digits(_mnist.ALL, "test").x[:50].double()
    best, second = net(x).topk(2).values.T
    radius = certificates(net, x)[1]
    assert (radius >= 0.98 * (best - second) / 2).all()
    assert certified_accuracy(net, x, net(x).argmax(1), [0.0]) == [1.0]


def test_a_net_that_diverged_certifies_nothing():
    net = _mnist.build(SHAPES["HanNet"]["1 layer of 31 reflections"], 0).double()
    net.layers[-1].bias.data[0] = torch.nan
    assert _certified.judge(net, _mnist.Digits(torch.rand(5, 784), torch.arange(5))) == (0.0, [0.0, 0.0])


def made_up(run: Run) -> Record:
    metrics = {"accuracy": 0.9 + run.seed / 100, "parameters": 10.0, "processor_seconds": 5.0}
    return Record.of(run, metrics | {f"certified_{radius:g}": 0.5 for radius in RADII}, 1.0)


def test_the_table_shows_means_in_percent():
    plan = Experiment((0, 2))
    table = plan.table({run.key: made_up(run) for group in plan.groups() for run in group})
    assert [row["accuracy"] for row in table.rows] == [pytest.approx(91.0)] * len(CHOSEN)
    assert table.rows[0]["accuracy_std"] == pytest.approx(2 / 2**0.5)
    assert table.rows[0]["certified_1.58"] == 50.0
    assert table.rows[0]["diverged"] == 0


def test_seeds_that_diverged_are_counted_and_left_out():
    plan = Experiment((0, 1, 2), only=("dense",))
    records = {run.key: made_up(run) for group in plan.groups() for run in group}
    lost = plan.groups()[1][0].key
    records[lost] = replace(records[lost], metrics=dict.fromkeys(records[lost].metrics, 0.0))
    (row,) = plan.table(records).rows
    assert row["diverged"] == 1
    assert row["accuracy"] == pytest.approx(91.0)
