"""Node ids and digests as the wire carries them: 16 and 32 raw bytes instead of text.

Rule 1: what comes back from the wire has exactly the one spelling that `core.ids` says; anything else is refused.
"""

import base64
import binascii
from functools import lru_cache

from meshd.config import MEMBERS_MAX
from meshd.core.ids import Digest, NodeId
from meshd.errors import InvalidError

NODE_BYTES = 16
DIGEST_BYTES = 32


@lru_cache(MEMBERS_MAX)  # base64's Base32 is slow Python, and the same few ids come and go with every datagram.
def node_bytes(node: NodeId) -> bytes:
    """The 16 bytes of a node id.

    Raises
    ------
    InvalidError
        Not 26 lower-case Base32 characters, or not the one spelling of 16 bytes (its last bits must be zero).
    """
    try:
        raw = base64.b32decode(node.upper() + "======")
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != NODE_BYTES or _text(raw) != node:
        raise InvalidError(f"{node[:64]!r} is no node id: expected 26 lower-case Base32 characters")
    return raw


@lru_cache(MEMBERS_MAX)
def node_id(raw: bytes) -> NodeId:
    """The node id of 16 raw bytes. Raises InvalidError for another length."""
    if len(raw) != NODE_BYTES:
        raise InvalidError(f"a node id is {NODE_BYTES} bytes, not {len(raw)}")
    return NodeId(_text(raw))


def digest_bytes(digest: Digest) -> bytes:
    """The 32 bytes of a digest. Raises InvalidError unless it is 64 lower-case hex characters."""
    try:
        raw = bytes.fromhex(digest)
    except ValueError:
        raw = b""
    if len(raw) != DIGEST_BYTES or raw.hex() != digest:
        raise InvalidError(f"{digest[:80]!r} is no digest: expected 64 lower-case hex characters")
    return raw


def digest_text(raw: bytes) -> Digest:
    """The digest of 32 raw bytes. Raises InvalidError for another length."""
    if len(raw) != DIGEST_BYTES:
        raise InvalidError(f"a digest is {DIGEST_BYTES} bytes, not {len(raw)}")
    return Digest(raw.hex())


def _text(raw: bytes) -> str:
    return base64.b32encode(raw).decode().rstrip("=").lower()
