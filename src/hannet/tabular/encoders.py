"""Columns of text become a matrix of finite numbers, the same way each time: learned from training rows, kept as JSON."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from . import parsing
from .parsing import DEFAULT_MISSING, MAX_INVALID, Tokens
from .readers import TableError, join_names

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

Blocks = tuple[list[np.ndarray], list[str]]  # a column's part of the matrix, and notes on unusual values


@dataclass(frozen=True)
class Number:
    """A number, or a boolean as 0 and 1; the training rows' median where it is missing, and a column that says so.

    decimal: "." or ",", chosen once; signs: what the training rows have beside numbers, as `parsing.number_signs` gives it.
    """

    kind: str
    name: str
    fill: float
    indicator: bool
    decimal: str
    signs: Sequence[str]

    @classmethod
    def fit(cls, name: str, cells: pd.Series, decimal: str, tokens: Tokens = DEFAULT_MISSING) -> "Number | None":
        """Learn from the training rows; None if the cells are no numbers."""
        present = cells[~parsing.missing_numeric(cells, tokens)]
        kind = "boolean" if present.str.lower().isin(BOOLEANS).all() else "number"
        column = cls(kind, name, 0.0, indicator=False, decimal=decimal, signs=())
        values = column._values(present)
        if np.isnan(values).mean() > MAX_INVALID:
            return None
        valid = is_finite(values)
        fill = float(np.median(values[valid])) if valid.any() else 0.0
        signs = parsing.number_signs(present[valid])
        return replace(column, fill=fill, indicator=bool(valid.sum() < len(cells)), signs=signs)

    def _values(self, cells: pd.Series) -> np.ndarray:
        values = parsing.parse_numbers(cells, self.decimal)
        if self.kind == "boolean":
            values = np.where(np.isnan(values), cells.str.lower().map(BOOLEANS).to_numpy(float), values)
        return values

    @property
    def inputs(self) -> list[str]:
        """Names of its columns of the matrix."""
        return [self.name, f"{self.name} missing"] if self.indicator else [self.name]

    def encode(self, cells: pd.Series, tokens: Tokens = DEFAULT_MISSING) -> Blocks:
        """The values, and the indicator if there is one."""
        values, missing = self._values(cells), parsing.missing_numeric(cells, tokens)
        valid = is_finite(values) & ~missing
        notes = _invalid_note(self.name, cells[~valid & ~missing], "no finite numbers, taken as missing")
        notes += mixed_signs_note(self.name, {*self.signs, *parsing.number_signs(cells[valid])})
        return [np.where(valid, values, self.fill), ~valid][: len(self.inputs)], notes


@dataclass(frozen=True)
class Date:
    """A point in time as days, year, and angles of the year, week and day, as far as they vary; medians where missing."""

    kind: str
    name: str
    form: str
    fills: Mapping[str, float]
    indicator: bool

    @classmethod
    def fit(cls, name: str, cells: pd.Series, tokens: Tokens = DEFAULT_MISSING) -> tuple["Date | None", list[str]]:
        """Learn from the training rows; None if they are no dates of a known format, and a note if they fit two formats."""
        missing = parsing.missing_numeric(cells, tokens)
        present = cells[~missing]
        sample = present.iloc[:: max(1, len(present) // 50)]
        if sample.str.match(DATE_START).mean() < 1 - MAX_INVALID:
            return None, []
        likely = [form for form in FORMATS if _parse_times(sample, form).notna().mean() >= 1 - MAX_INVALID]
        shares = {form: _parse_times(present, form).notna().mean() for form in likely}
        if not shares or max(shares.values()) < 1 - MAX_INVALID:
            return None, []
        form = max(shares, key=shares.__getitem__)
        times = _parse_times(cells.mask(missing, ""), form)
        notes = []
        for other in (other for other, share in shares.items() if share == shares[form]):
            differing = cells[times.notna() & (_parse_times(cells, other) != times)]
            if len(differing):
                example = differing.iloc[0]
                notes.append(f"column {name!r}: {example!r} is read as {form}, though all fits {other} as well")
        parts = {part: values[times.notna()] for part, values in _time_features(times).items()}
        fills = {part: float(np.median(values)) for part, values in parts.items() if np.ptp(values) > 0}
        return cls("date", name, form, fills, indicator=bool(times.isna().any())), notes

    @property
    def inputs(self) -> list[str]:
        """Names of its columns of the matrix."""
        return [f"{self.name} {part}" for part in (*self.fills, *(["missing"] if self.indicator else []))]

    def encode(self, cells: pd.Series, tokens: Tokens = DEFAULT_MISSING) -> Blocks:
        """The parts that vary, and the indicator if there is one."""
        missing = parsing.missing_numeric(cells, tokens)
        times = _parse_times(cells.mask(missing, ""), self.form)
        invalid, parts = times.isna().to_numpy(), _time_features(times)
        notes = _invalid_note(self.name, cells[invalid & ~missing], f"no dates ({self.form}), taken as missing")
        blocks = [np.where(invalid, fill, parts[part]) for part, fill in self.fills.items()]
        return [*blocks, invalid][: len(self.inputs)], notes


@dataclass(frozen=True)
class Category:
    """One-hot columns of the most frequent levels ("": missing), zeros for any other; if there are others, log(1 + count)."""

    kind: str
    name: str
    levels: Sequence[str]
    counts: Mapping[str, int]  # of all levels that are not rare, if some have no column

    @classmethod
    def fit(cls, name: str, cells: pd.Series, limit: int, tokens: Tokens = DEFAULT_MISSING) -> "Category | None":
        """Learn at most `limit` levels from the training rows; None if nearly every cell differs, or no value is frequent."""
        missing = parsing.missing_mask(cells, tokens)
        present = cells[~missing]
        if present.nunique() > 0.9 * len(present):
            return None
        counts = cells.mask(missing, "").value_counts(sort=False).to_dict()
        ranked = sorted(counts, key=lambda level: (-counts[level], level))
        enough = max(2, len(cells) // 1000)  # a column that is hardly ever 1 is an outlier once it is standardised
        levels = [level for level in ranked[:limit] if counts[level] >= enough]
        if len(levels) == len(counts):
            return cls("category", name, levels, {})
        # Levels of equal counts are all kept, or none.
        rare = counts[ranked[MAX_COUNTED]] if len(ranked) > MAX_COUNTED else 1
        kept = {level: counts[level] for level in ranked[:MAX_COUNTED] if counts[level] > rare}
        return cls("category", name, levels, kept) if levels or kept else None

    @property
    def inputs(self) -> list[str]:
        """Names of its columns of the matrix."""
        names = [f"{self.name} = {level or 'missing'}" for level in self.levels]
        return [*names, f"{self.name} count"] if self.counts else names

    def encode(self, cells: pd.Series, tokens: Tokens = DEFAULT_MISSING) -> Blocks:
        """One column for each level, and the logarithm of the count if there is one."""
        known = cells.isin(self.counts or self.levels).to_numpy(bool)
        missing = (
            cells.str.lower().isin(parsing.missing_tokens(tokens)).to_numpy(bool)
        )  # if "-" is a value, it is known
        level = cells.mask(missing & ~known, "")
        rare = "rare or " if self.counts else ""
        what = f"{rare}not among the training rows, treated as another value"
        blocks = [(level == name).to_numpy(bool) for name in self.levels]
        if self.counts:
            blocks.append(np.log1p(level.map(self.counts).fillna(0).to_numpy(float)))
        return blocks, _invalid_note(self.name, cells[~known & ~missing], what)


def is_finite(values: np.ndarray) -> np.ndarray:
    """A mask of the values that can be computed with."""
    return np.abs(values) < MAX_ABS  # and not NaN


def mixed_signs_note(name: str, signs: Collection[str]) -> list[str]:
    """A note if numbers have different signs beside them."""
    if len(signs) < 2:
        return []
    named = ", ".join(sign or "none" for sign in sorted(signs, reverse=True))
    return [f"column {name!r}: signs beside numbers differ ({named}), the numbers count as they are"]


def _invalid_note(name: str, invalid: pd.Series, what: str) -> list[str]:
    """A note on the invalid cells, if there are any."""
    if invalid.empty:
        return []
    return [f"column {name!r}: values such as {invalid.iloc[0][:40]!r} are {what} ({len(invalid):,})"]


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
    """How each column becomes numbers, or why it is dropped; notes on what was learned, not saved; tokens read as missing."""

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
        tokens: Tokens = DEFAULT_MISSING,
    ) -> "Encoder":
        """Learn from the training rows; raises TableError if no column is of use.

        unwanted: columns to drop, and why; decimals: the marks of those without a point; tokens: what is read as missing.
        """
        found: dict[str, Column] = {}
        notes: list[str] = []
        dropped, decimals = dict(unwanted or {}), decimals or {}
        texts = []
        for name in cells.columns.difference(list(dropped), sort=False):
            if parsing.missing_numeric(cells[name], tokens).all():
                dropped[name] = "empty"
            elif cells[name].nunique() == 1:
                dropped[name] = CONSTANT
            elif number := Number.fit(name, cells[name], decimals.get(name, "."), tokens):
                found[name] = number
            else:
                date, date_notes = Date.fit(name, cells[name], tokens)
                notes += date_notes
                if date:
                    found[name] = date
                else:
                    texts.append(name)
        limit, limit_notes = _level_limit(len(cells), sum(len(column.inputs) for column in found.values()), len(texts))
        for name in texts:
            if category := Category.fit(name, cells[name], limit, tokens):
                found[name] = category
            else:
                dropped[name] = "nearly all values differ: free text or an identifier"
        dropped |= {name: CONSTANT for name, column in found.items() if not column.inputs}
        columns = tuple(found[name] for name in cells if name in found and name not in dropped)
        if not columns:
            reasons = [f"{name!r} ({why})" for name, why in dropped.items()]
            raise TableError(f"no column to predict from is left: {join_names(reasons, 5)}")
        return cls(columns, dropped, [*notes, *limit_notes], tuple(tokens))

    @property
    def inputs(self) -> list[str]:
        """Names of the matrix's columns."""
        return [name for column in self.columns for name in column.inputs]

    @property
    def groups(self) -> dict[str, slice]:
        """Where in the matrix each column of the table went."""
        ends = np.cumsum([len(column.inputs) for column in self.columns]).tolist()
        return {c.name: slice(end - len(c.inputs), end) for c, end in zip(self.columns, ends, strict=True)}

    def encode(self, cells: pd.DataFrame, numeric: Collection[str] = ()) -> tuple[np.ndarray, list[str]]:
        """Matrix (rows, inputs) of finite float64, and notes on unusual values; raises TableError if a column is missing.

        numeric: columns whose numbers have a decimal point in any case.
        """
        if lacking := [column.name for column in self.columns if column.name not in cells]:
            raise TableError(f"the table lacks {len(lacking)} of the model's columns: {', '.join(map(repr, lacking))}")
        matrix = np.empty((len(cells), len(self.inputs)))
        notes = []
        for column, place in zip(self.columns, self.groups.values(), strict=True):
            known = replace(column, decimal=".") if isinstance(column, Number) and column.name in numeric else column
            blocks, column_notes = known.encode(cells[column.name], self.missing)
            notes += column_notes
            for position, block in enumerate(blocks, place.start):
                matrix[:, position] = block
        return matrix, notes

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        columns = [asdict(column) for column in self.columns]
        return {"columns": columns, "dropped": dict(self.dropped), "missing": list(self.missing)}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "Encoder":
        """The encoder that `to_dict` described, exactly; raises KeyError, TypeError or AttributeError if it is none."""
        columns = [KINDS[column["kind"]](**column) for column in state["columns"]]
        return cls(tuple(columns), state["dropped"], missing=tuple(state.get("missing", DEFAULT_MISSING)))


def _level_limit(rows: int, inputs: int, texts: int) -> tuple[int, list[str]]:
    """The most one-hot columns of a category beside other inputs, and a note if the rows are too many for the usual number."""
    usual = max(2, min(MAX_LEVELS, MAX_ONE_HOT // max(1, texts)))
    limit = max(2, min(usual, int(MAX_ENTRIES / rows - inputs) // max(1, texts)))
    note = f"for so many rows, categories have {limit} columns at most, instead of {usual}"
    return limit, [note] if texts and limit < usual else []
