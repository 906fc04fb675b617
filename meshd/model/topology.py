"""A graph as protobuf, and back. Deterministic one way, distrustful the other."""

from collections.abc import Mapping

from google.protobuf.message import DecodeError

from meshd.config import (
    BLOB_BYTES_MAX,
    MODEL_OPERATIONS_MAX,
    MODEL_TENSORS_MAX,
    TENSOR_RANK_MAX,
    TENSORS_PER_REQUEST_MAX,
    TOPOLOGY_BYTES_MAX,
)
from meshd.errors import InvalidError
from meshd.model.check import check_graph, stored_bytes
from meshd.model.graph import Attribute, Graph, Operation, Port, TensorType, Weight
from meshd.v1 import model_pb2 as pb

FORMAT, FORMAT_SPARSE = 1, 2
"""The second has weights stored sparse, which a reader of the first would take for plain ones."""
INPUTS_MAX = 4096
ATTRIBUTES_MAX = 64
VALUES_MAX = 4096
"""Of one attribute; the longest real ones are the sizes of a Split."""


def write(graph: Graph, blobs: Mapping[str, int]) -> bytes:
    """The bytes that name a model. `blobs`: digest → size, in order of first use."""
    sparse = any(w.kept is not None for w in graph.weights.values())
    message = pb.Topology(format=FORMAT_SPARSE if sparse else FORMAT, name=graph.name)
    index = {digest: i for i, digest in enumerate(blobs)}
    message.inputs.extend(_port(p.name, p.type) for p in graph.inputs)
    message.outputs.extend(_port(p.name, p.type) for p in graph.outputs)
    message.tensors.extend(_port(name, t) for name, t in sorted(graph.tensors.items()))
    message.operations.extend(_operation(o) for o in graph.operations)
    message.blobs.extend(pb.Blob(sha256=bytes.fromhex(d), size_bytes=size) for d, size in blobs.items())
    message.weights.extend(
        pb.Weight(
            name=w.name,
            type=_type(w.type),
            blob=index[w.blob],
            offset=w.offset,
            structure=w.structure,
            zeros=w.zeros,
            kept=w.kept,
        )
        for _, w in sorted(graph.weights.items())
    )
    return message.SerializeToString(deterministic=True)


def read(topology: bytes) -> Graph:
    """Parse and check; raises InvalidError naming what is wrong."""
    if len(topology) > TOPOLOGY_BYTES_MAX:
        raise InvalidError(f"a topology of {len(topology)} bytes; at most {TOPOLOGY_BYTES_MAX}")
    message = pb.Topology()
    try:
        message.ParseFromString(topology)
    except DecodeError:
        raise InvalidError(
            "the topology is no protobuf of a model: truncated or corrupt; push the model again"
        ) from None
    if message.format not in {FORMAT, FORMAT_SPARSE}:
        raise InvalidError(
            f"the topology has format {message.format}; this meshd reads {FORMAT} and {FORMAT_SPARSE}: use the same version"
        )
    # Counts first: Python objects of a repeated field cost a hundred times its bytes.
    _count(len(message.operations), MODEL_OPERATIONS_MAX, "operations")
    _count(len(message.weights) + len(message.tensors), MODEL_TENSORS_MAX, "tensors")
    _count(len(message.blobs), MODEL_OPERATIONS_MAX, "blobs")
    _count(len(message.inputs), TENSORS_PER_REQUEST_MAX, "inputs")
    _count(len(message.outputs), TENSORS_PER_REQUEST_MAX, "outputs")
    sizes = [_blob(b) for b in message.blobs]
    if message.format == FORMAT and any(w.HasField("kept") for w in message.weights):
        raise InvalidError(
            f"the topology has format {FORMAT} and weights stored sparse, which only {FORMAT_SPARSE} has"
        )
    weights = {w.name: _read_weight(w, sizes) for w in message.weights}
    tensors = {p.name: _read_type(p.name, p.type) for p in message.tensors}
    if len(weights) != len(message.weights) or len(tensors) != len(message.tensors):
        raise InvalidError("the topology names two tensors alike")
    graph = Graph(
        name=message.name,
        inputs=tuple(Port(p.name, _read_type(p.name, p.type)) for p in message.inputs),
        outputs=tuple(Port(p.name, _read_type(p.name, p.type)) for p in message.outputs),
        operations=tuple(_read_operation(o) for o in message.operations),
        weights=weights,
        tensors=tensors,
        blobs=dict(sizes),
    )
    check_graph(graph)
    return graph


