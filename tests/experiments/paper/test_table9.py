import math
import os
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from hannet.data.regression import SETS, Regression
from hannet.experiments.base import load_experiment, mean_and_std
from hannet.experiments.paper import table9
from hannet.experiments.paper.table9 import (
    BY_SUBJECT,
    FRACTIONS,
    NETWORKS,
    PAPER_R2,
    PAPER_RMSE,
    Experiment,
    build,
    split,
    split_by_group,
)
from hannet.experiments.report import save
from hannet.experiments.runner import run_sweep
from hannet.experiments.store import Store
from hannet.reporting.tables import markdown


def silent(_) -> None:
    pass


@pytest.fixture
def small(monkeypatch):
    """Tables of 200 rows in place of the real ones; 10 subjects."""

    def regression(name: str) -> Regression:
        rng = np.random.default_rng(0)
        x = rng.normal(size=(200, 4))
        x[:, 0] = np.arange(200) // 20
        groups = x[:, 0].astype(np.int64) if name == "parkinsons" else None
        return Regression(x, np.abs(x[:, 1]) - x[:, 2], groups, SETS[name])

    monkeypatch.setattr(table9, "regression", regression)


def test_the_papers_numbers_are_those_of_its_table():
    path = Path(__file__).parents[4] / "shared" / "paper" / "tables.toml"
    if not path.exists():
        pytest.skip("the paper's tables are not beside the checkout")
    printed = tomllib.loads(path.read_text())["table9"]
    assert {name: list(row) for name, row in PAPER_RMSE.items()} == printed["rmse"]
    assert {name: list(row) for name, row in PAPER_R2.items()} == printed["r2"]


def test_the_plan_is_the_papers():
    groups = Experiment(tuple(range(5))).groups()
    cells = [group for group in groups if group[0].config["data"]["set"] != BY_SUBJECT]
    assert len(cells) == 5 * len(FRACTIONS) * len(NETWORKS)
    for group in cells:
        assert [run.seed for run in group] == list(range(5))
        assert all(run.config["epochs"] == 300 and run.config["recipe"]["lr"] == 1e-3 for run in group)
    assert {len(group) for group in groups if group not in cells} == {1}
    assert [sum(p.numel() for p in build(network, 13, 0).parameters()) for network in NETWORKS.values()] == [
        10_601,
        10_951,
        163_801,
    ]


@pytest.mark.parametrize(("fraction", "sizes"), [(0.8, (80, 8, 12)), (0.2, (20, 32, 48))])
def test_a_split_has_the_papers_shares_and_every_row_once(fraction, sizes):
    parts = split(100, fraction, 3)
    assert tuple(map(len, parts)) == sizes
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(100))
    assert torch.equal(parts.train, split(100, fraction, 3).train)
    assert not torch.equal(parts.train, split(100, fraction, 4).train)


def test_a_split_by_group_keeps_groups_whole():
    groups = torch.arange(100) // 7
    parts = split_by_group(groups, 0.8, 0)
    names = [set(groups[part].tolist()) for part in parts]
    assert not (names[0] & names[1] | names[0] & names[2] | names[1] & names[2])
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(100))


@pytest.mark.slow
def test_trains_reports_draws_and_repeats_nothing(small, tmp_path):
    plan = load_experiment("table9", [0, 1], quick=True, only=["skillcraft", BY_SUBJECT])
    store, seen = Store(tmp_path), []
    assert run_sweep(plan, store, seen.append) == 24
    assert seen[-1].fraction == pytest.approx(1)
    assert seen[-1].unit == "epochs"
    assert run_sweep(plan, store, silent) == 0
    records = store.records()
    for record in records.values():
        curves, metrics = record.curves, record.metrics
        assert {len(curve) for curve in curves.values()} == {table9.QUICK_EPOCHS}
        assert metrics["best_test_rmse"] == pytest.approx(min(curves["test_rmse"]), rel=1e-3)
        chosen = int(np.argmin(curves["validation_rmse"]))
        assert metrics["test_rmse"] == pytest.approx(curves["test_rmse"][chosen], rel=1e-3)
        assert metrics["best_test_r2"] >= metrics["test_r2"]
    table = plan.table(records)
    assert len(table.rows) == 2 * len(FRACTIONS) * len(NETWORKS)
    assert [row["paper_rmse"] for row in table.rows[:6]] == list(PAPER_RMSE["skillcraft"])
    assert {row["paper_rmse"] for row in table.rows[6:]} == {None}
    for hannet, *others in (
        table.rows[start : start + len(NETWORKS)] for start in range(0, len(table.rows), len(NETWORKS))
    ):
        assert hannet["held_out_p"] is None
        for row in others:
            assert row["held_out_ratio"] == pytest.approx(row["held_out"] / hannet["held_out"])
            assert 0 < row["held_out_p"] <= 1
    assert sum("Wilcoxon" in note and "of 2;" in note for note in table.notes) == len(NETWORKS) - 1
    assert "QUICK" in markdown(table)
    for path in save(tmp_path / plan.name, table, records, plan.picture(store)):
        assert path.stat().st_size > 500


def test_curves_and_metrics_are_those_of_the_networks(small):
    """With a rate of next to nothing the networks stay as they start, so every error can be had by hand."""
    plan = Experiment((0, 1), quick=True, only=("elevators",))
    runs = plan.groups()[0]
    for run in runs:
        run.config["recipe"]["lr"] = 1e-30
    table = table9.read("elevators")
    x, y = table9.standardise(table.x), torch.from_numpy(table.y).float()
    for run, result in zip(runs, plan.compute(runs, silent), strict=True):
        test = split(len(y), 0.8, run.seed).test
        with torch.no_grad():
            errors = build(run.config["network"], x.shape[1], run.seed)(x[test])[:, 0] - y[test]
        assert result.metrics["test_rmse"] == pytest.approx(float(errors.square().mean().sqrt()), rel=1e-5)
        r2 = 1 - float(errors.square().sum() / (y[test] - y[test].mean()).square().sum())
        assert result.metrics["test_r2"] == pytest.approx(r2, rel=1e-4)


def test_a_diverged_network_counts_as_missing_not_as_zero(small):
    plan = Experiment((0,), quick=True, only=("elevators",))
    runs = plan.groups()[1]
    runs[0].config["recipe"]["lr"] = 1e30
    (result,) = plan.compute(runs, silent)
    assert not math.isfinite(result.metrics["last_test_rmse"])


def test_mean_and_std():
    assert mean_and_std([1.0, 3.0]) == pytest.approx((2.0, 2**0.5))
    assert mean_and_std([1.0]) == (1.0, None)
    assert mean_and_std([1.0, None]) == mean_and_std([1.0, float("inf")]) == (None, None)


def test_unknown_parts_are_named():
    with pytest.raises(ValueError, match="'boston' is not a part of table9, which has bikesharing, calhousing"):
        load_experiment("table9", None, quick=True, only=["boston"])
    with pytest.raises(ValueError, match="figure1, which has no parts"):
        load_experiment("figure1", None, quick=True, only=["boston"])


def test_parts_are_run_once_in_the_tables_order():
    assert load_experiment("table9", [0], quick=True, only=["skillcraft", "bikesharing", "skillcraft"]).only == (
        "bikesharing",
        "skillcraft",
    )


def test_real_rows_are_learnt():
    if not os.environ.get("HANNET_DATA"):
        pytest.skip("HANNET_DATA is not set")
    plan = load_experiment("table9", [0], quick=True, only=["skillcraft"])
    run = plan.groups()[0][0]
    (result,) = plan.compute([run], silent)
    assert result.metrics["test_r2"] > 0.2
