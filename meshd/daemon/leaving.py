"""How a node leaves: others take over first, then goodbye, then the end; each for as long as it may take and no longer.

Rule 1: draining ends when what this node serves is READY elsewhere, not when it is unloaded here: that takes longer and
helps nobody.
Rule 2: the goodbye is always said: whoever leaves without one is suspected first.
"""

import logging
from collections.abc import Callable

import trio

from meshd.config import DRAIN_US, S
from meshd.core import events
from meshd.core.ids import SegmentId
from meshd.core.view import Hold, State, View
from meshd.daemon.board import Board
from meshd.daemon.driver import Driver

log = logging.getLogger(__name__)

LOOK_S = 0.05
GOODBYE_S = 2.0


async def leave(driver: Driver, board: Board, in_flight: Callable[[], int]) -> None:
    """Drain for at most `DRAIN_US`, say goodbye, let requests that entered here end. When cancelled, all stays as it is."""
    with trio.move_on_after(DRAIN_US / S) as waited:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_command, driver, events.Drain())
            while not is_covered(board.view):
                await trio.sleep(LOOK_S)
            nursery.cancel_scope.cancel()
    if waited.cancelled_caught:
        log.warning("not all is served elsewhere after %d s; others take over what is left", DRAIN_US // S)
    with trio.move_on_after(GOODBYE_S):
        await _command(driver, events.Leave())
        while in_flight():
            await trio.sleep(LOOK_S)


async def _command(driver: Driver, command: events.Command) -> None:
    result = await driver.operate(command)
    if isinstance(result, events.Refused):
        log.info("%s: %s", type(command).__name__.lower(), result.reason)


def is_covered(view: View) -> bool:
    """Whether everything this node serves is READY on another node that stays, or no other stays to wait for."""
    staying = [
        member
        for member in view.members.values()
        if member.node != view.me and member.state is State.ALIVE and not member.draining
    ]
    if not staying:
        return True
    me = view.members.get(view.me)
    mine = {holding.segment for holding in me.holdings} if me else set()
    theirs = {holding.segment for member in staying for holding in member.holdings if holding.state is Hold.READY}
    served = (each.plan for each in view.deployments.values() if each.plan is not None)
    needed = {SegmentId(plan.plan_digest, index) for plan in served for index in range(len(plan.segments))}
    return not (mine & needed) - theirs
