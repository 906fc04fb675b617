"""Deployments, plans and negotiation: `core.intent_messages` and back, and what a node keeps of them on disk."""

from collections.abc import Callable, Iterable
from typing import Any

from meshd.config import (
    HEADS_MAX,
    LABEL_CHARS_MAX,
    LABELS_MAX,
    LAYERS_MAX,
    NAME_CHARS_MAX,
    PLANS_PER_DEPLOYMENT_MAX,
    RATES_MAX,
    SEGMENTS_MAX,
    SUCCESSION_MAX,
    TENSORS_PER_REQUEST_MAX,
    VECTOR_ENTRIES_MAX,
)
from meshd.core import intent_messages as core
from meshd.core.ids import Boot
from meshd.core.plan import Encoding, LayerCost, Objective, Plan, PlanSegment, Policy
from meshd.core.registry import Record
from meshd.errors import InvalidError
from meshd.v1 import intent_pb2 as pb
from meshd.wire.fields import bounded, counted, digest, node, node_bytes, put_digest, text

COUNT_MAX = (1 << 62) - 1
"""Of anything counted: room for sums in the solver without thought."""
REASON_CHARS_MAX = 256
KEY_BYTES_MAX, SIGNATURE_BYTES_MAX = 64, 128
HELD_MAX = 256
PLANS_TOLD_MAX = 2 * PLANS_PER_DEPLOYMENT_MAX
"""A plan that was just agreed is told before the oldest is forgotten."""


def _count(value: int, what: str, least: int = 0) -> int:
    return bounded(value, least, COUNT_MAX, what)


def _raw(value: bytes, most: int, what: str) -> bytes:
    bounded(len(value), 1, most, f"{what} (bytes)")
    return value


# ---------------------------------------------------------------- layers, crossings


def _put_layers(to: Any, layers: Iterable[LayerCost]) -> None:
    for layer in layers:
        message = to.add()
        message.weight_bytes, message.resident_bytes = layer.weight_bytes, layer.resident_bytes
        message.crossing_bytes = layer.crossing_bytes
        for kind, count in layer.macs:
            message.macs.add(kind=kind, count=count)


def _layers(messages: Any, what: str) -> tuple[LayerCost, ...]:
    bounded(len(messages), 1, LAYERS_MAX, f"{what} (count)")
    return tuple(
        LayerCost(
            tuple(
                (text(m.kind, LABEL_CHARS_MAX, f"{what}.kind"), _count(m.count, f"{what}.count"))
                for m in counted(layer.macs, RATES_MAX, f"{what}.macs")
            ),
            _count(layer.weight_bytes, f"{what}.weight_bytes"),
            _count(layer.resident_bytes, f"{what}.resident_bytes"),
            _count(layer.crossing_bytes, f"{what}.crossing_bytes"),
        )
        for layer in messages
    )


def _put_crossing(to: pb.Crossing, tensors: Iterable[tuple[str, str]]) -> None:
    for name, encoding in tensors:
        to.tensors.add(name=name, encoding=encoding)
    to.SetInParent()


def _crossing(message: pb.Crossing, what: str) -> tuple[tuple[str, str], ...]:
    return tuple(
        (text(t.name, NAME_CHARS_MAX, f"{what}.name"), _encoding(t.encoding, what).value)
        for t in counted(message.tensors, TENSORS_PER_REQUEST_MAX, what)
    )


def _encoding(value: str, what: str) -> Encoding:
    try:
        return Encoding(value)
    except ValueError:
        raise InvalidError(f"{what}: no encoding {value[:32]!r}") from None


# ---------------------------------------------------------------- records


def put_record(to: pb.DeploymentRecord, record: Record) -> None:
    """Write a deployment record."""
    to.name, to.model, to.input_bytes, to.retired = (
        record.name,
        put_digest(record.model),
        record.input_bytes,
        record.retired,
    )
    to.clock_us, to.key, to.signature = record.clock_us, record.key, record.signature
    _put_layers(to.layers, record.layers)
    for tensors in record.crossings:
        _put_crossing(to.crossings.add(), tensors)
    policy = record.policy
    to.policy.replicas, to.policy.objective = policy.replicas, policy.objective.value
    to.policy.segments_min, to.policy.memory_bytes_max = policy.segments_min, policy.memory_bytes_max
    to.policy.keep_to.extend(policy.keep_to)
    to.policy.avoid.extend(policy.avoid)
    to.policy.keep_input = policy.keep_input
    for (key, author, boot), count in record.vector:
        to.vector.add(key=key, node=node_bytes(author), boot=boot, count=count)


