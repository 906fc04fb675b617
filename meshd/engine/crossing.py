"""What crosses a cut, as bytes and back, without loss: sign bits, int8, float32, or whatever the type is.

The wire's side of `core.plan.Encoding`. Signs go eight to a byte, first element in the lowest bit, bit 1 negative; items of
a batch begin at a new byte.
"""

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshd.core.plan import Encoding
from meshd.errors import InvalidError
from meshd.model.check import ITEM_BYTES
from meshd.model.graph import Port

Array = NDArray[Any]


def encode(value: Array, encoding: str) -> bytes | memoryview:
    """A crossing tensor as the bytes that travel (see `core.plan.Encoding`), losslessly."""
    if encoding == Encoding.SIGN_BITS.value:
        items = value.reshape(value.shape[0], -1) if value.ndim else value.reshape(1, 1)
        return np.packbits(items < 0, axis=1, bitorder="little").tobytes()
    plain = np.ascontiguousarray(value)
    if not plain.dtype.isnative or plain.dtype.byteorder == ">":
        plain = plain.astype(plain.dtype.newbyteorder("<"))
    return plain.reshape(-1).view(np.uint8).data


def decode(raw: bytes | memoryview, encoding: str, port: Port, batch: int) -> Array:
    """The inverse; checks length against the port's type before NumPy sees it. Raises InvalidError."""
    if batch < 1:
        raise InvalidError(f"{port.name}: a batch of {batch}")
    shape = tuple(batch if d is None else d for d in port.type.shape)
    elements = prod(shape)
    signs = encoding == Encoding.SIGN_BITS.value
    lead = shape[0] if shape else 1
    each = elements // lead if lead else 0
    size = lead * -(-each // 8) if signs else elements * ITEM_BYTES[port.type.dtype]
    if len(raw) != size:
        raise InvalidError(f"{port.name}: {len(raw)} bytes where {list(shape)} of {port.type.dtype} takes {size}")
    if signs:
        if port.type.dtype != "float32":
            raise InvalidError(f"{port.name}: signs of {port.type.dtype}; only float32 crosses as signs")
        if not size:
            return np.zeros(shape, np.float32)
        bits = np.unpackbits(np.frombuffer(raw, np.uint8).reshape(lead, -1), axis=1, count=each, bitorder="little")
        return np.asarray(np.float32(1) - np.float32(2) * bits.astype(np.float32)).reshape(shape)
    array = np.frombuffer(raw, np.dtype(port.type.dtype).newbyteorder("<")).reshape(shape)
    if port.type.dtype == "bool" and array.size and int(array.view(np.uint8).max()) > 1:
        raise InvalidError(f"{port.name}: bytes that are no booleans")
    return array.astype(np.dtype(port.type.dtype), copy=False)
