"""Entries on loopback, each a mesh of its own that computes the same: what a client with several nodes talks to."""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

import grpc

from meshd.daemon.servers import listen_tcp, make_server
from meshd.daemon.services.inference import THREADS, add_inference
from meshd.daemon.services.methods import Desk
from meshd.daemon.services.roles import Gate, Role
from tests.dataplane.fake_mesh import FakeMesh


class Entry:
    """One entry; its two segments add 3 to what they are given. `held` keeps requests there until it is set."""

    def __init__(self, also: Callable[[grpc.Server], object] = lambda server: None) -> None:
        self.mesh = FakeMesh([["e"], ["e"]])
        self.server = make_server(THREADS, 1 << 26, "client")
        gate = Gate(Role.CLIENT, lambda token: None)
        self.service = add_inference(self.server, Desk(self.mesh.door.plane, gate, "0.1", lambda: True))
        self.target = f"127.0.0.1:{listen_tcp(self.server, '127.0.0.1', 0, None)}"
        also(self.server)  # Before it starts: more to listen on.
        self.there, self.held = threading.Event(), threading.Event()
        self.held.set()
        self.mesh.door.segment(0).before = self._stop
        self.server.start()

    def _stop(self) -> None:
        self.there.set()
        assert self.held.wait(20)

    @property
    def asked(self) -> int:
        """Requests that came in here."""
        return self.mesh.door.plane.counts().get("requests", 0)

    def kill(self) -> None:
        """Its connections break, with whatever is under way."""
        self.server.stop(0).wait(10)

    def __enter__(self) -> "Entry":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: Any, trace: TracebackType | None) -> None:
        self.held.set()
        self.kill()
        self.service.close()
        self.mesh.close()
