"""mDNS: where nodes may be. A hint, never proof of anything.

Service `_meshd._udp.local.`, instance = node id; TXT: `v` protocol version, `id` node id, `mesh` mesh id; the port is in
the SRV record. Neither capacity nor names of models: mDNS is in the clear and for everybody.

Rule 1: zeroconf runs in its own thread (asyncio inside it, which trio never sees); what it hears is handed over by a
    callback that does not block.
Rule 2: what is heard is checked like any stranger's bytes, and bounded. Each (node, address) is told at most once a second.
Rule 3: without multicast, or without port 5353, the node still works by seeds: a warning, never an end.
"""

import ipaddress
import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio
from zeroconf import (
    DNSQuestionType,
    RecordUpdate,
    RecordUpdateListener,
    ServiceBrowser,
    ServiceInfo,
    ServiceStateChange,
    Zeroconf,
)

from meshd.config import DISCOVERY_AGAIN_US, DISCOVERY_POLL_US, HEARD_MAX, PROTOCOL_VERSION
from meshd.core.ids import Address, NodeId
from meshd.net.interfaces import LOOPBACK, interfaces

log = logging.getLogger(__name__)

SERVICE = "_meshd._udp.local."
_NODE = re.compile(r"[a-z2-7]{26}")
_MESH = re.compile(r"(?:[0-9a-f]{32})?")
_ADDRESSES_MAX = 8
_SRV = 33
_CLOSE_S = 2.0
"""Goodbyes take zeroconf 0.4 s; a daemon that is told to end does not wait longer than this."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A node heard by mDNS."""

    node: NodeId
    mesh: str
    """Mesh id in hex; empty for a node without a key."""
    version: int
    """Protocol version."""
    addresses: tuple[Address, ...]


class Discovery:
    """Announces this node and hears others."""

    def __init__(
        self,
        node: NodeId,
        mesh: str,
        port: int,
        on_sighting: Callable[[Sighting], None],
        *,
        loopback: bool = False,
        interfaces: Sequence[str] = (),
        skip: Sequence[str] = (),
    ) -> None:
        """Make it; nothing is sent before `run`.

        Parameters
        ----------
        mesh : mesh id in hex.
        port : gossip's (and the links').
        on_sighting : gets peers of this mesh and version, on zeroconf's thread; must not block. The same peer comes
            again with each of its announcements: it may have restarted.
        loopback : confine everything to 127.0.0.1.
        interfaces, skip : patterns of interface names to use, and to leave alone.
        """
        self._node, self._mesh, self._port, self._on_sighting = node, mesh, port, on_sighting
        self._loopback, self._only, self._skip = loopback, interfaces, skip
        self._zeroconf: Zeroconf | None = None
        self._browser: ServiceBrowser | None = None
        self._shown: tuple[str, ...] = ()
        self._lock = threading.Lock()
        self._strangers: OrderedDict[NodeId, Sighting] = OrderedDict()
        self._told: OrderedDict[Sighting, float] = OrderedDict()

    async def run(self) -> None:
        """Announce, listen, and follow interfaces that come and go, until cancelled."""
        failed = False
        try:
            while True:
                addresses = self._addresses()
                if addresses != self._shown:
                    try:
                        await trio.to_thread.run_sync(self._show, addresses)
                        failed = False
                    except Exception as error:  # noqa: BLE001 - zeroconf raises of every kind; none is worth the node.
                        if not failed:
                            log.warning("mDNS does not work here (%s); nodes are found by seeds only", error)
                        failed = True
                        await trio.to_thread.run_sync(self._close)
                await trio.sleep(DISCOVERY_POLL_US / 1e6)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLOSE_S):
                await trio.to_thread.run_sync(self._close, abandon_on_cancel=True)

    def strangers(self) -> tuple[Sighting, ...]:
        """Nodes heard that are not of this mesh or version (at most `HEARD_MAX`): for `meshctl doctor`."""
        with self._lock:
            return tuple(self._strangers.values())

    # ---------------------------------------------------------------- announcing

    def _addresses(self) -> tuple[str, ...]:
        if self._loopback:
            return (LOOPBACK,)
        return tuple(ip for found in interfaces(self._only, self._skip) for ip in found.addresses)

    def _show(self, addresses: tuple[str, ...]) -> None:
        """Announce these addresses, and listen on their interfaces. Blocks for a second."""
        # IPv4 carries mDNS wherever there is any; IPv6 alone is used only by machines that have nothing else.
        listen: list[str | int] = [ip for ip in addresses if ipaddress.ip_address(ip).version == 4] or list(addresses)
        if not listen:
            self._close()
            self._shown = addresses
            return
        info = ServiceInfo(
            SERVICE,
            f"{self._node}.{SERVICE}",
            port=self._port,
            server=f"{self._node}.local.",
            parsed_addresses=list(addresses[:_ADDRESSES_MAX]),
            properties={"v": str(PROTOCOL_VERSION), "id": self._node, "mesh": self._mesh},
        )
        if self._zeroconf is None:
            self._zeroconf = Zeroconf(interfaces=listen, use_asyncio=False)
            ear = _Ear(self._zeroconf, self._heard)
            self._zeroconf.add_listener(ear, None)
            # The browser asks, and tells what came before the listener was there; the listener also hears repetitions.
            # Asked for answers by unicast, as is usual at first, the kernel would give them to any one of the
            # daemons that share port 5353.
            self._browser = ServiceBrowser(
                self._zeroconf, SERVICE, handlers=[ear.browsed], question_type=DNSQuestionType.QM
            )
            # Ids are unique: there is no name to defend, and probing for one would cost 1.6 s.
            self._zeroconf.register_service(info, cooperating_responders=True)
        else:
            self._zeroconf.update_interfaces(listen)
            self._zeroconf.update_service(info)
        self._shown = addresses

    def _close(self) -> None:
        zeroconf, self._zeroconf, self._shown = self._zeroconf, None, ()
        browser, self._browser = self._browser, None
        if browser is not None:
            browser.cancel()  # It has a thread, which `zeroconf.close` does not end.
        if zeroconf is not None:
            zeroconf.close()

    # ---------------------------------------------------------------- hearing

    def _heard(self, info: ServiceInfo) -> None:
        """On zeroconf's thread."""
        sighting = sighting_of(info)
        if sighting is None or sighting.node == self._node:
            return
        ours = sighting.mesh == self._mesh and sighting.version == PROTOCOL_VERSION
        now = time.monotonic()
        with self._lock:
            self._strangers.pop(sighting.node, None)
            if not ours:
                self._strangers[sighting.node] = sighting
                while len(self._strangers) > HEARD_MAX:
                    self._strangers.popitem(last=False)
                return
            if now - self._told.get(sighting, float("-inf")) < DISCOVERY_AGAIN_US / 1e6:
                return
            self._told[sighting] = now
            self._told.move_to_end(sighting)
            while len(self._told) > HEARD_MAX:
                self._told.popitem(last=False)
        self._on_sighting(sighting)


