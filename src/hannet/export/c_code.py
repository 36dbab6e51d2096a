"""A program as statements and tables of C99, in float32."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .c_functions import NEEDS
from .program import (
    DATE_PLACES,
    FAR,
    SOFT,
    Abs,
    ColumnsInput,
    Date,
    ExportError,
    GroupSort,
    Layer,
    Linear,
    Number,
    Pad,
    Program,
    Reflection,
    Relu,
    Scale,
    TensorInput,
    widths,
)

_WIDE = 64  # from it on, sums have 16 lanes instead of 8
_RECORD = 72  # bytes of a structure, at most: seven numbers and five pointers


def translate(program: Program) -> "Code":
    """The statements that compute `out` of `row`, and all that they take. Raises ExportError for numbers too large."""
    inputs = program.inputs
    sizes = [width for member in program.members for _, width in widths(member, inputs.width)] + [inputs.width]
    code = Code(16 if max(sizes) >= _WIDE else 8, max(sizes))
    features, widest = code.padded(inputs.width), code.padded(code.widest)
    code.memory = {"features": ("float", features), "x": ("float", widest), "y": ("float", widest)}
    _read(code, inputs)
    for number, member in enumerate(program.members):
        end = _member(code, member, inputs.width)
        add_member(code, program, end, first=number == 0)
    scale_outputs(code, program)
    return code


def row_type(program: Program) -> str:
    """The C type of a number of a row."""
    return "uint8_t" if isinstance(program.inputs, TensorInput) and program.inputs.pixels else "float"


def inputs_of(program: Program) -> int:
    """Numbers of a row."""
    return program.inputs.width if isinstance(program.inputs, TensorInput) else len(program.inputs.columns)


@dataclass
class Code:
    """C in the making: tables, statements of `@_predict`, and which functions they call.

    memory: of the caller's structure, type and count by name; declared: more lines of the header; functions, after: more functions,
    before and behind `@_predict`.
    """

    lanes: int
    widest: int
    tables: list[str] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)
    calls: dict[str, None] = field(default_factory=dict)  # a set that keeps its order
    memory: dict[str, tuple[str, int]] = field(default_factory=dict)
    declared: list[str] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    flash: int = 0

    def table(self, values: NDArray[np.generic]) -> str:
        """A constant array of float32; gives its name."""
        flat = np.asarray(values, np.float32).ravel()
        if not np.isfinite(flat).all():
            raise ExportError("the model has numbers beyond the range of float32, which C99 code computes in")
        return self._array("float", 4, list(map(literal, flat)))

    def integers(self, values: NDArray[np.signedinteger]) -> str:
        """A constant array of integers of the values' own type, which AVRs read from flash; gives its name."""
        kind = f"@_FLASH {values.dtype.name}_t"
        return self._array(kind, values.itemsize, list(map(str, values.ravel().tolist())))

    def _array(self, kind: str, size: int, literals: list[str]) -> str:
        name = f"@_t{len(self.tables)}"
        self.flash += size * len(literals)
        self.tables.append(f"static const {kind} {name}[{len(literals)}] = {{\n{_lines(literals)}\n}};\n")
        return name

    def days(self, days: Sequence[int]) -> str:
        """A constant array of int32; the null pointer for none."""
        return self._array("int32_t", 4, [f"{day}L" for day in days]) if days else "0"

    def optional_table(self, values: NDArray[np.generic]) -> str:
        """As `table`; the null pointer for no values."""
        return self.table(values) if values.size else "0"

    def records(self, kind: str, name: str, rows: Sequence[str]) -> None:
        """A constant array of structures."""
        self.flash += _RECORD * len(rows)
        content = ",\n".join(f"    {{{row}}}" for row in rows)
        self.tables.append(f"static const {kind} {name}[{len(rows)}] = {{\n{content}\n}};\n")

    def words(self, words: Sequence[str], name: str) -> None:
        """A constant array of strings."""
        self.flash += sum(len(word.encode()) + 1 for word in words)
        texts = ",\n".join(f"    {quote(word)}" for word in words)
        self.tables.append(f"static const char *const {name}[{len(words)}] = {{\n{texts}\n}};\n")

    def call(self, function: str, *arguments: object) -> None:
        """A statement that calls a function, which is written then."""
        self.need(function)
        self.statements.append(f"@_{function}({', '.join(map(str, arguments))});")

    def function(self, head: str) -> str:
        """A function of the statements, which refuses null pointers."""
        body = "\n".join(f"    {line}" if line else "" for text in self.statements for line in text.split("\n"))
        return f"\n{head}\n{{\n    if (!row || !out || !w)\n        return @_ERROR_NULL;\n{body}\n    return @_OK;\n}}"

    def need(self, function: str) -> None:
        """A function is written, after those that it calls itself."""
        for other in NEEDS.get(function, ()):
            self.need(other)
        self.calls[function] = None

    def padded(self, width: int) -> int:
        """The next multiple of the lanes."""
        return -(-width // self.lanes) * self.lanes


def literal(value: np.floating) -> str:
    """A float32 that C reads back exactly."""
    return f"{np.format_float_scientific(np.float32(value), unique=True, trim='0')}f"


def quote(text: str) -> str:
    """A C string of the text in UTF-8."""
    safe = "".join(
        f"\\{byte:03o}" if byte < 32 or byte > 126 or byte in b'"\\?@' else chr(byte) for byte in text.encode()
    )
    return f'"{safe}"'


def comment(text: str) -> str:
    """The text as it may stand in a comment."""
    plain = ascii(text).replace("\\", "/")  # first, for `*` before an escape would end the comment
    return plain.replace("*/", "* /").replace("/*", "/ *").replace("@", "(at)")


def _lines(texts: Sequence[str]) -> str:
    return ",\n".join("    " + ", ".join(texts[start : start + 8]) for start in range(0, len(texts), 8))


def _read(code: Code, inputs: TensorInput | ColumnsInput) -> None:
    """The features of a row, with zeros behind them."""
    if isinstance(inputs, TensorInput) and inputs.pixels:
        scale = literal(np.float32(1 / 255))
        code.statements.append(
            f"for (int i = 0; i < {inputs.width}; i++)\n    w->features[i] = (float)row[i] * {scale};"
        )
    elif isinstance(inputs, TensorInput):
        code.call("copy", "row", "w->features", inputs.width)
    else:
        read_columns(code, inputs)
    if (padded := code.padded(inputs.width)) > inputs.width:
        code.call("zero", "w->features", inputs.width, padded)


def read_columns(code: Code, inputs: ColumnsInput) -> None:
    """The features of a row of raw columns."""
    if inputs.numbers:
        _numbers(code, inputs)
    if inputs.categories:
        _categories(code, inputs)


def _numbers(code: Code, inputs: ColumnsInput) -> None:
    code.need("dates_and_numbers" if inputs.dates else "numbers")
    rows = [_number(code, column, place) for column, place in _places(inputs)]
    if inputs.dates:
        places = zip(rows, inputs.numbers, strict=True)
        rows = [f"{row}, {code.optional_table(_looked_up(number))}" for row, number in places]
    code.records("@_number", "@_numbers", rows)
    if inputs.numbers[0].fill is None:
        code.need("refuse_numbers")
        code.statements.append("if (@_read_numbers(row, w->features) != @_OK)\n    return @_ERROR_NOT_FINITE;")
    elif inputs.dates:
        _dates(code, inputs)
        code.need("fill_dates_and_numbers")
        code.statements.append("@_read_numbers(row, w->dates, w->features);")
    else:
        code.need("fill_numbers")
        code.statements.append("@_read_numbers(row, w->features);")


def _places(inputs: ColumnsInput) -> Iterator[tuple[Number, int]]:
    """All numbers, and where each is in a row, or behind it for the parts of dates."""
    behind = len(inputs.columns)
    for place, column in enumerate(inputs.columns):
        if isinstance(column, Number):
            yield column, place
        elif isinstance(column, Date):
            for part, number in zip(column.parts, column.numbers, strict=True):
                yield number, behind + column.place(part)
            behind += len(DATE_PLACES)


def _looked_up(number: Number) -> NDArray[np.float64]:
    """The scaled number of each value, and how many stairs it is high.  -> (values, 2), or none."""
    x = number.values
    if not x.size:
        return x
    z = np.clip((x - number.mean) / (number.std or np.inf), -FAR, FAR)
    ups = (x[:, None] - number.knots[:-1]) / np.diff(number.knots)
    return np.stack([z / np.sqrt(1 + (z / SOFT) ** 2), ups.clip(0, 1).sum(1)], 1)


def _dates(code: Code, inputs: ColumnsInput) -> None:
    """What is read of every date."""
    code.memory["dates"] = ("float", len(DATE_PLACES) * len(inputs.dates))
    code.need("read_date")
    for number, date in enumerate(inputs.dates):
        ends = code.days(date.ends)
        place, start = inputs.columns.index(date), len(DATE_PLACES) * number
        arguments = f"row[{place}], {date.origin}L, {literal(np.float32(date.late))}, {ends}, {len(date.ends)}, w->dates + {start}"
        code.statements.append(f"@_read_date({arguments});")


def _number(code: Code, column: Number, place: int) -> str:
    with np.errstate(over="ignore"):
        scale = 1 / column.std if column.std else 0.0
        parts = np.array([*_split(column.mean), scale, column.step], np.float32)
        steps = np.stack([*_split(column.knots[:-1]), 1 / np.diff(column.knots)], 1).astype(np.float32)
    if not (np.isfinite(parts).all() and np.isfinite(steps).all()):
        raise ExportError(
            f"the column {column.name!r} has numbers beyond the range of float32, which C99 code computes in"
        )
    tables = [code.optional_table(values) for values in (steps, column.filled, column.present, column.absent)]
    return ", ".join([str(place), str(column.stairs), str(len(column.present)), *map(literal, parts), *tables])


def _split(values: Any) -> tuple[Any, Any]:
    """Numbers as sums of two float32."""
    high = np.float32(values)
    return high, np.float32(values - np.float64(high))


def _categories(code: Code, inputs: ColumnsInput) -> None:
    code.need("words")
    rows = []
    for number, column in enumerate(inputs.categories):
        code.words(column.levels, f"@_words{number}")
        place, (_, width) = inputs.columns.index(column), column.table.shape
        rows.append(f"{place}, {len(column.levels)}, {width}, @_words{number}, {code.optional_table(column.table)}")
    code.records("@_category", "@_categories", rows)
    code.words(inputs.categories[0].missing, "@_missing")
    code.need("read_words")
    code.need("code")
    start = sum(1 + column.stairs + len(column.present) for column in inputs.numbers)
    code.statements.append(f"@_read_words(row, w->features + {start});")


def _member(code: Code, layers: Sequence[Layer], width: int) -> str:
    """Calls that compute a member's outputs; gives where they are."""
    x, index, sized = "w->features", 0, list(widths(layers, width))
    code.statements.append("")
    while index < len(layers):
        layer, index = layers[index], index + 1
        if not isinstance(layer, Linear) and x == "w->features":  # which the next member needs as well
            code.call("copy", x, "w->x", code.padded(width))
            x = "w->x"
        if isinstance(layer, Linear):
            y = "w->y" if x == "w->x" else "w->x"
            _linear(code, layer, x, y)
            x = y
        elif isinstance(layer, Reflection):
            more = takewhile(_fuses, layers[index:]) if _fuses(layer) else ()
            run = [layer, *(other for other in more if isinstance(other, Reflection))]
            index += len(run) - 1
            _reflections(code, run, x)
        else:
            _in_place(code, layer, x, width)
        width = sized[index - 1][1]
    return x


def _fuses(layer: Layer) -> bool:
    return isinstance(layer, Reflection) and layer.apply_abs and layer.bias is not None


def _linear(code: Code, layer: Linear, x: str, y: str) -> None:
    outputs, inputs = layer.weight.shape
    wide, long = code.padded(outputs), code.padded(inputs)
    if outputs * long <= inputs * wide:
        weight = np.pad(layer.weight, [(0, 0), (0, long - inputs)])
        code.call("rows", x, long, code.table(weight), code.table(layer.bias), y, outputs)
        return
    weight = np.pad(layer.weight, [(0, wide - outputs), (0, 0)])
    code.call("columns", x, inputs, code.table(weight.T), code.table(np.pad(layer.bias, (0, wide - outputs))), y, wide)


def _reflections(code: Code, run: Sequence[Reflection], x: str) -> None:
    width = len(run[0].v)
    wide = code.padded(width)

    def table(rows: Sequence[NDArray[np.float32]]) -> str:
        return code.table(np.pad(np.stack(rows), [(0, 0), (0, wide - width)]))

    first = run[0]
    if _fuses(first):
        biases = [layer.bias for layer in run if layer.bias is not None]
        code.call("han", x, table([layer.v for layer in run]), table(biases), len(run), wide)
        return
    code.call("reflect", x, table([first.v]), wide)
    if first.bias is not None:
        code.call("shift", x, table([first.bias]), wide)
    if first.apply_abs:
        code.call("abs", x, wide)


def _in_place(code: Code, layer: Layer, x: str, width: int) -> None:
    match layer:
        case Abs():
            code.call("abs", x, code.padded(width))
        case Relu():
            code.call("relu", x, code.padded(width))
        case GroupSort():
            code.call("sort", x, width, layer.group, "-1.0f" if layer.descending else "1.0f")
        case Pad():
            code.call("zero", x, width, code.padded(width + layer.zeros))
        case Scale():
            code.call("scale", x, code.table(layer.factor), layer.factor.size, code.padded(layer.size))


def add_member(code: Code, program: Program, end: str, *, first: bool) -> None:
    """Adds a member's outputs to `out`."""
    size = program.output.size
    if program.output.softmax:
        code.call("softmax", end, size)
    code.call("copy" if first else "add", end, "out", size)


def scale_outputs(code: Code, program: Program) -> None:
    """Makes predictions of the sum in `out`."""
    output, count = program.output, len(program.members)
    if count == 1 and output.scale is None:
        return
    factor = literal(np.float32(1 / count))
    if output.scale is None or output.shift is None:
        code.statements.append(f"for (int i = 0; i < @_OUTPUTS; i++)\n    out[i] *= {factor};")
        return
    scale, shift = code.table(output.scale), code.table(output.shift)
    code.statements.append(
        f"for (int i = 0; i < @_OUTPUTS; i++)\n    out[i] = out[i] * {factor} * {scale}[i] + {shift}[i];"
    )
