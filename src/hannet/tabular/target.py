"""What is predicted: a number, or one of several classes."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

import numpy as np
import pandas as pd

from . import missing, numbers
from .categories import match_capitals, unify_capitals
from .columns import is_finite
from .missing import DEFAULT_MISSING, MAX_INVALID, Tokens
from .numbers import marks_of_new_cells
from .readers import DELIMITERS, Table, TableError, join_names

MIN_ROWS = 20  # rows: with fewer, four or less would be held out, and say nothing
MAX_INTEGER_CLASSES = 20  # so many integers, each standing for at least 20 rows, are classes
MAX_CLASSES = 200
MAX_SUGGESTED = 3  # so many different ones among numbers may stand for missing values
MAX_AMBIGUOUS = 50  # with so few different numbers, a person may want classes where we take numbers, or the reverse
TASK_NOTES = {
    "regression": "taken for a number; --task classification would take its values for classes",
    "classification": "taken for classes; --task regression would predict a number",
}


@dataclass(frozen=True)
class Target:
    """The column to predict; classes: its values in order, none where it is a number; decimal: "." or ","; units: factors by unit.

    sizes: of the numbers, as `numbers.size_range` gives it.
    """

    name: str
    classes: Sequence[str]
    decimal: str
    units: Mapping[str, float] = field(default_factory=dict)
    sizes: Sequence[float] = ()

    def _decimal_mark(self, table: Table, tokens: Tokens) -> tuple[str, list[str]]:
        """The mark of this table's numbers, and notes if it is not the one learned."""
        if self.name in table.numeric:
            return ".", []
        learned, sizes = {self.name: self.decimal}, {self.name: self.sizes}
        marks, notes = marks_of_new_cells(table.cells, learned, tokens, sizes)
        return marks[self.name], notes

    def codes(self, table: Table, tokens: Tokens = DEFAULT_MISSING) -> tuple[np.ndarray, np.ndarray]:
        """Numbers, or positions in classes, and a mask of those that are known; tokens: what is read as missing."""
        cells = table.cells[self.name]
        decimal, absent = self._decimal_mark(table, tokens)[0], missing.missing_mask(cells, tokens)
        if not self.classes:
            values = numbers.convert(numbers.parse(cells, decimal), self.units)
            return values, is_finite(values) & ~absent
        positions = {name: position for position, name in enumerate(self.classes)}
        labels = normalize_labels(cells, decimal)
        labels = labels.where(absent, match_capitals(labels, self.classes))
        codes = labels.map(positions).fillna(-1).to_numpy(int)
        return codes, (codes >= 0) & ~cells.str.lower().isin(missing.user_tokens(tokens)).to_numpy(bool)

    def spelling_notes(self, table: Table, known: np.ndarray, tokens: Tokens = DEFAULT_MISSING) -> list[str]:
        """Notes on numbers in another notation, and on values that are neither classes nor missing; known: a mask as `codes` gives it."""
        if not self.classes:
            return self._decimal_mark(table, tokens)[1]
        cells = table.cells[self.name]
        values = cells[~known & ~missing.missing_mask(cells, tokens)].unique()
        if not len(values):
            return []
        named, classes = (join_names([repr(value[:40]) for value in words]) for words in (values, self.classes))
        return [f"{named} {'is' if len(values) == 1 else 'are'} none of the model's classes {classes}"]


def normalize_labels(cells: pd.Series, decimal: str) -> pd.Series:
    """Names of classes: what one program wrote as 1.0 is what another wrote as 1."""
    return cells.str.replace(rf"^([+-]?\d+){re.escape(decimal)}0+$", r"\1", regex=True)


