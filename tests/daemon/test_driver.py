"""The driver turns wakes into inputs in the right order and performs every effect, under a virtual clock."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
import trio
import trio.testing

from meshd.config import DATAGRAMS_A_WAKE_MAX, MS, S
from meshd.core import events
from meshd.core.events import DatagramIn, Done, Effect, Input, Operate, Refused, TimerFired, TimerId, Token, Woke
from meshd.core.ids import Address, Boot, NodeId
from meshd.core.view import empty_view
from meshd.daemon.board import Board
from meshd.daemon.driver import Driver, Shell
from meshd.daemon.inbox import Inbox
from meshd.daemon.timers import Timers
from meshd.errors import UnavailableError

ME = NodeId("me")
HERE = Address("10.0.0.1", 7946)


def datagram(n: int) -> DatagramIn:
    return DatagramIn(NodeId("peer"), Boot(1), HERE, n)


class FakeNode:
    """Remembers its inputs; answers each kind by a rule."""

    def __init__(self) -> None:
        self.inputs: list[Any] = []
        self.rules: dict[type, Callable[[Any], Iterable[Effect]]] = {}

    def step(self, input: Input, now_us: int) -> Iterable[Effect]:
        self.inputs.append(input)
        return self.rules.get(type(input), lambda _: ())(input)


class FakeGossip:
    """A socket buffer that tests fill."""

    def __init__(self) -> None:
        self.waiting: deque[DatagramIn] = deque()
        self.sent: list[Any] = []
        self.arrived = trio.Event()

    def arrive(self, *datagrams: DatagramIn) -> None:
        self.waiting.extend(datagrams)
        self.arrived.set()

    async def readable(self) -> None:
        await trio.lowlevel.checkpoint()
        if not self.waiting:
            self.arrived = trio.Event()
            await self.arrived.wait()

    def drain(self, limit: int) -> Sequence[DatagramIn]:
        return [self.waiting.popleft() for _ in range(min(limit, len(self.waiting)))]

    def send(self, effect: events.SendDatagram) -> None:
        self.sent.append(effect)

    def proven(self, node: NodeId, boot: Boot) -> None:
        pass

    def use_boot(self, boot: Boot) -> None:
        self.sent.append(boot)


class FakeLinks:
    def __init__(self) -> None:
        self.done: list[Any] = []

    def send(self, effect: events.SendLink) -> None:
        self.done.append(effect)

    def trust(self, effect: events.Trust) -> None:
        self.done.append(effect)

    def distrust(self, effect: events.Distrust) -> None:
        self.done.append(effect)


class FakeHoldings:
    def __init__(self) -> None:
        self.done: list[Any] = []

    def perform(self, effect: Any) -> None:
        self.done.append(effect)


class World:
    """A driver between fakes."""

    def __init__(self) -> None:
        self.node, self.gossip, self.links, self.holdings = FakeNode(), FakeGossip(), FakeLinks(), FakeHoldings()
        self.board = Board(empty_view(ME, Boot(1)))
        self.kept: list[list[tuple[str, Any]]] = []
        self.disk_broken = 0
        shell = Shell(self.gossip, self.links, self.holdings, self.keep, self.solve)
        self.driver = Driver(self.node, shell, self.board, Inbox(), 500 * MS)

    async def keep(self, batch: Sequence[tuple[str, Any]]) -> None:
        await trio.sleep(0.01)
        if self.disk_broken:
            self.disk_broken -= 1
            raise UnavailableError("disk full")
        self.kept.append(list(batch))

    async def solve(self, problem: Any) -> Any:
        await trio.sleep(0.2)
        return ("solved", problem)


def drive(test: Callable[[World, trio.testing.MockClock], Any], first: Iterable[Effect] = ()) -> None:
    clock = trio.testing.MockClock(autojump_threshold=0)

    async def main() -> None:
        world = World()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.driver.run, first)
            await test(world, clock)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=clock)


def timer(id: str, after_us: int) -> events.SetTimer:
    return events.SetTimer(TimerId(id), after_us)


def test_timers_fire_in_order_once_and_replaced_or_cancelled_ones_do_not() -> None:
    async def test(world: World, _: Any) -> None:
        await trio.sleep(1)
        assert world.node.inputs == [TimerFired(TimerId("b")), TimerFired(TimerId("a"))]

    first = [timer("a", 10 * MS), timer("b", 20 * MS), timer("c", 5 * MS), timer("a", 30 * MS)]
    drive(test, [*first, events.CancelTimer(TimerId("c")), events.CancelTimer(TimerId("unknown"))])


def test_a_datagram_wakes_the_driver_and_its_answer_leaves() -> None:
    async def test(world: World, _: Any) -> None:
        world.node.rules[DatagramIn] = lambda d: [events.SendDatagram(d.address, d.source, "ack")]
        world.gossip.arrive(datagram(1))
        await trio.sleep(0.001)
        assert world.node.inputs == [datagram(1)]
        assert world.gossip.sent == [events.SendDatagram(HERE, NodeId("peer"), "ack")]

    drive(test)


def test_a_stalled_process_hears_what_arrived_before_its_timers_fire_and_knows_it_was_late() -> None:
    async def test(world: World, clock: trio.testing.MockClock) -> None:
        await trio.testing.wait_all_tasks_blocked()
        clock.autojump_threshold = float("inf")
        world.gossip.waiting.extend([datagram(1), datagram(2)])  # Arrived while the process was stopped.
        clock.jump(3.0)
        clock.autojump_threshold = 0
        await trio.sleep(0.001)
        assert world.node.inputs == [
            Woke(2 * S),
            datagram(1),
            datagram(2),
            TimerFired(TimerId("suspect/peer")),
        ]

    drive(test, [timer("suspect/peer", 1 * S)])


def test_a_wake_within_a_probe_period_is_not_late() -> None:
    async def test(world: World, clock: trio.testing.MockClock) -> None:
        await trio.testing.wait_all_tasks_blocked()
        clock.jump(1.4)
        await trio.sleep(0.001)
        assert world.node.inputs == [TimerFired(TimerId("probe"))]

    drive(test, [timer("probe", 1 * S)])


def test_a_flood_of_datagrams_does_not_starve_the_timers() -> None:
    async def test(world: World, _: Any) -> None:
        world.gossip.arrive(*(datagram(n) for n in range(3 * DATAGRAMS_A_WAKE_MAX)))
        await trio.sleep(0.001)
        assert len(world.node.inputs) == 3 * DATAGRAMS_A_WAKE_MAX + 1
        assert world.node.inputs[DATAGRAMS_A_WAKE_MAX] == TimerFired(TimerId("now"))

    drive(test, [timer("now", 0)])


def test_what_is_persisted_in_one_go_is_one_batch_and_is_answered_after_it_is_kept() -> None:
    async def test(world: World, _: Any) -> None:
        await trio.sleep(0.005)
        assert world.node.inputs == []
        await trio.sleep(0.02)
        assert world.kept == [[("a", 3), ("b", 2)]]
        assert world.node.inputs == [events.Persisted(Token(n)) for n in (1, 2, 3)]

    drive(test, [events.Persist(key, value, Token(value)) for key, value in (("a", 1), ("b", 2), ("a", 3))])


def test_a_full_disk_is_reported_and_tried_again_and_nothing_is_announced_meanwhile() -> None:
    async def test(world: World, _: Any) -> None:
        world.disk_broken = 2
        await trio.sleep(1.5)
        assert world.node.inputs == []
        assert [e.report.kind for e in world.board.wait_events(0, 0)[0]] == ["store.failed"] * 2
        await trio.sleep(2)
        assert world.node.inputs == [events.Persisted(Token(1))]

    drive(test, [events.Persist("a", 1, Token(1))])


def test_a_solution_comes_back_as_an_input() -> None:
    async def test(world: World, _: Any) -> None:
        await trio.sleep(0.5)
        # One at a time; which comes first is trio's affair.
        assert sorted(world.node.inputs, key=lambda solved: int(solved.token)) == [
            events.Solved(Token(1), ("solved", "p")),
            events.Solved(Token(2), ("solved", "q")),
        ]

    drive(test, [events.Solve(Token(1), "p"), events.Solve(Token(2), "q")])


def test_a_view_is_swapped_in_and_watchers_hear_of_it() -> None:
    async def test(world: World, _: Any) -> None:
        seen: list[int] = []
        world.board.listen(lambda view: seen.append(view.version))
        view = world.board.view.__class__(5, ME, Boot(1), {}, {})
        world.node.rules[events.Measured] = lambda _: [events.Publish(view)]
        world.driver.inbox.offer(events.Measured(capacity=None))  # type: ignore[arg-type]
        await trio.sleep(0.001)
        assert world.board.view is view
        assert seen == [5]
        assert world.board.wait_view(4, 0) is view
        assert world.board.wait_view(5, 0) is None

    drive(test)


def test_other_effects_reach_who_performs_them() -> None:
    segment: Any = "segment"
    trust, link = events.Trust(NodeId("a"), b""), events.SendLink(NodeId("a"), "m")
    boot = events.UseBoot(Boot(7))
    strike, unload = events.Distrust(NodeId("a")), events.Unload(segment)

    async def test(world: World, _: Any) -> None:
        await trio.sleep(0.001)
        assert world.links.done == [trust, link, strike]
        assert world.holdings.done == [unload]
        assert world.gossip.sent == [7]

    drive(test, [trust, link, strike, unload, boot])


def test_a_command_is_answered_to_whoever_asked() -> None:
    async def test(world: World, _: Any) -> None:
        world.node.rules[Operate] = lambda o: [events.Answer(o.token, Refused("CONFLICT", "no room"))]
        assert await world.driver.operate(events.Retire("m")) == Refused("CONFLICT", "no room")
        world.node.rules[Operate] = lambda o: [
            events.Answer(o.token, Done("ok")),
            events.Answer(o.token, Done("again")),
        ]
        assert await world.driver.operate(events.Retire("m")) == Done("ok")
        assert all(o.wall_us > 0 for o in world.node.inputs)

    drive(test)


def test_a_command_from_a_thread_is_answered_there_and_times_out_there() -> None:
    async def main() -> None:
        world = World()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.driver.run, ())
            world.node.rules[Operate] = lambda o: [events.Answer(o.token, Done("ok"))]
            asked = world.driver.operate_from_thread
            assert await trio.to_thread.run_sync(asked, events.Drain(), 30) == Done("ok")
            world.node.rules.clear()
            with pytest.raises(UnavailableError, match="no answer"):
                await trio.to_thread.run_sync(asked, events.Drain(), 0.01)
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_full_inbox_refuses_strangers_and_takes_answers() -> None:
    async def test(world: World, _: Any) -> None:
        inbox = Inbox(limit=2)
        assert [inbox.offer(n) for n in range(3)] == [True, True, False]
        inbox.answer("answer")
        assert [inbox.take() for _ in range(3)] == [0, 1, "answer"]
        assert inbox.offer(3)

    drive(test)


def test_a_round_trip_passes_only_through_a_living_loop() -> None:
    async def test(world: World, _: Any) -> None:
        world.driver.inbox.offer(events.Hinted(NodeId("a")))
        await world.driver.round_trip()
        assert world.node.inputs == [events.Hinted(NodeId("a"))]

    drive(test)


def test_a_bug_in_the_core_ends_the_driver() -> None:
    def broken(_: Any) -> Iterable[Effect]:
        raise AssertionError("impossible transition")

    async def test(world: World, _: Any) -> None:
        world.node.rules[events.Hinted] = broken
        world.driver.inbox.offer(events.Hinted(NodeId("a")))
        await trio.sleep(1)
        pytest.fail("it went on")

    with pytest.RaisesGroup(pytest.RaisesExc(AssertionError, match="impossible"), flatten_subgroups=True):
        drive(test)


def test_replaced_timers_do_not_fill_the_heap() -> None:
    timers = Timers()
    for n in range(10_000):
        timers.set(TimerId("probe"), n)
    assert len(timers._heap) < 200
    assert timers.next_us() == 9_999
    assert timers.take_due(10_000) == ["probe"]
    assert timers.next_us() is None


def test_a_slow_watcher_is_told_what_it_missed() -> None:
    board = Board(empty_view(ME, Boot(1)))
    for n in range(2_000):
        board.report(events.Report("x", str(n)))
    found, missed = board.wait_events(100, 0)
    assert (len(found), missed, found[-1].sequence) == (1_024, 876, 2_000)
    board.close()
    assert board.wait_events(2_000, 60) == ([], 0)
