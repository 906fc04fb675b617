"""The data plane of one node: what the services call and the links feed; `core.journey` decides, this performs.

Everything here runs on plain threads (gRPC's, the links' readers, a pool of one a core, one for timers) and never waits
for trio. It reads the control plane's decisions from one immutable `View`.

Rule 1: decisions are made under one lock, microseconds each; effects are performed after it is let go.
Rule 2: a payload is never copied here: pieces of what was received, or what a segment gave, go on as they are.
"""

import hashlib
import itertools
import threading
from collections.abc import Callable, Sequence
from time import monotonic_ns, time_ns
from typing import Protocol

from meshd.config import INLINE_LINK_BYTES_MAX, INLINE_LINK_US, INLINE_US, MS, POISON_DIGEST_BYTES, S
from meshd.core.ids import Boot, NodeId, SegmentId
from meshd.core.journey.effects import Carry, Compute, Effect, Finish, Hint, Keep, Pair, Release, Respond, Send
from meshd.core.journey.frames import Answer, Code, Failure, Forward, Frame, Leg, Reason, RequestId, Spent
from meshd.core.journey.hop import Backlog
from meshd.core.journey.journey import Journey
from meshd.core.journey.split import parts
from meshd.core.view import View
from meshd.dataplane import compute
from meshd.dataplane.budget import Budget
from meshd.dataplane.entry import Outputs, Pieces, Waiting, merge, share
from meshd.dataplane.links import Buffer, Holder, Links, Signatures, Ticket
from meshd.dataplane.meters import Histogram, Meters, Statistics
from meshd.dataplane.worker import Costs, Pool
from meshd.errors import InvalidError, MeshdError
from meshd.net.fail_stop import end_process

TIMER_GRAIN_US = 5 * MS
"""Timers are late by up to this, so that thousands of requests a second do not wake their thread as often."""
POOL_PATIENCE_US = 3600 * S
"""A thread of the pool goes on with what its own job leads to: it would be the next to take it anyway."""


