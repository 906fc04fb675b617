"""Hosts on a bad network, on one machine, where the kernel has no netem: namespaces joined by a relay in this process.

Each host is a network namespace with one TUN device and one address, 10.77.0.1, 10.77.0.2, and so on. The relay moves
IPv4 packets between them, by destination, with loss, delay, jitter, a rate, and cuts; multicast goes to all, so mDNS works.

    with Relay(3, seed=1) as relay:
        relay.run(1, [sys.executable, "-m", "meshd", "run"])
        relay.weather(loss=0.1, delay_s=0.005)
        relay.cut(1, 2)            # one way: 1 is not heard by 2
        relay.heal()

Rule 1: what was done to packets is counted (`counts`): a fault that never happened fails the test that asked for it.
Rule 2: names are the process's own: several relays run on one machine; what a killed one left is removed at the next start.
Rule 3: needs root and /dev/net/tun. `needs_namespaces` skips loudly without them, and fails where CI=true.
"""

import contextlib
import ctypes
import fcntl
import functools
import heapq
import os
import random
import re
import selectors
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)
_RUN = Path("/run/netns")
_NAME = re.compile(r"meshd-(\d+)-\d+")
PACKET_BYTES_MAX = 2048
BATCH = 64
BUFFER_S = 0.2
"""Tail drop: a slow link holds this much, then loses packets, as a real one does."""
TCP = 6

