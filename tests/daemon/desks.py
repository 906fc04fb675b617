"""An admin service on a real socket, over fakes: what `meshctl` and its client talk to in tests."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc

from meshd.core.events import Command, Done, Refused
from meshd.core.view import View
from meshd.daemon.board import Board
from meshd.daemon.library import Library
from meshd.daemon.servers import listen_unix, make_server
from meshd.daemon.services.admin import MESSAGE_BYTES_MAX, Desk, add_admin
from meshd.daemon.services.roles import Gate, Role
from meshd.daemon.store import Store
from meshd.daemon.tokens import Tokens
from meshd.v1 import admin_pb2 as pb
from tests.daemon.pictures import view


class FakeOperator:
    """Keeps commands and answers as told."""

    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.result: Done | Refused = Done("done")

    def operate_from_thread(self, command: Command, timeout_s: float) -> Done | Refused:
        self.commands.append(command)
        return self.result


class FakeDaemon:
    """Everything behind one admin socket."""

    def __init__(self, folder: Path, local: Role = Role.OPERATOR, listeners: Sequence[pb.Listener] = ()) -> None:
        self.socket = folder / "admin.sock"
        self.board, self.operator, self.announced = Board(view()), FakeOperator(), 0
        self.library = Library(folder)
        self.store = Store(folder, lambda key, value: json.dumps(value).encode(), lambda key, raw: json.loads(raw))
        self.findings: Sequence[pb.Finding] = ()
        tokens = Tokens(self.store)
        desk = Desk(
            gate=Gate(local, tokens.role),
            board=self.board,
            library=self.library,
            tokens=tokens,
            operator=self.operator,
            kernels=lambda segment: {"binary": 1},
            diagnose=self.diagnose,
            announce=self.announce,
            listeners=(pb.Listener(role="admin", address="/run/meshd/admin.sock"), *listeners),
            mesh_id="9f86d081884c7d659a2feaa0c55ad015",
        )
        self.server: grpc.Server = make_server(24, MESSAGE_BYTES_MAX, "admin")
        listen_unix(self.server, self.socket)
        add_admin(self.server, desk)
        self.server.start()

    def diagnose(self, view: View) -> Sequence[pb.Finding]:
        return self.findings

    def announce(self) -> None:
        self.announced += 1

    def close(self) -> None:
        self.board.close()
        self.server.stop(0).wait()
        self.store.close()


@contextmanager
def fake_daemon(
    folder: Path, local: Role = Role.OPERATOR, listeners: Sequence[pb.Listener] = ()
) -> Iterator[FakeDaemon]:
    """A daemon's admin side until the end of the block."""
    daemon = FakeDaemon(folder, local, listeners)
    try:
        yield daemon
    finally:
        daemon.close()