def infer_target(
    cells: pd.Series, name: str, task: str | None, decimal: str = ".", tokens: Tokens = DEFAULT_MISSING
) -> tuple[Target, list[str]]:
    """The target as numbers or classes, and notes; raises TableError if there is nothing to learn."""
    present = cells[~missing.missing_mask(cells, tokens)]
    if present.empty:
        raise TableError(f"the target {name!r} is missing in every row")
    parsed = numbers.parse(present, decimal)
    used = pd.unique(parsed.units[~np.isnan(parsed.values)])
    units = numbers.unit_factors(used, scaled=parsed.scaled)
    values = numbers.convert(parsed, units or {}) if units is not None else np.full(len(present), np.nan)
    valid = is_finite(values)
    words = missing.missing_numeric(present, tokens)
    numeric = valid.mean() >= max(0.5, (1 - MAX_INVALID) * (~words).mean())
    chosen = task or ("regression" if numeric and not _are_class_codes(values[valid]) else "classification")
    if chosen == "regression" and not numeric:
        advice = "; --task classification predicts classes" * _can_be_classes(normalize_labels(present, decimal))
        raise TableError(
            f"the target {name!r}: regression needs numbers; {_describe_non_numbers(present, valid, tokens)}{advice}"
        )
    notes: list[str] = []
    kept = present[valid]
    if chosen == "classification":
        kept, notes = unify_capitals(name, normalize_labels(present, decimal))
    if len(kept) < MIN_ROWS:
        raise TableError(f"rows with a target: {len(kept)}; to train and to test, at least {MIN_ROWS} are needed")
    if kept.nunique() == 1 or (chosen == "regression" and np.ptp(values[valid]) == 0):
        raise TableError(f"the target {name!r} is {kept.iloc[0]!r} in every row: there is nothing to predict")
    if chosen == "classification" and not _can_be_classes(kept):
        advice = "--task regression predicts numbers" if numeric else _describe_non_numbers(present, valid, tokens)
        raise TableError(
            f"the target {name!r} has {kept.nunique():,} different values in {len(kept):,} rows, too many for classes; {advice}"
        )
    classes = _sorted_classes(kept, decimal) if chosen == "classification" else ()
    guessed = not task and numeric and present.nunique() <= MAX_AMBIGUOUS
    notes += [f"{name!r} is {TASK_NOTES[chosen]}"] if guessed else []
    if classes:
        notes += missing.unknown_classes_note(kept, tokens)
    if "NA" in classes and "na" in missing.missing_tokens(tokens):
        notes.append(
            f"'NA' counts as a value of {name!r}, as all others are two capitals; --missing default,NA leaves it out"
        )
    if not classes:
        notes += numbers.mixed_signs_note(name, numbers.beside_numbers(parsed, valid, units or {}))
        notes += numbers.units_note(name, units or {})
        sizes = numbers.size_range(values[valid]) if len(units or {}) < 2 else []
        return Target(name, (), decimal, units or {}, sizes), notes
    return Target(name, classes, decimal), notes


def _can_be_classes(cells: pd.Series) -> bool:
    """Whether the values can be classes: few, and most of them more than once."""
    return cells.nunique() <= min(MAX_CLASSES, len(cells) / 2)


def _describe_non_numbers(cells: pd.Series, valid: np.ndarray, tokens: Tokens) -> str:
    """How many values are no numbers and, where they are few words that may stand for missing values, how to say so."""
    values = cells[~valid].unique()
    message = f"{(~valid).sum():,} of {len(cells):,} values are no numbers, such as {values[0][:40]!r}"
    if len(values) > MAX_SUGGESTED or valid.sum() < MIN_ROWS or any("," in value for value in values):
        return message
    return f"{message}; --missing {shlex.quote(','.join([*tokens, *values]))} leaves such rows out"


def _sorted_classes(cells: pd.Series, decimal: str) -> tuple[str, ...]:
    """The values in order: that of numbers if all are."""
    classes = cells.unique()
    values = numbers.parse_numbers(pd.Series(classes, dtype="str"), decimal)
    if not np.isfinite(values).all():
        return tuple(sorted(classes))
    return tuple(name for _, name in sorted(zip(values, classes, strict=True)))


def _are_class_codes(values: np.ndarray) -> bool:
    distinct = np.unique(values)
    integers = bool((distinct == distinct.round()).all())
    return len(distinct) <= 2 or (integers and len(distinct) <= min(MAX_INTEGER_CLASSES, len(values) / 20))


def target_column(table: Table, name: str) -> pd.Series:
    """The target's cells; raises TableError if there is no such column, or no other."""
    if len(table.cells.columns) == 1:
        only = table.cells.columns[0]
        raise TableError(
            f"the table has one column only, {only[:60]!r}: columns are told apart by {', '.join(DELIMITERS.values())}"
        )
    return find_column(table, name)


def find_column(table: Table, name: str, option: str = "") -> pd.Series:
    """The cells of a column; raises TableError, with the option that named it and the names that are near, if there is none."""
    names = list(table.cells)
    if name not in names:
        lower = {known.lower(): known for known in reversed(names)}
        matches = [repr(lower[match]) for match in get_close_matches(name.lower(), lower, cutoff=0.5)]
        hint = f"closest: {', '.join(matches)}" if matches else f"it has {', '.join(map(repr, names[:12]))}"
        raise TableError(f"{option}{': ' * bool(option)}the table has no column {name!r}; {hint}")
    return table.cells[name]


def dropped_rows_note(cells: pd.Series, known: np.ndarray, *, classes: bool) -> list[str]:
    """A note on the rows that are left out, and on what stands for their target."""
    if known.all():
        return []
    counts = cells[~known].value_counts()
    values = [f"{value[:40]!r} {count:,}" if value else f"empty {count:,}" for value, count in counts.head(6).items()]
    advice = '; --missing "" takes words for classes' if classes and any(counts.index) else ""
    return [
        f"rows left out, as they have no target: {counts.sum():,} of {len(known):,} ({join_names(values, 5)}{advice})"
    ]
