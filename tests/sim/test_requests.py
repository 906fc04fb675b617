"""Requests on a simulated mesh: none is lost with one owner, and each broken rule of a journey is seen to break."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from meshd.config import MINUTE, MS, S
from meshd.core.ids import Digest, NodeId
from meshd.core.journey import carrier
from meshd.core.journey import entry as entries
from meshd.core.journey.carrier import Carrier
from meshd.core.journey.effects import Effect, Finish
from meshd.core.journey.entry import Entry
from meshd.core.journey.frames import Answer, Forward
from meshd.core.journey.hop import Backlog, Hop
from meshd.core.journey.route import Route
from meshd.core.view import View
from meshd.sim.faults import FAULTS, Course
from meshd.sim.meter import quantile
from meshd.sim.run import Options, Outcome, run

Patch = pytest.MonkeyPatch


def _owner_dies(course: Course, silently: float) -> None:
    """Once, who owns the first segment: as power lost, or (0) as a process killed."""
    cluster = course.cluster
    view = cluster.machines[0].view
    assert view is not None
    owner = cluster.by_id[view.deployments["model-0"].candidates[0][0]]

    def strike() -> None:
        cluster.dies_loudly = not silently
        course.happened["owner"] += 1
        course.down(owner.index, 10 * MINUTE)

    cluster.clock.after(5 * S, strike)


def crashed(seed: int, silently: bool, patch: Patch) -> Outcome:
    """Eight nodes, one deployment with a standby a segment, one crash of an owner."""
    patch.setitem(FAULTS, "owner", _owner_dies)
    return run(Options(8, 0.4, seed, {"owner": float(silently)}, deployments=1))


@pytest.mark.parametrize("silently", [False, True])
def test_no_request_is_lost_with_an_owner_that_has_a_standby(silently: bool, monkeypatch: Patch) -> None:
    added: list[int] = []
    for seed in range(5):
        outcome = crashed(seed, silently, monkeypatch)
        assert outcome.broken == []
        assert outcome.missing == []
        requests = outcome.requests
        assert requests.sent == len(requests.calm_us) + len(requests.latency_us) + requests.orphaned
        assert (requests.failed, requests.wrong) == (0, 0)
        assert requests.orphaned <= 1  # What was in flight at the very node that died.
        added += requests.added_us()
    assert added or not silently, "the crash touched no request: nothing was measured"
    p50, p99 = quantile(added, 0.5), quantile(added, 0.99)
    print(
        f"\none crash with a standby, N=8, 5 seeds, silent={silently}: {len(added)} disturbed, p50 {p50}, p99 {p99} us"
    )
    assert (p50 or 0) <= 150 * MS
    assert (p99 or 0) <= 1 * S


def test_requests_take_part_in_the_replay() -> None:
    options = Options(4, 0.1, 3, deployments=1)
    one, two = run(options), run(options)
    assert one.requests.sent > 0
    assert one.cluster.trace.digest() == two.cluster.trace.digest()
    assert one.requests.latency_us == two.requests.latency_us


def _any_plan_will_do(patch: Patch) -> None:
    """A holder answers for another plan, and the entry does not look."""
    answer, answered = Carrier.answer, Entry.answered

    def another(self: Carrier, said: Answer, previous: NodeId) -> list[Effect]:
        return answer(self, replace(said, plan=Digest("0" * 64)), previous)

    def blind(self: Entry, peer: NodeId, said: Answer, now_us: int) -> list[Effect]:
        request = self._requests.get(said.request)
        for attempt in request.attempts if request else ():
            attempt.route = replace(attempt.route, plan=said.plan)
        return answered(self, peer, said, now_us)

    patch.setattr(Carrier, "answer", another)
    patch.setattr(Entry, "answered", blind)


def _hops_cost_nothing(patch: Patch) -> None:
    """The budget does not fall from hop to hop."""

    def undiminished(*fields: Any) -> Forward:
        return Forward(*fields[:6], fields[6] + 1, *fields[7:])

    patch.setattr(carrier, "Forward", undiminished)


def _computes_whatever_it_is_asked(patch: Patch) -> None:
    """A node does not look whether it holds the segment; and routes name nodes that do not."""
    judge, find_route = Hop.judge, entries.find_route

    def blind(self: Hop, forward: Forward, previous: NodeId, left_us: int, now_us: int, known: Any = None) -> Any:
        backlog = known or self.backlogs(forward.segment_id, forward.batch) or Backlog(0, 1 * MS)
        return judge(self, forward, previous, left_us, now_us, backlog)

    def anybody(view: View, *rest: Any) -> Any:
        route = find_route(view, *rest)
        return (
            replace(route, segments=(tuple(view.alive())[:4],) * len(route.segments))
            if isinstance(route, Route)
            else route
        )

    patch.setattr(Hop, "judge", blind)
    patch.setattr(entries, "find_route", anybody)


def _late_answers_count_too(patch: Patch) -> None:
    """Every attempt's answer goes to the client; and late is at once."""
    answered = Entry.answered

    def each(self: Entry, peer: NodeId, said: Answer, now_us: int) -> list[Effect]:
        if said.request not in self._requests:
            return [Finish(said.request, said, said.attempt)]
        return answered(self, peer, said, now_us)

    patch.setattr(Entry, "answered", each)
    patch.setattr(entries, "LATE_MIN_US", 1)
    patch.setattr(entries, "LATE_MAX_US", 1)


CALM = Options(5, 0.2, deployments=1)


@pytest.mark.parametrize(
    ("breaks", "mutate"),
    [
        ("E1", _any_plan_will_do),
        ("E4", _hops_cost_nothing),
        ("E5", _computes_whatever_it_is_asked),
        ("E6", _late_answers_count_too),
    ],
)
def test_a_broken_rule_of_a_journey_is_noticed(
    breaks: str, mutate: Callable[[Patch], None], monkeypatch: Patch
) -> None:
    mutate(monkeypatch)
    seen = []
    for seed in range(40):
        seen.append(run(replace(CALM, seed=seed)).invariant)
        if seen[-1] == breaks:
            return
    raise AssertionError(f"{breaks} was never seen to break, only {sorted(set(seen))}")
