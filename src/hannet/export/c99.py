"""A program as C99: a header, a source, its weights, and test vectors with a program that checks them.

No malloc, recursion, variable-length arrays, stdio or libm; tables are `static const`, memory is the caller's.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .c_code import Code, comment, inputs_of, literal, quote, row_type
from .c_functions import FUNCTIONS, lanes
from .program import Category, ColumnsInput, Date, ExportError, Program, TensorInput

ENDINGS = (".h", "_weights.h", ".c", "_vectors.h", "_test.c")  # of the files, behind the name
FORMAT = 1  # of the functions and of what they expect
_HEADERS = (  # of C99: a file of that name would take the place of its header
    "assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdarg stdbool stddef stdint stdio "
    "stdlib string tgmath time wchar wctype"
)
_TYPES = ("numbers", "dates_and_numbers", "words")  # among FUNCTIONS, those that tables need
_MACROS = (
    "FORMAT", "INPUTS", "OUTPUTS", "MODEL_SHA256", "WORKSPACE_BYTES", "OK", "ERROR_NULL", "ERROR_NOT_FINITE", "LANES", "EACH", "SUM",
    "TOTAL", "STEP", "CLEAR", "LAYER", "NUMBERS", "STAIRS", "CATEGORIES", "H", "VECTORS", "MEMBERS", "UNIT", "FLASH",
)  # fmt: skip


@dataclass(frozen=True)
class Library:
    """Files by name. workspace, flash: bytes of the caller's structure and of the tables."""

    files: Mapping[str, str]
    workspace: int
    flash: int