Test = TypeVar("Test", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Weather:
    """What one direction between two hosts is like."""

    loss: float = 0.0
    delay_s: float = 0.0
    jitter_s: float = 0.0
    """Up to so much more delay, evenly; packets keep their order unless `reorder`."""
    reorder: bool = False
    rate_bps: float = 0.0
    """Bits a second; 0 is no limit."""


class Relay:
    """A context manager: hosts exist inside it, and nothing of them after it."""

    def __init__(self, hosts: int, seed: int = 1) -> None:
        self.hosts = range(1, hosts + 1)
        self._prefix = f"meshd-{os.getpid()}-{next(_numbers)}"
        self._rng = random.Random(seed)
        self._pairs = [(a, b) for a in self.hosts for b in self.hosts if a != b]
        self._weather = dict.fromkeys(self._pairs, Weather())
        self._cut: frozenset[tuple[int, int]] = frozenset()
        self._no_tcp: frozenset[tuple[int, int]] = frozenset()
        self._no_multicast: frozenset[int] = frozenset()
        self.counts: Counter[str] = Counter()
        """`passed`, `lost`, `cut`, `tcp_cut`, `multicast_cut`, `overflowed`, `delayed`."""
        self._processes: list[subprocess.Popen[Any]] = []
        self._end, self._ended = os.pipe()
        self._tuns: dict[int, int] = {}

    # ---------------------------------------------------------------- hosts

    def namespace(self, host: int) -> str:
        """The network namespace's name."""
        return f"{self._prefix}{host:02}"

    def address(self, host: int) -> str:
        """The host's address."""
        return f"10.77.0.{host}"

    def run(self, host: int, words: Sequence[str], **popen: Any) -> "subprocess.Popen[Any]":
        """Start a program on a host; it is killed at the end, if it still runs."""
        process = subprocess.Popen([*self.prefix(host), *words], **popen)
        self._processes.append(process)
        return process

    def prefix(self, host: int) -> tuple[str, ...]:
        """Words before a command line that make it run on a host."""
        return ("ip", "netns", "exec", self.namespace(host))

    @contextlib.contextmanager
    def inside(self, host: int) -> Iterator[None]:
        """This thread's new sockets, and the threads it starts, are the host's."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(_RUN / self.namespace(host), os.O_RDONLY)
        try:
            _enter(there)
            yield
        finally:
            _enter(home)
            os.close(home)
            os.close(there)

    # ---------------------------------------------------------------- weather

    def weather(self, between: tuple[int, int] | None = None, one_way: bool = False, **changed: Any) -> None:
        """Change the weather between two hosts, or everywhere."""
        pairs = self._pairs if between is None else [between] if one_way else [between, between[::-1]]
        for pair in pairs:
            self._weather[pair] = replace(self._weather[pair], **changed)

    def cut(self, source: int, target: int) -> None:
        """`source` is not heard by `target` any more."""
        self._cut |= {(source, target)}

    def isolate(self, *hosts: int) -> None:
        """Pull these hosts' plugs: nothing of them is heard, and they hear nothing."""
        self._cut |= {pair for pair in self._pairs if set(hosts) & set(pair)}

    def split(self, *sides: Collection[int]) -> None:
        """Hosts hear only their own side."""
        side = {host: n for n, hosts in enumerate(sides) for host in hosts}
        self._cut |= {(a, b) for a, b in self._pairs if side.get(a) != side.get(b)}

    def block_tcp(self, a: int, b: int) -> None:
        """Datagrams pass between two hosts, TCP does not."""
        self._no_tcp |= {(a, b), (b, a)}

    def block_multicast(self, host: int) -> None:
        """Multicast neither reaches nor leaves a host."""
        self._no_multicast |= {host}

    def heal(self) -> None:
        """End all cuts; the weather stays."""
        self._cut = self._no_tcp = frozenset()
        self._no_multicast = frozenset()

    def happened(self, *kinds: str) -> None:
        """Fail unless each of these was done to some packet."""
        assert all(self.counts[kind] for kind in kinds), f"a fault was not switched on: {dict(self.counts)}"

    # ---------------------------------------------------------------- life

    def __enter__(self) -> "Relay":
        _sweep()
        try:
            for host in self.hosts:
                self._make(host)
        except BaseException:
            self._remove()
            raise
        self._thread = threading.Thread(target=self._relay, name="relay", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        os.write(self._ended, b"x")
        self._thread.join()
        self._remove()
        os.close(self._end)
        os.close(self._ended)

    def _make(self, host: int) -> None:
        name = self.namespace(host)
        _ip("netns", "add", name)
        with self.inside(host):
            tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            self._tuns[host] = tun
            fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH", b"tun0", _IFF_TUN | _IFF_NO_PI))
        _ip("-n", name, "addr", "add", f"{self.address(host)}/24", "dev", "tun0")
        _ip("-n", name, "link", "set", "tun0", "up", "multicast", "on")
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "route", "add", "224.0.0.0/4", "dev", "tun0")

    def _remove(self) -> None:
        for host in self.hosts:
            if host in self._tuns:
                os.close(self._tuns.pop(host))
            if (_RUN / self.namespace(host)).exists():
                _ip("netns", "del", self.namespace(host))

    # ---------------------------------------------------------------- packets

    def _relay(self) -> None:
        selector = selectors.DefaultSelector()
        selector.register(self._end, selectors.EVENT_READ, None)
        for host, tun in self._tuns.items():
            selector.register(tun, selectors.EVENT_READ, host)
        waiting: list[tuple[float, int, int, bytes]] = []
        free: dict[tuple[int, int], float] = {}
        last: dict[tuple[int, int], float] = {}
        sequence = 0
        with selector:
            while True:
                timeout = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
                for key, _ in selector.select(timeout):
                    if key.data is None:
                        return
                    for source, target, packet in self._read(key.fd, key.data):
                        now = time.monotonic()
                        at = self._arrival(source, target, len(packet), now, free, last)
                        if at is None:
                            continue
                        if at <= now and not waiting:
                            self._write(target, packet)
                        else:
                            sequence += 1
                            heapq.heappush(waiting, (at, sequence, target, packet))
                now = time.monotonic()
                while waiting and waiting[0][0] <= now:
                    _, _, target, packet = heapq.heappop(waiting)
                    self._write(target, packet)

    def _read(self, tun: int, source: int) -> Iterator[tuple[int, int, bytes]]:
        """Packets that wait at a host, each with whom it goes to and is not cut from."""
        for _ in range(BATCH):
            try:
                packet = os.read(tun, PACKET_BYTES_MAX)
            except OSError:
                return
            if len(packet) < 20 or packet[0] >> 4 != 4:
                continue
            if 224 <= packet[16] < 240:
                if source in self._no_multicast:
                    self.counts["multicast_cut"] += 1
                    continue
                targets = [host for host in self.hosts if host != source]
                kept = [host for host in targets if host not in self._no_multicast]
                self.counts["multicast_cut"] += len(targets) - len(kept)
                targets = kept
            else:
                targets = [packet[19]] if packet[19] in self._tuns and packet[19] != source else []
            for target in targets:
                if (source, target) in self._cut:
                    self.counts["cut"] += 1
                elif packet[9] == TCP and (source, target) in self._no_tcp:
                    self.counts["tcp_cut"] += 1
                else:
                    yield source, target, packet

    def _arrival(
        self, source: int, target: int, size: int, now: float, free: dict[Any, float], last: dict[Any, float]
    ) -> float | None:
        """When a packet gets there; None if it does not."""
        pair = (source, target)
        weather = self._weather[pair]
        if weather.loss and self._rng.random() < weather.loss:
            self.counts["lost"] += 1
            return None
        at = now
        if weather.rate_bps:
            start = max(now, free.get(pair, 0.0))
            if start - now > BUFFER_S:
                self.counts["overflowed"] += 1
                return None
            free[pair] = at = start + size * 8 / weather.rate_bps
        at += weather.delay_s + self._rng.random() * weather.jitter_s
        if not weather.reorder:
            at = last[pair] = max(at, last.get(pair, 0.0))
        if at > now:
            self.counts["delayed"] += 1
        return at

    def _write(self, target: int, packet: bytes) -> None:
        self.counts["passed"] += 1
        with contextlib.suppress(OSError):  # Its queue is full: lost, as anywhere.
            os.write(self._tuns[target], packet)


_numbers = iter(range(1, 1_000_000))


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


def _enter(namespace: int) -> None:
    if _LIBC.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def _sweep() -> None:
    """Remove namespaces of relays whose process is gone."""
    for path in _RUN.glob("meshd-*") if _RUN.exists() else ():
        owner = _NAME.match(path.name)
        if owner and not Path("/proc", owner[1]).exists():
            with contextlib.suppress(OSError):
                _ip("netns", "del", path.name)


@functools.cache
def _missing() -> str:
    """Why namespaces cannot be made here; empty if they can."""
    try:
        with Relay(1):
            return ""
    except OSError as error:
        return f"network namespaces cannot be made here: {error}"


def needs_namespaces(test: Test) -> Test:
    """Mark a test that needs hosts: skipped without them, and said so; with CI=true it fails instead."""

    @functools.wraps(test)
    def checked(*arguments: Any, **named: Any) -> Any:
        if why := _missing():
            if os.environ.get("CI") == "true":
                pytest.fail(why)
            pytest.skip(why)
        return test(*arguments, **named)

    marked: Test = pytest.mark.e2e(checked)
    return marked
