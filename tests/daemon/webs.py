"""A web server on a trio run of its own, in a thread: what blocking clients talk to in tests."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import trio

from meshd.daemon.web import WebServer
from meshd.net.addresses import listen_tcp


@contextmanager
def serving(make: Callable[[], Any], connections_max: int = 32, **options: Any) -> Iterator[tuple[int, WebServer]]:
    """(port, server) of the app that `make`, called inside the trio run, returns; until the end of the block."""
    listening = listen_tcp("127.0.0.1", 0)
    port = listening.getsockname()[1]
    ready, made = threading.Event(), []

    async def main() -> None:
        server = WebServer(make(), listening, connections_max, **options)
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve)
            made.extend([server, trio.lowlevel.current_trio_token(), stop])
            ready.set()
            await stop.wait()
            await server.stop(0.5)

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    assert ready.wait(10)
    server, token, stop = made
    try:
        yield port, server
    finally:
        token.run_sync_soon(stop.set)
        thread.join(20)
        assert not thread.is_alive(), "the server did not stop"
