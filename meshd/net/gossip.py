"""Sealed gossip datagrams over UDP, in trio.

Rule 1: best effort. A datagram that cannot be sent now is dropped and counted, like one the network loses.
Rule 2: what does not verify is counted by reason (`opener.refused`) and goes no further.
Rule 3: a batch is bounded, so that a flood cannot keep the driver from its timers.
"""

import socket
from collections import Counter
from dataclasses import dataclass

import trio

from meshd.config import DATAGRAMS_A_WAKE_MAX
from meshd.core.ids import Address, Boot, NodeId
from meshd.net.addresses import address_of, sockaddr
from meshd.wire.seal import DATAGRAM_BYTES_MAX, Opener, Refusal, Sealer


@dataclass(frozen=True, slots=True)
class Received:
    """A datagram that verified: sealed by (source, boot) for this node, not seen before."""

    source: NodeId
    boot: Boot
    address: Address
    """Where it came from: not covered by the seal."""
    to_anyone: bool
    """Sealed for nobody in particular: accept only a Join so."""
    body: bytes


class GossipSocket:
    """One bound UDP socket (see `net.addresses.bind_ports`), used by one trio task; `close` it at the end."""

    def __init__(self, udp: socket.socket, sealer: Sealer, opener: Opener) -> None:
        self._udp, self._sealer, self._opener = udp, sealer, opener
        self._family = udp.family
        self._buffer = bytearray(DATAGRAM_BYTES_MAX + 1)  # One byte more shows what is too long.
        self.counts: Counter[str] = Counter()
        """`received`, `received_bytes`, `sent`, `sent_bytes`, `unsent` (the network or the kernel refused)."""

    async def readable(self) -> None:
        """Return when a datagram waits. Cancellation leaves nothing behind."""
        await trio.lowlevel.wait_readable(self._udp)

    def drain(self, limit: int = DATAGRAMS_A_WAKE_MAX) -> list[Received]:
        """Read up to `limit` waiting datagrams without waiting and return those that verified."""
        found = []
        for _ in range(limit):
            try:
                size, sender = self._udp.recvfrom_into(self._buffer)
            except BlockingIOError:
                break
            except OSError:
                continue  # An ICMP error about a datagram sent earlier.
            self.counts["received"] += 1
            self.counts["received_bytes"] += size
            opened = self._opener.open(bytes(memoryview(self._buffer)[:size]))
            if not isinstance(opened, Refusal):
                found.append(Received(opened.source, opened.boot, address_of(sender), opened.to_anyone, opened.body))
        return found

    def send(self, address: Address, receiver: NodeId | None, body: bytes) -> bool:
        """Seal `body` for `receiver` (None: for nobody in particular) and send it; False where it could not leave.

        Raises
        ------
        MisuseError
            The body is longer than a datagram's.
        """
        datagram = self._sealer.seal(receiver, body)
        try:
            self._udp.sendto(datagram, sockaddr(address, self._family))
        except (OSError, ValueError):  # Full buffer, no route, no such host: lossy is what UDP is.
            self.counts["unsent"] += 1
            return False
        self.counts["sent"] += 1
        self.counts["sent_bytes"] += len(datagram)
        return True

    def close(self) -> None:
        """Close the socket."""
        self._udp.close()
