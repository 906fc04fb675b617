from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Hello(_message.Message):
    __slots__ = ("protocol_version", "boot", "port", "number", "heard")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    BOOT_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    HEARD_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    boot: int
    port: int
    number: int
    heard: int
    def __init__(self, protocol_version: _Optional[int] = ..., boot: _Optional[int] = ..., port: _Optional[int] = ..., number: _Optional[int] = ..., heard: _Optional[int] = ...) -> None: ...

class DataHeader(_message.Message):
    __slots__ = ("hello", "forward", "ack", "busy", "not_held", "cancel", "lost", "answer", "failed", "echo_ask", "echo", "poison")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    FORWARD_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    BUSY_FIELD_NUMBER: _ClassVar[int]
    NOT_HELD_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    ECHO_ASK_FIELD_NUMBER: _ClassVar[int]
    ECHO_FIELD_NUMBER: _ClassVar[int]
    POISON_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    forward: Forward
    ack: ForwardAck
    busy: ForwardBusy
    not_held: ForwardNotHeld
    cancel: Cancel
    lost: Lost
    answer: Answer
    failed: Failed
    echo_ask: int
    echo: int
    poison: Poison
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., forward: _Optional[_Union[Forward, _Mapping]] = ..., ack: _Optional[_Union[ForwardAck, _Mapping]] = ..., busy: _Optional[_Union[ForwardBusy, _Mapping]] = ..., not_held: _Optional[_Union[ForwardNotHeld, _Mapping]] = ..., cancel: _Optional[_Union[Cancel, _Mapping]] = ..., lost: _Optional[_Union[Lost, _Mapping]] = ..., answer: _Optional[_Union[Answer, _Mapping]] = ..., failed: _Optional[_Union[Failed, _Mapping]] = ..., echo_ask: _Optional[int] = ..., echo: _Optional[int] = ..., poison: _Optional[_Union[Poison, _Mapping]] = ...) -> None: ...

class Poison(_message.Message):
    __slots__ = ("digest", "left_us", "witness", "boot")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    LEFT_US_FIELD_NUMBER: _ClassVar[int]
    WITNESS_FIELD_NUMBER: _ClassVar[int]
    BOOT_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    left_us: int
    witness: bytes
    boot: int
    def __init__(self, digest: _Optional[bytes] = ..., left_us: _Optional[int] = ..., witness: _Optional[bytes] = ..., boot: _Optional[int] = ...) -> None: ...

class RequestId(_message.Message):
    __slots__ = ("entry", "boot", "number")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    BOOT_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    entry: bytes
    boot: int
    number: int
    def __init__(self, entry: _Optional[bytes] = ..., boot: _Optional[int] = ..., number: _Optional[int] = ...) -> None: ...

class Leg(_message.Message):
    __slots__ = ("request", "attempt", "segment")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    request: RequestId
    attempt: int
    segment: int
    def __init__(self, request: _Optional[_Union[RequestId, _Mapping]] = ..., attempt: _Optional[int] = ..., segment: _Optional[int] = ...) -> None: ...

class Spent(_message.Message):
    __slots__ = ("queue_us", "compute_us", "hops", "lost")
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_US_FIELD_NUMBER: _ClassVar[int]
    HOPS_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    queue_us: int
    compute_us: int
    hops: int
    lost: int
    def __init__(self, queue_us: _Optional[int] = ..., compute_us: _Optional[int] = ..., hops: _Optional[int] = ..., lost: _Optional[int] = ...) -> None: ...

class Forward(_message.Message):
    __slots__ = ("leg", "deployment", "plan", "deadline_us", "hops_left", "batch", "sizes", "route", "spent")
    LEG_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_US_FIELD_NUMBER: _ClassVar[int]
    HOPS_LEFT_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    SIZES_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    SPENT_FIELD_NUMBER: _ClassVar[int]
    leg: Leg
    deployment: str
    plan: bytes
    deadline_us: int
    hops_left: int
    batch: int
    sizes: _containers.RepeatedScalarFieldContainer[int]
    route: _containers.RepeatedCompositeFieldContainer[Candidates]
    spent: Spent
    def __init__(self, leg: _Optional[_Union[Leg, _Mapping]] = ..., deployment: _Optional[str] = ..., plan: _Optional[bytes] = ..., deadline_us: _Optional[int] = ..., hops_left: _Optional[int] = ..., batch: _Optional[int] = ..., sizes: _Optional[_Iterable[int]] = ..., route: _Optional[_Iterable[_Union[Candidates, _Mapping]]] = ..., spent: _Optional[_Union[Spent, _Mapping]] = ...) -> None: ...

