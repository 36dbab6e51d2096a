"""The three passes over a stack, compiled by Numba: forward, backward, and the sum of what the threads found.

A tile stays in the cache while all layers go over it. The dot product that the next layer needs is summed in the pass that
writes this one; one sign bit per activation is kept; the backward pass rebuilds each layer's input.

A tile is a run of blocks. With the features along the rows it holds ROWS rows, each block a register's columns of them, and a dot
product ends in sums along the rows. With the features along the columns it holds as many columns as a block has elements, one
block a feature: u, b and the sums of gradients repeat each feature over a register, and no product needs a sum across lanes.
"""

import ctypes
import math
from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray, from_dtype, njit, types

from . import simd
from .cache import compile_c
from .simd import (
    ROWS,
    absolute,
    address_of,
    bytes_per_element,
    column_sums,
    columns_per_register,
    fetch_add,
    flip,
    fma,
    load_block,
    load_part,
    load_row,
    load_signs,
    pointer,
    row_sums,
    splat,
    splat_row,
    spread,
    store,
    store_part,
    store_signs,
)

FIELDS = (
    "ticket", "parts", "chunks", "members", "rows", "columns", "tiles", "padded", "depth", "width", "reflections",
    "apply_abs", "signs_bytes", "workspace", "workspace_bytes",
    "x", "u", "b", "y", "signs", "grad_y", "grad_x", "grad_u", "grad_b", "partial",
)  # fmt: skip
Job = from_dtype(np.dtype([(name, np.int64) for name in FIELDS]))


@njit(fastmath={"reassoc", "contract"}, error_model="numpy")
def _normalise(u, v):
    """v = u / ||u|| (0 where u = 0) for every finite norm; returns 1 / ||u||. Sums in float64."""
    total = 0.0
    for j in range(u.size):
        total += np.float64(u[j]) * np.float64(u[j])
    scale = 1.0
    if total < 1e-280 or total > 1e280:
        largest = 0.0
        for j in range(u.size):
            largest = max(largest, abs(np.float64(u[j])))
        if largest == 0.0:
            v[: u.size] = 0
            return 0.0
        if largest < math.inf:
            scale, total = largest, 0.0
            for j in range(u.size):
                total += (u[j] / scale) ** 2
    inverse = 1.0 / math.sqrt(total)
    for j in range(u.size):
        v[j] = np.float64(u[j]) / scale * inverse
    return inverse / scale


