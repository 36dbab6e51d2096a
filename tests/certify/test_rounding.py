"""What hannet.certify claims of rounding and of norms, against arithmetic of 2,000 bits."""

import math
from functools import reduce

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hannet import HanLayer, HanStack, Householder
from hannet.certify import bounds, radius, spectral_bound
from hannet.layers.activations import Abs, GroupSort, MaxMin
from hannet.layers.affine import Standardise, UnitLinear

DTYPES = (torch.float32, torch.float64)
often = settings(max_examples=60, deadline=None, derandomize=True)


@pytest.fixture(autouse=True)
def digits():
    with mpmath.workprec(2000):
        yield


def big(tensor):
    """A tensor's exact values as an array of mpmath's numbers."""
    values = np.array(tensor.detach().double().numpy(), dtype=object)
    return np.vectorize(mpmath.mpf, otypes=[object])(values) if values.size else values


def norm(x):
    return mpmath.sqrt(sum(value * value for value in np.ravel(x)))


def largest_singular_value(weight):
    """By the characteristic polynomial's largest root: power iteration of the Gram matrix, doubled 40 times."""
    gram = big(weight)
    gram = gram.T @ gram
    scale = sum(gram.diagonal())
    if scale == 0:
        return mpmath.mpf(0)
    matrix, logs = gram / scale, mpmath.log(scale)
    for step in range(40):
        matrix = matrix @ matrix
        trace = sum(matrix.diagonal())
        matrix, logs = matrix / trace, logs + mpmath.log(trace) / mpmath.mpf(2) ** (step + 1)
    return mpmath.exp(logs / 2)  # (trace of G^(2^40))^(2^-41): above the norm by a factor of at most n^(2^-41)


