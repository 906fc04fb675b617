"""What a job is expected to cost, and the pool's queue."""

import threading

from meshd.config import QUEUE_JOBS_MAX
from meshd.core.ids import Digest, SegmentId
from meshd.dataplane.worker import COST_UNKNOWN_US, EXTRAPOLATION_MAX, SEGMENTS_KNOWN_MAX, Costs, Pool

SEGMENT = SegmentId(Digest("a" * 64), 0)


def test_what_never_ran_costs_what_warming_took_or_a_guess() -> None:
    costs = Costs()
    assert costs.expect_us(SEGMENT, 1, 700) == 700
    assert costs.expect_us(SEGMENT, 1, 0) == COST_UNKNOWN_US
    assert costs.expect_us(SEGMENT, 10**6, 700) == 700 * EXTRAPOLATION_MAX, "a huge batch is not refused untried"


def test_costs_are_learnt_by_size_and_carried_to_others_with_care() -> None:
    costs = Costs()
    costs.learn(SEGMENT, 1, 100)
    costs.learn(SEGMENT, 64, 1000)
    assert costs.expect_us(SEGMENT, 1, 0) == 100
    assert costs.expect_us(SEGMENT, 65, 0) == 1000
    assert costs.expect_us(SEGMENT, 8, 0) == 100 * 8
    assert costs.expect_us(SEGMENT, 128, 0) == 2000
    for _ in range(100):
        costs.learn(SEGMENT, 1, 200)
    assert 190 <= costs.expect_us(SEGMENT, 1, 0) <= 200


def test_only_so_many_segments_are_remembered() -> None:
    costs = Costs()
    for n in range(SEGMENTS_KNOWN_MAX + 5):
        costs.learn(SegmentId(SEGMENT.plan, n), 1, 100)
    assert len(costs._known) == SEGMENTS_KNOWN_MAX


def test_the_queue_is_told_as_time_and_bounded_by_count() -> None:
    pool = Pool(1)
    gate, there = threading.Event(), threading.Event()

    def wait() -> None:
        there.set()
        gate.wait(20)

    try:
        assert pool.queue_us() == 0
        assert pool.submit(1000, wait)
        assert there.wait(10)
        assert pool.queue_us() == 500, "half of what runs"
        assert all(pool.submit(10, lambda: None) for _ in range(QUEUE_JOBS_MAX))
        assert pool.queue_us() == 500 + 10 * QUEUE_JOBS_MAX
        assert not pool.submit(10, lambda: None)
    finally:
        gate.set()
        pool.close()
    assert not pool.submit(10, lambda: None)
