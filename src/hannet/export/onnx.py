"""A program as an ONNX model: one file, any number of rows, preprocessing inside, no norm left to compute."""

import json
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .onnx_dates import date_parts
from .program import (
    FAR,
    MISSING,
    SOFT,
    Abs,
    Category,
    ColumnsInput,
    Date,
    ExportError,
    GroupSort,
    Layer,
    Linear,
    Number,
    Output,
    Pad,
    Program,
    Reflection,
    Relu,
    Scale,
    TensorInput,
    widths,
)

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET, ML_OPSET, IR_VERSION = 18, 3, 10
DENSE_WIDTH = 32  # up to it a reflection is a matrix: faster for any number of rows (benchmarks/export.py)
_MOST_SPELLINGS = 1024  # of a word for a missing value, in capitals and small letters


class _Graph:
    """Nodes and constants, with names of their own."""

    def __init__(self, taken: Sequence[str]):
        import onnx

        self.helper, self.numpy_helper = onnx.helper, onnx.numpy_helper
        self.taken = set(taken)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def name(self, wanted: str) -> str:
        """An unused name."""
        name = wanted
        while name in self.taken:
            name = f"{wanted}_{len(self.taken)}"
        self.taken.add(name)
        return name

    def constant(self, values: NDArray[Any]) -> str:
        """A name for the values."""
        name = self.name("c")
        self.constants.append(self.numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def single(self, values: Any) -> str:
        """A name for the values in float32."""
        return self.constant(np.asarray(values, np.float32))

    def double(self, values: Any) -> str:
        """A name for the values in float64."""
        return self.constant(np.asarray(values, np.float64))

    def integers(self, *values: int) -> str:
        """A name for a list of integers."""
        return self.constant(np.array(values, np.int64))

    def cast(self, x: str) -> str:
        """x in float32."""
        return self.add("Cast", x, to=1)  # TensorProto.FLOAT

    def add(self, kind: str, *inputs: str, result: str | None = None, **attributes: Any) -> str:
        """A node; gives the name of its first output."""
        outputs = [result or self.name(kind.lower())]
        if kind == "TopK":
            outputs.append(self.name("places"))
        self.nodes.append(self.helper.make_node(kind, list(inputs), outputs, **attributes))
        return outputs[0]

    def rename(self, old: str, new: str) -> None:
        """An output of the graph gets its name; a node that gives an input or a constant is one of its own."""
        for node in self.nodes:
            if old in node.output:
                node.output[:] = [new if name == old else name for name in node.output]
                return
        self.add("Identity", old, result=new)


def to_model(program: Program, *, form: str | None = None) -> "ModelProto":
    """The ONNX model of a program.

    Args:
        program: what `describe` gives.
        form: how Han-layers are written, "augmented", "matrix", "rank one" or "elementwise"; None takes the faster of the first two.

    Raises:
        ExportError: for a word for missing values that has too many spellings.
    """
    from onnx import TensorProto, checker, helper

    inputs = _inputs(program.inputs)
    outputs = _output_names(program)
    graph = _Graph([*inputs, *outputs])
    features = _features(graph, program.inputs)
    ends = [_Member(graph, layers, form).write(features, program.inputs.width) for layers in program.members]
    _finish(graph, program.output, ends, list(outputs))
    kinds = {
        "float": TensorProto.FLOAT,
        "double": TensorProto.DOUBLE,
        "string": TensorProto.STRING,
        "uint8": TensorProto.UINT8,
    }
    made = helper.make_graph(
        graph.nodes,
        "hannet",
        [helper.make_tensor_value_info(name, kinds[kind], ["N", *shape]) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, kinds[kind], ["N", *shape]) for name, (kind, shape) in outputs.items()],
        graph.constants,
    )
    domains = [("", OPSET), ("ai.onnx.ml", ML_OPSET)][: 1 + any(node.domain for node in graph.nodes)]
    model = helper.make_model(
        made,
        opset_imports=[helper.make_opsetid(*domain) for domain in domains],
        ir_version=IR_VERSION,
        producer_name="hannet",
    )
    helper.set_model_props(model, metadata(program.kind, program.digest, program.inputs, program.output))
    checker.check_model(model, full_check=True)
    return model


