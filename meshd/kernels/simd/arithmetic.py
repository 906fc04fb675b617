"""What is computed on blocks: register by register, in outer products, between lanes, between types."""

from collections.abc import Callable
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
    is_float,
    join,
    make,
    row_start,
    split,
    spread,
    strided,
    take,
)

# From scalars.


@intrinsic(prefer_literal=True)
def splat(typingctx: Any, rows: Any, lanes: Any, scalar: Any) -> Any:
    """A block with the scalar everywhere."""
    scalar = types.unliteral(scalar)
    block = Block(scalar, rows.literal_value, lanes.literal_value)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        register = spread(builder, block, args[2])
        return make(builder, context, block, lambda row, part: register)

    return block(rows, lanes, scalar), codegen


@intrinsic(prefer_literal=True)
def column(typingctx: Any, rows: Any, lanes: Any, array: Any, index: Any, stride: Any) -> Any:
    """A block whose row r is `array[index + r * stride]` in every lane."""
    block = Block(array.dtype, rows.literal_value, lanes.literal_value)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def scalar(row: int) -> Any:
            start = strided(builder, args[3], row, args[4])
            return spread(builder, block, builder.load(element_pointer(context, builder, sig.args[2], args[2], start)))

        registers = [scalar(row) for row in range(block.rows)]
        return make(builder, context, block, lambda row, part: registers[row])

    return block(rows, lanes, array, types.intp, types.intp), codegen


# Arithmetic.

Emit = Callable[..., Any]


def _elementwise(name: str, emit: Emit, arity: int, doc: str, mask: bool = False) -> Any:
    """An intrinsic that works register by register; blocks of one row stand for all rows."""

    def result(blocks: Any) -> Block:
        shape = max(blocks, key=lambda block: block.rows)
        element = next(block for block in blocks[::-1] if not block.mask).element if not mask else shape.element
        return Block(element, shape.rows, shape.lanes, mask)

    def build(blocks: Any) -> Any:
        out = result(blocks)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            def each(row: int, part: int) -> Any:
                taken = [take(builder, b, a, row, part) for b, a in zip(blocks, args, strict=True)]
                return emit(builder, out, *taken)

            return make(builder, context, out, each)

        return out(*blocks), codegen

    if arity == 1:

        def typer(typingctx: Any, a: Any) -> Any:
            return build((a,))
    elif arity == 2:

        def typer(typingctx: Any, a: Any, b: Any) -> Any:  # type: ignore[misc]
            return build((a, b))
    else:

        def typer(typingctx: Any, a: Any, b: Any, c: Any) -> Any:  # type: ignore[misc]
            return build((a, b, c))

    typer.__name__, typer.__doc__ = name, doc
    return intrinsic(typer)


def _by_kind(of_float: str, of_int: str) -> Emit:
    return lambda b, block, *args: getattr(b, of_float if is_float(block) else of_int)(*args)


def _compare(b: Any, block: Block, relation: str, x: Any, y: Any) -> Any:
    if is_float(block):
        return b.fcmp_ordered(relation, x, y)
    return (b.icmp_signed if block.element.signed else b.icmp_unsigned)(relation, x, y)


add = _elementwise("add", _by_kind("fadd", "add"), 2, "a + b; integers wrap.")
sub = _elementwise("sub", _by_kind("fsub", "sub"), 2, "a - b; integers wrap.")
mul = _elementwise("mul", _by_kind("fmul", "mul"), 2, "a * b; integers wrap.")
fma = _elementwise("fma", lambda b, v, *a: call_intrinsic(b, "fma", v.register, a), 3, "a * b + c, rounded once.")
minimum = _elementwise(
    "minimum",
    lambda b, v, x, y: b.select(_compare(b, v, ">", x, y), y, x),
    2,
    "b where a > b, else a: a NaN in a stays.",
)
maximum = _elementwise(
    "maximum",
    lambda b, v, x, y: b.select(_compare(b, v, "<", x, y), y, x),
    2,
    "b where a < b, else a: a NaN in a stays.",
)
greatest = _elementwise(
    "greatest",
    lambda b, v, x, y: b.select(b.fcmp_unordered("uno", y, y), y, b.select(_compare(b, v, "<", x, y), y, x)),
    2,
    "The greater; NaN where either is.",
)
bit_and = _elementwise("bit_and", lambda b, v, x, y: b.and_(x, y), 2, "a & b.")
bit_or = _elementwise("bit_or", lambda b, v, x, y: b.or_(x, y), 2, "a | b.")
bit_xor = _elementwise("bit_xor", lambda b, v, x, y: b.xor(x, y), 2, "a ^ b.")
shift_left = _elementwise("shift_left", lambda b, v, x, y: b.shl(x, y), 2, "a << b.")
shift_right = _elementwise("shift_right", lambda b, v, x, y: b.lshr(x, y), 2, "a >> b, zeros coming in.")
popcount = _elementwise("popcount", lambda b, v, x: call_intrinsic(b, "ctpop", v.register, [x]), 1, "Bits set.")
less = _elementwise("less", lambda b, v, x, y: _compare(b, v, "<", x, y), 2, "a < b; false for NaN.", mask=True)
greater = _elementwise("greater", lambda b, v, x, y: _compare(b, v, ">", x, y), 2, "a > b; false for NaN.", mask=True)
at_least = _elementwise(
    "at_least", lambda b, v, x, y: _compare(b, v, ">=", x, y), 2, "a >= b; false for NaN.", mask=True
)
equal = _elementwise("equal", lambda b, v, x, y: _compare(b, v, "==", x, y), 2, "a == b; false for NaN.", mask=True)
div = _elementwise("div", _by_kind("fdiv", "sdiv"), 2, "a / b.")
rint = _elementwise(
    "rint", lambda b, v, x: call_intrinsic(b, "rint", v.register, [x]), 1, "Nearest integer, ties to even."
)
select = _elementwise("select", lambda b, v, m, x, y: b.select(m, x, y), 3, "b where the mask a is set, else c.")


