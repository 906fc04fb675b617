"""The entry's side of a request: attempts, first success wins, and when to give up.

An attempt is one way through the mesh along one route. A request ends exactly once: with the first Answer of any of its
attempts, or with a Failure when no attempt is out and none may follow, or at its deadline.

Rule 1: an error ends the request only when no attempt is left; all holders busy ends it at once.
Rule 2: a repeat for a holder known to be gone is free; every other repeat spends from the hedge bucket.
Rule 3: two holders vanished with the same request: before a third gets it membership must say they live.
Rule 4: what nobody asked for (an answer to no request, from no node of its route) is dropped and counted.
Invariant: at most `REQUESTS_IN_FLIGHT_MAX` requests, `ATTEMPTS_MAX` attempts each.

Source: DESIGN section 4, points 1 and 6 to 8.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import Final

from meshd.config import (
    ATTEMPTS_MAX,
    HOPS_MAX,
    LATE_MAX_US,
    LATE_MIN_US,
    QUEUE_SLACK_US,
    REQUEST_BYTES_KEPT_MAX,
    REQUEST_DEADLINE_US,
    REQUESTS_IN_FLIGHT_MAX,
    RETRY_AFTER_US,
    VERDICT_US,
)
from meshd.core.ids import Boot, NodeId
from meshd.core.journey.budget import Admission, HedgeBucket
from meshd.core.journey.carrier import Carrier
from meshd.core.journey.effects import Effect, Finish, Send
from meshd.core.journey.frames import Answer, Cancel, Code, Failed, Failure, Forward, Leg, Lost, Reason, RequestId
from meshd.core.journey.peers import Recent
from meshd.core.journey.route import Route, find_route, is_dead, is_gone
from meshd.core.view import View

TIMERS_STALE_MAX: Final = 1_024
SLOW: Final = 1
GONE: Final = 2


@dataclass(slots=True)
class _Deployment:
    """What this entry learnt of one deployment."""

    bucket: HedgeBucket = field(default_factory=HedgeBucket)
    admission: Admission = field(default_factory=Admission)
    firsts: Recent = field(default_factory=lambda: Recent(128))
    """Latencies of first successes."""
    generation: int = 0


@dataclass(slots=True)
class _Attempt:
    number: int
    route: Route
    started_us: int
    out: bool = True
    """Nothing says yet that it cannot succeed."""
    over: bool = False
    """It ended by itself: nobody works on it any more."""


@dataclass(slots=True)
class _Request:
    id: RequestId
    deployment: str
    batch: int
    sizes: tuple[int, ...]
    started_us: int
    deadline_at_us: int
    turn: int
    attempts: list[_Attempt] = field(default_factory=list)
    tries: int = 0
    """Attempts, and times when there was no route for one."""
    vanished: dict[NodeId, Boot | None] = field(default_factory=dict)
    """Holders lost with this request in hand, and the boot they were in."""
    blamed: dict[NodeId, int] = field(default_factory=dict)
    """Whom a further attempt asks last: `SLOW` before `GONE`."""
    failure: Failure | None = None
    retry_at_us: int = 0
    verdict_at_us: int = 0
    late_at_us: int = 0


class Entry:
    """All requests that came in at this node."""

    def __init__(self, view: Callable[[], View], carrier: Carrier, counts: Counter[str]) -> None:
        self._view = view
        self._me = view().me
        self._carrier = carrier
        self._counts = counts
        self._requests: dict[RequestId, _Request] = {}
        self._deployments: dict[str, _Deployment] = {}
        self._timers: list[tuple[int, RequestId]] = []
        self._bytes_kept = 0

    # ------------------------------------------------------------ in

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
        """A client's request; its inputs, of `sizes`, are kept by the shell until `Finish`."""
        self._counts["requests"] += 1
        deadline_us = min(deadline_us, REQUEST_DEADLINE_US * 4) if deadline_us > 0 else REQUEST_DEADLINE_US
        request = _Request(id, deployment, batch, sizes, now_us, now_us + deadline_us, turn)
        known = self._deployments.get(deployment)
        route = find_route(self._view(), deployment, known.generation if known else 0, request.blamed, turn)
        if isinstance(route, Failure):
            return self._refuse(id, route)
        known = known or self._deployments.setdefault(deployment, _Deployment())
        if (refused := self._admit(known, request)) is not None:
            return self._refuse(id, refused)
        self._requests[id] = request
        known.bucket.request()
        effects = self._attempt(request, route, now_us)
        self._watch(request, now_us)
        return effects

    def _admit(self, known: _Deployment, request: _Request) -> Failure | None:
        kept = self._bytes_kept + sum(request.sizes)
        if len(self._requests) >= REQUESTS_IN_FLIGHT_MAX or kept > REQUEST_BYTES_KEPT_MAX:
            held = f"{len(self._requests)} requests of {self._bytes_kept} bytes in flight"
        elif not known.admission.take():
            held = f"{known.admission.in_flight} requests of it in flight"
        else:
            self._bytes_kept = kept
            return None
        after_us = max(QUEUE_SLACK_US, known.admission.unloaded_us(request.batch))
        message = f"deployment {request.deployment!r}: node {self._me} has {held}; try again after the hint"
        return Failure(Code.RESOURCE_EXHAUSTED, Reason.OVERLOADED, message, request.deployment, -1, self._me, after_us)

    def _refuse(self, id: RequestId, failure: Failure) -> list[Effect]:
        self._counts[f"failed {failure.reason.value}"] += 1
        return [Finish(id, failure, 0)]

    def _attempt(self, request: _Request, route: Route, now_us: int) -> list[Effect]:
        known = self._deployments[request.deployment]
        known.generation = max(known.generation, route.generation)
        request.tries += 1
        request.retry_at_us = request.verdict_at_us = 0
        number = len(request.attempts) + 1
        request.attempts.append(_Attempt(number, route, now_us))
        self._counts["attempts"] += 1
        request.late_at_us = self._late_at(request, known, now_us)
        forward = Forward(
            request.id,
            number,
            request.deployment,
            route.plan,
            0,
            request.deadline_at_us - now_us,
            HOPS_MAX,
            request.batch,
            request.sizes,
            route.segments[1:],
        )
        return self._carrier.carry(
            forward, route.segments[0], self._me, request.deadline_at_us, now_us, request.vanished
        )

    def _late_at(self, request: _Request, known: _Deployment, now_us: int) -> int:
        """When this attempt is late; 0 is never, for what nobody else can do."""
        route = request.attempts[-1].route
        if len(request.attempts) >= ATTEMPTS_MAX or all(c == (self._me,) for c in route.segments):
            return 0
        p99 = known.firsts.p99
        # The same nodes again help only where an answer got lost.
        is_new = any(c not in request.blamed for candidates in route.segments for c in candidates[1:])
        after_us = LATE_MAX_US if p99 is None or not is_new else min(max(3 * p99, LATE_MIN_US), LATE_MAX_US)
        return now_us + after_us

    # ------------------------------------------------------------ what the mesh says

    def answered(self, peer: NodeId, answer: Answer, now_us: int) -> list[Effect]:
        """First success wins."""
        request = self._requests.get(answer.request)
        if request is None:
            self._counts["late_answers"] += 1  # Ordinary: another attempt was first, or the time was up.
            return []
        attempt = _of(request, answer.attempt)
        if attempt is None or not self._has_part(attempt, peer) or answer.plan != attempt.route.plan:
            self._counts["unasked"] += 1
            return []
        known = self._deployments[request.deployment]
        latency_us = now_us - request.started_us
        if len(request.attempts) == 1:
            known.firsts.add(latency_us)
            known.admission.succeeded(latency_us, request.batch, now_us)
        else:
            known.firsts.add(now_us - attempt.started_us)
            self._counts["rescued"] += 1
        self._counts["answered"] += 1
        attempt.over = True
        return self._finish(request, answer)

    def failed(self, peer: NodeId, failed: Failed, now_us: int) -> list[Effect]:
        request = self._requests.get(failed.request)
        attempt = _of(request, failed.attempt)
        if request is None or attempt is None or not self._has_part(attempt, peer):
            self._counts["unasked"] += 1
            return []
        attempt.out, attempt.over = False, True
        request.failure = failed.failure
        if failed.failure.code is Code.RESOURCE_EXHAUSTED:
            self._deployments[request.deployment].admission.down(now_us - request.started_us, now_us)
        return self._after_failure(request, now_us)

    def lost(self, peer: NodeId, lost: Lost, leg: Leg, now_us: int) -> list[Effect]:
        """`lost.node` had acknowledged `leg` (one of its legs) and vanished from `peer`'s sight."""
        request = self._requests.get(leg.request)
        attempt = _of(request, leg.attempt)
        if request is None or attempt is None:
            return []  # Ordinary: it was answered in the meantime.
        if not (self._has_part(attempt, peer) and attempt.route.names(lost.node)):
            self._counts["unasked"] += 1
            return []
        self._counts["lost_heard"] += 1
        attempt.out = False
        for node in (*lost.before, lost.node):
            if not any(a.route.names(node) for a in request.attempts):
                continue
            if node != self._me and node not in request.vanished:
                member = self._view().members.get(node)
                request.vanished[node] = member.boot if member else None
            request.blamed[node] = GONE
        return self._instead(request, lost.node, now_us)

    def gone(self, node: NodeId, now_us: int) -> list[Effect]:
        """Membership suspects `node`: requests that went its way are repeated at once."""
        effects: list[Effect] = []
        for request in list(self._requests.values()):
            doubted = [a for a in request.attempts if a.out and a.route.begins_with(node)]
            for attempt in doubted:
                attempt.out = False
            if doubted:
                effects += self._instead(request, node, now_us)
        return effects

    def view_changed(self, now_us: int) -> list[Effect]:
        """What waited for a better view tries it."""
        effects: list[Effect] = []
        deployed = self._view().deployments
        for name in [n for n in self._deployments if n not in deployed]:
            if not self._deployments[name].admission.in_flight:
                del self._deployments[name]
        for request in list(self._requests.values()):
            if request.verdict_at_us:
                effects += self._again(request, now_us, free=True)
            elif request.retry_at_us:
                effects += self._retry(request, now_us)
        return effects

    def _has_part(self, attempt: _Attempt, peer: NodeId) -> bool:
        return peer == self._me or attempt.route.names(peer)

    # ------------------------------------------------------------ again, or the end

    def _instead(self, request: _Request, node: NodeId, now_us: int) -> list[Effect]:
        """`node` is gone: another attempt, unless one that can do without it is out already."""
        request.blamed[node] = GONE
        text = f"deployment {request.deployment!r}: node {node} vanished with the request, and no copy could answer it"
        request.failure = Failure(Code.UNAVAILABLE, Reason.UNREACHABLE, text, request.deployment, -1, node)
        if any(a.out for a in request.attempts):
            return []
        return self._again(request, now_us, free=True)

    def _after_failure(self, request: _Request, now_us: int) -> list[Effect]:
        failure = request.failure
        if any(a.out for a in request.attempts) or failure is None:
            return []
        if failure.code in (Code.RESOURCE_EXHAUSTED, Code.DEADLINE_EXCEEDED):
            return self._finish(request, failure)
        if failure.code is not Code.UNAVAILABLE:
            request.blamed[failure.node] = GONE
            return self._again(request, now_us, free=False)
        if failure.node != self._me:
            request.blamed.setdefault(failure.node, SLOW)  # It found no way on; another may.
        if request.tries >= ATTEMPTS_MAX:
            return self._finish(request, failure)
        # Nobody could be reached: the view may lag behind, so give it a moment.
        request.retry_at_us = now_us + RETRY_AFTER_US * 4 ** (request.tries - 1)
        self._watch(request, now_us)
        return []

    def _retry(self, request: _Request, now_us: int) -> list[Effect]:
        request.retry_at_us = 0
        return self._again(request, now_us, free=True)

    def _again(self, request: _Request, now_us: int, free: bool) -> list[Effect]:
        """One more attempt if it may be, else the end if nothing is out."""
        out = any(a.out for a in request.attempts)
        known = self._deployments[request.deployment]
        if request.tries >= ATTEMPTS_MAX:
            return [] if out else self._finish(request, self._last(request))
        if len(request.vanished) >= 2 and not out and (judged := self._judge(request, now_us)) is not None:
            return judged
        if not free and not known.bucket.take():
            self._counts["hedges_refused"] += 1
            return [] if out else self._finish(request, self._last(request))
        route = find_route(self._view(), request.deployment, known.generation, request.blamed, request.turn)
        if isinstance(route, Failure):
            request.tries += 1
            request.failure = route
            return [] if out else self._after_failure(request, now_us)
        self._counts["retries" if free else "hedges"] += 1
        effects = self._attempt(request, route, now_us)
        self._watch(request, now_us)
        return effects

    def _judge(self, request: _Request, now_us: int) -> list[Effect] | None:
        """Two holders vanished: poison, wait for membership, or None where they live after all."""
        view = self._view()
        is_over = 0 < request.verdict_at_us <= now_us
        judge = is_gone if is_over else is_dead  # A suspect may be back in a moment.
        dead = [n for n, boot in request.vanished.items() if judge(view, n, boot)]
        if len(dead) >= 2:
            text = (
                f"deployment {request.deployment!r}: nodes {dead[0]} and {dead[1]} vanished while they had this request;"
                " the same input is refused for 10 minutes. Look at their logs before sending it again"
            )
            self._counts["poisoned"] += 1
            failure = Failure(Code.INTERNAL, Reason.HOLDERS_LOST, text, request.deployment, -1, dead[1])
            return self._finish(request, failure)
        if not request.verdict_at_us:
            request.verdict_at_us = now_us + VERDICT_US
            self._watch(request, now_us)
        return None if is_over else []

    def _last(self, request: _Request) -> Failure:
        assert request.failure is not None, "an attempt ends with a reason"
        return request.failure

    def _finish(self, request: _Request, outcome: Answer | Failure) -> list[Effect]:
        del self._requests[request.id]
        self._bytes_kept -= sum(request.sizes)
        self._deployments[request.deployment].admission.give()
        effects = self._carrier.drop(request.id, [a.number for a in request.attempts])
        if isinstance(outcome, Failure):
            self._counts[f"failed {outcome.reason.value}"] += 1
        working = [a.route.segments for a in request.attempts if not a.over]
        named = {node: None for route in working for candidates in route for node in candidates}
        effects += [Send(node, Cancel(request.id)) for node in named]
        return [*effects, Finish(request.id, outcome, len(request.attempts))]

    # ------------------------------------------------------------ time

    def _watch(self, request: _Request, now_us: int) -> None:
        times = (request.retry_at_us, request.verdict_at_us, request.late_at_us, request.deadline_at_us)
        heappush(self._timers, (min(t for t in times if t), request.id))
        if len(self._timers) > 4 * len(self._requests) + TIMERS_STALE_MAX:
            # Answered requests leave their deadline behind: at thousands a second that is too much to wait for.
            self._timers = [t for t in self._timers if t[1] in self._requests]
            heapify(self._timers)

    def due(self, now_us: int) -> list[Effect]:
        effects: list[Effect] = []
        while self._timers and self._timers[0][0] <= now_us:
            _, id = heappop(self._timers)
            request = self._requests.get(id)
            if request is not None:
                effects += self._wake(request, now_us)
                if id in self._requests:
                    self._watch(request, now_us)
        return effects

    def _wake(self, request: _Request, now_us: int) -> list[Effect]:
        if now_us >= request.deadline_at_us:
            took_ms = (now_us - request.started_us) // 1000
            why = f" (last: {request.failure.message})" if request.failure else ""
            text = f"deployment {request.deployment!r}: no answer within the deadline of {took_ms} ms{why}"
            return self._finish(
                request, Failure(Code.DEADLINE_EXCEEDED, Reason.DEADLINE, text, request.deployment, -1, self._me)
            )
        if request.retry_at_us and now_us >= request.retry_at_us:
            return self._retry(request, now_us)
        if request.verdict_at_us and now_us >= request.verdict_at_us:
            return self._again(request, now_us, free=True)
        if request.late_at_us and now_us >= request.late_at_us:
            request.late_at_us = 0
            self._counts["late"] += 1
            late = request.attempts[-1].route
            for first in dict.fromkeys(c[0] for c in late.segments if c[0] != self._me):
                request.blamed.setdefault(first, SLOW)
            return self._again(request, now_us, free=False)
        return []

    def firsts(self) -> dict[NodeId, None]:
        """Nodes that are the first choice for a segment of an attempt that is out."""
        out = [a.route.segments for r in self._requests.values() for a in r.attempts if a.out]
        return {candidates[0]: None for route in out for candidates in route}

    def next_due_us(self) -> int | None:
        return self._timers[0][0] if self._timers else None

    def abandon(self, id: RequestId) -> list[Effect]:
        """The client went away."""
        request = self._requests.get(id)
        if request is None:
            return []
        text = f"deployment {request.deployment!r}: the client cancelled the request"
        return self._finish(request, Failure(Code.CANCELLED, Reason.CANCELLED, text, request.deployment))


def _of(request: _Request | None, number: int) -> _Attempt | None:
    return request.attempts[number - 1] if request and 1 <= number <= len(request.attempts) else None
