"""Why a node that is heard is no member, and what else keeps nodes apart. Each finding ends with what to do.

The kinds are a contract with scripts: `no_key`, `other_key`, `other_version`, `port_closed`, `not_joined`,
`cloned_identity`, `unreachable_pair`, `alone`.
"""

import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from meshd.config import DIAGNOSE_STRANGERS_MAX, PROTOCOL_VERSION
from meshd.core.ids import Address, NodeId
from meshd.core.view import State, View
from meshd.daemon.board import Board
from meshd.net.discovery import Sighting
from meshd.v1 import admin_pb2 as pb

CONNECT_TIMEOUT_S = 2.0
RAISES_OF_A_CLONE = 2


class Doctor:
    """Looks when asked, on the asking thread; keeps nothing.

    Parameters
    ----------
    mesh : this node's mesh id in hex; empty without a key
    heard : every node heard by mDNS lately, of this mesh or not
    connects : whether a TCP connection can be made; tests give their own
    """

    def __init__(
        self,
        mesh: str,
        board: Board,
        heard: Callable[[], Iterable[Sighting]],
        connects: Callable[[Address], bool] | None = None,
    ) -> None:
        self._mesh, self._board, self._heard = mesh, board, heard
        self._connects = connects or _connects

    def diagnose(self, view: View) -> Sequence[pb.Finding]:
        """All findings, errors first."""
        found = [*self._self(view), *self._clones(view), *self._strangers(view), *self._pairs(view)]
        return sorted(found, key=lambda finding: -finding.severity)

    def _self(self, view: View) -> Iterator[pb.Finding]:
        if not self._mesh:
            yield _finding(
                "WARNING", "no_key", _named(view, view.me), "this node has no mesh key, so it is a mesh of one",
                "make one with `meshd key new`, or take over another node's with `meshd key join`, and restart meshd",
            )  # fmt: skip
        elif len(view.alive()) <= 1:
            yield _finding(
                "NOTE", "alone", _named(view, view.me), "no other member is alive",
                "start meshd with this mesh key on another device; where multicast does not reach, name it with --seeds",
            )  # fmt: skip

    def _strangers(self, view: View) -> Iterator[pb.Finding]:
        mine = [s for s in self._heard() if s.node != view.me and not _is_live(view, s.node)][:DIAGNOSE_STRANGERS_MAX]
        ask = [s for s in mine if self._mesh and s.mesh == self._mesh and s.version == PROTOCOL_VERSION]
        with ThreadPoolExecutor(8) as pool:
            reached = dict(zip([s.node for s in ask], pool.map(self._reaches, ask), strict=True))
        for sighting in mine:
            where = ", ".join(map(str, sighting.addresses)) or "no address"
            subject = f"{sighting.node} ({where})"
            if sighting.version != PROTOCOL_VERSION:
                yield _finding(
                    "ERROR", "other_version", subject,
                    f"it speaks protocol {sighting.version}, this node {PROTOCOL_VERSION}",
                    "install the same version of meshd on both",
                )  # fmt: skip
            elif sighting.mesh != self._mesh or not self._mesh:
                has = f"of mesh {sighting.mesh[:8]}" if sighting.mesh else "without a mesh key"
                yield _finding(
                    "WARNING", "other_key", subject,
                    f"it is {has}, this node {'of mesh ' + self._mesh[:8] if self._mesh else 'has none'}",
                    "if it belongs here: `meshd key show --secret` on one, `meshd key join -` on the other, then restart it",
                )  # fmt: skip
            elif not reached[sighting.node]:
                yield _finding(
                    "ERROR", "port_closed", subject, "it is of this mesh, but its port cannot be reached from here",
                    f"open UDP and TCP port {sighting.addresses[0].port if sighting.addresses else '7946'}"
                    " in its firewall, and look whether it still runs",
                )  # fmt: skip
            else:
                yield _finding(
                    "ERROR", "not_joined", subject, "it is of this mesh and its port is open, but it is no live member",
                    "wait half a minute; if it stays so, UDP is blocked between the two, or its mesh key's secret differs",
                )  # fmt: skip

    def _reaches(self, sighting: Sighting) -> bool:
        return any(self._connects(address) for address in sighting.addresses)

    def _clones(self, view: View) -> Iterator[pb.Finding]:
        advice = (
            "on one of the two stop meshd, remove identity.key and identity.crt from its state folder, start it again"
        )
        reports = [event.report for event in self._board.wait_events(0, 0)[0]]
        for node, report in {r.subject: r for r in reports if r.kind == "member.cloned"}.items():
            yield _finding(
                "ERROR", "cloned_identity", _named(view, node),
                f"two devices run with this identity, at {report.detail.get('one')} and {report.detail.get('two')}", advice,
            )  # fmt: skip
        # One raise of the boot is an older disk put back; who must raise it again and again has a twin that does so too.
        if sum(report.kind == "boot.raised" for report in reports) >= RAISES_OF_A_CLONE:
            yield _finding(
                "ERROR", "cloned_identity", _named(view, view.me),
                "another device runs with this node's identity, which was copied with a disk", advice,
            )  # fmt: skip

    def _pairs(self, view: View) -> Iterator[pb.Finding]:
        for node, member in sorted(view.members.items()):
            for peer in member.unreachable:
                if _is_live(view, node) and _is_live(view, peer):
                    yield _finding(
                        "WARNING", "unreachable_pair", f"{_named(view, node)} to {_named(view, peer)}",
                        "datagrams pass between the two, links do not; plans avoid the pair",
                        "open TCP on the gossip port between them",
                    )  # fmt: skip


def _is_live(view: View, node: NodeId) -> bool:
    member = view.members.get(node)
    return member is not None and member.state in (State.ALIVE, State.SUSPECT)


def _named(view: View, node: str) -> str:
    member = view.members.get(NodeId(node))
    return f"{node} ({member.name})" if member is not None and member.name else node


def _finding(severity: str, kind: str, subject: str, says: str, advice: str) -> pb.Finding:
    return pb.Finding(severity="FINDING_SEVERITY_" + severity, kind=kind, subject=subject, says=says, advice=advice)


def _connects(address: Address) -> bool:
    try:
        with socket.create_connection((address.host, address.port), CONNECT_TIMEOUT_S):
            return True
    except OSError:
        return False
