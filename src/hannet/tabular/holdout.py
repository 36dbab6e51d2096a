"""Which rows a model is tested on: by chance, whole groups, or those that come last."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .metrics import FEWEST_GROUPS
from .options import FitOptions, Roles
from .readers import Table, TableError
from .target import MIN_ROWS

COPIED = 0.9  # share of the rows with another's features that have its target, too
_ATTEMPTS = 32  # draws of groups, of which the one that is nearest to an even share is taken


@dataclass(frozen=True)
class Holdout:
    """A mask of the rows to test on; how they were chosen, in a few words and as plain values; notes."""

    test: np.ndarray
    described: str
    facts: dict[str, Any]
    notes: Sequence[str] = ()


def choose_rows(
    table: Table,
    config: FitOptions,
    roles: Roles,
    used: np.ndarray,
    y: np.ndarray,
    features: pd.DataFrame,
    *,
    classes: bool,
) -> Holdout:
    """The rows to test on, among those that are used.

    Args:
        table: All rows.
        config: Whether groups or times decide.
        roles: The group and the time of each row of the table.
        used: A mask over the rows of the table.
        y: Numbers or codes of the used rows.
        features: The used rows' cells without the target: rows that were copied stay together where chance decides.
        classes: Whether y are codes.
    """
    if roles.times is not None:
        times = roles.times[used]
        test = last_mask(times, config.test)
        first = table.cells[config.time][used].to_numpy()[test][times[test].argmin()]
        described = f"by time: those from {config.time!r} = {first!r} on, all later than the rows trained on"
        return Holdout(test, described, {"by": "time", "column": config.time, "from": first})
    if roles.groups is not None:
        groups = roles.groups[used]
        test = group_mask(y, groups, config.test, config.seed, classes=classes)
        count, total = len(np.unique(groups[test])), len(np.unique(groups))
        described = (
            f"by group: all rows of {count:,} of the {total:,} values of {config.group!r}, none of which is trained on"
        )
        few = [f"groups held out: {count}, too few for an interval"] if count < FEWEST_GROUPS else []
        facts = {"by": "group", "column": config.group, "groups": total, "test_groups": count}
        return Holdout(test, described, facts, few)
    groups, notes = copied_rows(features, y, config.test * len(y) / 2)
    test = holdout_mask(y, groups, config.test, config.seed, classes=classes)
    return Holdout(test, f"by chance{', an even share of each class' * classes}", {"by": "chance"}, notes)


def holdout_mask(y: np.ndarray, groups: np.ndarray, fraction: float, seed: int, *, classes: bool) -> np.ndarray:
    """A mask of the rows to test on: at random, of classes an even share, and never all rows of a class.

    groups: equal numbers for rows that must stay together; most have one y.
    """
    _, first, position, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    labels = y[first]
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(first))
    strata = labels if classes else np.zeros(len(first))
    order = order[np.lexsort((sizes[order], strata[order]))]  # at random within equal ones
    count = min(max(2, round(fraction * len(first))), len(first) - 2)
    test = np.zeros(len(first), bool)
    test[order[((np.arange(count) + rng.random()) / count * len(first)).astype(int)]] = True
    if classes:
        lost = np.setdiff1d(y[test[position]], y[~test[position]])
        test[[position[np.flatnonzero(y == code)[0]] for code in lost]] = False
    return test[position]


def group_mask(y: np.ndarray, groups: np.ndarray, fraction: float, seed: int, *, classes: bool) -> np.ndarray:
    """A mask of the rows to test on, all or none of a group: of some draws that with the evenest share of rows and classes."""
    _, place, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        raise TableError("--group: all rows are of one group, but some groups must be trained on and others held out")
    rng, rows = np.random.default_rng(seed), len(y)
    shares = np.bincount(y) / rows if classes else np.ones(1)
    best, found = math.inf, np.zeros(rows, bool)
    for _ in range(_ATTEMPTS):
        order = rng.permutation(len(sizes))
        reached = np.cumsum(sizes[order])[:-1]
        chosen = np.zeros(len(sizes), bool)
        chosen[order[: int(np.abs(reached - fraction * rows).argmin()) + 1]] = True
        test = chosen[place]
        off = abs(test.mean() - fraction)
        if classes:
            trained = np.bincount(y[~test], minlength=len(shares))
            off += (
                np.abs(np.bincount(y[test], minlength=len(shares)) / test.sum() - shares).max() + (trained == 0).sum()
            )
        if off < best:
            best, found = off, test
    return found


def last_mask(times: np.ndarray, fraction: float) -> np.ndarray:
    """A mask of about that share of the rows, none of which is earlier than, or as early as, one of the others."""
    values, counts = np.unique(times, return_counts=True)
    if len(values) < 2:
        raise TableError("--time: all rows are of one time, but the first must be trained on and the last held out")
    left = counts[::-1].cumsum()[::-1][1:]
    return times >= values[1:][np.abs(left - fraction * len(times)).argmin()]


def copied_rows(features: pd.DataFrame, y: np.ndarray, limit: float) -> tuple[np.ndarray, list[str]]:
    """A number for each row, the same for copies of one, and a note.

    Rows with equal features are copies where nearly all have an equal target, too. Where many have another, few values in few
    columns made them alike: each counts, as it will among new rows. To keep rows together by features and target would then hold
    out those of one target while the same features with another one are trained on, so that every model learns the opposite.

    Args:
        features: Of each row.
        y: The target of each.
        limit: Of the rows in a group; above it all rows count.
    """
    groups, distinct = pd.factorize(pd.util.hash_pandas_object(features, index=False))
    repeated = len(groups) - len(distinct)
    if not repeated:
        return groups, []
    alike = len(groups) - len(np.unique(np.column_stack([groups, y]), axis=0))
    note = f"rows that repeat the features of another: {repeated:,} of {len(groups):,}"
    if alike < COPIED * repeated:
        other = f"{repeated - alike:,} of them with another target, so that all count as rows of their own"
        return np.arange(len(groups)), [f"{note}, {other}"]
    combinations = math.prod(features[name].nunique() for name in features)
    if combinations < len(groups) or len(distinct) < MIN_ROWS or np.bincount(groups).max() > limit:
        return np.arange(len(groups)), [f"{note}, too many to hold out equal rows together"]
    return groups, [f"{note}; equal rows are held out together or not at all"]
