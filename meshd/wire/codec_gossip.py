"""Datagram bodies: `core.messages.GossipMessage` and back."""

from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from meshd.config import (
    ADDRESSES_MAX,
    CERTIFICATE_BYTES_MAX,
    DATAGRAM_BODY_BYTES_MAX,
    INTENT_KEY_BYTES_MAX,
    NAME_CHARS_MAX,
    NEWS_A_DATAGRAM_MAX,
)
from meshd.core import messages as core
from meshd.core.ids import Boot
from meshd.core.view import State
from meshd.errors import InvalidError, MisuseError
from meshd.v1 import gossip_pb2 as pb
from meshd.wire.codec_facts import COUNT_MAX, delta, put_delta
from meshd.wire.fields import address, bounded, counted, node, node_bytes, put_address, text

HEALTH_MAX = 7


def encode_gossip(message: core.GossipMessage) -> bytes:
    """Bytes of a datagram's body.

    Raises
    ------
    MisuseError
        It would be larger than DATAGRAM_BODY_BYTES_MAX: the core packed too much.
    """
    out = pb.GossipMessage()
    _ENCODE[type(message)](out, message)
    data = out.SerializeToString(deterministic=True)
    if len(data) > DATAGRAM_BODY_BYTES_MAX:
        raise MisuseError(f"a {type(message).__name__} of {len(data)} bytes; a datagram has {DATAGRAM_BODY_BYTES_MAX}")
    return data


def decode_gossip(data: bytes) -> core.GossipMessage:
    """The message in a datagram's body.

    Raises
    ------
    InvalidError
        Not a message, or a field out of its bounds; names the field.
    """
    if len(data) > DATAGRAM_BODY_BYTES_MAX:
        raise InvalidError(f"a datagram of {len(data)} bytes; at most {DATAGRAM_BODY_BYTES_MAX}")
    message = pb.GossipMessage()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise InvalidError(f"not a gossip message: {error}") from None
    kind = message.WhichOneof("body")
    if kind is None:
        raise InvalidError("a gossip message without a body, or of a newer protocol")
    decoded: core.GossipMessage = _DECODE[kind](message, getattr(message, kind))
    return decoded


# ---------------------------------------------------------------- rumours, also in SyncItems


def put_rumour(to: pb.Rumour, rumour: core.Rumour) -> None:
    """Write a rumour."""
    to.state, to.subject = rumour.state.value + 1, node_bytes(rumour.subject)  # type: ignore[assignment]
    to.boot, to.incarnation = rumour.boot, rumour.incarnation
    for each in rumour.addresses:
        put_address(to.addresses.add(), each)
    to.certificate_hash = rumour.certificate_hash
    if rumour.accuser is not None:
        to.accuser = node_bytes(rumour.accuser)


def rumour(message: pb.Rumour) -> core.Rumour:
    """Read a rumour."""
    state = member_state(message.state)
    accuses = state in {State.SUSPECT, State.DEAD}
    if not accuses and message.accuser:
        raise InvalidError("rumour.accuser: only SUSPECT and DEAD have one")
    if state is not State.ALIVE and (message.addresses or message.certificate_hash):
        raise InvalidError("rumour.addresses: only ALIVE has them")
    return core.Rumour(
        state,
        node(message.subject, "rumour.subject"),
        Boot(message.boot),
        message.incarnation,
        tuple(address(a, "rumour.addresses") for a in counted(message.addresses, ADDRESSES_MAX, "rumour.addresses")),
        message.certificate_hash,
        node(message.accuser, "rumour.accuser") if accuses else None,
    )


def member_state(number: int) -> State:
    """A state from its number on the wire."""
    return State(bounded(number, 1, 4, "state") - 1)


def put_intent(to: pb.IntentRumour, intent: core.IntentRumour) -> None:
    """Write an intent rumour."""
    to.deployment, to.key = intent.deployment, intent.key


def intent(message: pb.IntentRumour) -> core.IntentRumour:
    """Read an intent rumour."""
    bounded(len(message.key), 1, INTENT_KEY_BYTES_MAX, "intent.key")
    return core.IntentRumour(text(message.deployment, NAME_CHARS_MAX, "intent.deployment", 1), message.key)


def certificate(data: bytes, least: int = 1) -> bytes:
    """A certificate of bounded length; what it says is for `identify`."""
    bounded(len(data), least, CERTIFICATE_BYTES_MAX, "certificate")
    return data


def _put_news(out: pb.GossipMessage, news: core.News) -> None:
    for each in news.rumours:
        put_rumour(out.rumours.add(), each)
    for facts in news.facts:
        put_delta(out.facts.add(), facts)
    for wanted in news.intents:
        put_intent(out.intents.add(), wanted)


def _news(message: pb.GossipMessage) -> core.News:
    if not (message.rumours or message.facts or message.intents):
        return core.NO_NEWS
    return core.News(
        tuple(rumour(each) for each in counted(message.rumours, NEWS_A_DATAGRAM_MAX, "rumours")),
        tuple(delta(each) for each in counted(message.facts, NEWS_A_DATAGRAM_MAX, "facts")),
        tuple(intent(each) for each in counted(message.intents, NEWS_A_DATAGRAM_MAX, "intents")),
    )


