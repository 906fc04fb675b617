"""When a deployment must be planned, and what a planner starts from. Repair is planning: there is no second protocol.

Rule 1: a segment that nobody live holds or is about to hold is planned at once; one short of copies after 10 s.
Rule 2: a listed node counts until it had time to load (60 s and twice the stated time), from when it was last seen to start.
Rule 3: a plan settles the shortage it was made with: it is looked at again when the mesh, or the shortage, changes, and now
and then by the first planner, for it may have been made while somebody could not answer.
Rule 4: what stands is kept; only gaps are planned.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from meshd.config import CANDIDATES_MAX, SUCCESSION_MAX, Timers
from meshd.core.bidding import layer_us
from meshd.core.events import Deploy
from meshd.core.ids import NodeId
from meshd.core.mesh import Mesh, bandwidth_bps
from meshd.core.placement import Kept, Problem, Site, shortfall
from meshd.core.plan import LayerCost, Plan, Policy
from meshd.core.registry import Record
from meshd.core.rng import Rng, draw
from meshd.core.view import Hold, Member


class Need(NamedTuple):
    """Why to plan. Compared to tell whether it is still the same one."""

    kind: str
    """`unplanned`, `lost`, `draining`, `short`."""
    after_us: int
    """From when it was noticed to when the first planner acts."""
    shortage: tuple[tuple[int, tuple[NodeId, ...]], ...] = ()
    """Segments short of copies, with the copies they have."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A target as it stands: its copies by segment."""

    plan: Plan
    copies: tuple[tuple[NodeId, ...], ...]
    wanted: tuple[int, ...]
    """Copies asked for and possible, by segment."""

    @property
    def shortage(self) -> tuple[tuple[int, tuple[NodeId, ...]], ...]:
        """Segments with fewer copies than asked for and possible."""
        return tuple((i, nodes) for i, nodes in enumerate(self.copies) if len(nodes) < self.wanted[i])

    def kept(self) -> tuple[Kept, ...]:
        """Its segments with the nodes that still stand for them."""
        return tuple(
            Kept(span.start, span.end, nodes) for span, nodes in zip(self.plan.segments, self.copies, strict=True)
        )


def standing(target: Plan, seen_us: int, record: Record, mesh: Mesh, timers: Timers, now_us: int) -> Standing:
    """Count the copies of each segment of `target`: held READY, or listed and with time left to load."""
    live = {member.node: member for member in mesh.live if mesh.may_serve(member, record.policy)}
    patience = timers.overdue_us + 2 * target.load_us
    copies = []
    for index, span in enumerate(target.segments):
        nodes = []
        for node in span.succession:
            if node in live and _counts(mesh, target, index, live[node], seen_us, patience, now_us):
                nodes.append(node)
        ready = (h.node for h in mesh.holders_of(target, index) if h.state is Hold.READY)
        copies.append((*nodes, *(node for node in ready if node in live and node not in span.succession)))
    able = sum(1 for member in live.values() if member.capacity.memory_bytes > 0 or member.node == mesh.me)
    wanted = [min(record.policy.replicas, able)] * len(copies)
    if record.policy.keep_input:
        wanted[0] = min(SUCCESSION_MAX, able)
    return Standing(target, tuple(copies), tuple(wanted))


def _counts(mesh: Mesh, target: Plan, index: int, member: Member, seen_us: int, patience: int, now_us: int) -> bool:
    state = mesh.holds(target, index, member.node)
    if state is Hold.READY:
        return True
    if state in {Hold.FAILED, Hold.DRAINING}:
        return False
    return now_us < max(seen_us, mesh.known_since_us(member)) + patience


