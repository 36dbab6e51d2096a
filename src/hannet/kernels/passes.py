"""The three passes over a stack, compiled by Numba: forward, backward, and the sum of what the threads found.

A tile of ROWS rows stays in the first-level cache while all layers go over it. The dot product that the next layer needs
is summed in the pass that writes this one; one sign bit per activation is kept; the backward pass rebuilds each layer's input.
"""

import ctypes
import hashlib
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numba import carray, cfunc, from_dtype, njit, types

from . import simd
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
    "ticket", "parts", "chunks", "members", "rows", "depth", "width", "reflections", "fold", "signs_bytes", "workspace", "workspace_bytes",
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
def _padded(width, kind):
    step = columns_per_register(kind)
    return -(-width // step) * step


@njit(error_model="numpy")
def _prepare(job, member, v, b, kind):
    """Unit vectors and biases of one member, padded with zeros to whole registers."""
    size, width, padded = bytes_per_element(kind), job.width, _padded(job.width, kind)
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
    units[job.depth] = 0


@njit(error_model="numpy")
def _load_tile(source, tile, rows, width, kind):
    """Up to ROWS rows of `width` elements into blocks; zeros in the rows and columns that are missing."""
    size, step = bytes_per_element(kind), columns_per_register(kind)
    for r in range(ROWS):
        for j in range(0, width, step):
            target = tile + (j * ROWS + r * step) * size
            if r >= rows:
                store(target, splat_row(kind))
            elif j + step <= width:
                store(target, load_row(source + (r * width + j) * size, kind))
            else:
                store(target, load_part(source + (r * width + j) * size, width - j, kind))


@njit(error_model="numpy")
def _store_tile(target, tile, rows, width, kind):
    size, step = bytes_per_element(kind), columns_per_register(kind)
    for r in range(rows):
        for j in range(0, width, step):
            row = load_row(tile + (j * ROWS + r * step) * size, kind)
            if j + step <= width:
                store(target + (r * width + j) * size, row)
            else:
                store_part(target + (r * width + j) * size, width - j, row)


@njit(error_model="numpy")
def _forward_tile(job, tile, signs, line_signs, v, b, kind):
    """All layers over one tile: z = x + b - 2 (v.x) v, then |z| (Eq. 6)."""
    size, step, padded = bytes_per_element(kind), columns_per_register(kind), _padded(job.width, kind)
    line, block, word = padded * size, step * ROWS * size, step * ROWS // 8
    dot = splat(kind)
    for k in range(padded // step):
        dot = fma(load_block(tile + k * block, kind), spread(load_row(v + k * step * size, kind)), dot)
    for layer in range(job.depth):
        folds = job.fold and (layer + 1) % job.reflections == 0
        c = row_sums(dot)
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
    size, padded = bytes_per_element(kind), _padded(job.width, kind)
    tiles = -(-job.rows // ROWS)
    items = job.members * tiles
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
            if item // tiles != member:
                member = item // tiles
                _prepare(job, member, v, b, kind)
            first = (item % tiles) * ROWS
            rows = min(ROWS, job.rows - first)
            offset = (member * job.rows + first) * job.width * size
            signs = job.signs + item * job.signs_bytes if job.signs else spare
            _load_tile(job.x + offset, tile, rows, job.width, kind)
            _forward_tile(job, tile, signs, padded * ROWS // 8 if job.signs else 0, v, b, kind)
            _store_tile(job.y + offset, tile, rows, job.width, kind)


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
    grad_v = -2 (e x - p g). The pass that finishes one layer starts the one below.
    """
    size, step, padded = bytes_per_element(kind), columns_per_register(kind), _padded(job.width, kind)
    line, block, word, count = padded * size, step * ROWS * size, step * ROWS // 8, padded // step
    top = job.depth - 1
    v, b, grad_v, grad_b = v + top * line, b + top * line, grad_v + top * line, grad_b + top * line
    signs = signs + top * word * count
    folds = job.fold and job.depth % job.reflections == 0
    p = e = splat(kind)
    for k in range(count):
        at, here = k * step * size, k * block
        y, g = load_block(tile + here, kind), load_block(grad + here, kind)
        p, e = _unfold(y, g, folds, signs + k * word, v + at, b + at, tile + here, grad + here, p, e, kind)
    for layer in range(top, -1, -1):
        folds = job.fold and layer % job.reflections == 0
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
    size, padded = bytes_per_element(kind), _padded(job.width, kind)
    tiles, items = -(-job.rows // ROWS), job.members * job.chunks
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
            for index in range(chunk * tiles // job.chunks, (chunk + 1) * tiles // job.chunks):
                rows = min(ROWS, job.rows - index * ROWS)
                offset = (member * job.rows + index * ROWS) * job.width * size
                signs = job.signs + (member * tiles + index) * job.signs_bytes
                _load_tile(job.y + offset, tile, rows, job.width, kind)
                _load_tile(job.grad_y + offset, grad, rows, job.width, kind)
                _backward_tile(job, tile, grad, signs, v, b, grad_v, grad_b, kind)
                _store_tile(job.grad_x + offset, grad, rows, job.width, kind)


@njit(fastmath={"reassoc", "contract"}, error_model="numpy")
def _tangent(grad_v, v, inverse, out):
    """Gradient of u from that of v = u / ||u||: (g - (v.g) v) / ||u||."""
    along = 0.0
    for j in range(out.size):
        along += np.float64(grad_v[j]) * np.float64(v[j])
    for j in range(out.size):
        out[j] = (grad_v[j] - along * v[j]) * inverse


@njit(error_model="numpy")
def _finish(job, ticket, kind):
    """Adds the sums of a member's chunks in their order and turns them into gradients."""
    padded, width, depth = _padded(job.width, kind), job.width, job.depth
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
            inverse = _normalise(u[index], v)
            _tangent(sums[0], v, inverse, grad_u[index])
            if job.grad_b != 0 and (layer + 1) % job.reflections == 0:
                grad_b[member, layer // job.reflections] = sums[1, :width]


def _entries(kind: Any, source: str) -> dict[str, Any]:
    """The three passes as C functions of one Job. Numba's cache watches this file alone: `source` stands for simd.py."""

    def forward(job):  # type: ignore[no-untyped-def]
        _ = source
        _forward(carray(job, 1)[0], address_of(job), kind)

    def backward(job):  # type: ignore[no-untyped-def]
        _ = source
        _backward(carray(job, 1)[0], address_of(job), kind)

    def finish(job):  # type: ignore[no-untyped-def]
        _ = source
        _finish(carray(job, 1)[0], address_of(job), kind)

    return {"forward": forward, "backward": backward, "finish": finish}


@cache
def compiled(name: str, dtype: torch.dtype) -> tuple[Any, int]:
    """A pass as something Python can call and as an address; compiled once and cached on disk where that is possible."""
    kind = {torch.float32: np.float32(0), torch.float64: np.float64(0)}[dtype]
    source = f"{simd.REGISTER} {ROWS} {hashlib.sha256(Path(simd.__file__).read_bytes()).hexdigest()}"
    entry, signature = _entries(kind, source)[name], types.void(types.CPointer(Job))
    try:
        function = cfunc(signature, cache=True)(entry)
    except RuntimeError:  # no writable folder for the cache
        function = cfunc(signature)(entry)
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(function.address)
    call.owner = function  # the machine code lives as long as this
    return call, function.address