def record(message: pb.DeploymentRecord) -> Record:
    """Read a deployment record; its signature is checked by the registry."""
    layers = _layers(message.layers, "record.layers")
    if len(message.crossings) != len(layers) - 1:
        raise InvalidError(f"record: {len(message.crossings)} crossings for {len(layers)} layers")
    vector = tuple(
        (
            (_raw(v.key, KEY_BYTES_MAX, "vector.key"), node(v.node, "vector.node"), Boot(v.boot)),
            _count(v.count, "vector.count", 1),
        )
        for v in counted(message.vector, VECTOR_ENTRIES_MAX, "record.vector")
    )
    if list(vector) != sorted(vector) or len({author for author, _ in vector}) != len(vector) or not vector:
        raise InvalidError("record: a vector has at least one entry, and is sorted by author, each once")
    return Record(
        text(message.name, NAME_CHARS_MAX, "record.name", 1),
        digest(message.model, "record.model"),
        layers,
        tuple(_crossing(each, "record.crossing") for each in message.crossings),
        _count(message.input_bytes, "record.input_bytes"),
        _policy(message.policy, len(layers)),
        message.retired,
        vector,
        _count(message.clock_us, "record.clock_us"),
        _raw(message.key, KEY_BYTES_MAX, "record.key"),
        _raw(message.signature, SIGNATURE_BYTES_MAX, "record.signature"),
    )


def _policy(message: pb.DeploymentPolicy, layers: int) -> Policy:
    try:
        objective = Objective(message.objective)
    except ValueError:
        raise InvalidError(f"policy: no objective {message.objective[:32]!r}") from None
    return Policy(
        bounded(message.replicas, 1, SUCCESSION_MAX, "policy.replicas"),
        objective,
        bounded(message.segments_min, 1, min(SEGMENTS_MAX, layers), "policy.segments_min"),
        _count(message.memory_bytes_max, "policy.memory_bytes_max"),
        _labels(message.keep_to, "policy.keep_to"),
        _labels(message.avoid, "policy.avoid"),
        message.keep_input,
    )


def _labels(values: Any, what: str) -> tuple[str, ...]:
    return tuple(text(value, LABEL_CHARS_MAX, what, 1) for value in counted(values, LABELS_MAX, what))


# ---------------------------------------------------------------- plans


def put_plan(to: pb.PlanRecord, plan: Plan) -> None:
    """Write a plan record."""
    to.deployment, to.generation, to.epoch = plan.deployment, plan.generation, plan.epoch
    to.deployment_record, to.model = put_digest(plan.deployment_record), put_digest(plan.model)
    to.cost_us, to.planner, to.load_us = plan.cost_us, node_bytes(plan.planner), plan.load_us
    for span in plan.segments:
        message = to.segments.add(start=span.start, end=span.end)
        _put_crossing(message.crossing, ((name, encoding.value) for name, encoding in span.crossing))
        message.succession.extend(node_bytes(each) for each in span.succession)


def plan(message: pb.PlanRecord) -> Plan:
    """Read a plan record. Whether it fits its deployment is for `core.telling`."""
    bounded(len(message.segments), 1, SEGMENTS_MAX, "plan.segments (count)")
    return Plan(
        text(message.deployment, NAME_CHARS_MAX, "plan.deployment", 1),
        _count(message.generation, "plan.generation"),
        digest(message.deployment_record, "plan.deployment_record"),
        _count(message.epoch, "plan.epoch", 1),
        digest(message.model, "plan.model"),
        tuple(_segment(each) for each in message.segments),
        _count(message.cost_us, "plan.cost_us"),
        node(message.planner, "plan.planner"),
        _count(message.load_us, "plan.load_us"),
    )


def _segment(message: pb.PlanSegment) -> PlanSegment:
    bounded(message.end, message.start + 1, LAYERS_MAX, "plan.segment.end")
    succession = tuple(
        node(each, "plan.succession") for each in counted(message.succession, SUCCESSION_MAX, "plan.succession")
    )
    crossing = tuple((name, Encoding(kind)) for name, kind in _crossing(message.crossing, "plan.crossing"))
    return PlanSegment(message.start, message.end, crossing, succession)


# ---------------------------------------------------------------- one pair of functions a message


def _put_offer(out: Any, offer: core.Offer) -> None:
    out.offer.number, out.offer.deployment, out.offer.model = offer.number, offer.deployment, put_digest(offer.model)
    _put_layers(out.offer.layers, offer.layers)


