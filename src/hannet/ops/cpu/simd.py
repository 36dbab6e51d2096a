"""SIMD vectors inside Numba: a block of ROWS rows by LANES columns is one LLVM vector, so nothing is left to auto-vectorisation.

LLVM splits a block into as many machine registers as the processor needs (AVX-512, AVX2, SSE or NEON).
Addresses are plain integers. `kind`, a scalar, only carries the element type.
"""

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils, codegen, config
from numba.extending import intrinsic, models, overload, register_model


def _register_bytes() -> int:
    """Of the processor that Numba compiles for: NUMBA_CPU_NAME and NUMBA_CPU_FEATURES may say another than this."""
    given = config.CPU_FEATURES
    features = (codegen.get_host_cpu_features() if given is None else given).split(",")
    return 64 if "+avx512f" in features else 32 if "+avx2" in features else 16


ROWS = 4
REGISTER = _register_bytes()


class Vector(types.Type):
    """`count` elements of `dtype`; a row vector has lanes(dtype) of them, a block ROWS times as many."""

    def __init__(self, dtype: types.Float, count: int):
        self.dtype, self.count = dtype, count
        super().__init__(name=f"vector({dtype} x {count})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector):
        element = manager.lookup(vector.dtype).get_value_type()
        super().__init__(manager, vector, ir.VectorType(element, vector.count))


def lanes(dtype: types.Float) -> int:
    """Columns that fill one register."""
    return REGISTER * 8 // dtype.bitwidth


def _row(dtype: types.Float) -> Vector:
    return Vector(dtype, lanes(dtype))


def _block(dtype: types.Float) -> Vector:
    return Vector(dtype, lanes(dtype) * ROWS)


def _llvm(vector: Vector) -> ir.VectorType:
    element = ir.FloatType() if vector.dtype == types.float32 else ir.DoubleType()
    return ir.VectorType(element, vector.count)


def _integer(bits: int, value: int) -> ir.Constant:
    return ir.Constant(ir.IntType(bits), value)


def _shuffle(builder: ir.IRBuilder, a: ir.Value, order: list[int]) -> ir.Value:
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(order)), order)
    return builder.shuffle_vector(a, ir.Constant(a.type, ir.Undefined), mask)


def _splat(builder: ir.IRBuilder, value: ir.Value, count: int) -> ir.Value:
    vector = ir.Constant(ir.VectorType(value.type, count), ir.Undefined)
    return _shuffle(builder, builder.insert_element(vector, value, _integer(32, 0)), [0] * count)


