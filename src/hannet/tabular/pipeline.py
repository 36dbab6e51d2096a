"""From a table and the name of a column to a model of that column, and a report of how well it does."""

import json
import math
import re
import shlex
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning

from ..estimators.base import HanClassifier, HanRegressor
from ..reporting import figures, tables
from ..reporting.progress import OnProgress, ProgressEvent
from ..reporting.tables import Table as Results
from ..storage.provenance import versions
from ..train.callbacks import Callback, TrainingState
from . import metrics
from .encoders import Date, Encoder, finite, mixed
from .model import Model, Target, labels
from .readers import (
    DELIMITERS,
    STRANGE,
    USUAL,
    Table,
    TableError,
    infer_decimal_marks,
    missing,
    missing_tokens,
    numbers,
    signs,
    told_missing,
    unmatched_missing_tokens,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEWEST = 20  # rows: with fewer, four or less would be held out, and tell nothing
INDEX = re.compile(r"__index_level_\d+__")  # a column of Parquet
FEW_CLASSES = 20  # so many integers, each standing for at least 20 rows, are classes
MOST_CLASSES = 200
WORDS = 3  # so many different ones among numbers may stand for missing values
DEBATABLE = 50  # with so few different numbers, a person may want classes where we take numbers, or the reverse
KINDS = {
    "regression": "taken for a number; --task classification would take its values for classes",
    "classification": "taken for classes; --task regression would predict a number",
}


@dataclass(frozen=True)
class Report:
    """What a person wants to know of a fit, and as facts for machines."""

    results: Results
    columns: Results
    facts: Mapping[str, Any]
    figure: "Figure"

    def files(self) -> dict[str, bytes]:
        """Contents of the report's files by their names."""
        text = f"{tables.markdown(self.results)}\n![Held-out rows](report.svg)\n\n#{tables.markdown(self.columns)}"
        facts = json.dumps(self.facts, indent=1, allow_nan=False) + "\n"
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph")  # a name in a script that the font does not have
            images = {f"report.{form}": figures.figure_as_bytes(self.figure, form) for form in ("png", "svg")}
        return {"report.md": text.encode(), "report.json": facts.encode(), **images}


@dataclass(frozen=True)
class Plan:
    """What a person may choose. missing: words for a missing value; options: of the estimator."""

    target: str
    task: str | None = None
    test: float = 0.2
    seed: int = 0
    header: bool = True
    baselines: bool = True
    missing: Sequence[str] = USUAL
    options: Mapping[str, Any] | None = None


def infer_target(
    cells: pd.Series, name: str, task: str | None, decimal: str = ".", words: Sequence[str] = USUAL
) -> tuple[Target, list[str]]:
    """The target as numbers or classes, and notes. Raises TableError if there is nothing to learn."""
    there = cells[~missing(cells, words)]
    if there.empty:
        raise TableError(f"the target {name!r} is missing in every row")
    values = numbers(there, decimal)
    good = finite(values)
    numeric = good.mean() >= 1 - STRANGE
    chosen = task or ("regression" if numeric and not _few(values[good]) else "classification")
    if chosen == "regression" and not numeric:
        advice = "; --task classification predicts classes" * _suit(labels(there, decimal))
        raise TableError(f"the target {name!r}: regression needs numbers; {_strange(there, good, words)}{advice}")
    kept = there[good] if chosen == "regression" else labels(there, decimal)
    if len(kept) < FEWEST:
        raise TableError(f"rows with a target: {len(kept)}; to train and to test, at least {FEWEST} are needed")
    if kept.nunique() == 1 or (chosen == "regression" and np.ptp(values[good]) == 0):
        raise TableError(f"the target {name!r} is {kept.iloc[0]!r} in every row: there is nothing to predict")
    if chosen == "classification" and not _suit(kept):
        instead = "--task regression predicts numbers" if numeric else _strange(there, good, words)
        raise TableError(
            f"the target {name!r} has {kept.nunique():,} different values in {len(kept):,} rows, too many for classes; {instead}"
        )
    classes = _classes(kept, decimal) if chosen == "classification" else ()
    guessed = not task and numeric and there.nunique() <= DEBATABLE
    notes = [f"{name!r} is {KINDS[chosen]}"] if guessed else []
    if "NA" in classes and "na" in missing_tokens(words):
        notes.append(
            f"'NA' counts as a value of {name!r}, as all others are two capitals; --missing default,NA leaves it out"
        )
    return Target(name, classes, decimal), notes + ([] if classes else mixed(name, signs(kept)))


def _suit(cells: pd.Series) -> bool:
    """Whether the values can be classes: few, and most of them more than once."""
    return cells.nunique() <= min(MOST_CLASSES, len(cells) / 2)


def _strange(there: pd.Series, good: np.ndarray, words: Sequence[str]) -> str:
    """How many values are no numbers, and of what few words they are: with those named as missing, there are numbers."""
    values = there[~good].unique()
    told = f"{(~good).sum():,} of {len(there):,} values are no numbers, such as {values[0][:40]!r}"
    if len(values) > WORDS or good.sum() < FEWEST or any("," in word for word in values):
        return told
    return f"{told}; --missing {shlex.quote(','.join([*words, *values]))} leaves such rows out"


def _classes(cells: pd.Series, decimal: str) -> tuple[str, ...]:
    """The values in order: that of numbers if all are."""
    classes = cells.unique()
    places = numbers(pd.Series(classes, dtype="str"), decimal)
    if not np.isfinite(places).all():
        places = np.zeros(len(classes))
    return tuple(name for _, name in sorted(zip(places, classes, strict=True)))


def _few(values: np.ndarray) -> bool:
    distinct = np.unique(values)
    whole = bool((distinct == distinct.round()).all())
    return len(distinct) <= 2 or (whole and len(distinct) <= min(FEW_CLASSES, len(values) / 20))


def _column(table: Table, name: str) -> pd.Series:
    """The target's cells. Raises TableError if there is no such column, or no other."""
    names = list(table.cells)
    if len(names) == 1:
        raise TableError(
            f"the table has one column only, {names[0][:60]!r}: columns are told apart by {', '.join(DELIMITERS.values())}"
        )
    if name not in names:
        lower = {known.lower(): known for known in reversed(names)}
        close = [lower[match] for match in get_close_matches(name.lower(), lower, cutoff=0.5)]
        which = f"closest: {', '.join(map(repr, close))}" if close else f"it has {', '.join(map(repr, names[:12]))}"
        raise TableError(f"the table has no column {name!r}; {which}")
    return table.cells[name]


def hold_out(y: np.ndarray, copies: np.ndarray, fraction: float, seed: int, *, classes: bool) -> np.ndarray:
    """A mask of the rows to test on: at random, of classes an even share, and never all rows of a class.

    copies: equal numbers for rows that must stay together; they have one y.
    """
    _, first, place, sizes = np.unique(copies, return_index=True, return_inverse=True, return_counts=True)
    kinds = y[first]
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(first))
    order = order[np.lexsort((sizes[order], kinds[order] if classes else np.zeros(len(first))))]  # else still at random
    count = min(max(2, round(fraction * len(first))), len(first) - 2)
    test = np.zeros(len(first), bool)
    test[order[((np.arange(count) + rng.random()) / count * len(first)).astype(int)]] = True
    if classes:
        lost = np.setdiff1d(kinds[test], kinds[~test])
        test[[np.flatnonzero(kinds == code)[0] for code in lost]] = False
    return test[place]


