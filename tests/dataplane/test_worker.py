"""What a job is expected to cost, and the pool's queue."""

import queue
import subprocess
import sys
import threading

import pytest

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


class Segment:
    """A fake's worst: it does not only fail, it breaks its thread."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def run(self) -> None:
        raise self._error


@pytest.mark.parametrize("error", [AssertionError("impossible"), KeyError("leg"), SystemExit(3)], ids=repr)
def test_what_a_job_raises_is_a_bug_and_is_told_on_its_thread(error: BaseException) -> None:
    told: queue.Queue[tuple[BaseException, str]] = queue.Queue()
    pool = Pool(1, lambda bug: told.put((bug, threading.current_thread().name)))
    try:
        assert pool.submit(1000, Segment(error).run)
        assert told.get(timeout=10) == (error, "meshd-compute-0")
        done = threading.Event()
        assert pool.submit(1000, done.set)
        assert done.wait(10), "where a bug does not end the process, the thread still works"
    finally:
        pool.close()


BUG = """
from meshd.dataplane.worker import Pool
pool = Pool(2)
pool.submit(1, lambda: {}["nothing under this key"])
for thread in pool._threads:
    thread.join()
"""


def test_a_bug_ends_the_process_and_says_where_it_was() -> None:
    ended = subprocess.run([sys.executable, "-c", BUG], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1, "systemd's Restart=on-failure starts it again"
    assert "a bug on thread meshd-compute-" in ended.stderr
    assert "KeyError: 'nothing under this key'" in ended.stderr
    assert ended.stdout == ""
