"""Suspicion, refutation, death: the rules of PROTOCOL section 2 at one node."""

import pytest

from meshd.config import MS, S, Timers
from meshd.core.events import Hinted, Leave, LinkChanged, Operate, Sighted, TimerId, Token, Woke
from meshd.core.ids import Boot
from meshd.core.messages import Accusation, Ack, Nack, News, Ping, PingReq, PingReqAck, Rumour, Spread
from meshd.core.view import State
from tests.core.lone import BOOT, Lone, address_of, alive, id_of

TIMERS = Timers()


def _accused(name: str, accuser: str, incarnation: int = 1, state: State = State.SUSPECT) -> Spread:
    return Spread(News((Rumour(state, id_of(name), BOOT, incarnation, accuser=id_of(accuser)),)))


def _of_me(me: Lone, state: State, incarnation: int, accuser: str) -> Spread:
    return Spread(News((Rumour(state, id_of("me"), me.node.context.boot, incarnation, accuser=id_of(accuser)),)))


# ---------------------------------------------------------------- probing


def test_a_probe_is_a_burst_that_stops_at_the_first_ack() -> None:
    me = Lone()
    me.meet("a")
    me.forget()
    while not me.sent_to("a", Ping):
        me.wait(1 * MS)
    me.wait(80 * MS)
    assert len(me.sent_to("a", Ping)) == 2
    me.answer("a")
    me.wait(200 * MS)
    assert len(me.sent_to("a", Ping)) == 2
    assert me.state("a") is State.ALIVE


def test_each_period_probes_another_until_all_had_their_turn() -> None:
    me = Lone()
    names = ["a", "b", "c", "d"]
    me.meet(*names)
    turns = []
    for _ in range(8):
        me.forget()
        me.wait_answering(500 * MS, *names)
    me = Lone()
    me.meet(*names)
    for _ in range(8):
        me.forget()
        until = me.now_us + 500 * MS
        while me.now_us < until:
            me.wait(5 * MS)
            asked = [name for name in names if me.sent_to(name, Ping)]
            if asked:
                turns += asked
                me.answer(*names)
                me.forget()
    assert sorted(turns[:4]) == names
    assert sorted(turns[4:8]) == names


def test_silence_is_four_pings_then_three_others_then_suspicion() -> None:
    me = Lone()
    me.meet("a", "b", "c", "d", "e")
    me.forget()
    until = me.now_us + 3 * S
    asked: set[str] = set()
    while me.now_us < until and me.state("a") is State.ALIVE:
        me.wait(5 * MS)
        me.answer("b", "c", "d", "e")
        asked |= {name for name in "bcde" if me.sent_to(name, PingReq)}
    assert me.state("a") is State.SUSPECT
    assert len([p for p in me.sent_to("a", Ping) if p.accusation is None]) == 4
    assert len(asked) == 3


def test_a_peer_that_reaches_the_target_saves_it() -> None:
    me = Lone()
    me.meet("a", "b")
    me.forget()
    for _ in range(600):
        me.wait(5 * MS)
        me.answer("b")
        for request in me.sent_to("b", PingReq):
            me.hear("b", PingReqAck(request.number, request.target))
        me.forget()
    assert me.state("a") is State.ALIVE


def test_nacks_say_that_the_fault_is_not_here() -> None:
    healths = []
    for nacking in (False, True):
        me = Lone()
        me.meet("a", "b")
        me.forget()
        while me.state("a") is State.ALIVE:
            me.wait(5 * MS)
            me.answer("b")
            for request in me.sent_to("b", PingReq) if nacking else []:
                me.hear("b", Nack(request.number, request.target))
            me.forget()
        me.hear("b", Ping(1))
        healths.append(me.sent_to("b", Ack)[-1].health)
    assert healths == [1, 0]


def test_a_ping_for_another_is_two_pings_and_an_answer_or_a_nack() -> None:
    me = Lone()
    me.meet("a", "b")
    me.forget()
    me.hear("a", PingReq(77, id_of("b"), address_of("b")))
    pings = me.sent_to("b", Ping)
    assert len(pings) == 2
    me.hear("b", Ack(pings[0].number))
    assert me.sent_to("a", PingReqAck) == [PingReqAck(77, id_of("b"))]
    me.forget()
    me.hear("a", PingReq(78, id_of("x"), address_of("x")))
    me.wait(500 * MS)
    assert me.sent_to("a", Nack) == [Nack(78, id_of("x"))]


def test_an_ack_counts_only_from_whom_the_number_went_to() -> None:
    me = Lone()
    me.meet("a", "b")
    me.forget()
    until = me.now_us + 4 * S
    while me.now_us < until:
        me.wait(5 * MS)
        me.answer("b")
        for ping in me.sent_to("a", Ping):
            me.hear("b", Ack(ping.number))
        me.forget()
    assert me.state("a") is State.SUSPECT


# ---------------------------------------------------------------- suspecting


