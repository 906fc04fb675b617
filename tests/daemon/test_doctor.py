"""The doctor names why a node that is heard is no member; the metrics answer what is asked and nothing else."""

from collections.abc import Iterable
from types import MappingProxyType
from typing import Any

import pytest
import trio

from meshd.config import METRICS_HEAD_BYTES_MAX, PROTOCOL_VERSION
from meshd.core import events
from meshd.core.ids import Address, NodeId
from meshd.core.view import State, View
from meshd.daemon.board import Board
from meshd.daemon.doctor import Doctor
from meshd.daemon.metrics import MetricsServer, Sample, text
from meshd.daemon.reach import Reach, wanted_links
from meshd.net.discovery import Sighting
from tests.daemon.pictures import A, B, C, member, view

MESH = "9f86d081884c7d659a2feaa0c55ad015"
D = NodeId("d" * 26)
THERE = (Address("10.0.0.9", 7946),)


def heard(node: NodeId = D, mesh: str = MESH, version: int = PROTOCOL_VERSION) -> Sighting:
    return Sighting(node, mesh, version, THERE)


def findings(*sightings: Sighting, mesh: str = MESH, open: bool = True, board: Board | None = None) -> dict[str, str]:
    board = board or Board(view())
    doctor = Doctor(mesh, board, lambda: sightings, lambda address: open)
    told = doctor.diagnose(board.view)
    assert all(finding.says and finding.advice for finding in told)
    return {finding.kind: finding.subject for finding in told}


@pytest.mark.parametrize(
    ("sighting", "open", "kind"),
    [
        (heard(mesh="0" * 32), True, "other_key"),
        (heard(mesh=""), True, "other_key"),
        (heard(version=PROTOCOL_VERSION + 1, mesh="0" * 32), True, "other_version"),
        (heard(), False, "port_closed"),
        (heard(), True, "not_joined"),
    ],
)
def test_a_stranger_is_named_with_its_reason(sighting: Sighting, open: bool, kind: str) -> None:
    found = findings(sighting, open=open)
    assert found[kind] == f"{D} (10.0.0.9:7946)"


def test_members_and_oneself_are_no_strangers() -> None:
    assert set(findings(heard(A), heard(B))) <= {"unreachable_pair"}


def test_an_identity_that_is_raised_again_and_again_has_a_clone_and_once_is_an_older_disk() -> None:
    board = Board(view())
    board.report(events.Report("boot.raised", A))
    assert "cloned_identity" not in findings(board=board)
    board.report(events.Report("boot.raised", A))
    assert findings(board=board)["cloned_identity"] == f"{A} (pi)"


def test_a_clone_that_the_mesh_saw_is_named_once_with_both_addresses() -> None:
    board = Board(view())
    for _ in range(2):
        board.report(events.Report("member.cloned", B, {"one": "10.0.0.2:7946", "two": "10.0.0.8:7946"}))
    told = Doctor(MESH, board, lambda: (), lambda _: True).diagnose(view())
    [clone] = [finding for finding in told if finding.kind == "cloned_identity"]
    assert clone.subject == f"{B} (nuc)"
    assert "10.0.0.2:7946 and 10.0.0.8:7946" in clone.says


def test_a_pair_that_links_do_not_join_is_named_while_both_live() -> None:
    assert findings()["unreachable_pair"] == f"{B} (nuc) to {C} (old)"


def test_a_node_without_key_or_company_is_told_what_to_do() -> None:
    alone = View(1, A, view().boot, MappingProxyType({A: member(A, "pi")}), {})
    assert set(findings(mesh="", board=Board(alone))) == {"no_key"}
    assert set(findings(board=Board(alone))) == {"alone"}


class FakeDataLinks:
    def __init__(self) -> None:
        self.log: list[str] = []

    def ensure(self, peer: NodeId) -> None:
        self.log.append("+" + peer[0])

    def drop(self, peer: NodeId) -> None:
        self.log.append("-" + peer[0])

    def rtt_us(self, peer: NodeId) -> int:
        return 500 if peer == B else 0

    def bandwidth_bps(self, peer: NodeId) -> int:
        return 1_000_000


def test_links_are_kept_to_live_members_while_something_is_deployed() -> None:
    links: Any = FakeDataLinks()
    reach = Reach(links)
    idle = View(1, A, view().boot, view().members, {})
    reach.view_changed(idle)
    assert links.log == []
    reach.view_changed(view())
    assert sorted(links.log) == ["+b", "+c"]
    told: list[Any] = []
    reach.measure(told.append)
    assert told == [events.LinkMeasured(B, 500, 1_000_000)]
    dead = View(5, A, view().boot, {**view().members, C: member(C, "old", State.DEAD)}, view().deployments)
    reach.view_changed(dead)
    assert links.log[-1] == "-c"
    assert wanted_links(dead) == [B]


def test_samples_are_grouped_under_their_help_and_escaped() -> None:
    told = text(
        [Sample("b_total", 3, "Bs."), Sample("a", 0.5, "As.", {"x": 'q"\\\n'}), Sample("a", 2, "As.", {"x": "y"})]
    )
    assert told.splitlines() == [
        "# HELP a As.", "# TYPE a gauge", 'a{x="q\\"\\\\\\n"} 0.5', 'a{x="y"} 2',
        "# HELP b_total Bs.", "# TYPE b_total counter", "b_total 3",
    ]  # fmt: skip


def exchange(*requests: bytes) -> tuple[list[bytes], int]:
    """Send each request on its own connection to a metrics server; what came back, and how many were refused."""

    def collect() -> Iterable[Sample]:
        return [Sample("up", 1, "Up.")]

    async def main() -> tuple[list[bytes], int]:
        server = MetricsServer(collect)
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        answers = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, listener)
            for request in requests:
                stream = await trio.open_tcp_stream(*listener.socket.getsockname())
                async with stream:
                    try:
                        await stream.send_all(request)
                        await stream.send_eof()
                        answers.append(b"".join([piece async for piece in stream]))
                    except trio.BrokenResourceError:
                        answers.append(b"(reset)")
            nursery.cancel_scope.cancel()
        return answers, server.refused

    return trio.run(main)


def test_metrics_answer_a_scrape() -> None:
    [answer], refused = exchange(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    head, body = answer.split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"up 1\n" in body
    assert refused == 0


def test_metrics_survive_garbage_and_count_it() -> None:
    junk = [
        b"\x16\x03\x01" * 50,
        b"GET / HTTP/1.1\r\n",
        b"GET " + b"x" * (2 * METRICS_HEAD_BYTES_MAX),
        b"",
        b"POST / HTTP/1.1\r\n\r\n",
    ]
    answers, refused = exchange(*junk, b"GET /other HTTP/1.1\r\n\r\n", b"GET /metrics HTTP/1.1\r\n\r\n")
    assert answers[-2].startswith(b"HTTP/1.1 404")
    assert answers[-1].startswith(b"HTTP/1.1 200")
    assert refused == len(junk)
