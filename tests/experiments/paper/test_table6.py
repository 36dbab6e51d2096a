import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from hannet.attacks import CW, PGD
from hannet.experiments.base import load_experiment
from hannet.experiments.paper import _mnist, table6
from hannet.experiments.paper.table6 import ATTACKS, CW_RATE, METHODS, PAPER, SHOWN, WEIGHT_DECAYS, Experiment
from hannet.experiments.record import Record, Run
from hannet.experiments.report import save
from hannet.experiments.runner import run_sweep
from hannet.experiments.store import Store
from hannet.reporting.tables import markdown
from hannet.train.recipe import Recipe

pytest.importorskip("foolbox")


def test_the_papers_numbers_are_those_of_its_table():
    path = Path(__file__).parents[4] / "shared" / "paper" / "tables.toml"
    if not path.exists():
        pytest.skip("the paper's tables are not beside the checkout")
    assert {name: list(row) for name, row in PAPER.items()} == tomllib.loads(path.read_text())["table6"]


def test_the_plan_is_the_papers():
    groups = Experiment((0, 1)).groups()
    assert len(groups) == len(METHODS) * 2
    for group, method in zip(groups[::2], METHODS.values(), strict=True):
        (run,) = group
        recipe = Recipe(**run.config["recipe"])
        assert recipe == replace(_mnist.PROTOCOL, iterations=100 * (10_000 // 256), **method.options)
        assert run.config["network"] == method.network
        assert run.config["points"] == {"pgd": 10_000, "cw": 1_000}
        assert run.config.get("least_clean") == method.least_clean
        assert ("weight_decays" in run.config) == (method.least_clean is not None)
    assert set(PAPER) <= set(SHOWN) == {"clean", *ATTACKS}
    for name, attack in ATTACKS.items():
        if name.startswith("pgd"):
            assert isinstance(attack, PGD)
            assert attack.steps == 30
            assert (attack.loss == "margin") == ("margin" in name)
            norm, eps = name.removeprefix("pgd_").removeprefix("margin_").split("_", 1)
            assert (attack.norm, attack.eps) == (norm, float(eps.replace("_", ".")))
        else:
            assert attack == CW(float(name.removeprefix("cw_c")), 1000, CW_RATE)


@pytest.fixture
def tiny(few_digits, monkeypatch):
    monkeypatch.setattr(table6, "QUICK_POINTS", 20)
    for name, attack in ATTACKS.items():
        monkeypatch.setitem(ATTACKS, name, replace(attack, steps=2))


@pytest.mark.slow
def test_trains_attacks_reports_and_draws(tiny, tmp_path):
    plan, store, seen = load_experiment("table6", [0], quick=True), Store(tmp_path), []
    assert run_sweep(plan, store, seen.append) == len(METHODS)
    assert run_sweep(plan, store, seen.append) == 0
    assert any(event.label.endswith("under CW, c = 3") for event in seen)
    for record in store.records().values():
        assert set(record.metrics) == {*SHOWN, "weight_decay", "parameters"}
        assert all(0 <= record.metrics[name] <= 1 for name in SHOWN)
        searched = "weight_decays" in record.config
        assert set(record.curves) == ({"clean", "robust"} if searched else set())
        assert record.metrics["weight_decay"] in (WEIGHT_DECAYS if searched else (1e-3, 0.0))
    assert len(store.missing([run for group in plan.groups() for run in group], models=True)) == 0
    table = plan.table(store.records())
    assert "QUICK" in markdown(table)
    for path in save(tmp_path / plan.name, table, store.records(), plan.picture(store)):
        assert path.stat().st_size > 500


def test_a_part_stands_alone(tiny, tmp_path):
    plan, store = load_experiment("table6", [0], quick=True, only=["fc"]), Store(tmp_path)
    assert run_sweep(plan, store, lambda _: None) == 1
    table = plan.table(store.records())
    assert list(table.columns) == ["attack", "FCNet_shown"]
    assert [row["FCNet_paper"] for row in table.rows[:3]] == [0.964, 0.684, 0.069]
    plan.picture(store)


def test_the_weight_decay_is_chosen_among_those_that_are_right_often_enough():
    assert table6._choose([0.97, 0.95, 0.925, 0.924], [0.1, 0.3, 0.4, 0.9], 0.925) == 2
    assert table6._choose([0.97, 0.95], [0.3, 0.3], 0.925) == 0
    assert table6._choose([0.2, 0.5, 0.4], [0.1, 0.2, 0.9], 0.9) == 1


def made_up(run: Run) -> Record:
    value = 0.5 + run.seed / 10
    return Record.of(run, dict.fromkeys(SHOWN, value) | {"weight_decay": 0.05, "parameters": 39_210.0}, 1)


def test_means_stand_beside_the_papers():
    plan = Experiment((0, 2))
    table = plan.table({run.key: made_up(run) for group in plan.groups() for run in group})
    rows = {row["attack"]: row for row in table.rows}
    assert rows["PGD, l2, 2"]["HanNet"] == pytest.approx(0.6)
    assert rows["PGD, l2, 2"]["HanNet_std"] == pytest.approx(0.2 / 2**0.5)
    assert rows["PGD, l2, 2"]["HanNet_paper"] == 0.529
    assert rows["PGD, l2, 2"]["FCNet, adversarial_paper"] == 0.412
    assert rows["PGD on the margin, l2, 2"]["FCNet_paper"] is None
    assert rows["PGD, l2, 2"]["HanNet_shown"] == "0.600 ± 0.141 (0.529)"
    assert any("weight decay 0.05, of 0.03, 0.05" in note for note in table.notes)
