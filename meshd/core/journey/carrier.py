"""One frame's way to the holder of one segment, and the memory of it afterwards.

A *passage* is a Forward that has not been acknowledged: it goes to the best candidate, after a failure (link down, no
progress, not held) to the next alternate with a hint to membership, after Busy to one alternate without. Where all have
been tried and membership still believes in one of them, it waits for that one's ack or link: TCP on a lossy network is
silent for longer than a hop is given, and brings the frame all the same. Once it is acknowledged, (leg, entry, next) is
remembered to the deadline, so that the entry hears `Lost` when `next` vanishes.

Rule 1: an entry's first leg is carried like any other; what goes wrong is told to the entry, even to this node's own.
Rule 2: a payload is kept exactly as long as its passage.
Invariant: at most `PASSAGES_MAX` passages and `ROUTES_REMEMBERED_MAX` memories.

Source: DESIGN section 4, points 3 to 5.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from typing import Protocol

from meshd.config import ACK_WAIT_MAX_US, LATE_MAX_US, PASSAGES_MAX, QUEUE_SLACK_US, ROUTES_REMEMBERED_MAX
from meshd.core.ids import NodeId
from meshd.core.journey.effects import Carry, Compute, Effect, Hint, Pair, Release, Respond, Send
from meshd.core.journey.frames import (
    LEGS_PER_LOST_MAX,
    LOST_BEFORE_MAX,
    Ack,
    Answer,
    Busy,
    Code,
    Failed,
    Failure,
    Forward,
    Leg,
    Lost,
    NotHeld,
    Reason,
    RequestId,
    Spent,
)
from meshd.core.journey.hop import Hop, Verdict
from meshd.core.journey.peers import BACKLOG_MARGIN_US, Peers


@dataclass(slots=True)
class _Passage:
    forward: Forward
    candidates: tuple[NodeId, ...]
    previous: NodeId
    deadline_at_us: int
    payload_bytes: int
    next: NodeId
    sent_us: int = 0
    tried: list[NodeId] = field(default_factory=list)
    unsent: list[NodeId] = field(default_factory=list)
    """Of `tried`, those that the frame did not even leave for."""
    refused: list[NodeId] = field(default_factory=list)
    """Of `tried`, those that do not hold the segment."""
    waiting: bool = False
    """All were tried; one of them may still be heard of."""
    patience_us: int = 0
    """When it stops waiting; 0 before it began to."""
    busy: int = 0
    closed: list[NodeId] = field(default_factory=list)
    """Nodes whose links closed while they had the frame, perhaps: the second ends it, should it be what kills them."""
    lost_one: bool = False
    """One of them closed in this very passage."""
    queue_us: int = 0
    """Least backlog that a busy holder told of."""


@dataclass(slots=True)
class _Memory:
    next: NodeId
    previous: NodeId
    deadline_at_us: int
    before: tuple[NodeId, ...]


class Wire(Protocol):
    """What the shell knows of its links; the carrier asks, the simulator has its own."""

    def left_us(self, leg: Leg) -> int:
        """When the leg's frame left whole; 0 while it has not, or that is not known."""

    def progress_us(self, leg: Leg) -> int:
        """When the leg's frame left whole; while it has not, when bytes last left on its link."""

    def rtt_us(self, peer: NodeId) -> int:
        """0 where it is not known."""

    def bandwidth_bps(self, peer: NodeId) -> int:
        """Bytes a second; 0 where it is not known."""


