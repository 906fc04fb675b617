"""How strangers become members: certificates exchanged under the mesh key, each proven fresh by a returned nonce.

Join{certificate, J} → JoinAck{certificate, A, J} → JoinDone{A}. A certificate counts only once its nonce came back *and* its
key hashes to the id that sealed the datagram: a replayed Join gets an answer and changes nothing.

Rule 1: who was met by rumour needs no handshake to be probed; its certificate is asked for, and counts by its key alone.
Rule 2: a new boot of a known node is a stranger until it returns a number (`challenge`).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from meshd.config import CHALLENGES_MAX, JOINS_MAX
from meshd.core.context import Context
from meshd.core.ids import Address, Boot, NodeId
from meshd.core.messages import Join, JoinAck, JoinDone, Ping
from meshd.core.post import Post
from meshd.core.rng import Rng

Identify = Callable[[bytes], NodeId | None]
"""Certificate (DER) → the id its key hashes to; None if it is no certificate. Pure; the core cannot parse X.509."""
Met = Callable[[NodeId, Boot, Address, bytes, bool], None]
"""(node, boot, address, certificate, whether we asked): a handshake succeeded."""


@dataclass(slots=True)
class _Attempt:
    node: NodeId | None
    nonce: int
    tries: int = 0


@dataclass(frozen=True, slots=True)
class _Stranger:
    node: NodeId
    boot: Boot
    address: Address
    certificate: bytes


class Joins:
    """Handshakes under way, and numbers that strangers and new boots owe us."""

    def __init__(self, context: Context, post: Post, rng: Rng, identify: Identify, on_met: Met) -> None:
        self._context, self._post, self._rng = context, post, rng
        self._identify, self._on_met = identify, on_met
        self._attempts: dict[Address, _Attempt] = {}
        self._waiting: dict[Address, NodeId | None] = {}
        self._strangers: dict[int, _Stranger] = {}
        self._challenges: dict[tuple[NodeId, Boot], tuple[int, int]] = {}
        """Number and when it was last sent."""

    def sizes(self) -> Iterable[tuple[str, int, int]]:
        """(table, entries, limit)."""
        yield ("joins", len(self._attempts), JOINS_MAX)
        yield ("joins waiting", len(self._waiting), JOINS_MAX)
        yield ("strangers", len(self._strangers), CHALLENGES_MAX)
        yield ("challenges", len(self._challenges), CHALLENGES_MAX)

    def invite(self, address: Address, node: NodeId | None) -> None:
        """Join whoever hears there, unless that is under way."""
        if address in self._attempts or address in self._waiting:
            return
        if len(self._attempts) >= JOINS_MAX:
            if len(self._waiting) < JOINS_MAX:
                self._waiting[address] = node
            return
        if not self._attempts:
            self._context.timer("join", self._context.timers.join_retry_us)
        self._attempts[address] = attempt = _Attempt(node, self._rng.getrandbits(64))
        self._knock(address, attempt)

    def on_timer(self) -> None:
        """Timer `join`: knock again where nobody answered."""
        for address, attempt in list(self._attempts.items()):
            if attempt.tries >= self._context.timers.join_tries:
                del self._attempts[address]
            else:
                self._knock(address, attempt)
        for address, node in list(self._waiting.items())[: JOINS_MAX - len(self._attempts)]:
            del self._waiting[address]
            self._attempts[address] = attempt = _Attempt(node, self._rng.getrandbits(64))
            self._knock(address, attempt)
        if self._attempts:
            self._context.timer("join", self._context.timers.join_retry_us)

    def _knock(self, address: Address, attempt: _Attempt) -> None:
        attempt.tries += 1
        self._post.reply(attempt.node, address, Join(self._context.certificate, attempt.nonce))

    def on_join(self, source: NodeId, boot: Boot, address: Address, message: Join) -> None:
        """Somebody knocks. Nothing is kept of it but what its nonce must bring back."""
        if self._identify(message.certificate) != source:
            self._context.report("join.refused", source, reason="its certificate is not its id's")
            return
        nonce = self._rng.getrandbits(64)
        if len(self._strangers) >= CHALLENGES_MAX:
            del self._strangers[next(iter(self._strangers))]
        self._strangers[nonce] = _Stranger(source, boot, address, message.certificate)
        self._post.reply(source, address, JoinAck(self._context.certificate, nonce, message.nonce))

    def on_join_ack(self, source: NodeId, boot: Boot, address: Address, message: JoinAck) -> None:
        """Our knock was answered."""
        found = [at for at, attempt in self._attempts.items() if attempt.nonce == message.returned]
        if not found or self._identify(message.certificate) != source:
            return
        del self._attempts[found[0]]
        self._post.reply(source, address, JoinDone(message.nonce))
        self._on_met(source, boot, address, message.certificate, True)

    def on_join_done(self, source: NodeId, boot: Boot, message: JoinDone) -> None:
        """Who knocked is really there."""
        stranger = self._strangers.get(message.returned)
        if stranger is None or (stranger.node, stranger.boot) != (source, boot):
            return
        del self._strangers[message.returned]
        self._on_met(source, boot, stranger.address, stranger.certificate, False)

    # ------------------------------------------------------------ new boots

    def challenge(self, source: NodeId, boot: Boot, address: Address) -> None:
        """Ping a (source, boot) that has not proven itself, at most every join_retry_us."""
        now_us = self._context.now_us
        number, sent_us = self._challenges.get((source, boot), (0, None))
        if sent_us is not None and now_us - sent_us < self._context.timers.join_retry_us:
            return
        if sent_us is None:
            number = self._rng.getrandbits(64)
            if len(self._challenges) >= CHALLENGES_MAX:
                del self._challenges[next(iter(self._challenges))]
        self._challenges[source, boot] = (number, now_us)
        self._post.reply(source, address, Ping(number, self._post.health))

    def answered(self, source: NodeId, boot: Boot, number: int) -> bool:
        """Did (source, boot) return the number it was challenged with?"""
        challenge = self._challenges.get((source, boot))
        if challenge is None or challenge[0] != number:
            return False
        del self._challenges[source, boot]
        return True
