"""The type of a block, and how code for it is emitted: taken apart into registers, and put together from them."""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import register_model

from meshd.kernels.machine import this_machine

REGISTER_BYTES = this_machine().register_bytes

I1, I32 = ir.IntType(1), ir.IntType(32)
IR = {
    types.uint64: ir.IntType(64), types.int64: ir.IntType(64), types.uint32: I32, types.int32: I32,
    types.int16: ir.IntType(16), types.uint16: ir.IntType(16), types.uint8: ir.IntType(8), types.int8: ir.IntType(8),
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
        return ir.VectorType(I1 if self.mask else IR[self.element], self.width)

    def like(self, element: Any = None, rows: int | None = None, mask: bool = False) -> "Block":
        """This shape with another element or number of rows."""
        return Block(element or self.element, rows or self.rows, self.lanes, mask)


@register_model(Block)
class _BlockModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Block) -> None:
        super().__init__(dmm, fe_type, ir.ArrayType(fe_type.register, fe_type.rows * fe_type.parts))


# How code is emitted: a block value is taken apart into registers, and put together from them.


def take(builder: Any, block: Block, value: Any, row: int, part: int) -> Any:
    """One register of a block value; a block of one row has it for every row."""
    return builder.extract_value(value, (row if block.rows > 1 else 0) * block.parts + part)


def make(builder: Any, context: Any, block: Block, each: Callable[[int, int], Any]) -> Any:
    """A block value whose registers are `each(row, part)`."""
    value = ir.Constant(context.get_value_type(block), ir.Undefined)
    for row in range(block.rows):
        for part in range(block.parts):
            value = builder.insert_value(value, each(row, part), row * block.parts + part)
    return value


def element_pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """Address of `array[index]`."""
    data = cgutils.create_struct_proxy(array_type)(context, builder, array).data
    return builder.gep(data, [index])


def register_pointer(
    context: Any, builder: Any, array_type: Any, array: Any, index: Any, block: Block, part: int
) -> Any:
    start = builder.add(index, ir.Constant(index.type, part * block.width)) if part else index
    return builder.bitcast(element_pointer(context, builder, array_type, array, start), block.register.as_pointer())


def spread(builder: Any, block: Block, scalar: Any) -> Any:
    """One register with the scalar in every lane."""
    undefined = ir.Constant(block.register, ir.Undefined)
    one = builder.insert_element(undefined, scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(I32, block.width), [0] * block.width))


def call_intrinsic(builder: Any, name: str, register: Any, args: Any) -> Any:
    """Call LLVM's intrinsic of this name on registers of one type."""
    element = register.element
    suffix = f"v{register.count}" + {"float": "f32", "half": "f16"}.get(str(element), str(element))
    kind = ir.FunctionType(register, [register] * len(args))
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.{suffix}"), args)


def strided(builder: Any, index: Any, row: int, stride: Any) -> Any:
    """`index + row * stride`."""
    return builder.add(index, builder.mul(stride, ir.Constant(index.type, row))) if row else index


def row_start(builder: Any, starts: Block, value: Any, row: int, offset: Any) -> Any:
    """`starts[row] + offset`, `starts` a block of one lane."""
    return builder.add(builder.extract_element(take(builder, starts, value, row, 0), ir.Constant(I32, 0)), offset)


def is_float(block: Block) -> bool:
    """Whether its elements are floats."""
    return isinstance(block.element, types.Float)


def join(builder: Any, block: Block, value: Any, row: int) -> Any:
    """The registers of a row as one LLVM vector."""
    parts = [take(builder, block, value, row, part) for part in range(block.parts)]
    while len(parts) > 1:
        # Halves of unequal width cannot be shuffled together; lanes are a power of two times the register here.
        assert len(parts) % 2 == 0, f"{block}: only powers of two registers a row can be converted"
        width = parts[0].type.count
        order = ir.Constant(ir.VectorType(I32, 2 * width), list(range(2 * width)))
        parts = [builder.shuffle_vector(a, b, order) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def split(builder: Any, block: Block, whole: Any, part: int) -> Any:
    """One register of the whole vector of a row."""
    if block.parts == 1:
        return whole
    order = ir.Constant(ir.VectorType(I32, block.width), [part * block.width + lane for lane in range(block.width)])
    return builder.shuffle_vector(whole, whole, order)