def test_a_suspect_is_told_so_in_every_ping_and_probed_each_period() -> None:
    me = Lone()
    me.meet("a")
    me.wait(1_600 * MS)
    assert me.state("a") is State.SUSPECT
    me.forget()
    me.wait(1 * S)
    pings = me.sent_to("a", Ping)
    assert 6 <= len(pings) <= 10
    assert {ping.accusation for ping in pings} == {Accusation(State.SUSPECT, BOOT, 1)}


def test_alone_with_it_the_suspect_dies_after_the_least_timeout_and_last_pings() -> None:
    me = Lone()
    me.meet("a")
    while me.state("a") is State.ALIVE:
        me.wait(5 * MS)
    began_us = me.now_us
    while me.state("a") is State.SUSPECT:
        me.wait(5 * MS)
    assert me.state("a") is State.DEAD
    assert 3_400 * MS <= me.now_us - began_us <= 3_720 * MS


def test_a_refutation_in_the_ack_brings_it_back_at_once() -> None:
    me = Lone()
    me.meet("a")
    me.wait(1_600 * MS)
    me.forget()
    me.wait(500 * MS)
    me.hear("a", Ack(me.sent_to("a", Ping)[-1].number, news=News((alive("a", incarnation=2),))))
    assert me.state("a") is State.ALIVE
    me.forget()
    me.wait_answering(10 * S, "a")
    assert me.state("a") is State.ALIVE


@pytest.mark.parametrize(("confirmers", "dies_within_s"), [("", 18), ("b", 9), ("bc", 4)])
def test_each_confirmation_shortens_the_suspicion(confirmers: str, dies_within_s: int) -> None:
    me = Lone()
    me.meet("a", "b", "c", "d")
    me.hear("d", _accused("a", "d"))
    began_us = me.now_us
    for name in confirmers:
        me.hear(name, _accused("a", name))
        me.hear(name, _accused("a", name))
    # Its own probes do fail here, and would confirm: answer them, as if the accusers were wrong.
    while me.state("a") is State.SUSPECT:
        me.wait(5 * MS)
        me.answer("a", "b", "c", "d")
        me.forget()
    assert (dies_within_s - 1) * S < me.now_us - began_us < (dies_within_s + 1) * S


def test_a_confirmation_is_passed_on_once_and_a_repeated_one_is_not() -> None:
    me = Lone()
    me.meet("a", "b", "c")
    me.hear("b", _accused("a", "b"))
    me.wait_answering(3 * S, "b", "c")
    me.forget()
    me.hear("c", _accused("a", "c"))
    me.wait(50 * MS)
    assert {rumour.accuser for rumour in me.rumours("a")} >= {id_of("c")}


def test_a_suspicion_of_a_lower_incarnation_is_stale() -> None:
    me = Lone()
    me.meet("a", "b")
    me.hear("a", Spread(News((alive("a", incarnation=3),))))
    me.hear("b", _accused("a", "b", incarnation=2))
    assert me.state("a") is State.ALIVE


# ---------------------------------------------------------------- being suspected


def test_a_refuted_suspicion_raises_the_incarnation_once() -> None:
    me = Lone()
    me.meet("a", "b")
    me.forget()
    me.hear("b", _of_me(me, State.SUSPECT, 1, "a"))
    assert me.node.context.incarnation == 2
    for name in ("a", "b"):
        told = me.sent_to(name, Spread)[0].news.rumours[0]
        assert (told.subject, told.state, told.incarnation) == (id_of("me"), State.ALIVE, 2)
    me.hear("a", _of_me(me, State.SUSPECT, 1, "b"))
    assert me.node.context.incarnation == 2
    assert me.member("me").state is State.ALIVE


def test_an_accusation_from_the_future_is_passed() -> None:
    me = Lone()
    me.meet("a")
    me.hear("a", _of_me(me, State.DEAD, 41, "a"))
    assert me.node.context.incarnation == 42


def test_an_accused_node_answers_in_the_ack_before_all_other_news() -> None:
    me = Lone()
    me.meet("a", "b")
    me.forget()
    me.hear("a", Ping(5, accusation=Accusation(State.SUSPECT, me.node.context.boot, 1)))
    first = me.sent_to("a", Ack)[0].news.rumours[0]
    assert (first.subject, first.state, first.incarnation) == (id_of("me"), State.ALIVE, 2)


def test_an_accusation_of_an_ended_boot_is_answered_and_raises_nothing() -> None:
    me = Lone()
    me.meet("a")
    me.forget()
    me.hear("a", Ping(5, accusation=Accusation(State.DEAD, Boot(me.node.context.boot - 1), 9)))
    assert me.node.context.incarnation == 1
    assert me.sent_to("a", Ack)[0].news.rumours[0].boot == me.node.context.boot


# ---------------------------------------------------------------- the dead, the gone, the stopped


def test_the_dead_are_called_every_five_seconds_and_told() -> None:
    me = Lone()
    me.meet("a", "b")
    me.hear("b", _accused("a", "b", state=State.DEAD))
    me.forget()
    me.wait_answering(4 * S, "b")
    calls = 0
    for _ in range(200):
        me.forget()
        me.wait(100 * MS)
        me.answer("b")
        calls += len(me.sent_to("a", Ping))
    assert 3 <= calls <= 5


