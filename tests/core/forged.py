"""Datagrams nobody honest sent, to a real node behind the real seal and codec: nothing changes, all are counted, memory is flat.

python -m tests.core.forged --count 1000000
"""

import argparse
import gc
import time
from collections import Counter
from pathlib import Path
from random import Random
from resource import getpagesize

from meshd.config import DATAGRAM_BODY_BYTES_MAX
from meshd.core.events import DatagramIn
from meshd.core.ids import Boot, node_id
from meshd.core.messages import Ping
from meshd.errors import InvalidError
from meshd.wire import codec
from meshd.wire.seal import HEADER_BYTES, Keyring, Opener, Refusal, Sealer
from tests.core.lone import BOOT, Lone, address_of, id_of

MESH, ANOTHER = Keyring(bytes(16), (b"k" * 32,)), Keyring(bytes(16), (b"x" * 32,))
KINDS = (
    "noise", "header", "another key", "altered", "cut", "replayed", "another receiver", "higher boot", "junk in a seal",
)  # fmt: skip


class Forger:
    """A node that knows three members, and who cannot or may not talk to it."""

    def __init__(self, seed: int = 1) -> None:
        self.rng = Random(seed)
        self.me = Lone()
        self.me.meet("a", "b", "c")
        self.me.wait(1_000_000)
        self.opener = Opener(MESH, id_of("me"), self.me.node.context.boot)
        self.members = {name: Sealer(MESH, id_of(name), BOOT) for name in "abc"}
        ping = codec.encode_gossip(Ping(7))
        self.real = [sealer.seal(id_of("me"), ping) for sealer in self.members.values() for _ in range(20)]
        for datagram in self.real:
            self.receive(datagram)
        self.elsewhere = [sealer.seal(id_of("z"), ping) for sealer in self.members.values() for _ in range(20)]
        self.strangers = [node_id(self.rng.randbytes(16)) for _ in range(256)]
        self.outcomes: Counter[str] = Counter()

    def forge(self, kind: str) -> bytes:
        """One datagram of a kind."""
        rng, real = self.rng, self.real[self.rng.randrange(len(self.real))]
        match kind:
            case "noise":
                return rng.randbytes(rng.randrange(1_300))
            case "header":
                return real[:HEADER_BYTES] + rng.randbytes(rng.randrange(16, 1_000))
            case "another key":
                source = self.strangers[rng.randrange(len(self.strangers))]
                return Sealer(ANOTHER, source, Boot(rng.getrandbits(64))).seal(id_of("me"), b"let me in")
            case "altered":
                at = rng.randrange(len(real))
                return real[:at] + bytes([real[at] ^ (1 << rng.randrange(8))]) + real[at + 1 :]
            case "cut":
                return real[: rng.randrange(len(real))]
            case "replayed":
                return real
            case "another receiver":
                return self.elsewhere[rng.randrange(len(self.elsewhere))]
            case "higher boot":
                return Sealer(ANOTHER, id_of("a"), Boot(BOOT + 1 + rng.getrandbits(40))).seal(id_of("me"), b"news")
            case _:
                # Only somebody with the key can: the seal holds, and the codec has to see to it.
                return self.members["a"].seal(
                    id_of("me"), b"\xff" + rng.randbytes(rng.randrange(DATAGRAM_BODY_BYTES_MAX - 1))
                )

    def receive(self, datagram: bytes) -> str:
        """As a daemon does: open, decode, step; what became of it."""
        opened = self.opener.open(datagram)
        if isinstance(opened, Refusal):
            return opened.value
        try:
            message = codec.decode_gossip(opened.body)
        except InvalidError:
            return "not a message"
        self.me.give(DatagramIn(opened.source, opened.boot, address_of("a"), message))
        self.me.forget()
        return "heard"

    def run(self, count: int) -> None:
        """Of all kinds in turn."""
        for number in range(count):
            self.outcomes[self.receive(self.forge(KINDS[number % len(KINDS)]))] += 1

    def knows(self) -> tuple[object, ...]:
        """What must not change."""
        node = self.me.node
        records = [(n, r.order(), r.verified, r.path) for n, r in sorted(node.members.records.items())]
        sizes = [(name, size) for name, size, _ in node.sizes()]
        return (node.context.boot, node.context.incarnation, node.sync.root(), records, sizes, len(self.opener))


def rss_bytes() -> int:
    """Memory of this process that is resident now."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize()


def main() -> None:
    """Print what became of them, and memory before and after."""
    words = argparse.ArgumentParser()
    words.add_argument("--count", type=int, default=1_000_000)
    count = words.parse_args().count
    forger = Forger()
    forger.run(count // 50)  # Caches fill: ids and ranks are remembered up to their limits.
    knew, before, began = forger.knows(), rss_bytes(), time.monotonic()
    forger.run(count)
    took_s, after = time.monotonic() - began, rss_bytes()
    print(
        f"{count} forged datagrams in {took_s:.0f} s, {count / took_s:.0f}/s: {dict(sorted(forger.outcomes.items()))}"
    )
    print(f"resident before {before / 1e6:.1f} MB, after {after / 1e6:.1f} MB, {(after - before) / 1e6:+.2f} MB")
    assert forger.knows() == knew, "forged datagrams changed what the node knows"
    assert forger.outcomes["heard"] == 0


if __name__ == "__main__":
    main()
