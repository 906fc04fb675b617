"""One segment of one request: encoded inputs in, encoded outputs out.

The order of tensors on the wire is the plan's: a model's inputs and outputs in its signature's order, what crosses a cut
in the order of the plan's `crossing`.
"""

from collections.abc import Sequence
from time import monotonic_ns
from typing import Any

from meshd.core.plan import Encoding
from meshd.dataplane.budget import Budget
from meshd.dataplane.links import Buffer, Held
from meshd.engine.crossing import decode, encode
from meshd.errors import InvalidError
from meshd.model.graph import Port


def run(held: Held, index: int, batch: int, inputs: Sequence[Buffer], budget: Budget) -> tuple[tuple[Buffer, ...], int]:
    """Decode, compute, encode.

    Returns
    -------
    the outputs as bytes, and the microseconds that the segment itself took

    Raises
    ------
    InvalidError
        An input is not what the segment takes.
    """
    segment = held.segment
    with budget:
        values = _decoded(held, index, batch, inputs)
    began_ns = monotonic_ns()
    results = segment.run(values)
    took_us = (monotonic_ns() - began_ns) // 1000
    with budget:
        return _encoded(held, index, results), took_us


def _decoded(held: Held, index: int, batch: int, inputs: Sequence[Buffer]) -> list[Any]:
    ports = held.segment.inputs
    if index == 0:
        wanted = [(port.name, outside(port)) for port in ports]
    else:
        wanted = [(name, encoding.value) for name, encoding in held.plan.segments[index - 1].crossing]
    if len(inputs) != len(wanted):
        raise InvalidError(f"segment {index} takes {len(wanted)} tensors, got {len(inputs)}")
    by_name = {port.name: port for port in ports}
    values = {
        name: decode(raw if isinstance(raw, memoryview) else memoryview(raw), encoding, by_name[name], batch)
        for (name, encoding), raw in zip(wanted, inputs, strict=True)
    }
    return [values[port.name] for port in ports]


def _encoded(held: Held, index: int, results: Sequence[Any]) -> tuple[Buffer, ...]:
    ports = held.segment.outputs
    if index == len(held.plan.segments) - 1:
        return tuple(_bytes(encode(value, outside(port))) for port, value in zip(ports, results, strict=True))
    by_name = dict(zip((p.name for p in ports), results, strict=True))
    crossing = held.plan.segments[index].crossing
    return tuple(_bytes(encode(by_name[name], encoding.value)) for name, encoding in crossing)


def outside(port: Port) -> str:
    """How a model's own inputs and outputs travel: as the little-endian bytes that clients speak."""
    encoding = Encoding.FLOAT32 if port.type.dtype == "float32" else Encoding.RAW
    return str(encoding.value)


def _bytes(value: Buffer) -> Buffer:
    return value.cast("B") if isinstance(value, memoryview) else value