def _count(count: int, most: int, what: str) -> None:
    if count > most:
        raise InvalidError(f"the topology has {count} {what}; at most {most}")


def _type(t: TensorType) -> pb.TensorType:
    return pb.TensorType(dtype=t.dtype, shape=[-1 if d is None else d for d in t.shape])


def _read_type(name: str, t: pb.TensorType) -> TensorType:
    _count(len(t.shape), TENSOR_RANK_MAX, f"axes in {name}")
    return TensorType(t.dtype, tuple(None if d == -1 else d for d in t.shape))


def _port(name: str, t: TensorType) -> pb.Port:
    return pb.Port(name=name, type=_type(t))


def _blob(b: pb.Blob) -> tuple[str, int]:
    if len(b.sha256) != 32 or not 0 < b.size_bytes <= BLOB_BYTES_MAX:
        raise InvalidError(
            f"a blob of {b.size_bytes} bytes with a digest of {len(b.sha256)}; at most {BLOB_BYTES_MAX}, and 32"
        )
    return b.sha256.hex(), b.size_bytes


def _read_weight(w: pb.Weight, sizes: list[tuple[str, int]]) -> Weight:
    if w.blob >= len(sizes):
        raise InvalidError(f"weight {w.name} lies in blob {w.blob} of {len(sizes)}")
    digest, size = sizes[w.blob]
    weight = Weight(w.name, _read_type(w.name, w.type), digest, w.offset, w.structure, w.zeros, _kept(w))
    try:
        end = w.offset + stored_bytes(weight)
    except InvalidError as error:
        raise InvalidError(f"weight {w.name}: {error}") from None
    except KeyError:
        raise InvalidError(f"weight {w.name} has element type {w.type.dtype!r}") from None
    if end > size:
        raise InvalidError(f"weight {w.name} ends at byte {end} of a blob of {size}")
    return weight


def _kept(w: pb.Weight) -> int | None:
    return w.kept if w.HasField("kept") else None


def _operation(o: Operation) -> pb.Operation:
    return pb.Operation(
        name=o.name,
        op=o.op,
        inputs=o.inputs,
        outputs=o.outputs,
        attributes=[_attribute(name, value) for name, value in sorted(o.attributes.items())],
    )


def _attribute(name: str, value: Attribute) -> pb.Attribute:
    if isinstance(value, int):
        return pb.Attribute(name=name, int_value=value)
    if isinstance(value, float):
        return pb.Attribute(name=name, float_value=value)
    if isinstance(value, str):
        return pb.Attribute(name=name, string_value=value)
    kinds = {type(v) for v in value}
    if kinds <= {int}:
        return pb.Attribute(name=name, ints_value=pb.Ints(values=(v for v in value if isinstance(v, int))))
    if kinds <= {int, float}:
        return pb.Attribute(name=name, floats_value=pb.Floats(values=(float(v) for v in value)))
    return pb.Attribute(name=name, strings_value=pb.Strings(values=(str(v) for v in value)))


def _read_operation(o: pb.Operation) -> Operation:
    _count(len(o.inputs) + len(o.outputs), INPUTS_MAX * 2, f"tensors at {o.name}")
    _count(len(o.attributes), ATTRIBUTES_MAX, f"attributes of {o.name}")
    attributes = {a.name: _read_attribute(o.name, a) for a in o.attributes}
    return Operation(o.name, o.op, tuple(o.inputs), tuple(o.outputs), attributes)


def _read_attribute(name: str, a: pb.Attribute) -> Attribute:
    kind = a.WhichOneof("value")
    if kind is None:
        raise InvalidError(f"attribute {a.name} of {name} has no value")
    value = getattr(a, kind)
    if kind.endswith("s_value"):
        _count(len(value.values), VALUES_MAX, f"values in attribute {a.name} of {name}")
        return tuple(value.values)
    return value  # type: ignore[no-any-return]