def _call(builder: ir.IRBuilder, name: str, result: ir.Type, *args: ir.Value) -> ir.Value:
    kind = ir.FunctionType(result, [a.type for a in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


def _suffix(vector: ir.VectorType) -> str:
    return f"v{vector.count}f{32 if isinstance(vector.element, ir.FloatType) else 64}"


def _load(of: Any) -> Any:
    @intrinsic
    def load(typingctx, address, kind):  # type: ignore[no-untyped-def]
        result = of(kind)

        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            pointer = builder.inttoptr(args[0], _llvm(result).as_pointer())
            return builder.load(pointer, align=kind.bitwidth // 8)

        return result(types.int64, kind), codegen

    return load


load_row, load_block = _load(_row), _load(_block)


@intrinsic
def store(typingctx, address, vector):  # type: ignore[no-untyped-def]
    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        pointer = builder.inttoptr(args[0], args[1].type.as_pointer())
        builder.store(args[1], pointer, align=vector.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(types.int64, vector), codegen


def _columns_below(builder: ir.IRBuilder, count: int, limit: ir.Value) -> ir.Value:
    index = ir.Constant(ir.VectorType(ir.IntType(64), count), list(range(count)))
    return builder.icmp_signed("<", index, _splat(builder, limit, count))


@intrinsic
def load_part(typingctx, address, columns, kind):  # type: ignore[no-untyped-def]
    """The first `columns` lanes of a row, zeros behind them; reads no byte beyond."""
    result = _row(kind)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        vector = _llvm(result)
        pointer = builder.inttoptr(args[0], vector.as_pointer())
        mask = _columns_below(builder, vector.count, args[1])
        align = _integer(32, kind.bitwidth // 8)
        zeros = ir.Constant(vector, None)
        return _call(builder, f"llvm.masked.load.{_suffix(vector)}.p0", vector, pointer, align, mask, zeros)

    return result(types.int64, types.int64, kind), codegen


@intrinsic
def store_part(typingctx, address, columns, row):  # type: ignore[no-untyped-def]
    """Writes the first `columns` lanes of a row and no byte beyond."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        address, columns, value = args
        pointer = builder.inttoptr(address, value.type.as_pointer())
        mask = _columns_below(builder, value.type.count, columns)
        align = _integer(32, row.dtype.bitwidth // 8)
        name = f"llvm.masked.store.{_suffix(value.type)}.p0"
        _call(builder, name, ir.VoidType(), value, pointer, align, mask)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, row), codegen


@intrinsic
def splat(typingctx, value):  # type: ignore[no-untyped-def]
    """A block of one scalar."""
    result = _block(value)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return _splat(builder, args[0], result.count)

    return result(value), codegen


@intrinsic
def splat_row(typingctx, value):  # type: ignore[no-untyped-def]
    """A row of one scalar."""
    result = _row(value)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return _splat(builder, args[0], result.count)

    return result(value), codegen


@intrinsic
def spread(typingctx, row):  # type: ignore[no-untyped-def]
    """A block whose every row is `row`."""
    result = _block(row.dtype)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return _shuffle(builder, args[0], list(range(row.count)) * ROWS)

    return result(row), codegen


@intrinsic
def column_sums(typingctx, block):  # type: ignore[no-untyped-def]
    """The sum of a block's rows, a row."""
    result = _row(block.dtype)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        parts = [_shuffle(builder, args[0], list(range(r * result.count, (r + 1) * result.count))) for r in range(ROWS)]
        while len(parts) > 1:
            parts = [builder.fadd(a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        return parts[0]

    return result(block), codegen


@intrinsic
def row_sums(typingctx, block):  # type: ignore[no-untyped-def]
    """A block whose every element is the sum of its row."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        width, value = block.count // ROWS, args[0]
        half = width // 2
        while half:
            swapped = _shuffle(builder, value, [i ^ half for i in range(block.count)])
            value, half = builder.fadd(value, swapped), half // 2
        return value

    return block(block), codegen


@intrinsic
def fma(typingctx, a, b, c):  # type: ignore[no-untyped-def]
    """a * b + c, rounded once where the processor does it in one step: without, each would be a call."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return _call(builder, f"llvm.fmuladd.{_suffix(args[0].type)}", args[0].type, *args)

    return a(a, a, a), codegen


@intrinsic
def absolute(typingctx, a):  # type: ignore[no-untyped-def]
    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return _call(builder, f"llvm.fabs.{_suffix(args[0].type)}", args[0].type, args[0])

    return a(a), codegen


@intrinsic
def store_signs(typingctx, address, block):  # type: ignore[no-untyped-def]
    """One bit per element: set where it is below zero."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        below = builder.fcmp_ordered("<", args[1], ir.Constant(args[1].type, None))
        word = ir.IntType(block.count)
        pointer = builder.inttoptr(args[0], word.as_pointer())
        builder.store(builder.bitcast(below, word), pointer, align=1)
        return context.get_dummy_value()

    return types.void(types.int64, block), codegen


@intrinsic
def load_signs(typingctx, address, kind):  # type: ignore[no-untyped-def]
    """A block of -0.0 where the bit is set and +0.0 elsewhere."""
    result = _block(kind)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        word = ir.IntType(result.count)
        pointer = builder.inttoptr(args[0], word.as_pointer())
        bits = builder.bitcast(builder.load(pointer, align=1), ir.VectorType(ir.IntType(1), result.count))
        integers = ir.VectorType(ir.IntType(kind.bitwidth), result.count)
        minus = ir.Constant(integers, [1 << (kind.bitwidth - 1)] * result.count)
        return builder.bitcast(builder.select(bits, minus, ir.Constant(integers, None)), _llvm(result))

    return result(types.int64, kind), codegen


@intrinsic
def flip(typingctx, block, signs):  # type: ignore[no-untyped-def]
    """The block with the signs of load_signs applied."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        integers = ir.VectorType(ir.IntType(block.dtype.bitwidth), block.count)
        a, b = (builder.bitcast(v, integers) for v in args)
        return builder.bitcast(builder.xor(a, b), args[0].type)

    return block(block, signs), codegen


def _binary(op: Any, method: str) -> None:
    @intrinsic
    def apply(typingctx, a, b):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            return getattr(builder, method)(*args)

        return a(a, b), codegen

    @overload(op, inline="always")
    def _(a, b):  # type: ignore[no-untyped-def]
        if isinstance(a, Vector) and a == b:
            return lambda a, b: apply(a, b)  # noqa: PLW0108  Numba wants the names
        return None


_binary(operator.add, "fadd")
_binary(operator.sub, "fsub")
_binary(operator.mul, "fmul")


@intrinsic
def pointer(typingctx, address, kind):  # type: ignore[no-untyped-def]
    """A typed pointer from an address, for numba.carray."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(kind)(types.int64, kind), codegen


@intrinsic
def fetch_add(typingctx, address, value):  # type: ignore[no-untyped-def]
    """Adds to the int64 at `address` atomically; returns what was there."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.atomic_rmw("add", builder.inttoptr(args[0], args[1].type.as_pointer()), args[1], "monotonic")

    return types.int64(types.int64, types.int64), codegen


def columns_per_register(kind: Any) -> int:
    raise NotImplementedError("compiled code only")


@overload(columns_per_register, inline="always")
def _columns_per_register(kind):  # type: ignore[no-untyped-def]
    count = lanes(kind)
    return lambda kind: count


def bytes_per_element(kind: Any) -> int:
    raise NotImplementedError("compiled code only")


@overload(bytes_per_element, inline="always")
def _bytes_per_element(kind):  # type: ignore[no-untyped-def]
    count = kind.bitwidth // 8
    return lambda kind: count


@intrinsic
def address_of(typingctx, where):  # type: ignore[no-untyped-def]
    """The integer address of a typed pointer."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.ptrtoint(args[0], ir.IntType(64))

    return types.int64(where), codegen
