from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MemberState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MEMBER_STATE_UNSPECIFIED: _ClassVar[MemberState]
    MEMBER_STATE_ALIVE: _ClassVar[MemberState]
    MEMBER_STATE_SUSPECT: _ClassVar[MemberState]
    MEMBER_STATE_DEAD: _ClassVar[MemberState]
    MEMBER_STATE_LEFT: _ClassVar[MemberState]

class HoldState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HOLD_STATE_UNSPECIFIED: _ClassVar[HoldState]
    HOLD_STATE_RESERVED: _ClassVar[HoldState]
    HOLD_STATE_LOADING: _ClassVar[HoldState]
    HOLD_STATE_READY: _ClassVar[HoldState]
    HOLD_STATE_DRAINING: _ClassVar[HoldState]
    HOLD_STATE_FAILED: _ClassVar[HoldState]
MEMBER_STATE_UNSPECIFIED: MemberState
MEMBER_STATE_ALIVE: MemberState
MEMBER_STATE_SUSPECT: MemberState
MEMBER_STATE_DEAD: MemberState
MEMBER_STATE_LEFT: MemberState
HOLD_STATE_UNSPECIFIED: HoldState
HOLD_STATE_RESERVED: HoldState
HOLD_STATE_LOADING: HoldState
HOLD_STATE_READY: HoldState
HOLD_STATE_DRAINING: HoldState
HOLD_STATE_FAILED: HoldState

