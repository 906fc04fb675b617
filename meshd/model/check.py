"""Whether a graph is one: order, names, types, limits. Used on everything packed and everything read.

Kernels check no bounds, so a topology's own word for a shape counts for nothing: each is inferred anew from the operator
table, and must agree.
"""

from dataclasses import replace
from math import prod

from meshd.config import (
    BLOB_BYTES_MAX,
    MODEL_BYTES_MAX,
    MODEL_OPERATIONS_MAX,
    MODEL_TENSORS_MAX,
    NAME_CHARS_MAX,
    TENSOR_BYTES_MAX,
    TENSOR_RANK_MAX,
    TENSORS_PER_REQUEST_MAX,
)
from meshd.errors import InvalidError
from meshd.model import sparse
from meshd.model.graph import DTYPES, Graph, Operation, TensorType, Weight
from meshd.model.operators import OPERATORS
from meshd.model.operators.spec import fits, require

STRUCTURES = ("", "sign", "block4", "block8", "block16", "zeros")

ITEM_BYTES = {"float16": 2, "float32": 4, "float64": 8, "bool": 1} | {
    f"{sign}int{bits}": bits // 8 for sign in ("", "u") for bits in (8, 16, 32, 64)
}

ALIGNMENT = 64
"""Weights begin at multiples of this in their blob: a cache line, and the widest vector."""


def tensor_bytes(t: TensorType) -> int:
    """Bytes of one item, a Python int whatever the shape claims."""
    return prod(t.item) * ITEM_BYTES[t.dtype]


