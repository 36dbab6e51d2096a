from itertools import product

import pytest
import torch
from torch import nn

from hannet import FCNet, HanNet
from hannet.experiments.base import load_experiment
from hannet.experiments.paper import figure3
from hannet.experiments.paper.figure3 import NETWORKS, PAIRS, PARTS, RATES, WIDTHS, Cell, Experiment, build, problem_of
from hannet.experiments.record import Record, Run
from hannet.experiments.report import save
from hannet.experiments.runner import run_sweep
from hannet.experiments.store import Store
from hannet.reporting.tables import markdown
from hannet.train.recipe import Recipe


def silent(_) -> None:
    pass


@pytest.fixture
def tiny(monkeypatch) -> Experiment:
    for name, value in {"QUICK_ITERATIONS": 10, "QUICK_WIDTHS": (8, 10), "DRAWN": (10, 2), "SIDE": 5}.items():
        monkeypatch.setattr(figure3, name, value)
    monkeypatch.setattr(figure3, "POINTS", {"train": 60, "test": 80})
    return load_experiment("figure3", [0, 1], quick=True, only=["adam", "adam-decay"])


def test_the_plan_is_the_papers():
    groups = Experiment((0, 1)).groups()
    assert len(groups) == len(PAIRS) * len(WIDTHS) * 2 * 2  # seeds, optimizers
    recipes = [[Recipe(**run.config["recipe"]) for run in group] for group in groups]
    for group in recipes:
        assert [(recipe.weight_decay, recipe.lr) for recipe in group] == list(product((0.0, 1e-3), RATES))
        assert len({recipe.optimizer for recipe in group}) == 1
        assert {(recipe.iterations, recipe.batch, recipe.milestones) for recipe in group} == {(20_000, 100, (0.6, 0.9))}
    assert len({run.key for group in groups for run in group}) == 8 * len(groups)
    only = Experiment((0,), only=("adam",))
    assert only.name == "figure3-adam"
    assert {run.key for group in only.groups() for run in group} < {run.key for group in groups for run in group}


@pytest.mark.parametrize(
    ("kind", "reference"), [("FC-1", FCNet(3, 3, width=9, depth=2)), ("Han-3", HanNet(3, 3, width=9, depth=4))]
)
def test_nets_are_orthogonal_and_fixed_by_the_seed(kind, reference):
    network = NETWORKS[kind] | {"width": 9}
    state = torch.get_rng_state()
    net, again, other = (build(network, 3, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(net[name], again[name]) and not torch.equal(net[name], other[name]) for name in net)
    assert {name: p.shape for name, p in net.items()} == {name: p.shape for name, p in reference.state_dict().items()}
    for module in build(network, 3, 5).modules():
        if isinstance(module, nn.Linear):
            wide = module.weight if module.out_features < module.in_features else module.weight.T
            torch.testing.assert_close(wide @ wide.T, torch.eye(len(wide)))


@pytest.mark.parametrize("inputs", [2, 4])
def test_a_problem_fills_the_square_and_has_no_noise(inputs):
    config = {"target": NETWORKS["Han-3"] | {"width": 9}, "inputs": inputs, "points": {"train": 500, "test": 700}}
    problem = problem_of(config, 3)
    assert problem.x_train.shape == problem.y_train.shape == (500, inputs)
    assert problem.x_test.shape == problem.y_test.shape == (700, inputs)
    for x in (problem.x_train, problem.x_test):
        assert -1 <= x.min() < -0.95
        assert 0.95 < x.max() <= 1
    target = build(config["target"], inputs, figure3.TARGETS + 3)
    torch.testing.assert_close(target(problem.x_test), problem.y_test)
    assert not torch.equal(problem.x_train, problem_of(config, 4).x_train)


@pytest.mark.slow
def test_trains_reports_draws_and_repeats_only_what_is_missing(tiny, tmp_path):
    store = Store(tmp_path)
    runs = {run.key: run for group in tiny.groups() for run in group}
    assert run_sweep(tiny, store, silent) == len(runs) == len(PAIRS) * 2 * 2 * 2
    assert run_sweep(tiny, store, silent) == 0
    records = store.records()
    assert all(0 < record.metrics["test_rmse"] < 1 and record.metrics["train_loss"] > 0 for record in records.values())
    assert all(record.config["network"]["width"] == 10 for record in records.values() if record.curves)
    table = tiny.table(records)
    assert [(row["target"], row["trained"]) for row in table.rows[::2]] == list(PAIRS)
    assert all(row["width_8"] > 0 and row["width_10"] > 0 for row in table.rows)
    assert "QUICK" in markdown(table)
    for path in save(tmp_path / tiny.name, table, records, tiny.picture(store)):
        assert path.stat().st_size > 500


def test_training_lowers_the_error_towards_its_target(tiny, monkeypatch):
    errors = []
    for iterations in (1, 300):
        monkeypatch.setattr(figure3, "QUICK_ITERATIONS", iterations)
        group = tiny.groups()[0]
        errors.append(tiny.compute(group, silent)[0].metrics["test_rmse"])
    assert errors[1] < errors[0] / 3


def made_up(run: Run) -> Record:
    """The highest rate fits best, the lowest generalises best; with weight decay all diverge."""
    recipe = Recipe(**run.config["recipe"])
    loss, rmse = (float("nan"),) * 2 if recipe.weight_decay else (1 - recipe.lr, recipe.lr * (1 + run.seed))
    return Record.of(run, {"test_rmse": rmse, "train_loss": loss, "target_std": 0.5}, 1)


def test_paper_takes_the_best_test_error_and_held_out_the_best_fit():
    experiment = Experiment((0, 2))
    records = {run.key: made_up(run) for group in experiment.groups() for run in group}
    paper, held_out = experiment.table(records).rows[:2]
    assert paper["width_50"] == pytest.approx(1000 * 2 * min(RATES))
    assert held_out["width_50"] == pytest.approx(1000 * 2 * max(RATES))
    chosen = experiment.chosen("paper", Cell("FC-1", "Han-3", 30), records)
    assert [record.seed for record in chosen] == [0, 2]
    assert all("weight_decay" not in record.config["recipe"] for record in chosen)


def test_the_winner_of_a_group_keeps_its_landscape_whatever_the_group(tiny):
    runs = next(group for group in tiny.groups() if group[0].config["network"]["width"] == 10)
    together = tiny.compute(runs, silent)
    alone = [tiny.compute([run], silent)[0] for run in runs]
    winner = min(range(len(runs)), key=lambda i: together[i].metrics["test_rmse"])
    assert len(together[winner].curves["landscape"]) == 25
    assert together[winner].curves["landscape"] == pytest.approx(alone[winner].curves["landscape"], abs=1e-5)


def test_a_part_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match=f"which has {', '.join(PARTS)}"):
        load_experiment("figure3", [0], quick=True, only=["lion"])
