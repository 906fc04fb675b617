"""Discovery and links alone on a bad network: found by mDNS, up through loss, acks pass on a slow link, silence noticed."""

import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from meshd.core.ids import node_id
from meshd.core.journey import frames as core
from meshd.net.identity import Identity
from tests.e2e.relay import Relay, needs_namespaces
from tests.net.data_nodes import DataNode, Heard, forward

MESH = "ab" * 16
WAIT_S = 30.0

DISCOVER = """
import json, sys, trio
from meshd.net.discovery import Discovery
node, mesh = sys.argv[1:]
said = lambda s: print(json.dumps([s.node, s.addresses[0].host]), flush=True)
trio.run(Discovery(node, mesh, 7946, said).run)
"""


@needs_namespaces
def test_three_hosts_find_each_other_by_mdns_and_one_that_multicast_misses_is_not_found() -> None:
    ids = {host: node_id(bytes([host]) * 16) for host in (1, 2, 3, 4)}
    with Relay(4, seed=3) as relay:
        relay.weather(loss=0.1, delay_s=0.005, jitter_s=0.005)
        relay.block_multicast(4)
        seen: dict[int, dict[str, str]] = {host: {} for host in ids}
        news = threading.Condition()

        def read(host: int, lines: Iterator[str]) -> None:
            for line in lines:
                node, address = json.loads(line)
                with news:
                    seen[host][node] = address
                    news.notify_all()

        for host, node in ids.items():
            words = [sys.executable, "-c", DISCOVER, node, MESH]
            process = relay.run(host, words, stdout=-1, text=True)
            threading.Thread(target=read, args=(host, process.stdout), daemon=True).start()
        expected = {host: {ids[o]: relay.address(o) for o in (1, 2, 3) if o != host} for host in (1, 2, 3)}
        with news:
            assert news.wait_for(lambda: {h: seen[h] for h in (1, 2, 3)} == expected, WAIT_S), seen
        assert seen[4] == {}
        relay.happened("lost", "multicast_cut")
        for process in relay._processes:
            process.kill()
            process.wait()
            process.stdout.close()


@contextlib.contextmanager
def two_nodes(folder: Path, seed: int = 1, react: bool = True) -> Iterator[tuple[Relay, DataNode, DataNode]]:
    """Nodes on two hosts, linked; the second acknowledges every Forward."""
    with Relay(2, seed) as relay:
        nodes = []
        for host in relay.hosts:
            (folder / str(host)).mkdir()
            identity = Identity.load_or_create(folder / str(host))
            with relay.inside(host):  # Its threads, and theirs, stay on the host.
                nodes.append(DataNode(identity, host=relay.address(host)))
        a, b = nodes
        a.meet(b)
        b.meet(a)
        if react:
            b.links.attach(Heard(lambda peer, frame, _: b.links.send(peer, core.Ack(frame.leg, 0))))
        try:
            with relay.inside(1):
                a.links.ensure(b.node)
            wait(a.heard, lambda h: h.is_up(b.node))
            yield relay, a, b
        finally:
            a.close()
            b.close()


def wait(heard: Heard, until) -> float:
    """Wait longer than a loopback test would; returns how long it took."""
    start = time.monotonic()
    with heard._news:
        assert heard._news.wait_for(lambda: until(heard), WAIT_S), heard.changes
    return time.monotonic() - start


@needs_namespaces
def test_links_come_up_and_carry_frames_through_loss_and_delay(tmp_path: Path) -> None:
    with two_nodes(tmp_path) as (relay, a, b):
        relay.weather(loss=0.1, delay_s=0.01, jitter_s=0.005)
        for n in range(30):
            assert a.links.send(b.node, forward(n, 20_000), [bytes(20_000)]) is not None
        wait(a.heard, lambda h: len(h.frames) == 30)
        assert a.heard.changes == [(b.node, True)]
        assert a.links._links[b.node].writer._lossy, "TCP was told to expect loss"
        relay.happened("lost", "delayed")


@needs_namespaces
def test_on_a_slow_link_small_frames_pass_and_progress_never_seems_to_stop(tmp_path: Path) -> None:
    came: dict[int, float] = {}
    with two_nodes(tmp_path, react=False) as (relay, a, b):
        there = threading.Event()

        def react(_: object, frame: core.Frame, payload: memoryview) -> None:
            if isinstance(frame, core.Cancel):
                came[frame.request.number] = time.monotonic()
            elif isinstance(frame, core.Forward):
                there.set()

        b.links.attach(Heard(react))
        relay.weather(rate_bps=5_000_000, delay_s=0.002)
        large = a.links.send(b.node, forward(1, 1_500_000), [bytes(1_500_000)])
        assert large is not None
        sent: dict[int, float] = {}
        still_us = 0
        while not there.wait(0.02):
            number = 100 + len(sent)
            sent[number] = time.monotonic()
            assert a.links.send(b.node, core.Cancel(forward(number).request)) is not None
            still_us = max(still_us, time.monotonic_ns() // 1_000 - large.progress_us)
            assert len(sent) < WAIT_S / 0.02
        took = time.monotonic() - sent[100]
        waited = sorted(came[n] - sent[n] for n in sent if n in came)
        print(f"{took:.1f} s, small frames {waited[len(waited) // 2]:.3f} s, still {still_us / 1e6:.3f} s")
        assert took > 2, "1.5 MB at 5 Mbit/s takes 2.4 s"
        assert waited[len(waited) // 2] < 0.6, "it waits for what lies unsent in the kernel, not for the frame"
        assert still_us < 500_000, "bytes were on their way all the time"
        assert 300_000 < a.links.bandwidth_bps(b.node) < 900_000, "bytes a second, as the link can"
        relay.happened("delayed")


@needs_namespaces
def test_a_cable_pulled_is_noticed_and_the_link_returns_when_it_is_back(tmp_path: Path) -> None:
    with two_nodes(tmp_path) as (relay, a, b):
        relay.isolate(2)
        frame = a.links.send(b.node, forward(1, 1000), [bytes(1000)])
        assert frame is not None
        noticed = wait(a.heard, lambda h: not h.is_up(b.node))
        assert noticed < 14, "LINK_SILENT_US and a bit; requests went elsewhere long before, by the ack time"
        assert frame.delivered_us == 0
        relay.happened("cut")
        relay.heal()
        assert wait(a.heard, lambda h: h.is_up(b.node)) < 12
        a.links.send(b.node, forward(2, 1000), [bytes(1000)])
        wait(a.heard, lambda h: len(h.frames) == 1)
