"""Real daemons as services of hosts of one emulated network: namespaces behind the relay."""

from contextlib import ExitStack
from pathlib import Path

from meshd.net.key import MeshKey
from tests.e2e.daemons import Daemon, cache_with_rates
from tests.e2e.relay import Relay

PORT = 7946


class Hosts:
    """Daemons on the relay's hosts, of one mesh unless told otherwise."""

    def __init__(self, relay: Relay, folder: Path, stack: ExitStack) -> None:
        self.relay, self.folder, self._stack = relay, folder, stack
        self.cache = cache_with_rates(folder / "cache")
        self.key = MeshKey.new()
        self.key.save(folder / "mesh.key")

    def start(self, host: int, key: str = "mesh.key", program: str = "meshd", **flags: str) -> Daemon:
        """The daemon of a host, listening on all its interfaces; it ends with the stack."""
        given = {"bind": "", "gossip_port": str(PORT), "mesh_key": str(self.folder / key), **flags}
        daemon = Daemon(self.folder / f"h{host}", self.cache, prefix=self.relay.prefix(host), program=program, **given)
        return self._stack.enter_context(daemon)