@intrinsic
def rank1(typingctx: Any, acc: Any, array: Any, index: Any, stride: Any, x: Any) -> Any:
    """`acc[r] + array[index + r * stride] * x`, each rounded once: one step of an outer product."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def scalar(row: int) -> Any:
            start = strided(builder, args[2], row, args[3])
            return spread(builder, acc, builder.load(element_pointer(context, builder, sig.args[1], args[1], start)))

        everywhere = [scalar(row) for row in range(acc.rows)]

        def each(row: int, part: int) -> Any:
            terms = [everywhere[row], take(builder, x, args[4], 0, part), take(builder, acc, args[0], row, part)]
            return call_intrinsic(builder, "fma", acc.register, terms)

        return make(builder, context, acc, each)

    return acc(acc, array, types.intp, types.intp, x), codegen


def _count(context: Any, builder: Any, sig: Any, args: Any, mask: Any) -> Any:
    """`acc[r] + popcount((array[starts[r] + offset] ^ x) & mask(part))`."""
    acc = sig.args[0]

    def word(row: int) -> Any:
        place = row_start(builder, sig.args[2], args[2], row, args[3])
        return spread(builder, acc, builder.load(element_pointer(context, builder, sig.args[1], args[1], place)))

    everywhere = [word(row) for row in range(acc.rows)]

    def each(row: int, part: int) -> Any:
        differing = mask(builder.xor(everywhere[row], take(builder, sig.args[4], args[4], 0, part)), part)
        count = call_intrinsic(builder, "ctpop", acc.register, [differing])
        return builder.add(take(builder, acc, args[0], row, part), count)

    return make(builder, context, acc, each)


@intrinsic
def count_differing(typingctx: Any, acc: Any, array: Any, starts: Any, offset: Any, x: Any) -> Any:
    """`acc[r] + popcount(array[starts[r] + offset] ^ x)`; `starts` is a block of one lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _count(context, builder, sig, args, lambda differing, part: differing)

    return acc(acc, array, starts, types.intp, x), codegen


@intrinsic
def count_differing_within(typingctx: Any, acc: Any, array: Any, starts: Any, offset: Any, x: Any, mask: Any) -> Any:
    """`acc[r] + popcount((array[starts[r] + offset] ^ x) & mask)`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def within(differing: Any, part: int) -> Any:
            return builder.and_(differing, take(builder, mask, args[5], 0, part))

        return _count(context, builder, sig, args, within)

    return acc(acc, array, starts, types.intp, x, mask), codegen


# Conversions: the registers of a row are joined into one LLVM vector, converted, and taken apart anew.


VNNI = {16: "512", 8: "256"} if this_machine().vnni else {}
"""Lanes of int32 for which this CPU has vpdpbusd, and LLVM's name for the width."""
MADD = {16: "avx512.pmaddw.d.512", 8: "avx2.pmadd.wd", 4: "sse2.pmadd.wd"} if this_machine().x86 else {}
"""The same for vpmaddwd: products of 16-bit halves, added in pairs."""


