"""The doctor names why a node that is heard is no member; links are kept to those who live."""

from types import MappingProxyType
from typing import Any

import pytest

from meshd.config import PROTOCOL_VERSION
from meshd.core import events
from meshd.core.ids import Address, NodeId
from meshd.core.view import State, View
from meshd.daemon.board import Board
from meshd.daemon.doctor import Doctor
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
    assert told == [events.LinkMeasured(B, 500, 8_000_000)]
    dead = View(5, A, view().boot, {**view().members, C: member(C, "old", State.DEAD)}, view().deployments)
    reach.view_changed(dead)
    assert links.log[-1] == "-c"
    assert wanted_links(dead) == [B]


def test_who_is_alive_again_is_dialled_at_once() -> None:
    links: Any = FakeDataLinks()
    reach = Reach(links)
    for state in (State.ALIVE, State.SUSPECT, State.SUSPECT, State.ALIVE, State.ALIVE):
        members = {**view().members, C: member(C, "old", state)}
        reach.view_changed(View(5, A, view().boot, members, view().deployments))
    assert sorted(links.log[:2]) == ["+b", "+c"]
    assert links.log[2:] == ["+c"]
