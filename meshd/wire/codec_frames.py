"""Headers of data links: `core.journey.frames.Frame` and back, within limits.

Rule: what a header claims about its payload (`sizes`) is checked against the payload by `check_payload`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from meshd.config import (
    ATTEMPTS_MAX,
    HEADER_BYTES_MAX,
    HOPS_MAX,
    NAME_CHARS_MAX,
    POISON_DIGEST_BYTES,
    POISON_US,
    SEGMENTS_MAX,
    TENSORS_PER_REQUEST_MAX,
)
from meshd.core.ids import Boot, NodeId, node_id
from meshd.core.journey import frames as core
from meshd.errors import InvalidError, MisuseError
from meshd.v1 import link_pb2 as pb
from meshd.wire.fields import bounded, counted, digest, node, node_bytes, put_digest, text

MESSAGE_CHARS_MAX = 1_024
REASON_CHARS_MAX = 32
_BATCH_MAX = 1 << 20
_U64_MAX = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Hello:
    """First on every connection; on a data link again whenever `heard` changed."""

    protocol_version: int
    boot: Boot
    port: int
    number: int
    heard: int = 0


@dataclass(frozen=True, slots=True)
class Echo:
    """A link's own round trip: an `ask` is answered with the same number."""

    number: int
    ask: bool


Header = core.Frame | Hello | Echo


def encode_frame(frame: Header) -> bytes:
    """Bytes of a frame's header.

    Raises
    ------
    MisuseError
        Longer than `HEADER_BYTES_MAX`.
    """
    out = pb.DataHeader()
    _ENCODE[type(frame)](out, frame)
    data = out.SerializeToString()
    if len(data) > HEADER_BYTES_MAX:
        raise MisuseError(f"a {type(frame).__name__} header of {len(data)} bytes; at most {HEADER_BYTES_MAX}")
    return data


def decode_frame(data: bytes) -> Header:
    """The frame of a header.

    Raises
    ------
    InvalidError
        Not a header, or a field out of its bounds; names the field.
    """
    if len(data) > HEADER_BYTES_MAX:
        raise InvalidError(f"a header of {len(data)} bytes; at most {HEADER_BYTES_MAX}")
    message = pb.DataHeader()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise InvalidError(f"not a header: {error}") from None
    kind = message.WhichOneof("kind")
    if kind is None:
        raise InvalidError("a header without a kind, or of a newer protocol")
    try:
        decoded: Header = _DECODE[kind](getattr(message, kind))
    except InvalidError:
        raise
    except Exception as error:
        # A peer's bytes are in play: whatever this decoder fails on ends that peer's link, not the process.
        raise InvalidError(f"{kind}: makes no sense here: {error!r}") from error
    return decoded


def check_payload(frame: Header, payload_bytes: int) -> None:
    """Raise InvalidError unless the payload is as long as the header says."""
    said = sum(frame.sizes) if isinstance(frame, core.Forward | core.Answer) else 0
    if said != payload_bytes:
        raise InvalidError(f"{type(frame).__name__}: {said} bytes announced, {payload_bytes} came")


# ---------------------------------------------------------------- parts


def _put_request(to: pb.RequestId, request: core.RequestId) -> None:
    to.entry, to.boot, to.number = node_bytes(request.entry), request.boot, request.number


def _request(m: pb.RequestId) -> core.RequestId:
    return core.RequestId(node(m.entry, "request.entry"), Boot(m.boot), m.number)


def _attempt(value: int, least: int = 1) -> int:
    return bounded(value, least, ATTEMPTS_MAX, "attempt")


def _put_leg(to: pb.Leg, leg: core.Leg) -> None:
    _put_request(to.request, leg.request)
    to.attempt, to.segment = leg.attempt, leg.segment


def _leg(m: pb.Leg) -> core.Leg:
    return core.Leg(_request(m.request), _attempt(m.attempt), bounded(m.segment, 0, SEGMENTS_MAX - 1, "segment"))


def _put_spent(to: pb.Spent, spent: core.Spent) -> None:
    to.queue_us, to.compute_us, to.hops, to.lost = spent.queue_us, spent.compute_us, spent.hops, spent.lost


