"""Mixers and MobileViT as ONNX models: PyTorch's own exporter writes them, with the scaling of pixels before and the classes behind."""

import contextlib
import hashlib
import logging
import warnings
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from .modules import require_plain
from .onnx import IR_VERSION, OPSET, metadata
from .program import ExportError, Output, TensorInput

if TYPE_CHECKING:
    from onnx import ModelProto


@dataclass(frozen=True, eq=False)
class TracedNetwork:
    """A network that is no list of layers.

    kind: of the model, for people. network: on float32 features, or on pixels from 0 to 1, with what scales them
    (`Preprocessing.from_pixels`; what training scales by is cached, and tracing would leave symbols in the cache).
    """

    kind: str
    inputs: TensorInput
    network: nn.Module
    output: Output

    @cached_property
    def digest(self) -> str:
        """64 hexadecimal digits that name all that the model computes with."""
        content = hashlib.sha256(repr((self.network, self.inputs, self.output)).encode())
        for name, values in self.network.state_dict().items():
            content.update(f"{name}{tuple(values.shape)}".encode() + values.cpu().double().numpy().tobytes())
        return content.hexdigest()


class _Whole(nn.Module):
    """From rows to scores, or probabilities and the number of the class."""

    def __init__(self, model: TracedNetwork):
        super().__init__()
        self.network = deepcopy(model.network).to("cpu", torch.float32)
        self.pixels, self.softmax = model.inputs.pixels, model.output.softmax

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        y = self.network(x.float() / 255 if self.pixels else x)
        if not self.softmax:
            return y
        y = y.softmax(1)
        return y, y.argmax(1)


def to_model(model: TracedNetwork) -> "ModelProto":
    """The ONNX model of a network. Raises ExportError without onnxscript, for hooks and weights that are not finite."""
    for module in model.network.modules():
        require_plain(module)
    try:
        import onnxscript  # noqa: F401
    except ImportError:
        raise ExportError(f"exporting a {model.kind} needs onnxscript: pip install 'hannet[export]'") from None
    from onnx import TensorProto, checker, helper, numpy_helper

    x = torch.zeros(2, *model.inputs.shape, dtype=torch.uint8 if model.inputs.pixels else torch.float32)
    names = ["probabilities", "class number"] if model.output.classes else ["y"]
    with _quiet():
        made = torch.onnx.export(
            _Whole(model).eval(),
            (x,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["x"],
            output_names=names,
            dynamic_shapes=({0: torch.export.Dim("N")},),
            verbose=False,
        )
    assert made is not None
    proto: ModelProto = made.model_proto
    graph = proto.graph
    if not graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        raise ExportError(f"PyTorch exports a {model.kind} for one number of rows only")
    if model.output.classes:
        words = numpy_helper.from_array(np.array(model.output.classes, object), "classes")
        graph.initializer.append(words)
        graph.node.append(helper.make_node("Gather", ["classes", names[1]], ["class"]))
        graph.output[1].CopyFrom(helper.make_tensor_value_info("class", TensorProto.STRING, ["N"]))
    proto.ir_version, proto.producer_name = IR_VERSION, "hannet"
    for node in graph.node:  # where in the source a node is from: not for whoever gets the file
        del node.metadata_props[:]
    for value in (*graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del value.metadata_props[:]
    del proto.metadata_props[:], graph.metadata_props[:]
    helper.set_model_props(proto, metadata(model.kind, model.digest, model.inputs, model.output))
    checker.check_model(proto, full_check=True)
    return proto


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's warnings of packages that it could use."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