def need(
    stands: Standing | None,
    settled: tuple[tuple[int, tuple[NodeId, ...]], ...],
    fresh: bool,
    mesh: Mesh,
    timers: Timers,
) -> Need | None:
    """Why the deployment must be planned, or None.

    Parameters
    ----------
    stands : the target as it stands; None where the effective record has no plan
    settled : the shortage the target was made with
    fresh : whether the mesh is as it was when the target came
    """
    if stands is None:
        return Need("unplanned", 0)
    shortage = stands.shortage
    if any(not nodes for _, nodes in shortage):
        return Need("lost", 0, shortage)
    if fresh and shortage == settled:
        return None
    listed = {node for span in stands.plan.segments for node in span.succession}
    if any(member.node in listed and mesh.drains(member) for member in mesh.live):
        # Though there are copies enough, some may be unlisted, left from an older plan: nobody lets go by leaning on those.
        return Need("draining", 0, shortage)
    return Need("short", timers.replace_after_us, shortage) if shortage else None


def silent_sites(stands: Standing, record: Record, mesh: Mesh) -> dict[NodeId, Site]:
    """Holders as the facts show them, should they not answer: they keep what they hold, and have no room for more."""
    sites = {}
    for member in mesh.live:
        spans = [
            (span.start, span.end)
            for span, nodes in zip(stands.plan.segments, stands.copies, strict=True)
            if member.node in nodes
        ]
        if spans:
            held = tuple(sorted(spans))
            taken = {at for start, end in held for at in range(start, end)}
            memory = sum(record.layers[at].resident_bytes for at in sorted(taken))
            times = layer_us(member.capacity.rates, record.layers)
            host, watts = member.capacity.host, int(member.capacity.watts * 1_000)
            sites[member.node] = Site(
                member.node, memory, times, bandwidth_bps(member), member.rtt_us, host, watts, held, True
            )
    return sites


def unreachable_pairs(mesh: Mesh) -> tuple[tuple[NodeId, NodeId], ...]:
    """Pairs of live nodes of which one says it cannot reach the other."""
    live = {member.node for member in mesh.live}
    return tuple(sorted({(m.node, peer) for m in mesh.live for peer in m.unreachable if peer in live}))


def admitted(mesh: Mesh, policy: Policy) -> list[Member]:
    """Members to make an offer to: alive, within the labels, not draining."""
    return [member for member in mesh.live if mesh.may_serve(member, policy)]


def candidates(able: list[Member], record: Record, standing: Collection[NodeId], rng: Rng) -> list[Member]:
    """Whom to ask of those able: all; in a large mesh those that hold something, the best by their facts, and a random quarter.

    By chance, for facts of a large mesh are old: who became free since is found in the end.
    """
    if len(able) <= CANDIDATES_MAX:
        return able
    work = Counter[str]()
    for layer in record.layers:
        work.update(dict(layer.macs))
    wanted_bytes = sum(layer.resident_bytes for layer in record.layers)

    def score(member: Member) -> tuple[bool, int, NodeId]:
        whole = LayerCost(tuple(sorted(work.items())), 0, 0, 0)
        (took_us,) = layer_us(member.capacity.rates, (whole,))
        room = min(member.capacity.free_bytes, wanted_bytes)
        return (member.node not in standing, took_us * wanted_bytes // max(1, room), member.node)

    ranked = sorted(able, key=score)
    best = ranked[: CANDIDATES_MAX * 3 // 4]
    return best + draw(rng, ranked[len(best) :], CANDIDATES_MAX - len(best))


def hopeless(command: Deploy, mesh: Mesh) -> str:
    """Why no plan can be, from the facts alone; empty where there may be one, or too little is known."""
    policy = command.policy
    members = admitted(mesh, policy)
    if any(member.capacity.memory_bytes <= 0 for member in mesh.live):
        return ""
    budgets = [(m.node, m.capacity.memory_bytes) for m in members]
    sites = tuple(
        Site(node, min(size, policy.memory_bytes_max or size), (1,) * len(command.layers)) for node, size in budgets
    )
    crossing = (0,) * (len(command.layers) + 1)
    lacking = shortfall(Problem(tuple(layer.resident_bytes for layer in command.layers), crossing, sites))
    return "" if lacking is None else lacking.reason