def _copies(cells: pd.DataFrame, most: float) -> tuple[np.ndarray, list[str]]:
    """A number for each row, the same for equal rows unless they are so by chance, or more than most; and a note."""
    copies, distinct = pd.factorize(pd.util.hash_pandas_object(cells, index=False))
    repeated = len(copies) - len(distinct)
    if not repeated:
        return copies, []
    note = f"rows that repeat another: {repeated:,} of {len(copies):,}"
    ways = math.prod(cells[name].nunique() for name in cells)  # to make a row of the columns' values
    if ways < len(copies) or len(distinct) < FEWEST or np.bincount(copies).max() > most:
        return np.arange(len(copies)), [f"{note}, too many to hold out equal rows together"]
    return copies, [f"{note}; equal rows are held out together or not at all"]


def fit(table: Table, plan: Plan, on_progress: OnProgress) -> tuple[Model, Report]:
    """Train on a part of the rows, measure on the others. Raises TableError."""
    column = _column(table, plan.target)
    decimals, spelt = infer_decimal_marks(table, plan.missing)
    target, notes = infer_target(column, plan.target, plan.task, decimals[plan.target], plan.missing)
    codes, counts = target.codes(table, plan.missing)
    others = table.cells.drop(columns=plan.target)
    unwanted = {name: "numbers the rows" for name in others if _numbers_rows(others[name], decimals[name])}
    unwanted |= {name: "an index that pandas kept" for name in others if INDEX.fullmatch(name)}
    notes += _no_target(column, counts, classes=bool(target.classes))
    y = codes[counts]
    copies, repeated = _copies(table.cells[counts].drop(columns=list(unwanted)), plan.test * len(y) / 2)
    test = hold_out(y, copies, plan.test, plan.seed, classes=bool(target.classes))
    order, train = np.argsort(test, kind="stable"), int((~test).sum())
    y, cells = y[order], others[counts].iloc[order]  # so both parts are views of one matrix
    encoder = Encoder.fit(cells[:train], unwanted, decimals, plan.missing)
    x, odd = encoder.encode(cells)
    split = metrics.Split(x[:train], y[:train], x[train:], y[train:], len(target.classes))
    notes = [*table.notes, *spelt, *notes, *repeated, *encoder.notes, *odd]
    notes += told_missing(cells[list(encoder.groups)], plan.missing) + unmatched_missing_tokens(
        table.cells, plan.missing
    )
    estimator, rows = _train(split, plan, on_progress, notes)
    model = Model(target, plan.header, encoder, estimator)
    return model, _report(model, plan, split, rows, notes)