class _Ear(RecordUpdateListener):
    """Every announcement of our service, also one that says nothing new."""

    def __init__(self, zeroconf: Zeroconf, heard: Callable[[ServiceInfo], None]) -> None:
        self._zeroconf, self._heard = zeroconf, heard
        self._names: set[str] = set()

    def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
        """Note which instances a packet speaks of; called before the cache has it."""
        for record in records:
            new = record.new
            if new.type == _SRV and new.name.endswith(SERVICE) and not new.is_expired(now):
                self._names.add(new.name)

    def async_update_records_complete(self) -> None:
        """The cache has it: an instance whose records are all there is heard."""
        names, self._names = self._names, set()
        for name in names:
            self._look_up(name)

    def browsed(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        """The browser found or lost an instance."""
        if state_change is not ServiceStateChange.Removed:
            self._look_up(name)

    def _look_up(self, name: str) -> None:
        try:
            info = ServiceInfo(SERVICE, name)
            if info.load_from_cache(self._zeroconf):
                self._heard(info)
        except Exception as error:  # noqa: BLE001 - a stranger's record; zeroconf's threads must survive it.
            log.debug("mDNS: %r makes no sense: %s", name[:80], error)


def sighting_of(info: ServiceInfo) -> Sighting | None:
    """What a service record says, if it makes sense."""
    said = {key: value or b"" for key, value in info.properties.items()}
    try:
        version, node, mesh = (said.get(key, b"").decode("ascii") for key in (b"v", b"id", b"mesh"))
    except UnicodeDecodeError:
        return None
    if not (_NODE.fullmatch(node) and _MESH.fullmatch(mesh) and version.isdecimal() and len(version) < 9):
        return None
    if not info.port:
        return None
    ips = [ipaddress.ip_address(ip) for ip in info.parsed_addresses()[:_ADDRESSES_MAX]]
    usable = [ip for ip in ips if not (ip.is_link_local or ip.is_unspecified or ip.is_multicast)]
    addresses = tuple(Address(str(ip), info.port) for ip in sorted(usable, key=lambda ip: (ip.version, ip)))
    return Sighting(NodeId(node), mesh, int(version), addresses) if addresses else None
