from pathlib import Path

import pytest

from hannet.experiments.paper.recipe_controls import CHOSEN, HAN, SEEDS_ELSEWHERE, SPLITS, Experiment
from hannet.experiments.paper.recipe_search import NETWORKS
from hannet.experiments.paper.recipe_search import Experiment as Search
from hannet.experiments.record import Record
from hannet.experiments.store import Store

RESULTS = Path(__file__).parents[3] / "results"


def test_the_recipes_are_those_that_the_search_chose():
    records = Store(RESULTS / "recipe-search", write=False).records()
    chosen = {label: Search((0,)).best(label, records) for label in NETWORKS}
    assert {label: (recipe.lr, recipe.lasso) for label, recipe in chosen.items()} == CHOSEN


def test_a_row_pools_its_splits_and_is_paired_with_hannet():
    experiment = Experiment((0, 1, 2, 3, 4))
    records = {
        run.key: Record.of(run, {"test_accuracy": 0.9 - 0.1 * (run.config["network"] != NETWORKS[HAN])}, 1)
        for group in experiment.groups()
        for run in group
    }
    rows = {(row["network"], row["splits"]): row for row in experiment.table(records).rows}
    assert rows[HAN, "split 0"]["runs"] == 5
    assert rows[HAN, "all"]["runs"] == 5 + SEEDS_ELSEWHERE * sum(map(len, [*SPLITS.values()][1:]))
    assert "p" not in rows[HAN, "all"]
    other = rows["dense + ReLU 100x6", "split 0"]
    assert other["behind"] == pytest.approx(10)
    assert other["p"] == pytest.approx(2 / 2**5)
