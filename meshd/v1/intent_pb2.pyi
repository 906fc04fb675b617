from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DeploymentRecord(_message.Message):
    __slots__ = ("name", "model", "layers", "crossings", "input_bytes", "policy", "retired", "vector", "clock_us", "key", "signature")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    CROSSINGS_FIELD_NUMBER: _ClassVar[int]
    INPUT_BYTES_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    RETIRED_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    CLOCK_US_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    name: str
    model: bytes
    layers: _containers.RepeatedCompositeFieldContainer[LayerCost]
    crossings: _containers.RepeatedCompositeFieldContainer[Crossing]
    input_bytes: int
    policy: DeploymentPolicy
    retired: bool
    vector: _containers.RepeatedCompositeFieldContainer[VectorEntry]
    clock_us: int
    key: bytes
    signature: bytes
    def __init__(self, name: _Optional[str] = ..., model: _Optional[bytes] = ..., layers: _Optional[_Iterable[_Union[LayerCost, _Mapping]]] = ..., crossings: _Optional[_Iterable[_Union[Crossing, _Mapping]]] = ..., input_bytes: _Optional[int] = ..., policy: _Optional[_Union[DeploymentPolicy, _Mapping]] = ..., retired: _Optional[bool] = ..., vector: _Optional[_Iterable[_Union[VectorEntry, _Mapping]]] = ..., clock_us: _Optional[int] = ..., key: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class LayerCost(_message.Message):
    __slots__ = ("macs", "weight_bytes", "resident_bytes", "crossing_bytes")
    MACS_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_BYTES_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    CROSSING_BYTES_FIELD_NUMBER: _ClassVar[int]
    macs: _containers.RepeatedCompositeFieldContainer[ClassCount]
    weight_bytes: int
    resident_bytes: int
    crossing_bytes: int
    def __init__(self, macs: _Optional[_Iterable[_Union[ClassCount, _Mapping]]] = ..., weight_bytes: _Optional[int] = ..., resident_bytes: _Optional[int] = ..., crossing_bytes: _Optional[int] = ...) -> None: ...

class ClassCount(_message.Message):
    __slots__ = ("kind", "count")
    KIND_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    kind: str
    count: int
    def __init__(self, kind: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class Crossing(_message.Message):
    __slots__ = ("tensors",)
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    tensors: _containers.RepeatedCompositeFieldContainer[CrossingTensor]
    def __init__(self, tensors: _Optional[_Iterable[_Union[CrossingTensor, _Mapping]]] = ...) -> None: ...

class CrossingTensor(_message.Message):
    __slots__ = ("name", "encoding")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    name: str
    encoding: str
    def __init__(self, name: _Optional[str] = ..., encoding: _Optional[str] = ...) -> None: ...

class DeploymentPolicy(_message.Message):
    __slots__ = ("replicas", "objective", "segments_min", "memory_bytes_max", "keep_to", "avoid", "keep_input")
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_MIN_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    KEEP_TO_FIELD_NUMBER: _ClassVar[int]
    AVOID_FIELD_NUMBER: _ClassVar[int]
    KEEP_INPUT_FIELD_NUMBER: _ClassVar[int]
    replicas: int
    objective: str
    segments_min: int
    memory_bytes_max: int
    keep_to: _containers.RepeatedScalarFieldContainer[str]
    avoid: _containers.RepeatedScalarFieldContainer[str]
    keep_input: bool
    def __init__(self, replicas: _Optional[int] = ..., objective: _Optional[str] = ..., segments_min: _Optional[int] = ..., memory_bytes_max: _Optional[int] = ..., keep_to: _Optional[_Iterable[str]] = ..., avoid: _Optional[_Iterable[str]] = ..., keep_input: _Optional[bool] = ...) -> None: ...

class VectorEntry(_message.Message):
    __slots__ = ("key", "node", "boot", "count")
    KEY_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    BOOT_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    node: bytes
    boot: int
    count: int
    def __init__(self, key: _Optional[bytes] = ..., node: _Optional[bytes] = ..., boot: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class PlanRecord(_message.Message):
    __slots__ = ("deployment", "generation", "deployment_record", "epoch", "model", "segments", "cost_us", "planner", "load_us")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_RECORD_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    COST_US_FIELD_NUMBER: _ClassVar[int]
    PLANNER_FIELD_NUMBER: _ClassVar[int]
    LOAD_US_FIELD_NUMBER: _ClassVar[int]
    deployment: str
    generation: int
    deployment_record: bytes
    epoch: int
    model: bytes
    segments: _containers.RepeatedCompositeFieldContainer[PlanSegment]
    cost_us: int
    planner: bytes
    load_us: int
    def __init__(self, deployment: _Optional[str] = ..., generation: _Optional[int] = ..., deployment_record: _Optional[bytes] = ..., epoch: _Optional[int] = ..., model: _Optional[bytes] = ..., segments: _Optional[_Iterable[_Union[PlanSegment, _Mapping]]] = ..., cost_us: _Optional[int] = ..., planner: _Optional[bytes] = ..., load_us: _Optional[int] = ...) -> None: ...

class PlanSegment(_message.Message):
    __slots__ = ("start", "end", "crossing", "succession")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    CROSSING_FIELD_NUMBER: _ClassVar[int]
    SUCCESSION_FIELD_NUMBER: _ClassVar[int]
    start: int
    end: int
    crossing: Crossing
    succession: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, start: _Optional[int] = ..., end: _Optional[int] = ..., crossing: _Optional[_Union[Crossing, _Mapping]] = ..., succession: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Offer(_message.Message):
    __slots__ = ("number", "deployment", "model", "layers")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    number: int
    deployment: str
    model: bytes
    layers: _containers.RepeatedCompositeFieldContainer[LayerCost]
    def __init__(self, number: _Optional[int] = ..., deployment: _Optional[str] = ..., model: _Optional[bytes] = ..., layers: _Optional[_Iterable[_Union[LayerCost, _Mapping]]] = ...) -> None: ...

class Bid(_message.Message):
    __slots__ = ("number", "layer_us", "memory_bytes", "held", "on_disk", "milliwatts")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    LAYER_US_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    ON_DISK_FIELD_NUMBER: _ClassVar[int]
    MILLIWATTS_FIELD_NUMBER: _ClassVar[int]
    number: int
    layer_us: _containers.RepeatedScalarFieldContainer[int]
    memory_bytes: int
    held: _containers.RepeatedCompositeFieldContainer[LayerRange]
    on_disk: bool
    milliwatts: int
    def __init__(self, number: _Optional[int] = ..., layer_us: _Optional[_Iterable[int]] = ..., memory_bytes: _Optional[int] = ..., held: _Optional[_Iterable[_Union[LayerRange, _Mapping]]] = ..., on_disk: _Optional[bool] = ..., milliwatts: _Optional[int] = ...) -> None: ...

class LayerRange(_message.Message):
    __slots__ = ("start", "end")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    start: int
    end: int
    def __init__(self, start: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...

class Decline(_message.Message):
    __slots__ = ("number", "reason")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    number: int
    reason: str
    def __init__(self, number: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Award(_message.Message):
    __slots__ = ("number", "plan", "gap")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    number: int
    plan: PlanRecord
    gap: bool
    def __init__(self, number: _Optional[int] = ..., plan: _Optional[_Union[PlanRecord, _Mapping]] = ..., gap: _Optional[bool] = ...) -> None: ...

class Accept(_message.Message):
    __slots__ = ("number",)
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    number: int
    def __init__(self, number: _Optional[int] = ...) -> None: ...

class Reject(_message.Message):
    __slots__ = ("number", "reason")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    number: int
    reason: str
    def __init__(self, number: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class IntentAsk(_message.Message):
    __slots__ = ("deployment",)
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    deployment: str
    def __init__(self, deployment: _Optional[str] = ...) -> None: ...

class IntentTell(_message.Message):
    __slots__ = ("deployment", "records", "plans")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    PLANS_FIELD_NUMBER: _ClassVar[int]
    deployment: str
    records: _containers.RepeatedCompositeFieldContainer[DeploymentRecord]
    plans: _containers.RepeatedCompositeFieldContainer[PlanRecord]
    def __init__(self, deployment: _Optional[str] = ..., records: _Optional[_Iterable[_Union[DeploymentRecord, _Mapping]]] = ..., plans: _Optional[_Iterable[_Union[PlanRecord, _Mapping]]] = ...) -> None: ...

class StoredIntent(_message.Message):
    __slots__ = ("records", "plans", "epoch")
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    PLANS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[DeploymentRecord]
    plans: _containers.RepeatedCompositeFieldContainer[PlanRecord]
    epoch: int
    def __init__(self, records: _Optional[_Iterable[_Union[DeploymentRecord, _Mapping]]] = ..., plans: _Optional[_Iterable[_Union[PlanRecord, _Mapping]]] = ..., epoch: _Optional[int] = ...) -> None: ...
