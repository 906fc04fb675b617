"""The entry's side of a request: attempts, first success wins, and when to give up.

An attempt is one way through the mesh along one route. A request ends exactly once: with the first Answer of any of its
attempts, or with a Failure when no attempt is out and none may follow, or at its deadline.

Rule 1: an error ends the request only when no attempt is left; all holders busy ends it at once.
Rule 2: a repeat for a holder known to be gone, or mute (`mute`), is free and does not count; every other counts to `TRIES_MAX`,
    and a hedge spends from the bucket.
Rule 3: two holders vanished with the same request: before a third gets it membership must say they live.
Rule 4: what nobody asked for (an answer to no request, from no node of its route) is dropped and counted.
Rule 5: what could not leave this node was no attempt: it waits for a holder in reach; after `UNREACHABLE_US` of trouble,
    that there is none is the answer.
Invariant: at most `REQUESTS_IN_FLIGHT_MAX` requests, `ATTEMPTS_MAX` attempts each.

Source: DESIGN section 4, points 1 and 6 to 8.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from heapq import heapify, heappop, heappush
from typing import Final

from meshd.config import (
    ATTEMPTS_MAX,
    HOPS_MAX,
    INLINE_LINK_BYTES_MAX,
    LATE_MAX_US,
    LATE_MIN_US,
    QUEUE_SLACK_US,
    REQUEST_BYTES_KEPT_MAX,
    REQUEST_DEADLINE_US,
    REQUESTS_IN_FLIGHT_MAX,
    RETRY_AFTER_US,
    RETRY_SPACE_US,
    TRIES_MAX,
    UNREACHABLE_US,
    VERDICT_US,
)
from meshd.core.ids import NodeId
from meshd.core.journey.carrier import Carrier
from meshd.core.journey.effects import Effect, Finish, Send
from meshd.core.journey.frames import Answer, Cancel, Code, Failed, Failure, Forward, Leg, Lost, Reason, RequestId
from meshd.core.journey.record import Attempt, Deployment, Request, Why, attempt_of
from meshd.core.journey.route import NO_DOUBTS, Route, find_route, is_dead, is_gone
from meshd.core.view import View

TIMERS_STALE_MAX: Final = 1_024


class Entry:
    """All requests that came in at this node."""

    def __init__(self, view: Callable[[], View], carrier: Carrier, counts: Counter[str]) -> None:
        self._view = view
        self._me = view().me
        self._carrier = carrier
        self._counts = counts
        self._requests: dict[RequestId, Request] = {}
        self._deployments: dict[str, Deployment] = {}
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
        request = Request(id, deployment, batch, sizes, now_us, now_us + deadline_us, turn)
        known = self._deployments.get(deployment)
        mute = known.mutes.avoided(now_us) if known else {}
        route = find_route(self._view(), deployment, known.generation if known else 0, NO_DOUBTS, turn, mute)
        if isinstance(route, Failure):
            return self._refuse(id, route)
        known = known or self._deployments.setdefault(deployment, Deployment())
        if (refused := self._admit(known, request)) is not None:
            return self._refuse(id, refused)
        self._requests[id] = request
        known.bucket.request()
        request.tries = 1
        effects = self._attempt(request, route, now_us)
        self._watch(request, now_us)
        return effects

    def _admit(self, known: Deployment, request: Request) -> Failure | None:
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

    def _attempt(self, request: Request, route: Route, now_us: int) -> list[Effect]:
        known = self._deployments[request.deployment]
        known.generation = max(known.generation, route.generation)
        request.retry_at_us = request.verdict_at_us = 0
        number = len(request.attempts) + 1
        request.attempts.append(Attempt(number, route, now_us))
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

    def _late_at(self, request: Request, known: Deployment, now_us: int) -> int:
        """When this attempt is late; 0 is never, for what nobody else can do."""
        route = request.attempts[-1].route
        if len(request.attempts) >= ATTEMPTS_MAX or all(c == (self._me,) for c in route.segments):
            return 0
        p99 = known.firsts.p99
        # The same nodes again help only where an answer got lost.
        is_new = any(
            not request.doubts.holds(i, c) for i, candidates in enumerate(route.segments) for c in candidates[1:]
        )
        after_us = LATE_MAX_US if p99 is None or not is_new else min(max(3 * p99, LATE_MIN_US), LATE_MAX_US)
        return now_us + after_us

    # ------------------------------------------------------------ what the mesh says

    def answered(self, peer: NodeId, answer: Answer, now_us: int) -> list[Effect]:
        """First success wins."""
        request = self._requests.get(answer.request)
        if request is None:
            self._counts["late_answers"] += 1  # Ordinary: another attempt was first, or the time was up.
            return []
        attempt = attempt_of(request, answer.attempt)
        if attempt is None or not self._has_part(attempt, peer) or answer.plan != attempt.route.plan:
            self._counts["unasked"] += 1
            return []
        known = self._deployments[request.deployment]
        latency_us = now_us - request.started_us
        if len(request.attempts) == 1:
            known.firsts.add(latency_us)
            small = sum(request.sizes) + sum(answer.sizes) <= INLINE_LINK_BYTES_MAX
            worked_us = answer.spent.queue_us + answer.spent.compute_us if small else None
            known.admission.succeeded(latency_us, request.batch, now_us, worked_us)
        else:
            known.firsts.add(now_us - attempt.started_us)
            self._counts["rescued"] += 1
        self._counts["answered"] += 1
        attempt.over = True
        known.mutes.answered(attempt.takers(peer, self._carrier.first_hop(request.id, attempt.number)))
        return self._finish(request, answer)

    def failed(self, peer: NodeId, failed: Failed, now_us: int) -> list[Effect]:
        request = self._requests.get(failed.request)
        attempt = attempt_of(request, failed.attempt)
        if request is None or attempt is None or not self._has_part(attempt, peer):
            self._counts["unasked"] += 1
            return []
        attempt.out, attempt.over = False, True
        request.failure = failed.failure
        if peer == self._me and failed.failure.reason is Reason.UNREACHABLE:
            request.tries -= 1
            if failed.failure.segment == 0 and attempt is request.attempts[-1]:
                request.attempts.pop()  # Nobody ever saw its number.
                request.late_at_us = 0
        if failed.failure.code is Code.RESOURCE_EXHAUSTED:
            self._deployments[request.deployment].admission.down(now_us - request.started_us, now_us)
        return self._after_failure(request, now_us)

    def lost(self, peer: NodeId, lost: Lost, leg: Leg, now_us: int) -> list[Effect]:
        """`lost.node` had acknowledged `leg` (one of its legs) and vanished from `peer`'s sight."""
        request = self._requests.get(leg.request)
        attempt = attempt_of(request, leg.attempt)
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
            suspected = lost.suspected and node == lost.node
            if node != self._me and node not in request.vanished and not suspected:
                member = self._view().members.get(node)
                request.vanished[node] = member.boot if member else None
            request.doubts.gone[node] = None
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
        for known in self._deployments.values():
            known.mutes.forget(self._view().members)
        return effects + self.reachable(now_us)

    def reachable(self, now_us: int) -> list[Effect]:
        """A view or a link is new: what waits for a holder tries it."""
        effects: list[Effect] = []
        for request in list(self._requests.values()):
            if request.verdict_at_us:
                effects += self._again(request, now_us, Why.GONE)
            elif request.retry_at_us and now_us >= request.retry_from_us:
                effects += self._again(request, now_us, Why.UNREACHED)
            elif request.retry_at_us:
                request.retry_at_us = min(request.retry_at_us, request.retry_from_us)
                self._watch(request, now_us)
        return effects

    def _has_part(self, attempt: Attempt, peer: NodeId) -> bool:
        return peer == self._me or attempt.route.names(peer)

    # ------------------------------------------------------------ again, or the end

    def _instead(self, request: Request, node: NodeId, now_us: int) -> list[Effect]:
        """`node` is gone: another attempt, unless one that can do without it is out already."""
        request.doubts.gone[node] = None
        request.trouble_us = request.trouble_us or now_us
        index = next((i for a in request.attempts for i, c in enumerate(a.route.segments) if node in c), -1)
        text = (
            f"deployment {request.deployment!r}: node {node} vanished with the request,"
            f" and no copy of its segment {index} could answer it"
        )
        request.failure = Failure(Code.UNAVAILABLE, Reason.UNREACHABLE, text, request.deployment, index, node)
        if any(a.out for a in request.attempts):
            return []
        return self._again(request, now_us, Why.GONE)

    def _after_failure(self, request: Request, now_us: int) -> list[Effect]:
        failure = request.failure
        if any(a.out for a in request.attempts) or failure is None:
            return []
        if failure.code in (Code.RESOURCE_EXHAUSTED, Code.DEADLINE_EXCEEDED):
            return self._finish(request, failure)
        if failure.code is not Code.UNAVAILABLE:
            request.doubts.gone[failure.node] = None
            return self._again(request, now_us, Why.ERROR)
        if failure.node != self._me:
            request.doubts.late[failure.segment - 1, failure.node] = None  # It found no way on; another may.
        # Nobody could be reached: the view may lag behind, a link be on its way, so give it a moment.
        request.trouble_us = request.trouble_us or now_us
        if request.tries >= TRIES_MAX or now_us - request.trouble_us >= UNREACHABLE_US:
            return self._finish(request, failure)
        request.retry_at_us = now_us + RETRY_AFTER_US * 4 ** max(request.tries - 1, 0)
        request.retry_from_us = now_us + RETRY_SPACE_US
        self._watch(request, now_us)
        return []

    def _again(self, request: Request, now_us: int, why: Why) -> list[Effect]:
        """One more attempt if it may be, else the end if nothing is out."""
        request.retry_at_us = 0
        out = any(a.out for a in request.attempts)
        known = self._deployments[request.deployment]
        counts = why not in (Why.GONE, Why.MUTE)
        if len(request.attempts) >= ATTEMPTS_MAX or (counts and request.tries >= TRIES_MAX):
            return [] if out else self._finish(request, self._last(request))
        if request.vanished and out:
            return []  # One died of it, perhaps: no other gets it while the next may be dying.
        if len(request.vanished) >= 2 and (judged := self._judge(request, now_us)) is not None:
            return judged
        route = self._route_again(request, known.mutes.avoided(now_us))
        if isinstance(route, Failure):
            request.failure = route
            if out and request.trouble_us and now_us - request.trouble_us >= UNREACHABLE_US:
                return self._finish(request, route)  # It is late, and nobody is left who could have it.
            return [] if out else self._after_failure(request, now_us)
        if why in (Why.LATE, Why.ERROR) and not known.bucket.take():
            self._counts["hedges_refused"] += 1
            return [] if out else self._finish(request, self._last(request))
        self._counts["hedges" if why in (Why.LATE, Why.ERROR) else "retries"] += 1
        request.tries += counts
        effects = self._attempt(request, route, now_us)
        self._watch(request, now_us)
        return effects

    def _judge(self, request: Request, now_us: int) -> list[Effect] | None:
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

    def _last(self, request: Request) -> Failure:
        assert request.failure is not None, "an attempt ends with a reason"
        return request.failure

    def _finish(self, request: Request, outcome: Answer | Failure) -> list[Effect]:
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

    def _watch(self, request: Request, now_us: int) -> None:
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

    def _wake(self, request: Request, now_us: int) -> list[Effect]:
        if now_us >= request.deadline_at_us:
            took_ms = (now_us - request.started_us) // 1000
            why = f" (last: {request.failure.message})" if request.failure else ""
            text = f"deployment {request.deployment!r}: no answer within the deadline of {took_ms} ms{why}"
            return self._finish(
                request, Failure(Code.DEADLINE_EXCEEDED, Reason.DEADLINE, text, request.deployment, -1, self._me)
            )
        if request.retry_at_us and now_us >= request.retry_at_us:
            return self._again(request, now_us, Why.UNREACHED)
        if request.verdict_at_us and now_us >= request.verdict_at_us:
            return self._again(request, now_us, Why.GONE)
        if request.late_at_us and now_us >= request.late_at_us:
            return self._late(request, now_us)
        return []

    def _late(self, request: Request, now_us: int) -> list[Effect]:
        """No answer in the usual time: try around whom it asked first, and remember who that was."""
        self._counts["late"] += 1
        request.trouble_us = request.trouble_us or now_us
        attempt, known = request.attempts[-1], self._deployments[request.deployment]
        # Again after as long once more: the bucket may be fuller then, or more be known.
        request.late_at_us = now_us + max(now_us - attempt.started_us, LATE_MIN_US)
        if (given_up_us := request.trouble_us + UNREACHABLE_US) > now_us:
            request.late_at_us = min(request.late_at_us, given_up_us)
        if not attempt.out:
            return []
        firsts = attempt.firsts(self._me)
        # Before anything was answered nobody knows what is usual.
        judged = known.firsts.p99 is not None and not attempt.late
        newly = known.mutes.late(firsts, attempt.started_us, now_us) if judged else []
        attempt.late = True
        request.doubts.late.update(attempt.seats())
        if newly:
            self._counts["mute"] += len(newly)
        mute = any(known.mutes.is_mute(node) for node in firsts)
        effects = self._again(request, now_us, Why.MUTE if mute and self._has_other(request) else Why.LATE)
        for node in newly:
            for other in [r for r in self._requests.values() if r.deployment == request.deployment]:
                if other.attempts and other.attempts[-1].out and other.attempts[-1].route.begins_with(node):
                    other.doubts.late.update(other.attempts[-1].seats())
                    if self._has_other(other):
                        effects += self._again(other, now_us, Why.MUTE)
        return effects

    def _has_other(self, request: Request) -> bool:
        """Whether a route is to be had that begins otherwise, for some segment, than the last one did."""
        route = self._route_again(request, {})
        if isinstance(route, Failure):
            return False
        return [c[0] for c in route.segments] != [c[0] for c in request.attempts[-1].route.segments]

    def _route_again(self, request: Request, mute: Mapping[NodeId, object]) -> Route | Failure:
        known = self._deployments[request.deployment]
        return find_route(self._view(), request.deployment, known.generation, request.doubts, request.turn, mute)

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
