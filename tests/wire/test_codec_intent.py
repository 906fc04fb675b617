"""Deployments, plans and the negotiation survive the wire and the disk, and what is out of bounds is refused by name."""

from dataclasses import replace
from typing import Any

import pytest

from meshd.core import intent_messages as core
from meshd.core.ids import Boot, Digest, node_id
from meshd.core.plan import Encoding, LayerCost, Objective, Plan, PlanSegment, Policy
from meshd.core.registry import Record
from meshd.errors import InvalidError
from meshd.v1 import control_pb2
from meshd.wire import codec

A, B = node_id(bytes(range(16))), node_id(bytes(range(16, 32)))
MODEL = Digest("ab" * 32)
LAYERS = (LayerCost((("binary", 5), ("dense", 1 << 40)), 10, 20, 30), LayerCost((), 0, 0, 4))
RECORD = Record(
    "camera",
    MODEL,
    LAYERS,
    ((("relu", "sign_bits"), ("skip", "float32")),),
    784,
    Policy(3, Objective.ENERGY, 2, 1 << 30, ("gpu=no",), ("room=attic",), True),
    False,
    (((b"k" * 32, A, Boot(5)), 2), ((b"k" * 32, B, Boot(1 << 40)), 1)),
    1_700_000_000_000_000,
    b"k" * 32,
    b"s" * 64,
)
PLAN = Plan(
    "camera",
    3,
    RECORD.digest,
    7,
    MODEL,
    (PlanSegment(0, 1, (("relu", Encoding.SIGN_BITS),), (A, B)), PlanSegment(1, 2, (), (B,))),
    12_345,
    A,
    5_000_000,
)
MESSAGES: list[Any] = [
    core.Offer(1, "camera", MODEL, LAYERS),
    core.Bid(1, (5, 6), 1 << 30, ((0, 1),), True, 4_500),
    core.Decline(1, "draining"),
    core.Award(2, PLAN, True),
    core.Accept(0),
    core.Reject(2, "the memory was taken meanwhile"),
    core.IntentAsk("camera"),
    core.IntentTell("camera", (RECORD, replace(RECORD, retired=True)), (PLAN,)),
    core.IntentTell("camera", (), ()),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_a_message_survives_the_wire(message: Any) -> None:
    again = codec.decode_link(codec.encode_link(message))
    assert again == message
    assert repr(again) == repr(message)  # Digests of records and plans too, which take no part in equality.


def test_what_is_kept_comes_back() -> None:
    kept = core.KeptIntent((RECORD,), (PLAN,), 9)
    assert codec.decode_value("intent/camera", codec.encode_value("intent/camera", kept)) == kept


def _broken(change: str) -> control_pb2.LinkMessage:
    message = control_pb2.LinkMessage()
    message.ParseFromString(codec.encode_link(MESSAGES[7]))
    record, plan = message.intent_tell.records[0], message.intent_tell.plans[0]
    match change:
        case "plan.segment.end":
            plan.segments[0].end = 0
        case "plan.epoch":
            plan.epoch = 0
        case "plan.succession":
            plan.segments[0].succession.extend([b"x" * 16] * 20)
        case "crossings for":
            record.crossings.add()
        case "sorted by author":
            record.vector.add().CopyFrom(record.vector[0])
        case "no objective":
            record.policy.objective = "speed"
        case "no encoding":
            record.crossings[0].tensors[0].encoding = "float8"
        case "policy.replicas":
            record.policy.replicas = 0
        case "record.layers":
            del record.layers[:]
        case "record.signature":
            record.signature = b""
        case "record.clock_us":
            record.clock_us = 1 << 63
    return message


@pytest.mark.parametrize(
    "change",
    [
        "plan.segment.end", "plan.epoch", "plan.succession", "crossings for", "sorted by author", "no objective",
        "no encoding", "policy.replicas", "record.layers", "record.signature", "record.clock_us",
    ],
)  # fmt: skip
def test_what_is_out_of_bounds_is_refused_by_name(change: str) -> None:
    with pytest.raises(InvalidError, match=change):
        codec.decode_link(_broken(change).SerializeToString())
