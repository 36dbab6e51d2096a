"""What each kind of column becomes: learned from training rows, kept as plain values."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from . import dates, missing, numbers
from .missing import DEFAULT_MISSING, MAX_INVALID, Tokens
from .readers import TableError, join_names
from .table import evenly_spaced

MAX_ABS = 1e30  # beyond it a variance in float64 is near overflow, and float32 beyond its range
BOOLEANS = {"true": 1.0, "yes": 1.0, "y": 1.0, "t": 1.0, "false": 0.0, "no": 0.0, "n": 0.0, "f": 0.0}
# Days that databases, spreadsheets and offices write for "no end" or "not known", beside all of 2900 and later.
_ENDS = "0001-01-01 1753-01-01 1899-12-30 1899-12-31 1900-01-01 1970-01-01 2079-06-06 2099-12-31 2100-01-01 2199-12-31 2262-04-11"
OPEN_ENDS = pd.to_datetime(_ENDS.split(), format="ISO8601", utc=True)
LAST_YEAR = 2900
LEAST = {"year sin": 0.04, "year cos": 0.04}  # leap years alone turn a day of the year by so much
MIN_SPAN = 10.0  # years; an open end lies further from the other dates than they from each other, and than this
BIRTH = re.compile("birth|born|dob|geburt|geb_|naissance|naci|nasc|nascita|geboorte", re.IGNORECASE)

MIN_LIKELY = 0.3  # a column of which a sample has fewer numbers holds none

Blocks = tuple[list[np.ndarray], list[str]]  # a column's part of the matrix, and notes on unusual values


def is_finite(values: np.ndarray) -> np.ndarray:
    """A mask of the values that can be computed with."""
    return np.abs(values) < MAX_ABS  # and not NaN


def invalid_note(name: str, invalid: pd.Series, what: str) -> list[str]:
    """A note on the invalid cells, if there are any."""
    return (
        []
        if invalid.empty
        else [f"column {name!r}: values such as {invalid.iloc[0][:40]!r} are {what} ({len(invalid):,})"]
    )


def _check_readable(name: str, present: pd.Series, readable: np.ndarray, what: str, why: str) -> None:
    """Raise TableError if most of the cells that are not missing cannot be read."""
    if 2 * readable.sum() < len(present):
        unread = present[~readable]
        raise TableError(
            f"column {name!r} cannot be read as {what}{why}: {len(unread):,} of {len(present):,} values are none, such as "
            f"{unread.iloc[0][:40]!r}"
        )


_AS_LEARNED = ", which the model was trained on"
_AS_FORCED = ", as was asked for"


@dataclass(frozen=True)
class Number:
    """A number, or a boolean as 0 and 1; the training rows' median where it is missing, and a column that says so.

    decimal: "." or ","; signs: what the training rows have beside numbers, as `numbers.beside_numbers` gives it; units: factors by
    unit; gaps: words that are missing values in this column; sizes: of the training rows' numbers, as `numbers.size_range` gives it,
    none if they are of several units.
    """

    kind: str
    name: str
    fill: float
    indicator: bool
    decimal: str
    signs: Sequence[str]
    units: Mapping[str, float] = field(default_factory=dict)
    gaps: Sequence[str] = ()
    sizes: Sequence[float] = ()

    @classmethod
    def fit(
        cls, name: str, cells: pd.Series, decimal: str, tokens: Tokens = DEFAULT_MISSING, *, forced: bool = False
    ) -> tuple["Number | None", list[str]]:
        """Learn from the training rows; None if the cells are no numbers, and notes.

        forced: cells that are no numbers are missing, unless most are none: then TableError is raised.
        """
        present = cells[~missing.missing_numeric(cells, tokens)]
        kind = _number_kind(cells, present, tokens)
        column = cls(kind or "number", name, 0.0, indicator=False, decimal=decimal, signs=())
        sample = evenly_spaced(present, numbers.SAMPLE)
        if not forced and (not kind or not np.mean(~np.isnan(column._parse(sample).values)) > MIN_LIKELY):
            return None, []
        parsed = column._parse(present)
        readable = ~np.isnan(parsed.values)
        gaps = [] if readable.mean() >= 1 - MAX_INVALID else missing.gap_words(present, readable)
        rest = ~present.str.lower().isin(gaps).to_numpy(bool)
        if forced:
            _check_readable(name, present[rest], readable[rest], "numbers", _AS_FORCED)
        elif readable[rest].mean() < 1 - MAX_INVALID:
            return None, []
        used = pd.unique(parsed.units[readable])
        units = numbers.unit_factors(used, scaled=parsed.scaled)
        if units is None and not forced:
            return None, numbers.mixed_units_note(name, used)
        column = replace(column, units=dict.fromkeys(used, 1.0) if units is None else units, gaps=gaps)
        notes = missing.gap_words_note(name, present, gaps, "numbers")
        return column._learn(parsed, len(cells)), [*notes, *numbers.units_note(name, units or {})]

    def _learn(self, parsed: numbers.Parsed, rows: int) -> "Number":
        values = numbers.convert(parsed, self.units)
        valid = is_finite(values)
        fill = float(np.median(values[valid])) if valid.any() else 0.0
        signs = numbers.beside_numbers(parsed, valid, self.units)
        sizes = numbers.size_range(values[valid]) if len(self.units) < 2 else []
        return replace(self, fill=fill, indicator=bool(valid.sum() < rows), signs=signs, sizes=sizes)

    def _parse(self, cells: pd.Series) -> numbers.Parsed:
        parsed = numbers.parse(cells, self.decimal)
        if self.kind == "boolean":
            words = cells.str.lower().map(BOOLEANS).to_numpy(float)
            parsed = parsed._replace(values=np.where(np.isnan(parsed.values), words, parsed.values))
        return parsed

    @property
    def inputs(self) -> list[str]:
        """Names of its columns of the matrix."""
        return [self.name, f"{self.name} missing"] if self.indicator else [self.name]

    def encode(self, cells: pd.Series, tokens: Tokens = DEFAULT_MISSING) -> Blocks:
        """The values, and the indicator if there is one; raises TableError if most cells are no numbers."""
        absent = missing.missing_numeric(cells, tokens, self.gaps)
        parsed = self._parse(cells)
        values = numbers.convert(parsed, self.units)
        _check_readable(self.name, cells[~absent], ~np.isnan(values[~absent]), "numbers", _AS_LEARNED + self._unit())
        valid = is_finite(values) & ~absent
        notes = invalid_note(self.name, cells[~valid & ~absent], "no finite numbers, taken as missing")
        new = {*parsed.units[valid]} - {""} if not any(self.units) else set()
        beside = {*numbers.beside_numbers(parsed, valid, self.units)} - new
        notes += numbers.new_units_note(self.name, new)
        notes += numbers.mixed_signs_note(self.name, {*self.signs, *beside})
        return [np.where(valid, values, self.fill), ~valid][: len(self.inputs)], notes

    def _unit(self) -> str:
        return f" in {next(iter(self.units))}" if len(self.units) == 1 else ""


def _number_kind(cells: pd.Series, present: pd.Series, tokens: Tokens) -> str | None:
    """Number or boolean; None if words that may be missing numbers are a level beside yes and no."""
    if present.empty:
        return None
    if not present.str.lower().isin(BOOLEANS).all():
        return "number"
    others = cells[~missing.missing_mask(cells, tokens)].str.lower()
    return "boolean" if others.isin({*BOOLEANS, "none"}).all() else None


@dataclass(frozen=True)
class Date:
    """A point in time as days, year, and angles of the year, week and day, as far as they vary; medians where missing.

    century: the first year that two digits can mean; span: the first and last day, counted as `dates.EPOCH` has it, without open
    ends; gaps: words that are missing values in this column.
    """

    kind: str
    name: str
    form: str
    fills: Mapping[str, float]
    indicator: bool
    century: int | None = None
    span: Sequence[float] = ()
    gaps: Sequence[str] = ()

    @classmethod
    def fit(
        cls, name: str, cells: pd.Series, tokens: Tokens = DEFAULT_MISSING, *, forced: bool = False
    ) -> tuple["Date | None", list[str]]:
        """Learn from the training rows; None if they are no dates of a known format, and notes, such as if they fit two formats.

        forced: cells that are no dates are missing, unless most are none: then TableError is raised; numbers may count seconds.
        """
        present = cells[~missing.missing_numeric(cells, tokens)]
        digits = present[present.str.contains(r"\d")]
        epoch = dates.form_of_numbers(name, digits, named=not forced)
        shares = {epoch: 1.0} if epoch else dates.likely_forms(digits)
        form = next(iter(shares), "ISO8601")
        times, short = dates.parse_times(present, form)
        readable = times.notna().to_numpy()
        gaps = [] if readable.mean() >= 1 - MAX_INVALID else missing.gap_words(present, readable)
        rest = ~present.str.lower().isin(gaps).to_numpy(bool)
        if forced:
            _check_readable(name, present[rest], readable[rest], "dates", _AS_FORCED)
        elif not shares or readable[rest].mean() < 1 - MAX_INVALID:
            return None, []
        notes = missing.gap_words_note(name, present, gaps, "dates")
        notes += _two_forms_note(name, present, times, [other for other in shares if shares[other] == shares[form]])
        column = cls("date", name, form, {}, indicator=False, gaps=gaps)
        column, more = column._learn(present[readable], times[readable], short[readable], len(cells))
        return column, notes + more

    def _learn(self, cells: pd.Series, times: pd.Series, short: np.ndarray, rows: int) -> tuple["Date", list[str]]:
        """From the cells that are dates, of so many rows."""
        notes, century = [], None
        if short.any():
            years = times[short].dt.year
            today, past = pd.Timestamp.now().year, bool(BIRTH.search(self.name))
            century = dates.first_of_century(years.to_numpy(), today, past=past)
            times = dates.in_century(times, short, century)
            moved = times[short].dt.year
            if (moved != years).any():
                notes.append(f"column {self.name!r}: years of two digits are read as {moved.min()} to {moved.max()}")
        span = _span(times)
        ends = _open_ends(times, span)
        if ends.any():
            examples = join_names(list(map(repr, cells[ends].unique())), 3)
            notes.append(
                f"column {self.name!r}: {examples} ({ends.sum():,}) far from all other dates is read as no date"
            )
        fills = {part: float(np.median(values)) for part, values in _informative_parts(times[~ends]).items()}
        indicator = bool((~ends).sum() < rows)
        return replace(self, fills=fills, indicator=indicator, century=century, span=span), notes

    @property
    def inputs(self) -> list[str]:
        """Names of its columns of the matrix."""
        return [f"{self.name} {part}" for part in (*self.fills, *(["missing"] if self.indicator else []))]

    def encode(self, cells: pd.Series, tokens: Tokens = DEFAULT_MISSING) -> Blocks:
        """The parts that vary, and the indicator if there is one; raises TableError if most cells are no dates."""
        absent = missing.missing_numeric(cells, tokens, self.gaps)
        form, times = self._find_form(cells.mask(absent, ""), absent)
        _check_readable(self.name, cells[~absent], times[~absent].notna().to_numpy(), "dates", _AS_LEARNED)
        notes = (
            [f"column {self.name!r}: dates are read as {form} here, and were {self.form}"] if form != self.form else []
        )
        unread = times.isna().to_numpy() & ~absent
        notes += invalid_note(self.name, cells[unread], f"no dates ({form}), taken as missing")
        invalid = times.isna().to_numpy() | _open_ends(times, self.span)
        parts = time_features(times)
        notes += self._late_note(parts["time"][~invalid])
        blocks = [np.where(invalid, fill, parts[part]) for part, fill in self.fills.items()]
        return [*blocks, invalid][: len(self.inputs)], notes

    def _find_form(self, cells: pd.Series, absent: np.ndarray) -> tuple[str, pd.Series]:
        """The form learned, or another where that reads too few of a new table's cells; and the times."""
        times, _ = dates.parse_times(cells, self.form, self.century)
        share = times[~absent].notna().mean() if not absent.all() else 1.0
        if share >= 1 - MAX_INVALID:
            return self.form, times
        digits = cells[cells.str.contains(r"\d")]
        counted = dates.form_of_numbers(self.name, digits, named=False)
        shares = {counted: 1.0} if counted else dates.likely_forms(digits, dates.order_of(self.form))
        century = self.century or self._middle_century()
        found = {
            form: dates.parse_times(cells, form, century)[0]
            for form in shares
            if shares[form] == max(shares.values()) > share
        }
        form = max(found, key=lambda form: self._share_near(found[form]), default=self.form)
        return form, found.get(form, times)

    def _share_near(self, times: pd.Series) -> float:
        """How many of the times are about where those of the training rows were: of two readings, that is the right one."""
        if not self.span:
            return 0.0
        days, length = _days(times), self.span[1] - self.span[0]
        return float(((days >= self.span[0] - length) & (days <= self.span[1] + length)).mean())

    def _middle_century(self) -> int | None:
        return int(dates.EPOCH.year + sum(self.span) / 2 / 365.25) - 50 if self.span else None

    def _late_note(self, days: np.ndarray) -> list[str]:
        """A note if more than a few dates lie after those of the training rows."""
        late = int((days > self.span[1] + 1).sum()) if self.span else 0
        if late <= MAX_INVALID * len(days):
            return []
        last = (dates.EPOCH + pd.Timedelta(days=self.span[1])).date()
        return [f"column {self.name!r}: {late:,} of {len(days):,} dates lie after {last}, the last one trained on"]


