"""Fields of protobuf messages, checked: what every codec file reads and writes with.

Rule: a count is checked before anything is iterated, a length before anything is copied.
"""

import ipaddress
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import TypeVar

from meshd.config import MEMBERS_MAX
from meshd.core.ids import Address, Digest, NodeId, node_bytes, node_id
from meshd.errors import InvalidError
from meshd.v1 import gossip_pb2 as pb

Item = TypeVar("Item")

__all__ = ["address", "bounded", "counted", "digest", "node", "node_bytes", "put_address", "put_digest", "text"]


def node(data: bytes, what: str) -> NodeId:
    """A node id of 16 bytes."""
    if len(data) != 16:
        raise InvalidError(f"{what}: a node id is 16 bytes, not {len(data)}")
    return node_id(data)


def digest(data: bytes, what: str) -> Digest:
    """A SHA-256 of 32 bytes."""
    if len(data) != 32:
        raise InvalidError(f"{what}: a digest is 32 bytes, not {len(data)}")
    return Digest(data.hex())


def put_digest(value: Digest) -> bytes:
    """The 32 bytes of a digest."""
    return bytes.fromhex(value)


def counted(items: Collection[Item], most: int, what: str) -> Iterable[Item]:
    """`items`, if they are at most `most`."""
    if len(items) > most:
        raise InvalidError(f"{what}: {len(items)} is more than {most}")
    return items


def bounded(value: int, least: int, most: int, what: str) -> int:
    """`value`, if within [least, most]."""
    if not least <= value <= most:
        raise InvalidError(f"{what}: {value} is not within {least} and {most}")
    return value


def text(value: str, most: int, what: str, least: int = 0) -> str:
    """Printable text of at most `most` characters."""
    if not least <= len(value) <= most:
        raise InvalidError(f"{what}: {len(value)} characters, allowed are {least} to {most}")
    if not value.isprintable():
        raise InvalidError(f"{what}: unprintable characters")
    return value


def address(message: pb.Address, what: str) -> Address:
    """An IP address and port."""
    return Address(_host(message.ip, what), bounded(message.port, 1, 65_535, f"{what}.port"))


def put_address(message: pb.Address, value: Address) -> None:
    """Write an address; its host must be an IP address."""
    message.ip, message.port = _packed(value.host), value.port


@lru_cache(maxsize=MEMBERS_MAX)
def _packed(host: str) -> bytes:
    return ipaddress.ip_address(host).packed


@lru_cache(maxsize=MEMBERS_MAX)
def _host(packed: bytes, what: str) -> str:
    if len(packed) not in {4, 16}:
        raise InvalidError(f"{what}: an IP address is 4 or 16 bytes, not {len(packed)}")
    return str(ipaddress.ip_address(packed))
