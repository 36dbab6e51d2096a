import math

import pytest
import torch

from hannet.experiments.base import load_experiment
from hannet.experiments.paper import depth
from hannet.experiments.record import Record
from hannet.experiments.report import save
from hannet.experiments.runner import run_sweep
from hannet.experiments.store import Store


def trained_at(experiment: depth.Experiment, layers: int) -> set[str]:
    return {net for net in depth.KINDS if layers in experiment.depths(net)}


def test_the_slow_nets_are_not_trained_where_they_are_deep():
    always = "dense + ABS, always orthogonal"
    usual, deep, wide = (depth.Experiment((0,), False, only) for only in ((), ("deep",), ("width-256",)))
    assert trained_at(usual, 100) == trained_at(wide, 100) == set(depth.KINDS)
    assert trained_at(usual, 300) == trained_at(deep, 1000) == set(depth.KINDS) - {always}
    assert trained_at(usual, 1000) == trained_at(wide, 300) == {depth.HAN, depth.LONGER}
    assert wide.runs(10, "HanNet", "mnist")[0].config["network"]["width"] == 256
    trainings = 3 * (5 + 5 + 4 + 4 + 3 + 4)
    assert len(usual.groups()) == 5 * 5 + trainings


def test_every_net_gets_the_same_steps_and_rates():
    steps, rest = {}, []
    for (run,) in depth.Experiment((0,)).groups():
        if "recipe" in run.config:
            recipe = {name: value for name, value in run.config["recipe"].items() if name != "loss"}
            steps.setdefault(run.config["network"]["kind"], set()).add(recipe.pop("iterations"))
            rest.append((recipe, run.config["rates"]))
    assert all(one == rest[0] for one in rest)
    assert steps.pop("HanNet") == {150, 1500}
    assert all(one == {150} for one in steps.values())


def test_scores_of_what_diverged_are_the_worst():
    y = torch.eye(10)[:4]
    assert depth._accuracy(y, y) == 1
    assert depth._accuracy(y * math.nan, y) == 0
    assert depth._minus_rmse(y + 1, y) == -1
    assert depth._minus_rmse(y * math.nan, y) == -math.inf


def test_a_tables_targets_are_scaled_by_its_training_rows(few_rows):
    task = depth.load_task({"set": "calhousing", "fraction": 0.8}, seed=1)
    assert [len(rows.x) for rows in task[1:]] == [96, 10, 14]
    assert float(task.train.y.mean()) == pytest.approx(0, abs=1e-5)
    assert float(task.train.y.std()) == pytest.approx(1)


@pytest.mark.slow
def test_trains_reports_and_draws(few_digits, few_rows, monkeypatch, tmp_path):
    monkeypatch.setattr(depth, "DEPTHS", (3, 4))
    experiment, store = load_experiment("depth", [0], quick=True), Store(tmp_path)
    assert run_sweep(experiment, store, [].append) == 2 * (5 + 6 * 3)
    for record in store.records().values():
        (curve,) = record.curves.values()
        assert len(curve) == len(depth.places(record.config["network"]["depth"]))
        if record.experiment == "depth-start-quick":
            assert record.metrics.get("checkpointing_difference", 0) == 0
            continue
        scores = [record.metrics[f"validation_{rate:g}"] for rate in depth.RATES]
        best = max(scores) if record.config["data"]["set"] == "mnist" else min(scores)
        assert record.metrics[f"validation_{record.metrics['learning_rate']:g}"] == best
    table = experiment.table(store.records())
    assert len(table.rows) == 2 * 7
    for path in save(tmp_path / experiment.name, table, store.records(), experiment.picture(store)):
        assert path.stat().st_size > 500


def test_a_row_takes_the_largest_spread_and_none_if_one_vanished():
    experiment = depth.Experiment((0, 1), False, ("mnist", "calhousing"))
    costs = {"step_seconds": 0.002, "step_bytes": 2.0**20}
    start = {"parameters": 5.0, "start_spread": 1.0, "start_distance_kept": 0.1, **costs}
    starts = [Record.of(run, start, 1) for run in experiment.starts(10, "HanNet")]

    def row(worst: float) -> dict[str, object]:
        trained = {
            task: [
                Record.of(run, {"test": 0.5, "learning_rate": 0.01, "end_spread": worst if run.seed else 3.0}, 1)
                for run in experiment.runs(10, "HanNet", task)
            ]
            for task in experiment.tasks
        }
        return depth._row(starts, trained)

    scores = {"mnist": 50.0, "mnist_std": 0.0, "calhousing": 0.5, "calhousing_std": 0.0}
    rest = {"distance": 0.1, "rates": "0.01; 0.01", "milliseconds": 2.0, "mib": 1.0}
    assert row(7.0) == {"size": 5, "start": 1.0, "end": 7.0, **scores, **rest}
    assert row(math.inf)["end"] is None
    assert depth._row(starts, {})["end"] is None
