"""Members in integers as C99, with a certified radius where one can be given."""

import numpy as np
from numpy.typing import NDArray

from .c_code import Code, add_member, literal, read_columns, row_type, scale_outputs
from .integers import Integers, IntLayer, IntLinear, IntReflection, IntScale, Member
from .program import Abs, ColumnsInput, GroupSort, Pad, Relu, widths

_SLOPE = 1.01  # of the layers before the last: beyond it a radius would be too small to be of use
_DOWN = 1 - 2.0**-20  # more than what a few operations in float32 may be off
_TIE = (128, 1e-6)  # units, and what logits may differ by: the float32 of `out` may hold nearer ones for equal
_NEAR = 60_000  # bytes of tables: pointers to flash have 16 bits, and other tables lie before these
_FLASH = """#ifdef __FLASH /* GNU's C on an AVR: the tables stay in flash, and take no RAM */
#define @_FLASH __flash
#else
#define @_FLASH
#endif
"""


def translate_integers(made: Integers) -> Code:
    """The statements that compute `out` of `row`, and `@_integers`, which they call."""
    program = made.program
    sizes = [width for layers in program.members for _, width in widths(layers, program.inputs.width)]
    widest = max(program.inputs.width, *sizes)
    code = Code(8, widest)
    size = program.output.size
    columns = isinstance(program.inputs, ColumnsInput)
    code.memory = {
        **({"features": ("float", code.padded(program.inputs.width))} if columns else {}),
        "x": ("int32_t", widest),
        "y": ("int32_t", widest),
        "integers": ("int32_t", len(made.members) * size),
        "scores": ("float", size),
    }
    unit = literal(np.float32(made.unit))
    code.declared += [
        f"/* Weights of {made.dtype}, features and outputs of int32. A member's output is off by {made.error:.3g} at most",
        " * from what the network gives in float64, for any features within the bounds that it was exported with. */",
        f"#define @_MEMBERS {len(made.members)}\n#define @_UNIT {unit}",
        "/* The members' outputs in units of @_UNIT, one member after the other. */",
        f"int @_integers(const {row_type(program)} *row, int32_t *out, @_workspace *w);",
    ]
    _write_integers(code, made)
    code.statements.append("const int code = @_integers(row, w->integers, w);\nif (code != @_OK)\n    return code;")
    for number in range(len(made.members)):
        code.call("scores", f"w->integers + {number * size}", "w->scores", size, unit)
        add_member(code, program, "w->scores", first=number == 0)
    scale_outputs(code, program)
    if can_certify(made):
        _write_certificate(code, made)
    flash = _FLASH if code.flash < _NEAR else "#define @_FLASH\n"
    code.tables.insert(0, f"{flash}typedef {made.dtype}_t @_weight;\n")
    return code


def can_certify(made: Integers) -> bool:
    """Whether the artefact can tell how far a row may move: one member, two outputs or more, on features of the person's own."""
    program = made.program
    alone = len(made.members) == 1 and program.output.size > 1 and not isinstance(program.inputs, ColumnsInput)
    return alone and bool(made.members[0].slopes.max() <= 2 * _SLOPE)


def _write_integers(code: Code, made: Integers) -> None:
    """The function that computes all members' outputs."""
    outer, code.statements = code.statements, []
    inputs = made.program.inputs
    if isinstance(inputs, ColumnsInput):
        read_columns(code, inputs)
    elif not inputs.pixels:
        code.need("finite")
        code.statements.append(f"if (!@_finite(row, {inputs.width}))\n    return @_ERROR_NOT_FINITE;")
    for number, member in enumerate(made.members):
        _enter(code, made)
        end = _member(code, member, made.dtype, inputs.width)
        code.call("copy_units", end, f"out + {number * made.program.output.size}", made.program.output.size)
    head = f"int @_integers(const {row_type(made.program)} *row, int32_t *out, @_workspace *w)"
    code.functions.append(code.function(head))
    code.statements = outer


def _enter(code: Code, made: Integers) -> None:
    width = made.program.inputs.width
    if made.box.pixel:
        code.statements.append(f"for (int i = 0; i < {width}; i++)\n    w->x[i] = (int32_t)row[i] * {made.per_pixel};")
        return
    source = "w->features" if isinstance(made.program.inputs, ColumnsInput) else "row"
    limits = map(literal, (*made.box.limits, np.float32(1 / made.unit)))
    code.call("quantise", source, "w->x", width, *limits)


def _member(code: Code, member: Member, dtype: str, width: int) -> str:
    """Calls that compute a member's outputs of w->x; gives where they are."""
    x, y = "w->x", "w->y"
    for layer in member.layers:
        if isinstance(layer, IntLinear):
            out, into = layer.weight.shape
            weight, bias = (code.integers(values.astype(dtype)) for values in (layer.weight, layer.bias))
            code.call("linear_units", x, into, weight, bias, layer.bias_shift, layer.shift, y, out)
            x, y, width = y, x, out
        elif isinstance(layer, IntReflection):
            _reflection(code, layer, dtype, x)
        elif isinstance(layer, IntScale):
            factor = code.integers(layer.factor.astype(dtype))
            code.call("scale_units", x, factor, len(layer.factor), layer.shift, layer.size)
            width = layer.size
        else:
            width = _in_place(code, layer, x, width)
    return x


def _reflection(code: Code, layer: IntReflection, dtype: str, x: str) -> None:
    width, tau = len(layer.q), layer.tau
    bias = "0" if layer.bias is None else code.integers(layer.bias.astype(dtype))
    arguments = (tau.factor, tau.drop, tau.scale, tau.fraction, bias, layer.bias_shift, int(layer.apply_abs), width)
    code.call("reflect_units", x, code.integers(layer.q.astype(dtype)), *arguments)


def _in_place(code: Code, layer: IntLayer, x: str, width: int) -> int:
    """Gives the width that it leaves."""
    match layer:
        case Abs():
            code.call("abs_units", x, width)
        case Relu():
            code.call("relu_units", x, width)
        case GroupSort():
            code.call("sort_units", x, width, layer.group, -1 if layer.descending else 1)
        case Pad():
            code.call("zero_units", x, width, width + layer.zeros)
            return width + layer.zeros
    return width


def _write_certificate(code: Code, made: Integers) -> None:
    """A function that tells the radius too. What rounding may do to a margin counts at the row and at any other."""
    (member,) = made.members
    units, logits = _TIE
    lost = np.ceil((2 * (member.rounding[:, None] + member.rounding) + logits) / made.unit) + units
    with np.errstate(divide="ignore"):
        reach: NDArray[np.float64] = np.where(member.slopes > 0, made.unit * _DOWN / member.slopes, np.inf)
    code.need("certify")
    tables = code.integers(np.minimum(lost, 2**31 - 1).astype(np.int32)), code.table(np.minimum(reach, 3e38))
    code.declared += [
        "/* As @_predict, and the certified radius: no row that is nearer than that to this one, by the l2 distance of the features",
        " * (pixels count 1 from black to white), gets another class from this code, rounding included. 0: nothing is certain. */",
        f"int @_certify(const {row_type(made.program)} *row, float *out, float *radius, @_workspace *w);",
    ]
    code.after.append(_CERTIFY % (row_type(made.program), *tables))


_CERTIFY = """
int @_certify(const %s *row, float *out, float *radius, @_workspace *w)
{
    int code;
    if (!radius)
        return @_ERROR_NULL;
    code = @_predict(row, out, w);
    if (code == @_OK)
        *radius = @_radius(w->integers, %s, %s);
    return code;
}
"""