def metadata(kind: str, digest: str, inputs: TensorInput | ColumnsInput, output: Output) -> dict[str, str]:
    """What the file says of the model."""
    from .. import __version__

    columns = [column.name for column in inputs.columns] if isinstance(inputs, ColumnsInput) else []
    return {
        "hannet_version": __version__,
        "model": kind,
        "model_sha256": digest,
        "columns": json.dumps(columns),
        "classes": json.dumps(output.classes),
        "predicts": output.name,
    }


def _inputs(inputs: TensorInput | ColumnsInput) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of a row of each input."""
    if isinstance(inputs, TensorInput):
        return {"x": ("uint8" if inputs.pixels else "float", inputs.shape)}
    if not inputs.named:
        return {"x": ("double", (len(inputs.columns),))}
    return {c.name: ("string" if isinstance(c, Category) else "double", (1,)) for c in inputs.columns}


def _output_names(program: Program) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of a row of each output; a column of the same name has the name for itself."""
    if not program.output.classes:
        plain = "y" if isinstance(program.inputs, TensorInput) else "prediction"
        wanted: dict[str, tuple[str, tuple[int, ...]]] = {plain: ("float", (program.output.size,))}
    else:
        wanted = {"probabilities": ("float", (program.output.size,)), "class": ("string", ())}
    taken = _inputs(program.inputs)
    return {name if name not in taken else f"predicted {name}": what for name, what in wanted.items()}


def _features(graph: _Graph, inputs: TensorInput | ColumnsInput) -> str:
    if isinstance(inputs, TensorInput):
        if not inputs.pixels:
            return "x"
        flat = graph.add("Flatten", graph.cast("x"), axis=1)
        return graph.add("Mul", flat, graph.single(1 / 255))
    parts = _numbers(graph, inputs) if inputs.numbers else []
    parts += [_words(graph, column) for column in inputs.categories]
    return parts[0] if len(parts) == 1 else graph.add("Concat", *parts, axis=1)


def _numbers(graph: _Graph, inputs: ColumnsInput) -> list[str]:
    """In float64, as the model scales them, then rounded."""
    numbers = inputs.numbers
    raw = "x"
    if inputs.named:
        names: list[str] = []
        for column in inputs.columns:
            names += (
                date_parts(graph, column) if isinstance(column, Date) else [column.name] * isinstance(column, Number)
            )
        raw = names[0] if len(names) == 1 else graph.add("Concat", *names, axis=1)
    x, valid = raw, ""
    if numbers[0].fill is not None:
        valid = graph.add("Less", graph.add("Abs", raw), graph.double(MISSING))
        x = graph.add("Where", valid, raw, graph.double([column.fill for column in numbers]))
    std = [column.std or np.inf for column in numbers]  # a constant column gives 0
    z = graph.add("Div", graph.add("Sub", x, graph.double([column.mean for column in numbers])), graph.double(std))
    z = graph.cast(graph.add("Clip", z, graph.double(-FAR), graph.double(FAR)))
    bend = graph.add("Div", z, graph.single(SOFT))
    bend = graph.add("Sqrt", graph.add("Add", graph.add("Mul", bend, bend), graph.single(1)))
    scaled = graph.add("Div", z, bend)
    if numbers[0].fill is None:  # x - x is NaN where a row must not pass for one
        scaled = graph.add("Add", scaled, graph.cast(graph.add("Sub", raw, raw)))
    parts = [scaled]
    if any(column.stairs for column in numbers):
        parts.append(_stairs(graph, x, numbers))
    if which := [index for index, column in enumerate(numbers) for _ in column.present]:
        present = np.concatenate([column.present for column in numbers])
        absent = np.concatenate([column.absent for column in numbers])
        known = graph.add("Gather", valid, graph.integers(*which), axis=1)
        parts.append(graph.add("Where", known, graph.single(present), graph.single(absent)))
    return parts


