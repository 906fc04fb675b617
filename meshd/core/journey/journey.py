"""All journeys at one node: what comes in from clients, links, the pool, the clock and the View, as effects.

Rule 1: one thing at a time; whoever shares a `Journey` between threads holds a lock around each call, and performs the
effects after it. Effects of calls that overlap may be performed in either order.
Rule 2: what this node says to itself never becomes an effect: it is looped back here.

The story of a request is in `entry` (attempts), `carrier` (one frame's way to the next holder) and `hop` (arrival).
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from meshd.config import POISON_US, POISONS_TOLD_MAX, SEGMENTS_MAX
from meshd.core.ids import Boot, NodeId
from meshd.core.journey.budget import Poisons
from meshd.core.journey.carrier import Carrier, Wire
from meshd.core.journey.effects import Compute, Effect, Hint, Keep, Respond, Send
from meshd.core.journey.entry import Entry
from meshd.core.journey.frames import (
    Ack,
    Answer,
    Busy,
    Cancel,
    Code,
    Failed,
    Failure,
    Forward,
    Frame,
    Leg,
    Lost,
    NotHeld,
    Poison,
    Reason,
    RequestId,
    Spent,
)
from meshd.core.journey.hop import Backlogs, Hop, Verdict
from meshd.core.journey.peers import Peers
from meshd.core.journey.route import is_gone
from meshd.core.view import State, View


class Journey:
    """The decisions of one node's data plane.

    Parameters
    ----------
    view : returns the current View; its `me` is this node
    backlogs, wire : what the shell knows of its queue and its links
    """

    def __init__(self, view: Callable[[], View], backlogs: Backlogs, wire: Wire) -> None:
        self.counts: Counter[str] = Counter()
        """What happened so far, by a closed set of names."""
        self._poisons = Poisons()
        self._view = view
        self._me = view().me
        self._peers = Peers(self._me, lambda node: is_gone(view(), node, None))
        self._hop = Hop(self._me, backlogs, self.counts)
        self._carrier = Carrier(self._peers, self._hop, wire, self.counts)
        self._entry = Entry(view, self._carrier, self.counts)
        self._boots: dict[NodeId, Boot] = {}
        self._gone: dict[NodeId, None] = {}

    # ------------------------------------------------------------ clients

    def enter(
        self,
        id: RequestId,
        deployment: str,
        batch: int,
        sizes: tuple[int, ...],
        deadline_us: int,
        now_us: int,
        turn: int = 0,
    ) -> list[Effect]:
        """A checked request, whose inputs (raw, `sizes` bytes each) the shell keeps until `Finish`.

        `turn` counts the parts of one split batch.
        """
        return self._loop(self._entry.enter(id, deployment, batch, sizes, deadline_us, now_us, turn), now_us)

    def abandon(self, id: RequestId, now_us: int) -> list[Effect]:
        """The client went away."""
        return self._loop(self._entry.abandon(id), now_us)

    # ------------------------------------------------------------ poison

    @property
    def knows_poison(self) -> bool:
        """Whether `poison_left_us` may be anything but 0: digests cost time."""
        return len(self._poisons) > 0

    def poison(self, digest: bytes, failure: Failure, now_us: int) -> list[Effect]:
        """The inputs with this digest ended as HOLDERS_LOST: refuse them here, and have them refused elsewhere."""
        witness = self._view().members.get(failure.node)
        gone = witness is not None and witness.state is not State.ALIVE
        boot = witness.boot if witness is not None and gone else None
        self._poisons.add(digest, now_us, failure.node, boot)
        return [Send(peer, Poison(digest, POISON_US, failure.node, boot)) for peer in self._peers.up()]

    def poison_left_us(self, digest: bytes, now_us: int) -> int:
        """How long inputs with this digest are still refused; 0 is not at all."""
        view = self._view()
        return self._poisons.left_us(digest, now_us, lambda node, boot: not is_gone(view, node, boot))

    # ------------------------------------------------------------ links

    def receive(self, peer: NodeId, frame: Frame, now_us: int) -> list[Effect]:
        """A frame from `peer`, its payload (if it has one) in hand."""
        return self._loop(self._receive(peer, frame, now_us), now_us)

    def _receive(self, peer: NodeId, frame: Frame, now_us: int) -> list[Effect]:
        match frame:
            case Forward():
                return self._arrive(peer, frame, now_us)
            case Ack():
                return self._carrier.acked(peer, frame, now_us)
            case Answer():
                if frame.request.entry == self._me:
                    return self._entry.answered(peer, frame, now_us)
                onward = self._relay(peer, frame.request, frame.attempt)
                return [Respond(onward, frame)] if onward else []
            case Failed():
                if frame.request.entry == self._me:
                    return self._entry.failed(peer, frame, now_us)
                onward = self._relay(peer, frame.request, frame.attempt)
                return [Send(onward, frame)] if onward else []
            case Lost():
                return self._lost(peer, frame, now_us)
            case Busy():
                return self._carrier.busy(peer, frame, now_us)
            case NotHeld():
                return self._carrier.not_held(peer, frame, now_us)
            case Cancel():
                # Only the entry may cancel; its own word comes through `_loop`.
                if peer == frame.request.entry:
                    self._hop.cancel(frame.request, frame.attempt, now_us)
                return []
            case Poison():
                self.counts["poison_heard"] += 1
                self._poisons.add(frame.digest, now_us, frame.witness, frame.boot, frame.left_us)
                return []

    def _arrive(self, peer: NodeId, forward: Forward, now_us: int) -> list[Effect]:
        leg = forward.leg
        verdict, backlog = self._hop.judge(forward, peer, forward.deadline_us, now_us)
        match verdict:
            case Verdict.COMPUTE:
                self.counts["hops"] += 1
                compute = Compute(forward, now_us + forward.deadline_us, peer, backlog.cost_us, local=False)
                return [Send(peer, Ack(leg, backlog.queue_us)), compute]
            case Verdict.DUPLICATE:
                return [Send(peer, Ack(leg, backlog.queue_us))]
            case Verdict.BUSY:
                return [Send(peer, Busy(leg, backlog.queue_us))]
            case Verdict.NOT_HELD:
                return [Send(peer, NotHeld(leg))]
            case Verdict.HOPS:
                text = f"deployment {forward.deployment!r}: the route has too many hops at segment {forward.segment}"
                failure = Failure(Code.INTERNAL, Reason.HOPS, text, forward.deployment, forward.segment, self._me)
                return [Send(peer, Ack(leg, 0)), *self.broke(forward, peer, failure, now_us)]

    def _lost(self, peer: NodeId, lost: Lost, now_us: int) -> list[Effect]:
        effects: list[Effect] = []
        onward: dict[NodeId, list[Leg]] = {}
        for leg in lost.legs:
            if leg.request.entry == self._me:
                effects += self._entry.lost(peer, lost, leg, now_us)
            elif (previous := self._relay(peer, leg.request, leg.attempt)) is not None:
                onward.setdefault(previous, []).append(leg)
        return effects + [
            Send(previous, Lost(lost.node, tuple(legs), lost.before, lost.suspected))
            for previous, legs in onward.items()
        ]

    def _relay(self, peer: NodeId, request: RequestId, attempt: int) -> NodeId | None:
        onward = self._carrier.relay(Leg(request, attempt, SEGMENTS_MAX - 1), peer)
        self.counts["unasked" if onward is None else "relayed"] += 1
        return onward

    def unsent(self, peer: NodeId, leg: Leg, now_us: int) -> list[Effect]:
        """A `Carry` to `peer` found no link."""
        return self._loop(self._carrier.unsent(peer, leg, now_us), now_us)

    def is_on_way(self, leg: Leg) -> bool:
        """Whether the leg's Forward still waits for an ack."""
        return self._carrier.is_on_way(leg)

    def link_changed(self, peer: NodeId, up: bool, now_us: int) -> list[Effect]:
        """The data links to `peer` stand, or do not any more."""
        effects = self._carrier.link_changed(peer, up, now_us)
        if up:
            effects += [Send(peer, told) for told in self._poisons.newest(POISONS_TOLD_MAX, now_us)]
            effects += self._entry.reachable(now_us)
        return self._loop(effects, now_us)

    # ------------------------------------------------------------ compute

    def is_wanted(self, compute: Compute, now_us: int) -> bool:
        """To be asked just before the job runs. If not, that is all: nobody waits for it."""
        return self._hop.is_wanted(compute.forward.leg, compute.deadline_at_us, now_us)

    def computed(self, compute: Compute, sizes: tuple[int, ...], spent: Spent, now_us: int) -> list[Effect]:
        """The segment ran; its outputs (encoded for the cut, or raw after the last), `sizes` bytes each, are in hand."""
        done = compute.forward
        if not done.route:
            answer = Answer(done.request, done.attempt, done.plan, done.batch, sizes, spent)
            return self._loop(self._carrier.answer(answer, compute.previous), now_us)
        onward = replace(done, segment=done.segment + 1, sizes=sizes, route=done.route[1:], spent=spent)
        carried = self._carrier.carry(onward, done.route[0], compute.previous, compute.deadline_at_us, now_us)
        return self._loop([Keep(onward.leg), *carried], now_us)

    def broke(self, forward: Forward, previous: NodeId, failure: Failure, now_us: int) -> list[Effect]:
        """The segment failed."""
        failed = Failed(forward.request, forward.attempt, failure)
        return self._loop(self._carrier.to_entry(failed, previous), now_us)

    # ------------------------------------------------------------ membership and time

    def view_changed(self, now_us: int) -> list[Effect]:
        """A new View is current: whoever it newly suspects takes its requests with it."""
        view = self._view()
        watched = {n: None for n in (*self._peers.up(), *self._carrier.nexts(), *self._entry.firsts()) if n != self._me}
        effects: list[Effect] = []
        gone_now: dict[NodeId, None] = {}
        for node in sorted(watched):
            member = view.members.get(node)
            if is_gone(view, node, self._boots.get(node)):
                gone_now[node] = None
                if node not in self._gone:
                    effects += self._entry.gone(node, now_us)
                    effects += self._carrier.gone(node, suspected=True)
            if member is not None:
                self._boots[node] = member.boot
        self._gone = gone_now
        for node in [n for n in self._boots if n not in watched]:
            del self._boots[node]
        self._peers.forget(view.members)
        effects += self._entry.view_changed(now_us)
        return self._loop(effects, now_us)

    def due(self, now_us: int) -> list[Effect]:
        """Whatever is due by now; to be called at `next_due_us`, or late."""
        return self._loop([*self._carrier.due(now_us), *self._entry.due(now_us)], now_us)

    def next_due_us(self) -> int | None:
        """When `due` should be called next; None while nothing waits for time."""
        times = (self._carrier.next_due_us(), self._entry.next_due_us())
        return min((t for t in times if t is not None), default=None)

    # ------------------------------------------------------------ to itself

    def _loop(self, effects: list[Effect], now_us: int) -> list[Effect]:
        """Deliver what is addressed to this node; the rest is for the shell."""
        shell: list[Effect] = []
        pending = effects[::-1]
        while pending:
            effect = pending.pop()
            match effect:
                case Send(peer, frame) if peer == self._me:
                    if isinstance(frame, Cancel):
                        self._hop.cancel(frame.request, frame.attempt, now_us)
                    else:
                        pending += self._receive(self._me, frame, now_us)[::-1]
                case Respond(peer, answer) if peer == self._me:
                    pending += self._entry.answered(self._me, answer, now_us)[::-1]
                case Hint(peer) if peer == self._me:
                    pass
                case _:
                    shell.append(effect)
        return shell
