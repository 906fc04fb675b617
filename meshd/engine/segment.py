"""A compiled segment: layers `[start, end)` ready to run. Contract; see the issue.

Safe to call from several threads at once. Bit-for-bit the same answers however a model is cut.
"""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from meshd.model.bundle import BlobReader
from meshd.model.graph import Graph, Port

Array = NDArray[Any]


class Segment:
    """Layers `[start, end)` of a graph, compiled for this machine.

    Attributes
    ----------
    inputs, outputs : ports of the segment (float32 where signs cross: `decode` has unpacked them)
    resident_bytes : memory it holds while loaded
    kernels : count of layers by kernel class, e.g. `{"binary": 2, "sparse": 1}`
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    resident_bytes: int
    kernels: dict[str, int]

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Compute. Inputs by position, C order, leading batch; outputs are fresh arrays the caller owns."""
        raise NotImplementedError

    def warm(self) -> int:
        """Compile and run once on zeros; returns microseconds of a later run (batch of one)."""
        raise NotImplementedError


def compile_segment(graph: Graph, start: int, end: int, blobs: BlobReader) -> Segment:
    """Choose kernels, pack weights, plan the arena. Raises InvalidError if a blob or the graph is not what it must be."""
    raise NotImplementedError


def encode(value: Array, encoding: str) -> bytes | memoryview:
    """A crossing tensor as the bytes that travel (see `core.plan.Encoding`), losslessly."""
    raise NotImplementedError


def decode(raw: bytes | memoryview, encoding: str, port: Port, batch: int) -> Array:
    """The inverse; checks length against the port's type before NumPy sees it. Raises InvalidError."""
    raise NotImplementedError
