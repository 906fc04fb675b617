"""Blocks of SIMD registers as values inside Numba functions.

A `Block(element, rows, lanes)` is a small matrix held in registers: `rows` times `lanes` elements, each row in as many
registers as this machine needs for it. Kernels say what they compute (`acc = rank1(acc, w, i, 1, load(lanes, x, j))`) and
leave the registers to this file, and the instructions to LLVM: vpopcntq on AVX-512, pshufb on AVX2, cnt on NEON.

Rule 1: nothing is checked here: not bounds, not overlap. The caller pads.
Rule 2: no fast-math: every operation rounds once, and in the order written.
Rule 3: rows, lanes and element types are literals: a block's shape is part of its type.

In binary operations a block of one row stands for all rows.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

from meshd.kernels.machine import this_machine

REGISTER_BYTES = this_machine().register_bytes

_I1, _I32 = ir.IntType(1), ir.IntType(32)
_IR = {
    types.uint64: ir.IntType(64), types.int64: ir.IntType(64), types.uint32: _I32, types.int32: _I32,
    types.int16: ir.IntType(16), types.uint8: ir.IntType(8), types.int8: ir.IntType(8),
    types.float32: ir.FloatType(), types.float16: ir.HalfType(),
}  # fmt: skip


class Block(types.Type):
    """Numba type of a block. A mask (`mask=True`) is one of truth values, split into registers as its element would be."""

    def __init__(self, element: Any, rows: int, lanes: int, mask: bool = False) -> None:
        self.element, self.rows, self.lanes, self.mask = element, rows, lanes, mask
        self.width = min(lanes, REGISTER_BYTES // (element.bitwidth // 8))
        assert lanes % self.width == 0, f"{lanes} lanes of {element} do not fill registers of {self.width}"
        self.parts = lanes // self.width
        super().__init__(name=f"Block({element}, {rows}x{lanes}{', mask' if mask else ''})")

    @property
    def register(self) -> Any:
        """The LLVM type of one register."""
        return ir.VectorType(_I1 if self.mask else _IR[self.element], self.width)

    def like(self, element: Any = None, rows: int | None = None, mask: bool = False) -> "Block":
        """This shape with another element or number of rows."""
        return Block(element or self.element, rows or self.rows, self.lanes, mask)


@register_model(Block)
class _BlockModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Block) -> None:
        super().__init__(dmm, fe_type, ir.ArrayType(fe_type.register, fe_type.rows * fe_type.parts))


# How code is emitted: a block value is taken apart into registers, and put together from them.


def _take(builder: Any, block: Block, value: Any, row: int, part: int) -> Any:
    return builder.extract_value(value, (row if block.rows > 1 else 0) * block.parts + part)


def _make(builder: Any, context: Any, block: Block, each: Callable[[int, int], Any]) -> Any:
    value = ir.Constant(context.get_value_type(block), ir.Undefined)
    for row in range(block.rows):
        for part in range(block.parts):
            value = builder.insert_value(value, each(row, part), row * block.parts + part)
    return value


def _element_pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = cgutils.create_struct_proxy(array_type)(context, builder, array).data
    return builder.gep(data, [index])


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any, block: Block, part: int) -> Any:
    start = builder.add(index, ir.Constant(index.type, part * block.width)) if part else index
    return builder.bitcast(_element_pointer(context, builder, array_type, array, start), block.register.as_pointer())


def _spread(builder: Any, block: Block, scalar: Any) -> Any:
    """One register with the scalar in every lane."""
    undefined = ir.Constant(block.register, ir.Undefined)
    one = builder.insert_element(undefined, scalar, ir.Constant(_I32, 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(_I32, block.width), [0] * block.width))


def _intrinsic(builder: Any, name: str, register: Any, args: Any) -> Any:
    element = register.element
    suffix = f"v{register.count}" + {"float": "f32", "half": "f16"}.get(str(element), str(element))
    kind = ir.FunctionType(register, [register] * len(args))
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.{suffix}"), args)


def _at(builder: Any, index: Any, row: int, stride: Any) -> Any:
    return builder.add(index, builder.mul(stride, ir.Constant(index.type, row))) if row else index


# Memory.


@intrinsic
def at(typingctx: Any, array: Any, index: Any) -> Any:
    """`array[index]`, without Python's negative indices."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(_element_pointer(context, builder, sig.args[0], args[0], args[1]))

    return array.dtype(array, types.intp), codegen


