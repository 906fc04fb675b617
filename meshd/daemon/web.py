"""HTTP listeners inside the daemon's trio run: hypercorn speaks the protocol, this sets the limits it does not.

Rule 1: at most `connections_max` connections; more are closed before a byte is read.
Rule 2: headers within `HTTP_IDLE_US`, an answer taken in without a stall of `HTTP_STALL_US`; whoever is slower is closed.
Rule 3: nothing of this outlives `stop`: hypercorn shields its writes from cancellation, so their sockets are closed first.
Rule 4: HTTP/1.1 by choice (Python's HTTP/2 is four times slower); what a client upgrades by itself keeps small limits.
"""

import logging
import socket
from functools import partial
from pathlib import Path
from typing import Any

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext

from meshd.config import HTTP_HEAD_BYTES_MAX, HTTP_IDLE_US, HTTP_STALL_US, WRITE_PIECE_BYTES, S

log = logging.getLogger(__name__)


class WebServer:
    """One listening socket and the app behind it.

    Parameters
    ----------
    app : ASGI 3
    listening : bound and listening; this owns it
    identity : (certificate, key) as PEM files, for TLS; None: plain HTTP, on loopback only
    """

    def __init__(
        self, app: Any, listening: socket.socket, connections_max: int, identity: tuple[Path, Path] | None = None
    ) -> None:
        self._listener = _Listener(listening, connections_max)
        self._config = _config(identity)
        self._context = WorkerContext(None)
        self._handle = partial(_Connection, ASGIWrapper(app), self._config, self._context, {})
        self._accepting = trio.CancelScope()

    @property
    def refused(self) -> int:
        """Connections closed because there were too many."""
        return self._listener.refused

    async def serve(self) -> None:
        """Answer until `stop`, or cancelled."""
        listener: Any = self._listener
        if (tls := self._config.create_ssl_context()) is not None:
            listener = trio.SSLListener(listener, tls, https_compatible=True)
        try:
            async with trio.open_nursery() as connections:
                with self._accepting:
                    await trio.serve_listeners(self._handle, [listener], handler_nursery=connections)
        finally:
            self._listener.close()

    async def stop(self, grace_s: float) -> None:
        """Accept no more, let calls end, then close what is left."""
        self._accepting.cancel()
        # Idle connections end at once by this, busy ones after their answer.
        await self._context.terminated.set()
        with trio.move_on_after(grace_s):
            while self._listener.open:
                await trio.sleep(0.02)
        self._listener.close()


def _config(identity: tuple[Path, Path] | None) -> Config:
    config = Config()
    config.errorlog, config.accesslog = log, None
    config.include_server_header = False
    config.alpn_protocols = ["http/1.1"]
    config.h11_max_incomplete_size = config.h2_max_header_list_size = HTTP_HEAD_BYTES_MAX
    config.h2_max_concurrent_streams = 4
    config.websocket_max_message_size = HTTP_HEAD_BYTES_MAX
    config.keep_alive_timeout = HTTP_IDLE_US / S
    config.ssl_handshake_timeout = HTTP_STALL_US / S
    config.max_app_queue_size = 4
    if identity is not None:
        config.certfile, config.keyfile = map(str, identity)
    return config


class _Connection(TCPServer):
    """NB hypercorn keeps a connection whose client has gone until it would have been idle for too long."""

    async def _read_data(self) -> None:
        await super()._read_data()
        await self.idle_task.stop()


class _Stream(trio.abc.HalfCloseableStream):
    """A connection of which a stalled reader cannot hold anything for ever."""

    def __init__(self, inner: trio.SocketStream, among: "dict[_Stream, None]") -> None:
        self._inner, self._among = inner, among
        self.socket = inner.socket
        """Hypercorn asks it for addresses."""
        among[self] = None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        for start in range(0, len(view), WRITE_PIECE_BYTES):
            with trio.move_on_after(HTTP_STALL_US / S) as limit:
                await self._inner.send_all(view[start : start + WRITE_PIECE_BYTES])
            if limit.cancelled_caught:
                raise trio.BrokenResourceError("the client takes nothing in")

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._inner.receive_some(max_bytes)

    async def send_eof(self) -> None:
        await self._inner.send_eof()

    def close(self) -> None:
        """At once; whoever sends or receives is told so."""
        self._among.pop(self, None)
        self._inner.socket.close()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()


class _Listener(trio.abc.Listener[_Stream]):
    def __init__(self, listening: socket.socket, connections_max: int) -> None:
        listening.setblocking(False)
        self._inner = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
        self._connections_max = connections_max
        self.open: dict[_Stream, None] = {}
        self.refused = 0

    async def accept(self) -> _Stream:
        while True:
            stream = await self._inner.accept()
            if len(self.open) < self._connections_max:
                return _Stream(stream, self.open)
            self.refused += 1
            stream.socket.close()

    def close(self) -> None:
        self._inner.socket.close()
        for stream in list(self.open):
            stream.close()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()