def require_identifier(name: str) -> None:
    """Raises ExportError for what cannot begin the names of C functions."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,40}", name):
        raise ExportError(
            f"{name!r} cannot begin names in C: give one of letters, digits and underscores, a letter first, with --name"
        )
    if name.lower() in _HEADERS.split():  # some file systems know no capitals
        raise ExportError(f"{name}.h is a header of C itself: give another name with --name")


def to_library(
    program: Program, code: Code, name: str, rows: NDArray, expected: NDArray, tolerance: NDArray
) -> Library:
    """The C files of a program.

    Args:
        program: what `describe` gives.
        code: what `translate` gives for it.
        name: what all names begin with.
        rows: of the test vectors, (n, inputs), as the function takes them.
        expected: (n, outputs), what it must give for them.
        tolerance: (n,), how far it may be off.
    """
    workspace = 4 * sum(count for _, count in code.memory.values())
    contents = (
        _header(program, code, workspace),
        "/* Tables of @.c. */\n\n" + "\n".join(code.tables),
        _source(program, code),
        _vectors(program, rows, expected, tolerance),
        _TEST,
    )
    files = {name + ending: _prefixed(content, name) for ending, content in zip(ENDINGS, contents, strict=True)}
    return Library(files, workspace, code.flash)


def _prefixed(content: str, name: str) -> str:
    """The text with the prefix in place of `@`, in capitals before the macros."""
    macros = "|".join(sorted(_MACROS, key=len, reverse=True))
    content = re.sub(rf"@_({macros})\b", lambda found: f"{name.upper()}_{found[1]}", content)
    return content.replace("@", name)


def code_of(column: Category, words: NDArray) -> NDArray[np.float32]:
    """What a row holds for words: the place of a level, NaN for a missing word, -1 for any other; as `NAME_code` gives it."""
    levels = {word: float(place) for place, word in enumerate(column.levels)}
    missing = dict.fromkeys(column.missing, np.nan)
    return np.array([levels.get(word, missing.get(word.lower(), -1.0)) for word in words], np.float32)


def _header(program: Program, code: Code, workspace: int) -> str:
    from .. import __version__

    inputs = program.inputs
    kind = row_type(program)
    refuses = "@_ERROR_NOT_FINITE" in "".join((*code.statements, *code.functions))
    words = isinstance(inputs, ColumnsInput) and inputs.categories
    faults = f"@_ERROR_NULL for a null pointer{', @_ERROR_NOT_FINITE for NaN or an infinity in the row' * refuses}"
    memory = "\n".join(f"    {type_} {name}[{count}];" for name, (type_, count) in code.memory.items())
    parts = [
        f"/* {comment(program.kind)}, written by hannet {__version__}: C99, no dependencies.",
        *_row_comment(inputs, refuses=refuses),
        " * out: " + _out_comment(program),
        " * w: memory for the computation, its content does not matter; threads need one each. */",
        "#ifndef @_H\n#define @_H",
        *(["#include <stdint.h>"] if kind == "uint8_t" or code.functions else []),
        '#ifdef __cplusplus\nextern "C" {\n#endif\n',
        f"#define @_FORMAT {FORMAT}",
        f"#define @_INPUTS {inputs_of(program)}\n#define @_OUTPUTS {program.output.size}",
        f'#define @_MODEL_SHA256 "{program.digest}"',
        f"#define @_WORKSPACE_BYTES {workspace}",
        "#define @_OK 0\n#define @_ERROR_NULL 1\n#define @_ERROR_NOT_FINITE 2\n",
        f"typedef struct {{\n{memory}\n}} @_workspace;\n",
        f"/* Gives @_OK; or {faults}, and leaves out as it was. */",
        f"int @_predict(const {kind} *row, float *out, @_workspace *w);",
        *code.declared,
    ]
    if program.output.classes:
        parts.append("\n/* Names of the classes, in UTF-8, and the place of the most probable one. */")
        parts.append("extern const char *const @_classes[@_OUTPUTS];\nint @_class(const float *out);")
    if words:
        parts.append(
            "\n/* What a row holds for a word (UTF-8) of a column: -1 if it is unknown, NaN if it stands for a missing one. */"
        )
        parts.append("float @_code(int column, const char *word);")
    parts.append("\n#ifdef __cplusplus\n}\n#endif\n#endif\n")
    return "\n".join(parts)


def _row_comment(inputs: TensorInput | ColumnsInput, *, refuses: bool) -> list[str]:
    if isinstance(inputs, TensorInput):
        shape = " x ".join(map(str, inputs.shape))
        features = "features" if refuses else "features; NaN gives NaN"
        return [f" * row: {shape} {'pixels, 0 to 255' if inputs.pixels else features}."]
    what = " * row: the columns"
    lines = []
    for place, column in enumerate(inputs.columns):
        if isinstance(column, Category):
            lines.append(f" *   [{place}] {comment(column.name)}: the code of a word, see @_code")
        elif isinstance(column, Date):
            lines.append(f" *   [{place}] {comment(column.name)}: {describe_date(column)}, NaN if it is missing")
        else:
            missing = "" if column.fill is None else ", NaN if it is missing"
            lines.append(f" *   [{place}] {comment(column.name)}: a number{missing}")
    return [what, *lines]


def describe_date(column: Date) -> str:
    """What a number of a column of dates is."""
    return "a time of day as a fraction of it" if column.origin else "days since 1970-01-01 in UTC, with a fraction"


def _out_comment(program: Program) -> str:
    if program.output.classes:
        return "the probability of each class of " + comment(program.output.name)
    return "outputs" if isinstance(program.inputs, TensorInput) else comment(program.output.name)


def _source(program: Program, code: Code) -> str:
    inputs = program.inputs
    bits = (
        any(function in code.calls for function in ("exp", "bend", "code", "read_date"))
        or row_type(program) == "uint8_t"
    )
    parts = ['#include "@.h"\n' + "#include <stdint.h>\n" * bits, lanes(code.lanes)]
    if isinstance(inputs, ColumnsInput):
        stairs = sum(column.stairs for column in inputs.numbers)
        sizes = {"NUMBERS": len(inputs.numbers), "STAIRS": stairs, "CATEGORIES": len(inputs.categories)}
        parts += [f"#define @_{macro} {size}" for macro, size in sizes.items()]
    parts += [FUNCTIONS[name] for name in _TYPES if name in code.calls]
    parts.append('\n#include "@_weights.h"')
    parts += [*(FUNCTIONS[name] for name in code.calls if name not in _TYPES), *code.functions]
    if program.output.classes:
        names = ",\n".join(f"    {quote(name)}" for name in program.output.classes)
        parts += [f"\nconst char *const @_classes[@_OUTPUTS] = {{\n{names}\n}};", FUNCTIONS["class"]]
    head = f"int @_predict(const {row_type(program)} *row, float *out, @_workspace *w)"
    parts.append(code.function(head) + "\n")
    return "\n".join([*parts, *code.after])


def _vectors(program: Program, rows: NDArray, expected: NDArray, tolerance: NDArray) -> str:
    """Rows as bits, since C99 has no literal for NaN."""
    if rows.dtype == np.uint8:
        kind, values = "uint8_t", rows.reshape(len(rows), -1)
    else:
        kind, values = "uint32_t", np.ascontiguousarray(rows, np.float32).view(np.uint32)
    lines = ",\n".join("    {" + ", ".join(f"{value}u" for value in row) + "}" for row in values)
    outputs = ",\n".join("    {" + ", ".join(map(literal, row)) + "}" for row in np.asarray(expected, np.float32))
    limits = ", ".join(map(literal, np.asarray(tolerance, np.float32)))
    return (
        "/* Rows, what the model gives for them, and how far a machine may be off. */\n#include <stdint.h>\n\n"
        f"#define @_VECTORS {len(rows)}\n"
        f"static const {kind} @_rows[@_VECTORS][@_INPUTS] = {{\n{lines}\n}};\n"
        f"static const float @_expected[@_VECTORS][@_OUTPUTS] = {{\n{outputs}\n}};\n"
        f"static const float @_tolerance[@_VECTORS] = {{{limits}}};\n"
        f"static @_workspace w;\nstatic {row_type(program)} row[@_INPUTS];\n"
        + (_READ_PIXELS if kind == "uint8_t" else _READ_FLOATS)
    )


_READ_PIXELS = """
static void read_row(int vector)
{
    for (int i = 0; i < @_INPUTS; i++)
        row[i] = @_rows[vector][i];
}
"""
_READ_FLOATS = """
static void read_row(int vector)
{
    union { uint32_t bits; float value; } number;
    for (int i = 0; i < @_INPUTS; i++) {
        number.bits = @_rows[vector][i];
        row[i] = number.value;
    }
}
"""
_TEST = """/* Checks @_predict with the test vectors: exit code 0 if all outputs are as they should be. */
#ifndef ARDUINO /* which has examples/check instead */
#include "@.h"
#include "@_vectors.h"
#include <stdio.h>

int main(void)
{
    int wrong = 0;
    for (int vector = 0; vector < @_VECTORS; vector++) {
        float out[@_OUTPUTS];
        read_row(vector);
        if (@_predict(row, out, &w) != @_OK)
            wrong++;
        else
            for (int i = 0; i < @_OUTPUTS; i++) {
                const float off = out[i] - @_expected[vector][i];
                if (!(off <= @_tolerance[vector] && off >= -@_tolerance[vector]))
                    wrong++;
            }
    }
    printf("%d vectors, %d wrong outputs\\n", @_VECTORS, wrong);
    return wrong != 0;
}
#endif
"""