def _spent(m: pb.Spent) -> core.Spent:
    return core.Spent(m.queue_us, m.compute_us, m.hops, m.lost)


def _sizes(values: Any) -> tuple[int, ...]:
    return tuple(counted(values, TENSORS_PER_REQUEST_MAX, "sizes"))


# ---------------------------------------------------------------- each kind


def _put_hello(out: pb.DataHeader, f: Hello) -> None:
    out.hello.CopyFrom(hello_message(f))


def hello_message(f: Hello) -> pb.Hello:
    """As protobuf; links of every kind start with one."""
    return pb.Hello(protocol_version=f.protocol_version, boot=f.boot, port=f.port, number=f.number, heard=f.heard)


def hello_value(m: pb.Hello) -> Hello:
    """From protobuf."""
    port = bounded(m.port, 1, 65_535, "hello.port")
    return Hello(m.protocol_version, Boot(m.boot), port, bounded(m.number, 1, _U64_MAX, "hello.number"), m.heard)


def _put_forward(out: pb.DataHeader, f: core.Forward) -> None:
    m = out.forward
    _put_leg(m.leg, f.leg)
    m.deployment, m.plan, m.deadline_us = f.deployment, put_digest(f.plan), f.deadline_us
    m.hops_left, m.batch = f.hops_left, f.batch
    m.sizes.extend(f.sizes)
    for candidates in f.route:
        m.route.add().nodes = b"".join(map(node_bytes, candidates))
    _put_spent(m.spent, f.spent)


def _forward(m: pb.Forward) -> core.Forward:
    leg = _leg(m.leg)
    return core.Forward(
        request=leg.request,
        attempt=leg.attempt,
        deployment=text(m.deployment, NAME_CHARS_MAX, "deployment", 1),
        plan=digest(m.plan, "plan"),
        segment=leg.segment,
        deadline_us=m.deadline_us,
        hops_left=bounded(m.hops_left, 0, HOPS_MAX, "hops_left"),
        batch=bounded(m.batch, 1, _BATCH_MAX, "batch"),
        sizes=_sizes(m.sizes),
        route=tuple(
            _nodes(c.nodes, core.ROUTE_CANDIDATES_MAX, "route") for c in counted(m.route, SEGMENTS_MAX - 1, "route")
        ),
        spent=_spent(m.spent),
    )


def _nodes(joined: bytes, most: int, what: str) -> tuple[NodeId, ...]:
    count, rest = divmod(len(joined), 16)
    if rest or count > most:
        raise InvalidError(f"{what}: {len(joined)} bytes are not 0 to {most} node ids")
    return tuple(node_id(joined[n : n + 16]) for n in range(0, len(joined), 16))


def _put_ack(out: pb.DataHeader, f: core.Ack) -> None:
    _put_leg(out.ack.leg, f.leg)
    out.ack.queue_us = f.queue_us


def _put_busy(out: pb.DataHeader, f: core.Busy) -> None:
    _put_leg(out.busy.leg, f.leg)
    out.busy.queue_us = f.queue_us


def _put_not_held(out: pb.DataHeader, f: core.NotHeld) -> None:
    _put_leg(out.not_held.leg, f.leg)


def _put_cancel(out: pb.DataHeader, f: core.Cancel) -> None:
    _put_request(out.cancel.request, f.request)
    out.cancel.attempt = f.attempt


def _put_lost(out: pb.DataHeader, f: core.Lost) -> None:
    out.lost.node = node_bytes(f.node)
    out.lost.before = b"".join(map(node_bytes, f.before))
    out.lost.suspected = f.suspected
    for leg in f.legs:
        _put_leg(out.lost.legs.add(), leg)


def _lost(m: pb.Lost) -> core.Lost:
    return core.Lost(
        node(m.node, "lost.node"),
        tuple(_leg(leg) for leg in counted(m.legs, core.LEGS_PER_LOST_MAX, "lost.legs")),
        _nodes(m.before, core.LOST_BEFORE_MAX, "lost.before"),
        m.suspected,
    )


def _put_answer(out: pb.DataHeader, f: core.Answer) -> None:
    m = out.answer
    _put_request(m.request, f.request)
    m.attempt, m.plan, m.batch = f.attempt, put_digest(f.plan), f.batch
    m.sizes.extend(f.sizes)
    _put_spent(m.spent, f.spent)


