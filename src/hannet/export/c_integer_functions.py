"""Functions of members in integers alone; others are those of `c_functions` with another type. Sums are exact: their order does not matter.

`@_weight` is int16_t or int8_t. Values are rounded without shifting negative ones, which C99 leaves to the compiler.
"""

FUNCTIONS = {
    "round_shift": """
/* value / 2^by, rounded to the nearest integer, halves away from 0. */
static int32_t @_round_shift(int64_t value, int by)
{
    const int64_t half = ((int64_t)1 << by) >> 1;
    return (int32_t)(value < 0 ? -((half - value) >> by) : (value + half) >> by);
}
""",
    "finite": """
static int @_finite(const float *x, int count)
{
    for (int i = 0; i < count; i++)
        if (!(x[i] <= 3.4028234e38f && x[i] >= -3.4028234e38f)) /* so for NaN */
            return 0;
    return 1;
}
""",
    "quantise": """
/* Features in units; those beyond the bounds of the export count as the bounds. */
static void @_quantise(const float *restrict x, int32_t *restrict q, int count, float low, float high, float scale)
{
    for (int i = 0; i < count; i++) {
        const float scaled = (x[i] < low ? low : x[i] > high ? high : x[i]) * scale;
        q[i] = (int32_t)(scaled < 0.0f ? scaled - 0.5f : scaled + 0.5f);
    }
}
""",
    "linear_units": """
/* y = (W x >> shift) + (b << bias_shift), W row after row. */
static void @_linear_units(const int32_t *restrict x, int inputs, const @_FLASH @_weight *restrict weight,
                           const @_FLASH @_weight *restrict bias, int bias_shift, int shift, int32_t *restrict y,
                           int outputs)
{
    for (int o = 0; o < outputs; o++, weight += inputs) {
        int64_t sum = 0;
        for (int i = 0; i < inputs; i++)
            sum += (int64_t)x[i] * weight[i];
        y[o] = @_round_shift(sum, shift) + (int32_t)bias[o] * ((int32_t)1 << bias_shift);
    }
}
""",
    "reflect_units": """
/* x = x - tau q q'x + (b << bias_shift), and its absolute value; tau q'x is t / 2^fraction. */
static void @_reflect_units(int32_t *restrict x, const @_FLASH @_weight *restrict q, int32_t factor, int drop, int scale,
                            int fraction, const @_FLASH @_weight *restrict b, int bias_shift, int apply_abs, int width)
{
    int64_t along = 0;
    int32_t t;
    for (int i = 0; i < width; i++)
        along += (int64_t)x[i] * q[i];
    t = @_round_shift((int64_t)@_round_shift(along, drop) * factor, scale);
    for (int i = 0; i < width; i++) {
        int32_t y = x[i] - @_round_shift((int64_t)t * q[i], fraction);
        if (b)
            y += (int32_t)b[i] * ((int32_t)1 << bias_shift);
        x[i] = apply_abs && y < 0 ? -y : y;
    }
}
""",
    "scale_units": """
/* The first `count` numbers times a factor each >> shift, then zeros. */
static void @_scale_units(int32_t *restrict x, const @_FLASH @_weight *restrict factor, int count, int shift, int end)
{
    for (int i = 0; i < count; i++)
        x[i] = @_round_shift((int64_t)x[i] * factor[i], shift);
    @_zero_units(x, count, end);
}
""",
    "scores": """
static void @_scores(const int32_t *restrict from, float *restrict to, int count, float unit)
{
    for (int i = 0; i < count; i++)
        to[i] = (float)from[i] * unit;
}
""",
    "certify": """
/* The smallest distance at which another output could be the largest: the margin, less what rounding may do, times the reach of a pair. */
static float @_radius(const int32_t *y, const @_FLASH int32_t *lost, const float *reach)
{
    int best = 0;
    float radius = 3.0e38f;
    for (int i = 1; i < @_OUTPUTS; i++)
        best = y[i] > y[best] ? i : best;
    lost += best * @_OUTPUTS;
    reach += best * @_OUTPUTS;
    for (int i = 0; i < @_OUTPUTS; i++) {
        const int64_t margin = (int64_t)y[best] - y[i] - lost[i];
        const float distance = margin > 0 ? (float)margin * reach[i] : 0.0f;
        if (i != best && distance < radius)
            radius = distance;
    }
    return radius;
}
""",
}
NEEDS = {
    "linear_units": ("round_shift",),
    "reflect_units": ("round_shift",),
    "scale_units": ("round_shift", "zero_units"),
}
