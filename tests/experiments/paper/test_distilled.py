import pytest
import torch

from hannet.experiments.base import load_experiment
from hannet.experiments.paper import _mnist, distilled
from hannet.experiments.paper.distilled import LAYERS, NETWORKS, SIZES, Experiment
from hannet.experiments.record import Record, Run
from hannet.experiments.report import save
from hannet.experiments.runner import run_sweep
from hannet.experiments.store import Store
from hannet.reporting.tables import markdown
from hannet.train.recipe import Recipe


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("layer", LAYERS)
def test_a_tenth_of_the_parameters_is_left(network, layer):
    (run,) = [run for group in Experiment((0,)).groups() for run in group if is_of(run, network, layer)]
    net = _mnist.build(run.config["network"], 0)
    dense = torch.nn.Linear(784, 784)
    made = distilled.maker(run.config | {"fit": 0})(dense)
    depth = run.config["network"]["depth"]
    left = _mnist.parameters(net) + depth * (_mnist.parameters(made) - _mnist.parameters(dense))
    assert 0.09 <= left / _mnist.parameters(net) <= 0.1
    assert made(torch.rand(3, 784)).shape == (3, 784)


def is_of(run: Run, network: str, layer: str) -> bool:
    return run.config["network"] == NETWORKS[network] and run.config["layer"] == layer


def test_the_low_rank_layer_is_the_nearest():
    dense = torch.nn.Linear(784, 784)
    first, last = distilled.maker({"layer": "low rank", "size": 20})(dense)
    weight = dense.weight.detach()
    error = (weight - last.weight @ first.weight).norm().item()
    assert error == pytest.approx(torch.linalg.svdvals(weight)[20:].norm().item(), rel=1e-3)
    assert torch.equal(last.bias, dense.bias)


@pytest.mark.slow
def test_trains_replaces_distills_reports_and_draws(few_digits, monkeypatch, tmp_path):
    monkeypatch.setitem(SIZES, "784-784-10", 2)
    plan = load_experiment("distilled", [0], quick=True, only=["784-784-10"])
    store, seen = Store(tmp_path), []
    assert run_sweep(plan, store, seen.append) == len(LAYERS)
    assert seen[-1].label.startswith("depth 1, seed 0")
    records = store.records()
    for record in records.values():
        assert record.metrics["parameters"] < record.metrics["parameters_before"]
    assert any(r.metrics["accuracy_distilled"] != r.metrics["accuracy_replaced"] for r in records.values())
    assert len({record.metrics["accuracy_before"] for record in records.values()}) == 1
    table = plan.table(records)
    assert [row["layer"] for row in table.rows] == [*LAYERS]
    assert "QUICK" in markdown(table)
    for path in save(tmp_path / plan.name, table, records, plan.picture(store)):
        assert path.stat().st_size > 500


def test_points_lost_are_of_the_same_seed():
    plan = Experiment((0, 1), only=("784-784-10",))
    records = {}
    for group in plan.groups():
        for run in group:
            accuracy = {"accuracy_before": 0.97 + run.seed / 100, "accuracy_distilled": 0.96 + run.seed / 100}
            metrics = accuracy | {"accuracy_replaced": 0.5, "parameters": 10.0, "parameters_before": 100.0}
            records[run.key] = Record.of(run, metrics, 1.0)
    row = plan.table(records).rows[0]
    assert (row["lost"], row["lost_std"]) == (pytest.approx(1.0), pytest.approx(0.0, abs=1e-9))
    assert (row["before"], row["share"], row["seeds"]) == (pytest.approx(97.5), pytest.approx(10.0), 2)


def test_every_run_trains_as_long():
    runs = [run for group in Experiment((0, 1)).groups() for run in group]
    assert len({run.key for run in runs}) == 2 * len(NETWORKS) * len(LAYERS)
    assert {Recipe(**run.config["recipe"]).iterations for run in runs} == {5 * (60_000 // 256)}
