"""A bundle: a graph as bytes (protobuf, deterministic) beside content-addressed blobs. Contract; see the issue.

`digest = sha256(topology)` names the model; blobs are named by their own SHA-256, one for each weighted operation.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from meshd.core.ids import Digest
from meshd.model.graph import Graph

BlobReader = Callable[[str], bytes | memoryview]
"""Blob digest → its bytes (already verified against the digest); raises NotFoundError."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A model ready to travel: `topology` bytes and blobs by digest."""

    digest: Digest
    topology: bytes
    blobs: Mapping[str, bytes]


def pack(graph: Graph, arrays: Mapping[str, Any]) -> Bundle:
    """Serialise deterministically. `arrays`: weight name → C-order array."""
    raise NotImplementedError


def read_topology(topology: bytes) -> Graph:
    """Parse and check against every limit; raises InvalidError naming what is wrong."""
    raise NotImplementedError


def blobs_of(graph: Graph, start: int, end: int) -> tuple[tuple[str, int], ...]:
    """(digest, bytes) of the blobs that layers `[start, end)` need, in order, each once."""
    raise NotImplementedError
