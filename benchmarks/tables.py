"""How well does `hannet fit` do as it comes, beside skrub's pipeline of boosted trees as it comes?

    python benchmarks/tables.py --data FOLDER [--only titanic,ames] [--seeds 3] [--rows 2000] [--out hannet-results/benchmarks]

Twenty tables with categories, dates and gaps, from public repositories that FOLDER holds checkouts of: mwaskom/seaborn-data,
vega/vega-datasets and vincentarelbundock/Rdatasets, in folders of their second names. Of a table at most --rows rows are used, the same
for every seed; a fifth of them, drawn by the seed, is held out from both. Columns that give the target away are left out for both.
Neither is tuned. What is compared is R2, or the accuracy: HanNet is level where the mean of its difference to the trees on the same
splits is within the standard deviation of that difference. Needs skrub, which the extra `benchmarks` brings. The record is of the
checkouts at Rdatasets 1dcc2bf, seaborn-data 71e2436 and vega-datasets cad8557. Runs that are in the record already are not run again.
"""

import argparse
import time
import warnings
from collections.abc import Mapping
from operator import truediv
from pathlib import Path
from statistics import mean, median, stdev
from typing import NamedTuple

import numpy as np
import pandas as pd

from hannet.experiments.base import number
from hannet.experiments.record import Record, Run
from hannet.experiments.store import Store
from hannet.tabular.options import FitOptions
from hannet.tabular.pipeline import fit
from hannet.tabular.readers import Table, read

PART = "held out"  # a column that says which rows are, by which hannet fit splits, and which it does not learn from
EXPERIMENT = "benchmark tables"
FEWEST = 5  # rows of a class: of a rarer one there may be none to train on


class Source(NamedTuple):
    """A file below the folder, the column to predict, and those that give it away or number the rows."""

    path: str
    target: str
    drop: tuple[str, ...] = ()
    task: str = "regression"


def _r(path: str, target: str, *drop: str, task: str = "regression") -> Source:
    return Source(f"Rdatasets/csv/{path}.csv", target, ("rownames", *drop), task)


CLASSES = "classification"
SOURCES: dict[str, Source] = {
    "wage": _r("ISLR/Wage", "wage", "logwage"),
    "hitters": _r("ISLR/Hitters", "Salary"),
    "ames": _r("modeldata/ames", "Sale_Price"),
    "attrition": _r("modeldata/attrition", "Attrition", task=CLASSES),
    "credit": _r("modeldata/credit_data", "Status", task=CLASSES),
    "churn": _r("modeldata/mlc_churn", "churn", task=CLASSES),
    "sacramento": _r("modeldata/Sacramento", "price"),
    "scat": _r("modeldata/scat", "Species", task=CLASSES),
    "chicago": _r("modeldata/Chicago", "ridership"),
    "loans": _r("openintro/loans_full_schema", "interest_rate", "grade", "sub_grade"),
    "births": _r("openintro/births14", "weight", "lowbirthweight"),
    "txhousing": _r("ggplot2/txhousing", "median"),
    "chile": _r("carData/Chile", "vote", task=CLASSES),
    "mortgages": _r("AER/HMDA", "deny", task=CLASSES),
    "airports": _r("nycflights13/weather", "temp", "dewp"),
    "taxis": Source("seaborn-data/taxis.csv", "tip", ("total",)),
    "titanic": Source("seaborn-data/raw/titanic.csv", "survived", task=CLASSES),
    "mpg": Source("seaborn-data/mpg.csv", "mpg"),
    "birds": Source(
        "vega-datasets/data/birdstrikes.csv",
        "Effect Amount of damage",
        ("Cost Other", "Cost Repair", "Cost Total $"),
        CLASSES,
    ),
    "seattle": Source("vega-datasets/data/seattle-weather.csv", "weather", task=CLASSES),
}


class Split(NamedTuple):
    """The table as text with the column PART, and the same rows as pandas types them, with a mask of those held out."""

    cells: Table
    frame: pd.DataFrame
    test: np.ndarray


def load(source: Source, folder: Path, rows: int, seed: int) -> Split:
    """The rows that have a target that is not rare, at most so many, with a fifth held out; of classes, an even share of each."""
    table = read(folder / source.path)
    frame = pd.read_csv(folder / source.path, skipinitialspace=True)
    target = frame[source.target]
    often = target.map(target.value_counts()) >= FEWEST if source.task == CLASSES else target.notna()
    usable = np.flatnonzero(often)
    kept = np.sort(np.random.default_rng(0).permutation(usable)[:rows])
    frame = frame.iloc[kept].reset_index(drop=True)
    rank = (
        pd.Series(np.random.default_rng(seed).random(len(frame)))
        .groupby(frame[source.target].astype(str) if source.task == CLASSES else np.zeros(len(frame)))
        .rank(pct=True)
    )
    test = (rank > 0.8).to_numpy()
    marked = table.cells.iloc[kept].reset_index(drop=True).assign(**{PART: np.where(test, "1", "0")})
    return Split(Table(marked, table.notes, table.delimiter, table.numeric), frame, test)


