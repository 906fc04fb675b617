"""Names of things: nodes, boots, digests, addresses, segments.

Everything is a plain immutable value that compares and sorts the same on every machine. No built-in `hash()` takes part in a
decision: ranking is by BLAKE2b, so that it is the same in every process.
"""

import base64
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import NewType

from meshd.config import MEMBERS_MAX

NodeId = NewType("NodeId", str)
"""26 base32 characters (lower case, no padding): the first 16 bytes of SHA-256 of the node's public key (SPKI DER)."""

Digest = NewType("Digest", str)
"""SHA-256 in 64 lower-case hex characters: a model's topology, a blob, a plan, a record."""

Boot = NewType("Boot", int)
"""64 bits: a count persisted and raised at each start (the high 32), then 32 random bits; boots compare as integers."""


NO_BOOT = Boot(0)
"""Before the first: no boot of any node is 0."""


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """Where a node hears gossip (UDP) and links (TCP): one port for both."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, order=True)
class SegmentId:
    """One segment of one plan: what a node must hold to be allowed to compute.

    `plan` is the *plan digest* (model, cuts, encodings), not a record's digest: two records with the same cuts share
    their segments.
    """

    plan: Digest
    index: int


@lru_cache(maxsize=4 * MEMBERS_MAX)
def rank(key: str, node: NodeId) -> bytes:
    """Rendezvous weight of `node` for `key`; the greatest comes first.

    References
    ----------
    Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998.
    """
    return hashlib.blake2b(f"{key}\0{node}".encode(), digest_size=16).digest()


@lru_cache(maxsize=2 * MEMBERS_MAX)
def node_id(digest: bytes) -> NodeId:
    """Text of a node's 16 bytes."""
    assert len(digest) == 16, f"a node id is 16 bytes, not {len(digest)}"
    return NodeId(base64.b32encode(digest).decode().rstrip("=").lower())


@lru_cache(maxsize=2 * MEMBERS_MAX)
def node_bytes(node: NodeId) -> bytes:
    """The 16 bytes of a node's id."""
    return base64.b32decode(node.upper() + "======")


def boot_of(count: int, low: int) -> Boot:
    """A boot from its persisted count and 32 random bits."""
    return Boot(count << 32 | low)
