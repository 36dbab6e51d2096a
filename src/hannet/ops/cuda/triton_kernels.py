"""The passes over a stack, compiled by Triton: forward and backward.

A program holds a tile of rows in registers while all layers go over it, as `held` times `chunks` tensors of (rows, columns), of which
every thread has one row: column c of chunk k is feature k * columns + c. Seven chunks of 16 columns serve 100 features where a
power of two would take 128; a row's dot product needs one exchange between threads, for its chunks lie in the same ones; the rows of a
thread share the parameters that it loads; and a thread's sign bits of several chunks and layers make one word without any exchange.
The backward pass rebuilds each layer's input; every program sums its tiles' parameter gradients in memory of its own, and a last
kernel adds the programs up in a fixed order. Where one tile has all rows of a member a pass is one launch, `..._alone`: what would
be launches before and after it are parts of the same program, so that programs share nothing there either.
"""

import triton
import triton.language as tl

from .triton_parameters import finish, finish_member, prepare, prepare_member  # noqa: F401  launched from here


@triton.jit
def _load_tile(
    source, row, column, left,
    WIDTH: tl.constexpr, P: tl.constexpr, C: tl.constexpr, K: tl.constexpr, HELD: tl.constexpr, kind: tl.constexpr,
):  # fmt: skip
    """A tile as HELD times K parts in the type of the arithmetic; zeros where rows and columns are missing. left: rows there are.

    Adding 0 makes -0 a +0. From then on no -0 can come up: a sum is -0 only of two, and ABS leaves none.
    """
    tile = ()
    for part in tl.static_range(HELD * K):
        mask = (row + part // K * P < left) & (column + part % K * C < WIDTH)
        at = (row + part // K * P) * WIDTH + column + part % K * C
        tile += (tl.load(source + at, mask=mask, other=0).to(kind) + 0.0,)
    return tile


@triton.jit
def _store_tile(
    target, row, column, left, tile,
    WIDTH: tl.constexpr, P: tl.constexpr, C: tl.constexpr, K: tl.constexpr, HELD: tl.constexpr,
):  # fmt: skip
    for part in tl.static_range(HELD * K):
        mask = (row + part // K * P < left) & (column + part % K * C < WIDTH)
        at = (row + part // K * P) * WIDTH + column + part % K * C
        tl.store(target + at, tile[part].to(target.dtype.element_ty), mask=mask)


@triton.jit
def _load_parameters(source, place, C: tl.constexpr, K: tl.constexpr):
    """One padded row of parameters as K chunks, what a thread needs of them in every thread."""
    chunks = ()
    for k in tl.static_range(K):
        chunks += (tl.load(source + k * C + place),)
    return chunks


@triton.jit
def _dots(tile, v, factor: tl.constexpr, K: tl.constexpr, HELD: tl.constexpr):
    """factor v . x of every row: HELD times (P, 1)."""
    found = ()
    for h in tl.static_range(HELD):
        total = tile[h * K] * v[0]
        for k in tl.static_range(1, K):
            total += tile[h * K + k] * v[k]
        found += (factor * tl.sum(total, 1)[:, None],)
    return found


@triton.jit
def _reflect(tile, v, K: tl.constexpr, HELD: tl.constexpr):
    """x - 2 (v.x) v."""
    c = _dots(tile, v, -2, K, HELD)
    moved = ()
    for part in tl.static_range(HELD * K):
        moved += (c[part // K] * v[part % K] + tile[part],)
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


@triton.jit(do_not_specialize=["rows", "layers", "biases"])
def forward(
    x, parameters, y, signs, rows, layers, biases,
    WIDTH: tl.constexpr, R: tl.constexpr, HELD: tl.constexpr, C: tl.constexpr, K: tl.constexpr,
    REFLECTIONS: tl.constexpr, FOLD: tl.constexpr, BIAS: tl.constexpr, KEEP: tl.constexpr, PER_WORD: tl.constexpr,
):  # fmt: skip
    """All layers over one tile: z = x + b - 2 (v.x) v, then |z| (Eq. 6)."""
    P: tl.constexpr = R // HELD
    BESIDE: tl.constexpr = C if C < 4 else 4  # noqa: FURB136  columns of a thread; for Triton min is no constant
    tiles = tl.cdiv(rows, R)
    member, first = (tl.program_id(0) // tiles).to(tl.int64), tl.program_id(0) % tiles * R
    row, column = tl.arange(0, P)[:, None], tl.max_contiguous(tl.arange(0, C), BESIDE)[None, :]
    offset, left = (member * rows + first) * WIDTH, rows - first
    place = column + tl.zeros((P, 1), tl.int32)
    kind = parameters.dtype.element_ty
    v_row = parameters + member * (layers + biases) * (K * C)
    b_row = v_row + layers * (K * C)
    depth = layers // REFLECTIONS
    words = signs + (member * tl.cdiv(depth, PER_WORD) * rows + first) * C
    tile = _load_tile(x + offset, row, column, left, WIDTH, P, C, K, HELD, kind)
    word = _no_signs(P, C, HELD)
    for layer in range(depth):
        for _ in range(REFLECTIONS):
            tile = _reflect(tile, _load_parameters(v_row, place, C, K), K, HELD)
            v_row += K * C
        if BIAS:
            tile = _plus(tile, _load_parameters(b_row, place, C, K), K, HELD)
            b_row += K * C
        if FOLD:
            if KEEP:
                word = _append_signs(word, tile, K, HELD)
            tile = _fold(tile, K, HELD)
        if FOLD and KEEP:
            full = (layer % PER_WORD == PER_WORD - 1) | (layer == depth - 1)
            if full:
                for h in tl.static_range(HELD):
                    at = (row + h * P) * C + column
                    tl.store(words + at, word[h].to(signs.dtype.element_ty), mask=row + h * P < left)
                words += rows.to(tl.int64) * C
    _store_tile(y + offset, row, column, left, tile, WIDTH, P, C, K, HELD)


@triton.jit
def _no_signs(P: tl.constexpr, C: tl.constexpr, HELD: tl.constexpr):
    words = ()
    for _ in tl.static_range(HELD):
        words += (tl.zeros((P, C), tl.int32),)
    return words


@triton.jit
def _plus(tile, b, K: tl.constexpr, HELD: tl.constexpr):
    moved = ()
    for part in tl.static_range(HELD * K):
        moved += (tile[part] + b[part % K],)
    return moved


@triton.jit
def _fold(tile, K: tl.constexpr, HELD: tl.constexpr):
    folded = ()
    for part in tl.static_range(HELD * K):
        folded += (tl.abs(tile[part]),)
    return folded


@triton.jit
def _append_signs(word, tile, K: tl.constexpr, HELD: tl.constexpr):
    """A row's bits of all chunks after those that its word has."""
    longer = ()
    for h in tl.static_range(HELD):
        bits = word[h]
        for k in tl.static_range(K):
            bits = (bits << 1) | _sign_bit(tile[h * K + k])
        longer += (bits,)
    return longer


@triton.jit
def _add(sums, parts, fresh, P: tl.constexpr, C: tl.constexpr, K: tl.constexpr, LEVELS: tl.constexpr):
    """Adds each feature's sum over the rows (P, C) to the program's own sums, 2^LEVELS a column; the first tile starts them.

    A sum over threads takes five shuffles and additions a value, and a barrier for every few between warps. Halves of a tensor are added
    within threads: for tl.split the compiler puts both into one, with a single exchange for all halvings.
    """
    padded = ()
    for k in tl.static_range(1 << LEVELS):
        padded += (parts[k] if k < K else tl.zeros((P, C), parts[0].dtype),)
    for level in tl.static_range(LEVELS):
        pairs = ()
        for k in tl.static_range(1 << (LEVELS - 1 - level)):
            pairs += (tl.join(padded[k], padded[k + (1 << (LEVELS - 1 - level))]),)
        padded = pairs
    found = tl.reshape(padded[0], (P, C << LEVELS))
    for level in tl.static_range(10):
        if P >> level > 1:
            one, other = tl.split(tl.permute(tl.reshape(found, (2, P >> (level + 1), C << LEVELS)), (1, 2, 0)))
            found = one + other
    found = tl.reshape(found, (C << LEVELS,))
    at = sums + tl.arange(0, C << LEVELS)
    if not fresh:
        found += tl.load(at)
    tl.store(at, found)


@triton.jit
def _unfold(tile, grad, word, b, BIAS: tl.constexpr, K: tl.constexpr, HELD: tl.constexpr):
    """s * y - b and s * grad_y; the lowest K bits of a word are those of the last chunk and down."""
    before, turned = (), ()
    for part in tl.static_range(HELD * K):
        sign = _sign(word[part // K], K - 1 - part % K, tile[part].dtype)
        before += (sign * tile[part] - b[part % K] if BIAS else sign * tile[part],)
        turned += (sign * grad[part],)
    return before, turned


@triton.jit
def _minus(tile, b, K: tl.constexpr, HELD: tl.constexpr):
    moved = ()
    for part in tl.static_range(HELD * K):
        moved += (tile[part] - b[part % K],)
    return moved


@triton.jit
def _over_held(tile, K: tl.constexpr, HELD: tl.constexpr):
    """Sums over the rows of each thread: K times (P, C)."""
    sums = ()
    for k in tl.static_range(K):
        total = tile[k]
        for h in tl.static_range(1, HELD):
            total += tile[h * K + k]
        sums += (total,)
    return sums


@triton.jit
def _unreflect(tile, grad, v, K: tl.constexpr, HELD: tl.constexpr):
    """x, its gradient, and that of v summed over the rows of each thread, from w = H(v) x and g.

    p = v.w = -v.x, e = v.g, x = w - 2 p v, grad_x = g - 2 e v, grad_v = -2 (e x - p g).
    """
    p, e = _dots(tile, v, 2, K, HELD), _dots(grad, v, -2, K, HELD)
    rebuilt, turned, slopes = (), (), ()
    for part in tl.static_range(HELD * K):
        rebuilt += (tile[part] - p[part // K] * v[part % K],)
        turned += (grad[part] + e[part // K] * v[part % K],)
    for k in tl.static_range(K):
        total = e[0] * rebuilt[k] + p[0] * grad[k]
        for h in tl.static_range(1, HELD):
            total += e[h] * rebuilt[h * K + k]
            total += p[h] * grad[h * K + k]
        slopes += (total,)
    return rebuilt, turned, slopes


@triton.jit(do_not_specialize=["rows", "layers", "biases", "programs"])
def backward(
    grad_y, y, signs, parameters, grad_x, partial, rows, layers, biases, programs,
    WIDTH: tl.constexpr, R: tl.constexpr, HELD: tl.constexpr, C: tl.constexpr, K: tl.constexpr,
    REFLECTIONS: tl.constexpr, FOLD: tl.constexpr, BIAS: tl.constexpr, PER_WORD: tl.constexpr, LEVELS: tl.constexpr,
):  # fmt: skip
    """All layers backwards over one tile after the other: rebuilds x = H(u)(s*y - b) and sums the gradients; grad_b = s*grad_y."""
    P: tl.constexpr = R // HELD
    BESIDE: tl.constexpr = C if C < 4 else 4  # noqa: FURB136  columns of a thread; for Triton min is no constant
    member, program = (tl.program_id(0) // programs).to(tl.int64), tl.program_id(0) % programs
    row, column = tl.arange(0, P)[:, None], tl.max_contiguous(tl.arange(0, C), BESIDE)[None, :]
    place = column + tl.zeros((P, 1), tl.int32)
    kind = parameters.dtype.element_ty
    depth = layers // REFLECTIONS
    step = rows.to(tl.int64) * C
    sums = partial + tl.program_id(0).to(tl.int64) * (layers + biases) * (C << LEVELS)
    for index in range(program, tl.cdiv(rows, R), programs):
        # Other threads may have written what a thread is about to add to.
        tl.debug_barrier()
        first = index * R
        offset, left = (member * rows + first) * WIDTH, rows - first
        tile = _load_tile(y + offset, row, column, left, WIDTH, P, C, K, HELD, kind)
        grad = _load_tile(grad_y + offset, row, column, left, WIDTH, P, C, K, HELD, kind)
        v_row, v_sums = parameters + (member * (layers + biases) + layers) * (K * C), sums + layers * (C << LEVELS)
        b_row, b_sums = v_row + biases * (K * C), v_sums + biases * (C << LEVELS)
        words = signs + (member * tl.cdiv(depth, PER_WORD) * rows + first) * C
        words += tl.cdiv(depth, PER_WORD) * step
        word = _no_signs(P, C, HELD)
        for above in range(depth):
            layer = depth - 1 - above
            if BIAS:
                b_row -= K * C
                b_sums -= C << LEVELS
                b = _load_parameters(b_row, place, C, K)
            else:
                b = ()
            if FOLD:
                top = (layer % PER_WORD == PER_WORD - 1) | (above == 0)
                if top:
                    words -= step
                    word = _load_words(words, row, column, left, P, C, HELD)
                tile, grad = _unfold(tile, grad, word, b, BIAS, K, HELD)
                word = _drop_signs(word, K, HELD)
            elif BIAS:
                tile = _minus(tile, b, K, HELD)
            if BIAS:
                _add(b_sums, _over_held(grad, K, HELD), index == program, P, C, K, LEVELS)
            for _ in range(REFLECTIONS):
                v_row -= K * C
                v_sums -= C << LEVELS
                tile, grad, slopes = _unreflect(tile, grad, _load_parameters(v_row, place, C, K), K, HELD)
                _add(v_sums, slopes, index == program, P, C, K, LEVELS)
        _store_tile(grad_x + offset, row, column, left, grad, WIDTH, P, C, K, HELD)


@triton.jit
def _load_words(source, row, column, left, P: tl.constexpr, C: tl.constexpr, HELD: tl.constexpr):
    words = ()
    for h in tl.static_range(HELD):
        at = (row + h * P) * C + column
        words += (tl.load(source + at, mask=row + h * P < left, other=0).to(tl.int32),)
    return words


@triton.jit
def _drop_signs(word, K: tl.constexpr, HELD: tl.constexpr):
    """Without the bits of a layer."""
    rest = ()
    for h in tl.static_range(HELD):
        rest += (word[h] >> K,)
    return rest


@triton.jit(do_not_specialize=["rows", "layers", "biases"])
def forward_alone(
    x, u, b, parameters, y, signs, rows, layers, biases,
    WIDTH: tl.constexpr, R: tl.constexpr, HELD: tl.constexpr, C: tl.constexpr, K: tl.constexpr,
    REFLECTIONS: tl.constexpr, FOLD: tl.constexpr, BIAS: tl.constexpr, KEEP: tl.constexpr, PER_WORD: tl.constexpr,
    LEVELS: tl.constexpr, TOGETHER: tl.constexpr,
):  # fmt: skip
    """prepare and forward: one program a member, whose rows are one tile."""
    prepare_member(u, b, parameters, layers, biases, WIDTH, K * C, C << LEVELS, TOGETHER)
    tl.debug_barrier()  # other threads wrote what a thread reads
    forward(
        x, parameters, y, signs, rows, layers, biases,
        WIDTH, R, HELD, C, K, REFLECTIONS, FOLD, BIAS, KEEP, PER_WORD,
    )  # fmt: skip


@triton.jit(do_not_specialize=["rows", "layers", "biases"])
def backward_alone(
    grad_y, y, signs, u, b, parameters, grad_x, partial, grad_u, grad_b, rows, layers, biases,
    WIDTH: tl.constexpr, R: tl.constexpr, HELD: tl.constexpr, C: tl.constexpr, K: tl.constexpr,
    REFLECTIONS: tl.constexpr, FOLD: tl.constexpr, BIAS: tl.constexpr, PER_WORD: tl.constexpr,
    LEVELS: tl.constexpr, TOGETHER: tl.constexpr,
):  # fmt: skip
    """prepare, backward and finish: one program a member."""
    prepare_member(u, b, parameters, layers, biases, WIDTH, K * C, C << LEVELS, TOGETHER)
    tl.debug_barrier()
    backward(
        grad_y, y, signs, parameters, grad_x, partial, rows, layers, biases, 1,
        WIDTH, R, HELD, C, K, REFLECTIONS, FOLD, BIAS, PER_WORD, LEVELS,
    )  # fmt: skip
    tl.debug_barrier()
    finish_member(partial, u, grad_u, grad_b, layers, biases, WIDTH, C, LEVELS, TOGETHER)