def _no_target(cells: pd.Series, counts: np.ndarray, *, classes: bool) -> list[str]:
    """A note on the rows that are left out, and on what stands for their target."""
    if counts.all():
        return []
    lost = cells[~counts].value_counts()
    words = [f"{word[:40]!r} {count:,}" if word else f"empty {count:,}" for word, count in lost[:5].items()]
    more = ", ..." if len(lost) > len(words) else ""
    advice = '; --missing "" takes words for classes' if classes and any(lost.index) else ""
    named = f"{', '.join(words)}{more}{advice}"
    return [f"rows left out, as they have no target: {lost.sum():,} of {len(counts):,} ({named})"]


def _numbers_rows(cells: pd.Series, decimal: str) -> bool:
    values = numbers(cells, decimal)
    return bool(values[0] in (0, 1) and (np.diff(values) == 1).all())


class _EpochReporter(Callback):
    """Reports every epoch of the HanNets, the first of some models.  share: of the whole work."""

    def __init__(self, report: OnProgress, models: int, share: float):
        self.report, self.models, self.share = report, models, share

    def on_epoch_end(self, state: TrainingState) -> None:
        epochs = state.epoch if state.stopped else state.epochs
        fit = ProgressEvent("models", self.share * state.epoch / epochs, 1, "", {"model": f"1/{self.models}"})
        loss = {"loss": float(state.loss.nanmean())}
        self.report(ProgressEvent("HanNet", state.epoch, epochs, "epochs", loss, fit))


def _train(
    split: metrics.Split, plan: Plan, on_progress: OnProgress, notes: list[str]
) -> tuple[HanRegressor | HanClassifier, list[dict[str, Any]]]:
    """The estimator, and the rows of the table that compares it with others."""
    baselines = metrics.baselines(split, plan.seed) if plan.baselines else {}
    models, ours = 1 + len(baselines), 0.9 if baselines else 1.0  # the share of the work that is ours, about

    def on_other(number: int, name: str, done: int) -> None:
        share = ours + (1 - ours) * (number - 1 + done) / len(baselines)
        fit = ProgressEvent("models", share, 1, "", {"model": f"{number + 1}/{models}"})
        on_progress(ProgressEvent(f"{name} {'trained' if done else 'training'}", done, 1, "", within=fit))

    kind = HanClassifier if split.classes else HanRegressor
    estimator = kind(random_state=plan.seed, **(plan.options or {}))
    began = time.perf_counter()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            estimator.fit(split.x, split.y, callbacks=[_EpochReporter(on_progress, models, ours)])
    except RuntimeError as error:
        raise TableError(f"the training failed: {error}") from error
    notes += [str(warning.message) for warning in caught if issubclass(warning.category, ConvergenceWarning)]
    rows = [{"model": "HanNet"} | metrics.measure(estimator, split, began)]
    for number, (name, model) in enumerate(baselines.items(), 1):
        on_other(number, name, done=0)
        began = time.perf_counter()
        rows.append({"model": name} | metrics.measure(metrics.Scaled(model, split), split, began))
        on_other(number, name, done=1)
    return estimator, rows