class RequestFailedError(MeshdError):
    """A request ended without outputs; `failure` says how, for people and for programs."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Hints(Protocol):
    """Where the data plane tells the control plane what it saw. Both return at once (the bridge's bounded channel)."""

    def hinted(self, peer: NodeId) -> None:
        """`events.Hinted`."""

    def pair_unreachable(self, peer: NodeId, ok: bool) -> None:
        """`events.PairUnreachable`."""


class DataPlane:
    """One node's data plane. Threads start in the constructor and end in `close`.

    Parameters
    ----------
    me, boot : this node; request ids hold both
    view : returns the current view, without a lock
    holder, signatures, links, hints : see `dataplane.links` and above
    cores : threads that compute; two more may run Python at once (waiting, sockets and kernels do not count)
    """

    def __init__(
        self,
        *,
        me: NodeId,
        boot: Boot,
        view: Callable[[], View],
        holder: Holder,
        signatures: Signatures,
        links: Links,
        hints: Hints,
        cores: int,
    ) -> None:
        self.signatures = signatures
        self.view = view
        self.budget = Budget(cores + 2)
        self._me, self._boot = me, boot
        self._holder, self._links, self._hints = holder, links, hints
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._journey = Journey(view, self._backlog, self)
        self._waiting: dict[RequestId, Waiting] = {}
        self._kept: dict[Leg, Pieces] = {}
        self._tickets: dict[Leg, Ticket] = {}
        self._costs = Costs()
        self._meters = Meters()
        self._pool = Pool(cores)
        self._timer = threading.Condition(threading.Lock())
        self._timer_at_us = 0
        self._is_open = True
        self._timer_thread = threading.Thread(target=self._keep_time, name="meshd-journey-timer", daemon=True)
        self._timer_thread.start()
        links.attach(self)

    # ------------------------------------------------------------ clients

    def infer(
        self,
        deployment: str,
        inputs: Sequence[Buffer],
        batch: int,
        deadline_us: int,
        on_hang_up: Callable[[Callable[[], None]], object] | None = None,
    ) -> Outputs:
        """Have the mesh compute; blocks the calling thread, at most until the deadline.

        Parameters
        ----------
        deployment : its name
        inputs : raw little-endian bytes of every input of the signature, in its order, already checked against it
        batch : items in the leading dimension
        deadline_us : remaining; 0 is `REQUEST_DEADLINE_US`
        on_hang_up : is given what to call when the client goes away (gRPC's `context.add_callback`); returns False where it
            has gone already

        Raises
        ------
        RequestFailedError
        """
        began_ns = monotonic_ns()
        pieces = tuple(inputs)
        digest = self._digest(deployment, pieces) if self._journey.knows_poison else b""
        if digest and (left_us := self._journey.poison_left_us(digest, began_ns // 1000)):
            raise RequestFailedError(_poisoned(deployment, left_us))
        counts = parts(self.view(), deployment, batch)
        waits: list[Waiting] = []
        try:
            for turn, part in enumerate(share(pieces, batch, counts)):
                waits.append(self._begin(deployment, part, counts[turn], deadline_us, turn))
            if on_hang_up is not None and any(w.outcome is None for w in waits):
                there = on_hang_up(lambda: self._hang_up(waits))
                if there is False:
                    self._hang_up(waits)
            outcome = self._all(waits)
        finally:
            self._hang_up(waits)
            for waiting in waits:
                del self._waiting[waiting.id]
        took_ns, wall_ms = monotonic_ns() - began_ns, time_ns() // 1_000_000
        if isinstance(outcome, Failure):
            if outcome.reason is not Reason.UNKNOWN_MODEL:
                with self._lock:
                    self._meters.failed(deployment, took_ns, wall_ms)
            if outcome.reason is Reason.HOLDERS_LOST:
                deadly = digest or self._digest(deployment, pieces)
                self._step(lambda now_us: self._journey.poison(deadly, outcome, now_us))
            raise RequestFailedError(outcome)
        with self._lock:
            self._meters.succeeded(deployment, batch, took_ns, outcome.spent, wall_ms)
        return outcome

    def _begin(self, deployment: str, inputs: Pieces, batch: int, deadline_us: int, turn: int) -> Waiting:
        id = RequestId(self._me, self._boot, next(self._numbers))
        waiting = self._waiting[id] = Waiting(id, inputs)
        sizes = tuple(map(len, inputs))
        self._step(
            lambda now_us: self._journey.enter(id, deployment, batch, sizes, deadline_us, now_us, turn), (), INLINE_US
        )
        return waiting

    @staticmethod
    def _all(waits: Sequence[Waiting]) -> Outputs | Failure:
        """Wait for every part, or for the first that failed."""
        answers = []
        for waiting in waits:
            outcome = waiting.wait()
            if isinstance(outcome, Failure):
                return outcome
            answers.append((waiting, outcome))
        return merge(answers)

    def _hang_up(self, waits: Sequence[Waiting]) -> None:
        """Nobody waits for these any more; nothing happens to those that are finished."""
        for waiting in waits:
            if waiting.outcome is None:
                self._step(lambda now_us, id=waiting.id: self._journey.abandon(id, now_us))  # type: ignore[misc]

    @staticmethod
    def _digest(deployment: str, pieces: Pieces) -> bytes:
        digest = hashlib.blake2b(deployment.encode(), digest_size=POISON_DIGEST_BYTES)
        for piece in pieces:
            digest.update(len(piece).to_bytes(8, "little"))
            digest.update(piece)
        return digest.digest()

    def statistics(self, deployment: str) -> Statistics:
        """What this entry saw of it since it started."""
        with self._lock:
            return self._meters.of(deployment)

    def phases(self) -> dict[str, Histogram]:
        """Where the time of answered requests went, since this entry started."""
        with self._lock:
            return self._meters.phases()

    def counts(self) -> dict[str, int]:
        """What happened so far, by the journey's closed set of names, and what is in flight now."""
        with self._lock:
            counts = dict(self._journey.counts)
        return counts | {"in_flight": len(self._waiting), "payloads_kept": len(self._kept)}

    # ------------------------------------------------------------ links and control plane

    def receive(self, peer: NodeId, frame: Frame, payload: memoryview) -> None:
        """See `links.Receiver`."""
        pieces: Pieces = ()
        if isinstance(frame, Forward | Answer):
            if sum(frame.sizes) != len(payload) or any(size < 0 for size in frame.sizes):
                with self._lock:
                    self._journey.counts["malformed"] += 1
                return
            pieces = _split(payload, frame.sizes)
        self._step(lambda now_us: self._journey.receive(peer, frame, now_us), pieces, INLINE_LINK_US)

    def link_changed(self, peer: NodeId, up: bool) -> None:
        """See `links.Receiver`."""
        self._step(lambda now_us: self._journey.link_changed(peer, up, now_us))

    def view_changed(self, view: View) -> None:
        """To be called after each published view (by the driver; returns within a millisecond)."""
        self._step(self._journey.view_changed)
        with self._lock:
            self._meters.keep(view.deployments)

    # ------------------------------------------------------------ what the journey asks

    def _backlog(self, segment: SegmentId, batch: int) -> Backlog | None:
        held = self._holder(segment)
        if held is None:
            return None
        return Backlog(self._pool.queue_us(), self._costs.expect_us(segment, batch, held.measured_us))

    def left_us(self, leg: Leg) -> int:
        """See `journey.carrier.Wire`."""
        ticket = self._tickets.get(leg)
        return 0 if ticket is None else ticket.left_us

    def progress_us(self, leg: Leg) -> int:
        """See `journey.carrier.Wire`."""
        ticket = self._tickets.get(leg)
        return 0 if ticket is None else ticket.progress_us

    def rtt_us(self, peer: NodeId) -> int:
        """See `journey.carrier.Wire`."""
        return self._links.rtt_us(peer)

    def bandwidth_bps(self, peer: NodeId) -> int:
        """See `journey.carrier.Wire`."""
        return self._links.bandwidth_bps(peer)

    # ------------------------------------------------------------ performing

    def _step(self, decide: Callable[[int], list[Effect]], hand: Pieces = (), patience_us: int = 0) -> None:
        """Decide under the lock, then do what was decided; jobs up to `patience_us` run on this thread."""
        with self._lock:
            effects = decide(monotonic_ns() // 1000)
            due_us = self._journey.next_due_us()
        if due_us is not None and (self._timer_at_us == 0 or due_us < self._timer_at_us):
            with self._timer:
                self._timer.notify()
        for effect in effects:
            self._perform(effect, hand, patience_us)

    def _perform(self, effect: Effect, hand: Pieces, patience_us: int) -> None:
        match effect:
            case Compute():
                self._compute(effect, hand, patience_us)
            case Finish():
                self._finish(effect, hand)
            case Carry():
                self._carry(effect)
            case Send(peer, frame):
                self._links.send(peer, frame)
            case Respond(peer, answer):
                self._links.send(peer, answer, hand)
            case Keep(leg):
                self._kept[leg] = hand
            case Release(leg):
                self._kept.pop(leg, None)
                _withdraw(self._tickets.pop(leg, None))
            case Hint(peer):
                self._hints.hinted(peer)
            case Pair(peer, ok):
                self._hints.pair_unreachable(peer, ok)

    def _finish(self, finish: Finish, hand: Pieces) -> None:
        waiting = self._waiting.get(finish.request)
        if waiting is not None:
            waiting.finish(finish.outcome, hand, finish.attempts)

    def _payload(self, leg: Leg) -> Pieces | None:
        """What is to leave with `leg`: kept by a hop, or a waiting client's inputs. None once nobody needs it."""
        kept = self._kept.get(leg)
        if kept is None and leg.segment == 0 and (waiting := self._waiting.get(leg.request)) is not None:
            return waiting.inputs
        return kept

    def _carry(self, carry: Carry) -> None:
        leg = carry.forward.leg
        payload = self._payload(leg)
        if payload is None:
            return  # Acknowledged or finished meanwhile, by another thread.
        ticket = self._links.send(carry.peer, carry.forward, payload)
        _withdraw(self._tickets.pop(leg, None))  # Its last candidate made no progress.
        if ticket is None:
            self._step(lambda now_us: self._journey.unsent(carry.peer, leg, now_us))
        else:
            self._tickets[leg] = ticket
            with self._lock:
                if not self._journey.is_on_way(leg):  # The ack was faster than this thread.
                    self._tickets.pop(leg, None)

    # ------------------------------------------------------------ computing

    def _compute(self, job: Compute, hand: Pieces, patience_us: int) -> None:
        forward = job.forward
        if job.local:
            inputs = self._payload(forward.leg)
            self._kept.pop(forward.leg, None)
            _withdraw(self._tickets.pop(forward.leg, None))  # It had gone to another first, whose link closed.
            if inputs is None:
                return
        else:
            inputs = hand
        queued_us = monotonic_ns() // 1000
        if job.cost_us <= patience_us and (job.local or self._is_small(inputs)):
            self._run(job, inputs, queued_us, patience_us)
        elif not self._pool.submit(job.cost_us, lambda: self._run(job, inputs, queued_us, POOL_PATIENCE_US)):
            failure = self._failure(forward, Code.RESOURCE_EXHAUSTED, Reason.OVERLOADED, "its queue is full")
            self._step(lambda now_us: self._journey.broke(forward, job.previous, failure, now_us))

    def _is_small(self, inputs: Pieces) -> bool:
        """Whether a link's reader may run it: it is away from its socket no longer than for a large frame.

        NB it waits for nothing in it: what follows is queued, as everything that leaves by a link is.
        """
        return sum(map(len, inputs)) <= INLINE_LINK_BYTES_MAX and self._pool.is_idle()

    def _run(self, job: Compute, inputs: Pieces, queued_us: int, patience_us: int) -> None:
        forward = job.forward
        now_us = monotonic_ns() // 1000
        if not self._journey.is_wanted(job, now_us):
            return
        held = self._holder(forward.segment_id)
        try:
            if held is None:
                raise InvalidError("it was unloaded while the request waited")
            outputs, took_us = compute.run(held, forward.segment, forward.batch, inputs, self.budget)
        except Exception as error:  # noqa: BLE001  A segment's fault costs its request, never the node.
            failure = self._failure(
                forward, Code.INTERNAL, Reason.COMPUTE, f"{type(error).__name__}: {str(error)[:600]}"
            )
            self._step(lambda now_us: self._journey.broke(forward, job.previous, failure, now_us))
            return
        self._costs.learn(forward.segment_id, forward.batch, took_us)
        before = forward.spent
        waited_us = before.queue_us + now_us - queued_us
        spent = Spent(waited_us, before.compute_us + took_us, before.hops, before.lost)
        sizes = tuple(map(len, outputs))
        self._step(lambda now_us: self._journey.computed(job, sizes, spent, now_us), outputs, patience_us)

    def _failure(self, forward: Forward, code: Code, reason: Reason, text: str) -> Failure:
        message = f"deployment {forward.deployment!r}: segment {forward.segment} on node {self._me}: {text}"
        # It may cross links, where a header's text is printable.
        message = "".join(c if c.isprintable() else " " for c in message)
        return Failure(code, reason, message, forward.deployment, forward.segment, self._me)

    # ------------------------------------------------------------ time

    def _keep_time(self) -> None:
        while True:
            with self._timer:
                if not self._is_open:
                    return
                with self._lock:
                    due_us = self._journey.next_due_us()
                now_us = monotonic_ns() // 1000
                self._timer_at_us = due_us or 0
                if due_us is None or due_us > now_us:
                    wait_us = S if due_us is None else max(due_us - now_us, TIMER_GRAIN_US)
                    self._timer.wait(wait_us / S)
            try:
                self._step(self._journey.due)
            except BaseException as error:  # noqa: BLE001  Without this thread no deadline would ever come.
                end_process(error)

    def close(self) -> None:
        """End the threads; requests in flight end as UNAVAILABLE."""
        with self._timer:
            self._is_open = False
            self._timer.notify()
        self._timer_thread.join()
        self._pool.close()
        text = f"node {self._me} is stopping; ask another node"
        for id in list(self._waiting):
            self._finish(Finish(id, Failure(Code.UNAVAILABLE, Reason.UNREACHABLE, text, node=self._me), 0), ())


def _withdraw(ticket: Ticket | None) -> None:
    if ticket is not None and not ticket.left_us:
        ticket.withdrawn = True


def _split(payload: memoryview, sizes: Sequence[int]) -> Pieces:
    pieces = []
    start = 0
    for size in sizes:
        pieces.append(payload[start : start + size])
        start += size
    return tuple(pieces)


def _poisoned(deployment: str, left_us: int) -> Failure:
    text = (
        f"deployment {deployment!r}: two nodes vanished while they had this very input;"
        f" it is refused for {left_us // S} more seconds"
    )
    return Failure(Code.INTERNAL, Reason.POISONED, text, deployment)
