"""Columns of text become a matrix of finite numbers, the same way each time: learned from training rows, kept as JSON."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from .parsing import (
    DEFAULT_MISSING,
    MAX_INVALID,
    missing_mask,
    missing_numeric,
    missing_tokens,
    number_signs,
    parse_numbers,
)
from .readers import TableError

MAX_LEVELS = 32  # one-hot columns of one category, at most
MAX_ONE_HOT = 1024  # and of all categories together, if each is to have two
MAX_ENTRIES = 2.5e8  # of the training rows' matrix, at most, as far as one-hot columns make it large: 2 GB
MAX_COUNTED = 4096  # levels whose count is kept, at most
MAX_ABS = 1e30  # beyond it a variance in float64 is near overflow, and float32 beyond its range
BOOLEANS = {"true": 1.0, "yes": 1.0, "y": 1.0, "t": 1.0, "false": 0.0, "no": 0.0, "n": 0.0, "f": 0.0}
DATE_FORMATS = (
    "%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%Y/%m/%d", "%d-%m-%Y", "%m-%d-%Y", "%Y.%m.%d", "%m/%d/%y", "%d/%m/%y", "%d.%m.%y",
    "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y",
)  # fmt: skip
TIME_FORMATS = ("%H:%M", "%H:%M:%S", "%I:%M %p", "%I:%M:%S %p")
FORMATS = ("ISO8601", *DATE_FORMATS, *map(" ".join, product(DATE_FORMATS, TIME_FORMATS)), *TIME_FORMATS)
DATE_START = r"\d{1,4}[-/.: ]|[A-Za-z]{3,9} \d"  # of every date; to try all formats takes long
EPOCH = pd.Timestamp("2000-01-01", tz="UTC")
CONSTANT = "always the same"

Words = Collection[str]  # that are read as missing, as `tables.missing` takes them
Blocks = tuple[list[np.ndarray], list[str]]  # a column's part of the matrix, and notes on what was odd


@dataclass(frozen=True)
class Number:
    """A number, or a boolean as 0 and 1; the training rows' median where it is missing, and a column that says so.

    decimal: "." or ",", chosen once; signs: what the training rows have beside numbers, as `tables.signs` gives it.
    """

    kind: str
    name: str
    fill: float
    indicator: bool
    decimal: str
    signs: Sequence[str]

    @classmethod
    def fit(cls, name: str, cells: pd.Series, decimal: str, words: Words = DEFAULT_MISSING) -> "Number | None":
        """None if the cells are no numbers."""
        there = cells[~missing_numeric(cells, words)]
        kind = "boolean" if there.str.lower().isin(BOOLEANS).all() else "number"
        column = cls(kind, name, 0.0, indicator=False, decimal=decimal, signs=())
        values = column._values(there)
        if np.isnan(values).mean() > MAX_INVALID:
            return None
        good = is_finite(values)
        fill = float(np.median(values[good])) if good.any() else 0.0
        return replace(column, fill=fill, indicator=bool(good.sum() < len(cells)), signs=number_signs(there[good]))

    def _values(self, cells: pd.Series) -> np.ndarray:
        values = parse_numbers(cells, self.decimal)
        if self.kind == "boolean":
            values = np.where(np.isnan(values), cells.str.lower().map(BOOLEANS).to_numpy(float), values)
        return values

    @property
    def inputs(self) -> list[str]:
        """Names of its columns of the matrix."""
        return [self.name, f"{self.name} missing"] if self.indicator else [self.name]

    def encode(self, cells: pd.Series, words: Words = DEFAULT_MISSING) -> Blocks:
        """Value, indicator."""
        values, gone = self._values(cells), missing_numeric(cells, words)
        good = is_finite(values) & ~gone
        notes = _invalid_note(self.name, cells, ~good & ~gone, "no finite numbers, taken as missing")
        notes += mixed_signs_note(self.name, {*self.signs, *number_signs(cells[good])})
        return [np.where(good, values, self.fill), ~good][: len(self.inputs)], notes


@dataclass(frozen=True)
class Date:
    """A point in time as days, year, and angles of the year, week and day, as far as they vary; medians where missing."""

    kind: str
    name: str
    form: str
    fills: Mapping[str, float]
    indicator: bool

    @classmethod
    def fit(cls, name: str, cells: pd.Series, notes: list[str], words: Words = DEFAULT_MISSING) -> "Date | None":
        """None if the cells are no dates in one of the known formats. Adds a note if they fit two with different days."""
        there = cells[~missing_numeric(cells, words)]
        sample = there.iloc[:: max(1, len(there) // 50)]
        if sample.str.match(DATE_START).mean() < 1 - MAX_INVALID:
            return None
        likely = [form for form in FORMATS if _parse_times(sample, form).notna().mean() >= 1 - MAX_INVALID]
        shares = {form: _parse_times(there, form).notna().mean() for form in likely}
        if not shares or max(shares.values()) < 1 - MAX_INVALID:
            return None
        form = max(shares, key=shares.__getitem__)
        times = _parse_times(cells.mask(missing_numeric(cells, words), ""), form)
        for other in (other for other, share in shares.items() if share == shares[form]):
            turned = cells[times.notna() & (_parse_times(cells, other) != times)]
            if len(turned):
                notes.append(f"column {name!r}: {turned.iloc[0]!r} is read as {form}, though all fits {other} as well")
        parts = {part: values[times.notna()] for part, values in _time_features(times).items()}
        fills = {part: float(np.median(values)) for part, values in parts.items() if np.ptp(values) > 0}
        return cls("date", name, form, fills, indicator=bool(times.isna().any()))

    @property
    def inputs(self) -> list[str]:
        """Names of its columns of the matrix."""
        return [f"{self.name} {part}" for part in (*self.fills, *(["missing"] if self.indicator else []))]

    def encode(self, cells: pd.Series, words: Words = DEFAULT_MISSING) -> Blocks:
        """Parts, indicator."""
        told = missing_numeric(cells, words)
        times = _parse_times(cells.mask(told, ""), self.form)
        gone = times.isna().to_numpy()
        parts = _time_features(times)
        notes = _invalid_note(self.name, cells, gone & ~told, f"no dates ({self.form}), taken as missing")
        blocks = [np.where(gone, fill, parts[part]) for part, fill in self.fills.items()]
        return [*blocks, gone][: len(self.inputs)], notes


@dataclass(frozen=True)
class Category:
    """One-hot columns of the most frequent levels ("": missing), zeros for any other; if there are others, log(1 + count)."""

    kind: str
    name: str
    levels: Sequence[str]
    counts: Mapping[str, int]  # of all that are no rarity, if some have no column

    @classmethod
    def fit(cls, name: str, cells: pd.Series, most: int, words: Words = DEFAULT_MISSING) -> "Category | None":
        """None if nearly every cell differs, or no value is frequent."""
        gone = missing_mask(cells, words)
        there = cells[~gone]
        if there.nunique() > 0.9 * len(there):
            return None
        counts = cells.mask(gone, "").value_counts(sort=False).to_dict()
        ranked = sorted(counts, key=lambda level: (-counts[level], level))
        enough = max(2, len(cells) // 1000)  # a column that is hardly ever 1 is an outlier once it is standardised
        levels = [level for level in ranked[:most] if counts[level] >= enough]
        if len(levels) == len(counts):
            return cls("category", name, levels, {})
        rare = max(
            [1, *(counts[level] for level in ranked[MAX_COUNTED : MAX_COUNTED + 1])]
        )  # so equal counts are kept or not
        kept = {level: counts[level] for level in ranked[:MAX_COUNTED] if counts[level] > rare}
        return cls("category", name, levels, kept) if levels or kept else None

    @property
    def inputs(self) -> list[str]:
        """Names of its columns of the matrix."""
        ones = [f"{self.name} = {level or 'missing'}" for level in self.levels]
        return [*ones, f"{self.name} count"] if self.counts else ones

    def encode(self, cells: pd.Series, words: Words = DEFAULT_MISSING) -> Blocks:
        """One column a level, count."""
        known = cells.isin(self.counts or self.levels).to_numpy(bool)
        gone = cells.str.lower().isin(missing_tokens(words)).to_numpy(bool)  # if "-" is a value, it is known
        level = cells.mask(gone & ~known, "")
        rare = "rare or " if self.counts else ""
        notes = _invalid_note(
            self.name, cells, ~known & ~gone, f"{rare}not among the training rows, taken as yet another"
        )
        blocks = [(level == name).to_numpy(bool) for name in self.levels]
        count = [np.log1p(level.map(self.counts).fillna(0).to_numpy(float))] if self.counts else []
        return [*blocks, *count], notes


def is_finite(values: np.ndarray) -> np.ndarray:
    """Where a value is a number that can be computed with."""
    return np.abs(values) < MAX_ABS  # and not NaN


def mixed_signs_note(name: str, found: Collection[str]) -> list[str]:
    """A note if numbers have different signs beside them."""
    named = ", ".join(sign or "none" for sign in sorted(found, reverse=True))
    return [f"column {name!r}: signs beside numbers differ ({named}), the numbers count as they are"] * (len(found) > 1)


def _invalid_note(name: str, cells: pd.Series, odd: np.ndarray, what: str) -> list[str]:
    """A note on the odd cells, if there are any."""
    if not odd.any():
        return []
    return [f"column {name!r}: values such as {cells[odd].iloc[0][:40]!r} are {what} ({odd.sum():,})"]


def _parse_times(cells: pd.Series, form: str) -> pd.Series:
    return pd.to_datetime(cells, format=form, errors="coerce", utc=True)


def _time_features(times: pd.Series) -> dict[str, np.ndarray]:
    """What a network may want of a date; NaN where it is missing."""
    clock = times.dt
    turns = {
        "year": clock.day_of_year / 365.25,
        "week": clock.day_of_week / 7,
        "day": (clock.hour + clock.minute / 60) / 24,
    }
    parts = {"time": (times - EPOCH) / pd.Timedelta(days=1), "year": clock.year}
    parts |= {f"{turn} sin": np.sin(2 * np.pi * share) for turn, share in turns.items()}
    parts |= {f"{turn} cos": np.cos(2 * np.pi * share) for turn, share in turns.items()}
    return {part: values.to_numpy(float) for part, values in parts.items()}


Column = Number | Date | Category
KINDS: dict[str, type[Any]] = {"number": Number, "boolean": Number, "date": Date, "category": Category}


@dataclass(frozen=True)
class Encoder:
    """How each column becomes numbers. dropped: why a column does not; notes: on what was learned, for that day only.

    missing: the words that are read as missing.
    """

    columns: tuple[Column, ...]
    dropped: Mapping[str, str]
    notes: Sequence[str] = field(default=(), compare=False)
    missing: Sequence[str] = DEFAULT_MISSING

    @classmethod
    def fit(
        cls,
        cells: pd.DataFrame,
        unwanted: Mapping[str, str] | None = None,
        decimals: Mapping[str, str] | None = None,
        words: Words = DEFAULT_MISSING,
    ) -> "Encoder":
        """Learn from the training rows. unwanted: columns to drop, and why; decimals: the marks of those without a point;
        words: what is read as missing.

        Raises TableError if no column is of use.
        """
        found: dict[str, Column] = {}
        notes: list[str] = []
        dropped, decimals = dict(unwanted or {}), decimals or {}
        texts = []
        for name in cells.columns.difference(list(dropped), sort=False):
            if missing_numeric(cells[name], words).all():
                dropped[name] = "empty"
            elif cells[name].nunique() == 1:
                dropped[name] = CONSTANT
            elif number := Number.fit(name, cells[name], decimals.get(name, "."), words):
                found[name] = number
            elif date := Date.fit(name, cells[name], notes, words):
                found[name] = date
            else:
                texts.append(name)
        most = _level_limit(len(cells), sum(len(column.inputs) for column in found.values()), len(texts), notes)
        for name in texts:
            if category := Category.fit(name, cells[name], most, words):
                found[name] = category
            else:
                dropped[name] = "nearly all values differ: free text or an identifier"
        dropped |= {name: CONSTANT for name, column in found.items() if not column.inputs}
        columns = tuple(found[name] for name in cells if name in found and name not in dropped)
        if not columns:
            raise TableError(f"no column to predict from is left: {_reasons(dropped)}")
        return cls(columns, dropped, notes, tuple(words))

    @property
    def inputs(self) -> list[str]:
        """Names of the matrix's columns."""
        return [name for column in self.columns for name in column.inputs]

    @property
    def groups(self) -> dict[str, slice]:
        """Where in the matrix each column of the table went."""
        ends = np.cumsum([len(column.inputs) for column in self.columns]).tolist()
        return {c.name: slice(end - len(c.inputs), end) for c, end in zip(self.columns, ends, strict=True)}

    def encode(self, cells: pd.DataFrame, plain: Collection[str] = ()) -> tuple[np.ndarray, list[str]]:
        """Matrix (rows, inputs) of finite float64, and notes on odd values. plain: columns with decimal points in any case.

        Raises TableError if a column is missing.
        """
        lost = [column.name for column in self.columns if column.name not in cells]
        if lost:
            raise TableError(f"the table lacks {len(lost)} of the model's columns: {', '.join(map(repr, lost))}")
        matrix = np.empty((len(cells), len(self.inputs)))
        notes = []
        for column, place in zip(self.columns, self.groups.values(), strict=True):
            known = replace(column, decimal=".") if isinstance(column, Number) and column.name in plain else column
            blocks, odd = known.encode(cells[column.name], self.missing)
            notes += odd
            for offset, block in enumerate(blocks):
                matrix[:, place.start + offset] = block
        return matrix, notes

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        columns = [asdict(column) for column in self.columns]
        return {"columns": columns, "dropped": dict(self.dropped), "missing": list(self.missing)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Encoder":
        """The encoder that to_dict described, exactly. Raises KeyError, TypeError or AttributeError if it is none."""
        columns = [KINDS[column["kind"]](**column) for column in plain["columns"]]
        return cls(tuple(columns), plain["dropped"], missing=tuple(plain.get("missing", DEFAULT_MISSING)))


def _level_limit(rows: int, others: int, texts: int, notes: list[str]) -> int:
    """One-hot columns of each category, at most. Adds a note if the rows are too many for the usual number."""
    usual = max(2, min(MAX_LEVELS, MAX_ONE_HOT // max(1, texts)))
    most = max(2, min(usual, int(MAX_ENTRIES / rows - others) // max(1, texts)))
    if texts and most < usual:
        notes.append(f"for so many rows, categories have {most} columns at most, instead of {usual}")
    return most


def _reasons(dropped: Mapping[str, str], most: int = 5) -> str:
    named = [f"{name!r} ({why})" for name, why in dropped.items()]
    return ", ".join(named[:most]) + (", ..." if len(named) > most else "")
