"""Functions that read dates; `c_functions` has the others."""

FUNCTIONS = {
    "read_date": """
/* Of days since 1970, after `origin`: the number itself, year, day of the week and of the year, minute of the day, the three from 0.
   No date: all NaN. */
static void @_read_date(float x, int32_t origin, float late, const int32_t *ends, int count, float *parts)
{
    union { uint32_t bits; float value; } missing;
    int32_t day, old, rest, year, of_year;
    float minute;
    missing.bits = 0x7fc00000u; /* NaN */
    for (int i = 0; i < 5; i++)
        parts[i] = missing.value;
    if (!(x >= -719162.0f && x < late)) /* so for NaN */
        return;
    day = (int32_t)x;
    day -= (float)day > x;
    minute = (x - (float)day) * 1440.0f;
    day += origin;
    for (int i = 0; i < count; i++)
        if (day == ends[i])
            return;
    /* The year begins in March, and an era, of 400 years, with the year 0. */
    old = day + 719468;
    if (old < 306)
        return;
    rest = old % 146097;
    year = (rest - rest / 1460 + rest / 36524 - rest / 146096) / 365;
    of_year = rest - (365 * year + year / 4 - year / 100);
    year += old / 146097 * 400;
    if (of_year >= 306) {
        year++;
        of_year -= 306;
    } else
        of_year += 59 + (year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
    parts[0] = x;
    parts[1] = (float)year;
    parts[2] = (float)((old + 2) % 7);
    parts[3] = (float)of_year;
    parts[4] = (float)(int)minute;
}
""",
    "look_up": """
/* A number of few values, by the place of its value: its scaled number, and how high on the stairs it is. */
static void @_look_up(const @_number *n, int place, float *restrict scaled, float *restrict stair)
{
    const float height = n->table[2 * place + 1];
    *scaled = n->table[2 * place];
    for (int k = 0; k < n->stairs; k++) {
        const float up = height - (float)k;
        stair[k] = n->height * ((up > 1.0f ? 1.0f : up > 0.0f ? up : 0.0f) - 0.5f);
    }
}
""",
}