def stored_bytes(weight: Weight) -> int:
    """Bytes a weight takes in its blob: signs are packed, eight to a byte; sparse ones leave blocks of zeros out."""
    if weight.kept is not None:
        return sparse.stored_bytes(weight.structure, weight.type.item, ITEM_BYTES[weight.type.dtype], weight.kept)
    return -(-prod(weight.type.item) // 8) if weight.structure == "sign" else tensor_bytes(weight.type)


def _plain_bytes(weight: Weight) -> int:
    """Bytes of its blob's values, were none left out."""
    return stored_bytes(replace(weight, kept=None))


def check_graph(graph: Graph) -> None:
    """Raise InvalidError naming the first thing that is not what it must be."""
    require(
        len(graph.operations) <= MODEL_OPERATIONS_MAX,
        f"{len(graph.operations)} operations; at most {MODEL_OPERATIONS_MAX}",
    )
    count = len(graph.weights) + len(graph.tensors)
    require(count <= MODEL_TENSORS_MAX, f"{count} tensors; at most {MODEL_TENSORS_MAX}")
    _check_name(graph.name, "the model")
    for kind, ports in (("inputs", graph.inputs), ("outputs", graph.outputs)):
        require(0 < len(ports) <= TENSORS_PER_REQUEST_MAX, f"{len(ports)} {kind}; from 1 to {TENSORS_PER_REQUEST_MAX}")
        require(len({p.name for p in ports}) == len(ports), f"two {kind} have one name")
        for port in ports:
            require(
                (port.type.shape[:1] == (None,)) == graph.batched,
                f"{port.name}: the batch is free for all ports or none",
            )
            require(graph.tensors.get(port.name) == port.type, f"{port.name}: the port's type is not the tensor's")
    for name, t in graph.tensors.items():
        _check_name(name, "a tensor")
        _check_type(name, t)
        require(tensor_bytes(t) <= TENSOR_BYTES_MAX, f"{name} has {tensor_bytes(t)} bytes; at most {TENSOR_BYTES_MAX}")
        require(graph.batched or None not in t.shape, f"{name} has a batch in a graph of fixed batch")
    for weight in graph.weights.values():
        _check_weight(weight)
        require(weight.name not in graph.tensors, f"{weight.name} is both a weight and a tensor")
    # NB what they take unpacked: a blob of few values must not ask for much memory.
    total = sum(max(stored_bytes(w), _plain_bytes(w)) for w in graph.weights.values())
    require(total <= MODEL_BYTES_MAX, f"weights of {total} bytes; at most {MODEL_BYTES_MAX}")
    _check_order(graph)


def _check_name(name: str, what: str) -> None:
    require(
        0 < len(name) <= NAME_CHARS_MAX and name.isprintable(),
        f"{what} needs a printable name of 1 to {NAME_CHARS_MAX}",
    )


def _check_type(name: str, t: TensorType) -> None:
    require(t.dtype in DTYPES, f"{name} has element type {t.dtype!r}")
    require(len(t.shape) <= TENSOR_RANK_MAX, f"{name} has rank {len(t.shape)}; at most {TENSOR_RANK_MAX}")
    require(None not in t.shape[1:], f"{name}: only the leading dimension can be the batch")
    require(all(0 <= d < 2**31 for d in t.item), f"{name} has shape {list(t.shape)}")


def _check_weight(weight: Weight) -> None:
    _check_name(weight.name, "a weight")
    _check_type(weight.name, weight.type)
    require(None not in weight.type.shape, f"weight {weight.name} has a batch")
    require(weight.structure in STRUCTURES, f"weight {weight.name} has structure {weight.structure!r}")
    require(weight.structure != "sign" or weight.type.dtype == "float32", f"weight {weight.name}: signs are float32")
    require(0.0 <= weight.zeros <= 1.0, f"weight {weight.name} claims {weight.zeros} zeros")
    require(
        weight.offset >= 0 and weight.offset % ALIGNMENT == 0,
        f"weight {weight.name} is not at a multiple of {ALIGNMENT}",
    )
    require(
        weight.kept is None or weight.type.dtype == "float32", f"weight {weight.name}: only float32 is stored sparse"
    )
    require(_plain_bytes(weight) <= BLOB_BYTES_MAX, f"weight {weight.name} has more than {BLOB_BYTES_MAX} bytes")
    end = weight.offset + stored_bytes(weight)
    require(end <= BLOB_BYTES_MAX, f"weight {weight.name} ends at byte {end} of its blob; at most {BLOB_BYTES_MAX}")


def _check_order(graph: Graph) -> None:
    known = {p.name for p in graph.inputs}
    for operation in graph.operations:
        for name in operation.inputs:
            there = not name or name in known or name in graph.weights
            require(there, f"{operation.name} reads {name!r} before it is written")
        outputs = [name for name in operation.outputs if name]
        require(bool(outputs) and not known.intersection(outputs), f"{operation.name} writes a tensor twice, or none")
        for name, t in zip(operation.outputs, infer(graph, operation), strict=True):
            if name:
                declared = graph.tensors.get(name)
                right = declared is not None and declared.dtype == t.dtype and declared.item == t.shape
                require(right, f"{operation.name} writes {name} as {t}, not {declared}")
        known.update(outputs)
    require(known == set(graph.tensors), "tensors that nothing writes")


def infer(graph: Graph, operation: Operation) -> tuple[TensorType, ...]:
    """Types of an operation's outputs from those of its inputs, one for each output it names; raises InvalidError."""
    return infer_types(operation, tuple(graph.type_of(name) for name in operation.inputs))


def infer_types(operation: Operation, inputs: tuple[TensorType | None, ...]) -> tuple[TensorType, ...]:
    """As `infer`, of inputs whose types are known."""
    row = OPERATORS.get(operation.op)
    where = f"{operation.name} ({operation.op})"
    require(row is not None, f"{where}: no such operator")
    assert row is not None
    least, most = row.arity
    require(
        least <= len(inputs) <= most and None not in inputs[:least],
        f"{where}: {len(inputs)} inputs, not {least} to {most}",
    )
    kinds, given = row.attributes, operation.attributes
    require(set(kinds) == set(given), f"{where}: attributes {sorted(given)}, not {sorted(kinds)}")
    for key, kind in kinds.items():
        require(fits(kind, given[key]), f"{where}: attribute {key} is {given[key]!r}, not {kind}")
    try:
        outputs = row.infer(inputs, given)
    except InvalidError as error:
        raise InvalidError(f"{where}: {error}") from None
    require(
        len(operation.outputs) <= len(outputs), f"{where}: {len(operation.outputs)} outputs, at most {len(outputs)}"
    )
    return outputs[: len(operation.outputs)]
