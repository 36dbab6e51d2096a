"""Models of `hannet fit` as the exporters see them."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..estimators.export_source import (
    estimator_program,
    evaluate_estimator,
    feature_positions,
    features_of,
    number_column,
    values_to_try,
)
from ..export.program import BEHIND_LAST_DAY, FIRST_DAY, Category, ColumnsInput, Date, ExportError, Number
from ..export.sources import Array
from .columns import LAST_YEAR, MIN_SPAN, OPEN_ENDS, time_features
from .dates import EPOCH
from .missing import missing_tokens

_EPOCH = EPOCH.toordinal() - date(1970, 1, 1).toordinal()  # days since 1970
_TIMES_OF_DAY = date(1900, 1, 1).toordinal() - date(1970, 1, 1).toordinal()  # as `dates` reads them
_LATE = date(LAST_YEAR, 1, 1).toordinal() - date(1970, 1, 1).toordinal()


def _date_values() -> dict[str, Array]:
    """All values of the parts of dates that have few: in the order of the days of the week and year, and of the minutes of a day."""
    clock = pd.Series(pd.date_range("2001-01-01", periods=7, tz="UTC"))  # a Monday
    year = pd.Series(pd.date_range("2004-01-01", periods=366, tz="UTC"))
    day = pd.Series(pd.date_range("2004-01-01", periods=1440, freq="min", tz="UTC"))
    times = {
        "week sin": clock,
        "week cos": clock,
        "year sin": year,
        "year cos": year,
        "day sin": day,
        "day cos": day,
        "hour": day,
    }
    return {part: time_features(series)[part] for part, series in times.items()}


class TableSource:
    """A model of `hannet fit` on raw columns."""

    traced = None

    def __init__(self, model: Any):
        self.model = model
        features, target = model.estimator._features, model.target
        columns: list[Number | Category | Date] = []
        numbers: list[int] = []
        indicators: list[list[int]] = []
        words: list[list[int]] = []
        for column, place in zip(model.encoder.columns, model.encoder.groups.values(), strict=True):
            if column.kind == "text":
                raise ExportError(
                    f"the column {column.name!r} holds free text, which cannot be exported: fit without it (--drop)"
                )
            if column.kind == "category":
                columns.append(_category(model.encoder, column, place.start, features))
                words.append(list(range(place.start, place.stop)))
                continue
            if column.kind == "date":
                columns.append(_date(column, place.start, features))
            else:
                columns.append(number_column(features, place.start, column.name, column.fill, column.indicator))
            numbers += range(place.start, place.stop - column.indicator)
            indicators += [[place.stop - 1]] * column.indicator
        places = feature_positions(features, [numbers, *indicators, *words])
        kind = f"a model of the column {target.name!r}"
        inputs = ColumnsInput(tuple(columns), named=True)
        self.program = estimator_program(kind, inputs, model.estimator, places, target.name, tuple(target.classes))

    def rows(self, count: int, rng: np.random.Generator) -> Mapping[str, Array]:
        """Numbers around the training rows, known and unknown words, missing ones."""
        assert isinstance(self.program.inputs, ColumnsInput)
        found: dict[str, Array] = {}
        for column in self.program.inputs.columns:
            if isinstance(column, Number):
                values = values_to_try(column, count, rng)
                values[rng.random(count) < 0.05] = np.nan
                for place, value in enumerate((np.nan, np.inf, -np.inf, 1e30)):
                    values[place : place + 1] = value
            elif isinstance(column, Date):
                values = _dates_to_try(column, count, rng)
            else:
                unknown = _unknown_word(column)
                words = [*column.levels, unknown, *column.missing, *map(str.upper, column.missing)]
                values = np.array(words, object)[rng.integers(0, len(words), count)]
                values[:3] = ["", unknown, words[0]][:count]
            found[column.name] = values
        return found

    def evaluate(self, rows: Mapping[str, Array], dtype: torch.dtype) -> Array:
        """What `hannet predict` computes before it rounds."""
        assert isinstance(self.program.inputs, ColumnsInput)
        texts = {column.name: _texts(column, rows[column.name]) for column in self.program.inputs.columns}
        cells = pd.DataFrame({name: pd.Series(text, dtype="str") for name, text in texts.items()})
        x, _ = self.model.encoder.encode(cells, numeric=list(cells))
        return evaluate_estimator(self.model.estimator, x, dtype)


def _date(column: Any, start: int, features: Any) -> Date:
    """A number of days, of which "time" is the model's own from another day on."""
    of_day = 0 <= column.fills.get("time", np.inf) + _EPOCH - _TIMES_OF_DAY < 1  # all times of one day, which is none
    origin = _TIMES_OF_DAY if of_day else 0
    shift = float(_EPOCH - origin)
    parts, values = tuple(column.fills), _date_values()
    found = []
    for place, (part, fill) in enumerate(column.fills.items()):
        indicator = column.indicator and place == len(parts) - 1
        number = number_column(features, start + place, f"{column.name} {part}", fill, indicator)
        number = replace(number, values=values.get(part, number.values))
        if part == "time":
            number = replace(number, fill=fill + shift, mean=number.mean + shift, knots=number.knots + shift)
        found.append(number)
    late, ends = float(BEHIND_LAST_DAY), ()
    if column.span:
        length = max(column.span[1] - column.span[0], MIN_SPAN * 365.25)
        low, high = column.span[0] - length + _EPOCH, column.span[1] + length + _EPOCH
        days = [end.toordinal() - date(1970, 1, 1).toordinal() for end in OPEN_ENDS]
        ends = tuple(day for day in days if day < low or day > high)
        late = min(late, max(high, float(_LATE)))
    return Date(column.name, parts, tuple(found), origin, ends, late)


