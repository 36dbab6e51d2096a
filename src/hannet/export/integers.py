"""Members in integers: what C computes, bit by bit, and what is proven of it (`quantisation` makes them)."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .program import Abs, GroupSort, Pad, Program, Relu

Ints = NDArray[np.int64]
Reals = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Box:
    """The features that a member may see: each between `low` and `high`.  pixel: they are multiples of 1/255."""

    low: Reals
    high: Reals
    pixel: bool = False

    @property
    def norm(self) -> float:
        """The largest norm."""
        return float(np.linalg.norm(np.maximum(np.abs(self.low), np.abs(self.high))))

    @property
    def limits(self) -> tuple[np.float32, np.float32]:
        """What all features are clipped to."""
        return np.float32(self.low.min()), np.float32(self.high.max())


@dataclass(frozen=True, eq=False)
class IntLinear:
    """(W x >> shift) + (bias << bias_shift), where >> rounds.  weight: (out, in)."""

    weight: Ints
    bias: Ints
    bias_shift: int
    shift: int


@dataclass(frozen=True)
class Scaling:
    """tau z is t / 2^fraction with t = ((z >> drop) factor) >> scale, where >> rounds; all fit into int32 but the products."""

    factor: int
    drop: int
    scale: int
    fraction: int


@dataclass(frozen=True, eq=False)
class IntReflection:
    """x - tau q q'x + (bias << bias_shift), and its absolute value if `apply_abs`.

    bias: None, or (d,).
    """

    q: Ints
    bias: Ints | None
    bias_shift: int
    tau: Scaling
    apply_abs: bool


@dataclass(frozen=True, eq=False)
class IntScale:
    """The first features times factor >> shift, one each, where >> rounds; zeros follow up to `size`.  factor: (r,)."""

    factor: Ints
    shift: int
    size: int


IntLayer = IntLinear | IntReflection | IntScale | Abs | Relu | GroupSort | Pad


@dataclass(frozen=True, eq=False)
class Member:
    """A member's layers, and what is proven of its outputs.

    error: (outputs,), the largest |output - that of the float64 model|, in the outputs' own units.
    rounding: the same from a network of the same integers that computes without rounding; for certificates.
    slopes: (outputs, outputs), by how much the difference of two outputs may change for a change of the features of norm 1.
    """

    layers: tuple[IntLayer, ...]
    error: Reals
    rounding: Reals
    slopes: Reals


@dataclass(frozen=True, eq=False)
class Integers:
    """A program's members in integers.  unit: what 1 is worth, a feature or an output; dtype: "int16" or "int8", of the weights."""

    program: Program
    dtype: str
    box: Box
    unit: float
    members: tuple[Member, ...] = field(default=())

    @property
    def per_pixel(self) -> int:
        """What a pixel's value is multiplied by."""
        return round(1 / (255 * self.unit))

    @property
    def error(self) -> float:
        """The largest proven error of any output of a member."""
        return max(float(member.error.max()) for member in self.members)

    @property
    def output_error(self) -> float:
        """The same for what is predicted: a mean of members, of probabilities, or in the units of the target."""
        output = self.program.output
        scale = 0.5 if output.softmax else 1.0 if output.scale is None else float(np.abs(output.scale).max())
        return self.error * scale

    def features(self, x: NDArray) -> Ints:
        """Features as integers, clipped to the box, as the C code takes them.  x: (n, width), uint8 or float32."""
        if self.box.pixel:
            return x.astype(np.int64) * self.per_pixel
        clipped = np.clip(x.astype(np.float32), *self.box.limits)
        scaled = clipped * np.float32(1 / self.unit)
        return np.trunc(scaled + np.where(scaled < 0, np.float32(-0.5), np.float32(0.5))).astype(np.int64)

    def outputs(self, x: NDArray) -> Ints:
        """The members' outputs in units, bit by bit as in C.  x: (n, width) -> (members, n, outputs)."""
        return np.stack([run(member.layers, self.features(x)) for member in self.members])


def run(layers: Sequence[IntLayer], x: Ints) -> Ints:
    """What a member makes of features, in int64, which nothing overflows.  (n, width) -> (n, outputs)."""
    for layer in layers:
        match layer:
            case IntLinear():
                x = round_shift(x @ layer.weight.T, layer.shift) + layer.bias * 2**layer.bias_shift
            case IntReflection():
                t = round_shift(round_shift(x @ layer.q, layer.tau.drop) * layer.tau.factor, layer.tau.scale)
                x = x - round_shift(t[:, None] * layer.q, layer.tau.fraction)
                if layer.bias is not None:
                    x = x + layer.bias * 2**layer.bias_shift
                x = np.abs(x) if layer.apply_abs else x
            case IntScale():
                x = round_shift(x[:, : len(layer.factor)] * layer.factor, layer.shift)
                x = np.pad(x, [(0, 0), (0, layer.size - x.shape[1])])
            case Abs():
                x = np.abs(x)
            case Relu():
                x = np.maximum(x, 0)
            case GroupSort():
                groups = np.sort(x.reshape(len(x), -1, layer.group), axis=2)
                x = (groups[..., ::-1] if layer.descending else groups).reshape(x.shape)
            case Pad():
                x = np.pad(x, [(0, 0), (0, layer.zeros)])
    return x


def round_shift(x: Ints, by: int) -> Ints:
    """x / 2^by, rounded to the nearest integer, halves away from 0: the same for x and -x."""
    shifted: Ints = np.sign(x) * ((np.abs(x) + (1 << by >> 1)) >> by)
    return shifted
