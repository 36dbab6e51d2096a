import pytest

from hannet.experiments.base import load_experiment
from hannet.experiments.paper import _board, recipe_controls
from hannet.experiments.paper.recipe_search import LASSOS, NETWORKS, RATES, Experiment
from hannet.experiments.record import Record
from hannet.experiments.report import save
from hannet.experiments.runner import run_sweep
from hannet.experiments.store import Store


def test_every_network_gets_the_same_candidates():
    runs = {run.key: run for group in Experiment((0,)).groups() for run in group}.values()
    tried = {label: set() for label in NETWORKS}
    for run in runs:
        assert "validation" in run.config["data"]
        label = next(label for label, network in NETWORKS.items() if network == run.config["network"])
        tried[label].add((str(run.config["recipe"]), str(run.config["data"]), run.seed))
    first, *others = tried.values()
    assert len(first) == len(RATES) * len(LASSOS) * 2 * 2
    assert all(other == first for other in others)


def test_it_chooses_by_the_start_that_fits_best():
    experiment = Experiment((0,))
    records = {}
    for group in experiment.groups():
        for run in group:
            good = run.config["recipe"].get("lr", 0.05) == 0.025 and run.config["recipe"].get("lasso") == 1e-3
            unlucky = run.seed == 101  # accurate by chance, and fits worse
            metrics = {"train_loss": 0.1 + unlucky, "test_accuracy": 0.99 if unlucky else 0.8 + 0.1 * good}
            records[run.key] = Record.of(run, metrics, 1)
    for label in NETWORKS:
        best = experiment.best(label, records)
        assert (best.lr, best.lasso) == (0.025, 1e-3)
    assert all(row["validation"] == pytest.approx(90) for row in experiment.table(records).rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["recipe-search", "recipe-controls"])
def test_trains_reports_and_draws(name, tmp_path, monkeypatch):
    monkeypatch.setattr(_board, "QUICK_ITERATIONS", 5)
    monkeypatch.setattr(recipe_controls, "RESTARTS", 2)
    experiment, store = load_experiment(name, [0], quick=True), Store(tmp_path)
    runs = {run.key for group in experiment.groups() for run in group}
    assert run_sweep(experiment, store, lambda _: None) == len(runs) == len(store.records())
    table = experiment.table(store.records())
    assert {row["network"] for row in table.rows} == set(NETWORKS)
    for path in save(tmp_path / experiment.name, table, store.records(), experiment.picture(store)):
        assert path.stat().st_size > 500
