"""The weights of a segment while it is compiled: read and unpacked when a layer asks, and let go of after it.

What a kernel packed stays with the kernel; the plain values of all layers at once would be several times a pruned model.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from numpy.typing import NDArray

from meshd.model.bundle import BlobReader, weight_array
from meshd.model.graph import Graph

Array = NDArray[Any]


class Constants(Mapping[str, Array]):
    """Weights that operations `[first, last)` read, by name. Looking one up may raise what `blobs` and `weight_array` do."""

    def __init__(self, graph: Graph, first: int, last: int, blobs: BlobReader) -> None:
        used = (n for o in graph.operations[first:last] for n in o.inputs if n in graph.weights)
        self._weights = {n: graph.weights[n] for n in dict.fromkeys(used)}
        self._read = blobs
        self._arrays: dict[str, Array] = {}
        self._blobs: dict[str, bytes | memoryview] = {}

    def __getitem__(self, name: str) -> Array:
        if name not in self._arrays:
            weight = self._weights[name]
            if weight.blob not in self._blobs:
                self._blobs[weight.blob] = self._read(weight.blob)
            self._arrays[name] = weight_array(weight, self._blobs[weight.blob])
        return self._arrays[name]

    def __contains__(self, name: object) -> bool:
        return name in self._weights

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)

    def forget(self) -> None:
        """Let go of what was read so far; it is read again where another layer shares it."""
        self._arrays.clear()
        self._blobs.clear()
