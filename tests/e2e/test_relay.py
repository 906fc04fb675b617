"""The emulated network does to packets what it says: each fault is seen by the hosts, and counted."""

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Iterator

from tests.e2e.relay import Relay, needs_namespaces

PORT = 9000
COUNT = 200


def udp(relay: Relay, host: int) -> socket.socket:
    with relay.inside(host):
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((relay.address(host), PORT))
    made.settimeout(0.5)
    return made


def arrivals(receiver: socket.socket) -> list[bytes]:
    """What arrives until nothing comes for half a second."""
    found = []
    with contextlib.suppress(TimeoutError):
        while True:
            found.append(receiver.recv(2000))
    return found


@contextlib.contextmanager
def pair(seed: int = 1, hosts: int = 2) -> Iterator[tuple[Relay, list[socket.socket]]]:
    with Relay(hosts, seed) as relay, contextlib.ExitStack() as stack:
        yield relay, [stack.enter_context(udp(relay, host)) for host in relay.hosts]


def burst(relay: Relay, source: socket.socket, target: int, count: int = COUNT, pause_s: float = 0.001) -> None:
    for n in range(count):
        source.sendto(n.to_bytes(2, "big") + bytes(100), (relay.address(target), PORT))
        time.sleep(pause_s)


@needs_namespaces
def test_hosts_hear_each_other_and_only_by_the_relay() -> None:
    with pair(hosts=3) as (relay, (a, b, c)):
        a.sendto(b"to b", (relay.address(2), PORT))
        assert b.recvfrom(100) == (b"to b", (relay.address(1), PORT))
        assert arrivals(c) == []
        relay.happened("passed")


@needs_namespaces
def test_loss_is_what_was_asked_for() -> None:
    with pair() as (relay, (a, b)):
        relay.weather(loss=0.3)
        burst(relay, a, 2)
        came = len(arrivals(b))
        assert 0.5 < came / COUNT < 0.9
        assert relay.counts["lost"] == COUNT - came


@needs_namespaces
def test_delay_delays_and_jitter_keeps_the_order_unless_told() -> None:
    with pair() as (relay, (a, b)):
        relay.weather(delay_s=0.05, jitter_s=0.02)
        start = time.monotonic()
        a.sendto(b"x", (relay.address(2), PORT))
        b.recv(10)
        assert 0.045 < time.monotonic() - start < 0.3
        burst(relay, a, 2, 100)
        came = [int.from_bytes(p[:2], "big") for p in arrivals(b)]
        assert came == sorted(came)
        relay.weather(reorder=True)
        burst(relay, a, 2, 100)
        came = [int.from_bytes(p[:2], "big") for p in arrivals(b)]
        assert came != sorted(came)
        assert len(came) == 100


@needs_namespaces
def test_a_cut_is_one_way_and_heals() -> None:
    with pair() as (relay, (a, b)):
        relay.cut(1, 2)
        a.sendto(b"lost", (relay.address(2), PORT))
        b.sendto(b"heard", (relay.address(1), PORT))
        assert a.recv(10) == b"heard"
        assert arrivals(b) == []
        relay.happened("cut")
        relay.heal()
        a.sendto(b"again", (relay.address(2), PORT))
        assert b.recv(10) == b"again"


@needs_namespaces
def test_a_split_leaves_two_sides() -> None:
    with pair(hosts=3) as (relay, (a, b, c)):
        relay.split({1, 2}, {3})
        for target in (2, 3):
            a.sendto(b"x", (relay.address(target), PORT))
        assert arrivals(b) == [b"x"]
        assert arrivals(c) == []


@needs_namespaces
def test_multicast_reaches_all_but_those_it_is_blocked_for() -> None:
    group = ("224.0.0.251", PORT)
    with Relay(3) as relay, contextlib.ExitStack() as stack:
        hosts = []
        for host in relay.hosts:
            with relay.inside(host):
                one = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                one.bind(("", PORT))
                membership = socket.inet_aton(group[0]) + socket.inet_aton(relay.address(host))
                one.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
                one.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
                one.settimeout(0.5)
                hosts.append(one)
        relay.block_multicast(3)
        hosts[0].sendto(b"all", group)
        assert [arrivals(one) for one in hosts] == [[], [b"all"], []]
        relay.happened("multicast_cut")


@needs_namespaces
def test_a_rate_limits_tcp_and_tcp_can_be_blocked_alone() -> None:
    with pair() as (relay, (a, b)):
        relay.weather(rate_bps=8_000_000, delay_s=0.005)
        with relay.inside(2):
            listener = socket.create_server((relay.address(2), PORT))
        with relay.inside(1):
            near = socket.create_connection((relay.address(2), PORT), 5)
        far, _ = listener.accept()
        payload = bytes(1_000_000)
        sender = threading.Thread(target=near.sendall, args=(payload,))
        start = time.monotonic()
        sender.start()
        came = 0
        while came < len(payload):
            came += len(far.recv(65_536))
        took = time.monotonic() - start
        sender.join()
        assert 0.8 < took < 4, "8 Mbit at 8 Mbit/s"
        relay.block_tcp(1, 2)
        near.sendall(b"unheard")
        a.sendto(b"heard", (relay.address(2), PORT))
        assert b.recv(10) == b"heard"
        far.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            assert far.recv(10) == b"never"
        relay.happened("tcp_cut", "delayed")
        for one in (near, far, listener):
            one.close()


@needs_namespaces
def test_programs_run_on_hosts_and_end_with_the_relay() -> None:
    code = "import socket, time; print(socket.gethostbyname('10.77.0.1')); time.sleep(60)"
    with Relay(1) as relay:
        process = relay.run(1, [sys.executable, "-c", code])
    assert process.poll() is not None
