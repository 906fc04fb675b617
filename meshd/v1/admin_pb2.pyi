from meshd.v1 import gossip_pb2 as _gossip_pb2
from meshd.v1 import model_pb2 as _model_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DeployObjective(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEPLOY_OBJECTIVE_UNSPECIFIED: _ClassVar[DeployObjective]
    DEPLOY_OBJECTIVE_LATENCY: _ClassVar[DeployObjective]
    DEPLOY_OBJECTIVE_THROUGHPUT: _ClassVar[DeployObjective]
    DEPLOY_OBJECTIVE_ENERGY: _ClassVar[DeployObjective]

class FindingSeverity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FINDING_SEVERITY_UNSPECIFIED: _ClassVar[FindingSeverity]
    FINDING_SEVERITY_NOTE: _ClassVar[FindingSeverity]
    FINDING_SEVERITY_WARNING: _ClassVar[FindingSeverity]
    FINDING_SEVERITY_ERROR: _ClassVar[FindingSeverity]
DEPLOY_OBJECTIVE_UNSPECIFIED: DeployObjective
DEPLOY_OBJECTIVE_LATENCY: DeployObjective
DEPLOY_OBJECTIVE_THROUGHPUT: DeployObjective
DEPLOY_OBJECTIVE_ENERGY: DeployObjective
FINDING_SEVERITY_UNSPECIFIED: FindingSeverity
FINDING_SEVERITY_NOTE: FindingSeverity
FINDING_SEVERITY_WARNING: FindingSeverity
FINDING_SEVERITY_ERROR: FindingSeverity

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: Status
    def __init__(self, status: _Optional[_Union[Status, _Mapping]] = ...) -> None: ...

class WatchStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchStatusResponse(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: Status
    def __init__(self, status: _Optional[_Union[Status, _Mapping]] = ...) -> None: ...

class Status(_message.Message):
    __slots__ = ("version", "node_id", "uptime_us", "mesh_id", "nodes", "deployments", "listeners", "problems")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    UPTIME_US_FIELD_NUMBER: _ClassVar[int]
    MESH_ID_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENTS_FIELD_NUMBER: _ClassVar[int]
    LISTENERS_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    version: int
    node_id: str
    uptime_us: int
    mesh_id: str
    nodes: _containers.RepeatedCompositeFieldContainer[NodeStatus]
    deployments: _containers.RepeatedCompositeFieldContainer[DeploymentStatus]
    listeners: _containers.RepeatedCompositeFieldContainer[Listener]
    problems: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, version: _Optional[int] = ..., node_id: _Optional[str] = ..., uptime_us: _Optional[int] = ..., mesh_id: _Optional[str] = ..., nodes: _Optional[_Iterable[_Union[NodeStatus, _Mapping]]] = ..., deployments: _Optional[_Iterable[_Union[DeploymentStatus, _Mapping]]] = ..., listeners: _Optional[_Iterable[_Union[Listener, _Mapping]]] = ..., problems: _Optional[_Iterable[str]] = ...) -> None: ...

class Listener(_message.Message):
    __slots__ = ("role", "address")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    role: str
    address: str
    def __init__(self, role: _Optional[str] = ..., address: _Optional[str] = ...) -> None: ...

class NodeStatus(_message.Message):
    __slots__ = ("id", "name", "state", "boot", "incarnation", "addresses", "software", "memory_bytes", "free_bytes", "rates", "numeric", "cores", "labels", "rtt_us", "draining", "holdings", "models", "unreachable")
    class RatesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    BOOT_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    RATES_FIELD_NUMBER: _ClassVar[int]
    NUMERIC_FIELD_NUMBER: _ClassVar[int]
    CORES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    RTT_US_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    HOLDINGS_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    UNREACHABLE_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    state: _gossip_pb2.MemberState
    boot: int
    incarnation: int
    addresses: _containers.RepeatedScalarFieldContainer[str]
    software: str
    memory_bytes: int
    free_bytes: int
    rates: _containers.ScalarMap[str, int]
    numeric: str
    cores: int
    labels: _containers.RepeatedScalarFieldContainer[str]
    rtt_us: int
    draining: bool
    holdings: _containers.RepeatedCompositeFieldContainer[HoldingStatus]
    models: _containers.RepeatedScalarFieldContainer[str]
    unreachable: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., state: _Optional[_Union[_gossip_pb2.MemberState, str]] = ..., boot: _Optional[int] = ..., incarnation: _Optional[int] = ..., addresses: _Optional[_Iterable[str]] = ..., software: _Optional[str] = ..., memory_bytes: _Optional[int] = ..., free_bytes: _Optional[int] = ..., rates: _Optional[_Mapping[str, int]] = ..., numeric: _Optional[str] = ..., cores: _Optional[int] = ..., labels: _Optional[_Iterable[str]] = ..., rtt_us: _Optional[int] = ..., draining: _Optional[bool] = ..., holdings: _Optional[_Iterable[_Union[HoldingStatus, _Mapping]]] = ..., models: _Optional[_Iterable[str]] = ..., unreachable: _Optional[_Iterable[str]] = ...) -> None: ...