def _stairs(graph: _Graph, x: str, numbers: Sequence[Number]) -> str:
    which = [index for index, column in enumerate(numbers) for _ in range(column.stairs)]
    starts = np.concatenate([column.knots[:-1] for column in numbers])
    lengths = np.concatenate([np.diff(column.knots) for column in numbers])
    heights = [numbers[index].step for index in which]
    up = graph.add("Sub", graph.add("Gather", x, graph.integers(*which), axis=1), graph.double(starts))
    up = graph.add("Clip", graph.add("Div", up, graph.double(lengths)), graph.double(0), graph.double(1))
    return graph.cast(graph.add("Mul", graph.add("Sub", up, graph.double(0.5)), graph.double(heights)))


def _words(graph: _Graph, column: Category) -> str:
    """The features of a word, from a table."""
    places = {level: place for place, level in enumerate(column.levels)}
    for word in column.missing:
        cases = [(c, c.upper()) if c.upper().lower() == c != c.upper() else (c,) for c in word]
        if 2 ** sum(len(case) - 1 for case in cases) > _MOST_SPELLINGS:
            raise ExportError(
                f"the word {word!r}, read as missing, has too many spellings in capitals and small letters for ONNX: name a shorter one"
            )
        for spelling in map("".join, product(*cases)):
            places.setdefault(spelling, len(column.levels))
    flat = graph.add("Reshape", column.name, graph.integers(-1))
    code = graph.add(
        "LabelEncoder",
        flat,
        keys_strings=list(places),
        values_int64s=list(places.values()),
        default_int64=len(column.levels) + 1,
        domain="ai.onnx.ml",
    )
    return graph.add("Gather", graph.single(column.table), code, axis=0)


class _Member:
    """Writes the layers of a member. `one`: whether a feature that is 1 stands behind the others."""

    def __init__(self, graph: _Graph, layers: Sequence[Layer], form: str | None):
        self.graph, self.layers, self.form, self.one = graph, layers, form, False

    def write(self, x: str, features: int) -> str:
        """Gives the name of the outputs."""
        for index, (layer, width) in enumerate(widths(self.layers, features)):
            if isinstance(layer, Linear):
                x = self._linear(
                    layer, x, self._wants_one(index + 1) or self._wants_one(index + 2, after_activation=True)
                )
            elif self._wants_one(index):
                x = self._augmented(layer, x)
            elif isinstance(layer, Abs | Relu):
                x = self.graph.add("Abs" if isinstance(layer, Abs) else "Relu", x)
            else:
                x = self._other(layer, self._without_one(x, features), width)
            features = width
        return self._without_one(x, width)

    def _wants_one(self, index: int, *, after_activation: bool = False) -> bool:
        """Whether a layer is a Han-layer that is written with a feature that is 1."""
        layer = self.layers[index] if index < len(self.layers) else None
        if after_activation and not isinstance(self.layers[index - 1] if layer else None, Abs | Relu):
            return False
        fits = isinstance(layer, Reflection) and layer.apply_abs and layer.bias is not None
        return fits and (self.form == "augmented" or (not self.form and len(layer.v) > DENSE_WIDTH))  # type: ignore[union-attr]

    def _linear(self, layer: Linear, x: str, one: bool) -> str:
        weight = np.pad(layer.weight, [(0, int(one)), (0, int(self.one))])
        bias = np.append(layer.bias, np.ones(int(one), np.float32))
        self.one = one
        return self.graph.add("Gemm", x, self.graph.single(weight), self.graph.single(bias), transB=1)

    def _augmented(self, layer: Layer, x: str) -> str:
        """Gemm((x, 1) (v 0; 0 1), (-2 v', 0; b', 0), (x, 1)), then |.| as LeakyRelu, which runtimes fuse with Gemm: two nodes, O(d)."""
        assert isinstance(layer, Reflection)
        if not self.one:
            self.one, x = True, self.graph.add("Pad", x, self.graph.integers(0, 0, 0, 1), self.graph.single(1))
        along, back = np.zeros((len(layer.v) + 1, 2)), np.zeros((2, len(layer.v) + 1))
        along[:-1, 0], along[-1, 1] = layer.v, 1
        back[0, :-1], back[1, :-1] = -2 * layer.v, layer.bias
        pair = self.graph.add("MatMul", x, self.graph.single(along))
        return self.graph.add("LeakyRelu", self.graph.add("Gemm", pair, self.graph.single(back), x), alpha=-1.0)

    def _without_one(self, x: str, width: int) -> str:
        if not self.one:
            return x
        self.one = False
        return self.graph.add("Slice", x, *(self.graph.integers(place) for place in (0, width, 1)))

    def _other(self, layer: Layer, x: str, width: int) -> str:
        if isinstance(layer, Reflection):
            form = self.form if self.form in _FORMS else "matrix" if width <= DENSE_WIDTH else "rank one"
            return _FORMS[form](self.graph, layer, x)
        if isinstance(layer, Pad):
            return self.graph.add("Pad", x, self.graph.integers(0, 0, 0, layer.zeros))
        if isinstance(layer, Scale):
            return _scale(self.graph, layer, x)
        assert isinstance(layer, GroupSort)
        return _sort(self.graph, layer, x, width)


