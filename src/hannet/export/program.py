"""What a model computes, as plain arrays and few kinds of layers: what every target writes out, and no target needs PyTorch for."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
SOFT, FAR, MISSING = (
    3.0,
    1e6,
    1e30,
)  # of `estimators.features` and `tabular.columns`: where z bends, where it ends, what is no number

DATE_PLACES = (
    "time",
    "year",
    "week",
    "day of year",
    "minute",
)  # what is read of a date, by which its parts are looked up
FIRST_DAY, BEHIND_LAST_DAY = -719162, 2932897  # of the years 1 to 9999, since 1970


class ExportError(RuntimeError):
    """A model that cannot be exported, or an artefact that does not compute the same; the message is one sentence for the user."""


@dataclass(frozen=True, eq=False)
class Linear:
    """W x + b.  weight: (out, in); bias: (out,)."""

    weight: Floats
    bias: Floats


@dataclass(frozen=True, eq=False)
class Reflection:
    """x - 2 v v'x + b, and its absolute value if `apply_abs`.  v: (d,), of norm 1, or 0 for the identity; bias: (d,) or None."""

    v: Floats
    bias: Floats | None
    apply_abs: bool


@dataclass(frozen=True)
class Abs:
    """|x|."""


@dataclass(frozen=True)
class Relu:
    """max(x, 0)."""


@dataclass(frozen=True)
class GroupSort:
    """Neighbouring features in groups of `group`, sorted; the largest first if `descending`."""

    group: int
    descending: bool


@dataclass(frozen=True)
class Pad:
    """`zeros` more features behind the others, all 0."""

    zeros: int


@dataclass(frozen=True, eq=False)
class Scale:
    """The first features times `factor`, one each; the others are cut off, and zeros follow up to `size` features.  factor: (r,)."""

    factor: Floats
    size: int


Layer = Linear | Reflection | Abs | Relu | GroupSort | Pad | Scale


@dataclass(frozen=True)
class TensorInput:
    """A row of float32 features; or of `pixels`, uint8, which the members see divided by 255.  shape: of a row."""

    shape: tuple[int, ...]
    pixels: bool = False

    @property
    def width(self) -> int:
        """Numbers of a row, and features that the members see."""
        return int(np.prod(self.shape))


@dataclass(frozen=True, eq=False)
class Number:
    """A column of numbers: z / sqrt(1 + (z / SOFT)^2) of z = (x - mean) / std, which ends at FAR, and a staircase (`estimators.features`).

    fill: what NaN, infinities and numbers beyond MISSING count as, and `filled` their features; None where such rows are refused.
    step: height of a stair. present, absent: features that say whether the number is there. values: all that there can be, where they
    are looked up by their places; none for numbers.
    """

    name: str
    fill: float | None
    mean: float
    std: float
    knots: NDArray[np.float64]
    step: float
    filled: Floats
    present: Floats
    absent: Floats
    values: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    @property
    def stairs(self) -> int:
        """Features of the staircase."""
        return len(self.knots) - 1


@dataclass(frozen=True, eq=False)
class Category:
    """A column of words.  table: (levels + 2, features): a row of features for each level, for a missing one, for any other word.

    missing: words, in lower case, that count as missing in any case, unless they are a level.
    """

    name: str
    levels: tuple[str, ...]
    missing: tuple[str, ...]
    table: Floats


@dataclass(frozen=True, eq=False)
class Date:
    """A column of times, as days since 1970 in UTC with a fraction, or of times of a day, as fractions of it.

    parts: those that the model has, such as "year sin", and `numbers`, how each is treated; "time" is what the column holds itself.
    origin: what is added to it, -25567 for times of a day, which count as those of 1900-01-01. ends: days that stand for no
    date; late: from it on nothing is one.
    """

    name: str
    parts: tuple[str, ...]
    numbers: tuple[Number, ...]
    origin: int
    ends: tuple[int, ...]
    late: float

    @staticmethod
    def place(part: str) -> int:
        """Of DATE_PLACES, what a part is computed from."""
        turns = {"year sin": 3, "year cos": 3, "week sin": 2, "week cos": 2, "time": 0, "year": 1}
        return turns.get(part, 4)


@dataclass(frozen=True)
class ColumnsInput:
    """A row of raw columns. The members see the scaled numbers, then all staircases, what says which are there, the categories.

    columns: in the order of the table; named: whether each is an input of its own, or all numbers are one array.
    """

    columns: tuple[Number | Category | Date, ...]
    named: bool

    @property
    def numbers(self) -> tuple[Number, ...]:
        """The columns of numbers, and the parts of dates."""
        found: list[Number] = []
        for column in self.columns:
            found += [column] if isinstance(column, Number) else column.numbers if isinstance(column, Date) else []
        return tuple(found)

    @property
    def dates(self) -> tuple[Date, ...]:
        """The columns of dates."""
        return tuple(column for column in self.columns if isinstance(column, Date))

    @property
    def categories(self) -> tuple[Category, ...]:
        """The columns of words."""
        return tuple(column for column in self.columns if isinstance(column, Category))

    @property
    def width(self) -> int:
        """Features that the members see."""
        parts = [1 + column.stairs + len(column.present) for column in self.numbers]
        return sum(parts) + sum(column.table.shape[1] for column in self.categories)


@dataclass(frozen=True, eq=False)
class Output:
    """What becomes of the members' outputs: their mean, or that of their softmax, then times `scale` plus `shift`.

    name: of what is predicted. classes: of a classifier, as they are written.
    """

    size: int
    softmax: bool
    scale: NDArray[np.float64] | None
    shift: NDArray[np.float64] | None
    name: str
    classes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Program:
    """A model as inputs, members that are lists of layers, and output.  kind: of the model, for people."""

    kind: str
    inputs: TensorInput | ColumnsInput
    members: tuple[tuple[Layer, ...], ...]
    output: Output
    notes: tuple[str, ...] = field(default=())

    @cached_property
    def digest(self) -> str:
        """64 hexadecimal digits that name all that the model computes with."""
        content = hashlib.sha256()
        for part in _flatten((self.inputs, self.members, self.output)):
            content.update(part)
        return content.hexdigest()

    @property
    def multiply_adds(self) -> int:
        """Multiplications with an addition that the members take for a row."""
        layers = [layer for member in self.members for layer in member]
        dense = sum(layer.weight.size for layer in layers if isinstance(layer, Linear))
        scales = sum(layer.factor.size for layer in layers if isinstance(layer, Scale))
        return dense + scales + sum(2 * layer.v.size for layer in layers if isinstance(layer, Reflection))


def widths(layers: Sequence[Layer], width: int) -> Iterator[tuple[Layer, int]]:
    """Each layer with the number of features that it gives, for so many that come in."""
    for layer in layers:
        if isinstance(layer, Linear):
            width = len(layer.bias)
        elif isinstance(layer, Pad):
            width += layer.zeros
        elif isinstance(layer, Scale):
            width = layer.size
        yield layer, width


def _flatten(value: Any) -> Iterator[bytes]:
    if is_dataclass(value) and not isinstance(value, type):
        yield type(value).__name__.encode()
        for item in fields(value):
            yield from _flatten(getattr(value, item.name))
    elif isinstance(value, tuple):
        yield b"(%d" % len(value)
        for part in value:
            yield from _flatten(part)
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype.str}{value.shape}".encode()
        yield np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<")).tobytes()
    else:
        yield json.dumps(value).encode()
