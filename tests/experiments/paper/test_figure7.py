import pytest

from hannet.experiments.base import load_experiment
from hannet.experiments.paper import _board
from hannet.experiments.paper._board import RATES
from hannet.experiments.paper.figure7 import NETWORKS, Experiment
from hannet.experiments.record import Record, Run
from hannet.experiments.report import save
from hannet.experiments.runner import run_sweep
from hannet.experiments.store import Store
from hannet.reporting.tables import markdown
from hannet.train.recipe import Recipe


def test_the_plan_is_the_papers():
    groups = Experiment((0, 1)).groups()
    assert len(groups) == 2 * len(NETWORKS)
    for group in groups:
        recipes = [Recipe(**run.config["recipe"]) for run in group]
        assert recipes == [Recipe(lr=rate, iterations=80_000) for rate in RATES]
        (network,) = {tuple(run.config["network"].items()) for run in group}
        assert {"width": 200, "depth": 20}.items() <= dict(network).items()
        assert all(run.config["data"] == _board.SINES for run in group)


@pytest.fixture
def tiny(monkeypatch) -> Experiment:
    monkeypatch.setattr(_board, "QUICK_ITERATIONS", 20)
    for network in NETWORKS.values():
        monkeypatch.setitem(network, "width", 12)
    return load_experiment("figure7", [0, 1], quick=True)


@pytest.mark.slow
def test_trains_reports_and_draws(tiny, tmp_path):
    store, seen = Store(tmp_path), []
    runs = {run.key for group in tiny.groups() for run in group}
    assert run_sweep(tiny, store, seen.append) == len(runs) == len(store.records())
    assert run_sweep(tiny, store, seen.append) == 0
    assert "best training MSE" in seen[0].metrics
    for record in store.records().values():
        assert set(record.metrics) == {"train_loss", "test_mse"}
    table = tiny.table(store.records())
    assert "QUICK" in markdown(table)
    for path in save(tmp_path / tiny.name, table, store.records(), tiny.picture(store)):
        assert path.stat().st_size > 500


def made_up(run: Run) -> Record:
    """The highest rate fits best, the lowest generalises best, 20 times better for HanNets; the very highest diverges."""
    rate, scale = Recipe(**run.config["recipe"]).lr, 20 if run.config["network"]["kind"] == "FCNet" else 1
    values = (float("nan"),) * 2 if rate == max(RATES) else (1 - rate, scale * (rate + run.seed / 100))
    return Record.of(run, dict(zip(("train_loss", "test_mse"), values, strict=True)), 1)


def test_selections_and_ratios():
    experiment = Experiment((0, 2))
    records = {run.key: made_up(run) for group in experiment.groups() for run in group}
    rows = {(row["network"], row["selection"]): row for row in experiment.table(records).rows}
    paper, held_out, fcnet = rows["HanNet", "paper"], rows["HanNet", "held-out"], rows["FCNet", "paper"]
    assert (paper["rates"], held_out["rates"]) == ("0.001", "0.25")
    assert paper["test"] == pytest.approx(0.011)
    assert paper["std"] == pytest.approx(0.02 / 2**0.5)
    assert (paper["ratio"], fcnet["ratio"]) == (pytest.approx(20), pytest.approx(1))
    assert (paper["parameters"], fcnet["parameters"]) == (8_401, 764_601)


def test_a_net_that_diverged_at_every_rate_has_no_number():
    experiment = Experiment((0,))
    lost = {"train_loss": float("nan"), "test_mse": float("nan")}
    records = {run.key: Record.of(run, lost, 1) for group in experiment.groups() for run in group}
    assert {row[name] for row in experiment.table(records).rows for name in ("test", "std", "train", "ratio")} == {None}