class HoldingStatus(_message.Message):
    __slots__ = ("plan_digest", "segment", "state", "measured_us", "reason", "kernels")
    class KernelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    PLAN_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    MEASURED_US_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    KERNELS_FIELD_NUMBER: _ClassVar[int]
    plan_digest: str
    segment: int
    state: _gossip_pb2.HoldState
    measured_us: int
    reason: str
    kernels: _containers.ScalarMap[str, int]
    def __init__(self, plan_digest: _Optional[str] = ..., segment: _Optional[int] = ..., state: _Optional[_Union[_gossip_pb2.HoldState, str]] = ..., measured_us: _Optional[int] = ..., reason: _Optional[str] = ..., kernels: _Optional[_Mapping[str, int]] = ...) -> None: ...

class DeployPolicy(_message.Message):
    __slots__ = ("replicas", "objective", "segments_min", "memory_bytes_max", "keep_to", "avoid", "keep_input")
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_MIN_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    KEEP_TO_FIELD_NUMBER: _ClassVar[int]
    AVOID_FIELD_NUMBER: _ClassVar[int]
    KEEP_INPUT_FIELD_NUMBER: _ClassVar[int]
    replicas: int
    objective: DeployObjective
    segments_min: int
    memory_bytes_max: int
    keep_to: _containers.RepeatedScalarFieldContainer[str]
    avoid: _containers.RepeatedScalarFieldContainer[str]
    keep_input: bool
    def __init__(self, replicas: _Optional[int] = ..., objective: _Optional[_Union[DeployObjective, str]] = ..., segments_min: _Optional[int] = ..., memory_bytes_max: _Optional[int] = ..., keep_to: _Optional[_Iterable[str]] = ..., avoid: _Optional[_Iterable[str]] = ..., keep_input: _Optional[bool] = ...) -> None: ...

class DeploymentStatus(_message.Message):
    __slots__ = ("name", "model", "generation", "policy", "serving", "target", "conflict", "problem")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    SERVING_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    CONFLICT_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    name: str
    model: str
    generation: int
    policy: DeployPolicy
    serving: PlanStatus
    target: PlanStatus
    conflict: bool
    problem: str
    def __init__(self, name: _Optional[str] = ..., model: _Optional[str] = ..., generation: _Optional[int] = ..., policy: _Optional[_Union[DeployPolicy, _Mapping]] = ..., serving: _Optional[_Union[PlanStatus, _Mapping]] = ..., target: _Optional[_Union[PlanStatus, _Mapping]] = ..., conflict: _Optional[bool] = ..., problem: _Optional[str] = ...) -> None: ...

class PlanStatus(_message.Message):
    __slots__ = ("plan_digest", "generation", "epoch", "planner", "cost_us", "segments")
    PLAN_DIGEST_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    PLANNER_FIELD_NUMBER: _ClassVar[int]
    COST_US_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    plan_digest: str
    generation: int
    epoch: int
    planner: str
    cost_us: int
    segments: _containers.RepeatedCompositeFieldContainer[SegmentStatus]
    def __init__(self, plan_digest: _Optional[str] = ..., generation: _Optional[int] = ..., epoch: _Optional[int] = ..., planner: _Optional[str] = ..., cost_us: _Optional[int] = ..., segments: _Optional[_Iterable[_Union[SegmentStatus, _Mapping]]] = ...) -> None: ...

class SegmentStatus(_message.Message):
    __slots__ = ("start", "end", "crossing", "crossing_bytes", "succession", "candidates", "classes")
    class ClassesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    CROSSING_FIELD_NUMBER: _ClassVar[int]
    CROSSING_BYTES_FIELD_NUMBER: _ClassVar[int]
    SUCCESSION_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    start: int
    end: int
    crossing: _containers.RepeatedCompositeFieldContainer[CrossingStatus]
    crossing_bytes: int
    succession: _containers.RepeatedScalarFieldContainer[str]
    candidates: _containers.RepeatedScalarFieldContainer[str]
    classes: _containers.ScalarMap[str, int]
    def __init__(self, start: _Optional[int] = ..., end: _Optional[int] = ..., crossing: _Optional[_Iterable[_Union[CrossingStatus, _Mapping]]] = ..., crossing_bytes: _Optional[int] = ..., succession: _Optional[_Iterable[str]] = ..., candidates: _Optional[_Iterable[str]] = ..., classes: _Optional[_Mapping[str, int]] = ...) -> None: ...

