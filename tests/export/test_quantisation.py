import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from hannet import Abs, FCNet, GroupSort, HanLinear, HanNet, HanStack, UnitLinear
from hannet.export import ExportError, describe, integers
from hannet.export.integers import IntLinear, IntReflection, round_shift
from hannet.export.program import TensorInput
from hannet.export.quantisation import BITS, quantise

NETS = st.fixed_dictionaries({
    "features": st.integers(1, 24),
    "width": st.integers(1, 40),
    "outputs": st.integers(1, 12),
    "depth": st.integers(0, 20),
    "reflections": st.integers(1, 3),
    "exponent": st.sampled_from([-30, 0, 30]),
    "zero": st.booleans(),
    "bias": st.booleans(),
    "unit": st.booleans(),
    "dtype": st.sampled_from(["int16", "int8"]),
    "limit": st.sampled_from([1e-3, 1.0, 30.0]),
    "seed": st.integers(0, 99),
})  # fmt: skip


def net_of(features, width, outputs, depth, reflections, exponent, zero, bias, unit, seed):
    torch.manual_seed(seed)
    layers = [nn.Linear(features, width), Abs()]
    if depth:
        stack = HanStack(width, depth, bias, reflections=reflections)
        stack.u.data *= 10.0**exponent
        stack.u.data[0] *= not zero
        if bias:
            stack.b.data.normal_()
        layers.append(stack)
    return nn.Sequential(*layers, (UnitLinear if unit else nn.Linear)(width, outputs))