def _dates_to_try(column: Date, count: int, rng: np.random.Generator) -> Array:
    """About those of training, at the turns of years, days that stand for none, missing ones; all are numbers of float32."""
    (middle, spread), *_ = [(number.mean, number.std) for number in column.numbers]
    if column.parts[0] != "time":  # then the year, or less
        middle, spread = 19000.0, 1000.0
    days = middle + (spread or 1.0) * rng.standard_normal(count)
    if not column.origin:
        turns = rng.random(count) < 0.2
        days[turns] = np.round(days[turns] / 365.2425) * 365.2425 + rng.integers(-2, 62, int(turns.sum()))
        whole = rng.random(count) < 0.5
        days[whole] = np.floor(days[whole])
    days = (np.floor(days * 256) / 256).astype(np.float32).astype(np.float64)
    days[rng.random(count) < 0.05] = np.nan
    special = [np.nan, np.inf, -np.inf, 1e9, *(column.ends if not column.origin else ())]
    days[: len(special)] = special[:count]
    return days


def _unknown_word(column: Category) -> str:
    """A word that `hannet predict`, which does not tell capitals, does not know either."""
    known = {level.lower() for level in column.levels}
    return next(
        word for word in (f"never seen{' again' * times}" for times in range(len(known) + 1)) if word not in known
    )


def _texts(column: Number | Category | Date, values: Array) -> list[str]:
    """The cells of a table."""
    if isinstance(column, Category):
        return list(values)
    if isinstance(column, Number):
        return list(map(repr, values.tolist()))
    days = values + column.origin
    known = (days >= FIRST_DAY) & (days < BEHIND_LAST_DAY)
    times = np.where(known, days, 0.0) * 86_400_000_000
    stamps = np.rint(times).astype("datetime64[us]").astype(str)
    return [stamp if ok else "" for stamp, ok in zip(stamps.tolist(), known.tolist(), strict=True)]


def _category(encoder: Any, column: Any, start: int, features: Any) -> Category:
    levels = tuple(level for level in dict.fromkeys([*column.levels, *column.counts]) if level)
    cells = pd.Series([*levels, "", "\0"], dtype="str")  # no cell of a table holds \0
    blocks, _ = column.encode(cells, encoder.missing)
    table = features_of(features, np.stack([np.asarray(block, float) for block in blocks], 1), start)
    return Category(column.name, levels, tuple(sorted(missing_tokens(encoder.missing))), table)