class GossipMessage(_message.Message):
    __slots__ = ("ping", "ack", "ping_req", "ping_req_ack", "nack", "spread", "join", "join_ack", "join_done", "certificate_ask", "certificate_tell", "facts_ask", "rumours", "facts", "intents")
    PING_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    PING_REQ_FIELD_NUMBER: _ClassVar[int]
    PING_REQ_ACK_FIELD_NUMBER: _ClassVar[int]
    NACK_FIELD_NUMBER: _ClassVar[int]
    SPREAD_FIELD_NUMBER: _ClassVar[int]
    JOIN_FIELD_NUMBER: _ClassVar[int]
    JOIN_ACK_FIELD_NUMBER: _ClassVar[int]
    JOIN_DONE_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_ASK_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_TELL_FIELD_NUMBER: _ClassVar[int]
    FACTS_ASK_FIELD_NUMBER: _ClassVar[int]
    RUMOURS_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    INTENTS_FIELD_NUMBER: _ClassVar[int]
    ping: Ping
    ack: Ack
    ping_req: PingReq
    ping_req_ack: PingReqAck
    nack: Nack
    spread: Spread
    join: Join
    join_ack: JoinAck
    join_done: JoinDone
    certificate_ask: CertificateAsk
    certificate_tell: CertificateTell
    facts_ask: FactsAsk
    rumours: _containers.RepeatedCompositeFieldContainer[Rumour]
    facts: _containers.RepeatedCompositeFieldContainer[FactsDelta]
    intents: _containers.RepeatedCompositeFieldContainer[IntentRumour]
    def __init__(self, ping: _Optional[_Union[Ping, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., ping_req: _Optional[_Union[PingReq, _Mapping]] = ..., ping_req_ack: _Optional[_Union[PingReqAck, _Mapping]] = ..., nack: _Optional[_Union[Nack, _Mapping]] = ..., spread: _Optional[_Union[Spread, _Mapping]] = ..., join: _Optional[_Union[Join, _Mapping]] = ..., join_ack: _Optional[_Union[JoinAck, _Mapping]] = ..., join_done: _Optional[_Union[JoinDone, _Mapping]] = ..., certificate_ask: _Optional[_Union[CertificateAsk, _Mapping]] = ..., certificate_tell: _Optional[_Union[CertificateTell, _Mapping]] = ..., facts_ask: _Optional[_Union[FactsAsk, _Mapping]] = ..., rumours: _Optional[_Iterable[_Union[Rumour, _Mapping]]] = ..., facts: _Optional[_Iterable[_Union[FactsDelta, _Mapping]]] = ..., intents: _Optional[_Iterable[_Union[IntentRumour, _Mapping]]] = ...) -> None: ...

class Ping(_message.Message):
    __slots__ = ("number", "health", "accusation")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    ACCUSATION_FIELD_NUMBER: _ClassVar[int]
    number: int
    health: int
    accusation: Accusation
    def __init__(self, number: _Optional[int] = ..., health: _Optional[int] = ..., accusation: _Optional[_Union[Accusation, _Mapping]] = ...) -> None: ...

class Accusation(_message.Message):
    __slots__ = ("state", "boot", "incarnation")
    STATE_FIELD_NUMBER: _ClassVar[int]
    BOOT_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    state: MemberState
    boot: int
    incarnation: int
    def __init__(self, state: _Optional[_Union[MemberState, str]] = ..., boot: _Optional[int] = ..., incarnation: _Optional[int] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("number", "health")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    number: int
    health: int
    def __init__(self, number: _Optional[int] = ..., health: _Optional[int] = ...) -> None: ...

class PingReq(_message.Message):
    __slots__ = ("number", "target", "address")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    number: int
    target: bytes
    address: Address
    def __init__(self, number: _Optional[int] = ..., target: _Optional[bytes] = ..., address: _Optional[_Union[Address, _Mapping]] = ...) -> None: ...

class PingReqAck(_message.Message):
    __slots__ = ("number", "target")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    number: int
    target: bytes
    def __init__(self, number: _Optional[int] = ..., target: _Optional[bytes] = ...) -> None: ...

class Nack(_message.Message):
    __slots__ = ("number", "target")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    number: int
    target: bytes
    def __init__(self, number: _Optional[int] = ..., target: _Optional[bytes] = ...) -> None: ...

class Spread(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Join(_message.Message):
    __slots__ = ("certificate", "nonce")
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    certificate: bytes
    nonce: int
    def __init__(self, certificate: _Optional[bytes] = ..., nonce: _Optional[int] = ...) -> None: ...

class JoinAck(_message.Message):
    __slots__ = ("certificate", "nonce", "returned")
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    RETURNED_FIELD_NUMBER: _ClassVar[int]
    certificate: bytes
    nonce: int
    returned: int
    def __init__(self, certificate: _Optional[bytes] = ..., nonce: _Optional[int] = ..., returned: _Optional[int] = ...) -> None: ...

class JoinDone(_message.Message):
    __slots__ = ("returned",)
    RETURNED_FIELD_NUMBER: _ClassVar[int]
    returned: int
    def __init__(self, returned: _Optional[int] = ...) -> None: ...

class CertificateAsk(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CertificateTell(_message.Message):
    __slots__ = ("certificate",)
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    certificate: bytes
    def __init__(self, certificate: _Optional[bytes] = ...) -> None: ...

class FactsAsk(_message.Message):
    __slots__ = ("node", "boot", "version")
    NODE_FIELD_NUMBER: _ClassVar[int]
    BOOT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    node: bytes
    boot: int
    version: int
    def __init__(self, node: _Optional[bytes] = ..., boot: _Optional[int] = ..., version: _Optional[int] = ...) -> None: ...

class Address(_message.Message):
    __slots__ = ("ip", "port")
    IP_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    ip: bytes
    port: int
    def __init__(self, ip: _Optional[bytes] = ..., port: _Optional[int] = ...) -> None: ...

class Rumour(_message.Message):
    __slots__ = ("state", "subject", "boot", "incarnation", "addresses", "certificate_hash", "accuser")
    STATE_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    BOOT_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_HASH_FIELD_NUMBER: _ClassVar[int]
    ACCUSER_FIELD_NUMBER: _ClassVar[int]
    state: MemberState
    subject: bytes
    boot: int
    incarnation: int
    addresses: _containers.RepeatedCompositeFieldContainer[Address]
    certificate_hash: int
    accuser: bytes
    def __init__(self, state: _Optional[_Union[MemberState, str]] = ..., subject: _Optional[bytes] = ..., boot: _Optional[int] = ..., incarnation: _Optional[int] = ..., addresses: _Optional[_Iterable[_Union[Address, _Mapping]]] = ..., certificate_hash: _Optional[int] = ..., accuser: _Optional[bytes] = ...) -> None: ...

class IntentRumour(_message.Message):
    __slots__ = ("deployment", "key")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    deployment: str
    key: bytes
    def __init__(self, deployment: _Optional[str] = ..., key: _Optional[bytes] = ...) -> None: ...

class FactsDelta(_message.Message):
    __slots__ = ("node", "boot", "base", "version", "entries", "whole", "floor")
    NODE_FIELD_NUMBER: _ClassVar[int]
    BOOT_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    FLOOR_FIELD_NUMBER: _ClassVar[int]
    node: bytes
    boot: int
    base: int
    version: int
    entries: _containers.RepeatedCompositeFieldContainer[Fact]
    whole: int
    floor: int
    def __init__(self, node: _Optional[bytes] = ..., boot: _Optional[int] = ..., base: _Optional[int] = ..., version: _Optional[int] = ..., entries: _Optional[_Iterable[_Union[Fact, _Mapping]]] = ..., whole: _Optional[int] = ..., floor: _Optional[int] = ...) -> None: ...

class Fact(_message.Message):
    __slots__ = ("version", "single", "link", "disk", "hold", "hardware", "capacity", "link_state", "hold_state", "on_disk")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SINGLE_FIELD_NUMBER: _ClassVar[int]
    LINK_FIELD_NUMBER: _ClassVar[int]
    DISK_FIELD_NUMBER: _ClassVar[int]
    HOLD_FIELD_NUMBER: _ClassVar[int]
    HARDWARE_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    LINK_STATE_FIELD_NUMBER: _ClassVar[int]
    HOLD_STATE_FIELD_NUMBER: _ClassVar[int]
    ON_DISK_FIELD_NUMBER: _ClassVar[int]
    version: int
    single: int
    link: bytes
    disk: bytes
    hold: SegmentKey
    hardware: Hardware
    capacity: Capacity
    link_state: Link
    hold_state: Hold
    on_disk: bool
    def __init__(self, version: _Optional[int] = ..., single: _Optional[int] = ..., link: _Optional[bytes] = ..., disk: _Optional[bytes] = ..., hold: _Optional[_Union[SegmentKey, _Mapping]] = ..., hardware: _Optional[_Union[Hardware, _Mapping]] = ..., capacity: _Optional[_Union[Capacity, _Mapping]] = ..., link_state: _Optional[_Union[Link, _Mapping]] = ..., hold_state: _Optional[_Union[Hold, _Mapping]] = ..., on_disk: _Optional[bool] = ...) -> None: ...

class SegmentKey(_message.Message):
    __slots__ = ("plan", "index")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    plan: bytes
    index: int
    def __init__(self, plan: _Optional[bytes] = ..., index: _Optional[int] = ...) -> None: ...

class Hardware(_message.Message):
    __slots__ = ("name", "software", "host", "cores", "memory_bytes", "numeric", "labels", "milliwatts")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    CORES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    NUMERIC_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    MILLIWATTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    software: str
    host: str
    cores: int
    memory_bytes: int
    numeric: str
    labels: _containers.RepeatedScalarFieldContainer[str]
    milliwatts: int
    def __init__(self, name: _Optional[str] = ..., software: _Optional[str] = ..., host: _Optional[str] = ..., cores: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., numeric: _Optional[str] = ..., labels: _Optional[_Iterable[str]] = ..., milliwatts: _Optional[int] = ...) -> None: ...

class Capacity(_message.Message):
    __slots__ = ("free_bytes", "rates", "draining")
    FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    RATES_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    free_bytes: int
    rates: _containers.RepeatedCompositeFieldContainer[Rate]
    draining: bool
    def __init__(self, free_bytes: _Optional[int] = ..., rates: _Optional[_Iterable[_Union[Rate, _Mapping]]] = ..., draining: _Optional[bool] = ...) -> None: ...

class Rate(_message.Message):
    __slots__ = ("cost_class", "per_second")
    COST_CLASS_FIELD_NUMBER: _ClassVar[int]
    PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    cost_class: str
    per_second: int
    def __init__(self, cost_class: _Optional[str] = ..., per_second: _Optional[int] = ...) -> None: ...

class Link(_message.Message):
    __slots__ = ("rtt_us", "bandwidth_bps", "unreachable")
    RTT_US_FIELD_NUMBER: _ClassVar[int]
    BANDWIDTH_BPS_FIELD_NUMBER: _ClassVar[int]
    UNREACHABLE_FIELD_NUMBER: _ClassVar[int]
    rtt_us: int
    bandwidth_bps: int
    unreachable: bool
    def __init__(self, rtt_us: _Optional[int] = ..., bandwidth_bps: _Optional[int] = ..., unreachable: _Optional[bool] = ...) -> None: ...

class Hold(_message.Message):
    __slots__ = ("state", "measured_us", "ready_for_us", "reason")
    STATE_FIELD_NUMBER: _ClassVar[int]
    MEASURED_US_FIELD_NUMBER: _ClassVar[int]
    READY_FOR_US_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    state: HoldState
    measured_us: int
    ready_for_us: int
    reason: str
    def __init__(self, state: _Optional[_Union[HoldState, str]] = ..., measured_us: _Optional[int] = ..., ready_for_us: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...
