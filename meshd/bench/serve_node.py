"""A process of `meshd bench serve`: a data plane with do-nothing models, and the bare transports to compare it with.

`python -m meshd.bench.serve_node FOLDER NAME` reads lines from stdin (`{"peers": {name: port}}`) and answers with its ports.
Node `near` is the entry; `far` owns what is one hop away. No control plane: the view is written here.
"""

import contextlib
import json
import socket
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import grpc

from meshd.config import MIB, SWITCH_INTERVAL_S
from meshd.core.ids import Address, Boot, Digest, NodeId, SegmentId
from meshd.core.plan import Plan, PlanSegment, Policy
from meshd.core.view import Member, Served, State, View
from meshd.daemon.servers import listen_tcp, make_server
from meshd.daemon.services.inference import THREADS, add_inference
from meshd.daemon.services.methods import Desk
from meshd.daemon.services.roles import Gate, Role
from meshd.dataplane.links import Signature
from meshd.dataplane.plane import DataPlane
from meshd.model.graph import Port, TensorType
from meshd.net.identity import Identity
from meshd.net.link_data import DataLinks
from meshd.net.link_greeting import welcome
from meshd.net.tls import Roster
from meshd.wire.frames import FrameReader, whole

NODES: Final = ("near", "far")
SIZES: Final = (4 * 1024, 256 * 1024, 4 * MIB)
ECHO: Final = "meshd.bench.Echo"
FRAME_BYTES_MAX: Final = 8 * MIB


@dataclass
class Nothing:
    """A segment that answers what it was given."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    resident_bytes: int = 0
    kernels: dict[str, int] = field(default_factory=dict)

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        return list(inputs)

    def warm(self) -> int:
        return 1


@dataclass(frozen=True)
class Held:
    """See `dataplane.links.Held`."""

    segment: Any
    plan: Plan
    measured_us: int = 1


class Silent:
    """Nobody to hint to."""

    def hinted(self, peer: NodeId) -> None:
        pass

    def pair_unreachable(self, peer: NodeId, ok: bool) -> None:
        pass


def deployment(node: str, size: int) -> str:
    """The do-nothing model of `size` bytes that `node` holds."""
    return f"{node}-{size}"


def _port(name: str, size: int) -> Port:
    return Port(name, TensorType("float32", (None, size // 4)))


def _served(node: NodeId, name: str) -> Served:
    plan = Plan(name, 1, Digest("0" * 64), 1, Digest(name), (PlanSegment(0, 1, (), (node,)),), 1, node, 1)
    return Served(name, plan.model, 1, Digest("0" * 64), Policy(), plan, plan, ((node,),))


class Node:
    """One process's node."""

    def __init__(self, folder: Path, name: str) -> None:
        self.identities = {n: Identity.load_or_create(folder / n, "bench") for n in NODES}
        self.name, self.me = name, self.identities[name].node
        self.roster = Roster(self.identities[name])
        for other in NODES:
            if other != name:
                self.roster.trust(self.identities[other].node, self.identities[other].certificate)
        self.addresses: dict[NodeId, list[Address]] = {}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.links = DataLinks(self.roster, Boot(1), self.port, lambda peer: self.addresses.get(peer, []))
        served = {deployment(n, s): _served(self.identities[n].node, deployment(n, s)) for n in NODES for s in SIZES}
        members = {i.node: Member(i.node, n, State.ALIVE, Boot(1), 0, ()) for n, i in self.identities.items()}
        view = View(1, self.me, Boot(1), MappingProxyType(members), MappingProxyType(served))
        held = {}
        for size in SIZES:
            plan = served[deployment(name, size)].plan
            assert plan is not None
            held[SegmentId(plan.plan_digest, 0)] = Held(Nothing((_port("x", size),), (_port("y", size),)), plan)
        signatures = {deployment(n, s): Signature((_port("x", s),), (_port("y", s),), 1) for n in NODES for s in SIZES}
        self.plane = DataPlane(
            me=self.me,
            boot=Boot(1),
            view=lambda: view,
            holder=held.get,
            signatures=signatures.get,
            links=self.links,
            hints=Silent(),
            cores=2,
        )
        threading.Thread(target=self._accept, daemon=True).start()

    def serve(self) -> dict[str, int]:
        """Start everything that clients call; returns the ports."""
        server = make_server(THREADS, FRAME_BYTES_MAX, "client")
        add_inference(server, Desk(self.plane, Gate(Role.CLIENT, lambda token: None), "bench", lambda: True))
        ports = {"links": self.port, "oip": listen_tcp(server, "127.0.0.1", 0, None)}
        server.start()
        self._servers = [server]  # A server that nobody holds stops.
        mine = self.identities[self.name]
        pair = [(mine.key_pem, mine.certificate_pem)]
        roots = b"".join(i.certificate_pem for i in self.identities.values())
        mutual = grpc.ssl_server_credentials(pair, roots, require_client_auth=True)
        for kind, credentials in (("echo", None), ("echo_tls", mutual)):
            echo = make_server(THREADS, FRAME_BYTES_MAX, kind)
            handlers = {"Echo": grpc.unary_unary_rpc_method_handler(lambda data, context: data)}
            echo.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(ECHO, handlers),))
            ports[kind] = listen_tcp(echo, "127.0.0.1", 0, credentials)
            echo.start()
            self._servers.append(echo)
        return ports

    def _accept(self) -> None:
        while True:
            raw, _ = self._listener.accept()
            first = raw.recv(1)
            if first == b"D":
                self.links.adopt(raw)
            else:
                threading.Thread(target=self._echo_frames, args=(raw,), daemon=True).start()

    def _echo_frames(self, raw: socket.socket) -> None:
        """The barest: a frame over mutual TLS, sent back as it came."""
        with contextlib.suppress(OSError):
            connection, _ = welcome(self.roster, raw)
            connection.settimeout(None)
            reader = FrameReader(connection.recv_into, 1024, FRAME_BYTES_MAX)
            while (frame := reader.read()) is not None:
                connection.sendall(whole(frame[0], [frame[1]]))


def main() -> None:
    """Until stdin ends."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    node = Node(Path(sys.argv[1]), sys.argv[2])
    print(json.dumps(node.serve()), flush=True)
    peers = json.loads(sys.stdin.readline())
    for name, port in peers.items():
        peer = node.identities[name].node
        node.addresses[peer] = [Address("127.0.0.1", port)]
        node.links.ensure(peer)
    until = threading.Event()
    while not all(node.links.is_up(node.identities[name].node) for name in peers):
        until.wait(0.01)
    print(json.dumps({"linked": True}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