class Candidates(_message.Message):
    __slots__ = ("nodes",)
    NODES_FIELD_NUMBER: _ClassVar[int]
    nodes: bytes
    def __init__(self, nodes: _Optional[bytes] = ...) -> None: ...

class ForwardAck(_message.Message):
    __slots__ = ("leg", "queue_us")
    LEG_FIELD_NUMBER: _ClassVar[int]
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    leg: Leg
    queue_us: int
    def __init__(self, leg: _Optional[_Union[Leg, _Mapping]] = ..., queue_us: _Optional[int] = ...) -> None: ...

class ForwardBusy(_message.Message):
    __slots__ = ("leg", "queue_us")
    LEG_FIELD_NUMBER: _ClassVar[int]
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    leg: Leg
    queue_us: int
    def __init__(self, leg: _Optional[_Union[Leg, _Mapping]] = ..., queue_us: _Optional[int] = ...) -> None: ...

class ForwardNotHeld(_message.Message):
    __slots__ = ("leg",)
    LEG_FIELD_NUMBER: _ClassVar[int]
    leg: Leg
    def __init__(self, leg: _Optional[_Union[Leg, _Mapping]] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ("request", "attempt")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    request: RequestId
    attempt: int
    def __init__(self, request: _Optional[_Union[RequestId, _Mapping]] = ..., attempt: _Optional[int] = ...) -> None: ...

class Lost(_message.Message):
    __slots__ = ("node", "legs", "before", "suspected")
    NODE_FIELD_NUMBER: _ClassVar[int]
    LEGS_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    SUSPECTED_FIELD_NUMBER: _ClassVar[int]
    node: bytes
    legs: _containers.RepeatedCompositeFieldContainer[Leg]
    before: bytes
    suspected: bool
    def __init__(self, node: _Optional[bytes] = ..., legs: _Optional[_Iterable[_Union[Leg, _Mapping]]] = ..., before: _Optional[bytes] = ..., suspected: _Optional[bool] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("request", "attempt", "plan", "batch", "sizes", "spent")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    SIZES_FIELD_NUMBER: _ClassVar[int]
    SPENT_FIELD_NUMBER: _ClassVar[int]
    request: RequestId
    attempt: int
    plan: bytes
    batch: int
    sizes: _containers.RepeatedScalarFieldContainer[int]
    spent: Spent
    def __init__(self, request: _Optional[_Union[RequestId, _Mapping]] = ..., attempt: _Optional[int] = ..., plan: _Optional[bytes] = ..., batch: _Optional[int] = ..., sizes: _Optional[_Iterable[int]] = ..., spent: _Optional[_Union[Spent, _Mapping]] = ...) -> None: ...

class Failed(_message.Message):
    __slots__ = ("request", "attempt", "code", "reason", "message", "deployment", "segment_plus_1", "node", "retry_after_us")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_PLUS_1_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_US_FIELD_NUMBER: _ClassVar[int]
    request: RequestId
    attempt: int
    code: int
    reason: str
    message: str
    deployment: str
    segment_plus_1: int
    node: bytes
    retry_after_us: int
    def __init__(self, request: _Optional[_Union[RequestId, _Mapping]] = ..., attempt: _Optional[int] = ..., code: _Optional[int] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., deployment: _Optional[str] = ..., segment_plus_1: _Optional[int] = ..., node: _Optional[bytes] = ..., retry_after_us: _Optional[int] = ...) -> None: ...

class BulkHeader(_message.Message):
    __slots__ = ("hello", "ask", "head", "chunk", "missing")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    ASK_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    ask: BlobAsk
    head: BlobHead
    chunk: BlobChunk
    missing: BlobMissing
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., ask: _Optional[_Union[BlobAsk, _Mapping]] = ..., head: _Optional[_Union[BlobHead, _Mapping]] = ..., chunk: _Optional[_Union[BlobChunk, _Mapping]] = ..., missing: _Optional[_Union[BlobMissing, _Mapping]] = ...) -> None: ...

class BlobAsk(_message.Message):
    __slots__ = ("digest", "chunk_plus_1")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    CHUNK_PLUS_1_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    chunk_plus_1: int
    def __init__(self, digest: _Optional[bytes] = ..., chunk_plus_1: _Optional[int] = ...) -> None: ...

class BlobHead(_message.Message):
    __slots__ = ("size_bytes",)
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    size_bytes: int
    def __init__(self, size_bytes: _Optional[int] = ...) -> None: ...

class BlobChunk(_message.Message):
    __slots__ = ("chunk_plus_1",)
    CHUNK_PLUS_1_FIELD_NUMBER: _ClassVar[int]
    chunk_plus_1: int
    def __init__(self, chunk_plus_1: _Optional[int] = ...) -> None: ...

class BlobMissing(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...