@intrinsic(prefer_literal=True)
def load(typingctx: Any, lanes: Any, array: Any, index: Any) -> Any:
    """`lanes` consecutive elements from flat `index`, aligned or not."""
    block = Block(array.dtype, 1, lanes.literal_value)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def each(row: int, part: int) -> Any:
            value = builder.load(_pointer(context, builder, sig.args[1], args[1], args[2], block, part))
            value.align = array.dtype.bitwidth // 8
            return value

        return _make(builder, context, block, each)

    return block(lanes, array, types.intp), codegen


@intrinsic(prefer_literal=True)
def load_rows(typingctx: Any, rows: Any, lanes: Any, array: Any, index: Any, stride: Any) -> Any:
    """`rows` rows of `lanes` elements, `stride` apart."""
    block = Block(array.dtype, rows.literal_value, lanes.literal_value)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def each(row: int, part: int) -> Any:
            start = _at(builder, args[3], row, args[4])
            value = builder.load(_pointer(context, builder, sig.args[2], args[2], start, block, part))
            value.align = array.dtype.bitwidth // 8
            return value

        return _make(builder, context, block, each)

    return block(rows, lanes, array, types.intp, types.intp), codegen


def _row_start(builder: Any, starts: Block, value: Any, row: int, offset: Any) -> Any:
    return builder.add(builder.extract_element(_take(builder, starts, value, row, 0), ir.Constant(_I32, 0)), offset)


@intrinsic(prefer_literal=True)
def gather_rows(typingctx: Any, lanes: Any, array: Any, starts: Any, offset: Any) -> Any:
    """Row r is `lanes` elements from `starts[r] + offset`; `starts` is a block of one lane."""
    block = Block(array.dtype, starts.rows, lanes.literal_value)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def each(row: int, part: int) -> Any:
            start = _row_start(builder, starts, args[2], row, args[3])
            value = builder.load(_pointer(context, builder, sig.args[1], args[1], start, block, part))
            value.align = array.dtype.bitwidth // 8
            return value

        return _make(builder, context, block, each)

    return block(lanes, array, starts, types.intp), codegen


@intrinsic
def scatter_mask(typingctx: Any, array: Any, starts: Any, offset: Any, mask: Any) -> Any:
    """Row r of a mask as bits, lane 0 the lowest, to the array's memory from byte `starts[r] + offset`."""
    integer = ir.IntType(mask.lanes)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = cgutils.create_struct_proxy(sig.args[0])(context, builder, args[0]).data
        octets = builder.bitcast(data, ir.IntType(8).as_pointer())
        for row in range(mask.rows):
            place = builder.gep(octets, [_row_start(builder, starts, args[1], row, args[2])])
            bits = builder.bitcast(_join(builder, mask, args[3], row), integer)
            builder.store(bits, builder.bitcast(place, integer.as_pointer())).align = 1
        return context.get_dummy_value()

    return types.void(array, starts, types.intp, mask), codegen


@intrinsic
def store(typingctx: Any, array: Any, index: Any, block: Any) -> Any:
    """The first row to flat `index`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        for part in range(block.parts):
            ptr = _pointer(context, builder, sig.args[0], args[0], args[1], block, part)
            builder.store(_take(builder, block, args[2], 0, part), ptr).align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, types.intp, block), codegen


@intrinsic
def store_rows(typingctx: Any, array: Any, index: Any, stride: Any, count: Any, block: Any) -> Any:
    """The first `count` rows, `stride` apart."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        for row in range(block.rows):
            with cgutils.if_likely(builder, builder.icmp_signed(">", args[3], ir.Constant(args[3].type, row))):
                start = _at(builder, args[1], row, args[2])
                for part in range(block.parts):
                    ptr = _pointer(context, builder, sig.args[0], args[0], start, block, part)
                    builder.store(_take(builder, block, args[4], row, part), ptr).align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, types.intp, block), codegen


