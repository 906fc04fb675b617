"""A bundle: a graph as bytes (protobuf, deterministic) beside content-addressed blobs.

`digest = sha256(topology)` names the model; blobs are named by their own SHA-256, one for each weighted operation: its
weights one after another, C order, little-endian, each at a multiple of 64 bytes. Signs are packed eight to a byte; of weights
with many zeros only the blocks that hold anything are stored (`sparse`).

Rule 1: a weight that two operations share lies in the blob of the first.
Rule 2: nothing is believed: sizes are checked with Python ints before NumPy sees a byte.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshd.config import BLOB_BYTES_MAX
from meshd.core.ids import Digest
from meshd.errors import InvalidError
from meshd.model import cuts, sparse, topology
from meshd.model.check import ALIGNMENT, check_graph, stored_bytes
from meshd.model.graph import Graph, Weight

BlobReader = Callable[[str], bytes | memoryview]
"""Blob digest → its bytes (already verified against the digest); raises NotFoundError."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A model ready to travel: `topology` bytes and blobs by digest."""

    digest: Digest
    topology: bytes
    blobs: Mapping[str, bytes]

    @property
    def graph(self) -> Graph:
        """The graph, its weights named by blob and offset."""
        return topology.read(self.topology)


def pack(graph: Graph, arrays: Mapping[str, Any]) -> Bundle:
    """Serialise deterministically. `arrays`: weight name → C-order array.

    Raises
    ------
    InvalidError
        If the graph breaks a rule, or an array is not what its weight says.
    """
    weights: dict[str, Weight] = {}
    blobs: dict[str, bytes] = {}
    kept: dict[str, int | None] = {}
    for operation in graph.operations:
        mine = [n for n in dict.fromkeys(operation.inputs) if n in graph.weights and n not in weights]
        if not mine:
            continue
        offsets, pieces, end = [], [], 0
        for name in mine:
            raw, kept[name] = _stored(graph.weights[name], arrays[name])
            offsets.append(end)
            pieces.append(raw + bytes(-len(raw) % ALIGNMENT or ALIGNMENT * (not raw)))
            end += len(pieces[-1])
        blob = b"".join(pieces)
        if len(blob) > BLOB_BYTES_MAX:
            raise InvalidError(
                f"{operation.name} has weights of {len(blob)} bytes; at most {BLOB_BYTES_MAX} in one layer"
            )
        digest = hashlib.sha256(blob).hexdigest()
        blobs[digest] = blob
        for name, offset in zip(mine, offsets, strict=True):
            weights[name] = replace(graph.weights[name], blob=digest, offset=offset, kept=kept[name])
    sizes = {digest: len(blob) for digest, blob in blobs.items()}
    packed = replace(graph, weights=weights, blobs=sizes)
    check_graph(packed)
    raw = topology.write(packed, sizes)
    return Bundle(Digest(hashlib.sha256(raw).hexdigest()), raw, blobs)


def read_topology(topology_bytes: bytes) -> Graph:
    """Parse and check against every limit; raises InvalidError naming what is wrong."""
    return topology.read(topology_bytes)


def blobs_of(graph: Graph, start: int, end: int) -> tuple[tuple[str, int], ...]:
    """(digest, bytes) of the blobs that layers `[start, end)` need, in order, each once."""
    ranges = cuts.layers(graph)
    first, last = ranges[start][0], ranges[end - 1][1]
    used = [graph.weights[n].blob for o in graph.operations[first:last] for n in o.inputs if n in graph.weights]
    return tuple((digest, graph.blobs[digest]) for digest in dict.fromkeys(used))


def weight_array(weight: Weight, blob: bytes | memoryview) -> NDArray[Any]:
    """A weight out of its blob: read-only, C order, of the weight's type (signs unpacked to float32 ±1).

    Raises
    ------
    InvalidError
        If the blob is too short, or a sparse weight's mask is not what the topology says.
    """
    size, shape = stored_bytes(weight), weight.type.item
    raw = memoryview(blob)[weight.offset : weight.offset + size]
    if len(raw) != size:
        raise InvalidError(f"blob {weight.blob[:12]} ends before weight {weight.name}: fetch it again")
    if weight.structure == "sign":
        bits = np.unpackbits(np.frombuffer(raw, np.uint8), count=prod(shape), bitorder="little")
        return (1 - 2 * bits.astype(np.int8)).astype(np.float32).reshape(shape)
    if weight.kept is not None:
        try:
            return sparse.unpack(raw, weight.structure, shape, np.dtype(weight.type.dtype), weight.kept)
        except InvalidError as error:
            raise InvalidError(f"weight {weight.name}: {error}: push the model again") from None
    dtype = np.dtype(weight.type.dtype).newbyteorder("<")
    array = np.frombuffer(raw, dtype).reshape(shape)
    if dtype == np.bool_ and array.size and array.view(np.uint8).max() > 1:
        raise InvalidError(f"weight {weight.name} holds bytes that are no booleans")
    return array.astype(dtype.newbyteorder("="), copy=False)


def _stored(weight: Weight, array: NDArray[Any]) -> tuple[bytes, int | None]:
    """Its bytes in a blob, and the blocks kept where they are sparse."""
    if array.shape != weight.type.item or array.dtype.name != weight.type.dtype:
        raise InvalidError(f"weight {weight.name} is {array.dtype} {array.shape}, not {weight.type}")
    if weight.structure == "sign":
        return np.packbits(array.reshape(-1) < 0, bitorder="little").tobytes(), None
    packed = sparse.pack(array, weight.structure) if weight.type.dtype == "float32" else None
    return packed or (array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes(), None)
