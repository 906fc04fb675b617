"""A bare TCP hop between two hosts, to stand beside a request on the same network: 3 KiB there, 64 bytes back, ten a second."""

import contextlib
import socket
import threading
import time
from types import TracebackType

from meshd.net import tcp
from tests.e2e.relay import Relay
from tests.e2e.steady import Sent

THERE_BYTES, BACK_BYTES = 3 << 10, 64
EVERY_S = 0.1
PATIENCE_S = 10.0


class BareHop:
    """A context manager; takes what TCP the links take (BBR where the kernel has it), without TLS."""

    def __init__(self, relay: Relay, source: int, target: int) -> None:
        self.sent: list[Sent] = []
        self._end = threading.Event()
        with relay.inside(target):
            self._listener = socket.create_server((relay.address(target), 0))
        with relay.inside(source):
            self._near = socket.create_connection(self._listener.getsockname(), PATIENCE_S)
        self._far, _ = self._listener.accept()
        for end in (self._near, self._far):
            end.settimeout(PATIENCE_S)
            tcp.tune(end)
            tcp.expect_loss(end)
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._ask, self._answer)]

    def between(self, begin_s: float, end_s: float) -> list[Sent]:
        """Hops that began then."""
        return [each for each in list(self.sent) if begin_s <= each.at_s < end_s]

    def _ask(self) -> None:
        with contextlib.suppress(OSError):
            while not self._end.wait(EVERY_S):
                at = time.monotonic()
                self._near.sendall(bytes(THERE_BYTES))
                _take(self._near, BACK_BYTES)
                self.sent.append(Sent(at, time.monotonic(), right=True))

    def _answer(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                _take(self._far, THERE_BYTES)
                self._far.sendall(bytes(BACK_BYTES))

    def __enter__(self) -> "BareHop":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        for each in (self._near, self._far):
            tcp.shut(each)
        for thread in self._threads:
            thread.join(PATIENCE_S)
        for each in (self._near, self._far, self._listener):
            each.close()


def _take(connection: socket.socket, count: int) -> None:
    while count:
        came = len(connection.recv(count))
        if not came:
            raise ConnectionError("closed")
        count -= came
