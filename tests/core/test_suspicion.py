"""Lifeguard's timeout, against its formula."""

import math

import pytest

from meshd.config import S, Timers
from meshd.core.ids import NodeId
from meshd.core.suspicion import Suspicion, timeout_us

TIMERS = Timers()


@pytest.mark.parametrize("members", [2, 3, 8, 10, 64, 1_000, 10_000])
@pytest.mark.parametrize("needed", [1, 2])
def test_the_timeout_follows_lifeguards_formula(members: int, needed: int) -> None:
    least = 6 * max(1, math.log10(members)) * TIMERS.probe_period_us
    most = 6 * least
    for confirmed in range(4):
        fallen = math.log(min(confirmed, needed) + 1) / math.log(needed + 1)
        expected = max(least, most - (most - least) * fallen)
        assert timeout_us(TIMERS, members, confirmed, needed) == pytest.approx(expected, rel=1e-3)


def test_two_nodes_alone_wait_the_least_for_nobody_could_confirm() -> None:
    assert timeout_us(TIMERS, 2, 0, 0) == 3 * S


def test_an_accuser_counts_once_and_three_are_enough() -> None:
    suspicion = Suspicion((1, 1), 0)
    assert suspicion.confirm(NodeId("a"))
    assert not suspicion.confirm(NodeId("a"))
    assert suspicion.confirm(NodeId("b"))
    assert suspicion.confirm(NodeId("c"))
    assert not suspicion.confirm(NodeId("d"))
    assert suspicion.confirmed == 2
