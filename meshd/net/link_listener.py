"""The one TCP port: the first byte, in the clear, says which kind of link it is; then TLS.

Rule 1: what is not greeted yet is bounded, in number (over all, and from one address) and in time.
Rule 2: whatever a stranger sends, the listener goes on accepting.
"""

import logging
import socket
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

import trio

from meshd.config import GREETINGS_A_HOST_MAX, GREETINGS_MAX, LINK_GREETING_US
from meshd.net.addresses import address_of
from meshd.net.link_greeting import LinkKind

log = logging.getLogger(__name__)

_REST_S = 0.1
"""After accept failed (no descriptors left): do not spin."""


class AdoptsSockets(Protocol):
    """Data and bulk links: take a blocking socket to their own threads."""

    def adopt(self, raw: socket.socket, done: Callable[[], None]) -> None:
        """The socket is theirs; `done` (from any thread) once its far end showed who it is, or failed to."""


class AdoptsStreams(Protocol):
    """Control links: serve a stream in the task that calls."""

    async def adopt(self, accepted: trio.SocketStream, done: Callable[[], None]) -> None:
        """The stream is theirs; `done` as above."""


class Greetings:
    """How many connections have not shown who they are yet. Thread-safe."""

    def __init__(self, most: int = GREETINGS_MAX, most_a_host: int = GREETINGS_A_HOST_MAX) -> None:
        self._most, self._most_a_host = most, most_a_host
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()
        self.refused = 0

    def begin(self, host: str) -> bool:
        """Whether one more from `host` may begin."""
        with self._lock:
            if self._open.total() >= self._most or self._open[host] >= self._most_a_host:
                self.refused += 1
                return False
            self._open[host] += 1
            return True

    def end(self, host: str) -> None:
        """One of `host` is over."""
        with self._lock:
            self._open[host] -= 1
            if self._open[host] <= 0:
                del self._open[host]


async def serve_links(
    listener: socket.socket,
    control: AdoptsStreams,
    data: AdoptsSockets,
    bulk: AdoptsSockets,
    greetings: Greetings | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept on `listener` (see `addresses.bind_ports`) and hand each connection to its kind, until cancelled.

    The listener stays the caller's.
    """
    greetings = greetings or Greetings()
    async with trio.open_nursery() as nursery:
        task_status.started()
        while True:
            await trio.lowlevel.wait_readable(listener)
            try:
                raw, sender = listener.accept()
            except BlockingIOError:
                continue
            except OSError as error:
                log.warning("could not accept a connection: %s", error)
                await trio.sleep(_REST_S)
                continue
            host = address_of(sender).host
            if greetings.begin(host):
                raw.setblocking(False)
                nursery.start_soon(_greet, raw, lambda host=host: greetings.end(host), control, data, bulk)
            else:
                raw.close()


async def _greet(
    raw: socket.socket, done: Callable[[], None], control: AdoptsStreams, data: AdoptsSockets, bulk: AdoptsSockets
) -> None:
    accepted: Any = trio.socket.from_stdlib_socket(raw)
    first = b""
    try:
        with trio.move_on_after(LINK_GREETING_US / 1e6):
            first = await accepted.recv(1)
    except OSError:
        first = b""
    except BaseException:
        accepted.close()
        raise
    if first == LinkKind.CONTROL.value:
        await control.adopt(trio.SocketStream(accepted), done)
        return
    links = {LinkKind.DATA.value: data, LinkKind.BULK.value: bulk}.get(first)
    if links is None:
        accepted.close()
        done()
        return
    blocking = socket.socket(fileno=accepted.detach())
    blocking.setblocking(True)
    links.adopt(blocking, done)
