"""A mesh of three as a view, for the services and the commands."""

from types import MappingProxyType

from meshd.core.ids import Address, Boot, Digest, NodeId, SegmentId
from meshd.core.plan import Encoding, Objective, Plan, PlanSegment, Policy
from meshd.core.view import Capacity, Hold, Holding, Member, Served, State, View

A, B, C = (NodeId(letter * 26) for letter in "abc")
MODEL = Digest("5" * 64)
PLAN = Plan(
    deployment="fashion",
    generation=3,
    deployment_record=Digest("d" * 64),
    epoch=2,
    model=MODEL,
    segments=(
        PlanSegment(0, 1, (("b", Encoding.SIGN_BITS),), (A, B)),
        PlanSegment(1, 2, (), (B, A)),
    ),
    cost_us=1_500,
    planner=B,
    load_us=2_000_000,
)


def member(node: NodeId, name: str, state: State = State.ALIVE, **rest: object) -> Member:
    """A member with some capacity."""
    capacity = Capacity(
        memory_bytes=1 << 30, free_bytes=3 << 28, rates=(("binary", 9_000_000_000), ("dense", 2_000_000_000)), cores=4,
        labels=("site=a",), host="h",
    )  # fmt: skip
    fields: dict[str, object] = {
        "node": node, "name": name, "state": state, "boot": Boot(5 << 32 | 77), "incarnation": 1,
        "addresses": (Address(f"10.0.0.{ord(node[0]) - 96}", 7946),), "version": "0.1.0", "capacity": capacity,
    }  # fmt: skip
    return Member(**{**fields, **rest})  # type: ignore[arg-type]


def view(version: int = 4) -> View:
    """A serves the first segment, B both; C is suspect; one deployment serves, one has a problem."""
    first, second = SegmentId(PLAN.plan_digest, 0), SegmentId(PLAN.plan_digest, 1)
    members = {
        A: member(A, "pi", holdings=(Holding(first, Hold.READY, 410), Holding(second, Hold.LOADING)), models=(MODEL,)),
        B: member(
            B, "nuc", rtt_us=430, holdings=(Holding(first, Hold.READY, 80), Holding(second, Hold.READY, 120)), unreachable=(C,)
        ),
        C: member(C, "old", State.SUSPECT, rtt_us=2_100, draining=True,
                  holdings=(Holding(first, Hold.FAILED, reason="out of memory"),)),
    }  # fmt: skip
    policy = Policy(segments_min=2, objective=Objective.THROUGHPUT, keep_to=("site=a",))
    deployments = {
        "fashion": Served("fashion", MODEL, 3, Digest("d" * 64), policy, PLAN, PLAN, candidates=((A, B), (B,))),
        "wake": Served("wake", Digest("6" * 64), 1, Digest("e" * 64), Policy(), None, None, problem="needs 80 MiB more memory"),
    }  # fmt: skip
    return View(version, A, Boot(5 << 32 | 77), MappingProxyType(members), MappingProxyType(deployments))