class CrossingStatus(_message.Message):
    __slots__ = ("tensor", "encoding")
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    tensor: str
    encoding: str
    def __init__(self, tensor: _Optional[str] = ..., encoding: _Optional[str] = ...) -> None: ...

class WatchEventsRequest(_message.Message):
    __slots__ = ("after", "once")
    AFTER_FIELD_NUMBER: _ClassVar[int]
    ONCE_FIELD_NUMBER: _ClassVar[int]
    after: int
    once: bool
    def __init__(self, after: _Optional[int] = ..., once: _Optional[bool] = ...) -> None: ...

class WatchEventsResponse(_message.Message):
    __slots__ = ("event", "missed")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    MISSED_FIELD_NUMBER: _ClassVar[int]
    event: MeshEvent
    missed: int
    def __init__(self, event: _Optional[_Union[MeshEvent, _Mapping]] = ..., missed: _Optional[int] = ...) -> None: ...

class MeshEvent(_message.Message):
    __slots__ = ("sequence", "wall_us", "kind", "subject", "detail")
    class DetailEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    WALL_US_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    wall_us: int
    kind: str
    subject: str
    detail: _containers.ScalarMap[str, str]
    def __init__(self, sequence: _Optional[int] = ..., wall_us: _Optional[int] = ..., kind: _Optional[str] = ..., subject: _Optional[str] = ..., detail: _Optional[_Mapping[str, str]] = ...) -> None: ...

class BeginPushRequest(_message.Message):
    __slots__ = ("topology",)
    TOPOLOGY_FIELD_NUMBER: _ClassVar[int]
    topology: bytes
    def __init__(self, topology: _Optional[bytes] = ...) -> None: ...

class BeginPushResponse(_message.Message):
    __slots__ = ("model", "missing")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    model: str
    missing: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, model: _Optional[str] = ..., missing: _Optional[_Iterable[str]] = ...) -> None: ...

class PushBlobRequest(_message.Message):
    __slots__ = ("digest", "piece")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    PIECE_FIELD_NUMBER: _ClassVar[int]
    digest: str
    piece: bytes
    def __init__(self, digest: _Optional[str] = ..., piece: _Optional[bytes] = ...) -> None: ...

class PushBlobResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelSummary]
    def __init__(self, models: _Optional[_Iterable[_Union[ModelSummary, _Mapping]]] = ...) -> None: ...

