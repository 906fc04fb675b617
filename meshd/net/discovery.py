"""mDNS: where nodes may be. A hint, never proof of anything. (Interface; being filled.)

Service `_meshd._udp.local.`, TXT: `v` protocol version, `id` node id, `mesh` mesh id; the SRV port is gossip's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from meshd.core.ids import Address, NodeId


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
    """Announces this node and hears others, in zeroconf's own thread. Methods are for the trio thread or any other."""

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
        """`on_sighting` gets peers of this mesh and version, on zeroconf's thread; it must not block.

        `loopback` confines everything to 127.0.0.1; `interfaces` and `skip` are patterns of interface names.
        """
        raise NotImplementedError

    async def run(self) -> None:
        """Announce, listen, and follow interfaces that come and go, until cancelled. mDNS that fails is a warning."""
        raise NotImplementedError

    def strangers(self) -> tuple[Sighting, ...]:
        """Nodes heard that are not of this mesh or version (at most 256): for `meshctl doctor`."""
        raise NotImplementedError
