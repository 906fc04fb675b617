"""What `-o json` and `-o yaml` print: messages of the admin API as plain documents, stable within `meshd/v1`.

Rule 1: keys are never renamed or dropped within a version; new ones may come.
Rule 2: what is unknown is null or an empty list, never left out. Times in `_us`, sizes in `_bytes`.
"""

from collections.abc import Iterable
from typing import Any

from meshd.v1 import admin_pb2 as pb
from meshd.v1 import gossip_pb2

API_VERSION = "meshd/v1"
Document = dict[str, Any]


def document(kind: str, **content: Any) -> Document:
    """A document with its head."""
    return {"apiVersion": API_VERSION, "kind": kind, **content}


def done(action: str, subject: str | None, detail: str, **more: Any) -> Document:
    """Kind `Done`: a command that changes something, or waits, ended well. `detail` is for people and may change."""
    return document("Done", action=action, subject=subject, detail=detail, **more)


def status(told: pb.Status) -> Document:
    """Kind `Status`."""
    return document(
        "Status",
        node=told.node_id,
        mesh=told.mesh_id or None,
        uptime_us=told.uptime_us,
        version=told.version,
        nodes=[node(each) for each in told.nodes],
        deployments=[deployment(each) for each in told.deployments],
        listeners=[{"role": each.role, "address": each.address} for each in told.listeners],
        problems=list(told.problems),
    )


def node(told: pb.NodeStatus) -> Document:
    """A member, as in `Status` and `NodeList`; of kind `Node` alone."""
    return {
        "id": told.id,
        "name": told.name,
        "state": _word(gossip_pb2.MemberState.Name(told.state), "MEMBER_STATE_"),
        "boot": told.boot,
        "incarnation": told.incarnation,
        "addresses": list(told.addresses),
        "software": told.software,
        "memory_bytes": told.memory_bytes,
        "free_bytes": told.free_bytes,
        "rates": dict(sorted(told.rates.items())),
        "numeric": told.numeric,
        "cores": told.cores,
        "labels": list(told.labels),
        "rtt_us": told.rtt_us,
        "draining": told.draining,
        "holdings": [_holding(each) for each in told.holdings],
        "models": list(told.models),
        "unreachable": list(told.unreachable),
    }


def _holding(told: pb.HoldingStatus) -> Document:
    return {
        "plan_digest": told.plan_digest,
        "segment": told.segment,
        "state": _word(gossip_pb2.HoldState.Name(told.state), "HOLD_STATE_"),
        "measured_us": told.measured_us,
        "reason": told.reason,
        "kernels": dict(sorted(told.kernels.items())),
    }


def deployment(told: pb.DeploymentStatus) -> Document:
    """A deployment, as in `Status`; of kind `Deployment` alone."""
    return {
        "name": told.name,
        "model": told.model,
        "generation": told.generation,
        "policy": _policy(told.policy),
        "serving": plan(told.serving) if told.HasField("serving") else None,
        "target": plan(told.target) if told.HasField("target") else None,
        "conflict": told.conflict,
        "problem": told.problem,
    }


def deployment_in_full(told: pb.DeploymentStatus, nodes: Iterable[pb.NodeStatus]) -> Document:
    """Kind `Deployment`; `nodes` maps ids to the names people gave."""
    return document("Deployment", **deployment(told), nodes={each.id: each.name for each in nodes})


def _policy(told: pb.DeployPolicy) -> Document:
    return {
        "replicas": told.replicas,
        "objective": _word(pb.DeployObjective.Name(told.objective), "DEPLOY_OBJECTIVE_"),
        "segments_min": told.segments_min,
        "memory_bytes_max": told.memory_bytes_max,
        "keep_to": list(told.keep_to),
        "avoid": list(told.avoid),
        "keep_input": told.keep_input,
    }


def plan(told: pb.PlanStatus) -> Document:
    """A plan, as in `Deployment`."""
    return {
        "plan_digest": told.plan_digest,
        "generation": told.generation,
        "epoch": told.epoch,
        "planner": told.planner,
        "cost_us": told.cost_us,
        "segments": [
            {
                "start": part.start,
                "end": part.end,
                "owner": part.candidates[0] if part.candidates else None,
                "standbys": list(part.candidates[1:]),
                "succession": list(part.succession),
                "crossing": [{"tensor": each.tensor, "encoding": each.encoding} for each in part.crossing],
                "crossing_bytes": part.crossing_bytes,
                "classes": dict(sorted(part.classes.items())),
            }
            for part in told.segments
        ],
    }


def model(told: pb.ModelSummary) -> Document:
    """A model, as in `ModelList`."""
    return {
        "digest": told.digest,
        "name": told.name,
        "weight_bytes": told.weight_bytes,
        "layer_count": told.layer_count,
        "whole": told.whole,
        "deployments": list(told.deployments),
    }


def model_in_full(told: pb.GetModelResponse) -> Document:
    """Kind `Model`."""
    return document(
        "Model",
        **model(told.summary),
        inputs=_ports(told.inputs),
        outputs=_ports(told.outputs),
        layers=[
            {
                "macs": dict(sorted(each.macs.items())),
                "weight_bytes": each.weight_bytes,
                "resident_bytes": each.resident_bytes,
                "crossing_bytes": each.crossing_bytes,
                "operators": list(each.operators),
                "structures": list(each.structures),
            }
            for each in told.layers
        ],
    )


def _ports(told: Iterable[Any]) -> list[Document]:
    return [{"name": each.name, "dtype": each.type.dtype, "shape": list(each.type.shape)} for each in told]


def event(told: pb.MeshEvent, missed: int) -> Document:
    """Kind `Event`."""
    return document(
        "Event",
        sequence=told.sequence,
        wall_us=told.wall_us,
        event=told.kind,
        subject=told.subject,
        detail=dict(sorted(told.detail.items())),
        missed=missed,
    )


def finding(told: pb.Finding) -> Document:
    """What the doctor found, as in `Diagnosis`."""
    return {
        "severity": _word(pb.FindingSeverity.Name(told.severity), "FINDING_SEVERITY_"),
        "finding": told.kind,
        "subject": told.subject,
        "says": told.says,
        "advice": told.advice,
    }


def token(told: pb.TokenEntry) -> Document:
    """A token, as in `TokenList`."""
    return {"name": told.name, "role": told.role, "created_s": told.created_s}


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower()
