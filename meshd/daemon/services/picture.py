"""The view as the admin API tells it: core values → messages, nothing decided.

Rule: what the answering node cannot know (bytes across a cut of a model it does not have) stays zero, never guessed.
"""

from collections.abc import Callable, Mapping

from meshd.core.ids import Digest, NodeId, SegmentId
from meshd.core.plan import LayerCost, Plan, Policy
from meshd.core.view import Holding, Member, Served, View
from meshd.v1 import admin_pb2 as pb

Costs = Callable[[Digest], tuple[LayerCost, ...] | None]
"""A model's layers, if it is on this node's disk."""
Kernels = Callable[[SegmentId], Mapping[str, int]]
"""Layers by kernel class of a segment this node holds."""


def status(view: View, costs: Costs, kernels: Kernels) -> pb.Status:
    """One picture of the mesh, without what only the daemon knows (listeners, uptime)."""
    picture = pb.Status(version=view.version, node_id=view.me)
    for _, member in sorted(view.members.items()):
        picture.nodes.append(_node(member, kernels if member.node == view.me else _unknown))
    for _, served in sorted(view.deployments.items()):
        picture.deployments.append(_deployment(served, costs(served.model)))
    picture.problems.extend(_problems(view))
    return picture


def policy(value: Policy) -> pb.DeployPolicy:
    """A policy as told."""
    return pb.DeployPolicy(
        replicas=value.replicas,
        objective="DEPLOY_OBJECTIVE_" + value.objective.name,
        segments_min=value.segments_min,
        memory_bytes_max=value.memory_bytes_max,
        keep_to=value.keep_to,
        avoid=value.avoid,
        keep_input=value.keep_input,
    )


def _unknown(_: SegmentId) -> Mapping[str, int]:
    return {}


def _node(member: Member, kernels: Kernels) -> pb.NodeStatus:
    capacity = member.capacity
    return pb.NodeStatus(
        id=member.node,
        name=member.name,
        state="MEMBER_STATE_" + member.state.name,
        boot=member.boot,
        incarnation=member.incarnation,
        addresses=[str(address) for address in member.addresses],
        software=member.version,
        memory_bytes=capacity.memory_bytes,
        free_bytes=capacity.free_bytes,
        rates=dict(capacity.rates),
        numeric=capacity.numeric,
        cores=capacity.cores,
        labels=capacity.labels,
        rtt_us=member.rtt_us,
        draining=member.draining,
        holdings=[_holding(holding, kernels) for holding in member.holdings],
        models=member.models,
        unreachable=member.unreachable,
    )


def _holding(holding: Holding, kernels: Kernels) -> pb.HoldingStatus:
    return pb.HoldingStatus(
        plan_digest=holding.segment.plan,
        segment=holding.segment.index,
        state="HOLD_STATE_" + holding.state.name,
        measured_us=holding.measured_us,
        reason=holding.reason,
        kernels=kernels(holding.segment),
    )


def _deployment(served: Served, costs: tuple[LayerCost, ...] | None) -> pb.DeploymentStatus:
    told = pb.DeploymentStatus(
        name=served.name,
        model=served.model,
        generation=served.generation,
        policy=policy(served.policy),
        conflict=served.conflict,
        problem=served.problem,
    )
    if served.plan is not None:
        told.serving.CopyFrom(_plan(served.plan, served.candidates, costs))
    if served.target is not None:
        told.target.CopyFrom(_plan(served.target, (), costs))
    return told


def _plan(plan: Plan, candidates: tuple[tuple[NodeId, ...], ...], costs: tuple[LayerCost, ...] | None) -> pb.PlanStatus:
    told = pb.PlanStatus(
        plan_digest=plan.plan_digest,
        generation=plan.generation,
        epoch=plan.epoch,
        planner=plan.planner,
        cost_us=plan.cost_us,
    )
    for index, part in enumerate(plan.segments):
        segment = told.segments.add(start=part.start, end=part.end, succession=part.succession)
        segment.candidates.extend(candidates[index] if index < len(candidates) else ())
        for tensor, encoding in part.crossing:
            segment.crossing.add(tensor=tensor, encoding=encoding.value)
        if costs is not None and part.end <= len(costs):
            if part.crossing:
                segment.crossing_bytes = costs[part.end - 1].crossing_bytes
            for layer in costs[part.start : part.end]:
                segment.classes[main_class(layer)] += 1
    return told


def main_class(layer: LayerCost) -> str:
    """The cost class that most of a layer's work is in (`steps` are overhead); `memory` where nothing is multiplied."""
    work = [(macs, name) for name, macs in layer.macs if name not in ("memory", "steps")]
    return max(work)[1] if work and max(work)[0] else "memory"


def _problems(view: View) -> list[str]:
    said = []
    for _, served in sorted(view.deployments.items()):
        if served.problem:
            said.append(f"deployment {served.name}: {served.problem}")
        if served.conflict:
            said.append(
                f"deployment {served.name}: deployed twice at once; settle it with: meshctl deploy {served.name}"
            )
    return said
