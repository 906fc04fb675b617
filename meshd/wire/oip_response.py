"""A ModelInferResponse written by hand: the header's fields, then each raw output joined once.

Rule: a tensor is copied exactly once, by the join that gives gRPC the one buffer it takes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from meshd.wire.oip_request import Parameter


@dataclass(frozen=True, slots=True)
class OutputTensor:
    """One output; `data` is raw, little-endian."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes | bytearray | memoryview


def write_response(
    model_name: str,
    id: str,
    outputs: Sequence[OutputTensor],
    parameters: Iterable[tuple[str, Parameter]] = (),
    stream: bool = False,
) -> bytes:
    """The bytes of a ModelInferResponse; with `stream`, of a ModelStreamInferResponse around it."""
    head = [_text(1, model_name), _text(2, "1"), _text(3, id)]
    head += [_field(4, _text(1, name) + _field(2, _parameter(value))) for name, value in parameters]
    for output in outputs:
        shape = b"".join(_varint(n) for n in output.shape)
        head.append(_field(5, _text(1, output.name) + _text(2, output.datatype) + _field(3, shape)))
    parts: list[bytes | bytearray | memoryview] = [b"".join(head)]
    size = len(parts[0])
    for output in outputs:
        before = b"\x32" + _varint(len(output.data))  # raw_output_contents = 6
        parts += [before, output.data]
        size += len(before) + len(output.data)
    if stream:
        parts.insert(0, b"\x12" + _varint(size))  # infer_response = 2
    return b"".join(parts)


def write_stream_error(text: str, id: str) -> bytes:
    """A ModelStreamInferResponse that says what was wrong with the request `id`; the stream goes on."""
    return _text(1, text) + (_field(2, _text(3, id)) if id else b"")


def _parameter(value: Parameter) -> bytes:
    match value:
        case bool():
            return b"\x08" + _varint(int(value))
        case int():
            return b"\x10" + _varint(value & 0xFFFFFFFFFFFFFFFF)
        case str():
            return _text(3, value)
        case float():
            raise ValueError("no answer carries a floating-point parameter")


def _text(number: int, value: str) -> bytes:
    return _field(number, value.encode()) if value else b""


def _field(number: int, data: bytes) -> bytes:
    return bytes((number << 3 | 2,)) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
