"""The records that README and docs quote are found again, whole, by the experiments that wrote them."""

import json
import subprocess
from pathlib import Path

import pytest

from hannet.experiments import base
from hannet.experiments.record import Run
from hannet.experiments.store import Store
from hannet.experiments.verdicts import compare

RESULTS = Path(__file__).parents[2] / "results"
PLANS = {  # seeds and parts that are committed
    "figure1": (range(5), ()),
    "recipe": (range(10), ()),
    "smallest": (range(5), ()),
    "figure3": (range(1), ("adam",)),
    "table2": (range(5), ("adam",)),
    "table3": (range(5), ()),
    "table6": (range(5), ()),
    "table9": (range(5), ()),
    "figure6": (range(1), ()),
    "figure7": (range(1), ()),
    "figure8": (range(5), ()),
    "checkerboard-baselines": (range(5), ()),
    "narrow-mixer": (range(1), ()),
    "recipe-search": (range(1), ()),
    "recipe-controls": (range(5), ()),
    "tabular": (range(5), ()),
    "tabular-controls": (range(5), ()),
    "certified": (range(5), ()),
    "certified-search": (range(1), ()),
    "depth": (range(1), ()),
    "feedforward-search": (range(1), ()),
    "feedforward": (range(5), ()),
    "distilled": (range(5), ()),
}
UNFINISHED = {"feedforward": 56}  # runs that are still missing: the table leaves them out
FOLDERS = {"tabular-controls": "tabular"}  # where it is not the experiment's name


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in RESULTS.glob("*/records.jsonl")))
def test_a_record_has_the_key_of_its_run(folder):
    records = Store(RESULTS / folder, write=False).records()
    assert records
    for record in records.values():
        assert Run(record.experiment, record.config, record.seed).key == record.key


@pytest.mark.parametrize("name", PLANS)
def test_no_run_is_missing(name):
    seeds, parts = PLANS[name]
    plan = base.load_experiment(name, tuple(seeds), False, parts)
    folder = RESULTS / FOLDERS.get(name, name)
    records = Store(folder, write=False).records()
    runs = {run.key for group in plan.groups() for run in group}
    assert len(runs - records.keys()) == UNFINISHED.get(name, 0)
    committed = json.loads((folder / f"{plan.name}.json").read_bytes())
    table = plan.table({key: record for key, record in records.items() if key in runs})
    assert json.loads(json.dumps([dict(row) for row in table.rows])) == committed["rows"]
    assert committed["columns"] == {key: list(shown) for key, shown in table.columns.items()}
    assert (committed["command"], committed["comparable"]) == (["hannet", "reproduce", *plan.arguments], True)
    judged = [verdict.comparison for verdict in compare(table.rows, base.comparisons(name)) if verdict.same is not None]
    assert all(comparison in judged for comparison in base.comparisons(name))


@pytest.mark.parametrize(
    ("name", "verdicts"), [("figure1", 2), ("table2", 12), ("table3", 6), ("table6", 40), ("table9", 60)]
)
def test_a_number_of_the_paper_has_one_verdict(name, verdicts):
    (path,) = (RESULTS / name).glob("*.json")
    assert len(compare(json.loads(path.read_bytes())["rows"], base.comparisons(name))) == verdicts


UNTRACED = {  # records from before `sources` whose checkout differed from its commit: still to be run again, so never more
    "benchmarks": 10,
    "checkerboard-baselines": 1018,
    "figure6": 580,
    "narrow-mixer": 1,
    "table3": 220,
    "table6": 16,
}


def test_sources_of_a_record_are_in_the_history():
    commits = _git("log", "--format=%H").splitlines()
    if not commits or _git("rev-parse", "--is-shallow-repository") != "false":
        pytest.skip("needs the history of the repository")
    names = "\n".join(f"{commit}:src/hannet" for commit in commits)
    trees = {line[:12] for line in _git("cat-file", "--batch-check", given=names).splitlines()}
    known = {commit[:12] for commit in commits}
    untraced = {}
    for path in RESULTS.glob("*/records.jsonl"):
        records = Store(path.parent, write=False).records().values()
        unknown = [r for r in records if (r.sources not in trees if r.sources else r.commit not in known)]
        if unknown:
            untraced[path.parent.name] = len(unknown)
    assert untraced == UNTRACED


def _git(*arguments: str, given: str | None = None) -> str:
    command = ["git", "-C", str(RESULTS), *arguments]
    return subprocess.run(command, input=given, capture_output=True, text=True, check=False).stdout.strip()
