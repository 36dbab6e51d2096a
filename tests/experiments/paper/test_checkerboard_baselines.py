from dataclasses import replace

import pytest
import torch

from hannet.experiments.base import load_experiment
from hannet.experiments.paper import _board
from hannet.experiments.paper.checkerboard_baselines import DATA, FREE, LARGER, MATCHED, Estimators, Experiment, fit
from hannet.experiments.record import Record, Run
from hannet.experiments.report import save
from hannet.experiments.runner import run_sweep
from hannet.experiments.store import Store
from hannet.reporting.tables import markdown

BRIEF = {"learning_rate": (0.1,), "max_iter": (2, 3), "max_leaf_nodes": (4,), "min_samples_leaf": (20,)}


def test_matched_networks_are_as_large_as_a_hannet():
    for data in DATA.values():
        runs = [nets.runs(0, data, quick=False)[0] for nets in MATCHED.values()]
        networks = [_board.build(run.config, run.seed) for run in runs]
        hannet, *others = (sum(p.numel() for p in network.parameters()) for network in networks)  # frozen ones too
        assert all(0.9 * hannet <= size <= hannet for size in others)


def test_every_candidate_is_fitted_on_all_points_and_on_four_fifths():
    runs = {run.key: run for group in Experiment((0, 1)).groups() for run in group}.values()
    kinds = [[run for run in runs if ("validation" in run.config["data"]) is chooses] for chooses in (False, True)]

    def plain(run):
        data = {name: value for name, value in run.config["data"].items() if name != "validation"}
        return Run(run.experiment, {**run.config, "data": data}, run.seed).key

    assert [run.key for run in kinds[0]] == list(map(plain, kinds[1]))


@pytest.mark.slow
def test_trains_reports_and_draws(tmp_path, monkeypatch):
    monkeypatch.setattr(_board, "QUICK_ITERATIONS", 5)
    monkeypatch.setitem(FREE, "boosted trees", Estimators("boosting", BRIEF))
    experiment, store = load_experiment("checkerboard-baselines", [0, 1], quick=True), Store(tmp_path)
    runs = {run.key for group in experiment.groups() for run in group}
    assert run_sweep(experiment, store, lambda _: None) == len(runs) == len(store.records())
    assert run_sweep(experiment, store, lambda _: None) == 0
    table = experiment.table(store.records())
    assert [(row["method"], row["sizes"]) for row in table.rows] == [
        *((label, "matched") for label in MATCHED),
        *((label, "at best") for label in (*LARGER, *FREE)),
    ]
    assert "QUICK" in markdown(table)
    for path in save(tmp_path / experiment.name, table, store.records(), experiment.picture(store)):
        assert path.stat().st_size > 500


def made_up(run: Run) -> Record:
    """The first candidate is best on the validation points, the last on the test points."""
    options = str(run.config.get("network", run.config.get("estimator"))) + str(run.config.get("recipe"))
    order = int(torch.tensor([ord(letter) for letter in options]).sum()) / 1e6
    good = 0.5 + order if "validation" in run.config["data"] else 0.9 - order - run.seed / 100
    return Record.of(run, {"train_loss": 0.0, "test_accuracy": good, "test_mse": 1 - good, "size": 7}, 1)


def test_the_test_points_do_not_choose():
    experiment = Experiment((0, 2))
    records = {run.key: made_up(run) for group in experiment.groups() for run in group}
    for row in experiment.table(records).rows:
        assert row["checkerboard"] <= row["checkerboard_paper"]
        assert row["sines"] >= row["sines_paper"]
        free = row["method"] in FREE
        assert row["sines_std"] == (None if free else pytest.approx(0.02 / 2**0.5, abs=1e-6))
        assert len(row["sines_picked"]) == (1 if free else 2)
        assert row["checkerboard"] < row["checkerboard_paper"] or free


def test_a_candidate_that_diverges_on_all_points_is_passed_over():
    experiment = Experiment((0,))
    records = {run.key: made_up(run) for group in experiment.groups() for run in group}
    before = {(row["method"], row["sizes"]): row for row in experiment.table(records).rows}
    (picked,) = before["SIREN", "matched"]["sines_picked"]
    for key, record in records.items():
        options = record.config.get("network", {}) | record.config.get("recipe", {})
        if options == picked and "validation" not in record.config["data"]:
            records[key] = replace(record, metrics=dict.fromkeys(record.metrics))
    for row in experiment.table(records).rows:
        old = before[row["method"], row["sizes"]]
        assert (row["sines_picked"] == old["sines_picked"]) == (old["sines_picked"] != [picked])
        assert row["sines"] is not None


@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"kind": "neighbours", "n_neighbors": 1}, 3 * 1640),
        ({"kind": "kernel ridge", "length": 0.05, "alpha": 1e-6}, 3 * 1640),
        ({"kind": "boosting", "max_iter": 2, "max_leaf_nodes": 4}, 2 * (3 * 2 + 4)),
    ],
)
def test_an_estimator_tells_its_scores_size_and_surface(data, options, size):
    square = _board.square(data)
    result = fit(options, square)
    assert result.metrics["size"] == size
    outputs = result.model.values[None, :, None].expand(-1, -1, square.y_train.shape[1])
    index = ((square.x_test + 1) / 0.025).round().long() @ torch.tensor([81, 1])
    again = _board.measure(square, lambda x: outputs[:, index] if len(x) == len(index) else outputs[:, : len(x)])
    (name,) = {"test_accuracy", "test_mse"} & set(again)
    assert again[name].item() == pytest.approx(result.metrics[name], rel=1e-4)
    if options["kind"] != "boosting":
        assert result.metrics["train_loss"] < 1e-6
