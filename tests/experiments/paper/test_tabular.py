import numpy as np
import pytest

from hannet.experiments.base import load_experiment
from hannet.experiments.paper import tabular
from hannet.experiments.paper.table9 import BY_SUBJECT, FRACTIONS, PAPER_RMSE
from hannet.experiments.paper.tabular import METHODS
from hannet.experiments.report import save
from hannet.experiments.runner import run_sweep
from hannet.experiments.store import Store
from hannet.reporting.tables import markdown


def silent(_) -> None:
    pass


@pytest.mark.slow
def test_fits_every_method_reports_and_draws(few_rows, tmp_path):
    plan = load_experiment("tabular", [0, 1], quick=True, only=["elevators", BY_SUBJECT])
    store = Store(tmp_path)
    tabm = plan.fewer_trials["TabM"]
    assert run_sweep(plan, store, silent) == 2 * len(FRACTIONS) * (2 * (len(METHODS) - 1) + tabm)
    assert run_sweep(plan, store, silent) == 0
    records = store.records()
    assert all(record.metrics["cpu_seconds"] > 0 and record.metrics["parameters"] > 0 for record in records.values())
    table = plan.table(records)
    assert [row["method"] for row in table.rows[:4]] == list(METHODS)
    assert table.rows[0]["paper"] == PAPER_RMSE["elevators"][0]
    assert table.rows[4]["paper"] == PAPER_RMSE["elevators"][3]
    assert "QUICK" in markdown(table)
    for path in save(tmp_path / plan.name, table, records, plan.picture(store)):
        assert path.stat().st_size > 500


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_method_learns_a_line_and_speaks_in_the_targets_units(method):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 4)) * [1.0, 1e-3, 100.0, 1e-8]
    x[:300, 3] = np.where(rng.random(300) < 0.5, 0.1, 0.1 + 2e-17)  # constant but for rounding, unlike in the test rows
    y = 50 + 7 * x[:, 0]
    predict, size = METHODS[method](x[:300], y[:300], 0, False)
    assert np.square(predict(x[300:]) - y[300:]).mean() < 0.1 * y.var()
    assert size > 100


def test_a_new_default_of_the_estimator_is_a_new_run(few_rows, monkeypatch):
    from hannet import HanRegressor

    plan = load_experiment("tabular", [0], quick=True, only=["elevators"])
    before = plan.groups()[0][0].key
    monkeypatch.setattr(HanRegressor, "get_params", lambda _: {"width": 7})
    assert plan.groups()[0][0].key != before
    before = plan.groups()[1][0].key
    monkeypatch.setitem(tabular.REVISIONS, "MLPRegressor", 2)
    assert plan.groups()[1][0].key != before
    assert tabular.Experiment((0,)).name == "tabular"