def _first(builder: Any, block: Block, count: Any, part: int) -> Any:
    """A register of truth: lane < count."""
    numbers = ir.VectorType(_I32, block.width)
    lanes = ir.Constant(numbers, [part * block.width + lane for lane in range(block.width)])
    limit = builder.trunc(count, _I32)
    undefined = ir.Constant(numbers, ir.Undefined)
    one = builder.insert_element(undefined, limit, ir.Constant(_I32, 0))
    return builder.icmp_signed(
        "<", lanes, builder.shuffle_vector(one, undefined, ir.Constant(numbers, [0] * block.width))
    )


def _masked(builder: Any, block: Block, operation: str, args: Any, result: Any) -> Any:
    element = {"float": "f32", "half": "f16"}.get(str(block.register.element), str(block.register.element))
    name = f"llvm.masked.{operation}.v{block.width}{element}.p0"
    kind = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


@intrinsic(prefer_literal=True)
def load_first(typingctx: Any, rows: Any, lanes: Any, array: Any, index: Any, stride: Any, count: Any) -> Any:
    """The first `count` of `lanes` elements of rows `stride` apart; zero in other lanes, whose memory is not touched."""
    block = Block(array.dtype, rows.literal_value, lanes.literal_value)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        align = ir.Constant(_I32, array.dtype.bitwidth // 8)
        zero = ir.Constant(block.register, None)

        def each(row: int, part: int) -> Any:
            start = _at(builder, args[3], row, args[4])
            ptr = _pointer(context, builder, sig.args[2], args[2], start, block, part)
            taken = [ptr, align, _first(builder, block, args[5], part), zero]
            return _masked(builder, block, "load", taken, block.register)

        return _make(builder, context, block, each)

    return block(rows, lanes, array, types.intp, types.intp, types.intp), codegen


@intrinsic
def store_first(typingctx: Any, array: Any, index: Any, stride: Any, count: Any, block: Any) -> Any:
    """The first `count` lanes of every row, rows `stride` apart; no other memory is touched."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        align = ir.Constant(_I32, array.dtype.bitwidth // 8)
        for row in range(block.rows):
            start = _at(builder, args[1], row, args[2])
            for part in range(block.parts):
                ptr = _pointer(context, builder, sig.args[0], args[0], start, block, part)
                value = _take(builder, block, args[4], row, part)
                taken = [value, ptr, align, _first(builder, block, args[3], part)]
                _masked(builder, block, "store", taken, ir.VoidType())
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, types.intp, block), codegen


@intrinsic
def scatter(typingctx: Any, array: Any, index: Any, stride: Any, count: Any, block: Any) -> Any:
    """The first `count` lanes of the first row, one by one, `stride` elements apart."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        for lane in range(block.lanes):
            with cgutils.if_likely(builder, builder.icmp_signed(">", args[3], ir.Constant(args[3].type, lane))):
                register = _take(builder, block, args[4], 0, lane // block.width)
                value = builder.extract_element(register, ir.Constant(_I32, lane % block.width))
                builder.store(
                    value,
                    _element_pointer(context, builder, sig.args[0], args[0], _at(builder, args[1], lane, args[2])),
                )
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, types.intp, block), codegen


# From scalars.


@intrinsic(prefer_literal=True)
def splat(typingctx: Any, rows: Any, lanes: Any, scalar: Any) -> Any:
    """A block with the scalar everywhere."""
    scalar = types.unliteral(scalar)
    block = Block(scalar, rows.literal_value, lanes.literal_value)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        register = _spread(builder, block, args[2])
        return _make(builder, context, block, lambda row, part: register)

    return block(rows, lanes, scalar), codegen


@intrinsic(prefer_literal=True)
def column(typingctx: Any, rows: Any, lanes: Any, array: Any, index: Any, stride: Any) -> Any:
    """A block whose row r is `array[index + r * stride]` in every lane."""
    block = Block(array.dtype, rows.literal_value, lanes.literal_value)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def scalar(row: int) -> Any:
            start = _at(builder, args[3], row, args[4])
            return _spread(
                builder, block, builder.load(_element_pointer(context, builder, sig.args[2], args[2], start))
            )

        registers = [scalar(row) for row in range(block.rows)]
        return _make(builder, context, block, lambda row, part: registers[row])

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
                taken = [_take(builder, b, a, row, part) for b, a in zip(blocks, args, strict=True)]
                return emit(builder, out, *taken)

            return _make(builder, context, out, each)

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


def _is_float(block: Block) -> bool:
    return isinstance(block.element, types.Float)


def _by_kind(of_float: str, of_int: str) -> Emit:
    return lambda b, block, *args: getattr(b, of_float if _is_float(block) else of_int)(*args)


def _compare(b: Any, block: Block, relation: str, x: Any, y: Any) -> Any:
    if _is_float(block):
        return b.fcmp_ordered(relation, x, y)
    return (b.icmp_signed if block.element.signed else b.icmp_unsigned)(relation, x, y)


add = _elementwise("add", _by_kind("fadd", "add"), 2, "a + b; integers wrap.")
sub = _elementwise("sub", _by_kind("fsub", "sub"), 2, "a - b; integers wrap.")
mul = _elementwise("mul", _by_kind("fmul", "mul"), 2, "a * b; integers wrap.")
fma = _elementwise("fma", lambda b, v, *a: _intrinsic(b, "fma", v.register, a), 3, "a * b + c, rounded once.")
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
bit_and = _elementwise("bit_and", lambda b, v, x, y: b.and_(x, y), 2, "a & b.")
bit_or = _elementwise("bit_or", lambda b, v, x, y: b.or_(x, y), 2, "a | b.")
bit_xor = _elementwise("bit_xor", lambda b, v, x, y: b.xor(x, y), 2, "a ^ b.")
shift_left = _elementwise("shift_left", lambda b, v, x, y: b.shl(x, y), 2, "a << b.")
shift_right = _elementwise("shift_right", lambda b, v, x, y: b.lshr(x, y), 2, "a >> b, zeros coming in.")
popcount = _elementwise("popcount", lambda b, v, x: _intrinsic(b, "ctpop", v.register, [x]), 1, "Bits set.")
less = _elementwise("less", lambda b, v, x, y: _compare(b, v, "<", x, y), 2, "a < b; false for NaN.", mask=True)
greater = _elementwise("greater", lambda b, v, x, y: _compare(b, v, ">", x, y), 2, "a > b; false for NaN.", mask=True)
at_least = _elementwise(
    "at_least", lambda b, v, x, y: _compare(b, v, ">=", x, y), 2, "a >= b; false for NaN.", mask=True
)
equal = _elementwise("equal", lambda b, v, x, y: _compare(b, v, "==", x, y), 2, "a == b; false for NaN.", mask=True)
select = _elementwise("select", lambda b, v, m, x, y: b.select(m, x, y), 3, "b where the mask a is set, else c.")


@intrinsic
def rank1(typingctx: Any, acc: Any, array: Any, index: Any, stride: Any, x: Any) -> Any:
    """`acc[r] + array[index + r * stride] * x`, each rounded once: one step of an outer product."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def scalar(row: int) -> Any:
            start = _at(builder, args[2], row, args[3])
            return _spread(builder, acc, builder.load(_element_pointer(context, builder, sig.args[1], args[1], start)))

        spread = [scalar(row) for row in range(acc.rows)]

        def each(row: int, part: int) -> Any:
            terms = [spread[row], _take(builder, x, args[4], 0, part), _take(builder, acc, args[0], row, part)]
            return _intrinsic(builder, "fma", acc.register, terms)

        return _make(builder, context, acc, each)

    return acc(acc, array, types.intp, types.intp, x), codegen


@intrinsic
def count_differing(typingctx: Any, acc: Any, array: Any, starts: Any, offset: Any, x: Any) -> Any:
    """`acc[r] + popcount(array[starts[r] + offset] ^ x)`; `starts` is a block of one lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def word(row: int) -> Any:
            place = _row_start(builder, starts, args[2], row, args[3])
            return _spread(builder, acc, builder.load(_element_pointer(context, builder, sig.args[1], args[1], place)))

        spread = [word(row) for row in range(acc.rows)]

        def each(row: int, part: int) -> Any:
            differing = builder.xor(spread[row], _take(builder, x, args[4], 0, part))
            count = _intrinsic(builder, "ctpop", acc.register, [differing])
            return builder.add(_take(builder, acc, args[0], row, part), count)

        return _make(builder, context, acc, each)

    return acc(acc, array, starts, types.intp, x), codegen


# Conversions: the registers of a row are joined into one LLVM vector, converted, and taken apart anew.


def _join(builder: Any, block: Block, value: Any, row: int) -> Any:
    parts = [_take(builder, block, value, row, part) for part in range(block.parts)]
    while len(parts) > 1:
        # Halves of unequal width cannot be shuffled together; lanes are a power of two times the register here.
        assert len(parts) % 2 == 0, f"{block}: only powers of two registers a row can be converted"
        width = parts[0].type.count
        order = ir.Constant(ir.VectorType(_I32, 2 * width), list(range(2 * width)))
        parts = [builder.shuffle_vector(a, b, order) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def _split(builder: Any, block: Block, whole: Any, part: int) -> Any:
    if block.parts == 1:
        return whole
    order = ir.Constant(ir.VectorType(_I32, block.width), [part * block.width + lane for lane in range(block.width)])
    return builder.shuffle_vector(whole, whole, order)


@intrinsic
def convert(typingctx: Any, like: Any, block: Any) -> Any:
    """The elements as numbers of the type of the scalar `like`; floats to integers by truncation."""
    out = block.like(types.unliteral(like))

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        target = ir.VectorType(_IR[out.element], block.lanes)

        def one(row: int) -> Any:
            x = _join(builder, block, args[1], row)
            if _is_float(block) and _is_float(out):
                return (builder.fpext if out.element.bitwidth > block.element.bitwidth else builder.fptrunc)(x, target)
            if _is_float(block):
                return builder.fptosi(x, target)
            if _is_float(out):
                return (builder.sitofp if block.element.signed else builder.uitofp)(x, target)
            if out.element.bitwidth < block.element.bitwidth:
                return builder.trunc(x, target)
            if out.element.bitwidth == block.element.bitwidth:
                return x
            return (builder.sext if block.element.signed else builder.zext)(x, target)

        wholes = [one(row) for row in range(block.rows)]
        return _make(builder, context, out, lambda row, part: _split(builder, out, wholes[row], part))

    return out(like, block), codegen


@intrinsic
def store_mask(typingctx: Any, array: Any, byte: Any, stride: Any, count: Any, mask: Any) -> Any:
    """The first `count` rows of a mask as bits, lane 0 the lowest, to the array's memory from `byte`, `stride` bytes apart."""
    integer = ir.IntType(mask.lanes)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = cgutils.create_struct_proxy(sig.args[0])(context, builder, args[0]).data
        octets = builder.bitcast(data, ir.IntType(8).as_pointer())
        for row in range(mask.rows):
            with cgutils.if_likely(builder, builder.icmp_signed(">", args[3], ir.Constant(args[3].type, row))):
                ptr = builder.bitcast(builder.gep(octets, [_at(builder, args[1], row, args[2])]), integer.as_pointer())
                builder.store(builder.bitcast(_join(builder, mask, args[4], row), integer), ptr).align = 1
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, types.intp, mask), codegen


@intrinsic
def total(typingctx: Any, block: Any) -> Any:
    """The sum of the first row; floats in order of lanes."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        result = ir.Constant(_IR[block.element], 0)
        for part in range(block.parts):
            register = _take(builder, block, args[0], 0, part)
            for lane in range(block.width):
                one = builder.extract_element(register, ir.Constant(_I32, lane))
                result = (builder.fadd if _is_float(block) else builder.add)(result, one)
        return result

    return block.element(block), codegen
