import json
import math

import pytest

from hannet import FCNet, HanNet, HanRegressor
from hannet.experiments.base import load_experiment
from hannet.experiments.paper import tabular_controls
from hannet.experiments.paper.table9 import FRACTIONS, PAPER_RMSE
from hannet.experiments.paper.tabular_controls import (
    DEFAULT,
    FULL_TABM,
    RATES,
    SEARCHED,
    SEARCHES,
    equal_fcnet,
)
from hannet.experiments.record import Run
from hannet.experiments.report import save
from hannet.experiments.runner import run_sweep
from hannet.experiments.store import Store
from hannet.reporting.tables import markdown


def silent(_) -> None:
    pass


def size(network) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("inputs", "outputs", "width", "depth"), [(136, 1, 80, 5), (352, 1, 80, 5), (7, 3, 20, 2), (1, 1, 2, 9)]
)
def test_equal_size_is_the_largest_that_fits(inputs, outputs, width, depth):
    network = equal_fcnet(inputs, outputs, width, depth)
    units = network.layers[0].out_features
    most = size(HanNet(inputs, outputs, width, depth))
    assert size(network) <= most < size(FCNet(inputs, outputs, units + 1, depth))
    assert sum(type(layer).__name__ == "ReLU" for layer in network.layers) == depth


def test_what_tabular_has_computed_is_not_computed_again():
    controls, tabular = (
        load_experiment("tabular-controls", None, quick=False),
        load_experiment("tabular", None, quick=False),
    )
    shared = {run.key for group in tabular.groups() for run in group if run.config["data"]["set"] in PAPER_RMSE}
    own = [run for group in controls.groups() for run in group]
    assert shared <= {run.key for run in own}
    new = [run for run in own if run.key not in shared]
    assert len(new) == len(PAPER_RMSE) * len(FRACTIONS) * (len(SEARCHES) - 1) * 5  # the large one is run on request
    assert all(run.config["search"]["rates"] == list(RATES) for run in new)
    assert all(controls.cost(run) > 0 for run in own)


def test_the_full_tabm_is_run_where_it_is_asked_for():
    plan = load_experiment("tabular-controls", None, quick=False, only=["skillcraft", "tabm-full"])
    runs = [run for group in plan.groups() for run in group if run.config["method"] == FULL_TABM]
    assert [(run.config["data"]["set"], run.seed) for run in runs] == 2 * [("skillcraft", seed) for seed in range(3)]
    everywhere = load_experiment("tabular-controls", None, quick=False, only=["tabm-full"])
    assert everywhere.chosen_parts == tuple(PAPER_RMSE)


@pytest.mark.slow
def test_fits_reports_and_draws(few_rows, tmp_path):
    plan = load_experiment("tabular-controls", [0, 1], quick=True, only=["elevators", "dense-5x200"])
    store = Store(tmp_path)
    several = len(plan.methods) - 1  # all but TabM
    assert run_sweep(plan, store, silent) == len(FRACTIONS) * (2 * several + 1)
    records = store.records()
    for record in records.values():
        if record.config["method"] in SEARCHES:
            metrics = record.metrics
            losses = {rate: metrics[f"held_out_{rate:g}"] for rate in RATES}
            assert losses[metrics["learning_rate"]] == min(losses.values())
            assert metrics["cpu_seconds"] > 0 < metrics["search_cpu_seconds"]
    rates = {(row["set"], row.get("fraction"), row["method"]): row.get("rate") for row in plan.table(records).rows}
    for record in records.values():
        data = record.config["data"]
        assert rates[data["set"], data["fraction"], record.config["method"]] == record.metrics.get("learning_rate")
    table = plan.table(records)
    json.dumps(list(table.rows), allow_nan=False)
    for start in (0, len(plan.methods)):
        rows = table.rows[start : start + len(plan.methods)]
        assert [row["method"] for row in rows] == list(plan.methods)
        (best,) = (row for row in rows if row.get("best"))
        assert best["rmse"] == min(row["rmse"] for row in rows)
        assert rows[0]["bytes"] == 4 * rows[0]["size"]
        assert rows[2]["size"] <= rows[1]["size"] == rows[0]["size"] < rows[3]["size"]
        assert "ratio_default" not in rows[0]
        assert "ratio_searched" not in rows[1]
        assert 0 < rows[2]["p_searched"] <= 1
    assert [row["set"] for row in table.rows[-(several + 1) + 1 :]] == ["all cells"] * several
    assert table.rows[-1]["ratio_searched"] > 0
    assert "QUICK" in markdown(table)
    for path in save(tmp_path / plan.name, table, records, plan.picture(store)):
        assert path.stat().st_size > 500


@pytest.mark.slow
def test_with_its_own_rate_the_searched_regressor_is_hanregressor(few_rows, monkeypatch):
    monkeypatch.setattr(tabular_controls, "RATES", (HanRegressor().learning_rate,))
    plan = load_experiment("tabular-controls", [0, 1], quick=True, only=["elevators"])
    (searched,) = (group for group in plan.groups() if method_and_share(group[0]) == (SEARCHED, 0.8))
    default = [group for group in plan.groups() if method_and_share(group[0]) == (DEFAULT, 0.8)]
    alone = [plan.compute(group, silent)[0].metrics for group in default]
    together = [result.metrics for result in plan.compute(searched, silent)]
    for name in ("test_rmse", "test_r2", "parameters"):
        assert [metrics[name] for metrics in together] == [metrics[name] for metrics in alone]


def method_and_share(run) -> tuple[str, float]:
    return run.config["method"], run.config["data"]["fraction"]


@pytest.mark.slow
def test_a_rate_that_diverges_is_not_taken(few_rows, monkeypatch):
    monkeypatch.setattr(tabular_controls, "RATES", (1e30, 1e-2))
    plan = load_experiment("tabular-controls", [3], quick=True, only=["elevators", "dense-5x200"])
    (group,) = (group for group in plan.groups() if method_and_share(group[0]) == ("dense 5x200", 0.8))
    (result,) = plan.compute(group, silent)
    assert result.metrics["learning_rate"] == 1e-2
    assert result.metrics["held_out_1e+30"] == math.inf


@pytest.mark.slow
def test_a_rate_does_not_depend_on_the_seeds_that_are_left_to_run(few_rows):
    plan = load_experiment("tabular-controls", [0, 1], quick=True, only=["elevators"])
    (group,) = (group for group in plan.groups() if method_and_share(group[0]) == ("dense, equal size", 0.8))
    both, second = plan.compute(group, silent), plan.compute(group[1:], silent)
    timed = {"seconds", "cpu_seconds", "search_cpu_seconds"}
    first, again = (
        {k: v for k, v in metrics.items() if k not in timed} for metrics in (both[1].metrics, second[0].metrics)
    )
    assert first == again


def test_a_control_names_its_network_and_its_search():
    plan = load_experiment("tabular-controls", [0], quick=True, only=["elevators", "dense-5x200"])
    configs = {run.config["method"]: run.config for group in plan.groups() for run in group}
    assert configs["dense, equal size"]["network"] == "FCNet of equal size"
    assert configs["dense 5x200"]["parameters"]["width"] == 200
    keys = {Run("tabular", config, 0).key for config in configs.values()}
    assert len(keys) == len(configs) == len(plan.methods)
