"""Large frames both ways over one pair of links, under TLS: nothing hangs, nothing crashes, small frames still pass.

Short here; `python -m tests.net.test_pump` pumps for 20 s (one SSLSocket entered by two threads crashed within that).
"""

import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from meshd.core.journey import frames as core
from meshd.net.identity import Identity
from tests.net.data_nodes import DataNode, Heard, connect, data_nodes, forward

PAYLOAD = bytes(range(256)) * 16_384  # 4 MiB
IN_FLIGHT = 4


class Pump:
    """Keeps `IN_FLIGHT` large frames on their way to a peer, each acknowledged by it."""

    def __init__(self, me: DataNode, peer: DataNode) -> None:
        self.me, self.peer = me, peer
        self.room = threading.Semaphore(IN_FLIGHT)
        self.sent = self.acked = self.received = 0
        self.wrong = 0
        self.acks_s: list[float] = []
        self.started: dict[int, float] = {}
        me.links.attach(Heard(self.react))

    def react(self, _: object, frame: core.Frame, payload: memoryview) -> None:
        if isinstance(frame, core.Forward):
            self.received += 1
            self.wrong += payload[:64] != PAYLOAD[:64] or payload[-1] != PAYLOAD[-1] or len(payload) != len(PAYLOAD)
            self.me.links.send(self.peer.node, core.Ack(frame.leg, 0))
        elif isinstance(frame, core.Ack):
            self.acks_s.append(time.monotonic() - self.started.pop(frame.leg.request.number))
            self.acked += 1
            self.room.release()

    def run(self, until: float) -> None:
        while time.monotonic() < until:
            assert self.room.acquire(timeout=10), "nothing came back for 10 s"
            self.sent += 1
            self.started[self.sent] = time.monotonic()
            assert self.me.links.send(self.peer.node, forward(self.sent, len(PAYLOAD)), [PAYLOAD]) is not None
        for _ in range(IN_FLIGHT):
            assert self.room.acquire(timeout=10), "the last frames were never acknowledged"


def pump(identities: list[Identity], seconds: float) -> list[Pump]:
    with data_nodes(*identities[:2]) as (a, b):
        connect(a, b)
        pumps = [Pump(a, b), Pump(b, a)]
        failed: list[BaseException] = []

        def run(one: Pump) -> None:
            try:
                one.run(time.monotonic() + seconds)
            except AssertionError as error:
                failed.append(error)

        threads = [threading.Thread(target=run, args=(p,)) for p in pumps]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed, failed
        assert a.links.is_up(b.node)
        assert (a.links.counts["lost"], b.links.counts["lost"]) == (0, 0)
    return pumps


@pytest.mark.parametrize("seconds", [2.0])
def test_large_frames_both_ways_neither_hang_nor_crash(identities: list[Identity], seconds: float) -> None:
    for one in pump(identities, seconds):
        assert one.acked == one.sent > 4
        assert one.wrong == 0


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    with tempfile.TemporaryDirectory() as folder:
        nodes = []
        for n in range(2):
            (Path(folder) / str(n)).mkdir()
            nodes.append(Identity.load_or_create(Path(folder) / str(n)))
        for one in pump(nodes, seconds):
            rate = one.acked * len(PAYLOAD) / seconds / 1e6
            acks = sorted(one.acks_s)
            p50, p99 = (1e3 * acks[int(q * (len(acks) - 1))] for q in (0.5, 0.99))
            print(
                f"{one.acked} frames of 4 MiB, {rate:.0f} MB/s, ack p50 {p50:.1f} ms, p99 {p99:.1f} ms, wrong {one.wrong}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