def reflected(module, x):
    width = module.u.shape[-1]
    u = big(module.u).reshape(-1, width)
    b = [0] * len(u) if module.b is None else big(module.b).reshape(-1, width)
    turns = len(u) // len(b)
    for index, v in enumerate(u):
        if v.any():
            x = x - 2 * np.expand_dims(x @ v, -1) / (v @ v) * v
        if (index + 1) % turns == 0:
            x = x + b[index // turns]
            x = x if isinstance(module, Householder) else np.abs(x)
    return x


def linear(module, x):
    weight = big(module.weight)
    if isinstance(module, UnitLinear):
        weight = np.stack([row / norm(row) if row.any() else row for row in weight])
    return x @ weight.T + (0 if module.bias is None else big(module.bias))


def normalised(module, x):
    shape = (-1, *[1] * (x.ndim - 1))
    if isinstance(module, Standardise):
        return (x - big(module.mean).reshape(shape)) / big(module.std).reshape(shape)
    root = np.vectorize(mpmath.sqrt, otypes=[object])(big(module.running_var) + mpmath.mpf(module.eps))
    scale = (1 / root) * (1 if module.weight is None else big(module.weight))
    shift = 0 if module.bias is None else big(module.bias).reshape(shape)
    return (x - big(module.running_mean).reshape(shape)) * scale.reshape(shape) + shift


def pooled(module, x):
    (size,), (step,), (pad,) = module.kernel_size, module.stride, module.padding
    padded = np.pad(x, ((0, 0), (pad, pad)), constant_values=mpmath.mpf(0))
    starts = range(0, padded.shape[1] - size + 1, step)
    return np.stack([padded[:, start : start + size].sum(1) / size for start in starts], 1)


EXACT = {
    nn.Sequential: lambda module, x: reduce(lambda y, part: exact(part, y), module, x),
    **dict.fromkeys((HanLayer, HanStack, Householder), reflected),
    **dict.fromkeys((nn.Linear, UnitLinear), linear),
    **dict.fromkeys((nn.BatchNorm1d, Standardise), normalised),
    Abs: lambda _, x: np.abs(x),
    nn.ReLU: lambda _, x: np.maximum(x, 0),
    MaxMin: lambda _, x: np.sort(x.reshape(*x.shape[:-1], -1, 2))[..., ::-1].reshape(x.shape),
    GroupSort: lambda module, x: np.sort(x.reshape(*x.shape[:-1], -1, module.group)).reshape(x.shape),
    nn.AvgPool1d: pooled,
    nn.Identity: lambda _, x: x,
}


def exact(module, x):
    """What a module means, of one row."""
    return EXACT[type(module)](module, x)


VECTORS = {  # of width 6 to width 6
    "HanLayer": lambda: HanLayer(6),
    "reflections": lambda: HanLayer(6, reflections=3),
    "HanStack": lambda: HanStack(6, 3, reflections=2),
    "no bias": lambda: HanStack(6, 2, bias=False),
    "Householder": lambda: Householder(6, bias=True),
    "Linear": lambda: nn.Linear(6, 6),
    "Linear without bias": lambda: nn.Linear(6, 6, bias=False),
    "UnitLinear": lambda: UnitLinear(6, 6),
    "BatchNorm": lambda: nn.BatchNorm1d(6).eval(),
    "plain BatchNorm": lambda: nn.BatchNorm1d(6, affine=False).eval(),
    "Standardise": lambda: Standardise([0.1] * 6, [0.5] * 6),
    "Abs": Abs,
    "ReLU": nn.ReLU,
    "MaxMin": MaxMin,
    "GroupSort": lambda: GroupSort(3),
    "Identity": nn.Identity,
}
IMAGES = {  # of (4, 6) to (4, 6)
    "pool": lambda: nn.AvgPool1d(3, 1, 1),
    "Standardise": lambda: Standardise([0.1, -0.2, 3.0, 0.0], [0.5, 0.25, 2.0, 1.0]),
    "Standardise alike": lambda: Standardise(0.1307, 0.3081),
    "BatchNorm": lambda: nn.BatchNorm1d(4).eval(),
    "Linear": lambda: nn.Linear(6, 6),
    "HanStack": lambda: HanStack(6, 2),
    "MaxMin": MaxMin,
    "UnitLinear": lambda: UnitLinear(6, 6),
}


@st.composite
def networks(draw, kinds):
    """A chain of modules whose parameters have wild scales, and are zero or repeat each other here and there."""
    seed, dtype = draw(st.integers(0, 2**32)), draw(st.sampled_from(DTYPES))
    names = draw(st.lists(st.sampled_from(sorted(kinds)), min_size=1, max_size=4))
    widest = 2 if draw(st.booleans()) else 8 if dtype == torch.float32 else 60
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(*(kinds[name]() for name in names))
        for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
            if not tensor.is_floating_point():
                continue
            scale = 10 ** ((2 * torch.rand(tensor.shape[:1] or (1,)).double() - 1) * widest)
            value = torch.randn(tensor.shape).double() * scale.reshape(tensor.shape[:1] + (1,) * (tensor.dim() - 1))
            value = value.abs() + 1e-8 if name.endswith(("running_var", "std")) else value
            if torch.rand(()) < 0.2 and not name.endswith(("running_var", "std")):
                value.copy_(value[:1].clone() if tensor.dim() > 1 and torch.rand(()) < 0.5 else 0 * value)
            tensor.data = value.to(dtype) if dtype == torch.float64 else value.clamp(-1e30, 1e30).float()
        size = 10 ** (draw(st.floats(-1, 1)) * widest)
        x = torch.randn(2, *((4, 6) if kinds is IMAGES else (6,))).double().mul(size).to(dtype)
    return net, x


def claims(net, x):
    leaves = [leaf for _, leaf in bounds.computing_modules(net)]
    shapes = radius._input_shapes(net, leaves, x[:1])
    maps = (
        bounds.module_bound(leaf, bounds.arithmetic_of(x.dtype, shape))
        for leaf, shape in zip(leaves, shapes, strict=True)
    )
    return reduce(bounds.compose, maps, bounds.Bound())


def holds(net, x):
    """Whether what the machine computes is finite; what is claimed of it must hold then."""
    claim = claims(net, x)
    with torch.no_grad():
        computed = net(x)
    if not (computed.isfinite().all() and math.isfinite(sum(claim))):
        return False
    meant = [exact(net, big(row)) for row in x]
    for row, y, there in zip(x, computed, meant, strict=True):
        room = claim.peak * norm(big(row)) + claim.peak_at_zero
        if room < torch.finfo(x.dtype).max / 4:
            assert norm(big(y) - there) <= claim.relative * norm(big(row)) + claim.absolute
            assert max(map(abs, np.ravel(big(y)))) <= room
    assert norm(exact(net, big(torch.zeros_like(x[0])))) <= claim.at_zero
    assert norm(meant[0] - meant[1]) <= claim.lipschitz * norm(big(x[0]) - big(x[1]))
    return True


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [VECTORS, IMAGES], ids=["vectors", "images"])
def test_rounding_stays_within_what_is_claimed(kinds):
    finite = []

    @given(networks(kinds))
    @often
    def check(case):
        finite.append(holds(*case))

    check()
    assert sum(finite) > len(finite) / 2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*VECTORS, *(f"{name} of images" for name in IMAGES)])
def test_rounding_of_one_module_stays_within_what_is_claimed(name, dtype):
    kinds, shape = (IMAGES, (4, 6)) if name.endswith(" of images") else (VECTORS, (6,))
    for size in (1e-5, 1.0, 1e5):
        net = nn.Sequential(kinds[name.removesuffix(" of images")]()).to(dtype)
        if getattr(net[0], "running_mean", None) is not None:
            net[0].running_mean.normal_()
        assert holds(net, (size * torch.randn(2, *shape)).to(dtype))


@pytest.mark.slow
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32), st.sampled_from([0, -320, -200, 5, 200, 307]))
@often
def test_spectral_bound_is_one_and_a_close_one(rows, columns, seed, exponent):
    generator = torch.Generator().manual_seed(seed)
    rank = torch.randint(1, 6, (), generator=generator)
    weight = (
        torch.randn(rows, rank, generator=generator).double() @ torch.randn(rank, columns, generator=generator).double()
    )
    weight = weight / weight.abs().max() * 10.0 ** (exponent / 2) * 10.0 ** (exponent / 2)
    norm, bound = largest_singular_value(weight), spectral_bound(weight)
    assert bound >= norm / 2 ** (1 / 2**38)
    assert bound <= norm * (1 + 1e-7) + 1e-307


def test_a_layer_given_more_reflections_is_seen_as_it_computes():
    layer = HanLayer(4)
    once = claims(layer, torch.ones(1, 4)).relative
    layer.u = nn.Parameter(torch.randn(3, 4))
    assert claims(layer, torch.ones(1, 4)).relative == pytest.approx(3 * once, rel=1e-3)
