"""When a node that drains may go: when what it serves is READY elsewhere, or nobody is there to take it."""

from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing

from meshd.core.events import Command, Done, Drain
from meshd.core.view import Hold, Holding, State, View
from meshd.daemon.board import Board
from meshd.daemon.leaving import is_covered, leave
from tests.daemon.pictures import A, B, C, member, view


def test_a_node_that_alone_holds_a_served_segment_stays() -> None:
    picture = view()
    alone = {**picture.members, B: replace(picture.members[B], holdings=())}
    assert not is_covered(replace(picture, members=alone))


def test_a_node_whose_segments_are_ready_elsewhere_goes() -> None:
    assert is_covered(view())


def test_a_suspect_or_draining_node_covers_nothing() -> None:
    picture = view()
    for other in (replace(picture.members[B], state=State.SUSPECT), replace(picture.members[B], draining=True)):
        members = {A: picture.members[A], B: other, C: member(C, "idle")}
        assert not is_covered(replace(picture, members=members))


def test_a_loading_copy_covers_nothing() -> None:
    picture = view()
    loading = tuple(Holding(h.segment, Hold.LOADING) for h in picture.members[B].holdings)
    assert not is_covered(
        replace(picture, members={**picture.members, B: replace(picture.members[B], holdings=loading)})
    )


def test_a_node_with_nobody_who_stays_or_nothing_held_goes() -> None:
    picture = view()
    assert is_covered(replace(picture, members={A: picture.members[A]}))
    draining = replace(picture.members[B], draining=True)
    assert is_covered(replace(picture, members={A: picture.members[A], B: draining}))
    idle = View(1, C, picture.boot, picture.members, picture.deployments)
    assert is_covered(replace(idle, members={**picture.members, C: member(C, "idle")}))


class FakeDriver:
    """Answers nothing to Drain (as a node that stays full), and Done to Leave."""

    def __init__(self) -> None:
        self.commands: list[str] = []

    async def operate(self, command: Command) -> Done:
        self.commands.append(type(command).__name__)
        if isinstance(command, Drain):
            await trio.sleep_forever()
        return Done()


def leaves(picture: View, in_flight: list[int]) -> tuple[list[str], float]:
    """What is said, and how long leaving takes, in virtual seconds."""
    driver: Any = FakeDriver()

    async def main() -> float:
        began = trio.current_time()
        await leave(driver, Board(picture), lambda: in_flight.pop(0) if in_flight else 0)
        return trio.current_time() - began

    took_s = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return driver.commands, took_s


def test_leaving_takes_no_longer_than_others_need() -> None:
    commands, took_s = leaves(view(), [1, 1])
    assert commands[-1] == "Leave"
    assert took_s < 0.2


def test_goodbye_is_said_even_when_nobody_took_over() -> None:
    picture = view()
    commands, took_s = leaves(
        replace(picture, members={**picture.members, B: replace(picture.members[B], holdings=())}), [1] * 1000
    )
    assert commands == ["Drain", "Leave"]
    assert took_s == pytest.approx(12, abs=0.2)
