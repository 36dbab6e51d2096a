"""Models as the exporters see them: a program, rows to try it on, and what the model itself gives for them."""

from copy import deepcopy
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from ..models.han_mixer import HanMixer
from ..models.mobilevit import MobileViT
from .integers import Box
from .modules import describe_module
from .program import ExportError, Output, Program, TensorInput
from .traced import TracedNetwork

Rows = Any  # an array (n, ...), or columns by name: float64, or str
Array = np.ndarray
_IMAGES = 3, 256, 256  # of a MobileViT without preprocessing.json, which takes other sizes too: the paper's


class Source(Protocol):
    """A model and its program."""

    @property
    def program(self) -> Program:
        """What it computes. Raises ExportError for what `traced` alone holds."""

    @property
    def traced(self) -> TracedNetwork | None:
        """A network that is no list of layers, for ONNX; None where `program` says all."""

    def rows(self, count: int, rng: np.random.Generator) -> Rows:
        """Rows that it may be given, with unusual ones first."""

    def evaluate(self, rows: Rows, dtype: torch.dtype) -> Array:
        """What the model gives, computed in float64 or float32.  -> (n, size)."""


def describe(model: Any) -> Program:
    """The program of a network, an estimator or a model of a table. Raises ExportError."""
    return open_source(model).program


def open_source(model: Any) -> Source:
    """A network, or a model that says by `_export_source` how it is exported: an estimator, a model of a table. Raises ExportError."""
    if isinstance(model, HanMixer | MobileViT):
        return TracedSource(model)
    if isinstance(model, nn.Module):
        return ModuleSource(model)
    if hasattr(model, "_export_source"):
        source: Source = model._export_source()
        return source
    raise ExportError(
        f"a model must be a network, a fitted HanRegressor or HanClassifier, or a model of a table, got {type(model).__name__}"
    )


@torch.no_grad()
def run_module(module: nn.Module, x: Array, dtype: torch.dtype) -> Array:
    """In that dtype, on a copy: the module stays as it is."""
    return deepcopy(module).to("cpu", dtype).eval()(torch.from_numpy(x).to(dtype)).numpy()


class ModuleSource:
    """A network on rows of features."""

    traced = None

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
        return run_module(self.module, rows, dtype)


class TracedSource:
    """A network on images of float32, for ONNX alone."""

    def __init__(self, module: HanMixer | MobileViT):
        shape = (module.in_channels, module.image_size, module.image_size) if isinstance(module, HanMixer) else _IMAGES
        outputs = Output(module.head.out_features, False, None, None, "output", ())
        self.module, self.traced = module, TracedNetwork(type(module).__name__, TensorInput(shape), module, outputs)

    @property
    def program(self) -> Program:
        """Raises ExportError, which names it."""
        return describe_module(self.module)

    def rows(self, count: int, rng: np.random.Generator) -> Array:
        """Zeros, ones, and normal numbers."""
        x = rng.standard_normal((count, *self.traced.inputs.shape)).astype(np.float32)
        for row, value in zip(x, (0.0, 1.0, -1.0), strict=False):
            row[:] = value
        return x

    def evaluate(self, rows: Array, dtype: torch.dtype) -> Array:
        """The outputs."""
        return run_module(self.module, rows, dtype)


class BoundedSource:
    """A network whose rows stay within bounds, corners among them; any other model as it is."""

    traced = None

    def __init__(self, source: Source, box: Box):
        self.source, self.box, self.program = source, box, source.program

    def rows(self, count: int, rng: np.random.Generator) -> Rows:
        """Corners first, then numbers between the bounds."""
        inputs = self.program.inputs
        if not isinstance(inputs, TensorInput) or inputs.pixels:
            return self.source.rows(count, rng)
        low, high = (side.reshape(inputs.shape) for side in (self.box.low, self.box.high))
        x = low + (high - low) * rng.random((count, *inputs.shape))
        corners = rng.random((count // 4, *inputs.shape)) < 0.5
        x[: len(corners)] = np.where(corners, low, high)
        return x.astype(np.float32)

    def evaluate(self, rows: Rows, dtype: torch.dtype) -> Array:
        """As the model itself."""
        return self.source.evaluate(rows, dtype)
