"""What a person may choose about a fit, and what the columns that they name are for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from .encoders import Encoder, Kind
from .missing import DEFAULT_MISSING
from .readers import Table, TableError
from .target import find_column, normalize_labels


@dataclass(frozen=True)
class FitOptions:
    """What a person may choose about a fit.

    Args:
        target: The column to predict.
        task: "regression" or "classification"; None leaves it to the target's values.
        test: Share of the rows to test on.
        seed: Of the rows held out and of the training.
        header: Whether the table has one.
        baselines: Whether to train models of scikit-learn to compare with.
        missing: Tokens for a missing value.
        options: Parameters of the estimator.
        drop: Columns to leave out, each a name or several with commas between.
        group: The column whose equal values stay together: all such rows are tested on, or none.
        time: The column by which the last rows are tested on.
        weights: The column of what each row counts, in training and metrics.
        kinds: What columns hold, "number", "category", "date" or "text", where their cells need not tell.
        class_weight: "balanced" for classes that count alike in training, however frequent they are.
    """

    target: str
    task: str | None = None
    test: float = 0.2
    seed: int = 0
    header: bool = True
    baselines: bool = True
    missing: Sequence[str] = DEFAULT_MISSING
    options: Mapping[str, Any] | None = None
    drop: Sequence[str] = ()
    group: str | None = None
    time: str | None = None
    weights: str | None = None
    class_weight: str | None = None
    kinds: Mapping[str, Kind] = field(default_factory=dict)


@dataclass(frozen=True)
class Roles:
    """What the columns that were named say of each row; None where none was named. used: a mask of the rows that can be used."""

    used: np.ndarray
    groups: np.ndarray | None
    times: np.ndarray | None
    weights: np.ndarray | None
    notes: Sequence[str]


def dropped_columns(table: Table, config: FitOptions) -> dict[str, str]:
    """The columns that are no features because they were named, and why. Raises TableError for names that do not fit."""
    reasons = dict.fromkeys(_drop_names(table, config.drop), "asked for with --drop")
    roles = [("--group", config.group), ("--time", config.time), ("--weights", config.weights)]
    named = [("--drop", name) for name in reasons] + [("--kind", name) for name in config.kinds]
    named += [(option, name) for option, name in roles if name is not None]
    for option, name in named:
        find_column(table, name, option)
        if name == config.target:
            raise TableError(f"{option}: {name!r} is the target")
    if config.group is not None and config.time is not None:
        raise TableError("--group and --time each decide which rows are held out: choose one of them")
    if config.group is not None:
        reasons[config.group] = "groups the rows"
    if config.weights is not None:
        reasons[config.weights] = "weighs the rows"
    return reasons


def _drop_names(table: Table, values: Sequence[str]) -> Iterator[str]:
    for value in values:
        if value in table.cells:  # a name may hold a comma
            yield value
        else:
            yield from (name.strip() for name in value.split(",") if name.strip())


def read_roles(table: Table, config: FitOptions, decimals: Mapping[str, str]) -> Roles:
    """Read the columns of groups, times and weights. Raises TableError for one that cannot be read."""
    used, notes = np.ones(len(table.cells), bool), []
    groups = times = weights = None
    if config.group is not None:
        cells = normalize_labels(table.cells[config.group], decimals[config.group])
        groups = pd.factorize(cells)[0]
        if empty := int((cells == "").sum()):
            notes.append(f"rows without a value of {config.group!r} count as one group: {empty:,}")
    if config.time is not None:
        times, known = _read_values(table, config.time, decimals, config, "--time", dates=True)
        used &= known
        if not known.all():
            notes.append(f"rows left out, as {config.time!r} holds no time there: {(~known).sum():,} of {len(known):,}")
    if config.weights is not None:
        weights = read_weights(table, config.weights, decimals, config)
    return Roles(used, groups, times, weights, notes)


def read_weights(table: Table, name: str, decimals: Mapping[str, str], config: FitOptions) -> np.ndarray:
    """What each row counts. Raises TableError unless the column holds a number of at least 0 in every row."""
    weights, known = _read_values(table, name, decimals, config, "--weights", dates=False)
    if not known.all() or (weights < 0).any():
        bad = table.cells[name][~known | (weights < 0)]
        raise TableError(
            f"--weights: {name!r} must hold a number of at least 0 in every row, but holds {bad.iloc[0][:40]!r} "
            f"({len(bad):,} such rows)"
        )
    return weights


def _read_values(
    table: Table, name: str, decimals: Mapping[str, str], config: FitOptions, option: str, *, dates: bool
) -> tuple[np.ndarray, np.ndarray]:
    """A column's numbers, or times in days, and a mask of the cells that hold one."""
    cells, kind = table.cells[[name]], "a number or a date" if dates else "a number"
    try:
        encoder = Encoder.fit(cells, None, decimals, config.missing, config.kinds)
    except TableError as error:
        raise TableError(f"{option}: {name!r} must hold {kind}, and not the same one in every row") from error
    column = encoder.columns[0]
    inputs = encoder.inputs
    value = name if column.kind == "number" else f"{name} time" if column.kind == "date" and dates else ""
    if value not in inputs:
        raise TableError(f"{option}: {name!r} must hold {kind} in every row, but was read as {column.kind}")
    matrix = encoder.encode(cells, table.numeric)[0]
    absent = f"{name} missing"
    known = matrix[:, inputs.index(absent)] == 0 if absent in inputs else np.ones(len(cells), bool)
    return matrix[:, inputs.index(value)], known
