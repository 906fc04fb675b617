"""Blocks from memory and to it: whole, strided, gathered, by count, and masks as bits."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from meshd.kernels.simd.block import (
    I32,
    IR,
    Block,
    element_pointer,
    join,
    make,
    register_pointer,
    row_start,
    strided,
    take,
)


@intrinsic
def at(typingctx: Any, array: Any, index: Any) -> Any:
    """`array[index]`, without Python's negative indices."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(element_pointer(context, builder, sig.args[0], args[0], args[1]))

    return array.dtype(array, types.intp), codegen


@intrinsic(prefer_literal=True)
def load(typingctx: Any, lanes: Any, array: Any, index: Any) -> Any:
    """`lanes` consecutive elements from flat `index`, aligned or not."""
    block = Block(array.dtype, 1, lanes.literal_value)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def each(row: int, part: int) -> Any:
            value = builder.load(register_pointer(context, builder, sig.args[1], args[1], args[2], block, part))
            value.align = array.dtype.bitwidth // 8
            return value

        return make(builder, context, block, each)

    return block(lanes, array, types.intp), codegen


@intrinsic(prefer_literal=True)
def load_every(typingctx: Any, lanes: Any, step: Any, array: Any, index: Any) -> Any:
    """Every `step`-th of `lanes * step` consecutive elements, all of which are read."""
    block, n = Block(array.dtype, 1, lanes.literal_value), step.literal_value

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        wide = ir.VectorType(IR[array.dtype], block.width * n)
        order = ir.Constant(ir.VectorType(I32, block.width), [n * lane for lane in range(block.width)])

        def each(row: int, part: int) -> Any:
            start = builder.add(args[3], ir.Constant(args[3].type, part * block.width * n))
            address = element_pointer(context, builder, sig.args[2], args[2], start)
            value = builder.load(builder.bitcast(address, wide.as_pointer()))
            value.align = array.dtype.bitwidth // 8
            return builder.shuffle_vector(value, value, order)

        return make(builder, context, block, each)

    return block(lanes, step, array, types.intp), codegen


