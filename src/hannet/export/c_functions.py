"""The functions that an exported C file is made of, each written only where it is called. `@` stands for the prefix of all names.

Sums run in `@_LANES` lanes that are added in a fixed order: a compiler turns them into vector instructions without -ffast-math, and
every machine that keeps to C's rules of arithmetic computes the same bits. A lane is a variable, as gcc keeps an array of them in
memory (3.6 times as slow at -O2). Other arrays have zeros up to a multiple of the lanes.
"""

from . import c_date_functions, c_integer_functions
from .template import swap


def lanes(count: int) -> str:
    """Macros: @_EACH writes a statement for each lane, @_SUM declares its sum, @_TOTAL adds the sums, halves to halves."""
    names = [f"s{lane}" for lane in range(count)]
    while len(names) > 1:
        half = len(names) // 2
        names = [f"({low} + {high})" for low, high in zip(names[:half], names[half:], strict=True)]
    each = " ".join(f"DO({lane})" for lane in range(count))
    return f"#define @_LANES {count}\n#define @_EACH(DO) {each}\n#define @_SUM(j) float s##j = 0.0f;\n#define @_TOTAL {names[0]}"


FUNCTIONS = {
    "columns": """
/* y = W x + b, W column after column, four at a time. */
static void @_columns(const float *restrict x, int inputs, const float *restrict weight, const float *restrict bias,
                      float *restrict y, int outputs)
{
    int i = 0;
    @_copy(bias, y, outputs);
    for (; i + 4 <= inputs; i += 4, weight += 4 * outputs) {
        const float *a = weight, *b = a + outputs, *c = b + outputs, *d = c + outputs;
        for (int o = 0; o < outputs; o += @_LANES)
            for (int j = 0; j < @_LANES; j++)
                y[o + j] += (a[o + j] * x[i] + b[o + j] * x[i + 1]) + (c[o + j] * x[i + 2] + d[o + j] * x[i + 3]);
    }
    for (; i < inputs; i++, weight += outputs)
        for (int o = 0; o < outputs; o += @_LANES)
            for (int j = 0; j < @_LANES; j++)
                y[o + j] += weight[o + j] * x[i];
}
""",
    "rows": """
/* y = W x + b, W row after row, for few outputs. */
static void @_rows(const float *restrict x, int inputs, const float *restrict weight, const float *restrict bias,
                   float *restrict y, int outputs)
{
#define @_STEP(j) s##j += weight[i + j] * x[i + j];
    for (int o = 0; o < outputs; o++, weight += inputs) {
        @_EACH(@_SUM)
        for (int i = 0; i < inputs; i += @_LANES) {
            @_EACH(@_STEP)
        }
        y[o] = @_TOTAL + bias[o];
    }
    for (int o = outputs; o % @_LANES; o++)
        y[o] = 0.0f;
#undef @_STEP
}
""",
    "han": """
/* x = |x - 2 v v'x + b|, layer after layer; the next layer's v'x is summed in the pass that writes this one's x. */
static void @_han(float *restrict x, const float *restrict v, const float *restrict b, int depth, int width)
{
#define @_STEP(j) s##j += x[i + j] * v[i + j];
#define @_CLEAR(j) s##j = 0.0f;
#define @_LAYER(j) { \\
        const float z = x[i + j] + along * v[i + j] + b[i + j]; \\
        const float y = z < 0.0f ? -z : z; \\
        x[i + j] = y; \\
        s##j += y * next[i + j]; \\
    }
    @_EACH(@_SUM)
    for (int i = 0; i < width; i += @_LANES) {
        @_EACH(@_STEP)
    }
    for (int layer = 0; layer < depth; layer++, v += width, b += width) {
        const float along = -2.0f * @_TOTAL;
        const float *next = layer + 1 < depth ? v + width : v;
        @_EACH(@_CLEAR)
        for (int i = 0; i < width; i += @_LANES) {
            @_EACH(@_LAYER)
        }
    }
#undef @_STEP
#undef @_CLEAR
#undef @_LAYER
}
""",
    "reflect": """
/* x = x - 2 v v'x. */
static void @_reflect(float *restrict x, const float *restrict v, int width)
{
#define @_STEP(j) s##j += x[i + j] * v[i + j];
    @_EACH(@_SUM)
    for (int i = 0; i < width; i += @_LANES) {
        @_EACH(@_STEP)
    }
    const float along = -2.0f * @_TOTAL;
    for (int i = 0; i < width; i++)
        x[i] += along * v[i];
#undef @_STEP
}
""",
    "shift": """
static void @_shift(float *restrict x, const float *restrict b, int width)
{
    for (int i = 0; i < width; i++)
        x[i] += b[i];
}
""",
    "abs": """
static void @_abs(float *x, int width)
{
    for (int i = 0; i < width; i++)
        x[i] = x[i] < 0.0f ? -x[i] : x[i];
}
""",
    "relu": """
static void @_relu(float *x, int width)
{
    for (int i = 0; i < width; i++)
        x[i] = x[i] < 0.0f ? 0.0f : x[i];
}
""",
    "sort": """
/* Sorts groups of neighbours; sign: 1 the smallest first, -1 the largest. */
static void @_sort(float *x, int width, int group, float sign)
{
    for (float *start = x; start < x + width; start += group)
        for (int i = 1; i < group; i++) {
            const float value = start[i];
            int place = i;
            for (; place > 0 && sign * start[place - 1] > sign * value; place--)
                start[place] = start[place - 1];
            start[place] = value;
        }
}
""",
    "zero": """
static void @_zero(float *x, int start, int end)
{
    for (int i = start; i < end; i++)
        x[i] = 0.0f;
}
""",
    "scale": """
/* The first `count` numbers times a factor each, then zeros. */
static void @_scale(float *restrict x, const float *restrict factor, int count, int end)
{
    for (int i = 0; i < count; i++)
        x[i] *= factor[i];
    @_zero(x, count, end);
}
""",
    "add": """
static void @_add(const float *restrict from, float *restrict to, int count)
{
    for (int i = 0; i < count; i++)
        to[i] += from[i];
}
""",
    "copy": """
static void @_copy(const float *restrict from, float *restrict to, int count)
{
    for (int i = 0; i < count; i++)
        to[i] = from[i];
}
""",
    "exp": """
/* e^x for x <= 0, to 2 units in the last place; 0 below -87. Polynomial: Cephes (Moshier, 1984). */
static float @_exp(float x)
{
    union { uint32_t bits; float value; } power;
    if (!(x >= -87.0f))
        return x < 0.0f ? 0.0f : x; /* NaN stays NaN */
    const int n = (int)(x * 1.44269504f - 0.5f);
    const float r = (x - (float)n * 0.693359375f) + (float)n * 2.12194440e-4f;
    float y = 1.9875691500e-4f;
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    power.bits = (uint32_t)(n + 127) << 23;
    return y * power.value;
}
""",
    "softmax": """
static void @_softmax(float *x, int count)
{
    float largest = x[0], sum = 0.0f;
    for (int i = 1; i < count; i++)
        largest = x[i] > largest ? x[i] : largest;
    for (int i = 0; i < count; i++) {
        x[i] = @_exp(x[i] - largest);
        sum += x[i];
    }
    for (int i = 0; i < count; i++)
        x[i] /= sum;
}
""",
    "bend": """
/* z / sqrt(1 + (z / 3)^2), for |z| up to 1e6: the root by two steps of Newton's method and one of Heron's. */
static float @_bend(float z)
{
    union { uint32_t bits; float value; } guess;
    const float third = z / 3.0f, square = 1.0f + third * third;
    guess.value = square;
    guess.bits = 0x5f3759dfu - (guess.bits >> 1);
    float inverse = guess.value;
    inverse *= 1.5f - 0.5f * square * inverse * inverse;
    inverse *= 1.5f - 0.5f * square * inverse * inverse;
    const float root = square * inverse;
    return z / (0.5f * (root + square / root));
}
""",
    "numbers": """
/* A column of numbers. The mean and where a stair starts are sums of two floats: so differences keep their digits. */
typedef struct {
    int column, stairs, flags;
    float mean, mean_rest, scale, height;
    const float *steps;            /* start, rest of start, 1 / length of each stair */
    const float *filled;           /* features of a missing number */
    const float *present, *absent; /* features that say whether the number is there */
} @_number;
""",
    "read_numbers": """
static void @_read_number(const @_number *n, float x, float *restrict scaled, float *restrict stair)
{
    float z = ((x - n->mean) - n->mean_rest) * n->scale;
    z = z > 1e6f ? 1e6f : z < -1e6f ? -1e6f : z;
    *scaled = @_bend(z);
    for (int k = 0; k < n->stairs; k++) {
        const float *step = n->steps + 3 * k;
        const float up = ((x - step[0]) - step[1]) * step[2];
        stair[k] = n->height * ((up > 1.0f ? 1.0f : up > 0.0f ? up : 0.0f) - 0.5f);
    }
}
""",
    "fill_numbers": """
static void @_read_numbers(const float *restrict row, float *restrict features)
{
    float *stair = features + @_NUMBERS, *flag = stair + @_STAIRS;
    for (int i = 0; i < @_NUMBERS; i++) {
        const @_number *n = &@_numbers[i];
        const float x = row[n->column];
        const int known = x < 1e30f && x > -1e30f; /* not so for NaN */
        if (known)
            @_read_number(n, x, features + i, stair);
        else {
            features[i] = n->filled[0];
            @_copy(n->filled + 1, stair, n->stairs);
        }
        @_copy(known ? n->present : n->absent, flag, n->flags);
        stair += n->stairs;
        flag += n->flags;
    }
}
""",
    "refuse_numbers": """
static int @_read_numbers(const float *restrict row, float *restrict features)
{
    float *stair = features + @_NUMBERS;
    for (int i = 0; i < @_NUMBERS; i++) {
        const float x = row[i];
        if (!(x <= 3.4028234e38f && x >= -3.4028234e38f)) /* so for NaN */
            return @_ERROR_NOT_FINITE;
        @_read_number(&@_numbers[i], x, features + i, stair);
        stair += @_numbers[i].stairs;
    }
    return @_OK;
}
""",
    "words": """
/* A column of words. */
typedef struct {
    int column, levels, width;
    const char *const *words;
    const float *table; /* a row of features for each level, for a missing word, for any other */
} @_category;
""",
    "read_words": """
static void @_read_words(const float *restrict row, float *restrict features)
{
    for (int i = 0; i < @_CATEGORIES; i++) {
        const @_category *c = &@_categories[i];
        const float x = row[c->column];
        int code = c->levels + 1;
        if (x != x)
            code = c->levels;
        else if (x >= 0.0f && x < (float)c->levels && (float)(int)x == x)
            code = (int)x;
        @_copy(c->table + code * c->width, features, c->width);
        features += c->width;
    }
}
""",
    "code": """
/* Whether two words are the same; without_case: small letters of ASCII in `known` stand for capitals too. */
static int @_same(const char *word, const char *known, int without_case)
{
    for (;; word++, known++) {
        const char letter = without_case && *word >= 'A' && *word <= 'Z' ? (char)(*word - 'A' + 'a') : *word;
        if (letter != *known)
            return 0;
        if (!letter)
            return 1;
    }
}

float @_code(int column, const char *word)
{
    union { uint32_t bits; float value; } missing;
    missing.bits = 0x7fc00000u; /* NaN */
    for (int i = 0; word && i < @_CATEGORIES; i++) {
        const @_category *c = &@_categories[i];
        if (c->column != column)
            continue;
        for (int code = 0; code < c->levels; code++)
            if (@_same(word, c->words[code], 0))
                return (float)code;
        for (int k = 0; k < (int)(sizeof @_missing / sizeof *@_missing); k++)
            if (@_same(word, @_missing[k], 1))
                return missing.value;
        return -1.0f;
    }
    return missing.value;
}
""",
    "class": """
int @_class(const float *out)
{
    int best = 0;
    for (int i = 1; i < @_OUTPUTS; i++)
        best = out[i] > out[best] ? i : best;
    return best;
}
""",
}


