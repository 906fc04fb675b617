"""Where other nodes may be: mDNS, and seeds given by name. Hints for the core, evidence for the doctor.

Rule: nothing here is believed: a sighting only says where to dial.
"""

import ipaddress
import logging
import threading
from collections.abc import Sequence

import trio

from meshd.config import HEARD_MAX
from meshd.core.events import Sighted
from meshd.core.ids import Address, NodeId
from meshd.daemon.inbox import Inbox
from meshd.daemon.prepared import Prepared
from meshd.net.discovery import Discovery, Sighting

log = logging.getLogger(__name__)

RESOLVE_S = 60.0


class Seeker:
    """Feeds sightings to the core."""

    def __init__(self, prepared: Prepared, port: int, inbox: Inbox) -> None:
        settings = prepared.settings
        self._inbox = inbox
        self._names = [seed for seed in settings.seeds if not _is_numeric(seed)]
        self._heard: dict[NodeId, Sighting] = {}
        self._lock = threading.Lock()
        self._discovery: Discovery | None = None
        if settings.discovery and prepared.key is not None:
            self._discovery = Discovery(
                prepared.identity.node,
                prepared.mesh_id,
                port,
                self._sighted,
                loopback=settings.loopback,
                interfaces=settings.interfaces,
                skip=settings.interfaces_skip,
            )

    @staticmethod
    def numeric(seeds: Sequence[Address]) -> tuple[Address, ...]:
        """Seeds that need no resolving: the core contacts those itself."""
        return tuple(seed for seed in seeds if _is_numeric(seed))

    def heard(self) -> list[Sighting]:
        """Every node heard by mDNS, of this mesh or not."""
        with self._lock:
            mine = list(self._heard.values())
        return mine + list(self._discovery.strangers() if self._discovery else ())

    async def run(self) -> None:
        """Announce, listen and resolve until cancelled."""
        async with trio.open_nursery() as nursery:
            if self._discovery is not None:
                nursery.start_soon(self._discovery.run)
            if self._names:
                nursery.start_soon(self._resolve)

    def _sighted(self, sighting: Sighting) -> None:
        with self._lock:
            self._heard.pop(sighting.node, None)
            self._heard[sighting.node] = sighting
            if len(self._heard) > HEARD_MAX:
                del self._heard[next(iter(self._heard))]
        for address in sighting.addresses:
            self._inbox.offer(Sighted(address, sighting.node))

    async def _resolve(self) -> None:
        while True:
            for seed in self._names:
                try:
                    found = await trio.socket.getaddrinfo(seed.host, seed.port, type=trio.socket.SOCK_DGRAM)
                except OSError as error:
                    log.warning("seed %s: %s; tried again in a minute", seed, error)
                    continue
                for *_, place in found:
                    self._inbox.offer(Sighted(Address(str(place[0]), seed.port)))
            await trio.sleep(RESOLVE_S)


def _is_numeric(seed: Address) -> bool:
    try:
        ipaddress.ip_address(seed.host)
    except ValueError:
        return False
    return True