def _offer(body: pb.Offer) -> core.Offer:
    return core.Offer(
        _count(body.number, "offer.number"),
        text(body.deployment, NAME_CHARS_MAX, "offer.deployment", 1),
        digest(body.model, "offer.model"),
        _layers(body.layers, "offer.layers"),
    )


def _put_bid(out: Any, bid: core.Bid) -> None:
    to = out.bid
    to.number, to.memory_bytes, to.on_disk, to.milliwatts = bid.number, bid.memory_bytes, bid.on_disk, bid.milliwatts
    to.layer_us.extend(bid.layer_us)
    for start, end in bid.held:
        to.held.add(start=start, end=end)


def _bid(body: pb.Bid) -> core.Bid:
    bounded(len(body.layer_us), 1, LAYERS_MAX, "bid.layer_us (count)")
    held = tuple(
        (each.start, bounded(each.end, each.start + 1, LAYERS_MAX, "bid.held.end"))
        for each in counted(body.held, HELD_MAX, "bid.held")
    )
    return core.Bid(
        _count(body.number, "bid.number"),
        # NB a layer's time is bounded lower than counts are, for the solver adds up to 512 of them and multiplies by watts.
        tuple(bounded(each, 0, 1 << 40, "bid.layer_us") for each in body.layer_us),
        _count(body.memory_bytes, "bid.memory_bytes"),
        held,
        body.on_disk,
        bounded(body.milliwatts, 0, 1 << 32, "bid.milliwatts"),
    )


def _put_decline(out: Any, decline: core.Decline) -> None:
    out.decline.number, out.decline.reason = decline.number, decline.reason[:REASON_CHARS_MAX]


def _put_award(out: Any, award: core.Award) -> None:
    out.award.number, out.award.gap = award.number, award.gap
    put_plan(out.award.plan, award.plan)


def _put_accept(out: Any, accept: core.Accept) -> None:
    out.accept.number = accept.number
    out.accept.SetInParent()


def _put_reject(out: Any, reject: core.Reject) -> None:
    out.reject.number, out.reject.reason = reject.number, reject.reason[:REASON_CHARS_MAX]


def _put_ask(out: Any, ask: core.IntentAsk) -> None:
    out.intent_ask.deployment = ask.deployment


def _put_tell(out: Any, tell: core.IntentTell) -> None:
    out.intent_tell.deployment = tell.deployment
    for each in tell.records:
        put_record(out.intent_tell.records.add(), each)
    for told in tell.plans:
        put_plan(out.intent_tell.plans.add(), told)


def _reason(body: Any, what: str) -> str:
    return text(body.reason, REASON_CHARS_MAX, f"{what}.reason")


ENCODE: dict[type, Callable[[Any, Any], None]] = {
    core.Offer: _put_offer,
    core.Bid: _put_bid,
    core.Decline: _put_decline,
    core.Award: _put_award,
    core.Accept: _put_accept,
    core.Reject: _put_reject,
    core.IntentAsk: _put_ask,
    core.IntentTell: _put_tell,
}

DECODE: dict[str, Callable[[Any], core.IntentMessage]] = {
    "offer": _offer,
    "bid": _bid,
    "decline": lambda body: core.Decline(_count(body.number, "decline.number"), _reason(body, "decline")),
    "award": lambda body: core.Award(_count(body.number, "award.number"), plan(body.plan), body.gap),
    "accept": lambda body: core.Accept(_count(body.number, "accept.number")),
    "reject": lambda body: core.Reject(_count(body.number, "reject.number"), _reason(body, "reject")),
    "intent_ask": lambda body: core.IntentAsk(text(body.deployment, NAME_CHARS_MAX, "ask.deployment", 1)),
    "intent_tell": lambda body: core.IntentTell(
        text(body.deployment, NAME_CHARS_MAX, "tell.deployment", 1),
        tuple(record(each) for each in counted(body.records, HEADS_MAX, "tell.records")),
        tuple(plan(each) for each in counted(body.plans, PLANS_TOLD_MAX, "tell.plans")),
    ),
}


def put_kept(to: pb.StoredIntent, kept: core.KeptIntent) -> None:
    """Write what is kept of a deployment."""
    to.epoch = kept.epoch
    for each in kept.records:
        put_record(to.records.add(), each)
    for told in kept.plans:
        put_plan(to.plans.add(), told)


def kept(message: pb.StoredIntent) -> core.KeptIntent:
    """Read what was kept of a deployment."""
    return core.KeptIntent(
        tuple(record(each) for each in counted(message.records, HEADS_MAX, "kept.records")),
        tuple(plan(each) for each in counted(message.plans, PLANS_TOLD_MAX, "kept.plans")),
        _count(message.epoch, "kept.epoch"),
    )
