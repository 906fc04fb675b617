"""The limits that hypercorn does not have: slow clients end, and nothing outlives a stop. Time is virtual, sockets are real."""

import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import trio
import trio.testing

from meshd.config import HTTP_IDLE_US, HTTP_STALL_US, S
from meshd.daemon.web import WebServer, _Stream
from meshd.net.addresses import listen_tcp


async def app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def run(main: Callable[[int, WebServer], Awaitable[None]]) -> None:
    async def whole() -> None:
        listening = listen_tcp("127.0.0.1", 0)
        server = WebServer(app, listening, 4)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve)
            await main(listening.getsockname()[1], server)
            await server.stop(1)

    trio.run(whole, clock=trio.testing.MockClock(autojump_threshold=0.05))


async def ending(stream: trio.SocketStream) -> tuple[bytes, float]:
    """What came until the end, and the time of it."""
    came = b"".join([piece async for piece in stream])
    return came, trio.current_time()


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost:", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_a_client_that_goes_quiet_is_closed(sent: bytes) -> None:
    async def main(port: int, server: WebServer) -> None:
        began = trio.current_time()
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(sent)
            came, ended = await ending(stream)
        assert came[:15] == (b"HTTP/1.1 200 \r\n" if sent.endswith(b"\r\n\r\n") else b"")
        assert HTTP_IDLE_US / S - 1 < ended - began < HTTP_IDLE_US / S + 5

    run(main)


def test_headers_that_drip_are_not_waited_for_longer_than_headers_that_do_not_come() -> None:
    async def main(port: int, server: WebServer) -> None:
        began = trio.current_time()
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream, trio.open_nursery() as nursery:

            async def drip() -> None:
                await stream.send_all(b"GET / HTTP/1.1\r\nX: ")
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    while True:
                        await trio.sleep(1)
                        await stream.send_all(b"x")

            nursery.start_soon(drip)
            with suppress(trio.BrokenResourceError):
                assert await stream.receive_some() == b""
            assert trio.current_time() - began < HTTP_IDLE_US / S + 5

    run(main)


def test_a_client_that_takes_nothing_in_is_gone_after_a_while() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        stream = _Stream(trio.SocketStream(_tcp(ours)), {})
        began = trio.current_time()
        with pytest.raises(trio.BrokenResourceError, match="takes nothing in"):
            await stream.send_all(bytes(8 << 20))
        assert HTTP_STALL_US / S <= trio.current_time() - began < HTTP_STALL_US / S + 5
        await stream.aclose()
        theirs.close()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.05))


def _tcp(raw: socket.socket) -> Any:
    raw.setblocking(False)
    return trio.socket.from_stdlib_socket(raw)


def test_an_idle_connection_does_not_hold_up_a_stop() -> None:
    async def main(port: int, server: WebServer) -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
        began = trio.current_time()
        await server.stop(1)
        assert trio.current_time() - began < 1
        await stream.aclose()

    run(main)


def test_a_client_that_closes_makes_room_at_once() -> None:
    async def main(port: int, server: WebServer) -> None:
        began = trio.current_time()
        for _ in range(12):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
            while server._listener.open:
                await trio.sleep(0.01)
        assert trio.current_time() - began < HTTP_IDLE_US / S
        assert server.refused == 0

    run(main)
