"""Facts on the wire: deltas, in datagrams and in SyncItems."""

import itertools
from functools import lru_cache

from meshd.config import (
    DELTAS_REMEMBERED_MAX,
    FACT_ENTRIES_MAX,
    LABEL_CHARS_MAX,
    LABELS_MAX,
    NEWS_BYTES_MAX,
    RATES_MAX,
    SEGMENTS_MAX,
)
from meshd.core.ids import Boot, SegmentId
from meshd.core.messages import Fact, FactKey, FactsDelta, FactValue, Hardware, Held, LinkState, OnDisk, Spare
from meshd.core.view import Hold
from meshd.errors import InvalidError
from meshd.v1 import gossip_pb2 as pb
from meshd.wire.fields import bounded, counted, digest, node, node_bytes, put_digest, text

_SINGLES: dict[str, int] = {"hardware": 1, "capacity": 2}
_SINGLES_BACK: dict[int, FactKey] = {number: name for name, number in _SINGLES.items()}
_HOLDS = {hold: number for number, hold in enumerate(Hold, start=1)}
_HOLDS_BACK = {number: hold for hold, number in _HOLDS.items()}
COUNT_MAX = (1 << 53) - 1
"""No rate, size or time is greater: sums of them stay exact everywhere."""


def put_delta(message: pb.FactsDelta, delta: FactsDelta) -> None:
    """Write a delta."""
    message.node, message.boot = node_bytes(delta.node), delta.boot
    message.base, message.version = delta.base, delta.version
    message.whole, message.floor = delta.whole, delta.floor
    for fact in delta.entries:
        entry = message.entries.add()
        entry.version = fact.version
        _put_key(entry, fact.key)
        if fact.value is not None:
            _put_value(entry, fact.value)


def delta(message: pb.FactsDelta) -> FactsDelta:
    """Read a delta: versions rise within (base, version], keys fit values; cut or with a floor, not both.

    Gossip brings the same one from many peers: those that fit a datagram are read once and remembered by their bytes.
    """
    if message.ByteSize() > NEWS_BYTES_MAX:
        return _read(message)
    return _remembered(message.SerializeToString(deterministic=True))


@lru_cache(maxsize=DELTAS_REMEMBERED_MAX)
def _remembered(data: bytes) -> FactsDelta:
    return _read(pb.FactsDelta.FromString(data))


def _read(message: pb.FactsDelta) -> FactsDelta:
    facts = []
    last = message.base
    for entry in counted(message.entries, FACT_ENTRIES_MAX, "facts"):
        if not last < entry.version <= message.version:
            raise InvalidError(f"facts: version {entry.version} after {last}, in a delta to {message.version}")
        last = entry.version
        facts.append(Fact(_key(entry), entry.version, _value(entry)))
    bounded(message.version, message.base, COUNT_MAX, "facts.version")
    if message.whole:
        bounded(message.whole, message.version + 1, COUNT_MAX, "facts.whole")
    bounded(message.floor, 0, 0 if message.base or message.whole else message.version, "facts.floor")
    return FactsDelta(
        node(message.node, "facts.node"), Boot(message.boot), message.base, message.version, tuple(facts),
        message.whole, message.floor,
    )  # fmt: skip


def _put_key(entry: pb.Fact, key: FactKey) -> None:
    if isinstance(key, str):
        entry.single = _SINGLES[key]
    elif isinstance(key, SegmentId):
        entry.hold.plan, entry.hold.index = put_digest(key.plan), key.index
    elif key[0] == "link":
        entry.link = node_bytes(key[1])
    else:
        entry.disk = put_digest(key[1])  # type: ignore[arg-type]


def _key(entry: pb.Fact) -> FactKey:
    match entry.WhichOneof("key"):
        case "single":
            if entry.single not in _SINGLES_BACK:
                raise InvalidError(f"facts: no single fact has the number {entry.single}")
            return _SINGLES_BACK[entry.single]
        case "link":
            return ("link", node(entry.link, "facts.link"))
        case "disk":
            return ("disk", digest(entry.disk, "facts.disk"))
        case "hold":
            index = bounded(entry.hold.index, 0, SEGMENTS_MAX - 1, "facts.hold.index")
            return SegmentId(digest(entry.hold.plan, "facts.hold.plan"), index)
    raise InvalidError("facts: a fact without a key")


