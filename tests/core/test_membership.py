"""The table of members: what supersedes what (M2), and its bookkeeping."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.config import HOUR, Timers
from meshd.core.ids import Boot
from meshd.core.membership import Members
from meshd.core.messages import Rumour
from meshd.core.view import State
from tests.core.lone import alive, id_of

A, B = id_of("a"), id_of("b")


def _members() -> Members:
    return Members(id_of("me"), Timers())


def _says(state: State, incarnation: int = 1, boot: int = alive("a").boot, name: str = "a") -> Rumour:
    accuser = B if state in {State.SUSPECT, State.DEAD} else None
    return Rumour(state, id_of(name), Boot(boot), incarnation, accuser=accuser)


def test_obituaries_of_strangers_are_ignored() -> None:
    members = _members()
    for state in (State.SUSPECT, State.DEAD, State.LEFT):
        assert members.apply(_says(state), 0) is None
    assert members.records == {}


def test_states_rise_within_an_incarnation_and_a_higher_one_wins() -> None:
    members = _members()
    members.apply(alive("a"), 0)
    for state in (State.SUSPECT, State.DEAD, State.LEFT):
        assert members.apply(_says(state), 0) is not None
        assert members.apply(alive("a"), 0) is None
    assert members.apply(alive("a", incarnation=2), 0) is not None
    assert members.apply(_says(State.DEAD, incarnation=1), 0) is None
    assert members.apply(_says(State.ALIVE, 0, boot=alive("a").boot + 1), 0) is not None


Rumours = st.builds(
    lambda state, boot, incarnation: _says(state, incarnation, boot),
    st.sampled_from(list(State)), st.integers(1, 3), st.integers(0, 3),
)  # fmt: skip


@given(st.lists(Rumours, max_size=6), st.randoms())
@settings(max_examples=200, derandomize=True)
def test_rumours_in_any_order_end_in_the_same_state(rumours, random) -> None:  # type: ignore[no-untyped-def]
    first, second = _members(), _members()
    shuffled = list(rumours)
    random.shuffle(shuffled)
    for members, order in ((first, rumours), (second, shuffled)):
        members.apply(_says(State.ALIVE, 0, 1), 0)
        for rumour in order:
            members.apply(rumour, 0)
    assert first.records[A].order() == second.records[A].order()


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from(list(State)), st.integers(0, 3)), max_size=40))
@settings(max_examples=200, derandomize=True)
def test_the_lists_of_the_living_and_the_gone_fit_the_records(steps) -> None:  # type: ignore[no-untyped-def]
    members = _members()
    for name, state, incarnation in steps:
        members.apply(_says(state, incarnation, name=name), 0)
        live = {n for n, r in members.records.items() if r.state in {State.ALIVE, State.SUSPECT}}
        assert set(members.live) == live
        assert len(members.live) == len(live)
        assert set(members.suspects) == {n for n, r in members.records.items() if r.state is State.SUSPECT}
        assert set(members.gone) == set(members.records) - live
        assert members.count == len(live) + 1


def test_tombstones_are_forgotten_by_age_and_by_number() -> None:
    members = _members()
    for name, state in (("a", State.LEFT), ("b", State.DEAD)):
        members.apply(alive(name), 0)
        members.apply(_says(state, name=name), 0)
    assert members.collect(HOUR - 1) == []
    assert [record.node for record in members.collect(HOUR)] == [A]
    assert [record.node for record in members.collect(24 * HOUR)] == [B]
    for number in itertools.count():
        name = f"n{number}"
        members.apply(alive(name), number)
        members.apply(_says(State.DEAD, name=name), number)
        if number == 300:
            break
    collected = members.collect(301)
    assert len(members.gone) == 256
    assert id_of("n0") in {record.node for record in collected}
    assert id_of("n300") in members.gone
