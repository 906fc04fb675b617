"""The clients, blocking and trio, against real servers: another node where one is gone, order, progress, cancellation."""

import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import trio

from meshd import client
from meshd.client import Answer, Inference, TrioInference
from meshd.errors import MisuseError, NotFoundError, UnavailableError
from tests.client.entries import Entry
from tests.dataplane.fake_mesh import WIDTH


def x(value: float = 1.0, batch: int = 1) -> dict[str, Any]:
    return {"x": np.full((batch, WIDTH), value, np.float32)}


def y(answer: Answer) -> float:
    return float(answer.outputs["y"][0, 0])


@pytest.fixture
def entries() -> Iterator[list[Entry]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Entry()) for _ in range(3)]


def nowhere() -> str:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


Ask = Callable[..., list[Answer]]


def blocking(targets: list[str], calls: list[dict[str, Any]], timeout_s: float = 20) -> list[Answer]:
    with Inference(targets) as inference:
        return [inference.infer("m", each, timeout_s) for each in calls]


def over_trio(targets: list[str], calls: list[dict[str, Any]], timeout_s: float = 20) -> list[Answer]:
    async def main() -> list[Answer]:
        async with TrioInference(targets) as inference:
            return [await inference.infer("m", each, timeout_s) for each in calls]

    return trio.run(main)


BOTH = pytest.mark.parametrize("ask", [blocking, over_trio])


@BOTH
def test_a_node_that_is_not_there_is_passed_over_and_not_asked_first_again(ask: Ask, entries: list[Entry]) -> None:
    answers = ask([nowhere(), entries[0].target, entries[1].target], [x(1), x(2), x(3)])
    assert [y(each) for each in answers] == [4.0, 5.0, 6.0]
    assert [each.asked for each in entries] == [3, 0, 0]


@BOTH
def test_an_entry_that_dies_with_the_request_costs_nothing(ask: Ask, entries: list[Entry]) -> None:
    dying, other, _ = entries
    dying.held.clear()
    answers: list[Answer] = []
    thread = threading.Thread(target=lambda: answers.extend(ask([dying.target, other.target], [x(1)])))
    thread.start()
    assert dying.there.wait(10)
    dying.kill()
    thread.join(20)
    assert [y(each) for each in answers] == [4.0]
    assert other.asked == 1


@BOTH
def test_what_was_lost_in_two_hands_goes_to_no_third(ask: Ask, entries: list[Entry]) -> None:
    for each in entries[:2]:
        each.held.clear()
    failed: list[str] = []

    def work() -> None:
        try:
            ask([each.target for each in entries], [x(1)])
        except UnavailableError as error:
            failed.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    for each in entries[:2]:
        assert each.there.wait(10)
        each.kill()
    thread.join(20)
    assert len(failed) == 1
    assert entries[2].asked == 0


@BOTH
def test_where_nobody_is_that_is_said_at_once(ask: Ask) -> None:
    with pytest.raises(UnavailableError, match="connect"):
        ask([nowhere(), nowhere()], [x()])


@BOTH
def test_what_a_node_says_of_the_request_is_final(ask: Ask, entries: list[Entry]) -> None:
    targets = [each.target for each in entries]
    with pytest.raises(MisuseError, match="unknown input 'z'"):
        ask(targets, [{"z": x()["x"]}])
    assert ask(targets[1:], [x(5)])[0].outputs["y"].shape == (1, WIDTH)


@BOTH
def test_overload_is_waited_out(ask: Ask, entries: list[Entry]) -> None:
    entry = entries[0]
    entry.held.clear()
    answers: list[Answer] = []

    def work(value: float) -> None:
        answers.extend(ask([entry.target], [x(value)]))

    # As many as the entry takes in at first, and more.
    threads = [threading.Thread(target=work, args=(float(n),)) for n in range(20)]
    for thread in threads:
        thread.start()
    assert entry.there.wait(10)
    entry.held.set()
    for thread in threads:
        thread.join(20)
    assert sorted(y(each) for each in answers) == [n + 3.0 for n in range(20)]


def test_a_deadline_is_the_callers(entries: list[Entry]) -> None:
    entries[0].held.clear()
    with pytest.raises(UnavailableError, match=r"(?i)deadline"):
        blocking([entries[0].target, entries[1].target], [x()], timeout_s=0.2)
    assert entries[1].asked == 0


def test_a_stream_answers_in_order_and_tells_how_far_it_is(entries: list[Entry]) -> None:
    progress: list[int] = []
    with Inference([nowhere(), entries[0].target]) as inference:
        answers = list(inference.stream("m", (x(v) for v in range(30)), progress=progress.append))
        assert [y(each) for each in answers] == [v + 3.0 for v in range(30)]
        assert progress == list(range(1, 31))
        assert list(inference.stream("m", [])) == []
        with pytest.raises(NotFoundError, match="no model 'nothing'"):
            list(inference.stream("nothing", [x(1), x(2)]))
        first = next(iter(inference.stream("m", (x(v) for v in range(100)))))
        assert y(first) == 3.0


def test_a_stream_goes_on_by_another_node_when_its_own_dies(entries: list[Entry]) -> None:
    with Inference([each.target for each in entries]) as inference:
        stream = inference.stream("m", (x(v) for v in range(40)))
        first = [y(next(stream)) for _ in range(3)]
        entries[0].kill()
        assert first + [y(each) for each in stream] == [v + 3.0 for v in range(40)]
    assert entries[1].asked > 0


def test_a_stream_in_trio(entries: list[Entry]) -> None:
    async def main() -> None:
        progress: list[int] = []
        async with TrioInference(entries[0].target) as inference:
            async with inference.stream("m", (x(v) for v in range(30)), progress=progress.append) as answers:
                assert [y(each) async for each in answers] == [v + 3.0 for v in range(30)]
            assert progress == list(range(1, 31))
            async with inference.stream("m", (x(v) for v in range(100))) as answers:
                assert y(await anext(aiter(answers))) == 3.0
            with pytest.raises(NotFoundError):
                async with inference.stream("nothing", [x()]) as answers:
                    assert [each async for each in answers] == []

    trio.run(main)


def test_cancelling_in_trio_frees_what_the_node_held(entries: list[Entry]) -> None:
    entry = entries[0]
    entry.held.clear()

    async def main() -> None:
        async with TrioInference(entry.target) as inference:
            with trio.move_on_after(5) as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(inference.infer, "m", x())
                    await trio.to_thread.run_sync(entry.there.wait)
                    nursery.cancel_scope.cancel()
            assert not scope.cancelled_caught

    trio.run(main)


def test_both_describe_alike(entries: list[Entry]) -> None:
    with Inference(entries[0].target) as inference:
        told = inference.describe("m")

    async def main() -> Any:
        async with TrioInference(entries[0].target) as inference:
            return await inference.describe("m")

    assert trio.run(main) == told
    assert told[0] == (client.TensorSpec("x", "FP32", (-1, WIDTH)),)
    assert told[0][0].dtype == "float32"


def test_the_package_names_what_there_is() -> None:
    assert {name: getattr(client, name).__name__ for name in client.__all__} == {n: n for n in client.__all__}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _: Awaitable[None] = client.nothing
