"""The passes over a stack, compiled by Triton: forward, backward, and the parameters before and their gradients after them.

A program holds a tile of rows in registers while all layers go over it, as `chunks` tensors of (rows, columns): column c of chunk k
is feature k * columns + c. Seven chunks of 16 columns serve 100 features where a power of two would take 128; a row's dot
product needs one exchange between threads, for its chunks lie in the same ones; and a thread's sign bits of several chunks
and layers make one word without any exchange. The backward pass rebuilds each layer's input; every program sums its tiles'
parameter gradients in memory of its own, and a last kernel adds the programs up in a fixed order.
"""

import triton
import triton.language as tl


@triton.jit
def _load_tile(source, at, inside, column, WIDTH: tl.constexpr, C: tl.constexpr, K: tl.constexpr, kind: tl.constexpr):
    """A tile as K chunks in the type of the arithmetic; zeros in the rows and columns that are missing.

    Adding 0 makes -0 a +0. From then on no -0 can come up: a sum is -0 only of two, and ABS leaves none.
    """
    tile = ()
    for k in tl.static_range(K):
        mask = inside & (column + k * C < WIDTH)
        tile += (tl.load(source + at + k * C, mask=mask, other=0).to(kind) + 0.0,)
    return tile


@triton.jit
def _store_tile(target, at, inside, column, tile, WIDTH: tl.constexpr, C: tl.constexpr, K: tl.constexpr):
    for k in tl.static_range(K):
        tl.store(target + at + k * C, tile[k].to(target.dtype.element_ty), mask=inside & (column + k * C < WIDTH))


@triton.jit
def _load_parameters(source, place, C: tl.constexpr, K: tl.constexpr):
    """One padded row of parameters as K chunks; `place` says what the threads hold of a chunk."""
    chunks = ()
    for k in tl.static_range(K):
        chunks += (tl.load(source + k * C + place),)
    return chunks


@triton.jit
def _dot(tile, v, K: tl.constexpr):
    """v . x of every row, (rows, 1)."""
    total = tile[0] * v[0]
    for k in tl.static_range(1, K):
        total += tile[k] * v[k]
    return tl.sum(total, 1)[:, None]


@triton.jit
def _reflect(tile, v, K: tl.constexpr):
    """x - 2 (v.x) v."""
    c = -2 * _dot(tile, v, K)
    moved = ()
    for k in tl.static_range(K):
        moved += (c * v[k] + tile[k],)
    return moved


@triton.jit
def _sign_bit(z):
    """1 where z < 0, from the bit itself, which takes one instruction to append to a word; z is never -0."""
    return (z < 0).to(tl.int32) if z.dtype == tl.float64 else (z.to(tl.int32, bitcast=True) >> 31) & 1


@triton.jit
def _sign(word, bit: tl.constexpr, kind: tl.constexpr):
    """-1 where this bit of the word is set, else 1."""
    if kind == tl.float64:
        sign = (1 - 2 * ((word >> bit) & 1)).to(kind)
    else:
        sign = ((word << (31 - bit)) & -2147483648 | 0x3F800000).to(tl.float32, bitcast=True)
    return sign


@triton.jit
def _unit(u):
    """v = u / ||u|| (0 where u = 0) for every finite norm, and two factors that make the norm. u in float64."""
    largest = tl.max(tl.abs(u), 0)
    largest = tl.where(largest == 0, 1.0, largest)
    scaled = u / largest
    square = tl.sum(scaled * scaled, 0)
    root = tl.sqrt(tl.where(square == 0, 1.0, square))
    return scaled / root, largest, root


@triton.jit
def _row(source, row, column, WIDTH: tl.constexpr, kind: tl.constexpr):
    """A row of parameters in the type of the arithmetic."""
    return tl.load(source + row * WIDTH + column, mask=column < WIDTH, other=0).to(kind)


@triton.jit(do_not_specialize=["layers", "biases"])
def prepare(u, b, parameters, layers, biases, WIDTH: tl.constexpr, PADDED: tl.constexpr, BLOCK: tl.constexpr):
    """Unit vectors, then biases, of every member: one program a row, padded with zeros to whole chunks."""
    index = tl.program_id(0).to(tl.int64)
    member, row = index // (layers + biases), index % (layers + biases)
    column = tl.arange(0, BLOCK)
    out = parameters + index * PADDED + column
    kind = parameters.dtype.element_ty
    if row < layers:
        v = _unit(_row(u, member * layers + row, column, WIDTH, kind).to(tl.float64))[0]
        tl.store(out, v.to(kind), mask=column < PADDED)
    else:
        tl.store(out, _row(b, member * biases + row - layers, column, WIDTH, kind), mask=column < PADDED)


