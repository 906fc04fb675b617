"""The graph: meshd's own picture of a network, settled once at import.

A `Graph` is a list of operations in topological order over named tensors. Opset differences, constant folding, shapes and
BatchNorm folding are settled by the importer: what is left is what engines run. Weights are arrays while importing and
blobs named by SHA-256 once bundled; a `Graph` itself only names them.

Rule 1: operations are in topological order, and every tensor is written once.
Rule 2: a graph computes one item: shapes are settled for a batch of 1, and a batch is as many runs, side by side.
   Where the batch is free, every input and output has it as leading dimension, written `None`; so has each inner tensor
   whose leading dimension is 1. A graph whose batch is fixed (states beside the input, say) has no `None` anywhere.
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

    @property
    def item(self) -> tuple[int, ...]:
        """The shape of one item: the batch counts as 1."""
        return tuple(1 if d is None else d for d in self.shape)


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
    """`sign` (only ±1, behind a Sign), `block4` / `block8` / `block16` (zeros shared by that many outputs), `zeros` (over half),
    or nothing."""
    zeros: float = 0.0
    """Share of exact zeros, 0 to 1."""
    kept: int | None = None
    """Blocks that its blob holds, where it is stored sparse (see `sparse`); None where all values are there."""


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
    blobs: Mapping[str, int] = field(default_factory=dict)
    """Sizes in bytes of the blobs by digest; empty while importing."""

    @property
    def batched(self) -> bool:
        """Whether the leading dimension of inputs and outputs is free."""
        return bool(self.inputs) and self.inputs[0].type.shape[:1] == (None,)

    def type_of(self, name: str) -> TensorType | None:
        """Type of a tensor or weight; None for an absent input."""
        if not name:
            return None
        return self.weights[name].type if name in self.weights else self.tensors[name]
