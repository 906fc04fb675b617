"""Weights with many zeros as they lie in a blob: a bit for each block of outputs, then the blocks that are kept.

A weight (outputs, ...) is seen as (outputs / block, block, inner). Bit `i` of the mask, lowest bit of a byte first, says whether
block `i` of (outputs / block, inner), C order, holds anything; the mask is padded with zero bits to whole words of 8 bytes. After
it come the kept blocks in the same order, `block` little-endian values each. How many are kept stands in the topology.

NB a bit for every place beats an index for every kept one as soon as one block in 32 is kept; and no index can be out of range or
out of order. What can be wrong is the number of bits set, and the padding: both are looked at before any value is. -0.0 is zero.
"""

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshd.errors import InvalidError

Array = NDArray[Any]

BLOCKS = {"block4": 4, "block8": 8, "block16": 16, "zeros": 1}
"""Outputs that share a bit, by structure (`graph.Weight.structure`)."""

WORTH = 0.75
"""Stored so where it takes less than this share of what the plain values take."""


def places(structure: str, shape: tuple[int, ...]) -> int:
    """Bits of the mask; raises InvalidError where the structure has no blocks, or they do not divide the outputs."""
    block = BLOCKS.get(structure)
    if block is None or not shape or shape[0] % block:
        raise InvalidError(f"structure {structure!r} of shape {list(shape)} cannot be stored sparse")
    return prod(shape) // block


def stored_bytes(structure: str, shape: tuple[int, ...], item_bytes: int, kept: int) -> int:
    """Bytes of mask and values; raises InvalidError as `places` does, and where more is kept than there is."""
    bits = places(structure, shape)
    if not 0 <= kept <= bits:
        raise InvalidError(f"{kept} blocks kept of {bits}")
    return _mask_bytes(bits) + kept * BLOCKS[structure] * item_bytes


def pack(array: Array, structure: str) -> tuple[bytes, int] | None:
    """(bytes, blocks kept), or None where plain values take hardly more."""
    block = BLOCKS.get(structure)
    if block is None or not array.size or array.shape[0] % block:
        return None
    blocks = array.reshape(array.shape[0] // block, block, -1)
    kept = (blocks != 0).any(axis=1)
    count = int(np.count_nonzero(kept))
    if stored_bytes(structure, array.shape, array.itemsize, count) >= WORTH * array.nbytes:
        return None
    mask = np.packbits(kept.reshape(-1), bitorder="little").tobytes()
    values = np.ascontiguousarray(blocks.transpose(0, 2, 1)[kept]).astype(array.dtype.newbyteorder("<"), copy=False)
    return mask + bytes(_mask_bytes(kept.size) - len(mask)) + values.tobytes(), count


def unpack(raw: memoryview, structure: str, shape: tuple[int, ...], dtype: np.dtype[Any], kept: int) -> Array:
    """The weight, C order, of `dtype`.

    Parameters
    ----------
    raw : as many bytes as `stored_bytes` says

    Raises
    ------
    InvalidError
        If the mask does not hold as many bits as `kept`, or has bits past its end.
    """
    bits, block = places(structure, shape), BLOCKS[structure]
    words = _mask_bytes(bits)
    mask = np.unpackbits(np.frombuffer(raw[:words], np.uint8), bitorder="little").view(bool)
    if mask[bits:].any():
        raise InvalidError("a sparse weight's mask has bits past its last block")
    if (count := int(np.count_nonzero(mask))) != kept:
        raise InvalidError(f"a sparse weight's mask keeps {count} blocks, not {kept}")
    blocks = np.zeros((shape[0] // block, bits // max(1, shape[0] // block), block), dtype)
    blocks[mask[:bits].reshape(blocks.shape[:2])] = np.frombuffer(raw[words:], dtype.newbyteorder("<")).reshape(
        -1, block
    )
    return np.ascontiguousarray(blocks.transpose(0, 2, 1)).reshape(shape)


def _mask_bytes(bits: int) -> int:
    return -(-bits // 64) * 8
