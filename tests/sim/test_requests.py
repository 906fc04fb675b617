"""Requests on a simulated mesh: none is lost with one owner, and each broken rule of a journey is seen to break."""

import pytest

from meshd.config import MINUTE, MS, S
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
    for seed in range(3):
        outcome = crashed(seed, silently, monkeypatch)
        assert outcome.broken == []
        assert outcome.missing == []
        requests = outcome.requests
        assert requests.sent == len(requests.calm_us) + len(requests.latency_us) + requests.orphaned
        assert (requests.failed, requests.wrong) == (0, 0)
        assert requests.orphaned <= 1  # What was in flight at the very node that died.
        assert len(requests.latency_us) > 200, "requests since the crash, or just before"
        assert max(requests.latency_us) - min(requests.calm_us) <= 1 * S
        assert outcome.stopwatch.reelect_us, "no route went around the owner"
        assert max(outcome.stopwatch.reelect_us) <= 3_500 * MS
        added += requests.added_us()
    p50, p99 = quantile(added, 0.5), quantile(added, 0.99)
    print(f"\none crash with a standby, N=8, silent={silently}: {len(added)} disturbed, p50 {p50}, p99 {p99} us")
    if silently:
        assert p50 is not None, "the crash touched no request: nothing was measured"
        assert p50 <= 150 * MS
    # A killed process closes its links: whoever waits for it turns elsewhere within a few milliseconds.


def test_requests_take_part_in_the_replay() -> None:
    options = Options(4, 0.1, 3, deployments=1)
    one, two = run(options), run(options)
    assert one.requests.sent > 0
    assert one.cluster.trace.digest() == two.cluster.trace.digest()
    assert one.requests.latency_us == two.requests.latency_us