class ModelSummary(_message.Message):
    __slots__ = ("digest", "name", "weight_bytes", "layer_count", "whole", "deployments")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_BYTES_FIELD_NUMBER: _ClassVar[int]
    LAYER_COUNT_FIELD_NUMBER: _ClassVar[int]
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENTS_FIELD_NUMBER: _ClassVar[int]
    digest: str
    name: str
    weight_bytes: int
    layer_count: int
    whole: bool
    deployments: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, digest: _Optional[str] = ..., name: _Optional[str] = ..., weight_bytes: _Optional[int] = ..., layer_count: _Optional[int] = ..., whole: _Optional[bool] = ..., deployments: _Optional[_Iterable[str]] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("model", "with_topology")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    WITH_TOPOLOGY_FIELD_NUMBER: _ClassVar[int]
    model: str
    with_topology: bool
    def __init__(self, model: _Optional[str] = ..., with_topology: _Optional[bool] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("summary", "inputs", "outputs", "layers", "topology")
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    TOPOLOGY_FIELD_NUMBER: _ClassVar[int]
    summary: ModelSummary
    inputs: _containers.RepeatedCompositeFieldContainer[_model_pb2.Port]
    outputs: _containers.RepeatedCompositeFieldContainer[_model_pb2.Port]
    layers: _containers.RepeatedCompositeFieldContainer[LayerSummary]
    topology: bytes
    def __init__(self, summary: _Optional[_Union[ModelSummary, _Mapping]] = ..., inputs: _Optional[_Iterable[_Union[_model_pb2.Port, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[_model_pb2.Port, _Mapping]]] = ..., layers: _Optional[_Iterable[_Union[LayerSummary, _Mapping]]] = ..., topology: _Optional[bytes] = ...) -> None: ...

class LayerSummary(_message.Message):
    __slots__ = ("macs", "weight_bytes", "resident_bytes", "crossing_bytes", "operators", "structures")
    class MacsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    MACS_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_BYTES_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    CROSSING_BYTES_FIELD_NUMBER: _ClassVar[int]
    OPERATORS_FIELD_NUMBER: _ClassVar[int]
    STRUCTURES_FIELD_NUMBER: _ClassVar[int]
    macs: _containers.ScalarMap[str, int]
    weight_bytes: int
    resident_bytes: int
    crossing_bytes: int
    operators: _containers.RepeatedScalarFieldContainer[str]
    structures: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, macs: _Optional[_Mapping[str, int]] = ..., weight_bytes: _Optional[int] = ..., resident_bytes: _Optional[int] = ..., crossing_bytes: _Optional[int] = ..., operators: _Optional[_Iterable[str]] = ..., structures: _Optional[_Iterable[str]] = ...) -> None: ...

class RemoveModelRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class RemoveModelResponse(_message.Message):
    __slots__ = ("freed_bytes",)
    FREED_BYTES_FIELD_NUMBER: _ClassVar[int]
    freed_bytes: int
    def __init__(self, freed_bytes: _Optional[int] = ...) -> None: ...

class DeployRequest(_message.Message):
    __slots__ = ("name", "model", "policy", "timeout_ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    model: str
    policy: DeployPolicy
    timeout_ms: int
    def __init__(self, name: _Optional[str] = ..., model: _Optional[str] = ..., policy: _Optional[_Union[DeployPolicy, _Mapping]] = ..., timeout_ms: _Optional[int] = ...) -> None: ...

class DeployResponse(_message.Message):
    __slots__ = ("detail",)
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    detail: str
    def __init__(self, detail: _Optional[str] = ...) -> None: ...

class RetireRequest(_message.Message):
    __slots__ = ("name", "timeout_ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    timeout_ms: int
    def __init__(self, name: _Optional[str] = ..., timeout_ms: _Optional[int] = ...) -> None: ...

class RetireResponse(_message.Message):
    __slots__ = ("detail",)
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    detail: str
    def __init__(self, detail: _Optional[str] = ...) -> None: ...

class DrainRequest(_message.Message):
    __slots__ = ("on", "timeout_ms")
    ON_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    on: bool
    timeout_ms: int
    def __init__(self, on: _Optional[bool] = ..., timeout_ms: _Optional[int] = ...) -> None: ...

class DrainResponse(_message.Message):
    __slots__ = ("detail",)
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    detail: str
    def __init__(self, detail: _Optional[str] = ...) -> None: ...

class CreateTokenRequest(_message.Message):
    __slots__ = ("name", "role")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    name: str
    role: str
    def __init__(self, name: _Optional[str] = ..., role: _Optional[str] = ...) -> None: ...

class CreateTokenResponse(_message.Message):
    __slots__ = ("secret",)
    SECRET_FIELD_NUMBER: _ClassVar[int]
    secret: str
    def __init__(self, secret: _Optional[str] = ...) -> None: ...

class ListTokensRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListTokensResponse(_message.Message):
    __slots__ = ("tokens",)
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedCompositeFieldContainer[TokenEntry]
    def __init__(self, tokens: _Optional[_Iterable[_Union[TokenEntry, _Mapping]]] = ...) -> None: ...

class TokenEntry(_message.Message):
    __slots__ = ("name", "role", "created_s")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CREATED_S_FIELD_NUMBER: _ClassVar[int]
    name: str
    role: str
    created_s: int
    def __init__(self, name: _Optional[str] = ..., role: _Optional[str] = ..., created_s: _Optional[int] = ...) -> None: ...

class RemoveTokenRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class RemoveTokenResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DiagnoseRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DiagnoseResponse(_message.Message):
    __slots__ = ("findings",)
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    findings: _containers.RepeatedCompositeFieldContainer[Finding]
    def __init__(self, findings: _Optional[_Iterable[_Union[Finding, _Mapping]]] = ...) -> None: ...

class Finding(_message.Message):
    __slots__ = ("severity", "kind", "subject", "says", "advice")
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    SAYS_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    severity: FindingSeverity
    kind: str
    subject: str
    says: str
    advice: str
    def __init__(self, severity: _Optional[_Union[FindingSeverity, str]] = ..., kind: _Optional[str] = ..., subject: _Optional[str] = ..., says: _Optional[str] = ..., advice: _Optional[str] = ...) -> None: ...
