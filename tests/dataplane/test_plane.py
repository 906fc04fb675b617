"""Whole data planes on real threads, joined by in-memory links: answers, failover, bounds."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from meshd.config import S
from meshd.core.ids import Boot, NodeId
from meshd.core.journey.frames import Ack, Answer, Code, Failed, Forward, Lost, Poison, Reason, RequestId
from meshd.dataplane.plane import RequestFailedError
from tests.dataplane.fake_mesh import WIDTH, FakeMesh

MeshOf = Callable[..., FakeMesh]
THREE = [["a", "b"], ["c", "d"], ["f", "g"]]


def test_one_node_answers_alone_and_on_its_own_thread(mesh_of: MeshOf) -> None:
    mesh = mesh_of([["e"], ["e"]])
    assert np.all(mesh.infer(1.0) == mesh.expected(1.0))
    assert mesh.door.links.sent == []
    counts = mesh.door.plane.counts()
    assert (counts["answered"], counts["in_flight"], counts["payloads_kept"]) == (1, 0, 0)


def test_a_request_crosses_the_mesh_and_comes_back(mesh_of: MeshOf) -> None:
    mesh = mesh_of(THREE)
    assert np.all(mesh.infer(2.0, batch=3) == mesh.expected(2.0))
    assert [mesh.nodes[NodeId(n)].segment(i).runs for i, n in enumerate("acf")] == [1, 1, 1]
    sent = [type(frame) for node in mesh.nodes.values() for _, frame in node.links.sent]
    assert (sent.count(Forward), sent.count(Ack), sent.count(Answer)) == (3, 3, 1)


def test_many_callers_at_once_each_get_their_own_answer(mesh_of: MeshOf) -> None:
    mesh = mesh_of(THREE)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(mesh.infer, range(100)))
    assert [float(a[0, 0]) for a in answers] == [mesh.expected(v) for v in range(100)]
    assert mesh.door.plane.counts()["in_flight"] == 0
    assert all(node.plane.counts()["payloads_kept"] == 0 for node in mesh.nodes.values())
    assert not any(node.plane._tickets for node in mesh.nodes.values())


@pytest.mark.parametrize(("victim", "segment"), [("a", 0), ("c", 1), ("f", 2)])
def test_an_owner_killed_while_it_computes_costs_no_answer(mesh_of: MeshOf, victim: str, segment: int) -> None:
    mesh = mesh_of(THREE)
    never = threading.Event()

    def die() -> None:
        mesh.kill(victim)
        never.set()

    mesh.nodes[NodeId(victim)].segment(segment).before = die
    assert np.all(mesh.infer(1.0) == mesh.expected(1.0))
    assert never.is_set()
    standby = {"a": "b", "c": "d", "f": "g"}[victim]
    assert mesh.nodes[NodeId(standby)].segment(segment).runs == 1


def test_an_owner_that_goes_silent_is_passed_by_after_its_ack_time(mesh_of: MeshOf) -> None:
    mesh = mesh_of(THREE)
    mesh.silent["c"] = None
    assert np.all(mesh.infer(1.0) == mesh.expected(1.0))
    assert mesh.nodes[NodeId("a")].hints == [NodeId("c")]
    assert mesh.nodes[NodeId("a")].pairs == [(NodeId("c"), False)]


def test_suspicion_rescues_what_a_silent_owner_had_acknowledged(mesh_of: MeshOf) -> None:
    mesh = mesh_of([["e"], ["c", "d"]])
    gate, there = threading.Event(), threading.Event()

    def stop() -> None:
        there.set()
        assert gate.wait(20)

    mesh.nodes[NodeId("c")].segment(1).before = stop
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(mesh.infer, 1.0)
        assert there.wait(10)
        mesh.suspect("c")
        assert np.all(answer.result(10) == mesh.expected(1.0))
    gate.set()


def test_a_segment_that_fails_names_itself_its_node_and_the_deployment(mesh_of: MeshOf) -> None:
    mesh = mesh_of([["a"]])

    def fail() -> None:
        raise ValueError("no such luck")

    mesh.nodes[NodeId("a")].segment(0).before = fail
    with pytest.raises(RequestFailedError) as caught:
        mesh.infer()
    failure = caught.value.failure
    assert (failure.code, failure.reason, failure.segment, failure.node) == (Code.INTERNAL, Reason.COMPUTE, 0, "a")
    assert "'m'" in str(caught.value)
    assert "no such luck" in str(caught.value)


def test_an_unknown_deployment_is_not_found(mesh_of: MeshOf) -> None:
    mesh = mesh_of([["a"]])
    with pytest.raises(RequestFailedError, match="no model 'x' is deployed") as caught:
        mesh.door.plane.infer("x", [b""], 1, 0)
    assert caught.value.failure.code is Code.NOT_FOUND


def test_the_deadline_ends_a_request_that_nobody_answers(mesh_of: MeshOf) -> None:
    mesh = mesh_of([["a"]])
    gate = threading.Event()
    mesh.nodes[NodeId("a")].segment(0).before = lambda: gate.wait(20)  # type: ignore[assignment,return-value]
    with pytest.raises(RequestFailedError) as caught:
        mesh.infer(deadline_us=S // 20)
    gate.set()
    assert caught.value.failure.code is Code.DEADLINE_EXCEEDED


def test_an_input_that_two_nodes_vanished_with_is_refused_afterwards(mesh_of: MeshOf) -> None:
    mesh = mesh_of([["a", "b", "c"]])

    def deadly(name: str) -> Callable[[], None]:
        def die() -> None:
            mesh.kill(name)
            mesh.suspect(name)

        return die

    for name in "abc":
        mesh.nodes[NodeId(name)].segment(0).before = deadly(name)
    with pytest.raises(RequestFailedError) as caught:
        mesh.infer(13.0)
    assert caught.value.failure.reason is Reason.HOLDERS_LOST
    with pytest.raises(RequestFailedError) as caught:
        mesh.infer(13.0)
    assert caught.value.failure.reason is Reason.POISONED
    assert mesh.nodes[NodeId("c")].segment(0).runs == 0
    mesh.door.links.wait_for(Poison)
    with pytest.raises(RequestFailedError) as caught:
        mesh.nodes[NodeId("c")].plane.infer(mesh.name, [np.full((1, WIDTH), 13.0, np.float32).tobytes()], 1, 0)
    assert caught.value.failure.reason is Reason.POISONED, "no other entry runs it either"
    mesh.nodes[NodeId("c")].segment(0).before = lambda: None
    assert np.all(mesh.infer(14.0) == mesh.expected(14.0)), "another input is none of it"


def test_a_frame_whose_sizes_do_not_add_up_is_dropped_and_counted(mesh_of: MeshOf) -> None:
    mesh = mesh_of([["a"]])
    node = mesh.nodes[NodeId("a")]
    forward = Forward(RequestId(mesh.entry, Boot(1), 1), 1, "m", mesh.plan.plan_digest, 0, S, 8, 1, (4 * WIDTH, -1), ())
    node.plane.receive(mesh.entry, forward, memoryview(bytes(4 * WIDTH - 1)))
    node.plane.receive(mesh.entry, forward, memoryview(b""))
    assert node.plane.counts()["malformed"] == 2
    assert node.links.sent == []


def test_a_peer_that_lies_about_a_tensor_gets_a_failure_and_harms_nobody(mesh_of: MeshOf) -> None:
    mesh = mesh_of([["a"]])
    node = mesh.nodes[NodeId("a")]
    forward = Forward(RequestId(mesh.entry, Boot(1), 9), 1, "m", mesh.plan.plan_digest, 0, S, 8, 1, (4, 4), ())
    node.plane.receive(mesh.entry, forward, memoryview(bytes(8)))
    node.links.wait_for(Failed)
    assert [type(f) for _, f in node.links.sent] == [Ack, Failed]


def test_statistics_tell_successes_failures_and_where_time_went(mesh_of: MeshOf) -> None:
    mesh = mesh_of([["a"]])
    mesh.infer(batch=4)
    seen = mesh.door.plane.statistics("m")
    assert (seen.success.count, seen.items, seen.fail.count) == (1, 4, 0)
    assert seen.success.ns >= seen.queue.ns + seen.compute_infer.ns
    assert mesh.door.plane.statistics("other").success.count == 0


def test_closing_ends_what_waits(mesh_of: MeshOf) -> None:
    mesh = mesh_of([["a"]])
    there, gate = threading.Event(), threading.Event()

    def stop() -> None:
        there.set()
        gate.wait(20)

    mesh.nodes[NodeId("a")].segment(0).before = stop
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(mesh.infer)
        assert there.wait(10)
        mesh.door.plane.close()
        with pytest.raises(RequestFailedError, match="stopping"):
            answer.result(10)
    gate.set()


def test_a_death_with_many_in_flight_tells_the_entry_in_one_frame(mesh_of: MeshOf) -> None:
    mesh = mesh_of([["a"], ["c", "d"]], cores=1)
    there, gate = threading.Semaphore(0), threading.Event()

    def stop() -> None:
        there.release()
        gate.wait(20)

    mesh.nodes[NodeId("c")].segment(1).before = stop
    first = mesh.nodes[NodeId("a")].plane
    mesh.cut[frozenset("ad")] = None
    first.link_changed(NodeId("d"), False)
    with ThreadPoolExecutor(6) as pool:
        answers = [pool.submit(mesh.infer, v) for v in range(6)]
        assert there.acquire(timeout=10)
        mesh.nodes[NodeId("c")].links.wait_for(Ack, 6)
        mesh.cut.clear()
        first.link_changed(NodeId("d"), True)
        mesh.kill("c")
        assert [float(a.result(10)[0, 0]) for a in answers] == [mesh.expected(v) for v in range(6)]
    gate.set()
    lost = [f for _, f in mesh.nodes[NodeId("a")].links.sent if isinstance(f, Lost)]
    assert len(lost) == 1


def test_a_large_batch_is_shared_by_both_copies_and_merged_in_order(mesh_of: MeshOf) -> None:
    mesh = mesh_of([["a", "b"], ["c", "d"]], item_us=5000)
    x = np.arange(9 * WIDTH, dtype=np.float32).reshape(9, WIDTH)
    out = mesh.door.plane.infer("m", [x.tobytes()], 9, 0)
    assert out.batch == 9
    assert np.array_equal(np.frombuffer(out.raw[0], np.float32).reshape(9, WIDTH), x + np.float32(3))
    assert [mesh.nodes[NodeId(n)].segment(i).runs for n, i in (("a", 0), ("b", 0), ("c", 1), ("d", 1))] == [1] * 4
    assert mesh.door.plane.statistics("m").items == 9


def test_a_part_that_fails_ends_the_whole(mesh_of: MeshOf) -> None:
    mesh = mesh_of([["a", "b"]], item_us=50_000)

    def fail() -> None:
        raise ValueError("no")

    for name in "ab":
        mesh.nodes[NodeId(name)].segment(0).before = fail
    with pytest.raises(RequestFailedError, match="ValueError: no"):
        mesh.infer(batch=4)
    assert mesh.door.plane.counts()["in_flight"] == 0


def test_a_client_that_went_before_anybody_could_be_told_is_not_waited_for(mesh_of: MeshOf) -> None:
    mesh = mesh_of([["a"]])
    mesh.silent["a"] = None
    with pytest.raises(RequestFailedError, match="cancelled"):
        mesh.door.plane.infer("m", [bytes(4 * WIDTH)], 1, 10 * S, lambda act: False)


def test_who_hangs_up_is_woken_and_the_holders_are_told(mesh_of: MeshOf) -> None:
    mesh = mesh_of([["a"]])
    there, gate = threading.Event(), threading.Event()
    hang_up: list[Callable[[], None]] = []

    def stop() -> None:
        there.set()
        gate.wait(20)

    mesh.nodes[NodeId("a")].segment(0).before = stop
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(mesh.door.plane.infer, "m", [bytes(4 * WIDTH)], 1, 0, hang_up.append)
        assert there.wait(10)
        hang_up[0]()
        with pytest.raises(RequestFailedError, match="cancelled") as caught:
            answer.result(10)
    gate.set()
    assert caught.value.failure.code is Code.CANCELLED
    assert mesh.door.plane.counts()["in_flight"] == 0