def _in_units(name: str) -> str:
    """The function for int32 instead of float."""
    text = FUNCTIONS[name].replace("float", "int32_t").replace("0.0f", "0")
    return swap(text, (f"@_{name}(", f"@_{name}_units("))


FUNCTIONS |= {f"{name}_units": _in_units(name) for name in ("abs", "relu", "sort", "zero", "copy")}
FUNCTIONS |= c_integer_functions.FUNCTIONS | c_date_functions.FUNCTIONS
FUNCTIONS["dates_and_numbers"] = swap(
    FUNCTIONS["numbers"],
    ("} @_number;", "    const float *table; /* of a part of a date with few values */\n} @_number;"),
)
FUNCTIONS["fill_dates_and_numbers"] = swap(
    FUNCTIONS["fill_numbers"],
    ("restrict row, float", "restrict row, const float *restrict dates, float"),
    ("row[n->column]", "n->column < @_INPUTS ? row[n->column] : dates[n->column - @_INPUTS]"),
    (
        "if (known)",
        "if (known && n->table)\n            @_look_up(n, (int)x, features + i, stair);\n        else if (known)",
    ),
)

NEEDS = {
    **c_integer_functions.NEEDS,
    "columns": ("copy",),
    "scale": ("zero",),
    "softmax": ("exp",),
    "read_numbers": ("bend",),
    "fill_numbers": ("copy", "read_numbers"),
    "fill_dates_and_numbers": ("copy", "read_numbers", "look_up"),
    "refuse_numbers": ("read_numbers",),
    "read_words": ("copy",),
}