def test_a_dead_member_that_speaks_is_told_and_refutes() -> None:
    me = Lone()
    me.meet("a", "b")
    me.hear("b", _accused("a", "b", state=State.DEAD))
    me.forget()
    me.hear("a", Ping(9))
    assert me.sent_to("a", Spread)[0].news.rumours[0].state is State.DEAD
    me.hear("a", Spread(News((alive("a", incarnation=2),))))
    assert me.state("a") is State.ALIVE


def test_a_sighting_of_a_dead_member_calls_it_now() -> None:
    me = Lone()
    me.meet("a", "b")
    me.hear("b", _accused("a", "b", state=State.DEAD))
    me.forget()
    me.give(Sighted(address_of("a"), id_of("a")))
    assert me.sent_to("a", Ping)[0].accusation == Accusation(State.DEAD, BOOT, 1)


def test_a_hint_probes_directly_and_through_others_at_once() -> None:
    me = Lone()
    me.meet("a", "b", "c")
    me.wait_answering(2 * S, "a", "b", "c")
    me.forget()
    me.give(Hinted(id_of("a")))
    assert len(me.sent_to("a", Ping)) == 1
    assert me.sent_to("b", PingReq)
    assert me.sent_to("c", PingReq)
    began_us = me.now_us
    while me.state("a") is State.ALIVE:
        me.wait(5 * MS)
    # The last ping goes at 225 ms; its window is 100 ms, and by then the others had theirs.
    assert me.now_us - began_us <= 330 * MS


def test_hints_cause_at_most_two_probes_a_second() -> None:
    me = Lone()
    me.meet("a", "b", "c")
    me.forget()
    for _ in range(50):
        me.give(LinkChanged(id_of("a"), up=False))
        me.give(Hinted(id_of("b")))
    assert len(me.sent_to("a", Ping)) + len(me.sent_to("b", Ping)) == 1


def test_a_hint_about_a_suspect_is_a_confirmation() -> None:
    me = Lone()
    me.meet("a", "b", "c")
    me.hear("b", _accused("a", "b"))
    me.wait(20 * MS)
    me.forget()
    me.give(Hinted(id_of("a")))
    me.wait(250 * MS)
    assert id_of("me") in {rumour.accuser for rumour in me.rumours("a")}


def test_a_process_that_stood_still_voids_its_probe_and_extends_its_suspicions() -> None:
    me = Lone()
    me.meet("a")
    while not me.sent_to("a", Ping):
        me.wait(1 * MS)
    me.now_us += 5 * S
    me.give(Woke(5 * S))
    assert me.state("a") is State.ALIVE
    while me.state("a") is State.ALIVE:
        me.wait(5 * MS)
    began_us = me.now_us
    me.now_us += 10 * S
    me.give(Woke(10 * S))
    me.wait(2 * S)
    assert me.state("a") is State.SUSPECT
    me.wait(2 * S)
    assert me.state("a") is State.DEAD
    assert me.now_us - began_us > 13 * S


def test_who_leaves_says_so_and_refutes_nothing_any_more() -> None:
    me = Lone()
    me.meet("a")
    me.forget()
    me.give(Operate(Token(1), Leave()))
    me.wait(300 * MS)
    assert me.rumours("me")[-1].state is State.LEFT
    assert me.member("me").state is State.LEFT
    me.hear("a", _of_me(me, State.SUSPECT, 1, "a"))
    assert me.node.context.incarnation == 1


def test_health_slows_the_round_and_never_the_probing_of_suspects() -> None:
    me = Lone()
    me.meet("a", "b")
    while me.state("a") is State.ALIVE or me.state("b") is State.ALIVE:
        me.wait(5 * MS)
    me.hear("a", Ping(1))
    assert me.sent_to("a", Ack)[-1].health >= 1
    assert me.timers[TimerId("probe")] - me.now_us <= 500 * MS * 8
    me.forget()
    me.wait(1 * S)
    assert len(me.sent_to("a", Ping)) >= 6
    assert len(me.sent_to("b", Ping)) >= 6


@pytest.mark.parametrize("seed", range(6))
def test_a_newcomer_is_probed_in_the_round_it_comes_in(seed: int) -> None:
    me = Lone(seed)
    me.meet(*"abcdefgh")
    before = _probed(me, 3, "abcdefgh")
    me.meet("z")
    after = _probed(me, 12, "abcdefghz")
    until = after[: after.index("z")]
    assert not set(until) & set(before)
    assert len(until) == len(set(until))


def _probed(me: Lone, count: int, names: str) -> list[str]:
    """The next `count` members to be probed; all answer."""
    probed: list[str] = []
    while len(probed) < count:
        me.forget()
        me.wait(10 * MS)
        probed += [name for name in names if me.sent_to(name, Ping)]
        me.answer(*names)
    return probed