def _report(
    model: Model, plan: Plan, split: metrics.Split, rows: Sequence[Mapping[str, Any]], notes: Sequence[str]
) -> Report:
    name, encoder = model.target.name, model.encoder
    form = metrics.digits(rows)
    rises = metrics.importance(model.estimator, encoder.groups, split, plan.seed)
    output = metrics.predict(model.estimator, split.x_test)
    figure = metrics.plot_predictions(name, tuple(model.target.classes), split.y_test, output)
    beside = [metrics.baseline_note(split)] if plan.baselines else []
    lines = [
        _rows(split, encoder),
        *metrics.underperformance_warning(split, rows[0]),
        *metrics.small_sample_warning(len(split.y_test)),
        *beside,
        *_left_out(encoder),
        *notes,
        *_telling(rises, split, form),
    ]
    ends = {"size": ("weights or leaves", "{0[count]:,}"), "seconds": ("sec", "{:.1f}")}
    headings = {"model": ("model", ""), **metrics.headings(rows), **ends}
    facts = {
        "target": asdict(model.target),
        "task": "classification" if model.target.classes else "regression",
        "rows": [dict(row) for row in rows],
        "train_rows": len(split.y),
        "test_rows": len(split.y_test),
        "notes": lines,
        "importance": rises,
        "columns": {column.name: {"kind": column.kind, "inputs": column.inputs} for column in encoder.columns},
        "dropped": dict(encoder.dropped),
        "plan": asdict(plan),
        "versions": dict(versions()),
    }
    results = Results(f"{name}: predictions of held-out rows", headings, rows, lines)
    return Report(results, _columns(model, rises, split, form), facts, figure)


def _rows(split: metrics.Split, encoder: Encoder) -> str:
    columns, inputs = len(encoder.columns), len(encoder.inputs)
    return (
        f"{len(split.y):,} rows to train on, {len(split.y_test):,} held out; "
        f"{columns:,} column{'s' * (columns > 1)} became {inputs:,} input{'s' * (inputs > 1)}"
    )


def _left_out(encoder: Encoder) -> list[str]:
    return [f"column {name!r} is left out: {why}" for name, why in encoder.dropped.items()]


def _rise(split: metrics.Split) -> str:
    """What an importance is, and its unit."""
    error = "log loss (in nats)" if split.classes else "RMSE"
    sampled = f" among {metrics.SHUFFLED_ROWS:,} of them, drawn at random" * (len(split.y_test) > metrics.SHUFFLED_ROWS)
    return f"rise of the {error} of held-out rows when the column is shuffled{sampled}"


def _telling(rises: Mapping[str, float], split: metrics.Split, form: str) -> list[str]:
    if not rises:
        return [f"what matters most is not measured with more than {metrics.SHUFFLED_COLUMNS} columns"]
    first = "; ".join(f"{name} {rise:{form}}" for name, rise in list(rises.items())[:5] if rise > 0)
    return [f"what matters most ({_rise(split)}): {first or 'no column, as the error rises with none'}"]


def _columns(model: Model, rises: Mapping[str, float], split: metrics.Split, form: str) -> Results:
    """What became of each column, the most important first."""
    rows: list[dict[str, Any]] = [
        {
            "column": _cell(column.name),
            "kind": f"{column.kind} {column.form}" if isinstance(column, Date) else column.kind,
            "inputs": len(column.inputs),
            "rise": rises.get(column.name),
        }
        for column in model.encoder.columns
    ]
    rows.sort(key=lambda row: -(row["rise"] or 0.0))
    rows += [{"column": _cell(name), "kind": f"left out: {why}"} for name, why in model.encoder.dropped.items()]
    headings = {
        "column": ("column", ""),
        "kind": ("kind", ""),
        "inputs": ("inputs", "{}"),
        "rise": ("importance", f"{{:z{form}}}"),
    }
    return Results(
        "Columns", headings, rows, [f"importance: {_rise(split)}" if rises else _telling({}, split, form)[0]]
    )


def _cell(name: str) -> str:
    """A name that cannot break a table of Markdown."""
    return " ".join(name.split()).replace("|", "\\|")
