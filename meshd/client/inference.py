"""Inference by the Open Inference Protocol v2, blocking: NumPy arrays in and out.

tritonclient does the same and works unchanged; this one is for `meshctl infer`, the demo and scripts that have meshd anyway.
"""

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

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


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output of a deployment; -1 in `shape` is the batch."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """Outputs by name, in the model's order, what the round trip took, and what it lived through."""

    outputs: Mapping[str, Array]
    took_us: int
    nodes_lost: int = 0
    """Nodes that vanished with this request in hand; others answered it."""


class Inference:
    """One entry node; a context manager, thread-safe. Methods raise `meshd.errors` only.

    Parameters
    ----------
    target : gRPC's way to name it: `unix:/run/meshd/client.sock`, `10.0.0.5:8001`
    token : bearer token, for nodes of other hosts
    root_certificates : PEM that the node's certificate is checked against; None: no TLS (this machine only)
    """

    def __init__(self, target: str, token: str = "", root_certificates: bytes | None = None) -> None:
        limit = CLIENT_MESSAGE_BYTES_MAX
        options = [
            ("grpc.max_receive_message_length", limit), ("grpc.max_send_message_length", limit),
            ("grpc.enable_http_proxy", 0), ("grpc.ssl_target_name_override", "meshd"),
        ]  # fmt: skip
        if root_certificates is None:
            self._channel = grpc.insecure_channel(target, options)
        else:
            self._channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(root_certificates), options)
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._infer = self._method("ModelInfer")
        self._describe = self._method("ModelMetadata")

    def __enter__(self) -> "Inference":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def describe(self, name: str, timeout_s: float = 10) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """Inputs and outputs of a deployment."""
        told = self._call(self._describe, message("inference.ModelMetadataRequest")(name=name), timeout_s)
        inputs, outputs = (
            [TensorSpec(t.name, t.datatype, tuple(t.shape)) for t in ts] for ts in (told.inputs, told.outputs)
        )
        return tuple(inputs), tuple(outputs)

    def infer(self, name: str, inputs: Mapping[str, Array], timeout_s: float = 30) -> Answer:
        """Run deployment `name`. Arrays must have the types and shapes that `describe` says; no copy is made but gRPC's.

        A node that is overloaded is asked again when it said to, until `timeout_s` is over: it has computed nothing.
        """
        if not 1 <= len(name) <= NAME_CHARS_MAX:
            raise MisuseError(f"a deployment's name has 1 to {NAME_CHARS_MAX} characters")
        request = message("inference.ModelInferRequest")(model_name=name)
        for each, array in inputs.items():
            request.inputs.add(name=each, datatype=_datatype(array), shape=array.shape)
            request.raw_input_contents.append(np.ascontiguousarray(array).tobytes())
        began_ns = time.monotonic_ns()
        told = self._call(self._infer, request, timeout_s)
        took_us = (time.monotonic_ns() - began_ns) // 1000
        if len(told.raw_output_contents) != len(told.outputs):
            raise InvalidError(f"{len(told.outputs)} outputs came with {len(told.raw_output_contents)} contents")
        outputs = {t.name: _array(t, raw) for t, raw in zip(told.outputs, told.raw_output_contents, strict=True)}
        return Answer(outputs, took_us, told.parameters[NODES_LOST].int64_param if NODES_LOST in told.parameters else 0)

    def _method(self, name: str) -> Any:
        reply = message(f"inference.{name}Response")
        return self._channel.unary_unary(
            f"/{INFERENCE}/{name}", lambda request: request.SerializeToString(), reply.FromString
        )

    def _call(self, method: Any, request: Any, timeout_s: float) -> Any:
        until_s = time.monotonic() + timeout_s
        while True:
            try:
                left_s = max(until_s - time.monotonic(), 0.001)
                return method(request, timeout=left_s, metadata=self._metadata)
            except grpc.RpcError as error:
                pause_s = _retry_after_s(error) * random.uniform(1, 2)  # Those refused together come back apart.
                if not 0 < pause_s < until_s - time.monotonic():
                    code, text = error.code(), error.details() or ""
                    raise _ERRORS.get(code, MeshdError)(text or f"the node failed: {code.name}; see its log") from error
                time.sleep(pause_s)


def _retry_after_s(error: Any) -> float:
    """What an overloaded node said of when to come again; 0 for any other error."""
    if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
        return 0.0
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in message("google.rpc.Status").FromString(value).details:
                if detail.type_url.endswith("/google.rpc.RetryInfo"):
                    delay = message("google.rpc.RetryInfo").FromString(detail.value).retry_delay
                    return float(delay.seconds + delay.nanos / 1e9)
    return 0.0


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