def _two_forms_note(name: str, cells: pd.Series, times: pd.Series, forms: Sequence[str]) -> list[str]:
    """A note on each other form that fits as well as the first, and reads a cell differently."""
    notes = []
    cells, times = evenly_spaced(cells, dates.RANKED), evenly_spaced(times, dates.RANKED)
    for other in forms[1:]:
        differing = cells[times.notna() & (dates.parse_times(cells, other)[0] != times)]
        if len(differing):
            example = differing.iloc[0]
            notes.append(f"column {name!r}: {example!r} is read as {forms[0]}, though all fits {other} as well")
    return notes


def _days(times: pd.Series) -> np.ndarray:
    return ((times - dates.EPOCH) / pd.Timedelta(days=1)).to_numpy(float)


def _may_be_open_ends(times: pd.Series) -> np.ndarray:
    return (times.dt.normalize().isin(OPEN_ENDS) | (times.dt.year >= LAST_YEAR)).to_numpy(bool)


def _span(times: pd.Series) -> list[float]:
    """The first and last day that are no open ends; none for times of a day."""
    days = _days(times[~_may_be_open_ends(times)])
    return [float(days.min()), float(days.max())] if len(days) else []


def _open_ends(times: pd.Series, span: Sequence[float]) -> np.ndarray:
    """A mask of the days that stand for no date, as the others lie together and far from them."""
    if not span:
        return np.zeros(len(times), bool)
    days, length = _days(times), max(span[1] - span[0], MIN_SPAN * 365.25)
    return _may_be_open_ends(times) & ((days < span[0] - length) | (days > span[1] + length))


