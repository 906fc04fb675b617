"""Control-link messages: `core.messages.LinkMessage` and back. Each room's messages are a table here or in a file of its own."""

import itertools
from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from meshd.config import BUCKETS, CONTROL_FRAME_BYTES_MAX, DEPLOYMENTS_MAX, MEMBERS_MAX
from meshd.core import messages as core
from meshd.core.ids import Boot
from meshd.errors import InvalidError, MisuseError
from meshd.v1 import control_pb2 as pb
from meshd.wire import codec_intent
from meshd.wire.codec_facts import COUNT_MAX, delta, put_delta
from meshd.wire.codec_gossip import certificate, intent, member_state, put_intent, put_rumour, rumour
from meshd.wire.fields import bounded, counted, node, node_bytes


def encode_link(message: core.LinkMessage) -> bytes:
    """Bytes of a control frame.

    Raises
    ------
    MisuseError
        It would be larger than CONTROL_FRAME_BYTES_MAX: the core packed too much.
    """
    out = pb.LinkMessage()
    _ENCODE[type(message)](out, message)
    data = out.SerializeToString(deterministic=True)
    if len(data) > CONTROL_FRAME_BYTES_MAX:
        raise MisuseError(f"a {type(message).__name__} of {len(data)} bytes; a frame has {CONTROL_FRAME_BYTES_MAX}")
    return data


def decode_link(data: bytes) -> core.LinkMessage:
    """The message in a control frame.

    Raises
    ------
    InvalidError
        Not a message, or a field out of its bounds; names the field.
    """
    if len(data) > CONTROL_FRAME_BYTES_MAX:
        raise InvalidError(f"a control frame of {len(data)} bytes; at most {CONTROL_FRAME_BYTES_MAX}")
    message = pb.LinkMessage()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise InvalidError(f"not a control message: {error}") from None
    kind = message.WhichOneof("body")
    if kind is None:
        raise InvalidError("a control message without a body, or of a newer protocol")
    decoded: core.LinkMessage = _DECODE[kind](getattr(message, kind))
    return decoded


# ---------------------------------------------------------------- anti-entropy


def _put_root(out: pb.LinkMessage, sync: core.SyncRoot) -> None:
    out.sync_root.root = sync.root
    out.sync_root.SetInParent()


def _put_buckets(out: pb.LinkMessage, sync: core.SyncBuckets) -> None:
    out.sync_buckets.hashes.extend(sync.hashes)


def _buckets(body: pb.SyncBuckets) -> core.SyncBuckets:
    if len(body.hashes) != BUCKETS:
        raise InvalidError(f"sync: {len(body.hashes)} bucket hashes, not {BUCKETS}")
    return core.SyncBuckets(tuple(body.hashes))


def _put_digests(out: pb.LinkMessage, sync: core.SyncDigests) -> None:
    out.sync_digests.buckets.extend(sync.buckets)
    for member in sync.members:
        _put_digest(out.sync_digests.members.add(), member)
    for each in sync.intents:
        put_intent(out.sync_digests.intents.add(), each)
    out.sync_digests.SetInParent()


def _digests(body: pb.SyncDigests) -> core.SyncDigests:
    buckets = tuple(counted(body.buckets, BUCKETS, "sync.buckets"))
    if any(b >= BUCKETS for b in buckets) or any(a >= b for a, b in itertools.pairwise(buckets)):
        raise InvalidError("sync: buckets rise, each below 256")
    return core.SyncDigests(
        buckets,
        tuple(_digest(each) for each in counted(body.members, MEMBERS_MAX, "sync.members")),
        tuple(intent(each) for each in counted(body.intents, DEPLOYMENTS_MAX, "sync.intents")),
    )


def _put_items(out: pb.LinkMessage, sync: core.SyncItems) -> None:
    for item in sync.members:
        to = out.sync_items.members.add()
        put_rumour(to.rumour, item.rumour)
        to.certificate, to.age_s = item.certificate, item.age_s
        if item.facts is not None:
            put_delta(to.facts, item.facts)
    for wanted in sync.wanted:
        _put_digest(out.sync_items.wanted.add(), wanted)
    for each in sync.intents:
        put_intent(out.sync_items.intents.add(), each)
    out.sync_items.SetInParent()


def _items(body: pb.SyncItems) -> core.SyncItems:
    return core.SyncItems(
        tuple(_item(each) for each in counted(body.members, MEMBERS_MAX, "sync.members")),
        tuple(_digest(each) for each in counted(body.wanted, MEMBERS_MAX, "sync.wanted")),
        tuple(intent(each) for each in counted(body.intents, DEPLOYMENTS_MAX, "sync.intents")),
    )


def _item(message: pb.MemberItem) -> core.MemberItem:
    item = core.MemberItem(
        rumour(message.rumour),
        certificate(message.certificate, least=0),
        delta(message.facts) if message.HasField("facts") else None,
        message.age_s,
    )
    if item.facts is not None and item.facts.node != item.rumour.subject:
        raise InvalidError("sync: facts of another node than the item's")
    return item


def _put_digest(to: pb.MemberDigest, member: core.MemberDigest) -> None:
    to.node, to.boot, to.incarnation = node_bytes(member.node), member.boot, member.incarnation
    to.state = member.state.value + 1  # type: ignore[assignment]
    to.facts_boot, to.facts_version = member.facts_boot, member.facts_version
    to.certificate_hash = member.certificate_hash


def _digest(message: pb.MemberDigest) -> core.MemberDigest:
    return core.MemberDigest(
        node(message.node, "sync.node"),
        Boot(message.boot),
        message.incarnation,
        member_state(message.state),
        Boot(message.facts_boot),
        bounded(message.facts_version, 0, COUNT_MAX, "sync.facts_version"),
        message.certificate_hash,
    )


_ENCODE: dict[type, Callable[[pb.LinkMessage, Any], None]] = {
    core.SyncRoot: _put_root,
    core.SyncBuckets: _put_buckets,
    core.SyncDigests: _put_digests,
    core.SyncItems: _put_items,
    **codec_intent.ENCODE,
}

_DECODE: dict[str, Callable[[Any], core.LinkMessage]] = {
    "sync_root": lambda body: core.SyncRoot(body.root),
    "sync_buckets": _buckets,
    "sync_digests": _digests,
    "sync_items": _items,
    **codec_intent.DECODE,
}
