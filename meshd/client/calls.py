"""What a call consists of, whoever waits for it: channels, requests from arrays, answers to arrays, errors to decisions.

Rule: no loop and no waiting here; `inference` and `trio_inference` have those.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from meshd.client.nodes import Fault, Nodes, Round
from meshd.config import CLIENT_MESSAGE_BYTES_MAX, NAME_CHARS_MAX
from meshd.errors import DeniedError, InvalidError, MeshdError, MisuseError, NotFoundError, UnavailableError
from meshd.wire.oip import INFERENCE, NODES_LOST, message

Array = NDArray[Any]

_DATATYPES = {
    "BOOL": "bool", "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64", "INT8": "int8",
    "INT16": "int16", "INT32": "int32", "INT64": "int64", "FP16": "float16", "FP32": "float32", "FP64": "float64",
}  # fmt: skip
_ERRORS: dict[grpc.StatusCode, type[MeshdError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: MisuseError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: UnavailableError,
    grpc.StatusCode.UNAUTHENTICATED: DeniedError,
    grpc.StatusCode.PERMISSION_DENIED: DeniedError,
}
_SILENT_MS = 2_000
"""A node that takes no connection, or does not answer a ping, for so long is gone."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output of a deployment; -1 in `shape` is the batch."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def dtype(self) -> str:
        """NumPy's name of it."""
        return _DATATYPES[self.datatype]


Signature = tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]
"""(inputs, outputs)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Outputs by name, in the model's order, what the round trip took, and what it lived through."""

    outputs: Mapping[str, Array]
    took_us: int
    """From the call to the answer, tries at other nodes included."""
    nodes_lost: int = 0
    """Nodes that vanished with this request in hand; others answered it."""


class Methods:
    """The channels to all nodes and the calls over them.

    Parameters
    ----------
    targets, token, root_certificates : see `inference.Inference`
    """

    def __init__(self, nodes: Nodes, token: str | Sequence[str], root_certificates: bytes | None) -> None:
        limit = CLIENT_MESSAGE_BYTES_MAX
        options = [
            ("grpc.max_receive_message_length", limit), ("grpc.max_send_message_length", limit),
            ("grpc.enable_http_proxy", 0), ("grpc.ssl_target_name_override", "meshd"),
            ("grpc.min_reconnect_backoff_ms", _SILENT_MS), ("grpc.max_reconnect_backoff_ms", 2 * _SILENT_MS),
            ("grpc.keepalive_time_ms", _SILENT_MS), ("grpc.keepalive_timeout_ms", _SILENT_MS),
            ("grpc.http2.max_pings_without_data", 0),
        ]  # fmt: skip
        if root_certificates is None:
            self._channels = [grpc.insecure_channel(target, options) for target in nodes.targets]
        else:
            credentials = grpc.ssl_channel_credentials(root_certificates)
            self._channels = [grpc.secure_channel(target, credentials, options) for target in nodes.targets]
        tokens = [token] * len(self._channels) if isinstance(token, str) else list(token)
        if len(tokens) != len(self._channels):
            raise MisuseError(
                f"{len(tokens)} tokens for {len(self._channels)} nodes; give one for all, or one for each"
            )
        self.metadata = [(("authorization", f"Bearer {each}"),) if each else () for each in tokens]
        """For each node."""
        self.infer = self._method("ModelInfer")
        self.describe = self._method("ModelMetadata")

    def _method(self, name: str) -> list[Any]:
        """The method's callable for each node."""
        read = message(f"inference.{name}Response").FromString
        path = f"/{INFERENCE}/{name}"
        return [
            channel.unary_unary(path, lambda request: request.SerializeToString(), read) for channel in self._channels
        ]

    def close(self) -> None:
        """End all calls."""
        for channel in self._channels:
            channel.close()


def infer_request(name: str, inputs: Mapping[str, Array]) -> Any:
    """A ModelInferRequest. Raises MisuseError."""
    if not 1 <= len(name) <= NAME_CHARS_MAX:
        raise MisuseError(f"a deployment's name has 1 to {NAME_CHARS_MAX} characters")
    request = message("inference.ModelInferRequest")(model_name=name)
    for each, array in inputs.items():
        request.inputs.add(name=each, datatype=_datatype(array), shape=array.shape)
        request.raw_input_contents.append(np.ascontiguousarray(array).tobytes())
    return request


def read_answer(told: Any, took_us: int) -> Answer:
    """From a ModelInferResponse. Raises InvalidError."""
    if len(told.raw_output_contents) != len(told.outputs):
        raise InvalidError(f"{len(told.outputs)} outputs came with {len(told.raw_output_contents)} contents")
    outputs = {t.name: _array(t, raw) for t, raw in zip(told.outputs, told.raw_output_contents, strict=True)}
    return Answer(outputs, took_us, told.parameters[NODES_LOST].int64_param if NODES_LOST in told.parameters else 0)


def describe_request(name: str) -> Any:
    """A ModelMetadataRequest."""
    return message("inference.ModelMetadataRequest")(name=name)


def read_signature(told: Any) -> Signature:
    """From a ModelMetadataResponse."""
    inputs, outputs = (
        tuple(TensorSpec(t.name, t.datatype, tuple(t.shape)) for t in ts) for ts in (told.inputs, told.outputs)
    )
    return inputs, outputs


def pause_after(error: grpc.RpcError, tried: Round) -> float:
    """How long to wait before `tried.node` is asked instead.

    Raises
    ------
    MeshdError
        `error` is the call's answer.
    """
    fault, retry_after_s = _fault(error)
    pause_s = tried.failed(fault, retry_after_s, time.monotonic(), random.random())
    if pause_s is None:
        code, text = error.code(), error.details() or ""
        raise _ERRORS.get(code, MeshdError)(text or f"the node failed: {code.name}; see its log") from error
    return pause_s


def _fault(error: Any) -> tuple[Fault, float]:
    """What an error says of the node, and in how many seconds to come again (0: it said nothing)."""
    code, told = error.code(), _details(error)
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED) and told is None:
        # gRPC's own words, not a node's: it has no other sign of whether the request had left.
        return (Fault.UNREACHED if "connect to all addresses" in (error.details() or "") else Fault.LOST), 0.0
    if code not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED):
        return Fault.FINAL, 0.0
    for detail in told.details if told is not None else ():
        if detail.type_url.endswith("/google.rpc.RetryInfo"):
            delay = message("google.rpc.RetryInfo").FromString(detail.value).retry_delay
            return Fault.ELSEWHERE, float(delay.seconds + delay.nanos / 1e9)
    return Fault.ELSEWHERE, 0.0


def _details(error: Any) -> Any:
    """The google.rpc.Status that a node sends along; None where no node spoke."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            return message("google.rpc.Status").FromString(value)
    return None


def _datatype(array: Array) -> str:
    for datatype, dtype in _DATATYPES.items():
        if array.dtype == dtype:
            return datatype
    raise MisuseError(f"arrays of {array.dtype} cannot be sent; convert with .astype, e.g. to float32")


def _array(told: Any, raw: bytes) -> Array:
    dtype, count = _DATATYPES.get(told.datatype), 1
    for dim in told.shape:
        count *= dim
    if dtype is None or count < 0 or count * np.dtype(dtype).itemsize != len(raw):
        raise InvalidError(f"output {told.name!r}: {len(raw)} bytes are no {told.datatype} of shape {list(told.shape)}")
    return np.frombuffer(raw, dtype).reshape(told.shape)


Progress = Callable[[int], object]
"""Is told how many answers there are so far, after each."""
WINDOW = 8
"""Requests of one stream under way."""
