"""What links ask of TCP: options that notice silence and keep queues short, and how far its bytes have come.

Rule 1: nothing here enters TLS: it may be called for a socket that another thread reads or writes.
"""

import contextlib
import socket
import struct
from dataclasses import dataclass
from typing import Any

from meshd.config import LINK_SILENT_US, LINK_UNSENT_BYTES

_INFO_BYTES = 256
_LAST_ACK, _RTT, _DELIVERY = 8 + 12 * 4, 8 + 15 * 4, 160
_MAX_PACING_RATE = getattr(socket, "SO_MAX_PACING_RATE", 47)
_ACKED, _UNSENT, _SENT, _RETRANSMITTED = 120, 144, 200, 208
_ESTABLISHED = 1
_TCP_RTO_MAX_MS = 44
_UNPACED = 0xFFFFFFFF
"""Offsets in Linux's struct tcp_info (include/uapi/linux/tcp.h): one ABI since 4.1, the last two since 4.19."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a connection's bytes have come."""

    written: int
    """Bytes this machine's kernel was given since the connection opened; 0 where it does not count them."""
    repeated: int
    """Bytes it sent again since: lost, or thought to be."""
    acked: int
    """Of those written, what the peer's kernel has taken in."""
    last_ack_ms: int
    """Milliseconds since its last acknowledgement of anything."""
    rtt_us: int
    """TCP's own smoothed round trip: the network without the processes at its ends."""
    open: bool
    """Neither end has closed it, as far as this machine heard."""


def tune(connection: Any) -> None:
    """Set a link's options on a connected TCP socket, plain or trio's."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    with contextlib.suppress(OSError, AttributeError):  # Linux; elsewhere death is noticed later.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, LINK_SILENT_US // 1000)
        # Without it megabytes of a large frame lie unsent in the kernel, and an Ack waits behind them.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, LINK_UNSENT_BYTES)
    with contextlib.suppress(OSError):
        # Tries again at least each second (Linux 6.15): doubling waits reach LINK_SILENT_US after five losses in a row,
        # which at 30 % loss both ways happens all the time.
        connection.setsockopt(socket.IPPROTO_TCP, _TCP_RTO_MAX_MS, 1_000)


def expect_loss(connection: socket.socket) -> None:
    """Let TCP take loss for what it is on radio, not for a full queue. From any thread, at any time.

    At 10 % loss and 10 ms, 20 KB there and an Ack back took 75 ms at the median and 1 MB 1.3 s; with cubic 241 ms and
    12.4 s. Not from the start: on a fast link its pacing costs (4 MiB on loopback took twice as long).
    """
    with contextlib.suppress(OSError, AttributeError):  # Needs root, or net.ipv4.tcp_allowed_congestion_control.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"bbr")


def shut(connection: socket.socket) -> None:
    """End a connection from any thread: who reads or writes it finds the end at once and closes it."""
    with contextlib.suppress(OSError):
        # The plain socket's method: SSLSocket's own would enter the TLS object that another thread is in.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def progress(connection: socket.socket) -> Progress | None:
    """How far its bytes have come; None where the kernel does not tell or the socket is closed."""
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    except (OSError, AttributeError):
        return None
    if len(info) < _ACKED + 8:
        return None
    acked = struct.unpack_from("=Q", info, _ACKED)[0]
    last_ack_ms, rtt_us = (struct.unpack_from("=I", info, offset)[0] for offset in (_LAST_ACK, _RTT))
    written = again = 0
    if len(info) >= _RETRANSMITTED + 8:
        sent, again = struct.unpack_from("=QQ", info, _SENT)
        written = sent - again + struct.unpack_from("=I", info, _UNSENT)[0]
    return Progress(written, again, acked, last_ack_ms, rtt_us, info[0] == _ESTABLISHED)


def pace(connection: socket.socket, bps: int) -> None:
    """Let TCP send at most `bps` bytes a second; 0 for no limit. Where the kernel cannot, there is none."""
    with contextlib.suppress(OSError):
        # Packed: the kernel's number is unsigned, Python's integer option is not.
        limit = struct.pack("=I", min(bps, _UNPACED - 1) if bps else _UNPACED)
        connection.setsockopt(socket.SOL_SOCKET, _MAX_PACING_RATE, limit)


def delivery_bps(connection: socket.socket) -> int:
    """Bytes a second that lately arrived at the far end, as TCP sees it; 0 where unknown."""
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    except (OSError, AttributeError):
        return 0
    return int(struct.unpack_from("=Q", info, _DELIVERY)[0]) if len(info) >= _DELIVERY + 8 else 0
