"""Any field of any message put out of range: walks a protobuf message by its descriptor, so that no field can be forgotten."""

from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

_UNSIGNED = {FieldDescriptor.TYPE_UINT32: 32, FieldDescriptor.TYPE_UINT64: 64}
_FIXED = {FieldDescriptor.TYPE_FIXED32: 32, FieldDescriptor.TYPE_FIXED64: 64}


def fields(message: Message, path: str = "") -> list[tuple[Message, FieldDescriptor, str]]:
    """Every (message, field, dotted name) in it, set or not; of the unset messages only the field itself."""
    found = []
    for field in message.DESCRIPTOR.fields:
        name = f"{path}.{field.name}"
        found.append((message, field, name))
        if field.type != FieldDescriptor.TYPE_MESSAGE:
            continue
        if field.is_repeated:
            for child in getattr(message, field.name)[:3]:
                found += fields(child, name)
        elif message.HasField(field.name):
            found += fields(getattr(message, field.name), name)
    return found


def mutate(message: Message, rng: Random, ids: list[bytes]) -> str:
    """Change one field, most often to what is out of range; returns its name. `ids` are 16-byte names that mean something."""
    holder, field, name = rng.choice(fields(message))
    if field.is_repeated:
        _repeat(getattr(holder, field.name), field, rng, ids)
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        if holder.HasField(field.name) and rng.random() < 0.5:
            holder.ClearField(field.name)
        else:
            getattr(holder, field.name).SetInParent()
    else:
        setattr(holder, field.name, _value(field, rng, ids))
    return name


def _repeat(items: Any, field: FieldDescriptor, rng: Random, ids: list[bytes]) -> None:
    match rng.randrange(4):
        case 0:
            del items[:]
        case 1 if len(items):
            items.append(items[0])
        case 2 if len(items):
            items.extend([items[0]] * rng.choice((64, 600)))
        case _ if field.type == FieldDescriptor.TYPE_MESSAGE:
            items.add()
        case _:
            items.append(_value(field, rng, ids))


def _value(field: FieldDescriptor, rng: Random, ids: list[bytes]) -> Any:
    if field.type in _UNSIGNED or field.type in _FIXED:
        bits = (_UNSIGNED | _FIXED)[field.type]
        edges = (0, 1, 2, 3, 63, 64, 511, 513, 1 << 16, 1 << 31, 1 << 53, 1 << 62, (1 << bits) - 1)
        return rng.choice(edges) & ((1 << bits) - 1)
    match field.type:
        case FieldDescriptor.TYPE_INT32 | FieldDescriptor.TYPE_INT64:
            return rng.choice((-(1 << 31), -1, 0, 1, (1 << 31) - 1))
        case FieldDescriptor.TYPE_BOOL:
            return rng.random() < 0.5
        case FieldDescriptor.TYPE_ENUM:
            return rng.choice((0, 1, 2, 3, 4, 5, 6, 99))
        case FieldDescriptor.TYPE_STRING:
            return rng.choice(("", "camera", "x" * 257, "\0", "é" * 300))
        case FieldDescriptor.TYPE_BYTES:
            return rng.choice((b"", b"short", rng.choice(ids), rng.randbytes(16), rng.randbytes(32), bytes(2_000)))
    raise AssertionError(f"no values for fields of type {field.type}")