@njit(error_model="numpy")
def _prepare(job, member, v, b, kind):
    """Unit vectors and biases of one member, padded with zeros to whole registers, or each feature repeated over one."""
    size, width, padded = bytes_per_element(kind), job.width, job.padded
    copies = columns_per_register(kind) if job.columns else 1
    groups = job.depth // job.reflections
    units = carray(pointer(v, kind), (job.depth + 1, padded))
    biases = carray(pointer(b, kind), (job.depth, padded))
    u = carray(pointer(job.u + member * job.depth * width * size, kind), (job.depth, width))
    given = carray(pointer(job.b + member * groups * width * size, kind), (groups, width))
    for layer in range(job.depth):
        units[layer, width:] = 0
        _normalise(u[layer], units[layer])
        biases[layer] = 0
        if job.b != 0 and (layer + 1) % job.reflections == 0:
            biases[layer, :width] = given[layer // job.reflections]
        if copies > 1:
            _repeat(units[layer], width, copies)
            _repeat(biases[layer], width, copies)
    units[job.depth] = 0


@njit(error_model="numpy")
def _repeat(line, width, copies):
    """Each of the first `width` elements `copies` times, in place and so from the end."""
    for j in range(width - 1, -1, -1):
        line[j * copies : (j + 1) * copies] = line[j]


@njit(error_model="numpy")
def _place(job, index, kind):
    """The element at which tile `index` of a member starts, and how many rows or columns there are from there."""
    across = columns_per_register(kind) * ROWS
    if job.columns == 0:
        return index * ROWS * job.width, job.rows - index * ROWS
    beside = -(-job.columns // across)
    first = (index % beside) * across
    return (index // beside) * job.width * job.columns + first, job.columns - first


@njit(error_model="numpy", forceinline=True)
def _register(job, count, k, r, step):
    """The element, from its tile's start, at which register `r` of block `k` starts, and how many are left from there."""
    if job.columns == 0:
        return r * job.width + k * step, job.width - k * step if r < count else 0
    return k * job.columns + r * step, count - r * step


@njit(error_model="numpy")
def _load(job, source, index, tile, kind):
    """A tile into blocks; zeros in the rows and columns that are missing."""
    size, step = bytes_per_element(kind), columns_per_register(kind)
    first, count = _place(job, index, kind)
    for k in range(job.padded // step):
        for r in range(ROWS):
            at, left = _register(job, count, k, r, step)
            address, target = source + (first + at) * size, tile + (k * ROWS + r) * step * size
            if left >= step:
                store(target, load_row(address, kind))
            elif left > 0:
                store(target, load_part(address, left, kind))
            else:
                store(target, splat_row(kind))


@njit(error_model="numpy")
def _store(job, target, index, tile, kind):
    size, step = bytes_per_element(kind), columns_per_register(kind)
    first, count = _place(job, index, kind)
    for k in range(job.padded // step):
        for r in range(ROWS):
            at, left = _register(job, count, k, r, step)
            row = load_row(tile + (k * ROWS + r) * step * size, kind)
            if left >= step:
                store(target + (first + at) * size, row)
            elif left > 0:
                store_part(target + (first + at) * size, left, row)


@njit(error_model="numpy")
def _forward_tile(job, tile, signs, line_signs, v, b, kind):
    """All layers over one tile: z = x + b - 2 (v.x) v, then |z| (Eq. 6)."""
    size, step, padded = bytes_per_element(kind), columns_per_register(kind), job.padded
    line, block, word = padded * size, step * ROWS * size, step * ROWS // 8
    dot = splat(kind)
    for k in range(padded // step):
        dot = fma(load_block(tile + k * block, kind), spread(load_row(v + k * step * size, kind)), dot)
    for layer in range(job.depth):
        folds = job.apply_abs and (layer + 1) % job.reflections == 0
        c = dot if job.columns else row_sums(dot)
        c = splat(kind) - (c + c)
        dot = splat(kind)
        for k in range(padded // step):
            at = k * step * size
            x = load_block(tile + k * block, kind) + spread(load_row(b + at, kind))
            y = fma(c, spread(load_row(v + at, kind)), x)
            if folds:
                store_signs(signs + k * word, y)
                y = absolute(y)
            store(tile + k * block, y)
            dot = fma(y, spread(load_row(v + line + at, kind)), dot)
        v, b, signs = v + line, b + line, signs + line_signs


@njit(error_model="numpy")
def _forward(job, ticket, kind):
    size, padded = bytes_per_element(kind), job.padded
    items, member_bytes = job.members * job.tiles, job.rows * job.width * max(1, job.columns) * size
    while True:
        part = fetch_add(ticket, 1)
        if part >= job.parts:
            return
        v = job.workspace + part * job.workspace_bytes
        b = v + (job.depth + 1) * padded * size
        tile = b + job.depth * padded * size
        spare = tile + padded * ROWS * size
        member = -1
        for item in range(part * items // job.parts, (part + 1) * items // job.parts):
            if item // job.tiles != member:
                member = item // job.tiles
                _prepare(job, member, v, b, kind)
            index, offset = item % job.tiles, member * member_bytes
            signs = job.signs + item * job.signs_bytes if job.signs else spare
            _load(job, job.x + offset, index, tile, kind)
            _forward_tile(job, tile, signs, padded * ROWS // 8 if job.signs else 0, v, b, kind)
            _store(job, job.y + offset, index, tile, kind)


@njit(error_model="numpy", forceinline=True)
def _unfold(x, g, folds, signs, v, b, tile, grad, p, e, kind):
    """One block of a layer's output and its gradient, back before ABS and bias; p and e gain their products with v."""
    if folds:
        s = load_signs(signs, kind)
        x, g = flip(x, s), flip(g, s)
    w = x - spread(load_row(b, kind))
    store(tile, w)
    store(grad, g)
    unit = spread(load_row(v, kind))
    return fma(w, unit, p), fma(g, unit, e)


@njit(error_model="numpy")
def _backward_tile(job, tile, grad, signs, v, b, grad_v, grad_b, kind):
    """All layers backwards over one tile: rebuilds x = H(u)(s*y - b) and sums the gradients.

    With w = s*y - b and g = s*grad_y: p = v.w = -v.x, e = v.g, x = w - 2 p v, grad_x = g - 2 e v, grad_b = g and
    grad_v = -2 (e x - p g). The pass that finishes one layer starts the one below. The first layer's x ends in `tile`.
    """
    size, step, padded = bytes_per_element(kind), columns_per_register(kind), job.padded
    line, block, word, count = padded * size, step * ROWS * size, step * ROWS // 8, padded // step
    top = job.depth - 1
    v, b, grad_v, grad_b = v + top * line, b + top * line, grad_v + top * line, grad_b + top * line
    signs = signs + top * word * count
    folds = job.apply_abs and job.depth % job.reflections == 0
    p = e = splat(kind)
    for k in range(count):
        at, here = k * step * size, k * block
        y, g = load_block(tile + here, kind), load_block(grad + here, kind)
        p, e = _unfold(y, g, folds, signs + k * word, v + at, b + at, tile + here, grad + here, p, e, kind)
    for layer in range(top, -1, -1):
        folds = job.apply_abs and layer % job.reflections == 0
        if not job.columns:
            p, e = row_sums(p), row_sums(e)
        p, e = p + p, splat(kind) - (e + e)
        minus_p = splat(kind) - p
        p_below = e_below = splat(kind)
        for k in range(count):
            at, here = k * step * size, k * block
            w, g = load_block(tile + here, kind), load_block(grad + here, kind)
            unit = spread(load_row(v + at, kind))
            x = fma(minus_p, unit, w)
            store(grad_b + at, load_row(grad_b + at, kind) + column_sums(g))
            store(grad_v + at, load_row(grad_v + at, kind) + column_sums(fma(e, x, p * g)))
            g = fma(e, unit, g)
            if layer == 0:
                store(tile + here, x)
                store(grad + here, g)
            else:
                below = signs + (k - count) * word
                p_below, e_below = _unfold(
                    x, g, folds, below, v + at - line, b + at - line, tile + here, grad + here, p_below, e_below, kind
                )
        p, e = p_below, e_below
        v, b, signs, grad_v, grad_b = v - line, b - line, signs - word * count, grad_v - line, grad_b - line


@njit(error_model="numpy")
def _backward(job, ticket, kind):
    """Chunk by chunk of a member's rows, each with sums of its own: the chunks, not the threads, fix the order of adding."""
    size, padded = bytes_per_element(kind), job.padded
    items, member_bytes = job.members * job.chunks, job.rows * job.width * max(1, job.columns) * size
    sums = job.depth * padded
    while True:
        part = fetch_add(ticket, 1)
        if part >= job.parts:
            return
        v = job.workspace + part * job.workspace_bytes
        b = v + (job.depth + 1) * padded * size
        tile = b + job.depth * padded * size
        grad = tile + padded * ROWS * size
        prepared = -1
        for item in range(part * items // job.parts, (part + 1) * items // job.parts):
            member, chunk = item // job.chunks, item % job.chunks
            if member != prepared:
                _prepare(job, member, v, b, kind)
                prepared = member
            grad_v = job.partial + item * 2 * sums * size
            grad_b = grad_v + sums * size
            carray(pointer(grad_v, kind), 2 * sums)[:] = 0
            offset = member * member_bytes
            for index in range(chunk * job.tiles // job.chunks, (chunk + 1) * job.tiles // job.chunks):
                signs = job.signs + (member * job.tiles + index) * job.signs_bytes
                _load(job, job.y + offset, index, tile, kind)
                _load(job, job.grad_y + offset, index, grad, kind)
                _backward_tile(job, tile, grad, signs, v, b, grad_v, grad_b, kind)
                _store(job, job.grad_x + offset, index, grad, kind)
                if job.x:
                    _store(job, job.x + offset, index, tile, kind)


@njit(fastmath={"reassoc", "contract"}, error_model="numpy")
def _tangent(grad_v, v, inverse, out):
    """Gradient of u from that of v = u / ||u||: (g - (v.g) v) / ||u||."""
    along = 0.0
    for j in range(out.size):
        along += np.float64(grad_v[j]) * np.float64(v[j])
    for j in range(out.size):
        out[j] = (grad_v[j] - along * v[j]) * inverse


@njit(error_model="numpy")
def _gather(sums, width):
    """The sum over each feature's lanes, in place.  sums: (2, width * lanes)."""
    lanes = sums.shape[1] // width
    for j in range(width):
        for i in range(2):
            total = sums[i, j * lanes]
            for k in range(1, lanes):
                total += sums[i, j * lanes + k]
            sums[i, j] = total


@njit(error_model="numpy")
def _finish(job, ticket, kind):
    """Adds the sums of a member's chunks in their order and turns them into gradients."""
    padded, width, depth = job.padded, job.width, job.depth
    layers, groups = job.members * depth, depth // job.reflections
    u = carray(pointer(job.u, kind), (layers, width))
    grad_u = carray(pointer(job.grad_u, kind), (layers, width))
    grad_b = carray(pointer(job.grad_b, kind), (job.members, groups, width))
    partial = carray(pointer(job.partial, kind), (job.members, job.chunks, 2, depth, padded))
    while True:
        part = fetch_add(ticket, 1)
        if part >= job.parts:
            return
        v = carray(pointer(job.workspace + part * job.workspace_bytes, kind), width)
        for index in range(part * layers // job.parts, (part + 1) * layers // job.parts):
            member, layer = index // depth, index % depth
            sums = partial[member, 0, :, layer]
            for chunk in range(1, job.chunks):
                sums += partial[member, chunk, :, layer]
            if job.columns:
                _gather(sums, width)
            inverse = _normalise(u[index], v)
            _tangent(sums[0], v, inverse, grad_u[index])
            if job.grad_b != 0 and (layer + 1) % job.reflections == 0:
                grad_b[member, layer // job.reflections] = sums[1, :width]


def _entries(kind: Any, register: int) -> dict[str, Any]:
    """The three passes as C functions of one Job. `register`, by which the code differs, is for the cache to see."""

    def forward(job):  # type: ignore[no-untyped-def]
        _ = register
        _forward(carray(job, 1)[0], address_of(job), kind)

    def backward(job):  # type: ignore[no-untyped-def]
        _ = register
        _backward(carray(job, 1)[0], address_of(job), kind)

    def finish(job):  # type: ignore[no-untyped-def]
        _ = register
        _finish(carray(job, 1)[0], address_of(job), kind)

    return {"forward": forward, "backward": backward, "finish": finish}


@cache
def compiled(name: str, dtype: torch.dtype) -> tuple[Any, int]:
    """A pass as something Python can call and as an address; compiled once and cached on disk where that is possible."""
    kind = {torch.float32: np.float32(0), torch.float64: np.float64(0)}[dtype]
    function = compile_c(_entries(kind, simd.REGISTER)[name], types.void(types.CPointer(Job)))
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(function.address)
    call.owner = function  # the machine code lives as long as this
    return call, function.address
