"""Records merge in any order, are signed, and never lose what came causally later."""

from dataclasses import replace
from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.config import HEADS_MAX
from meshd.core.ids import Boot, NodeId
from meshd.core.registry import Author, Record, Registry
from tests.core.intent_cluster import deploy, sign, verify

AUTHORS: list[Author] = [(b"k", NodeId(n), Boot(1)) for n in "abc"]


def history(choices: list[tuple[int, int, int]]) -> list[Record]:
    """Records as three entries would make them: (who deploys, whose records it merges before, wall clock)."""
    registries = [Registry(verify) for _ in AUTHORS]
    made = []
    for who, other, wall in choices:
        for head in registries[other].heads("d"):
            registries[who].merge(head)
        record = registries[who].next(deploy(), AUTHORS[who], wall, sign)
        assert registries[who].merge(record)
        made.append(record)
    return made


def state(records: tuple[Record, ...]) -> tuple[tuple[Record, ...], int]:
    registry = Registry(verify)
    for record in records:
        registry.merge(record)
    return registry.heads("d"), registry.generation("d")


steps = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 5)), min_size=1, max_size=5)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(steps)
def test_the_same_records_in_any_order_any_number_of_times_give_the_same_heads(
    choices: list[tuple[int, int, int]],
) -> None:
    records = history(choices)
    wanted = state(tuple(records))
    assert all(state(order) == wanted for order in list(permutations(records))[:24])
    assert state((*records, *records[::-1])) == wanted


@settings(derandomize=True, max_examples=60, deadline=None)
@given(steps)
def test_what_is_causally_later_wins_whatever_the_clocks_say(choices: list[tuple[int, int, int]]) -> None:
    records = history([*choices, (0, 1, 0), (0, 2, 0)])
    heads, _ = state(tuple(records))
    assert records[-1] in heads
    assert records[-2] not in heads


@settings(derandomize=True, max_examples=60, deadline=None)
@given(steps, st.randoms(use_true_random=False))
def test_the_generation_of_a_node_never_falls(choices: list[tuple[int, int, int]], rng) -> None:  # type: ignore[no-untyped-def]
    records, registry, before = history(choices), Registry(verify), 0
    rng.shuffle(records)
    for record in records:
        registry.merge(record)
        assert registry.generation("d") >= before
        before = registry.generation("d")


def test_two_deploys_that_did_not_know_of_each_other_are_a_conflict_until_the_next() -> None:
    a, b = (Registry(verify) for _ in range(2))
    one, two = a.next(deploy(), AUTHORS[0], 5, sign), b.next(deploy(replicas=1), AUTHORS[1], 9, sign)
    for registry in (a, b):
        registry.merge(one)
        registry.merge(two)
    assert a.conflict("d")
    assert a.effective("d") == b.effective("d") == two
    assert a.generation("d") == 2
    third = a.next(deploy(), AUTHORS[0], 1, sign)
    a.merge(third)
    assert not a.conflict("d")
    assert a.effective("d") == third
    assert a.generation("d") == 3


def test_a_record_that_was_altered_is_not_stored() -> None:
    registry = Registry(verify)
    record = registry.next(deploy(), AUTHORS[0], 5, sign)
    for forged in (replace(record, signature=b""), replace(record, input_bytes=1), replace(record, clock_us=9)):
        assert not registry.merge(forged)
    assert registry.names() == []
    assert registry.merge(record)
    assert not registry.merge(record)


def test_a_name_keeps_a_bounded_number_of_heads() -> None:
    registry = Registry(verify)
    for n in range(3 * HEADS_MAX):
        registry.merge(Registry(verify).next(deploy(), (b"k", NodeId(f"n{n}"), Boot(1)), n, sign))
    assert len(registry.heads("d")) == HEADS_MAX