def _matrix(graph: _Graph, layer: Reflection, x: str) -> str:
    """Gemm(x, H, b): two nodes, O(d^2)."""
    v = layer.v.astype(np.float64)
    bias = [] if layer.bias is None else [graph.single(layer.bias)]
    return _absolute(graph, layer, graph.add("Gemm", x, graph.single(np.eye(len(v)) - 2 * np.outer(v, v)), *bias))


def _rank_one(graph: _Graph, layer: Reflection, x: str) -> str:
    """Gemm(x v, -2 v', x + b): three nodes or four, O(d)."""
    along = graph.add("MatMul", x, graph.single(layer.v[:, None]))
    rest = x if layer.bias is None else graph.add("Add", x, graph.single(layer.bias))
    return _absolute(graph, layer, graph.add("Gemm", along, graph.single(-2 * layer.v[None]), rest))


def _elementwise(graph: _Graph, layer: Reflection, x: str) -> str:
    """Products and a sum: six nodes, O(d)."""
    along = graph.add("ReduceSum", graph.add("Mul", x, graph.single(layer.v)), graph.integers(1), keepdims=1)
    x = graph.add("Add", x, graph.add("Mul", along, graph.single(-2 * layer.v)))
    return _absolute(graph, layer, x if layer.bias is None else graph.add("Add", x, graph.single(layer.bias)))


def _absolute(graph: _Graph, layer: Reflection, x: str) -> str:
    return graph.add("Abs", x) if layer.apply_abs else x


_FORMS = {"matrix": _matrix, "rank one": _rank_one, "elementwise": _elementwise}


def _scale(graph: _Graph, layer: Scale, x: str) -> str:
    count = layer.factor.size
    first = graph.add("Slice", x, *(graph.integers(place) for place in (0, count, 1)))
    scaled = graph.add("Mul", first, graph.single(layer.factor))
    return graph.add("Pad", scaled, graph.integers(0, 0, 0, layer.size - count)) if layer.size > count else scaled


def _sort(graph: _Graph, layer: GroupSort, x: str, width: int) -> str:
    groups = graph.add("Reshape", x, graph.integers(0, width // layer.group, layer.group))
    ordered = graph.add("TopK", groups, graph.integers(layer.group), axis=-1, largest=int(layer.descending), sorted=1)
    return graph.add("Reshape", ordered, graph.integers(0, width))


def _finish(graph: _Graph, output: Output, ends: Sequence[str], names: Sequence[str]) -> None:
    """The members' average under the first of the names, and the class under the second if there are classes."""
    if output.softmax:
        ends = [graph.add("Softmax", end, axis=1) for end in ends]
    mean = ends[0] if len(ends) == 1 else graph.add("Mean", *ends)
    if output.scale is not None:
        mean = graph.add("Add", graph.add("Mul", mean, graph.single(output.scale)), graph.single(output.shift))
    graph.rename(mean, names[0])
    if output.classes:
        best = graph.add("ArgMax", names[0], axis=1, keepdims=0)
        graph.add("Gather", graph.constant(np.array(output.classes, object)), best, result=names[1])
