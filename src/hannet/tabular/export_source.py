"""Models of `hannet fit` as the exporters see them."""

from collections.abc import Mapping
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
from ..export.program import Category, ColumnsInput, ExportError, Number
from ..export.sources import Array
from .missing import missing_tokens


class TableSource:
    """A model of `hannet fit` on raw columns."""

    def __init__(self, model: Any):
        self.model = model
        features, target = model.estimator._features, model.target
        columns: list[Number | Category] = []
        numbers: list[int] = []
        indicators: list[list[int]] = []
        words: list[list[int]] = []
        for column, place in zip(model.encoder.columns, model.encoder.groups.values(), strict=True):
            if column.kind == "date":
                raise ExportError(
                    f"the column {column.name!r} holds dates, which cannot be exported yet: fit without it (--drop)"
                )
            if column.kind == "text":
                raise ExportError(
                    f"the column {column.name!r} holds free text, which cannot be exported: fit without it (--drop)"
                )
            if column.kind == "category":
                columns.append(_category(model.encoder, column, place.start, features))
                words.append(list(range(place.start, place.stop)))
            else:
                columns.append(number_column(features, place.start, column.name, column.fill, column.indicator))
                numbers.append(place.start)
                indicators += [[place.start + 1]] * column.indicator
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
            else:
                words = [*column.levels, "never seen", *column.missing, *map(str.upper, column.missing)]
                values = np.array(words, object)[rng.integers(0, len(words), count)]
                values[:3] = ["", "never seen", words[0]][:count]
            found[column.name] = values
        return found

    def evaluate(self, rows: Mapping[str, Array], dtype: torch.dtype) -> Array:
        """What `hannet predict` computes before it rounds."""
        texts = {
            name: values if values.dtype == object else list(map(repr, values.tolist()))
            for name, values in rows.items()
        }
        cells = pd.DataFrame({name: pd.Series(text, dtype="str") for name, text in texts.items()})
        x, _ = self.model.encoder.encode(cells, numeric=list(cells))
        return evaluate_estimator(self.model.estimator, x, dtype)


def _category(encoder: Any, column: Any, start: int, features: Any) -> Category:
    levels = tuple(level for level in dict.fromkeys([*column.levels, *column.counts]) if level)
    cells = pd.Series([*levels, "", "\0"], dtype="str")  # no cell of a table holds \0
    blocks, _ = column.encode(cells, encoder.missing)
    table = features_of(features, np.stack([np.asarray(block, float) for block in blocks], 1), start)
    return Category(column.name, levels, tuple(sorted(missing_tokens(encoder.missing))), table)
