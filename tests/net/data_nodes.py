"""Nodes with data links on real loopback sockets, and receivers that remember, for tests."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

from meshd.core.ids import Address, Boot, Digest, NodeId
from meshd.core.journey import frames as core
from meshd.net import tcp
from meshd.net.identity import Identity
from meshd.net.link_data import DataLinks
from meshd.net.tls import Roster

WAIT_S = 10.0
"""Nothing here takes a second; a test that waits this long has failed."""
PLAN = Digest("ab" * 32)


class Heard:
    """A receiver that remembers what it was told, and lets a test wait for it."""

    def __init__(self, react: Callable[[NodeId, core.Frame, memoryview], None] | None = None) -> None:
        self.frames: list[tuple[NodeId, core.Frame, bytes]] = []
        self.changes: list[tuple[NodeId, bool]] = []
        self._react = react
        self._news = threading.Condition()

    def receive(self, peer: NodeId, frame: core.Frame, payload: memoryview) -> None:
        if self._react is not None:
            self._react(peer, frame, payload)
            return
        with self._news:
            self.frames.append((peer, frame, bytes(payload)))
            self._news.notify_all()

    def link_changed(self, peer: NodeId, up: bool) -> None:
        with self._news:
            self.changes.append((peer, up))
            self._news.notify_all()

    def wait(self, until: Callable[["Heard"], bool]) -> None:
        with self._news:
            assert self._news.wait_for(lambda: until(self), WAIT_S), (self.changes, len(self.frames))

    def is_up(self, peer: NodeId) -> bool:
        said = [up for who, up in self.changes if who == peer]
        return bool(said) and said[-1]


class DataNode:
    """A node that is nothing but data links, with a thread that accepts."""

    def __init__(self, identity: Identity, boot: int = 1, host: str = "127.0.0.1") -> None:
        self.node = identity.node
        self.roster = Roster(identity)
        self.heard = Heard()
        self.addresses: dict[NodeId, Address] = {}
        self._listener = socket.create_server((host, 0))
        self.address = Address(host, self._listener.getsockname()[1])
        self.bugs: list[BaseException] = []
        self.links = DataLinks(self.roster, Boot(boot), self.address.port, self._resolve, self.bugs.append)
        self.links.attach(self.heard)
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def meet(self, *others: "DataNode", address: bool = True) -> None:
        for other in others:
            identity = other.roster.identity
            self.roster.trust(identity.node, identity.certificate)
            if address:
                self.addresses[other.node] = other.address

    def close(self) -> None:
        tcp.shut(self._listener)
        self._listener.close()
        self._thread.join(WAIT_S)
        self.links.close()

    def _resolve(self, peer: NodeId) -> list[Address]:
        return [self.addresses[peer]] if peer in self.addresses else []

    def _accept(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError):
                raw.settimeout(WAIT_S)
                if raw.recv(1) == b"D":
                    self.links.adopt(raw)
                    continue
            raw.close()


@contextlib.contextmanager
def data_nodes(*identities: Identity, meet: bool = True) -> Iterator[list[DataNode]]:
    """Nodes that know each other; at the end no thread of theirs is left."""
    before = set(threading.enumerate())
    nodes = [DataNode(identity) for identity in identities]
    try:
        if meet:
            for node in nodes:
                node.meet(*(other for other in nodes if other is not node))
        yield nodes
    finally:
        for node in nodes:
            node.close()
        for thread in threading.enumerate():
            if thread.name.startswith("link-"):
                thread.join(WAIT_S)
    left = set(threading.enumerate()) - before  # Threads of other tests' pools may end meanwhile.
    assert not left, [t.name for t in left]


def connect(near: DataNode, far: DataNode) -> None:
    """Bring the link between two nodes up, as both see it."""
    near.links.ensure(far.node)
    near.heard.wait(lambda h: h.is_up(far.node))
    far.heard.wait(lambda h: h.is_up(near.node))


def forward(number: int, *sizes: int) -> core.Forward:
    """Some Forward whose payload has these sizes."""
    request = core.RequestId(NodeId("a" * 25 + "a"), Boot(1), number)
    return core.Forward(request, 1, "d", PLAN, 0, 1_000_000, 8, 1, sizes, ())
