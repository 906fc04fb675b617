"""The servers of one daemon: admin on its socket, inference for clients over gRPC and HTTP, metrics.

Started together, stopped together. Off-host inference needs TLS and a token, hence a mesh key; without one
everything stays on unix sockets and loopback.
"""

import logging
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import grpc
import trio

from meshd import __version__
from meshd.config import CLIENT_MESSAGE_BYTES_MAX, HTTP_CONNECTIONS_MAX, METRICS_CALLERS_MAX, PORT_OFF, WATCHERS_MAX
from meshd.core.ids import Address, SegmentId
from meshd.daemon.doctor import Doctor
from meshd.daemon.servers import listen_tcp, listen_unix, make_server
from meshd.daemon.services.admin import MESSAGE_BYTES_MAX, add_admin
from meshd.daemon.services.admin import Desk as AdminDesk
from meshd.daemon.services.client import add_client_services
from meshd.daemon.services.inference import THREADS
from meshd.daemon.services.methods import Desk as ClientDesk
from meshd.daemon.services.roles import Gate, Role
from meshd.errors import UnavailableError
from meshd.net.addresses import listen_tcp as listen
from meshd.v1 import admin_pb2 as pb

if TYPE_CHECKING:
    from meshd.daemon.supervisor import Supervisor
    from meshd.daemon.web import WebServer

log = logging.getLogger(__name__)

ADMIN_THREADS = 8
"""For short calls, beside one for each stream."""
CLIENT_CALLS_WAITING = 64
"""Calls that wait for a thread; more are refused at once, which is kinder than a deadline."""
STOP_GRACE_S = 1.0


class Servers:
    """Made once the node has its boot."""

    def __init__(self, daemon: "Supervisor", doctor: Doctor, port: int) -> None:
        self._daemon, self._doctor = daemon, doctor
        prepared = daemon.prepared
        where = _where(prepared.host, port)
        self._listeners = [pb.Listener(role="gossip", address=where), pb.Listener(role="links", address=where)]
        self._servers: list[grpc.Server] = []
        self._stopping = False
        self._close_client: Callable[[], None] = lambda: None
        self._webs: dict[str, WebServer] = {}

    def start(self, nursery: trio.Nursery) -> None:
        """Bind everything, then answer. Raises UnavailableError naming what could not be bound."""
        prepared = self._daemon.prepared
        assert self._daemon.plane is not None, "the data plane comes before its servers"
        gate = Gate(Role.CLIENT, prepared.tokens.role)
        desk = ClientDesk(self._daemon.plane, gate, __version__, self._is_ready)
        self._start_grpc(desk)
        self._start_http(nursery, desk)
        self._start_metrics(nursery)
        self._start_admin()

    def _start_grpc(self, desk: ClientDesk) -> None:
        prepared = self._daemon.prepared
        settings = prepared.settings
        server = make_server(THREADS, CLIENT_MESSAGE_BYTES_MAX, "client", THREADS + CLIENT_CALLS_WAITING)
        self._close_client = add_client_services(server, desk)
        path = listen_unix(server, settings.client_socket)
        self._listeners.append(pb.Listener(role="client", address=path))
        if settings.grpc_port != PORT_OFF:
            host, credentials = prepared.host, None
            if prepared.key is not None:
                identity = prepared.identity
                host = host or ("::" if socket.has_dualstack_ipv6() else "0.0.0.0")
                credentials = grpc.ssl_server_credentials([(identity.key_pem, identity.certificate_pem)])
            port = listen_tcp(server, host, settings.grpc_port, credentials)
            self._listeners.append(pb.Listener(role="grpc", address=_where(prepared.host, port)))
        server.start()
        self._servers.append(server)

    def _start_http(self, nursery: trio.Nursery, desk: ClientDesk) -> None:
        prepared = self._daemon.prepared
        if prepared.settings.http_port == PORT_OFF:
            return
        # Imported here: a node without HTTP does not pay for it.
        from meshd.daemon.services.rest import make_app
        from meshd.daemon.web import WebServer

        identity = prepared.identity
        files = None if prepared.key is None else (identity.certificate_path, identity.key_path)
        listening = self._listen("http", prepared.host, prepared.settings.http_port)
        self._webs["http"] = WebServer(make_app(desk), listening, HTTP_CONNECTIONS_MAX, files)
        nursery.start_soon(self._webs["http"].serve)

    def _start_metrics(self, nursery: trio.Nursery) -> None:
        settings = self._daemon.prepared.settings
        if settings.metrics_port == PORT_OFF:
            return
        from meshd.daemon.metrics import make_app
        from meshd.daemon.samples import samples
        from meshd.daemon.web import WebServer

        listening = self._listen("metrics", settings.bind or "127.0.0.1", settings.metrics_port)
        app = make_app(lambda: samples(self._daemon))
        self._webs["metrics"] = WebServer(app, listening, METRICS_CALLERS_MAX)
        nursery.start_soon(self._webs["metrics"].serve)

    def refused(self) -> dict[str, int]:
        """Connections closed because there were too many, by role; for the metrics."""
        return {role: web.refused for role, web in self._webs.items()}

    def _listen(self, role: str, host: str, port: int) -> socket.socket:
        """A listening TCP socket, told of in the status. Raises UnavailableError."""
        try:
            listening = listen(host, port)
        except OSError as error:
            raise UnavailableError(
                f"{role} on {_where(host, port)}: {error.strerror}; is another daemon running?"
                f" set --{role}-port (0: any free one; off: none)"
            ) from error
        self._listeners.append(pb.Listener(role=role, address=_where(host, listening.getsockname()[1])))
        return listening

    def _is_ready(self) -> bool:
        view = self._daemon.board.view
        me = view.members.get(view.me)
        return not self._stopping and me is not None and not me.draining

    def _start_admin(self) -> None:
        daemon = self._daemon
        prepared = daemon.prepared
        server = make_server(ADMIN_THREADS + WATCHERS_MAX, MESSAGE_BYTES_MAX, "admin")
        path = listen_unix(server, prepared.settings.admin_socket)
        self._listeners.append(pb.Listener(role="admin", address=path))
        desk = AdminDesk(
            gate=Gate(Role.OPERATOR, prepared.tokens.role),
            board=daemon.board,
            library=prepared.library,
            tokens=prepared.tokens,
            operator=daemon.driver,
            kernels=self._kernels,
            diagnose=self._doctor.diagnose,
            announce=daemon.holder.announce,
            listeners=self._listeners,
            mesh_id=prepared.mesh_id,
        )
        add_admin(server, desk)
        server.start()
        self._servers.append(server)

    def words(self) -> list[str]:
        """Where it listens, for the log."""
        return [f"{each.role} {each.address}" for each in self._listeners]

    async def stop(self) -> None:
        """Refuse new calls, let running ones end, one second at most."""
        self._stopping = True
        self._close_client()
        stopped = [server.stop(STOP_GRACE_S) for server in self._servers]
        for web in self._webs.values():
            await web.stop(STOP_GRACE_S)
        for event in stopped:
            await trio.to_thread.run_sync(event.wait)

    def _kernels(self, segment: SegmentId) -> Mapping[str, int]:
        held = self._daemon.holder.get(segment)
        return held.segment.kernels if held is not None else {}


def _where(host: str, port: int) -> str:
    return str(Address(host, port)) if host else f"*:{port}"
