"""Reading a mesh's status: who sees whom, who serves what, whether every segment has its copies. Pure functions of `Status`."""

from meshd.demo.report import SegmentReport
from meshd.v1 import admin_pb2 as pb
from meshd.v1.gossip_pb2 import HOLD_STATE_READY, MEMBER_STATE_ALIVE

KERNELS = ("binary", "sparse", "dense")


def names(status: pb.Status) -> dict[str, str]:
    """Node id → the name people gave it."""
    return {node.id: node.name for node in status.nodes}


def alive(status: pb.Status) -> set[str]:
    """Ids of nodes that are ALIVE there."""
    return {node.id for node in status.nodes if node.state == MEMBER_STATE_ALIVE}


def deployment(status: pb.Status, name: str) -> pb.DeploymentStatus | None:
    """The deployment of that name."""
    return next((d for d in status.deployments if d.name == name), None)


def copies(status: pb.Status, name: str) -> list[list[str]]:
    """For each segment of the serving plan, the live nodes that hold it READY; empty if nothing serves."""
    found = deployment(status, name)
    if found is None or not found.HasField("serving"):
        return []
    held: dict[tuple[str, int], list[str]] = {}
    for node in status.nodes:
        for holding in node.holdings:
            if node.state == MEMBER_STATE_ALIVE and holding.state == HOLD_STATE_READY:
                held.setdefault((holding.plan_digest, holding.segment), []).append(node.id)
    plan = found.serving
    return [held.get((plan.plan_digest, index), []) for index in range(len(plan.segments))]


def has_copies(status: pb.Status, name: str) -> bool:
    """Every segment of what serves has the copies asked for, or one on every live node."""
    found, held = deployment(status, name), copies(status, name)
    if found is None or not held:
        return False
    wanted = min(found.policy.replicas or 2, len(alive(status)))
    return all(len(nodes) >= wanted for nodes in held)


def owner(status: pb.Status, name: str, segment: int) -> str:
    """Id of the node that requests ask first for that segment."""
    found = deployment(status, name)
    assert found is not None
    part = found.serving.segments[segment]
    return (part.candidates or part.succession)[0]


def segments(status: pb.Status, name: str, kernels: dict[tuple[str, int], dict[str, int]]) -> tuple[SegmentReport, ...]:
    """The serving plan for the report. `kernels[owner id, segment]` counts layers by the kernels that owner runs."""
    found, called = deployment(status, name), names(status)
    assert found is not None
    parts = []
    for index, part in enumerate(found.serving.segments):
        first, *rest = part.candidates or part.succession
        counted = kernels.get((first, index), {})
        parts.append(
            SegmentReport(
                start=part.start,
                end=part.end,
                owner=called.get(first, first),
                standbys=tuple(called.get(node, node) for node in rest),
                crossing_bytes=part.crossing_bytes,
                kernels={kind: counted.get(kind, 0) for kind in KERNELS},
            )
        )
    return tuple(parts)
