"""Weights as they are stored, float32, float16 or int8, taken as float32; and lanes that choose among neighbours.

Halves come as uint16, their bits. Both conversions are exact, so a kernel gives the same bits whatever its storage.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from meshd.kernels.machine import this_machine
from meshd.kernels.simd.block import (
    I32,
    IR,
    Block,
    call_intrinsic,
    element_pointer,
    make,
    spread,
    strided,
    take,
)

FLOAT = ir.FloatType()


def _real(builder: Any, element: Any, stored: Any) -> Any:
    """A vector of stored values as float32."""
    floats = ir.VectorType(FLOAT, stored.type.count)
    if element == types.float32:
        return stored
    if element == types.int8:
        return builder.sitofp(stored, floats)
    assert element == types.uint16, f"weights are stored as float32, float16 (its bits) or int8, not {element}"
    if this_machine().halves:
        return builder.fpext(builder.bitcast(stored, ir.VectorType(ir.HalfType(), stored.type.count)), floats)
    # Exponent and fraction moved into place, the bias made up for by a multiplication, exact for subnormals too.
    ints = ir.VectorType(I32, stored.type.count)

    def number(value: int) -> Any:
        return ir.Constant(ints, [value] * stored.type.count)

    wide = builder.zext(stored, ints)
    magnitude = builder.bitcast(builder.shl(builder.and_(wide, number(0x7FFF)), number(13)), floats)
    scaled = builder.fmul(magnitude, ir.Constant(floats, [2.0**112] * stored.type.count))
    sign = builder.shl(builder.and_(wide, number(0x8000)), number(16))
    return builder.bitcast(builder.or_(builder.bitcast(scaled, ints), sign), floats)


def _stored(context: Any, builder: Any, array_type: Any, array: Any, index: Any, count: int) -> Any:
    """`count` stored values from flat `index`."""
    address = element_pointer(context, builder, array_type, array, index)
    value = builder.load(builder.bitcast(address, ir.VectorType(IR[array_type.dtype], count).as_pointer()))
    value.align = array_type.dtype.bitwidth // 8
    return value


@intrinsic(prefer_literal=True)
def load_real(typingctx: Any, lanes: Any, array: Any, index: Any) -> Any:
    """`lanes` consecutive stored values from flat `index`, as float32."""
    block = Block(types.float32, 1, lanes.literal_value)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def each(row: int, part: int) -> Any:
            start = builder.add(args[2], ir.Constant(args[2].type, part * block.width))
            stored = _stored(context, builder, sig.args[1], args[1], start, block.width)
            return _real(builder, array.dtype, stored)

        return make(builder, context, block, each)

    return block(lanes, array, types.intp), codegen


@intrinsic
def outer(typingctx: Any, acc: Any, array: Any, index: Any, x: Any) -> Any:
    """`acc[r] + real(array[index + r]) * x`, each rounded once: one step of an outer product with stored weights."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if array.dtype == types.float32:
            # Single loads, which become memory operands of the fma.
            places = [strided(builder, args[2], row, ir.Constant(args[2].type, 1)) for row in range(acc.rows)]
            scalars = [builder.load(element_pointer(context, builder, sig.args[1], args[1], p)) for p in places]
        else:
            column = _real(builder, array.dtype, _stored(context, builder, sig.args[1], args[1], args[2], acc.rows))
            scalars = [builder.extract_element(column, ir.Constant(I32, row)) for row in range(acc.rows)]
        everywhere = [spread(builder, acc, scalar) for scalar in scalars]

        def each(row: int, part: int) -> Any:
            terms = [everywhere[row], take(builder, x, args[3], 0, part), take(builder, acc, args[0], row, part)]
            return call_intrinsic(builder, "fma", acc.register, terms)

        return make(builder, context, acc, each)

    return acc(acc, array, types.intp, x), codegen


PERMUTE = {
    (4, 16): "avx512.vpermilvar.ps.512",
    (4, 8): "avx.vpermilvar.ps.256",
    (8, 16): "avx512.permvar.sf.512",
    (8, 8): "avx2.permps",
}
"""By candidates and lanes: the instruction that picks by the low bits of 32-bit indices, the candidates being repeated."""


def _pick(builder: Any, period: int, neighbours: Any, choice: Any) -> Any:
    """Lane l is `neighbours[choice[l] % period]`; `choice` has no bits set between those of period and the lanes."""
    width = choice.type.count
    undefined = ir.Constant(neighbours.type, ir.Undefined)
    name = PERMUTE.get((period, width)) if this_machine().avx else None
    if name is not None:
        order = ir.Constant(ir.VectorType(I32, width), [lane % period for lane in range(width)])
        table = builder.shuffle_vector(neighbours, undefined, order)
        kind = ir.FunctionType(table.type, [table.type, choice.type])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), [table, choice])
    values = []
    for k in range(period):
        same = ir.Constant(ir.VectorType(I32, width), [k] * width)
        values.append(builder.shuffle_vector(neighbours, undefined, same))
    bit = 1
    while len(values) > 1:
        mask = ir.Constant(choice.type, [bit] * width)
        chosen = builder.icmp_unsigned("!=", builder.and_(choice, mask), ir.Constant(choice.type, [0] * width))
        values = [builder.select(chosen, b, a) for a, b in zip(values[::2], values[1::2], strict=True)]
        bit *= 2
    return values[0]


@intrinsic(prefer_literal=True)
def pick(typingctx: Any, rows: Any, period: Any, array: Any, index: Any, stride: Any, choice: Any) -> Any:
    """Lane l of row r is `array[index + r * stride + choice[l]]`, by the low bits of `choice` that count up to `period`.

    `period`, 4 or 8, consecutive elements are read; of the bits above those that count, the next must be 0.
    """
    block, n = Block(types.float32, rows.literal_value, choice.lanes), period.literal_value

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def start(row: int) -> Any:
            return strided(builder, args[3], row, args[4])

        tables = [_stored(context, builder, sig.args[2], args[2], start(row), n) for row in range(block.rows)]
        return make(
            builder,
            context,
            block,
            lambda row, part: _pick(builder, n, tables[row], take(builder, choice, args[5], 0, part)),
        )

    return block(rows, period, array, types.intp, types.intp, choice), codegen