def _put_value(entry: pb.Fact, value: FactValue) -> None:
    match value:
        case Hardware():
            to = entry.hardware
            to.name, to.software, to.host, to.numeric = value.name, value.software, value.host, value.numeric
            to.cores, to.memory_bytes, to.milliwatts = value.cores, value.memory_bytes, value.milliwatts
            to.labels.extend(value.labels)
        case Spare():
            entry.capacity.free_bytes, entry.capacity.draining = value.free_bytes, value.draining
            for cost_class, per_second in value.rates:
                entry.capacity.rates.add(cost_class=cost_class, per_second=per_second)
        case LinkState():
            entry.link_state.rtt_us, entry.link_state.bandwidth_bps = value.rtt_us, value.bandwidth_bps
            entry.link_state.unreachable = value.unreachable
        case Held():
            hold = entry.hold_state
            hold.state, hold.reason = _HOLDS[value.state], value.reason  # type: ignore[assignment]
            hold.measured_us, hold.ready_for_us = value.measured_us, value.ready_for_us
        case OnDisk():
            entry.on_disk = True


_FITS = {
    "hardware": {"single"},
    "capacity": {"single"},
    "link_state": {"link"},
    "hold_state": {"hold"},
    "on_disk": {"disk"},
}


def _value(entry: pb.Fact) -> FactValue | None:
    kind = entry.WhichOneof("value")
    if kind is None:
        return None
    key = entry.WhichOneof("key")
    if key not in _FITS[kind] or (key == "single" and _SINGLES.get(kind) != entry.single):
        raise InvalidError(f"facts: a value of kind {kind} under a key of kind {key}")
    match kind:
        case "hardware":
            return _hardware(entry.hardware)
        case "capacity":
            return _spare(entry.capacity)
        case "link_state":
            link = entry.link_state
            rtt_us, bandwidth_bps = _count(link.rtt_us, "rtt_us"), _count(link.bandwidth_bps, "bandwidth_bps")
            return LinkState(rtt_us, bandwidth_bps, link.unreachable)
        case "hold_state":
            hold = entry.hold_state
            if hold.state not in _HOLDS_BACK:
                raise InvalidError(f"facts: no hold state has the number {hold.state}")
            return Held(
                _HOLDS_BACK[hold.state],
                _count(hold.measured_us, "measured_us"),
                _count(hold.ready_for_us, "ready_for_us"),
                text(hold.reason, 200, "facts.reason"),
            )
    if not entry.on_disk:
        raise InvalidError("facts: on_disk is true or absent")
    return OnDisk()


def _hardware(hardware: pb.Hardware) -> Hardware:
    return Hardware(
        text(hardware.name, 64, "facts.name"),
        text(hardware.software, 32, "facts.software"),
        text(hardware.host, 64, "facts.host"),
        bounded(hardware.cores, 0, 65_535, "facts.cores"),
        _count(hardware.memory_bytes, "memory_bytes"),
        text(hardware.numeric, 32, "facts.numeric"),
        tuple(
            text(label, LABEL_CHARS_MAX, "facts.label", 1)
            for label in counted(hardware.labels, LABELS_MAX, "facts.labels")
        ),
        _count(hardware.milliwatts, "milliwatts"),
    )


def _spare(capacity: pb.Capacity) -> Spare:
    rates = tuple(
        (text(rate.cost_class, 32, "facts.cost_class", 1), _count(rate.per_second, "per_second"))
        for rate in counted(capacity.rates, RATES_MAX, "facts.rates")
    )
    if any(a[0] >= b[0] for a, b in itertools.pairwise(rates)):
        raise InvalidError("facts: rates are sorted by class, each once")
    return Spare(_count(capacity.free_bytes, "free_bytes"), rates, capacity.draining)


def _count(value: int, what: str) -> int:
    return bounded(value, 0, COUNT_MAX, f"facts.{what}")
