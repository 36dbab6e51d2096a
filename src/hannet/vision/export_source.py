"""Classifiers of images as the exporters see them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import nn

from ..export.modules import layers_of
from ..export.program import ExportError, Output, Program, TensorInput
from ..export.sources import Array, Source, run_module
from ..export.traced import TracedNetwork
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
        self.kind = f"{type(model.network).__name__} for images{_describe_range(wanted)}"
        self.inputs = TensorInput((wanted.channels, wanted.size, wanted.size), pixels=True)
        self.output = Output(len(wanted.classes), True, None, None, "class", wanted.classes)
        self.traced = None
        if not wanted.flat:
            self.traced = TracedNetwork(self.kind, self.inputs, wanted.from_pixels(model.network), self.output)

    @cached_property
    def program(self) -> Program:
        """What it computes. Raises ExportError for networks that are not on flat pixels, which ONNX alone takes."""
        if self.traced:
            raise ExportError(
                f"a {type(self.model.network).__name__} for images can be exported to ONNX only; "
                "other targets take networks on flat pixels such as HanNet"
            )
        return Program(self.kind, self.inputs, (layers_of(self.model.network),), self.output)

    def rows(self, count: int, rng: np.random.Generator) -> Array:
        """Black, white, random pixels."""
        x = rng.integers(0, 256, (count, *self.inputs.shape), dtype=np.uint8)
        x[:1], x[1:2] = 0, 255
        x[2 : count // 2] = np.where(x[2 : count // 2] > 200, x[2 : count // 2], 0)
        return x

    def evaluate(self, rows: Array, dtype: torch.dtype) -> Array:
        """The probabilities."""
        scores = run_module(self.model.network, self.model.preprocessing(torch.from_numpy(rows)).numpy(), dtype)
        return torch.from_numpy(scores).softmax(1).numpy()
