"""Which node is asked next, as a table: no socket, no clock."""

import pytest

from meshd.client.calls import Methods
from meshd.client.nodes import Fault, Nodes, Round
from meshd.errors import MisuseError

U, L, E, F = Fault.UNREACHED, Fault.LOST, Fault.ELSEWHERE, Fault.FINAL

CASES = {
    # what happens → (node asked next, pause) or None for the end; the time is up at 10 s, each failure comes at 1 s.
    "one that is gone": (1, [(U, 0)], [None]),
    "all that are gone, once": (3, [(U, 0), (U, 0), (U, 0)], [(1, 0), (2, 0), None]),
    "a request that is wrong": (3, [(F, 0)], [None]),
    "lost in two hands": (3, [(L, 0), (L, 0)], [(1, 0), None]),
    "lost, then gone, then lost": (4, [(L, 0), (U, 0), (L, 0)], [(1, 0), (2, 0), None]),
    "overloaded, alone": (1, [(E, 0.2), (E, 0.2)], [(0, 0.3), (0, 0.3)]),
    "overloaded, without a word": (1, [(E, 0)], [None]),
    "overloaded, all: the shortest pause": (2, [(E, 0.4), (E, 0.2), (E, 0.2)], [(1, 0), (0, 0.3), (1, 0)]),
    "one gone, one overloaded": (2, [(U, 0), (E, 0.2)], [(1, 0), (1, 0.3)]),
    "a pause past the end": (1, [(E, 8)], [None]),
}


@pytest.mark.parametrize(("count", "faults", "expected"), CASES.values(), ids=CASES)
def test_where_a_call_goes(
    count: int, faults: list[tuple[Fault, float]], expected: list[tuple[int, float] | None]
) -> None:
    tried = Round(Nodes([f"n{i}" for i in range(count)]), 10.0)
    assert tried.node == 0
    for (fault, retry_s), then in zip(faults, expected, strict=True):
        pause_s = tried.failed(fault, retry_s, 1.0, 0.5)
        assert (None if pause_s is None else (tried.node, pytest.approx(pause_s))) == then


def test_the_next_call_begins_with_the_node_that_answered() -> None:
    nodes = Nodes(["a", "b", "c"])
    tried = Round(nodes, 10.0)
    tried.failed(U, 0, 1.0, 0.0)
    assert Round(nodes, 10.0).node == tried.node == 1
    # Overload is no reason to go away for good.
    tried.failed(E, 0.1, 1.0, 0.0)
    assert Round(nodes, 10.0).node == 1


@pytest.mark.parametrize("targets", [[], ["x"] * 65])
def test_nodes_are_some_but_not_too_many(targets: list[str]) -> None:
    with pytest.raises(MisuseError, match="name 1 to 64"):
        Nodes(targets)


def test_tokens_are_one_for_all_or_one_for_each() -> None:
    assert Methods(Nodes(["a", "b"]), "t", None).metadata == [(("authorization", "Bearer t"),)] * 2
    assert Methods(Nodes(["a", "b"]), ("t", ""), None).metadata == [(("authorization", "Bearer t"),), ()]
    with pytest.raises(MisuseError, match="3 tokens for 2 nodes"):
        Methods(Nodes(["a", "b"]), ["x", "y", "z"], None)