@intrinsic(prefer_literal=True)
def load_alternate(typingctx: Any, lanes: Any, array: Any, index: Any, count: Any) -> Any:
    """Every second element from `index` on in the first `count` lanes, zero in others; nothing past the last is touched."""
    block = Block(array.dtype, 1, lanes.literal_value)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        align, zero = ir.Constant(I32, array.dtype.bitwidth // 8), ir.Constant(block.register, None)
        order = ir.Constant(ir.VectorType(I32, block.width), [2 * lane for lane in range(block.width)])
        span = builder.sub(builder.shl(args[3], ir.Constant(args[3].type, 1)), ir.Constant(args[3].type, 1))

        def read(part: int) -> Any:
            ptr = register_pointer(context, builder, sig.args[1], args[1], args[2], block, part)
            return _masked(builder, block, "load", [ptr, align, _first(builder, block, span, part), zero], zero.type)

        return make(
            builder, context, block, lambda _, part: builder.shuffle_vector(read(2 * part), read(2 * part + 1), order)
        )

    return block(lanes, array, types.intp, types.intp), codegen


@intrinsic(prefer_literal=True)
def gather(typingctx: Any, like: Any, lanes: Any, array: Any, index: Any, stride: Any, count: Any) -> Any:
    """Lane i is the value of the type of the scalar `like` at `index + i * stride` (in the array's elements); `count` lanes."""
    block = Block(types.unliteral(like), 1, lanes.literal_value)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        element = IR[block.element]

        def lane_value(lane: int) -> Any:
            # Lanes past the count read the last one again: no memory beyond it is touched.
            number = ir.Constant(args[5].type, lane)
            last = builder.sub(args[5], ir.Constant(args[5].type, 1))
            lane_index = builder.select(builder.icmp_signed("<", number, args[5]), number, last)
            place = builder.add(args[3], builder.mul(args[4], lane_index))
            address = element_pointer(context, builder, sig.args[2], args[2], place)
            value = builder.load(builder.bitcast(address, element.as_pointer()))
            value.align = 1
            return value

        def each(row: int, part: int) -> Any:
            register = ir.Constant(block.register, ir.Undefined)
            for lane in range(block.width):
                value = lane_value(part * block.width + lane)
                register = builder.insert_element(register, value, ir.Constant(I32, lane))
            return register

        return make(builder, context, block, each)

    return block(like, lanes, array, types.intp, types.intp, types.intp), codegen


@intrinsic(prefer_literal=True)
def load_rows(typingctx: Any, rows: Any, lanes: Any, array: Any, index: Any, stride: Any) -> Any:
    """`rows` rows of `lanes` elements, `stride` apart."""
    block = Block(array.dtype, rows.literal_value, lanes.literal_value)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def each(row: int, part: int) -> Any:
            start = strided(builder, args[3], row, args[4])
            value = builder.load(register_pointer(context, builder, sig.args[2], args[2], start, block, part))
            value.align = array.dtype.bitwidth // 8
            return value

        return make(builder, context, block, each)

    return block(rows, lanes, array, types.intp, types.intp), codegen


@intrinsic(prefer_literal=True)
def gather_rows(typingctx: Any, lanes: Any, array: Any, starts: Any, offset: Any) -> Any:
    """Row r is `lanes` elements from `starts[r] + offset`; `starts` is a block of one lane."""
    block = Block(array.dtype, starts.rows, lanes.literal_value)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def each(row: int, part: int) -> Any:
            start = row_start(builder, starts, args[2], row, args[3])
            value = builder.load(register_pointer(context, builder, sig.args[1], args[1], start, block, part))
            value.align = array.dtype.bitwidth // 8
            return value

        return make(builder, context, block, each)

    return block(lanes, array, starts, types.intp), codegen


@intrinsic
def scatter_mask(typingctx: Any, array: Any, starts: Any, offset: Any, mask: Any) -> Any:
    """Row r of a mask as bits, lane 0 the lowest, to the array's memory from byte `starts[r] + offset`."""
    integer = ir.IntType(mask.lanes)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = cgutils.create_struct_proxy(sig.args[0])(context, builder, args[0]).data
        octets = builder.bitcast(data, ir.IntType(8).as_pointer())
        for row in range(mask.rows):
            place = builder.gep(octets, [row_start(builder, starts, args[1], row, args[2])])
            bits = builder.bitcast(join(builder, mask, args[3], row), integer)
            builder.store(bits, builder.bitcast(place, integer.as_pointer())).align = 1
        return context.get_dummy_value()

    return types.void(array, starts, types.intp, mask), codegen


@intrinsic
def store(typingctx: Any, array: Any, index: Any, block: Any) -> Any:
    """The first row to flat `index`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        for part in range(block.parts):
            ptr = register_pointer(context, builder, sig.args[0], args[0], args[1], block, part)
            builder.store(take(builder, block, args[2], 0, part), ptr).align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, types.intp, block), codegen


@intrinsic
def store_rows(typingctx: Any, array: Any, index: Any, stride: Any, count: Any, block: Any) -> Any:
    """The first `count` rows, `stride` apart."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        for row in range(block.rows):
            with cgutils.if_likely(builder, builder.icmp_signed(">", args[3], ir.Constant(args[3].type, row))):
                start = strided(builder, args[1], row, args[2])
                for part in range(block.parts):
                    ptr = register_pointer(context, builder, sig.args[0], args[0], start, block, part)
                    builder.store(take(builder, block, args[4], row, part), ptr).align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, types.intp, block), codegen


