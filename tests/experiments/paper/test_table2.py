import pytest

from hannet.experiments.base import load_experiment
from hannet.experiments.paper import figure3, table2
from hannet.experiments.paper.figure3 import PAIRS
from hannet.experiments.paper.table2 import INPUTS, Experiment
from hannet.experiments.record import Record
from hannet.experiments.report import save
from hannet.experiments.runner import run_sweep
from hannet.experiments.store import Store
from hannet.reporting.tables import markdown


def silent(_) -> None:
    pass


def test_two_inputs_are_the_runs_of_figure3():
    ours, theirs = (
        {run.key: run for group in kind((0,)).groups() for run in group} for kind in (Experiment, figure3.Experiment)
    )
    shared = [run for key, run in ours.items() if key in theirs]
    assert len(shared) == len(PAIRS) * 16
    assert {(run.config["inputs"], run.config["network"]["width"]) for run in shared} == {(2, 100)}


def test_numbers_stand_beside_the_papers():
    experiment = Experiment((0, 1))
    metrics = {"test_rmse": 0.001, "train_loss": 1e-6, "target_std": 0.05}
    records = {run.key: Record.of(run, metrics, 1) for group in experiment.groups() for run in group}
    rows = experiment.table(records).rows
    assert [(row["target"], row["trained"]) for row in rows[:: len(INPUTS)]] == list(PAIRS)
    assert {row["inputs"] for row in rows} == set(INPUTS)
    assert all((row["rmse_std"], row["relative"]) == pytest.approx((0, 2)) for row in rows)
    assert (rows[0]["rmse"], rows[0]["published"]) == pytest.approx((1, 0.33))
    assert rows[0]["ratio"] == pytest.approx(0.001 / 0.00033)


def test_trains_reports_and_draws(monkeypatch, tmp_path):
    monkeypatch.setattr(figure3, "QUICK_ITERATIONS", 5)
    monkeypatch.setattr(figure3, "POINTS", {"train": 60, "test": 80})
    monkeypatch.setattr(table2, "WIDTH", 8)
    plan, store = load_experiment("table2", [0], quick=True, only=["adam"]), Store(tmp_path)
    assert run_sweep(plan, store, silent) == len(PAIRS) * len(INPUTS)
    records = store.records()
    table = plan.table(records)
    assert all(row["rmse_std"] is None and row["rmse"] == row["held_out"] for row in table.rows)
    assert "QUICK" in markdown(table)
    for path in save(tmp_path / plan.name, table, records, plan.picture(store)):
        assert path.stat().st_size > 500
