"""The graph: meshd's own picture of a network, settled once at import.

A `Graph` is a list of operations in topological order over named tensors. Opset differences, constant folding, shapes and
BatchNorm folding are settled by the importer: what is left is what engines run. Weights are arrays while importing and
blobs named by SHA-256 once bundled; a `Graph` itself only names them.

Rule 1: operations are in topological order, and every tensor is written once.
Rule 2: the leading dimension of inputs and outputs is the batch, written as `None`.
Rule 3: attributes are ints, floats, strings and tuples of them: nothing that needs a parser.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

Attribute = int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...]

DTYPES = (
    "float32",
    "float16",
    "float64",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "bool",
)
"""NumPy names; the only element types that exist in a graph."""


@dataclass(frozen=True, slots=True)
class TensorType:
    """Element type and shape; a `None` dimension is the batch."""

    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Port:
    """A named input or output of a graph or a segment."""

    name: str
    type: TensorType


@dataclass(frozen=True, slots=True)
class Operation:
    """One operator. `inputs` name tensors or weights, `""` an absent optional one."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Weight:
    """A constant tensor: where its bytes lie, and what the importer found in it."""

    name: str
    type: TensorType
    blob: str
    """SHA-256 hex of the blob that holds it."""
    offset: int
    """Bytes into the blob, a multiple of 64."""
    structure: str = ""
    """`sign` (only ±1), `block4` / `block8` / `block16` (zeros shared by that many outputs), `zeros` (over half), or nothing."""
    zeros: float = 0.0
    """Share of exact zeros, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Graph:
    """A whole network."""

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    operations: tuple[Operation, ...]
    weights: Mapping[str, Weight]
    tensors: Mapping[str, TensorType]
    """Types of every tensor that operations write, and of the inputs."""