def _first(builder: Any, block: Block, count: Any, part: int) -> Any:
    """A register of truth: lane < count."""
    numbers = ir.VectorType(I32, block.width)
    lanes = ir.Constant(numbers, [part * block.width + lane for lane in range(block.width)])
    limit = builder.trunc(count, I32)
    undefined = ir.Constant(numbers, ir.Undefined)
    one = builder.insert_element(undefined, limit, ir.Constant(I32, 0))
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
        align = ir.Constant(I32, array.dtype.bitwidth // 8)
        zero = ir.Constant(block.register, None)

        def each(row: int, part: int) -> Any:
            start = strided(builder, args[3], row, args[4])
            ptr = register_pointer(context, builder, sig.args[2], args[2], start, block, part)
            taken = [ptr, align, _first(builder, block, args[5], part), zero]
            return _masked(builder, block, "load", taken, block.register)

        return make(builder, context, block, each)

    return block(rows, lanes, array, types.intp, types.intp, types.intp), codegen


@intrinsic
def store_first(typingctx: Any, array: Any, index: Any, stride: Any, count: Any, block: Any) -> Any:
    """The first `count` lanes of every row, rows `stride` apart; no other memory is touched."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        align = ir.Constant(I32, array.dtype.bitwidth // 8)
        for row in range(block.rows):
            start = strided(builder, args[1], row, args[2])
            for part in range(block.parts):
                ptr = register_pointer(context, builder, sig.args[0], args[0], start, block, part)
                value = take(builder, block, args[4], row, part)
                taken = [value, ptr, align, _first(builder, block, args[3], part)]
                _masked(builder, block, "store", taken, ir.VoidType())
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, types.intp, block), codegen


@intrinsic
def scatter_rows(typingctx: Any, array: Any, starts: Any, offset: Any, count: Any, block: Any) -> Any:
    """The first `count` lanes of row r from `starts[r] + offset`; `starts` is a block of one lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        align = ir.Constant(I32, array.dtype.bitwidth // 8)
        for row in range(block.rows):
            start = row_start(builder, starts, args[1], row, args[2])
            for part in range(block.parts):
                ptr = register_pointer(context, builder, sig.args[0], args[0], start, block, part)
                value = take(builder, block, args[4], row, part)
                taken = [value, ptr, align, _first(builder, block, args[3], part)]
                _masked(builder, block, "store", taken, ir.VoidType())
        return context.get_dummy_value()

    return types.void(array, starts, types.intp, types.intp, block), codegen


@intrinsic
def scatter(typingctx: Any, array: Any, index: Any, stride: Any, count: Any, block: Any) -> Any:
    """The first `count` lanes of the first row, one by one, `stride` elements of the array apart."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        for lane in range(block.lanes):
            with cgutils.if_likely(builder, builder.icmp_signed(">", args[3], ir.Constant(args[3].type, lane))):
                register = take(builder, block, args[4], 0, lane // block.width)
                value = builder.extract_element(register, ir.Constant(I32, lane % block.width))
                address = element_pointer(
                    context, builder, sig.args[0], args[0], strided(builder, args[1], lane, args[2])
                )
                builder.store(value, builder.bitcast(address, value.type.as_pointer())).align = 1
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, types.intp, block), codegen


@intrinsic
def store_mask(typingctx: Any, array: Any, byte: Any, stride: Any, count: Any, mask: Any) -> Any:
    """The first `count` rows of a mask as bits, lane 0 the lowest, to the array's memory from `byte`, `stride` bytes apart."""
    integer = ir.IntType(mask.lanes)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = cgutils.create_struct_proxy(sig.args[0])(context, builder, args[0]).data
        octets = builder.bitcast(data, ir.IntType(8).as_pointer())
        for row in range(mask.rows):
            with cgutils.if_likely(builder, builder.icmp_signed(">", args[3], ir.Constant(args[3].type, row))):
                ptr = builder.bitcast(
                    builder.gep(octets, [strided(builder, args[1], row, args[2])]), integer.as_pointer()
                )
                builder.store(builder.bitcast(join(builder, mask, args[4], row), integer), ptr).align = 1
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, types.intp, mask), codegen