@triton.jit(do_not_specialize=["rows", "layers", "biases"])
def forward(
    x, parameters, y, signs, rows, layers, biases,
    WIDTH: tl.constexpr, R: tl.constexpr, C: tl.constexpr, K: tl.constexpr, SPREAD: tl.constexpr,
    REFLECTIONS: tl.constexpr, FOLD: tl.constexpr, BIAS: tl.constexpr, KEEP: tl.constexpr, PER_WORD: tl.constexpr,
):  # fmt: skip
    """All layers over one tile: z = x + b - 2 (v.x) v, then |z| (Eq. 6)."""
    tiles = tl.cdiv(rows, R)
    member, first = (tl.program_id(0) // tiles).to(tl.int64), tl.program_id(0) % tiles * R
    row, column = tl.arange(0, R)[:, None], tl.max_contiguous(tl.arange(0, C), 4)[None, :]
    inside = first + row < rows
    offset, at = (member * rows + first) * WIDTH, row * WIDTH + column
    place = column + tl.zeros((R, 1), tl.int32) if SPREAD else column
    kind = parameters.dtype.element_ty
    v_row = parameters + member * (layers + biases) * (K * C)
    b_row = v_row + layers * (K * C)
    depth = layers // REFLECTIONS
    words = signs + (member * tl.cdiv(depth, PER_WORD) * rows + first) * C
    tile = _load_tile(x + offset, at, inside, column, WIDTH, C, K, kind)
    word = tl.zeros((R, C), tl.int32)
    for layer in range(depth):
        for _ in range(REFLECTIONS):
            tile = _reflect(tile, _load_parameters(v_row, place, C, K), K)
            v_row += K * C
        if BIAS:
            b = _load_parameters(b_row, place, C, K)
            b_row += K * C
        folded = ()
        for k in tl.static_range(K):
            z = tile[k] + b[k] if BIAS else tile[k]
            if FOLD and KEEP:
                word = (word << 1) | _sign_bit(z)
            folded += (tl.abs(z) if FOLD else z,)
        tile = folded
        if FOLD and KEEP:
            full = (layer % PER_WORD == PER_WORD - 1) | (layer == depth - 1)
            if full:
                tl.store(words + row * C + column, word.to(signs.dtype.element_ty), mask=inside)
                words += rows.to(tl.int64) * C
    _store_tile(y + offset, at, inside, column, tile, WIDTH, C, K)


@triton.jit
def _add(
    sums, tile, fresh, R: tl.constexpr, C: tl.constexpr, K: tl.constexpr, HELD: tl.constexpr, LEVELS: tl.constexpr
):
    """Adds each feature's sum over the rows to the program's own sums, 2^LEVELS a column; the first tile starts them.

    First over the HELD rows of a thread, then all chunks at once over the threads: each exchange between warps takes several barriers.
    """
    parts = ()
    for k in tl.static_range(1 << LEVELS):
        if k < K:
            parts += (tl.sum(tl.reshape(tile[k], (HELD, R // HELD, C)), 0),)
        else:
            parts += (tl.zeros((R // HELD, C), tile[0].dtype),)
    for level in tl.static_range(LEVELS):
        pairs = ()
        for k in tl.static_range(1 << (LEVELS - 1 - level)):
            pairs += (tl.join(parts[k], parts[k + (1 << (LEVELS - 1 - level))]),)
        parts = pairs
    found = tl.reshape(tl.sum(parts[0], 0), (C << LEVELS,))
    at = sums + tl.arange(0, C << LEVELS)
    if not fresh:
        found += tl.load(at)
    tl.store(at, found)


@triton.jit
def _minus(tile, b, K: tl.constexpr):
    difference = ()
    for k in tl.static_range(K):
        difference += (tile[k] - b[k],)
    return difference


@triton.jit
def _unfold(tile, grad, word, K: tl.constexpr):
    """s * y and s * grad_y; the lowest K bits of the word are those of the last chunk and down."""
    flipped, turned = (), ()
    for k in tl.static_range(K):
        sign = _sign(word, K - 1 - k, tile[k].dtype)
        flipped += (sign * tile[k],)
        turned += (sign * grad[k],)
    return flipped, turned


@triton.jit
def _unreflect(tile, grad, v, K: tl.constexpr):
    """x, its gradient, and that of v in every row, from w = H(v) x and g.

    p = v.w = -v.x, e = v.g, x = w - 2 p v, grad_x = g - 2 e v, grad_v = -2 (e x - p g).
    """
    p, e = 2 * _dot(tile, v, K), -2 * _dot(grad, v, K)
    rebuilt, turned, slopes = (), (), ()
    for k in tl.static_range(K):
        x = tile[k] - p * v[k]
        rebuilt += (x,)
        turned += (grad[k] + e * v[k],)
        slopes += (e * x + p * grad[k],)
    return rebuilt, turned, slopes


@triton.jit(do_not_specialize=["rows", "layers", "biases", "programs"])
def backward(
    grad_y, y, signs, parameters, grad_x, partial, rows, layers, biases, programs,
    WIDTH: tl.constexpr, R: tl.constexpr, C: tl.constexpr, K: tl.constexpr, SPREAD: tl.constexpr,
    REFLECTIONS: tl.constexpr, FOLD: tl.constexpr, BIAS: tl.constexpr, PER_WORD: tl.constexpr,
    HELD: tl.constexpr, LEVELS: tl.constexpr,
):  # fmt: skip
    """All layers backwards over one tile after the other: rebuilds x = H(u)(s*y - b) and sums the gradients; grad_b = s*grad_y."""
    member, program = (tl.program_id(0) // programs).to(tl.int64), tl.program_id(0) % programs
    row, column = tl.arange(0, R)[:, None], tl.max_contiguous(tl.arange(0, C), 4)[None, :]
    at = row * WIDTH + column
    place = column + tl.zeros((R, 1), tl.int32) if SPREAD else column
    kind = parameters.dtype.element_ty
    depth = layers // REFLECTIONS
    step = rows.to(tl.int64) * C
    sums = partial + tl.program_id(0).to(tl.int64) * (layers + biases) * (C << LEVELS)
    for index in range(program, tl.cdiv(rows, R), programs):
        # Other threads may have written what a thread is about to add to.
        tl.debug_barrier()
        first = index * R
        inside = first + row < rows
        offset = (member * rows + first) * WIDTH
        tile = _load_tile(y + offset, at, inside, column, WIDTH, C, K, kind)
        grad = _load_tile(grad_y + offset, at, inside, column, WIDTH, C, K, kind)
        v_row, v_sums = parameters + (member * (layers + biases) + layers) * (K * C), sums + layers * (C << LEVELS)
        b_row, b_sums = v_row + biases * (K * C), v_sums + biases * (C << LEVELS)
        words = signs + (member * tl.cdiv(depth, PER_WORD) * rows + first) * C
        words += tl.cdiv(depth, PER_WORD) * step
        word = tl.zeros((R, C), tl.int32)
        for above in range(depth):
            layer = depth - 1 - above
            if FOLD:
                top = (layer % PER_WORD == PER_WORD - 1) | (above == 0)
                if top:
                    words -= step
                    word = tl.load(words + row * C + column, mask=inside, other=0).to(tl.int32)
                tile, grad = _unfold(tile, grad, word, K)
                word = word >> K
            if BIAS:
                b_row -= K * C
                b_sums -= C << LEVELS
                tile = _minus(tile, _load_parameters(b_row, place, C, K), K)
                _add(b_sums, grad, index == program, R, C, K, HELD, LEVELS)
            for _ in range(REFLECTIONS):
                v_row -= K * C
                v_sums -= C << LEVELS
                tile, grad, slopes = _unreflect(tile, grad, _load_parameters(v_row, place, C, K), K)
                _add(v_sums, slopes, index == program, R, C, K, HELD, LEVELS)
        _store_tile(grad_x + offset, at, inside, column, grad, WIDTH, C, K)


@triton.jit(do_not_specialize=["layers", "biases", "programs"])
def finish(
    partial, u, grad_u, grad_b, layers, biases, programs,
    WIDTH: tl.constexpr, C: tl.constexpr, LEVELS: tl.constexpr, TOGETHER: tl.constexpr,
):  # fmt: skip
    """Adds the sums of a member's programs in their order and turns them into gradients: one program a row of u or b."""
    member = (tl.program_id(0) // (layers + biases)).to(tl.int64)
    row = tl.program_id(0) % (layers + biases)
    kind = partial.dtype.element_ty
    slot, several = tl.arange(0, C << LEVELS), tl.arange(0, TOGETHER)[:, None]
    sums = partial + (member * programs * (layers + biases) + row) * (C << LEVELS) + slot[None, :]
    stride = (layers + biases).to(tl.int64) * (C << LEVELS)
    total = tl.zeros((TOGETHER, C << LEVELS), tl.float64)
    for first in range(0, programs, TOGETHER):
        total += tl.load(sums + (first + several) * stride, mask=first + several < programs, other=0).to(tl.float64)
    found = tl.sum(total, 0)
    feature = (slot & ((1 << LEVELS) - 1)) * C + (slot >> LEVELS)
    if row < layers:
        v, largest, root = _unit(_row(u, member * layers + row, feature, WIDTH, kind).to(tl.float64))
        tangent = (found - tl.sum(found * v, 0) * v) / root / largest
        target = grad_u + (member * layers + row) * WIDTH + feature
        tl.store(target, tangent.to(kind).to(grad_u.dtype.element_ty), mask=feature < WIDTH)
    else:
        target = grad_b + (member * biases + row - layers) * WIDTH + feature
        tl.store(target, found.to(kind).to(grad_b.dtype.element_ty), mask=feature < WIDTH)
