"""Models as the exporters see them: a program, rows to try it on, and what the model itself gives for them."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from .. import models
from .modules import describe_module, layers_of
from .program import (
    Category,
    ColumnsInput,
    ExportError,
    Floats,
    Layer,
    Linear,
    Number,
    Output,
    Program,
    TensorInput,
    widths,
)

Rows = Any  # an array (n, ...), or columns by name: float64, or str
Array = np.ndarray


class Source(Protocol):
    """A model and its program."""

    @property
    def program(self) -> Program:
        """What it computes."""

    def rows(self, count: int, rng: np.random.Generator) -> Rows:
        """Rows that it may be given, with unusual ones first."""

    def evaluate(self, rows: Rows, dtype: torch.dtype) -> Array:
        """What the model gives, computed in float64 or float32.  -> (n, size)."""


def describe(model: Any) -> Program:
    """The program of a network, an estimator, a model of a table, or the folder of one. Raises ExportError."""
    return open_source(model).program


def open_source(model: Any) -> Source:
    """A network, an estimator, a model of a table, or the folder of one. Raises ExportError, or the error of a folder that is no model."""
    if isinstance(model, str | Path):
        model = _load(Path(model))
    if isinstance(model, nn.Module):
        return ModuleSource(model)
    if hasattr(model, "networks_"):
        return EstimatorSource(model)
    if hasattr(model, "encoder"):
        return TableSource(model)
    if isinstance(model, ImageClassifier):
        return ImageSource(model)
    raise ExportError(
        f"a model must be a network, a fitted HanRegressor or HanClassifier, or a folder of one, got {type(model).__name__}"
    )


def _load(folder: Path) -> Any:
    if not folder.is_dir():
        raise ExportError(
            f"{folder} is no folder: a model is a folder that `hannet fit`, `hannet train` or `save` wrote"
        )
    if (folder / "table.json").exists():
        from ..tabular.model import Model

        return Model.load(folder)
    if (folder / "estimator.json").exists():
        from ..estimators import base

        return base.load(folder)
    from ..vision import preprocessing

    if (folder / preprocessing.FILE).exists():
        return ImageClassifier(models.load(folder).float(), preprocessing.Preprocessing.load(folder))
    return models.load(folder)


@dataclass(frozen=True)
class ImageClassifier:
    """A network and the preprocessing beside it."""

    network: nn.Module
    preprocessing: Any


@torch.no_grad()
def _run(module: nn.Module, x: Array, dtype: torch.dtype) -> Array:
    """In that dtype, on a copy: the module stays as it is."""
    return deepcopy(module).to("cpu", dtype).eval()(torch.from_numpy(x).to(dtype)).numpy()


class ModuleSource:
    """A network on rows of features."""

    def __init__(self, module: nn.Module):
        self.module, self.program = module, describe_module(module)

    def rows(self, count: int, rng: np.random.Generator) -> Array:
        """Zeros, ones, large and small numbers, and normal ones."""
        assert isinstance(self.program.inputs, TensorInput)
        x = rng.standard_normal((count, *self.program.inputs.shape)).astype(np.float32)
        for row, value in zip(x, (0.0, 1.0, -1.0, 1e6, -1e-6), strict=False):
            row[:] = value
        x[5 : 5 + count // 10] *= 100
        return x

    def evaluate(self, rows: Array, dtype: torch.dtype) -> Array:
        """The outputs."""
        return _run(self.module, rows, dtype)


class ImageSource:
    """A classifier of images on flat pixels."""

    def __init__(self, model: ImageClassifier):
        self.model = model
        wanted = model.preprocessing
        if not wanted.flat:
            name = type(model.network).__name__
            raise ExportError(
                f"a {name} for images cannot be exported yet, only networks on flat pixels such as HanNet"
            )
        layers = layers_of(model.network)
        inputs = TensorInput((wanted.channels, wanted.size, wanted.size), pixels=True)
        output = Output(len(wanted.classes), True, None, None, "class", wanted.classes)
        self.program = Program(f"{type(model.network).__name__} for images", inputs, (layers,), output)

    def rows(self, count: int, rng: np.random.Generator) -> Array:
        """Black, white, random pixels."""
        assert isinstance(self.program.inputs, TensorInput)
        x = rng.integers(0, 256, (count, *self.program.inputs.shape), dtype=np.uint8)
        x[:1], x[1:2] = 0, 255
        x[2 : count // 2] = np.where(x[2 : count // 2] > 200, x[2 : count // 2], 0)
        return x

    def evaluate(self, rows: Array, dtype: torch.dtype) -> Array:
        """The probabilities."""
        scores = _run(self.model.network, self.model.preprocessing(torch.from_numpy(rows)).numpy(), dtype)
        return torch.from_numpy(scores).softmax(1).numpy()


class EstimatorSource:
    """A HanRegressor or HanClassifier on rows of numbers; NaN and infinities are refused, as the estimator does."""

    def __init__(self, estimator: Any):
        self.estimator = estimator
        count = estimator.n_features_in_
        names = getattr(estimator, "feature_names_in_", [f"x{index}" for index in range(count)])
        columns = [_number(estimator._features, index, str(name), None) for index, name in enumerate(names)]
        inputs = ColumnsInput(tuple(columns), named=False)
        places = _positions(estimator._features, [list(range(count))])
        classes = tuple(map(str, getattr(estimator, "classes_", ())))
        self.program = _program(type(estimator).__name__, inputs, estimator, places, "prediction", classes)

    def rows(self, count: int, rng: np.random.Generator) -> Array:
        """Around the training rows, at every knot, and far off."""
        return np.stack([_values(column, count, rng) for column in self.columns], 1)

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
    outputs = torch.stack([torch.from_numpy(_run(network, features, dtype)) for network in estimator.networks_])
    mean = estimator._average(outputs).numpy()
    if hasattr(estimator, "classes_"):
        return mean
    scaler = estimator._target_scaler
    return mean * scaler.std.astype(np.float32) + scaler.mean.astype(np.float32)


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
                    f"the column {column.name!r} holds dates, which cannot be exported yet: fit without it"
                )
            if column.kind == "category":
                columns.append(_category(model.encoder, column, place.start, features))
                words.append(list(range(place.start, place.stop)))
            else:
                columns.append(_number(features, place.start, column.name, column.fill, column.indicator))
                numbers.append(place.start)
                indicators += [[place.start + 1]] * column.indicator
        places = _positions(features, [numbers, *indicators, *words])
        kind = f"model of the column {target.name!r}"
        inputs = ColumnsInput(tuple(columns), named=True)
        self.program = _program(kind, inputs, model.estimator, places, target.name, tuple(target.classes))

    def rows(self, count: int, rng: np.random.Generator) -> Mapping[str, Array]:
        """Numbers around the training rows, known and unknown words, missing ones."""
        assert isinstance(self.program.inputs, ColumnsInput)
        found: dict[str, Array] = {}
        for column in self.program.inputs.columns:
            if isinstance(column, Number):
                values = _values(column, count, rng)
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
        import pandas as pd

        texts = {
            name: values if values.dtype == object else list(map(repr, values.tolist()))
            for name, values in rows.items()
        }
        cells = pd.DataFrame({name: pd.Series(text, dtype="str") for name, text in texts.items()})
        x, _ = self.model.encoder.encode(cells, numeric=list(cells))
        return evaluate_estimator(self.model.estimator, x, dtype)


def _program(
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


def _number(features: Any, index: int, name: str, fill: float | None, indicator: bool = False) -> Number:
    from ..estimators.features import _FINE

    none = np.zeros(0, np.float32)
    present, absent = _features_of(features, np.array([[0.0], [1.0]]), index + 1) if indicator else (none, none)
    filled = none if fill is None else _features_of(features, np.array([[fill]]), index)[0]
    step = 1.0 if features.few[index] else _FINE
    mean, std = float(features.scaler.mean[index]), float(features.scaler.std[index])
    return Number(name, fill, mean, std, features.knots[index], step, filled, present, absent)


def _category(encoder: Any, column: Any, start: int, features: Any) -> Category:
    import pandas as pd

    from ..tabular.parsing import missing_tokens

    levels = tuple(level for level in dict.fromkeys([*column.levels, *column.counts]) if level)
    cells = pd.Series([*levels, "", "\0"], dtype="str")  # no cell of a table holds \0
    blocks, _ = column.encode(cells, encoder.missing)
    table = _features_of(features, np.stack([np.asarray(block, float) for block in blocks], 1), start)
    return Category(column.name, levels, tuple(sorted(missing_tokens(encoder.missing))), table)


def _features_of(features: Any, values: Array, start: int) -> Floats:
    """The features of neighbouring columns of the matrix.  (n, columns) -> (n, features), in the order of `_positions`."""
    columns = list(range(start, start + values.shape[1]))
    x = np.tile(features.scaler.mean, (len(values), 1))
    x[:, columns] = values
    return np.ascontiguousarray(features.transform(x).numpy()[:, _positions(features, [columns])])


def _positions(features: Any, groups: list[list[int]]) -> list[int]:
    """Where the features of the networks are: of each group of columns those scaled, then their stairs."""
    counts = [len(knots) - 1 for knots in features.knots]
    starts = np.concatenate([[0], np.cumsum(counts)]) + len(counts)
    found: list[int] = []
    for group in groups:
        found += group
        found += [int(place) for index in group for place in range(starts[index], starts[index + 1])]
    return found


def _values(column: Number, count: int, rng: np.random.Generator) -> Array:
    """Numbers that a column may have: around its mean, at its knots, and far off."""
    spread = column.std or abs(column.mean) or 1.0
    values = column.mean + spread * rng.standard_normal(count)
    at = rng.random(count)
    if len(column.knots):
        values = np.where(at < 0.4, rng.choice(column.knots, count), values)
    values = np.where(at > 0.98, column.mean + spread * rng.choice([-1e4, 1e4, -1e7, 1e7, 0.0], count), values)
    return values.astype(np.float32).astype(np.float64)
