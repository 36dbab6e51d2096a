"""Classifiers of images as the exporters see them."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..export.modules import layers_of
from ..export.program import ExportError, Output, Program, TensorInput
from ..export.sources import Array, Source, run_module
from .preprocessing import Preprocessing


@dataclass(frozen=True)
class ImageClassifier:
    """A network and the preprocessing beside it."""

    network: nn.Module
    preprocessing: Preprocessing

    def _export_source(self) -> Source:
        return ImageSource(self)


def _describe_range(wanted: Preprocessing) -> str:
    """What was 0 and 255 of deep pictures in training: whoever feeds the artefact has to scale them so."""
    if not wanted.pixel_range:
        return ""
    low, high = wanted.pixel_range
    return f" whose values from {low:g} to {high:g} became 0 to 255"


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
        self.program = Program(
            f"{type(model.network).__name__} for images{_describe_range(wanted)}", inputs, (layers,), output
        )

    def rows(self, count: int, rng: np.random.Generator) -> Array:
        """Black, white, random pixels."""
        assert isinstance(self.program.inputs, TensorInput)
        x = rng.integers(0, 256, (count, *self.program.inputs.shape), dtype=np.uint8)
        x[:1], x[1:2] = 0, 255
        x[2 : count // 2] = np.where(x[2 : count // 2] > 200, x[2 : count // 2], 0)
        return x

    def evaluate(self, rows: Array, dtype: torch.dtype) -> Array:
        """The probabilities."""
        scores = run_module(self.model.network, self.model.preprocessing(torch.from_numpy(rows)).numpy(), dtype)
        return torch.from_numpy(scores).softmax(1).numpy()