def hannet_fit(source: Source, split: Split, seed: int) -> dict[str, float]:
    """`hannet fit --task TASK --drop ... --seed SEED`, judged by its own report."""
    options = FitOptions(
        source.target, source.task, seed=seed, baselines=False, drop=(*source.drop, PART), time=PART,
    )  # fmt: skip
    _, report = fit(split.cells, options, lambda _: None)
    row = report.facts["rows"][0]
    assert report.facts["test_rows"] == split.test.sum()
    return {"score": row["r2" if source.task == "regression" else "accuracy"]}


def skrub_trees(source: Source, split: Split, seed: int) -> dict[str, float]:
    """skrub.tabular_pipeline around HistGradientBoosting, both with their defaults."""
    import skrub
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    trees = HistGradientBoostingRegressor if source.task == "regression" else HistGradientBoostingClassifier
    x, y = split.frame.drop(columns=[source.target, *source.drop]), split.frame[source.target]
    y = y.astype(float) if source.task == "regression" else y.astype(str)
    with warnings.catch_warnings(action="ignore"):
        model = skrub.tabular_pipeline(trees(random_state=seed)).fit(x[~split.test], y[~split.test])
        return {"score": float(model.score(x[split.test], y[split.test]))}


METHODS = {"hannet fit": hannet_fit, "skrub and boosted trees": skrub_trees}


def main() -> None:
    """Run what is not in the record, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the checkouts")
    parser.add_argument("--only", default=",".join(SOURCES), help=f"some of {', '.join(SOURCES)}")
    parser.add_argument("--seeds", type=int, default=3, help="splits, with a training each")
    parser.add_argument("--rows", type=int, default=2000, help="of a table, at most")
    parser.add_argument("--out", type=Path, default=Path("hannet-results/benchmarks"), help="folder of the record")
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    if unknown := [name for name in names if name not in SOURCES]:
        parser.error(f"no table {unknown[0]!r}; there are {', '.join(SOURCES)}")
    store, began = Store(arguments.out), time.perf_counter()
    for seed in range(arguments.seeds):
        for name in names:
            run_one(store, name, arguments.data, arguments.rows, seed)
    found = compare(store.records(), names, arguments.rows, arguments.seeds)
    outcome = Run(f"{EXPERIMENT}: outcome", {"tables": names, "rows": arguments.rows, "seeds": arguments.seeds}, 0)
    store.append([Record.of(outcome, found, time.perf_counter() - began)])


def run_of(name: str, method: str, rows: int, seed: int) -> Run:
    """What a record is found by."""
    source = SOURCES[name]
    return Run(EXPERIMENT, {"table": source.path, "target": source.target, "method": method, "rows": rows}, seed)


def run_one(store: Store, name: str, folder: Path, rows: int, seed: int) -> None:
    """Both methods on one table and split, as far as they are not in the record."""
    known, source = store.records(), SOURCES[name]
    for method, evaluate in METHODS.items():
        run = run_of(name, method, rows, seed)
        if run.key in known:
            continue
        split = load(source, folder, rows, seed)
        began, began_cpu = time.perf_counter(), time.process_time()
        metrics = evaluate(source, split, seed)
        metrics["cpu_seconds"] = time.process_time() - began_cpu
        store.append([Record.of(run, metrics, time.perf_counter() - began)])
        print(
            f"{name:>12}  seed {seed}  {method:<24} {metrics['score']:.4f}  {metrics['cpu_seconds']:.1f} s", flush=True
        )


def compare(records: Mapping[str, Record], names: list[str], rows: int, seeds: int) -> dict[str, float]:
    """On how many tables HanNet is ahead, level and below, and how many times as long it takes in the median; of all a line."""
    counts, times = dict.fromkeys(("ahead", "level", "below"), 0), []
    for name in names:
        found = {m: [records[run_of(name, m, rows, seed).key] for seed in range(seeds)] for m in METHODS}
        ours, trees = ([number(record.metrics["score"]) for record in mine] for mine in found.values())
        differences = [one - other for one, other in zip(ours, trees, strict=True)]
        spread = stdev(differences) if seeds > 1 else 0.0
        outcome = "ahead" if mean(differences) > spread else "below" if mean(differences) < -spread else "level"
        counts[outcome] += 1
        times.append(truediv(*(sum(number(r.metrics["cpu_seconds"]) for r in mine) for mine in found.values())))
        measure = "R2" if SOURCES[name].task == "regression" else "accuracy"
        print(
            f"{name:>12}  {measure:<9} hannet {mean(ours):.4f}  trees {mean(trees):.4f}  spread {spread:.4f}  {outcome}"
        )
    print(", ".join(f"{outcome} on {count}" for outcome, count in counts.items()), f"of {len(names)} tables")
    return {**counts, "tables": len(names), "time": median(times)}


if __name__ == "__main__":
    main()
