"""Members in integers, with a proven bound on how far they are from the model.

H(u) does not depend on the length of u. So u is rounded, not v: with integers q and tau = 2 / sum q^2 the reflection
x - tau q q'x is exactly orthogonal, and the angle between q and u is all that rounding costs. Features are int32 of one unit for
all members, with a norm up to 2^28 by what the layers can stretch: no calibration, no overflow. As every layer but a Linear is
1-Lipschitz, errors add and are never multiplied.

Bounds are computed in float64 and widened by a millionth, far more than its rounding.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .integers import Box, Integers, IntLayer, IntLinear, IntReflection, Ints, IntScale, Member, Reals, Scaling
from .program import (
    SOFT,
    Category,
    ColumnsInput,
    ExportError,
    Layer,
    Linear,
    Program,
    Reflection,
    Scale,
    widths,
)

ROOM = 28  # bits of the norm of the features
SAFE = 1 + 1e-6
ROUNDED = 2.0**-23  # what it may change a layer, relative, that the program holds float32
WIDEST = 2.0**100  # norm of features, at most
BITS = {"int16": 15, "int8": 7}


def box_of(program: Program, bounds: tuple[float, float] | None) -> Box:
    """Where the features of a program lie. bounds: of every feature, for a network, which does not say it itself."""
    inputs = program.inputs
    if bounds is not None and (isinstance(inputs, ColumnsInput) or inputs.pixels):
        raise ExportError("the features of this model have known bounds: give none")
    if isinstance(inputs, ColumnsInput):
        return _box_of_columns(inputs)
    width = inputs.width
    if inputs.pixels:
        return Box(np.zeros(width), np.ones(width), pixel=True)
    if bounds is None:
        raise ExportError(
            "integers need to know between which numbers the features lie: give bounds=(low, high), or --range LOW,HIGH"
        )
    low, high = bounds
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ExportError(f"a range must be two finite numbers, the smaller first, got {low:g},{high:g}")
    return Box(np.full(width, low), np.full(width, high))


def _box_of_columns(inputs: ColumnsInput) -> Box:
    """Scaled numbers stay within SOFT, stairs within half a step; what is missing and words have rows of features of their own."""
    scaled, stairs, flags = [], [], []
    for number in inputs.numbers:
        known = np.full(1 + number.stairs, number.step / 2)
        known[0] = SOFT
        both = np.maximum(known, np.abs(number.filled)) if number.filled.size else known
        scaled.append(both[:1])
        stairs.append(both[1:])
        flags.append(np.maximum(np.abs(number.present), np.abs(number.absent)))
    words = [np.abs(column.table).max(0) for column in inputs.columns if isinstance(column, Category)]
    largest = np.concatenate([*scaled, *stairs, *flags, *words]).astype(np.float64)
    return Box(-largest, largest)


def quantise(program: Program, dtype: str, bounds: tuple[float, float] | None = None) -> Integers:
    """A program's members in integers.

    Args:
        program: what `describe` gives.
        dtype: "int16" or "int8", of the weights and biases; features are int32.
        bounds: between which numbers all features lie, for a network on numbers; rows beyond are clipped to them.

    Returns:
        The integers, and what is proven of them.

    Raises:
        ExportError: if the bounds are missing or wrong, or weights are too large.
    """
    box = box_of(program, bounds)
    largest = max(norm for member in program.members for norm in _norms(member, box)) * SAFE
    unit = 2.0 ** math.ceil(math.log2(min(max(largest, 2 / WIDEST), WIDEST)) - ROOM)
    if box.pixel:
        unit = 1 / (255 * 2.0 ** math.floor(-math.log2(255 * unit)))
    if largest > WIDEST or (box.pixel and unit > 1 / 255):
        raise ExportError(f"the network stretches its features to a norm of {largest:.2g}, too far for integers")
    made = Integers(program, dtype, box, unit)
    members = tuple(_Quantiser(made, member).member() for member in program.members)
    return Integers(program, dtype, box, unit, members)


def _norms(layers: Sequence[Layer], box: Box) -> list[float]:
    """Bounds of the norm of the features: at the entry, and after each layer."""
    norms = [box.norm]
    for place, layer in enumerate(layers):
        norm = norms[-1]
        if isinstance(layer, Linear):
            weight = layer.weight.astype(np.float64)
            norm *= _spectral_norm(weight)
            if place == 0:  # where each feature has bounds of its own
                middle, half = weight @ ((box.low + box.high) / 2), np.abs(weight) @ ((box.high - box.low) / 2)
                norm = min(norm, float(np.linalg.norm(np.abs(middle) + half)))
        elif isinstance(layer, Scale):
            norm *= float(np.abs(layer.factor).max(initial=0.0))
        if isinstance(layer, Linear | Reflection) and layer.bias is not None:
            norm += float(np.linalg.norm(layer.bias.astype(np.float64)))
        norms.append(norm)
    return norms


def _spectral_norm(weight: NDArray[np.floating]) -> float:
    return float(np.linalg.norm(weight, 2)) * SAFE if weight.size else 0.0


class _Quantiser:
    """Goes through a member's layers with what is known so far, in units.

    off: the distance from the float64 model; rounding: from a network of the same integers that does not round; norm: of the integers
    themselves; slope: the Lipschitz constant.
    """

    def __init__(self, made: Integers, layers: Sequence[Layer]):
        self.layers, self.unit, self.limit, self.dtype = layers, made.unit, (1 << BITS[made.dtype]) - 1, made.dtype
        self.width, self.norms = len(made.box.low), [norm / made.unit for norm in _norms(layers, made.box)]
        self.rounding = 0.0 if made.box.pixel else math.sqrt(self.width)  # float32 may round a half upwards
        self.off, self.slope = self.rounding + ROUNDED * self.norms[0], 1.0
        self.norm = self.norms[0] + self.rounding

    def member(self) -> Member:
        """The layers in integers, and their bounds."""
        made: list[IntLayer] = []
        for layer, norm, after in zip(self.layers, self.norms, self.norms[1:], strict=False):
            before = (self.off, self.rounding, self.slope)
            made.append(self._layer(layer, norm))
            self.norm = min(self.norm, after + self.off)
            if self.norm > 2.0 ** (ROOM + 1):
                raise ExportError("the network stretches its features too far for integers")
        last, final = self.layers[-1], made[-1]
        if isinstance(last, Linear) and isinstance(final, IntLinear):
            error, rounding, slopes = self._by_output(last, final, *before)
        else:
            *_, (_, size) = widths(self.layers, self.width)
            error, rounding = np.full(size, self.off), np.full(size, self.rounding)
            slopes = np.full((size, size), math.sqrt(2) * self.slope)
        return Member(tuple(made), error * self.unit * SAFE, rounding * self.unit * SAFE, slopes * SAFE)

    def _by_output(
        self, last: Linear, final: IntLinear, off: float, rounding: float, slope: float
    ) -> tuple[Reals, Reals, Reals]:
        """Of a Linear at the end each output has its own row."""
        rows = final.weight * 2.0**-final.shift
        lengths, norm = np.linalg.norm(rows, axis=1), self.norms[-2]
        lost = np.linalg.norm(last.weight - rows, axis=1) + ROUNDED * lengths
        bias = (
            np.abs(last.bias / self.unit - final.bias * 2.0**final.bias_shift) + ROUNDED * np.abs(last.bias) / self.unit
        )
        slopes = slope * np.linalg.norm(rows[:, None] - rows, axis=2)
        return lengths * off + lost * norm + bias + 1, lengths * rounding + 1, slopes

    def _layer(self, layer: Layer, norm: float) -> IntLayer:
        match layer:
            case Linear():
                return self._linear(layer, norm)
            case Reflection():
                return self._reflection(layer, norm)
            case Scale():
                return self._scale(layer, norm)
        return layer  # exact, and 1-Lipschitz

    def _linear(self, layer: Linear, norm: float) -> IntLinear:
        weight = layer.weight.astype(np.float64)
        q, shift = self._fixed(weight)
        held = ROUNDED * float(np.linalg.norm(weight))  # by element: Frobenius, not spectral
        lost, rounding = _spectral_norm(weight - q * 2.0**-shift) + held, math.sqrt(len(q)) / 2
        self._stretch(_spectral_norm(q * 2.0**-shift), lost, rounding, norm)
        return IntLinear(q, *self._bias(layer.bias), shift)

    def _scale(self, layer: Scale, norm: float) -> IntScale:
        factor = layer.factor.astype(np.float64)
        q, shift = self._fixed(factor)
        largest, lost = (float(np.abs(x).max(initial=0.0)) for x in (q * 2.0**-shift, factor - q * 2.0**-shift))
        self._stretch(largest, lost, math.sqrt(len(q)) / 2, norm)
        return IntScale(q, shift, layer.size)

    def _fixed(self, weight: Reals) -> tuple[Ints, int]:
        """Integers, and the power of two that they are divided by."""
        peak = float(np.abs(weight).max(initial=0.0))
        shift = min(30, math.floor(math.log2(self.limit / peak))) if peak else 0
        if shift < 0:
            raise ExportError(f"a layer has weights of {peak:.3g}, too large for {self.dtype}")
        return np.rint(weight * 2.0**shift).astype(np.int64), shift

    def _stretch(self, by: float, lost: float, rounding: float, norm: float) -> None:
        """What a linear map of that norm does to the bounds, off by `lost` from the one that it stands for."""
        self.off = by * self.off + (lost + ROUNDED * by) * norm + rounding
        self.rounding = by * self.rounding + rounding
        self.norm = by * self.norm + rounding
        self.slope *= by

    def _reflection(self, layer: Reflection, norm: float) -> IntReflection:
        q = _nearest_direction(layer.v.astype(np.float64), self.limit)
        form, lost = _scaling(int(q @ q))
        rounding = math.sqrt(len(q)) / 2 + lost if form.factor else 0.0
        self.off += (2 * _sine(q, layer.v) + ROUNDED) * norm + rounding if form.factor else 0.0
        self.rounding += rounding
        self.norm += rounding
        bias, bias_shift = (None, 0) if layer.bias is None else self._bias(layer.bias)
        return IntReflection(q, bias, bias_shift, form, layer.apply_abs)

    def _bias(self, bias: NDArray[np.float32]) -> tuple[Ints, int]:
        """Integers and their shift; adds to the bounds what a bias and its rounding do."""
        scaled = bias.astype(np.float64) / self.unit
        peak = float(np.abs(scaled).max(initial=0.0))
        shift = max(0, math.ceil(math.log2(peak / self.limit))) if peak else 0
        rounded = np.rint(scaled * 2.0**-shift).astype(np.int64)
        self.off += float(np.linalg.norm(scaled - rounded * 2.0**shift)) + ROUNDED * float(np.linalg.norm(scaled))
        self.norm += float(np.linalg.norm(rounded * 2.0**shift))
        return rounded, shift


def _scaling(square: int) -> tuple[Scaling, float]:
    """How tau q'x is computed for q'q = square, and the norm of what its rounding costs, at most, for features of norm 2^(ROOM + 1)."""
    if not square:
        return Scaling(0, 0, 0, 0), 0.0
    length, log2 = math.sqrt(square), square.bit_length() - 1
    fraction = log2 // 2
    drop = max(0, ROOM + 2 + fraction - 30)
    scale = log2 + 29 - drop - fraction
    power = 1 << (1 + drop + fraction + scale)
    factor = (power + square // 2) // square
    t = 2.0 ** (ROOM + 2 + fraction) / length  # at most
    lost = 0.5 + 2.0 ** (drop + fraction) / square + t / factor
    return Scaling(factor, drop, scale, fraction), lost * length / 2**fraction


def _nearest_direction(v: Reals, limit: int, tries: int = 64) -> Ints:
    """Integers up to `limit` along v, at the smallest angle that a few lengths give."""
    peak = float(np.abs(v).max(initial=0.0))
    if not peak:
        return np.zeros(len(v), np.int64)
    candidates = [np.rint(v * (limit / peak * share)) for share in np.linspace(0.75, 1.0, tries)]
    return min(candidates, key=lambda q: _sine(q, v)).astype(np.int64)


def _sine(q: NDArray, v: NDArray) -> float:
    """Of the angle between two vectors, by their distance once they have the same length: accurate for small ones."""
    q, v = q.astype(np.float64), v.astype(np.float64)
    half = float(np.linalg.norm(q / np.linalg.norm(q) - v / np.linalg.norm(v))) / 2  # of the chord: sin(angle / 2)
    return 2 * half * math.sqrt(max(0.0, 1 - half**2))
