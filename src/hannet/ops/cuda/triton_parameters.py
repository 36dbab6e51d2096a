"""Before and after the passes over a stack: unit vectors and padded biases, and the gradients of u and b from those of the former."""

import triton
import triton.language as tl


@triton.jit
def _unit(u):
    """v = u / ||u|| of every row (0 where u = 0) for every finite norm, and two factors of the norm's inverse. u in float64.

    Inverses of a row, not quotients of its elements: most GPUs have few units for float64.
    """
    inverse = 1 / tl.maximum(tl.max(tl.abs(u), 1, keep_dims=True), 1e-300)
    scaled = u * inverse
    square = tl.sum(scaled * scaled, 1, keep_dims=True)
    root = 1 / tl.sqrt(tl.where(square == 0, 1.0, square))
    return scaled * root, inverse, root


@triton.jit
def _prepare_rows(
    u, b, parameters, member, row, layers, biases, WIDTH: tl.constexpr, PADDED: tl.constexpr, BLOCK: tl.constexpr
):
    """Rows (n, 1) of a member's parameters: unit vectors, then biases, padded with zeros to whole chunks."""
    column = tl.arange(0, BLOCK)[None, :]
    kind = parameters.dtype.element_ty
    given = tl.load(u + (member * layers + row) * WIDTH + column, mask=(row < layers) & (column < WIDTH), other=0)
    v = _unit(given.to(kind).to(tl.float64))[0]
    biased = (row >= layers) & (row < layers + biases)
    bias = tl.load(b + (member * biases + row - layers) * WIDTH + column, mask=biased & (column < WIDTH), other=0)
    out = parameters + (member * (layers + biases) + row) * PADDED + column
    tl.store(out, tl.where(row < layers, v.to(kind), bias.to(kind)), mask=(row < layers + biases) & (column < PADDED))


@triton.jit(do_not_specialize=["layers", "biases"])
def prepare(u, b, parameters, layers, biases, WIDTH: tl.constexpr, PADDED: tl.constexpr, BLOCK: tl.constexpr):
    """The parameters of every member: one program a row."""
    index = tl.program_id(0).to(tl.int64)
    row = index % (layers + biases) + tl.zeros((1, 1), tl.int64)
    _prepare_rows(u, b, parameters, index // (layers + biases), row, layers, biases, WIDTH, PADDED, BLOCK)


@triton.jit
def prepare_member(
    u, b, parameters, layers, biases,
    WIDTH: tl.constexpr, PADDED: tl.constexpr, BLOCK: tl.constexpr, TOGETHER: tl.constexpr,
):  # fmt: skip
    """The parameters of the program's member, some rows at a time."""
    member = tl.program_id(0).to(tl.int64)
    for first in range(0, layers + biases, TOGETHER):
        row = first + tl.arange(0, TOGETHER)[:, None]
        _prepare_rows(u, b, parameters, member, row, layers, biases, WIDTH, PADDED, BLOCK)


@triton.jit
def _finish_rows(
    found, u, grad_u, grad_b, member, row, layers, biases,
    WIDTH: tl.constexpr, C: tl.constexpr, LEVELS: tl.constexpr, kind: tl.constexpr,
):  # fmt: skip
    """Gradients of rows (n, 1) of a member's u and b from those of its unit vectors and biases: (n, C << LEVELS), in float64."""
    slot = tl.arange(0, C << LEVELS)[None, :]
    feature = (slot & ((1 << LEVELS) - 1)) * C + (slot >> LEVELS)
    at, is_u = (member * layers + row) * WIDTH + feature, (row < layers) & (feature < WIDTH)
    v, inverse, root = _unit(tl.load(u + at, mask=is_u, other=0).to(kind).to(tl.float64))
    tangent = (found - tl.sum(found * v, 1, keep_dims=True) * v) * root * inverse
    tl.store(grad_u + at, tangent.to(kind).to(grad_u.dtype.element_ty), mask=is_u)
    is_b = (row >= layers) & (row < layers + biases) & (feature < WIDTH)
    at = (member * biases + row - layers) * WIDTH + feature
    tl.store(grad_b + at, found.to(kind).to(grad_b.dtype.element_ty), mask=is_b)


@triton.jit(do_not_specialize=["layers", "biases", "programs"])
def finish(
    partial, u, grad_u, grad_b, layers, biases, programs,
    WIDTH: tl.constexpr, C: tl.constexpr, LEVELS: tl.constexpr, TOGETHER: tl.constexpr,
):  # fmt: skip
    """Adds the sums of a member's programs in their order and turns them into gradients: one program a row of u or b."""
    member = (tl.program_id(0) // (layers + biases)).to(tl.int64)
    row = tl.program_id(0) % (layers + biases)
    slot, several = tl.arange(0, C << LEVELS), tl.arange(0, TOGETHER)[:, None]
    sums = partial + (member * programs * (layers + biases) + row) * (C << LEVELS) + slot[None, :]
    stride = (layers + biases).to(tl.int64) * (C << LEVELS)
    total = tl.zeros((TOGETHER, C << LEVELS), tl.float64)
    for first in range(0, programs, TOGETHER):
        total += tl.load(sums + (first + several) * stride, mask=first + several < programs, other=0).to(tl.float64)
    found, rows = tl.sum(total, 0, keep_dims=True), row + tl.zeros((1, 1), tl.int32)
    _finish_rows(found, u, grad_u, grad_b, member, rows, layers, biases, WIDTH, C, LEVELS, partial.dtype.element_ty)


@triton.jit
def finish_member(
    partial, u, grad_u, grad_b, layers, biases,
    WIDTH: tl.constexpr, C: tl.constexpr, LEVELS: tl.constexpr, TOGETHER: tl.constexpr,
):  # fmt: skip
    """The gradients of the program's member, which no other program has sums of, some rows at a time."""
    member = tl.program_id(0).to(tl.int64)
    slot = tl.arange(0, C << LEVELS)[None, :]
    for first in range(0, layers + biases, TOGETHER):
        row = first + tl.arange(0, TOGETHER)[:, None]
        sums = partial + (member * (layers + biases) + row) * (C << LEVELS) + slot
        found = tl.load(sums, mask=row < layers + biases, other=0).to(tl.float64)
        _finish_rows(found, u, grad_u, grad_b, member, row, layers, biases, WIDTH, C, LEVELS, partial.dtype.element_ty)
