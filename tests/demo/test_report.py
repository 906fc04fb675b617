"""A demo's report says what happened, and is ok only if all of it was."""

from dataclasses import replace

import pytest

from meshd.demo.report import Failover, Outcome, Run, SegmentReport, added_ms_max, document, phases, problems

SEGMENT = SegmentReport(0, 3, "a", ("b",), 784, {"binary": 1, "sparse": 1, "dense": 1})


def _good() -> Run:
    before = tuple(Outcome(i * 0.01, i * 0.01 + 0.005, True, True, True) for i in range(20))
    flying = tuple(Outcome(0.5, 0.6 + i * 0.01, True, True, True, survived=i < 3) for i in range(9))
    after = tuple(Outcome(3.0 + i, 3.005 + i, True, True, True) for i in range(5))
    failover = Failover("c", 0.55, 0.9, 12.0, 15.0, "b")
    return Run(4, 1.2, (SEGMENT,), before + flying + after, failover, 1.0, 1.0)


def test_a_good_run_is_ok_and_counts_everything() -> None:
    report = document(_good())
    assert report["ok"]
    assert report["problems"] == []
    assert report["requests"] == {
        "sent": 34,
        "answered": 34,
        "lost": 0,
        "wrong": 0,
        "in_flight_at_kill": 9,
        "on_killed": 3,
    }
    assert report["failover"]["suspect_ms"] == pytest.approx(350)
    assert report["failover"]["repaired_ms"] == pytest.approx(11_450)
    assert report["plan"]["segments"][0]["standbys"] == ["b"]


def test_the_cost_of_the_kill_is_measured_against_the_median_before_it() -> None:
    assert added_ms_max(_good()) == pytest.approx(180 - 5)


def test_requests_fall_into_before_during_and_after() -> None:
    parts = phases(_good())
    assert parts["before"][0] == pytest.approx(5)
    assert parts["during"][1] == pytest.approx(180)
    assert parts["after"][0] == pytest.approx(5)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (Outcome(1, 2, False, False, False, error="deadline"), "1 requests lost; the first: deadline"),
        (Outcome(1, 2, True, False, True), "1 answers differ"),
        (Outcome(1, 2, True, True, False), "accuracy"),
        (Outcome(0.5, 2.5, True, True, True), "cost a request"),
    ],
)
def test_one_bad_request_is_a_problem(broken: Outcome, says: str) -> None:
    run = _good()
    assert any(says in p for p in problems(replace(run, outcomes=(*run.outcomes, broken))))


@pytest.mark.parametrize("missing", ["suspect_s", "repaired_s", "returned_s"])
def test_what_never_happened_is_a_problem(missing: str) -> None:
    run = _good()
    assert run.failover is not None
    report = document(replace(run, failover=replace(run.failover, **{missing: None})))
    assert not report["ok"]


def test_a_kill_that_hit_nothing_proves_nothing() -> None:
    run = _good()
    calm = tuple(replace(o, survived=False) for o in run.outcomes if not o.sent_s <= 0.55 < o.ended_s)
    assert len(problems(replace(run, outcomes=calm))) == 2