def rows_between(low, high, width, seed, count=40):
    rng = np.random.default_rng(seed)
    x = rng.uniform(low, high, (count, width))
    x[: count // 2] = np.where(rng.random((count // 2, width)) < 0.5, low, high)
    return x.astype(np.float32)


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(shape=NETS)
def test_no_row_is_further_off_than_the_bound(shape):
    dtype, limit = shape.pop("dtype"), shape.pop("limit")
    net = net_of(**shape)
    made = quantise(describe(net), dtype, (-limit, limit))
    x = rows_between(-limit, limit, shape["features"], shape["seed"])
    found = made.outputs(x)[0] * made.unit
    with torch.no_grad():
        truth = net.double()(torch.from_numpy(x).double()).numpy()
    assert (np.abs(found - truth) <= made.members[0].error).all()


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(shape=NETS)
def test_nothing_overflows(shape):
    dtype, limit = shape.pop("dtype"), shape.pop("limit")
    made = quantise(describe(net_of(**shape)), dtype, (-limit, limit))
    x = made.features(rows_between(-limit, limit, shape["features"], shape["seed"]))
    for layer in made.members[0].layers:
        if isinstance(layer, IntReflection):
            along = np.abs(x) @ np.abs(layer.q)  # no partial sum is larger
            short = round_shift(x @ layer.q, layer.tau.drop)
            t = round_shift(short * layer.tau.factor, layer.tau.scale)
            assert along.max() < 2**62
            assert max(np.abs(short).max(), np.abs(t).max(), layer.tau.factor) < 2**31
            assert np.abs(short).max() * layer.tau.factor < 2**62
        elif isinstance(layer, IntLinear):
            assert (np.abs(x) @ np.abs(layer.weight).T).max() < 2**62
        if isinstance(layer, IntReflection | IntLinear) and layer.bias is not None:
            assert np.abs(layer.bias).max() <= 2 ** BITS[dtype] - 1
            assert np.abs(layer.bias * 2**layer.bias_shift).max() < 2**31
        x = integers.run([layer], x)
        assert np.abs(x).max() < 2**30


def exact(layers, x):
    """What the integers would give without any rounding, for one row of Fractions."""
    for layer in layers:
        if isinstance(layer, IntLinear):
            sums = [sum((a * int(w) for a, w in zip(x, row, strict=True)), Fraction()) for row in layer.weight]
            x = [s / 2**layer.shift + int(b) * 2**layer.bias_shift for s, b in zip(sums, layer.bias, strict=True)]
        elif isinstance(layer, IntReflection):
            q = [int(value) for value in layer.q]
            square = sum(value**2 for value in q)
            along = (
                Fraction(2, square) * sum((a * b for a, b in zip(x, q, strict=True)), Fraction())
                if square
                else Fraction()
            )
            turned = [a - along * b for a, b in zip(x, q, strict=True)]
            assert sum(a * a for a in turned) == sum(a * a for a in x)  # orthogonal, exactly
            if layer.bias is not None:
                turned = [a + int(b) * 2**layer.bias_shift for a, b in zip(turned, layer.bias, strict=True)]
            x = [abs(a) for a in turned] if layer.apply_abs else turned
        else:
            x = [abs(a) for a in x]
    return x


@pytest.mark.parametrize("dtype", ["int16", "int8"])
def test_reflections_of_integers_are_orthogonal_and_rounding_stays_within_its_bound(dtype):
    net = net_of(5, 9, 3, 6, 2, 0, zero=True, bias=True, unit=False, seed=1)
    made = quantise(describe(net), dtype, (-2.0, 2.0))
    (member,) = made.members
    x = rows_between(-2.0, 2.0, 5, 0, 12)
    found = made.outputs(x)[0]
    for row, outputs in zip(x, found, strict=True):
        truth = exact(member.layers, [Fraction(float(value)) / Fraction(made.unit) for value in row])
        off = [abs(float(a - int(b))) * made.unit for a, b in zip(truth, outputs, strict=True)]
        assert (np.array(off) <= member.rounding).all()


def test_pixels_are_exact():
    program = describe(HanNet(16, 3, width=20, depth=3))
    program = replace(program, inputs=TensorInput((16,), pixels=True))
    made = quantise(program, "int16")
    assert made.per_pixel * made.unit * 255 == pytest.approx(1, rel=1e-15)
    assert made.features(np.array([[0, 1, 255]], np.uint8)).tolist() == [[0, made.per_pixel, 255 * made.per_pixel]]


def test_rows_beyond_the_bounds_count_as_the_bounds():
    made = quantise(describe(HanNet(2, 2, width=4, depth=2)), "int16", (-1.0, 2.0))
    x = np.array([[-5.0, 9.0], [-1.0, 2.0]], np.float32)
    assert np.array_equal(*made.outputs(x)[0])


def test_sorted_and_padded_networks():
    for net in (
        FCNet(4, 2, width=10, depth=2, activation="maxmin"),
        HanNet(4, 3, width=12, depth=2, lipschitz=True, reflections=3),
        nn.Sequential(nn.Linear(4, 6), nn.ReLU(), GroupSort(3)),
        nn.Sequential(HanLinear(4, 7, reflections=2), Abs(), HanLinear(7, 3, reflections=3)),
    ):
        made, x = quantise(describe(net), "int16", (-1.0, 1.0)), rows_between(-1, 1, 4, 0)
        with torch.no_grad():
            truth = net.double()(torch.from_numpy(x).double()).numpy()
        assert (np.abs(made.outputs(x)[0] * made.unit - truth) <= made.members[0].error).all()
        assert made.error < 0.05


def test_the_bound_of_int16_is_small():
    torch.manual_seed(0)
    assert quantise(describe(HanNet(13, 1, width=200, depth=20)), "int16", (-3, 3)).error < 0.02


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        (None, r"give bounds=\(low, high\), or --range LOW,HIGH"),
        ((1.0, 1.0), "two finite numbers, the smaller first, got 1,1"),
        ((0.0, math.nan), "got 0,nan"),
    ],
)
def test_bounds_that_are_none(bounds, message):
    with pytest.raises(ExportError, match=message):
        quantise(describe(HanNet(2, 2, width=4, depth=2)), "int16", bounds)


def test_weights_that_integers_cannot_hold():
    net = nn.Sequential(nn.Linear(2, 2))
    net[0].weight.data.fill_(1e6)
    with pytest.raises(ExportError, match="weights of 1e\\+06, too large for int16"):
        quantise(describe(net), "int16", (-1, 1))
    net[0].weight.data.fill_(1e35)
    with pytest.raises(ExportError, match="too far for integers"):
        quantise(describe(net), "int16", (-1, 1))
    with pytest.raises(ExportError, match="to a norm of inf, too far for integers"):
        quantise(describe(net), "int16", (-1e200, 1e200))


def test_pixels_have_bounds_of_their_own():
    program = describe(HanNet(16, 3, width=20, depth=3))
    program = replace(program, inputs=TensorInput((16,), pixels=True))
    with pytest.raises(ExportError, match="known bounds: give none"):
        quantise(program, "int16", (0, 1))
