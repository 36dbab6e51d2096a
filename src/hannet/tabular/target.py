"""What is predicted: a number, or one of several classes."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
import pandas as pd

from .encoders import is_finite, mixed_signs_note
from .parsing import (
    DEFAULT_MISSING,
    MAX_INVALID,
    missing_mask,
    missing_tokens,
    number_signs,
    parse_numbers,
    user_tokens,
)
from .readers import DELIMITERS, Table, TableError


@dataclass(frozen=True)
class Target:
    """The column to predict. classes: its values in order; none of them where it is a number. decimal: "." or ","."""

    name: str
    classes: Sequence[str]
    decimal: str

    def codes(self, table: Table, words: Sequence[str] = DEFAULT_MISSING) -> tuple[np.ndarray, np.ndarray]:
        """Numbers, or positions in classes, and which of them count. words: what is read as missing."""
        cells = table.cells[self.name]
        decimal = "." if self.name in table.plain else self.decimal
        if not self.classes:
            values = parse_numbers(cells, decimal)
            return values, is_finite(values) & ~missing_mask(cells, words)
        places = {name: place for place, name in enumerate(self.classes)}
        codes = normalize_labels(cells, decimal).map(places).fillna(-1).to_numpy(int)
        return codes, (codes >= 0) & ~cells.str.lower().isin(user_tokens(words)).to_numpy(bool)


def normalize_labels(cells: pd.Series, decimal: str) -> pd.Series:
    """Names of classes: what one program wrote as 1.0 is what another wrote as 1."""
    return cells.str.replace(rf"^([+-]?\d+){re.escape(decimal)}0+$", r"\1", regex=True)


MIN_ROWS = 20  # rows: with fewer, four or less would be held out, and tell nothing
MAX_INTEGER_CLASSES = 20  # so many integers, each standing for at least 20 rows, are classes
MAX_CLASSES = 200
MAX_SUGGESTED = 3  # so many different ones among numbers may stand for missing values
MAX_AMBIGUOUS = 50  # with so few different numbers, a person may want classes where we take numbers, or the reverse
TASK_NOTES = {
    "regression": "taken for a number; --task classification would take its values for classes",
    "classification": "taken for classes; --task regression would predict a number",
}


def infer_target(
    cells: pd.Series, name: str, task: str | None, decimal: str = ".", words: Sequence[str] = DEFAULT_MISSING
) -> tuple[Target, list[str]]:
    """The target as numbers or classes, and notes. Raises TableError if there is nothing to learn."""
    there = cells[~missing_mask(cells, words)]
    if there.empty:
        raise TableError(f"the target {name!r} is missing in every row")
    values = parse_numbers(there, decimal)
    good = is_finite(values)
    numeric = good.mean() >= 1 - MAX_INVALID
    chosen = task or ("regression" if numeric and not _are_class_codes(values[good]) else "classification")
    if chosen == "regression" and not numeric:
        advice = "; --task classification predicts classes" * _can_be_classes(normalize_labels(there, decimal))
        raise TableError(
            f"the target {name!r}: regression needs numbers; {_describe_non_numbers(there, good, words)}{advice}"
        )
    kept = there[good] if chosen == "regression" else normalize_labels(there, decimal)
    if len(kept) < MIN_ROWS:
        raise TableError(f"rows with a target: {len(kept)}; to train and to test, at least {MIN_ROWS} are needed")
    if kept.nunique() == 1 or (chosen == "regression" and np.ptp(values[good]) == 0):
        raise TableError(f"the target {name!r} is {kept.iloc[0]!r} in every row: there is nothing to predict")
    if chosen == "classification" and not _can_be_classes(kept):
        instead = "--task regression predicts numbers" if numeric else _describe_non_numbers(there, good, words)
        raise TableError(
            f"the target {name!r} has {kept.nunique():,} different values in {len(kept):,} rows, too many for classes; {instead}"
        )
    classes = _sorted_classes(kept, decimal) if chosen == "classification" else ()
    guessed = not task and numeric and there.nunique() <= MAX_AMBIGUOUS
    notes = [f"{name!r} is {TASK_NOTES[chosen]}"] if guessed else []
    if "NA" in classes and "na" in missing_tokens(words):
        notes.append(
            f"'NA' counts as a value of {name!r}, as all others are two capitals; --missing default,NA leaves it out"
        )
    return Target(name, classes, decimal), notes + ([] if classes else mixed_signs_note(name, number_signs(kept)))


def _can_be_classes(cells: pd.Series) -> bool:
    """Whether the values can be classes: few, and most of them more than once."""
    return cells.nunique() <= min(MAX_CLASSES, len(cells) / 2)


def _describe_non_numbers(there: pd.Series, good: np.ndarray, words: Sequence[str]) -> str:
    """How many values are no numbers, and of what few words they are: with those named as missing, there are numbers."""
    values = there[~good].unique()
    told = f"{(~good).sum():,} of {len(there):,} values are no numbers, such as {values[0][:40]!r}"
    if len(values) > MAX_SUGGESTED or good.sum() < MIN_ROWS or any("," in word for word in values):
        return told
    return f"{told}; --missing {shlex.quote(','.join([*words, *values]))} leaves such rows out"


def _sorted_classes(cells: pd.Series, decimal: str) -> tuple[str, ...]:
    """The values in order: that of numbers if all are."""
    classes = cells.unique()
    places = parse_numbers(pd.Series(classes, dtype="str"), decimal)
    if not np.isfinite(places).all():
        places = np.zeros(len(classes))
    return tuple(name for _, name in sorted(zip(places, classes, strict=True)))


def _are_class_codes(values: np.ndarray) -> bool:
    distinct = np.unique(values)
    whole = bool((distinct == distinct.round()).all())
    return len(distinct) <= 2 or (whole and len(distinct) <= min(MAX_INTEGER_CLASSES, len(values) / 20))


def target_column(table: Table, name: str) -> pd.Series:
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


def dropped_rows_note(cells: pd.Series, counts: np.ndarray, *, classes: bool) -> list[str]:
    """A note on the rows that are left out, and on what stands for their target."""
    if counts.all():
        return []
    lost = cells[~counts].value_counts()
    words = [f"{word[:40]!r} {count:,}" if word else f"empty {count:,}" for word, count in lost[:5].items()]
    more = ", ..." if len(lost) > len(words) else ""
    advice = '; --missing "" takes words for classes' if classes and any(lost.index) else ""
    named = f"{', '.join(words)}{more}{advice}"
    return [f"rows left out, as they have no target: {lost.sum():,} of {len(counts):,} ({named})"]
