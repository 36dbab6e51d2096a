import pytest

from hannet.experiments.base import load_experiment
from hannet.experiments.paper import _mnist
from hannet.experiments.paper.figure8 import DEPTHS, FCNET, NETWORKS, Experiment
from hannet.experiments.record import Record, Run
from hannet.experiments.report import save
from hannet.experiments.runner import run_sweep
from hannet.experiments.store import Store
from hannet.reporting.tables import markdown
from hannet.train.recipe import Recipe


def test_the_plan_is_the_papers():
    groups = Experiment((0, 1, 2)).groups()
    assert len(groups) == 19 + 1
    for group in groups:
        assert [run.seed for run in group] == [0, 1, 2]
        recipe = Recipe(**group[0].config["recipe"])
        assert (recipe.lr, recipe.optimizer, recipe.weight_decay, recipe.batch) == (1e-3, "adam", 1e-3, 256)
        assert recipe.loss == "cross_entropy"
        assert recipe.iterations == 100 * (10_000 // 256)
        rates = recipe.learning_rates(recipe.iterations)
        assert [rates.rate(progress) for progress in (0, 0.5)] == pytest.approx([1, 0.2])
        assert group[0].config["data"]["train"] == 10_000
    sizes = [
        _mnist.parameters(_mnist.build(network, 0)) for network in (NETWORKS["HanNet, 20 layers"], NETWORKS[FCNET])
    ]
    assert sizes == [39_210, 623_290]  # 39.2K and 623K
    assert list(DEPTHS) == list(range(2, 21))
    assert Experiment.trials == 5


@pytest.fixture
def tiny(few_digits) -> Experiment:
    return load_experiment("figure8", [0, 1], quick=True)


@pytest.mark.slow
def test_trains_reports_and_draws(tiny, tmp_path):
    store, seen = Store(tmp_path), []
    assert run_sweep(tiny, store, seen.append) == 2 * len(NETWORKS) == len(store.records())
    assert run_sweep(tiny, store, seen.append) == 0
    for record in store.records().values():
        assert set(record.metrics) == {"train_accuracy", "test_accuracy", "rest_accuracy", "parameters"}
        assert all(0 <= record.metrics[f"{part}_accuracy"] <= 1 for part in ("train", "test", "rest"))
    table = tiny.table(store.records())
    assert "QUICK" in markdown(table)
    for path in save(tmp_path / tiny.name, table, store.records(), tiny.picture(store)):
        assert path.stat().st_size > 500


def made_up(run: Run) -> Record:
    depth = run.config["network"].get("layers", 20)
    values = {"train_accuracy": 0.99, "test_accuracy": 0.9 + depth / 1000 + run.seed / 100, "rest_accuracy": 0.9}
    return Record.of(run, values | {"parameters": 1568.0 * depth}, 1)


def test_means_and_deviations():
    experiment = Experiment((0, 2))
    rows = experiment.table({run.key: made_up(run) for group in experiment.groups() for run in group}).rows
    assert [row["network"] for row in rows] == list(NETWORKS)
    assert rows[0]["test"] == pytest.approx(100 * (0.902 + 0.01))
    assert rows[0]["test_std"] == pytest.approx(100 * 0.02 / 2**0.5)
    assert (rows[0]["train"], rows[0]["train_std"]) == (pytest.approx(99), pytest.approx(0))
    assert rows[0]["parameters"] == 3136


def test_a_net_that_diverged_has_no_number():
    experiment = Experiment((0,))
    lost = dict.fromkeys(("train_accuracy", "test_accuracy", "rest_accuracy"), float("nan")) | {"parameters": 1.0}
    records = {run.key: Record.of(run, lost, 1) for group in experiment.groups() for run in group}
    assert {row[part] for row in experiment.table(records).rows for part in ("train", "test", "rest")} == {None}
