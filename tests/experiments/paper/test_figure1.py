import os
import signal
import subprocess
import sys

import pytest
import torch

from hannet.experiments.base import load_experiment
from hannet.experiments.paper import _board
from hannet.experiments.paper._board import RATES, accuracy
from hannet.experiments.paper.figure1 import NETWORKS, RECIPES, Experiment
from hannet.experiments.record import Record, Run
from hannet.experiments.report import save
from hannet.experiments.runner import run_sweep
from hannet.experiments.store import Store
from hannet.reporting.tables import markdown
from hannet.train.recipe import Recipe


@pytest.fixture
def tiny(monkeypatch) -> Experiment:
    monkeypatch.setattr(_board, "QUICK_ITERATIONS", 20)
    return load_experiment("figure1", [0, 1], quick=True)


def silent(_) -> None:
    pass


def test_the_plan_is_the_papers():
    groups = Experiment((0, 1, 2)).groups()
    rates = [group for group in groups if len(group) == len(RATES)]
    assert len(rates) == 3 * len(NETWORKS)
    for group in rates:
        assert [Recipe(**run.config["recipe"]).lr for run in group] == list(RATES)
        assert {Recipe(**run.config["recipe"]).iterations for run in group} == {40_000}
        assert len({run.seed for run in group}) == 1
    assert [[run.seed for run in group] for group in groups if group not in rates] == [[0, 1, 2]] * len(RECIPES)


def test_members_of_a_seed_share_their_initial_weights_and_seeds_differ():
    config = {"network": NETWORKS["HanNet"]}
    state = torch.get_rng_state()
    first, again, other = (_board.build(config, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
    assert torch.equal(torch.get_rng_state(), state)


def test_accuracy_takes_the_mean_of_both_outputs_and_nan_is_wrong():
    outputs = torch.tensor([[[0.9, 0.2], [0.9, 0.0], [float("nan"), 1.0]]])
    assert accuracy(outputs, torch.tensor([[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]])).tolist() == pytest.approx([1 / 3])


@pytest.mark.slow
def test_trains_reports_draws_and_repeats_only_what_is_missing(tiny, tmp_path):
    store = Store(tmp_path)
    seen = []
    new = run_sweep(tiny, store, seen.append)
    runs = {run.key: run for group in tiny.groups() for run in group}
    assert new == len(runs) == len(store.records())
    assert seen[-1].within.fraction == pytest.approx(1)
    group, groups = seen[-1].within.metrics["group"].split("/")
    assert group == groups
    assert run_sweep(tiny, store, silent) == 0

    lost = next(iter(runs))
    (tmp_path / "models" / f"{lost}.safetensors").unlink()
    assert run_sweep(tiny, store, silent) == 1

    records = store.records()
    assert all(0 <= record.metrics["test_accuracy"] <= 1 for record in records.values())
    table = tiny.table(records)
    assert [(row["network"], row["parameters"]) for row in table.rows if row["selection"] == "paper"] == [
        ("HanNet", 4302),
        ("HanNet, dense ends", 24102),
        ("FCNet", 51002),
    ]
    assert "QUICK" in markdown(table)
    for path in save(tmp_path / tiny.name, table, records, tiny.picture(store)):
        assert path.stat().st_size > 500


def test_an_interrupted_experiment_keeps_its_finished_groups(tiny, tmp_path, monkeypatch):
    store, compute, calls = Store(tmp_path), Experiment.compute, []

    def interrupted(self, group, on_progress):
        calls.append(group)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return compute(self, group, on_progress)

    monkeypatch.setattr(Experiment, "compute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_sweep(tiny, store, silent)
    assert set(store.records()) == {run.key for run in calls[0]}


def made_up(run: Run) -> Record:
    """The highest rate fits best, the lowest generalises best; the very highest diverges."""
    rate = Recipe(**run.config["recipe"]).lr
    loss = float("nan") if rate == max(RATES) else 1 - rate
    return Record.of(run, {"test_accuracy": 0.9 - rate - run.seed / 100, "train_accuracy": 1.0, "train_loss": loss}, 1)


def test_selections_stand_side_by_side():
    experiment = Experiment((0, 2))
    records = {run.key: made_up(run) for group in experiment.groups() for run in group}
    rows = {(row["network"], row["selection"]): row for row in experiment.table(records).rows}
    paper, held_out, recipe = (rows["HanNet", name] for name in ("paper", "held-out", "one recipe"))
    assert (paper["rates"], held_out["rates"]) == ("0.001", "0.25")
    assert recipe["rates"] == f"{RECIPES['HanNet'].lr:g}"
    assert paper["test"] == pytest.approx(88.9)
    assert paper["std"] == pytest.approx(2**0.5)
    assert paper["lowest"] == pytest.approx(87.9)
    assert held_out["test"] == pytest.approx(64.0)
    assert (paper["paper"], held_out["paper"], rows["FCNet", "paper"]["paper"]) == (99.2, None, 85.3)
    assert ("FCNet", "one recipe") not in rows


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_ctrl_c_ends_in_one_sentence_and_the_rerun_goes_on(tmp_path):
    command = [sys.executable, "-c", "from hannet.cli import main; main()"]
    arguments = ["reproduce", "figure1", "--quick", "--out", str(tmp_path)]
    process = subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr
    first = process.stderr.readline()
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(60) == 130
    assert "500/500" in first
    assert "group 1/5" in first
    assert "Traceback" not in rest
    assert rest.strip().splitlines()[-1].startswith("hannet: interrupted; ")
    kept = len(Store(tmp_path).records())
    again = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
    assert f"{11 - kept} of 11 runs were new" in again.stdout


def test_of_several_starts_the_one_that_fits_best_is_kept(tiny):
    run = _board.run(NETWORKS["HanNet"], RECIPES["HanNet"], 3, quick=True, restarts=3)
    starts = [Run(run.experiment, {**run.config, "restarts": 1}, seed) for seed in (3, 1003, 2003)]
    (kept,) = tiny.compute([run], silent)
    best = min(tiny.compute(starts, silent), key=lambda result: result.metrics["train_loss"])
    assert kept.metrics == best.metrics
    assert all(torch.equal(a, b) for a, b in zip(kept.model.parameters(), best.model.parameters(), strict=True))