def _answer(m: pb.Answer) -> core.Answer:
    return core.Answer(
        request=_request(m.request),
        attempt=_attempt(m.attempt),
        plan=digest(m.plan, "plan"),
        batch=bounded(m.batch, 1, _BATCH_MAX, "batch"),
        sizes=_sizes(m.sizes),
        spent=_spent(m.spent),
    )


def _put_failed(out: pb.DataHeader, f: core.Failed) -> None:
    m, failure = out.failed, f.failure
    _put_request(m.request, f.request)
    m.attempt, m.code, m.reason = f.attempt, failure.code, failure.reason.value
    m.message, m.deployment = failure.message[:MESSAGE_CHARS_MAX], failure.deployment
    m.segment_plus_1, m.retry_after_us = failure.segment + 1, failure.retry_after_us
    if failure.node:
        m.node = node_bytes(failure.node)


def _failed(m: pb.Failed) -> core.Failed:
    try:
        code, reason = core.Code(m.code), core.Reason(text(m.reason, REASON_CHARS_MAX, "failed.reason"))
    except ValueError:
        raise InvalidError(f"failed: code {m.code} and reason {m.reason[:32]!r} are not of the closed set") from None
    failure = core.Failure(
        code=code,
        reason=reason,
        message=_message(m.message),
        deployment=text(m.deployment, NAME_CHARS_MAX, "failed.deployment"),
        segment=bounded(m.segment_plus_1, 0, SEGMENTS_MAX, "failed.segment_plus_1") - 1,
        node=node(m.node, "failed.node") if m.node else NodeId(""),
        retry_after_us=m.retry_after_us,
    )
    return core.Failed(_request(m.request), _attempt(m.attempt), failure)


def _message(value: str) -> str:
    # An error's words may hold line ends; they are for people and are shown, not parsed.
    if len(value) > MESSAGE_CHARS_MAX:
        raise InvalidError(f"failed.message: {len(value)} characters; at most {MESSAGE_CHARS_MAX}")
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in value)


def _put_poison(out: pb.DataHeader, f: core.Poison) -> None:
    out.poison.digest, out.poison.left_us, out.poison.witness = f.digest, f.left_us, node_bytes(f.witness)
    if f.boot is not None:
        out.poison.boot = f.boot


def _poison(m: pb.Poison) -> core.Poison:
    if len(m.digest) != POISON_DIGEST_BYTES:
        raise InvalidError(f"poison.digest: {len(m.digest)} bytes, not {POISON_DIGEST_BYTES}")
    left_us = bounded(m.left_us, 1, POISON_US, "poison.left_us")
    return core.Poison(
        m.digest, left_us, node(m.witness, "poison.witness"), Boot(m.boot) if m.HasField("boot") else None
    )


def _put_echo(out: pb.DataHeader, f: Echo) -> None:
    if f.ask:
        out.echo_ask = f.number
    else:
        out.echo = f.number


_ENCODE: dict[type, Callable[[pb.DataHeader, Any], None]] = {
    Hello: _put_hello,
    Echo: _put_echo,
    core.Forward: _put_forward,
    core.Ack: _put_ack,
    core.Busy: _put_busy,
    core.NotHeld: _put_not_held,
    core.Cancel: _put_cancel,
    core.Lost: _put_lost,
    core.Answer: _put_answer,
    core.Failed: _put_failed,
    core.Poison: _put_poison,
}
_DECODE: dict[str, Callable[[Any], Header]] = {
    "hello": hello_value,
    "echo_ask": lambda number: Echo(number, True),
    "echo": lambda number: Echo(number, False),
    "forward": _forward,
    "ack": lambda m: core.Ack(_leg(m.leg), m.queue_us),
    "busy": lambda m: core.Busy(_leg(m.leg), m.queue_us),
    "not_held": lambda m: core.NotHeld(_leg(m.leg)),
    "cancel": lambda m: core.Cancel(_request(m.request), _attempt(m.attempt, 0)),
    "lost": _lost,
    "answer": _answer,
    "failed": _failed,
    "poison": _poison,
}
