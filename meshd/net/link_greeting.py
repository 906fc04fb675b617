"""How a connection between peers begins: one byte in the clear that says its kind, TLS, then a Hello.

Rule 1: blocking code for threads, every step under a deadline: a stranger holds a thread for `LINK_GREETING_US` at most.
Rule 2: what is returned was verified: the far end has the key of the peer that is named.
"""

import socket
import ssl
import time
from collections.abc import Sequence
from enum import Enum

from meshd.config import LINK_CONNECT_US, LINK_GREETING_US, PROTOCOL_VERSION
from meshd.core.ids import Address, NodeId
from meshd.errors import InvalidError, MeshdError, UnavailableError
from meshd.net import tcp
from meshd.net.tls import Roster
from meshd.wire.codec_frames import Hello


class LinkKind(Enum):
    """The first byte on a connection."""

    CONTROL = b"C"
    DATA = b"D"
    BULK = b"B"


def dial(roster: Roster, peer: NodeId, addresses: Sequence[Address], kind: LinkKind) -> ssl.SSLSocket:
    """Connect to `peer` at the first address where it answers. Blocks for at most `LINK_GREETING_US` an address.

    Raises
    ------
    DeniedError
        It is not on the roster.
    UnavailableError
        Nothing answers, or what answers is not `peer`; names each address and what was wrong there.
    """
    context = roster.dialler_context(peer)
    said = []
    for address in addresses:
        raw = None
        try:
            raw = socket.create_connection((address.host, address.port), LINK_CONNECT_US / 1e6)
            tcp.tune(raw)
            raw.settimeout(LINK_GREETING_US / 1e6)
            raw.sendall(kind.value)
            secured = context.wrap_socket(raw)
            roster.check(secured.getpeercert(True), peer)
            return secured
        except (OSError, MeshdError) as error:  # SSLError is an OSError.
            if raw is not None:
                raw.close()
            said.append(f"{address}: {error}")
    raise UnavailableError(f"cannot reach {peer}: {'; '.join(said) or 'no address is known'}")


def welcome(roster: Roster, raw: socket.socket) -> tuple[ssl.SSLSocket, NodeId]:
    """Shake hands on a connection that was accepted (its first byte is read). Closes it if that fails.

    Raises
    ------
    DeniedError, OSError
        The far end is nobody on the roster, or broke off.
    """
    try:
        raw.settimeout(LINK_GREETING_US / 1e6)
        tcp.tune(raw)
        secured = roster.listener_context().wrap_socket(raw, server_side=True)
    except OSError:
        raw.close()
        raise
    try:
        return secured, roster.check(secured.getpeercert(True))
    except MeshdError:
        secured.close()
        raise


def check_hello(hello: object) -> Hello:
    """The first header of a connection. Raises InvalidError if it is no Hello of this protocol."""
    if not isinstance(hello, Hello):
        raise InvalidError(f"a connection starts with a Hello, not {type(hello).__name__}")
    if hello.protocol_version != PROTOCOL_VERSION:
        raise InvalidError(f"the peer speaks version {hello.protocol_version}, this node {PROTOCOL_VERSION}")
    return hello


def now_us() -> int:
    """Monotonic microseconds, as in every ticket."""
    return time.monotonic_ns() // 1_000