# ---------------------------------------------------------------- one pair of functions a message


def _put_ping(out: pb.GossipMessage, ping: core.Ping) -> None:
    out.ping.number, out.ping.health = ping.number, ping.health
    if ping.accusation is not None:
        to, accusation = out.ping.accusation, ping.accusation
        to.state, to.boot = accusation.state.value + 1, accusation.boot  # type: ignore[assignment]
        to.incarnation = accusation.incarnation
    _put_news(out, ping.news)


def _ping(message: pb.GossipMessage, body: pb.Ping) -> core.Ping:
    accusation = None
    if body.HasField("accusation"):
        held = body.accusation
        accusation = core.Accusation(member_state(held.state), Boot(held.boot), held.incarnation)
    return core.Ping(body.number, bounded(body.health, 0, HEALTH_MAX, "health"), accusation, _news(message))


def _put_ack(out: pb.GossipMessage, ack: core.Ack) -> None:
    out.ack.number, out.ack.health = ack.number, ack.health
    _put_news(out, ack.news)


def _ack(message: pb.GossipMessage, body: pb.Ack) -> core.Ack:
    return core.Ack(body.number, bounded(body.health, 0, HEALTH_MAX, "health"), _news(message))


def _put_ping_req(out: pb.GossipMessage, request: core.PingReq) -> None:
    out.ping_req.number, out.ping_req.target = request.number, node_bytes(request.target)
    put_address(out.ping_req.address, request.address)


def _ping_req(message: pb.GossipMessage, body: pb.PingReq) -> core.PingReq:
    return core.PingReq(body.number, node(body.target, "target"), address(body.address, "address"))


def _put_ping_req_ack(out: pb.GossipMessage, answer: core.PingReqAck) -> None:
    out.ping_req_ack.number, out.ping_req_ack.target = answer.number, node_bytes(answer.target)


def _put_nack(out: pb.GossipMessage, answer: core.Nack) -> None:
    out.nack.number, out.nack.target = answer.number, node_bytes(answer.target)


def _put_spread(out: pb.GossipMessage, spread: core.Spread) -> None:
    out.spread.SetInParent()
    _put_news(out, spread.news)


def _put_join(out: pb.GossipMessage, join: core.Join) -> None:
    out.join.certificate, out.join.nonce = join.certificate, join.nonce


def _put_join_ack(out: pb.GossipMessage, answer: core.JoinAck) -> None:
    to = out.join_ack
    to.certificate, to.nonce, to.returned = answer.certificate, answer.nonce, answer.returned


def _put_join_done(out: pb.GossipMessage, done: core.JoinDone) -> None:
    out.join_done.returned = done.returned
    out.join_done.SetInParent()


def _put_ask(out: pb.GossipMessage, ask: core.CertificateAsk) -> None:
    out.certificate_ask.SetInParent()


def _put_tell(out: pb.GossipMessage, tell: core.CertificateTell) -> None:
    out.certificate_tell.certificate = tell.certificate


def _put_facts_ask(out: pb.GossipMessage, ask: core.FactsAsk) -> None:
    to = out.facts_ask
    to.node, to.boot, to.version = node_bytes(ask.node), ask.boot, ask.version


def _facts_ask(body: pb.FactsAsk) -> core.FactsAsk:
    return core.FactsAsk(
        node(body.node, "facts_ask.node"), Boot(body.boot), bounded(body.version, 0, COUNT_MAX, "facts_ask.version")
    )


_ENCODE: dict[type, Callable[[pb.GossipMessage, Any], None]] = {
    core.Ping: _put_ping,
    core.Ack: _put_ack,
    core.PingReq: _put_ping_req,
    core.PingReqAck: _put_ping_req_ack,
    core.Nack: _put_nack,
    core.Spread: _put_spread,
    core.Join: _put_join,
    core.JoinAck: _put_join_ack,
    core.JoinDone: _put_join_done,
    core.CertificateAsk: _put_ask,
    core.CertificateTell: _put_tell,
    core.FactsAsk: _put_facts_ask,
}

_DECODE: dict[str, Callable[[pb.GossipMessage, Any], core.GossipMessage]] = {
    "ping": _ping,
    "ack": _ack,
    "ping_req": _ping_req,
    "ping_req_ack": lambda _, body: core.PingReqAck(body.number, node(body.target, "target")),
    "nack": lambda _, body: core.Nack(body.number, node(body.target, "target")),
    "spread": lambda message, _: core.Spread(_news(message)),
    "join": lambda _, body: core.Join(certificate(body.certificate), body.nonce),
    "join_ack": lambda _, body: core.JoinAck(certificate(body.certificate), body.nonce, body.returned),
    "join_done": lambda _, body: core.JoinDone(body.returned),
    "certificate_ask": lambda _, body: core.CertificateAsk(),
    "certificate_tell": lambda _, body: core.CertificateTell(certificate(body.certificate)),
    "facts_ask": lambda _, body: _facts_ask(body),
}
