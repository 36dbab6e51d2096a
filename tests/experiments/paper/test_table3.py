import pytest
import torch

from hannet.experiments.base import load_experiment
from hannet.experiments.paper import _board, figure1, table3
from hannet.experiments.paper._board import RATES
from hannet.experiments.paper.table3 import ROWS, Experiment
from hannet.experiments.record import Record
from hannet.experiments.store import Store
from hannet.reporting.tables import markdown
from hannet.train.recipe import Recipe
from hannet.train.trainer import predict


def records_of(experiment, accuracy):
    """A record for every run; accuracy: from its rate."""
    made = [(run, accuracy(Recipe(**run.config["recipe"]).lr)) for group in experiment.groups() for run in group]
    return {
        run.key: Record.of(run, {"train_loss": -test, "train_accuracy": 1.0, "test_accuracy": test}, 1.0)
        for run, test in made
    }


def test_the_plan_is_the_papers():
    experiment = Experiment((0, 1))
    groups = experiment.groups()
    assert len(groups) == 2 * len(ROWS)
    assert all([Recipe(**run.config["recipe"]).lr for run in group] == list(RATES) for group in groups)
    assert {run.key for run in groups[0]} == {run.key for run in figure1.Experiment((0,)).groups()[0]}
    assert len({run.key for group in groups for run in group}) == 20 * len(ROWS)


@pytest.mark.slow
@pytest.mark.parametrize("row", list(ROWS))
def test_every_net_trains_as_members(row, monkeypatch):
    monkeypatch.setattr(_board, "QUICK_ITERATIONS", 20)
    experiment = load_experiment("table3", [0], quick=True, only=[row])
    group = experiment.groups()[0]
    statuses = []
    results = experiment.compute(group, statuses.append)
    assert len(results) == len(group)
    assert statuses[-1].label.startswith(f"({row})")
    assert all(result.model is None for result in results)


@pytest.mark.parametrize("layers", ["householder", "dense"])
def test_the_nets_are_what_the_table_says(layers):
    net = _board.build({"network": table3._net(layers, "groupsort5")}, 0)
    dense = [module for module in net if isinstance(module, torch.nn.Linear)]
    assert len(dense) == (2 if layers == "householder" else 7)
    for layer in dense:
        small = min(layer.weight.shape)
        gram = layer.weight @ layer.weight.mT if layer.weight.shape[0] == small else layer.weight.mT @ layer.weight
        torch.testing.assert_close(gram, torch.eye(small))
    assert predict([net], torch.zeros(3, 2)).shape == (1, 3, 2)


def test_the_table_takes_the_best_rate_and_shows_the_papers_number(tmp_path):
    experiment = Experiment((0, 1))
    records = records_of(experiment, lambda rate: 0.9 if rate == 0.05 else 0.5)
    table = experiment.table(records)
    assert [row["paper"] for row in table.rows] == [row.paper for row in ROWS.values()]
    assert {row["paper_test"] for row in table.rows} == {90.0}
    assert {row["rates"] for row in table.rows} == {"0.05"}
    assert {row["held-out_test"] for row in table.rows} == {90.0}
    assert "| (f1) | dense, orthogonal | ABS |" in markdown(table)
    store = Store(tmp_path)
    store.append(list(records.values()))
    assert len(experiment.picture(store).axes) == 1