class Carrier:
    """All passages out of this node. Effects addressed to `me` are looped back by `Journey`."""

    def __init__(self, peers: Peers, hop: Hop, wire: Wire, counts: Counter[str]) -> None:
        self._me = peers.me
        self._peers = peers
        self._hop = hop
        self._wire = wire
        self._counts = counts
        self._passages: dict[Leg, _Passage] = {}
        self._timers: list[tuple[int, Leg]] = []
        self._memories: dict[Leg, _Memory] = {}
        self._by_next: dict[NodeId, dict[Leg, None]] = {}

    # ------------------------------------------------------------ passages

    def carry(
        self,
        forward: Forward,
        candidates: tuple[NodeId, ...],
        previous: NodeId,
        deadline_at_us: int,
        now_us: int,
        vanished: Iterable[NodeId] = (),
    ) -> list[Effect]:
        """Bring `forward` to one of `candidates`; its payload is kept under its leg already.

        `vanished` holders had the request in an earlier attempt.
        """
        if candidates[0] == self._me and not vanished:
            # The ordinary case of a node that holds what it is asked for: no passage, for nothing can happen to it.
            backlog = self._hop.backlogs(forward.segment_id, forward.batch)
            left_us = deadline_at_us - now_us
            if backlog is not None and backlog.queue_us <= BACKLOG_MARGIN_US:
                verdict, backlog = self._hop.judge(forward, self._me, left_us, now_us, backlog)
                if verdict is Verdict.COMPUTE:
                    return [Compute(forward, deadline_at_us, previous, backlog.cost_us, local=True)]
        leg = forward.leg
        passage = _Passage(forward, candidates, previous, deadline_at_us, sum(forward.sizes), self._me)
        if len(self._passages) >= PASSAGES_MAX:
            passage.busy, passage.queue_us = 1, LATE_MAX_US
            return self._exhausted(passage)
        if leg.attempt > 1:
            # An earlier attempt may still be on its way, and have closed links of its own.
            earlier = [self._passages.get(leg._replace(attempt=n)) for n in range(1, leg.attempt)]
            passage.closed = list(dict.fromkeys([*vanished, *(n for p in earlier if p is not None for n in p.closed)]))
        self._passages[leg] = passage
        return self._onward(passage, now_us)

    def _onward(self, passage: _Passage, now_us: int) -> list[Effect]:
        """To the next candidate, or the end of it."""
        forward = passage.forward
        passage.waiting = False
        while True:
            mine = self._hop.backlogs(forward.segment_id, forward.batch) if self._me in passage.candidates else None
            mine_us, again = mine.queue_us if mine else None, forward.attempt > 1
            chosen = self._peers.choose(passage.candidates, passage.tried, mine_us, now_us, again)
            if chosen is None and self._is_hopeful(passage):
                return self._wait(passage, now_us)
            if chosen is None or passage.busy >= 2:
                return self._exhausted(passage)
            passage.tried.append(chosen)
            rtt_us = 0 if chosen == self._me else self._wire.rtt_us(chosen)
            left_us = passage.deadline_at_us - now_us - rtt_us // 2
            if left_us <= 0:
                return self._end(passage, Code.DEADLINE_EXCEEDED, Reason.DEADLINE, "the deadline passed on the way")
            if chosen == self._me:
                verdict, backlog = self._hop.judge(forward, self._me, left_us, now_us)
                if verdict is Verdict.BUSY:
                    self._was_busy(passage, backlog.queue_us)
                    continue
                if verdict is not Verdict.COMPUTE:
                    continue
                self._passages.pop(forward.leg, None)
                if passage.closed:
                    spent = replace(forward.spent, lost=forward.spent.lost + len(passage.closed))
                    forward = replace(forward, spent=spent)
                return [Compute(forward, passage.deadline_at_us, passage.previous, backlog.cost_us, local=True)]
            bandwidth = self._wire.bandwidth_bps(chosen)
            if bandwidth and passage.payload_bytes * 2_000_000 > bandwidth * left_us:
                self._was_busy(passage, QUEUE_SLACK_US)
                continue
            passage.next, passage.sent_us = chosen, now_us
            heappush(self._timers, (now_us + self._peers.ack_wait_us(chosen), forward.leg))
            before = forward.spent
            lost = before.lost + len(passage.closed)
            # NB not `replace`: on every hop it costs three times the constructor.
            sent = Forward(
                forward.request,
                forward.attempt,
                forward.deployment,
                forward.plan,
                forward.segment,
                left_us,
                forward.hops_left - 1,
                forward.batch,
                forward.sizes,
                forward.route,
                Spent(before.queue_us, before.compute_us, before.hops + 1, lost),
            )
            return [Carry(chosen, sent)]

    def _was_busy(self, passage: _Passage, queue_us: int) -> None:
        self._counts["busy_heard"] += 1
        passage.queue_us = min(passage.queue_us, queue_us) if passage.busy else queue_us
        passage.busy += 1

    def _is_hopeful(self, passage: _Passage) -> bool:
        """Whether membership believes in a candidate that has not said no."""
        if passage.busy or passage.lost_one:
            return False
        return any(c not in passage.refused and not self._peers.is_out(c) for c in passage.candidates)

    def _wait(self, passage: _Passage, now_us: int) -> list[Effect]:
        """For the ack of one that was tried, or for a link; once more to those that it did not leave for.

        The entry has nobody to ask for a better way; a hop has, and does not wait for long.
        """
        if not passage.patience_us:
            is_entrys = passage.forward.request.entry == self._me
            most_us = passage.deadline_at_us if is_entrys else now_us + LATE_MAX_US
            passage.patience_us = min(most_us, passage.deadline_at_us)
        if now_us >= passage.patience_us:
            return self._exhausted(passage)
        passage.waiting = True
        again_us = now_us + ACK_WAIT_MAX_US if passage.unsent else passage.patience_us
        heappush(self._timers, (min(again_us, passage.patience_us), passage.forward.leg))
        self._counts["waits"] += 1
        return []

    def _try_again(self, passage: _Passage, peers: Sequence[NodeId], now_us: int) -> list[Effect]:
        passage.tried = [t for t in passage.tried if t not in peers]
        passage.unsent = [u for u in passage.unsent if u not in peers]
        return self._onward(passage, now_us)

    def _exhausted(self, passage: _Passage) -> list[Effect]:
        if passage.lost_one and not passage.busy:
            return self._lose(passage)
        if passage.busy:
            text = f"every holder of segment {passage.forward.segment} is busy; try again after the hint"
            return self._end(passage, Code.RESOURCE_EXHAUSTED, Reason.OVERLOADED, text)
        tried = ", ".join(passage.tried) or "none could be reached"
        reason = Reason.NO_HOLDER if passage.tried else Reason.UNREACHABLE
        text = f"no holder of segment {passage.forward.segment} answered node {self._me} (tried: {tried})"
        return self._end(passage, Code.UNAVAILABLE, reason, text)

    def _end(self, passage: _Passage, code: Code, reason: Reason, text: str) -> list[Effect]:
        forward = passage.forward
        self._passages.pop(forward.leg, None)
        retry_us = max(passage.queue_us, QUEUE_SLACK_US) if code is Code.RESOURCE_EXHAUSTED else 0
        message = f"deployment {forward.deployment!r}: {text}"
        failure = Failure(code, reason, message, forward.deployment, forward.segment, self._me, retry_us)
        failed = Failed(forward.request, forward.attempt, failure)
        return [Release(forward.leg), *self.to_entry(failed, passage.previous)]

    def _lose(self, passage: _Passage) -> list[Effect]:
        """Only the entry, who knows of all attempts, may judge what closed these links."""
        leg = passage.forward.leg
        self._passages.pop(leg, None)
        *before, node = passage.closed[-1 - LOST_BEFORE_MAX :]
        return [Release(leg), *self.to_entry(Lost(node, (leg,), tuple(before)), passage.previous)]

    def to_entry(self, frame: Failed | Lost, previous: NodeId) -> list[Effect]:
        """Straight to the entry, or back through the previous hop where there is no link."""
        entry = frame.request.entry if isinstance(frame, Failed) else frame.legs[0].request.entry
        return [Send(self._towards(entry, previous), frame)]

    def answer(self, answer: Answer, previous: NodeId) -> list[Effect]:
        """The same for an Answer, whose payload is in hand."""
        return [Respond(self._towards(answer.request.entry, previous), answer)]

    def _towards(self, entry: NodeId, previous: NodeId) -> NodeId:
        direct = entry == self._me or self._peers.is_up(entry) or not self._peers.is_up(previous)
        return entry if direct else previous

    def first_hop(self, request: RequestId, attempt: int) -> NodeId | None:
        """Who acknowledged the first leg; None where nobody did, or it was computed here."""
        memory = self._memories.get(Leg(request, attempt, 0))
        return memory.next if memory is not None else None

    def relay(self, leg: Leg, peer: NodeId) -> NodeId | None:
        """Whom to pass a frame on to that is another entry's; None if nothing of that request went through here."""
        for segment in range(leg.segment, -1, -1):
            memory = self._memories.get(Leg(leg.request, leg.attempt, segment))
            if memory is not None and memory.previous not in (peer, self._me):
                return self._towards(leg.request.entry, memory.previous)
        return None

    # ------------------------------------------------------------ what the next hop says

    def acked(self, peer: NodeId, ack: Ack, now_us: int) -> list[Effect]:
        passage = self._passages.get(ack.leg)
        if passage is None or peer not in passage.tried:
            return []
        waited = now_us - min(max(passage.sent_us, self._wire.left_us(ack.leg)), now_us)
        fine = self._peers.acked(peer, waited, ack.queue_us, now_us)
        del self._passages[ack.leg]
        self._remember(
            ack.leg,
            _Memory(peer, passage.previous, passage.deadline_at_us, tuple(passage.closed[-LOST_BEFORE_MAX:])),
            now_us,
        )
        effects: list[Effect] = [Release(ack.leg)]
        return [*effects, Pair(peer, ok=True)] if fine else effects

    def busy(self, peer: NodeId, busy: Busy, now_us: int) -> list[Effect]:
        self._peers.busy(peer, busy.queue_us, now_us)
        passage = self._passages.get(busy.leg)
        if passage is None or not (passage.next == peer or (passage.waiting and peer in passage.tried)):
            return []
        self._was_busy(passage, busy.queue_us)
        return self._onward(passage, now_us)

    def not_held(self, peer: NodeId, said: NotHeld, now_us: int) -> list[Effect]:
        passage = self._passages.get(said.leg)
        if passage is None or peer not in passage.tried:
            return []
        passage.refused.append(peer)
        if passage.next != peer and not passage.waiting:
            return []
        self._counts["not_held"] += 1
        return [Hint(peer), *self._onward(passage, now_us)]

    def unsent(self, peer: NodeId, leg: Leg, now_us: int) -> list[Effect]:
        """There was no link for a `Carry`, or its lane was full."""
        passage = self._passages.get(leg)
        if passage is None or passage.next != peer:
            return []
        passage.unsent.append(peer)
        return [*self._stalled(peer, now_us), *self._onward(passage, now_us)]

    def _stalled(self, peer: NodeId, now_us: int) -> list[Effect]:
        self._counts["stalls"] += 1
        newly = self._peers.stalled(peer, now_us)
        return [Hint(peer), Pair(peer, ok=False)] if newly else [Hint(peer)]

    # ------------------------------------------------------------ what happens to the next hop

    def link_changed(self, peer: NodeId, up: bool, now_us: int) -> list[Effect]:
        changed = self._peers.link_changed(peer, up, now_us)
        effects: list[Effect] = [Pair(peer, ok=up)] if changed else []
        if up:
            for passage in [p for p in self._passages.values() if p.waiting and peer in p.candidates]:
                if peer not in passage.refused:
                    effects += self._try_again(passage, (peer,), now_us)
            return effects
        effects.append(Hint(peer))
        # A link that closes because its peer was given up (a split) is no witness; a process that dies closes its own first.
        given_up = self._peers.is_out(peer)
        for passage in [p for p in self._passages.values() if p.next == peer]:
            if not given_up:
                passage.lost_one = True
                if peer not in passage.closed:
                    passage.closed.append(peer)
            effects += self._lose(passage) if len(passage.closed) >= LOST_BEFORE_MAX else self._onward(passage, now_us)
        return effects + self.gone(peer, given_up)

    def gone(self, peer: NodeId, suspected: bool = False) -> list[Effect]:
        """`peer` turned SUSPECT, or its link closed: whatever it had acknowledged from here is lost with it."""
        legs = self._by_next.pop(peer, {})
        by_entry: dict[tuple[NodeId, NodeId, tuple[NodeId, ...]], list[Leg]] = {}
        for leg in legs:
            memory = self._memories.pop(leg)
            by_entry.setdefault((leg.request.entry, memory.previous, memory.before), []).append(leg)
        self._counts["lost_said"] += len(legs)
        effects: list[Effect] = []
        for (_, previous, before), lost in by_entry.items():
            for first in range(0, len(lost), LEGS_PER_LOST_MAX):
                legs_lost = tuple(lost[first : first + LEGS_PER_LOST_MAX])
                effects += self.to_entry(Lost(peer, legs_lost, before, suspected), previous)
        for passage in [p for p in self._passages.values() if p.waiting and peer in p.candidates]:
            if not self._is_hopeful(passage):
                effects += self._exhausted(passage)
        return effects

    # ------------------------------------------------------------ time

    def due(self, now_us: int) -> list[Effect]:
        """Passages without progress go on to the next candidate."""
        effects: list[Effect] = []
        while self._timers and self._timers[0][0] <= now_us:
            _, leg = heappop(self._timers)
            passage = self._passages.get(leg)
            if passage is None:
                continue
            if passage.waiting:
                effects += self._waited(passage, now_us)
                continue
            peer = passage.next
            wait_us = self._peers.ack_wait_us(peer)
            since_us = max(passage.sent_us, self._wire.progress_us(leg))
            if now_us < min(since_us + wait_us, passage.deadline_at_us):
                heappush(self._timers, (since_us + wait_us, leg))
                continue
            self._peers.waited(peer, now_us - passage.sent_us)
            effects += self._stalled(peer, now_us)
            effects += self._onward(passage, now_us)
        return effects + [Pair(peer, ok=True) for peer in self._peers.expired(now_us)]

    def _waited(self, passage: _Passage, now_us: int) -> list[Effect]:
        if now_us >= passage.patience_us:
            return self._exhausted(passage)
        return self._try_again(passage, tuple(passage.unsent), now_us) if passage.unsent else []

    def is_on_way(self, leg: Leg) -> bool:
        """Whether its Forward waits for an ack."""
        return leg in self._passages

    def next_due_us(self) -> int | None:
        times = [self._timers[0][0] if self._timers else None, self._peers.next_due_us()]
        return min((t for t in times if t is not None), default=None)

    def nexts(self) -> dict[NodeId, None]:
        """Nodes that acknowledged a leg from here that is remembered, and those that a frame waits for."""
        waited = (c for p in self._passages.values() if p.waiting for c in p.candidates)
        return dict.fromkeys((*self._by_next, *waited))

    def drop(self, request: RequestId, attempts: Sequence[int]) -> list[Effect]:
        """The request is over: forget its first legs and what was remembered of them."""
        effects: list[Effect] = []
        if not self._passages and not self._memories:
            return effects
        for attempt in attempts:
            leg = Leg(request, attempt, 0)
            if self._passages.pop(leg, None) is not None:
                effects.append(Release(leg))
            self._forget(leg)
        return effects

    # ------------------------------------------------------------ memory

    def _remember(self, leg: Leg, memory: _Memory, now_us: int) -> None:
        for _ in range(4):
            oldest = next(iter(self._memories), None)
            full = len(self._memories) >= ROUTES_REMEMBERED_MAX
            if oldest is None or not (full or self._memories[oldest].deadline_at_us <= now_us):
                break
            self._forget(oldest)
        self._forget(leg)  # It may have gone out twice: two copies of the segment before took the same attempt.
        self._memories[leg] = memory
        self._by_next.setdefault(memory.next, {})[leg] = None

    def _forget(self, leg: Leg) -> None:
        memory = self._memories.pop(leg, None)
        if memory is None:
            return
        legs = self._by_next[memory.next]
        del legs[leg]
        if not legs:
            del self._by_next[memory.next]