def _dot4(builder: Any, acc: Any, x: Any, w: Any) -> Any:
    """acc + the dot product of four unsigned bytes of x and four signed ones of w, in every lane of a register."""
    lanes = acc.type.count
    if lanes in VNNI:
        # NB the old signature: LLVM upgrades it where the new one takes bytes.
        kind = ir.FunctionType(acc.type, [acc.type] * 3)
        name = f"llvm.x86.avx512.vpdpbusd.{VNNI[lanes]}"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [acc, x, w])

    def number(value: int) -> Any:
        return ir.Constant(acc.type, [value] * lanes)

    if lanes in MADD:
        # NB not vpmaddubsw, which saturates: two products of bytes need 17 bits.
        halves = ir.VectorType(ir.IntType(16), 2 * lanes)
        kind = ir.FunctionType(acc.type, [halves, halves])
        madd = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{MADD[lanes]}")
        eight = ir.Constant(halves, [8] * (2 * lanes))
        pairs = builder.bitcast(w, halves)
        for a, b in (
            (x, builder.ashr(builder.shl(pairs, eight), eight)),
            (builder.lshr(x, number(8)), builder.ashr(pairs, eight)),
        ):
            low = builder.bitcast(builder.and_(a, number(0x00FF00FF)), halves)
            acc = builder.add(acc, builder.call(madd, [low, b]))
        return acc
    for byte in range(4):
        # Factors of nine and eight bits: LLVM finds the multiplication of halves (smlal).
        a = builder.and_(builder.lshr(x, number(8 * byte)), number(255))
        b = builder.ashr(builder.shl(w, number(24 - 8 * byte)), number(24))
        acc = builder.add(acc, builder.mul(a, b))
    return acc


@intrinsic
def dot_octets(typingctx: Any, acc: Any, array: Any, starts: Any, offset: Any, w: Any) -> Any:
    """`acc[r] + dot(array[starts[r] + offset ...][:4], w)`: four bytes of the array with four signed ones in each lane of w."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def word(row: int) -> Any:
            place = row_start(builder, starts, args[2], row, args[3])
            address = element_pointer(context, builder, sig.args[1], args[1], place)
            value = builder.load(builder.bitcast(address, I32.as_pointer()))
            value.align = 1
            return spread(builder, acc, value)

        everywhere = [word(row) for row in range(acc.rows)]

        def each(row: int, part: int) -> Any:
            w_part = take(builder, w, args[4], 0, part)
            return _dot4(builder, take(builder, acc, args[0], row, part), everywhere[row], w_part)

        return make(builder, context, acc, each)

    return acc(acc, array, starts, types.intp, w), codegen


@intrinsic
def convert(typingctx: Any, like: Any, block: Any) -> Any:
    """The elements as numbers of the type of the scalar `like`; floats to integers by truncation."""
    out = block.like(types.unliteral(like))

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        target = ir.VectorType(IR[out.element], block.lanes)

        def one(row: int) -> Any:
            x = join(builder, block, args[1], row)
            if is_float(block) and is_float(out):
                return (builder.fpext if out.element.bitwidth > block.element.bitwidth else builder.fptrunc)(x, target)
            if is_float(block):
                return builder.fptosi(x, target)
            if is_float(out):
                return (builder.sitofp if block.element.signed else builder.uitofp)(x, target)
            if out.element.bitwidth < block.element.bitwidth:
                return builder.trunc(x, target)
            if out.element.bitwidth == block.element.bitwidth:
                return x
            return (builder.sext if block.element.signed else builder.zext)(x, target)

        halved = not is_float(block) and not is_float(out) and 2 * out.element.bitwidth == block.element.bitwidth
        if halved and block.parts == 2 * out.parts:
            # The low halves of two registers at once: one shuffle, where truncating each and joining them takes three.
            def low_halves(row: int, part: int) -> Any:
                pair = [
                    builder.bitcast(take(builder, block, args[1], row, 2 * part + side), out.register)
                    for side in (0, 1)
                ]
                order = ir.Constant(ir.VectorType(I32, out.width), [2 * lane for lane in range(out.width)])
                return builder.shuffle_vector(*pair, order)

            return make(builder, context, out, low_halves)
        wholes = [one(row) for row in range(block.rows)]
        return make(builder, context, out, lambda row, part: split(builder, out, wholes[row], part))

    return out(like, block), codegen


@intrinsic
def total(typingctx: Any, block: Any) -> Any:
    """The sum of the first row; floats in order of lanes."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        result = ir.Constant(IR[block.element], 0)
        for part in range(block.parts):
            register = take(builder, block, args[0], 0, part)
            for lane in range(block.width):
                one = builder.extract_element(register, ir.Constant(I32, lane))
                result = (builder.fadd if is_float(block) else builder.add)(result, one)
        return result

    return block.element(block), codegen
