"""Columns of words: one column of numbers for each frequent one, whatever its capitals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from . import missing
from .columns import Blocks, invalid_note
from .missing import DEFAULT_MISSING, Tokens
from .readers import join_names

MAX_COUNTED = 4096  # levels whose count is kept, at most
MANY = 10  # values: fewer of a column with rare ones may all be rare


@dataclass(frozen=True)
class Category:
    """One-hot columns of the most frequent levels ("": missing), zeros for any other; if there are others, log(1 + count)."""

    kind: str
    name: str
    levels: Sequence[str]
    counts: Mapping[str, int]  # of all levels that are not rare, if some have no column

    @classmethod
    def fit(
        cls, name: str, cells: pd.Series, limit: int, tokens: Tokens = DEFAULT_MISSING, *, forced: bool = False
    ) -> tuple["Category | None", list[str]]:
        """Learn at most `limit` levels from the training rows; None if nearly every cell differs, or no value is frequent; and notes.

        forced: levels may be as many as cells.
        """
        absent = missing.missing_mask(cells, tokens)
        cells, notes = unify_capitals(name, _unify_numbers(cells).mask(absent, ""))
        present = cells[~absent]
        if present.nunique() > 0.9 * len(present) and not forced:
            return None, []
        counts = cells.value_counts(sort=False).to_dict()
        ranked = sorted(counts, key=lambda level: (-counts[level], level))
        enough = max(2, len(cells) // 1000)  # a column that is hardly ever 1 is an outlier once it is standardised
        levels = [level for level in ranked[:limit] if counts[level] >= enough]
        if len(levels) == len(counts):
            return cls("category", name, levels, {}), notes
        # Levels of equal counts are all kept, or none.
        rare = counts[ranked[MAX_COUNTED]] if len(ranked) > MAX_COUNTED else 1
        kept = {level: counts[level] for level in ranked[:MAX_COUNTED] if counts[level] > rare}
        return (cls("category", name, levels, kept), notes) if levels or kept else (None, [])

    @property
    def inputs(self) -> list[str]:
        """Names of its columns of the matrix."""
        names = [f"{self.name} = {level or 'missing'}" for level in self.levels]
        return [*names, f"{self.name} count"] if self.counts else names

    def encode(self, cells: pd.Series, tokens: Tokens = DEFAULT_MISSING) -> Blocks:
        """One column for each level, and the logarithm of the count if there is one."""
        levels, words = list(self.counts or self.levels), missing.missing_tokens(tokens)
        cells = match_spelling(cells, levels, _unify_numbers)  # 7.0 may be the 7 that was learned, and the reverse
        absent = cells.str.lower().isin(words).to_numpy(bool)
        cells = match_capitals(cells.mask(absent & ~cells.isin(levels), ""), levels)  # if "-" is a value, it is known
        blocks = [(cells == name).to_numpy(bool) for name in self.levels]
        if self.counts:
            blocks.append(np.log1p(cells.map(self.counts).fillna(0).to_numpy(float)))
        present = cells[(cells != "").to_numpy(bool)]
        return blocks, self._unknown_note(present, ~present.isin(levels).to_numpy(bool))

    def _unknown_note(self, present: pd.Series, unknown: np.ndarray) -> list[str]:
        """A note on the words that were not learned; a warning if they are most, and of a column with rare ones if they are all of many."""
        count, total = int(unknown.sum()), len(present)
        if count <= total / 2 or (self.counts and (count < total or total < MANY)):
            rare = "rare or " if self.counts else ""
            what = f"{rare}not among the training rows, treated as another value"
            return invalid_note(self.name, present[unknown], what)
        share = (
            f"{count:,} of {total:,} values"
            if count < total
            else f"all {count:,} values"
            if total > 1
            else "the one value"
        )
        known = join_names([repr(level[:40]) for level in self.counts or self.levels if level])
        verb = "is" if total == 1 else "are"
        return [f"warning: {share} of {self.name!r} {verb} unknown to the model (it knows {known})"]


def _unify_numbers(cells: pd.Series) -> pd.Series:
    """Levels: what one program wrote as 7.0 is what another wrote as 7."""
    return cells.str.replace(r"^([+-]?\d+)(?:\.0+|,0{1,2})$", r"\1", regex=True)


def unify_capitals(name: str, cells: pd.Series) -> tuple[pd.Series, list[str]]:
    """The cells, those that differ in capitals alone as the most frequent of them is spelled; and a note."""
    counts = cells.value_counts().to_dict()
    spellings: dict[str, list[str]] = {}
    for value in sorted(counts, key=lambda value: (-counts[value], value)):
        spellings.setdefault(value.lower(), []).append(value)
    several = [found for found in spellings.values() if len(found) > 1]
    if not several:
        return cells, []
    first = {value: found[0] for found in several for value in found[1:]}
    more = f", and so are the spellings of {len(several) - 1:,} more" if len(several) > 1 else ""
    named = join_names([repr(value[:40]) for value in several[0]])
    note = f"column {name!r}: {named} differ in capitals only; taken as one{more}"
    return cells.map(lambda value: first.get(value, value)).astype("str"), [note]


def match_capitals(cells: pd.Series, known: Sequence[str]) -> pd.Series:
    """The cells, spelled as the one among the known values from which they differ in capitals alone."""
    return match_spelling(cells, known, lambda values: values.str.lower())


def match_spelling(cells: pd.Series, known: Sequence[str], normalize: Callable[[pd.Series], pd.Series]) -> pd.Series:
    """The cells; those that are not known become the known value that is the same once normalized, if there is exactly one."""
    exact = cells.isin(known)
    if exact.all():
        return cells
    normalized = normalize(pd.Series(known, dtype="str"))
    unique = (~normalized.duplicated(keep=False)).to_numpy(bool)
    spelled = {value: name for value, name, one in zip(normalized, known, unique, strict=True) if one}
    rest = pd.Series(cells[~exact].unique(), dtype="str")
    found = {cell: spelled.get(value, cell) for cell, value in zip(rest, normalize(rest), strict=True)}
    return cells.where(exact, cells.map(found)).astype("str")
