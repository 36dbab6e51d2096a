import pytest

from hannet.experiments import work_queue
from hannet.experiments.base import load_experiment
from hannet.experiments.paper import _board
from hannet.experiments.paper.figure6 import Experiment
from hannet.experiments.record import Record
from hannet.experiments.store import Store
from hannet.train.recipe import Recipe


def test_the_full_grid_is_the_papers():
    full = load_experiment("figure6-full", [0], quick=False)
    assert len(full._sizes("fcnet")) == len(full._sizes("hannet")) == 261
    assert len(full._sizes("dense-ends")) == 261 - 18
    assert full.name == "figure6-full"


def test_a_group_holds_the_rates_of_one_net():
    groups = Experiment((0,)).groups()
    assert len(groups) == 40 + 35 + 40
    assert all([Recipe(**run.config["recipe"]).lr for run in group] == list(_board.RATES) for group in groups)
    assert all(len({str(run.config["network"]) for run in group}) == 1 for group in groups)


def test_costs_grow_with_width_and_depth():
    groups = {
        (g[0].config["network"]["width"], g[0].config["network"]["depth"]): g
        for g in Experiment((0,), only=("fcnet",)).groups()
    }
    cost = Experiment((0,)).cost
    assert cost(groups[100, 30][0]) > cost(groups[100, 4][0]) > cost(groups[20, 4][0])


@pytest.fixture
def tiny(monkeypatch):
    """Two widths and depths of every family."""
    monkeypatch.setattr(_board, "QUICK_ITERATIONS", 10)
    monkeypatch.setattr(Experiment, "widths", (20, 40))
    monkeypatch.setattr(Experiment, "depths", (2, 4))
    return load_experiment("figure6", [0], quick=True)


def test_nets_of_every_family_train_under_their_names(tiny):
    labels = []
    for group in tiny.groups():
        assert len(tiny.compute(group, lambda status: labels.append(status.label))) == len(_board.QUICK_RATES)
    assert {"HanNet 20x2, seed 0", "HanNet, dense ends 40x4, seed 0", "FCNet 40x2, seed 0"} <= set(labels)


@pytest.mark.gpu
def test_nets_train_on_the_gpu_and_records_say_so(tiny):
    for group in tiny.groups()[:2]:
        for record, _ in work_queue.compute(tiny, group, lambda _: None):
            assert record.device.startswith("cuda ")
            assert record.metrics["train_accuracy"] > 0


@pytest.fixture
def store(tiny, tmp_path):
    """Every run of `tiny`: nets of width 40 are nearly right."""
    store = Store(tmp_path)
    for group in tiny.groups():
        size = group[0].config["network"]["width"]
        accuracies = {"train_loss": 0.1, "train_accuracy": 1.0, "test_accuracy": 0.995 if size == 40 else 0.5}
        store.append([Record.of(run, accuracies, 1.0) for run in group])
    return store


def test_table_and_picture_show_each_size_once(tiny, store):
    table = tiny.table(store.records())
    rows = {(row["family"], row["selection"]): row for row in table.rows}
    assert rows["HanNet", "paper"]["sizes"] == 4
    assert rows["HanNet", "paper"]["over_99"] == 2
    assert rows["HanNet, dense ends", "held-out"]["sizes"] == 2
    assert rows["FCNet", "paper"]["lowest"] == 50.0
    figure = tiny.picture(store)
    texts = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert texts.count("99.5") == 2 * (2 + 1 + 2)  # test maps of both selections
    assert {axis.get_xlabel() for axis in figure.axes} >= {"depth"}


def test_what_is_missing_is_left_out(tiny, store):
    records = dict(list(store.records().items())[: -len(_board.QUICK_RATES) - 1])  # two sizes of the last family
    rows = {(row["family"], row["selection"]): row for row in tiny.table(records).rows}
    assert rows["HanNet", "paper"]["sizes"] == 4
    assert rows["FCNet", "paper"]["sizes"] == 2
    assert tiny.table({}).rows == []
