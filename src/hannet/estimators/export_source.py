"""HanRegressor and HanClassifier as the exporters see them."""

from typing import Any

import numpy as np
import torch

from ..export.modules import layers_of
from ..export.program import ColumnsInput, ExportError, Floats, Layer, Linear, Number, Output, Program, widths
from ..export.sources import Array, run_module
from .features import _FINE


class EstimatorSource:
    """A HanRegressor or HanClassifier on rows of numbers; NaN and infinities are refused, as the estimator does."""

    traced = None

    def __init__(self, estimator: Any):
        self.estimator = estimator
        count = estimator.n_features_in_
        names = getattr(estimator, "feature_names_in_", [f"x{index}" for index in range(count)])
        columns = [number_column(estimator._features, index, str(name), None) for index, name in enumerate(names)]
        inputs = ColumnsInput(tuple(columns), named=False)
        places = feature_positions(estimator._features, [list(range(count))])
        classes = tuple(map(str, getattr(estimator, "classes_", ())))
        self.program = estimator_program(type(estimator).__name__, inputs, estimator, places, "prediction", classes)

    def rows(self, count: int, rng: np.random.Generator) -> Array:
        """Around the training rows, at every knot, and far off."""
        return np.stack([values_to_try(column, count, rng) for column in self.columns], 1)

    @property
    def columns(self) -> tuple[Number, ...]:
        """All numbers."""
        assert isinstance(self.program.inputs, ColumnsInput)
        return self.program.inputs.numbers

    def evaluate(self, rows: Array, dtype: torch.dtype) -> Array:
        """Predictions or probabilities."""
        return evaluate_estimator(self.estimator, rows, dtype)


def evaluate_estimator(estimator: Any, x: Array, dtype: torch.dtype) -> Array:
    """What an estimator predicts for finite rows, with its networks in float64 or float32.  -> (n, outputs)."""
    if dtype == torch.float64:
        y = estimator.predict_proba(x) if hasattr(estimator, "classes_") else estimator.predict(x)
        return y.reshape(len(x), -1)
    features = estimator._features.transform(x).numpy()
    outputs = torch.stack([torch.from_numpy(run_module(network, features, dtype)) for network in estimator.networks_])
    mean = estimator._average(outputs).numpy()
    if hasattr(estimator, "classes_"):
        return mean
    scaler = estimator._target_scaler
    return mean * scaler.std.astype(np.float32) + scaler.mean.astype(np.float32)


def estimator_program(
    kind: str, inputs: ColumnsInput, estimator: Any, places: list[int], name: str, classes: tuple[str, ...]
) -> Program:
    """The members see the features in the order that `ColumnsInput` has; places: where each is in the estimator's own."""
    members: list[tuple[Layer, ...]] = []
    for network in estimator.networks_:
        first, *others = layers_of(network)
        if not isinstance(first, Linear):
            raise ExportError(f"an estimator of {type(network).__name__}s cannot be exported, only one of HanNets")
        members.append((Linear(np.ascontiguousarray(first.weight[:, places]), first.bias), *others))
    *_, (_, size) = widths(members[0], inputs.width)
    scaler = None if classes else estimator._target_scaler
    scale, shift = (None, None) if scaler is None else (scaler.std, scaler.mean)
    return Program(kind, inputs, tuple(members), Output(size, bool(classes), scale, shift, name, classes))


def number_column(features: Any, index: int, name: str, fill: float | None, indicator: bool = False) -> Number:
    """A column of numbers, as `features` treats it; fill: what a missing number counts as; indicator: whether a column after it says so."""
    none = np.zeros(0, np.float32)
    present, absent = features_of(features, np.array([[0.0], [1.0]]), index + 1) if indicator else (none, none)
    filled = none if fill is None else features_of(features, np.array([[fill]]), index)[0]
    step = 1.0 if features.few[index] else _FINE
    mean, std = float(features.scaler.mean[index]), float(features.scaler.std[index])
    return Number(name, fill, mean, std, features.knots[index], step, filled, present, absent)


def features_of(features: Any, values: Array, start: int) -> Floats:
    """The features of neighbouring columns of the matrix.  (n, columns) -> (n, features), in the order of `feature_positions`."""
    columns = list(range(start, start + values.shape[1]))
    x = np.tile(features.scaler.mean, (len(values), 1))
    x[:, columns] = values
    return np.ascontiguousarray(features.transform(x).numpy()[:, feature_positions(features, [columns])])


def feature_positions(features: Any, groups: list[list[int]]) -> list[int]:
    """Where the features of the networks are: of each group of columns those scaled, then their stairs."""
    counts = [len(knots) - 1 for knots in features.knots]
    starts = np.concatenate([[0], np.cumsum(counts)]) + len(counts)
    found: list[int] = []
    for group in groups:
        found += group
        found += [int(place) for index in group for place in range(starts[index], starts[index + 1])]
    return found


def values_to_try(column: Number, count: int, rng: np.random.Generator) -> Array:
    """Numbers that a column may have: around its mean, at its knots, and far off."""
    spread = column.std or abs(column.mean) or 1.0
    values = column.mean + spread * rng.standard_normal(count)
    at = rng.random(count)
    if len(column.knots):
        values = np.where(at < 0.4, rng.choice(column.knots, count), values)
    values = np.where(at > 0.98, column.mean + spread * rng.choice([-1e4, 1e4, -1e7, 1e7, 0.0], count), values)
    return values.astype(np.float32).astype(np.float64)