def _informative_parts(times: pd.Series) -> dict[str, np.ndarray]:
    """The features that vary, but for those that others tell or that vary by the calendar's chance."""
    parts = {part: values for part, values in time_features(times).items() if np.ptp(values) > LEAST.get(part, 0.0)}
    if times.dt.day.nunique() == 1:  # such as months: their first is any day of the week
        parts = {part: values for part, values in parts.items() if part not in ("week sin", "week cos")}
    if times.dt.normalize().nunique() == 1:  # then "time" says the same
        parts.pop("hour", None)
    return parts


def time_features(times: pd.Series) -> dict[str, np.ndarray]:
    """What a network may want of a date; NaN where it is missing."""
    clock = times.dt
    turns = {
        "year": clock.day_of_year / 365.25,
        "week": clock.day_of_week / 7,
        "day": (clock.hour + clock.minute / 60) / 24,
    }
    parts = {"time": (times - dates.EPOCH) / pd.Timedelta(days=1), "year": clock.year, "hour": 24 * turns["day"]}
    parts |= {f"{turn} sin": np.sin(2 * np.pi * share) for turn, share in turns.items()}
    parts |= {f"{turn} cos": np.cos(2 * np.pi * share) for turn, share in turns.items()}
    return {part: values.to_numpy(float) for part, values in parts.items()}
