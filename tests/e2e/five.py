"""Five unlike daemons on hosts of their own that serve the demo model: three segments, two copies each.

One has a tenth of a core and says so of itself, one half the memory. All find each other by mDNS. `settle` brings the mesh
back to rest between faults: everybody alive, every segment with its copies.
"""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from meshd.client.inference import Inference
from meshd.demo import mesh, model
from meshd.errors import MeshdError
from meshd.model import onnx_import
from meshd.model.bundle import Bundle, pack
from meshd.v1 import admin_pb2 as pb
from tests.e2e.daemons import Daemon, cache_with_rates
from tests.e2e.hosts import Hosts
from tests.e2e.quota import Quota
from tests.e2e.relay import Relay

HOSTS = (1, 2, 3, 4, 5)
SLOW, SMALL = 4, 5
"""Hosts: the one with a tenth of a core, the one with half the memory."""
SHARE = 0.1
MEMORY = 256
SEGMENTS, COPIES = 3, 2
FOUND_S, SERVED_S, REST_S = 60.0, 200.0, 90.0
POLICY = pb.DeployPolicy(segments_min=SEGMENTS, replicas=COPIES)


@dataclass(frozen=True, slots=True)
class Other:
    """Another model of the same signature, to replace the demo's by, and what it says of the sample."""

    bundle: Bundle
    truth: NDArray[Any]


def _doubled(demo: model.DemoModel) -> Other:
    """The demo model with its last layer doubled; a power of two is exact."""
    graph, arrays = onnx_import.import_model(Path(str(files("meshd.demo"))) / "fashion.onnx")
    doubled = {name: array * 2 if name.startswith("head.") else array for name, array in arrays.items()}
    return Other(pack(graph, doubled), demo.sample.truth * 2)


class Five:
    """A context manager; nothing of it is left after it."""

    def __init__(self, folder: Path, seed: int = 1) -> None:
        self.demo = model.load()
        self.other = _doubled(self.demo)
        self._stack = ExitStack()
        self._folder, self._seed = folder, seed
        self.daemons: dict[int, Daemon] = {}
        self.entry = 1
        """The host whose daemon the load goes to; chosen by `settle`."""
        self._quota: Quota | None = None

    def __enter__(self) -> "Five":
        with ExitStack() as stack:
            self.relay = stack.enter_context(Relay(len(HOSTS), self._seed))
            self._hosts = Hosts(self.relay, self._folder, stack)
            slow = cache_with_rates(self._folder / "slow", SHARE)
            (self._hosts.cache / "kernels").mkdir()
            (slow / "kernels").symlink_to(self._hosts.cache / "kernels")
            for host in HOSTS:
                flags = {"cache_dir": str(slow)} if host == SLOW else {}
                memory = MEMORY // 2 if host == SMALL else MEMORY
                self.daemons[host] = self._hosts.start(
                    host, program="tests.e2e.deadly", memory_max=f"{memory}MiB", log_level="info", **flags
                )
            for daemon in self.daemons.values():
                daemon.ready()
            stack.callback(self._unslow)
            self.slow()
            for daemon in self.daemons.values():
                daemon.wait_nodes(len(HOSTS), FOUND_S)
            with self.daemons[1].admin() as admin:
                digest = admin.push(self.demo.bundle.topology, self.demo.bundle.blobs)
                admin.deploy(model.NAME, digest, POLICY, SERVED_S)
            self.settle(SERVED_S)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # ------------------------------------------------------------ what it is like

    def slow(self) -> None:
        """Throttle the slow one (again: its process is new)."""
        process = self.daemons[SLOW].process
        assert process is not None
        self._unslow()
        self._quota = Quota(process.pid, SHARE).__enter__()

    def _unslow(self) -> None:
        if self._quota is not None:
            self._quota.__exit__(None, None, None)
            self._quota = None

    @property
    def throttled_by(self) -> str:
        """What makes the slow one slow."""
        return self._quota.kind if self._quota else ""

    def target(self, host: int) -> str:
        """For inference clients."""
        return f"unix:{self.daemons[host].folder}/run/client.sock"

    def status(self) -> pb.Status:
        """As the entry sees it."""
        with self.daemons[self.entry].admin() as admin:
            return admin.status()

    def hosts(self, status: pb.Status) -> dict[str, int]:
        """Node id → host."""
        return {node: int(name[1:]) for node, name in mesh.names(status).items()}

    def holders(self) -> list[list[int]]:
        """For each segment the hosts that hold it READY, those asked first coming first."""
        status = self.status()
        hosts, held = self.hosts(status), mesh.copies(status, model.NAME)
        found = mesh.deployment(status, model.NAME)
        assert found is not None
        listed = []
        for part, ready in zip(found.serving.segments, held, strict=True):
            asked = [node for node in part.candidates if node in ready]
            listed.append([hosts[node] for node in (*asked, *(n for n in ready if n not in asked))])
        return listed

    def metrics(self, host: int) -> str:
        """What it tells Prometheus."""
        port = int(self.daemons[host].address("metrics").rpartition(":")[2])
        with self.relay.inside(host), socket.create_connection(("127.0.0.1", port), 5) as caller:
            caller.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return b"".join(iter(lambda: caller.recv(65_536), b"")).decode()

    # ------------------------------------------------------------ rest

    def settle(self, timeout_s: float = REST_S) -> None:
        """Wait until all are alive and every segment has its copies, in the eyes of all; then choose an entry.

        The entry is a quick node that comes first for as few segments as may be: a fault of an owner is then not its own.
        """
        until = time.monotonic() + timeout_s
        self._wait(self._at_rest, until, "five nodes alive, two copies of every segment")
        holders = self.holders()
        quick = [host for host in HOSTS if host != SLOW]
        self.entry = min(quick, key=lambda host: (sum(held[0] == host for held in holders), host))
        self._wait(self._answers, until, f"an answer of host {self.entry}")

    def _at_rest(self) -> bool:
        for daemon in self.daemons.values():
            with daemon.admin() as admin:
                status = admin.status()
            found = mesh.deployment(status, model.NAME)
            if found is None or not found.HasField("serving") or found.serving.generation != found.generation:
                return False
            if len(mesh.alive(status)) != len(HOSTS) or not mesh.has_copies(status, model.NAME):
                return False
            if found.target.plan_digest != found.serving.plan_digest or any(node.draining for node in status.nodes):
                return False
        return True

    def _answers(self) -> bool:
        sample = self.demo.sample
        with Inference(self.target(self.entry)) as inference:
            inference.infer(model.NAME, {sample.input: sample.images[:1]}, 5)
        return True

    def _wait(self, holds: Callable[[], bool], until_s: float, what: str) -> None:
        why = "it does not hold"
        while time.monotonic() < until_s:
            try:
                if holds():
                    return
            except MeshdError as error:
                why = str(error)
            time.sleep(0.1)
        logs = "".join(f"\n== {each.name}\n{each.log()[-2500:]}" for each in self.daemons.values())
        raise AssertionError(f"{what}: {why}{logs}")

    # ------------------------------------------------------------ what is done to it

    def start(self, *hosts: int) -> None:
        """Start daemons that ended, and wait until they answer."""
        ended = [h for h in hosts if (p := self.daemons[h].process) is None or p.poll() is not None]
        for host in ended:
            self.daemons[host].start()
        for host in ended:
            self.daemons[host].ready()
        if SLOW in ended:
            self.slow()

    def ended(self) -> Iterator[int]:
        """Hosts whose daemon is not running."""
        for host, daemon in self.daemons.items():
            if daemon.process is not None and daemon.process.poll() is not None:
                yield host
