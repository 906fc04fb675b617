"""What this node knows of its peers as next hops: who can be reached, how fast they acknowledge, how much waits there.

Rule 1: this is seen with one's own frames; what membership says only changes the order, never who may be tried.
Invariant: every map here has at most one entry a peer, and peers are members.

Source: DESIGN section 4, point 4. Power of two choices: Mitzenmacher 2001.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from meshd.config import ACK_WAIT_MAX_US, ACK_WAIT_MIN_US, MS, SKIP_MAX_US, SKIP_US
from meshd.core.ids import NodeId

BACKLOG_MARGIN_US = 2 * MS
"""An owner is passed over for its standby only when this much more waits there: fewer jumps, warmer caches."""


class Recent:
    """The 99th percentile of the last `size` samples."""

    __slots__ = ("_next", "_p99", "_ring", "_size", "_stale")

    def __init__(self, size: int) -> None:
        self._size = size
        self._ring: list[int] = []
        self._next = 0
        self._stale = 0
        self._p99 = 0

    def add(self, sample: int) -> None:
        if len(self._ring) < self._size:
            self._ring.append(sample)
        else:
            self._ring[self._next] = sample
            self._next = (self._next + 1) % self._size
        # Sorting is put off: at thousands of requests a second the tail hardly moves from one to the next.
        self._stale += 1
        if sample > self._p99 or self._stale >= self._size // 4 or len(self._ring) < self._size:
            self._stale = 0
            ordered = sorted(self._ring)
            self._p99 = ordered[(len(ordered) * 99 - 1) // 100]

    @property
    def p99(self) -> int | None:
        """None before the first sample."""
        return self._p99 if self._ring else None


@dataclass(slots=True)
class _Skip:
    until_us: int
    spell_us: int
    is_published: bool


class Peers:
    """The peers of `me`. Times are monotonic microseconds, passed in.

    `is_gone(node)` tells whether membership has given it up (SUSPECT, DEAD, LEFT or unknown).
    """

    def __init__(self, me: NodeId, is_gone: Callable[[NodeId], bool]) -> None:
        self.me = me
        self._is_gone = is_gone
        self._up: dict[NodeId, bool] = {}
        self._acks: dict[NodeId, Recent] = {}
        self._skip: dict[NodeId, _Skip] = {}
        self._queue: dict[NodeId, tuple[int, int]] = {}  # microseconds of work, as of when

    def is_up(self, peer: NodeId) -> bool:
        return peer in self._up

    def is_out(self, peer: NodeId) -> bool:
        """Whether nothing is to be expected of it: this node itself (asked at once), or membership has given it up."""
        return peer == self.me or self._is_gone(peer)

    def up(self) -> tuple[NodeId, ...]:
        return tuple(self._up)

    def link_changed(self, peer: NodeId, up: bool, now_us: int) -> bool:
        """Returns whether the pair's published standing (see `Pair`) changed to `up`."""
        if up:
            self._up[peer] = True
            return self._clear(peer)
        self._up.pop(peer, None)
        self._queue.pop(peer, None)
        return self.stalled(peer, now_us)

    def stalled(self, peer: NodeId, now_us: int) -> bool:
        """`peer` was down or showed no progress: skip it a while. Returns whether the pair counted as fine till now."""
        skip = self._skip.setdefault(peer, _Skip(0, SKIP_US // 2, is_published=False))
        if now_us >= skip.until_us:
            skip.spell_us = min(2 * skip.spell_us, SKIP_MAX_US)
            skip.until_us = now_us + skip.spell_us
        was_fine, skip.is_published = not skip.is_published, True
        return was_fine

    def acked(self, peer: NodeId, after_us: int, queue_us: int, now_us: int) -> bool:
        """Returns whether the pair counted as unreachable till now."""
        self.waited(peer, after_us)
        self._queue[peer] = (queue_us, now_us)
        return self._clear(peer)

    def _clear(self, peer: NodeId) -> bool:
        skip = self._skip.pop(peer, None)
        return skip is not None and skip.is_published

    def expired(self, now_us: int) -> list[NodeId]:
        """Peers skipped long enough whose link stands: no longer published (a plan without them would never try them)."""
        over = [p for p, s in self._skip.items() if s.is_published and s.until_us <= now_us and p in self._up]
        for peer in over:
            self._skip[peer].is_published = False
        return over

    def next_due_us(self) -> int | None:
        if not self._skip:
            return None  # The ordinary case, asked for at every step.
        return min((s.until_us for p, s in self._skip.items() if s.is_published and p in self._up), default=None)

    def waited(self, peer: NodeId, after_us: int) -> None:
        """An ack took this long, or had not come by then (or the estimate would only ever learn from fast ones)."""
        self._acks.setdefault(peer, Recent(64)).add(after_us)

    def busy(self, peer: NodeId, queue_us: int, now_us: int) -> None:
        self._queue[peer] = (queue_us, now_us)

    def ack_wait_us(self, peer: NodeId) -> int:
        recent = self._acks.get(peer)
        p99 = recent.p99 if recent else None
        return ACK_WAIT_MAX_US if p99 is None else min(max(4 * p99, ACK_WAIT_MIN_US), ACK_WAIT_MAX_US)

    def is_skipped(self, peer: NodeId, now_us: int) -> bool:
        skip = self._skip.get(peer)
        return skip is not None and now_us < skip.until_us

    def backlog_us(self, peer: NodeId, now_us: int) -> int:
        """What waits there by the last ack, worked off since."""
        queue_us, at_us = self._queue.get(peer, (0, 0))
        return max(0, queue_us - (now_us - at_us))

    def choose(
        self,
        candidates: Sequence[NodeId],
        tried: Sequence[NodeId],
        mine_us: int | None,
        now_us: int,
        in_order: bool = False,
    ) -> NodeId | None:
        """Who to ask next: the less loaded of the first two that seem well, else anyone with a link, else None.

        Parameters
        ----------
        mine_us : this node's own backlog, or None where it does not hold the segment
        in_order : the first that seems well, however loaded: the later ones had a part in what failed
        """
        usable = [c for c in candidates if c not in tried and (mine_us is not None if c == self.me else c in self._up)]
        if not usable:
            return None
        well = [c for c in usable if c == self.me or not (self._is_gone(c) or self.is_skipped(c, now_us))]
        if len(well) < 2 or in_order:
            return (well or usable)[0]
        first, second = well[:2]

        def backlog(c: NodeId) -> int:
            return (mine_us or 0) if c == self.me else self.backlog_us(c, now_us)

        return second if backlog(first) > backlog(second) + BACKLOG_MARGIN_US else first

    def forget(self, members: Iterable[NodeId]) -> None:
        """Keep only what is known of `members`."""
        kept = dict.fromkeys(members)
        for peer in [p for p in (*self._acks, *self._skip, *self._queue) if p not in kept]:
            self._acks.pop(peer, None)
            self._skip.pop(peer, None)
            self._queue.pop(peer, None)
