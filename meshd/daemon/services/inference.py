"""The Open Inference Protocol over gRPC: `inference.GRPCInferenceService`, Triton's superset as far as it fits a mesh.

Rule 1: a handler decides nothing about routes; it reads, checks, asks the data plane, and writes.
Rule 2: no generated `inference_pb2` is ever imported; messages come from the private pool (`wire.oip`).
Rule 3: requests and answers pass as bytes: tensors are views of what gRPC received, joined once into what it sends.
Rule 4: in a stream a failed request is an error message, and the stream goes on.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import grpc

from meshd.config import CLIENT_THREADS, MS, STREAM_WINDOW, STREAMS_MAX
from meshd.core.journey.frames import Code, Failure, Reason
from meshd.core.journey.route import find_route
from meshd.core.view import View
from meshd.daemon.services import failures, served
from meshd.daemon.services.roles import Gate
from meshd.daemon.services.tensors import answer_outputs, bind_inputs, chosen_outputs
from meshd.dataplane.links import Signature
from meshd.dataplane.plane import DataPlane, RequestFailedError
from meshd.errors import InvalidError
from meshd.wire import oip
from meshd.wire.oip_request import InferRequest, Parameter, read_request
from meshd.wire.oip_response import write_response, write_stream_error

VERSION: Final = "1"
"""The only version of a deployment there is; generations replace each other."""
THREADS: Final = CLIENT_THREADS + 3 * STREAMS_MAX
"""For the client server: a thread for each open stream (inference, health, reflection) beside those for calls."""

_NOT_HERE: Final = (
    "{}: not in a mesh: its nodes share no memory with a client and have no such settings;"
    " send tensors in the request, see meshctl for settings"
)


@dataclass(frozen=True, slots=True)
class Desk:
    """All the services of the client server work with."""

    plane: DataPlane
    gate: Gate
    version: str
    ready: Callable[[], bool]
    """Whether this node may be given requests (it is not draining or stopping)."""


class InferenceService:
    """Handlers by method name; `add_inference` puts them on a server."""

    def __init__(self, desk: Desk) -> None:
        self._plane, self._desk = desk.plane, desk
        self._seats = threading.BoundedSemaphore(STREAMS_MAX)
        # Readers of streams never fill it: there is always a thread for what they read.
        self._stream_threads = ThreadPoolExecutor(STREAMS_MAX + CLIENT_THREADS // 2, "meshd-stream")

    @property
    def view(self) -> View:
        return self._plane.view()

    # ------------------------------------------------------------ inference

    def ModelInfer(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        """One request, read from its bytes."""
        with self._plane.budget:
            request = read_request(data)
        return self._infer(request, context, stream=False)

    def _infer(self, request: InferRequest, context: grpc.ServicerContext, stream: bool) -> bytes:
        """Raises RequestFailedError, InvalidError."""
        plane, name = self._plane, request.model_name
        with plane.budget:
            signature = self.signature(name, request.model_version)
            deadline_us = _deadline_us(request, context)
            inputs, batch = bind_inputs(request, signature)
            chosen = chosen_outputs(request, signature)
        answer = plane.infer(name, inputs, batch, deadline_us, context.add_callback)
        with plane.budget:
            outputs = answer_outputs(signature, chosen, answer.raw, answer.batch)
            says: list[tuple[str, Parameter]] = []
            if request.parameters.get(_EMPTY_FINAL) is True:
                says.append(("triton_final_response", True))
            if answer.spent.lost:
                says.append((oip.NODES_LOST, answer.spent.lost))
            return write_response(name, request.id, outputs, says, stream)

    def ModelStreamInfer(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Requests of one stream, up to `STREAM_WINDOW` at once, answered in order."""
        if not self._seats.acquire(blocking=False):
            failures.abort(context, _too_many_streams())
        window: queue.Queue[Future[bytes] | None] = queue.Queue(STREAM_WINDOW)
        ended = threading.Event()
        reader = self._stream_threads.submit(self._read_stream, requests, context, window, ended)
        try:
            while (answer := window.get()) is not None:
                yield answer.result()
        finally:
            # Left early (the client went away): the reader may wait for room, and ends with the request stream.
            ended.set()
            _drain(window)
            reader.add_done_callback(lambda _: self._seats.release())

    def _read_stream(
        self,
        requests: Iterator[bytes],
        context: grpc.ServicerContext,
        window: "queue.Queue[Future[bytes] | None]",
        ended: threading.Event,
    ) -> None:
        try:
            for data in requests:
                if ended.is_set():
                    return
                window.put(self._stream_threads.submit(self._stream_one, data, context))
                if ended.is_set():
                    _drain(window)
                    return
        except grpc.RpcError:
            pass  # The client went away, or its stream broke: nothing more to read.
        finally:
            window.put(None)

    def _stream_one(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        id = name = ""
        try:
            with self._plane.budget:
                request = read_request(data)
            id, name = request.id, request.model_name
            return self._infer(request, context, stream=True)
        except RequestFailedError as error:
            return write_stream_error(str(error), id)
        except InvalidError as error:
            return write_stream_error(failures.of_invalid(error, name).message, id)

    def signature(self, name: str, version: str) -> Signature:
        """What a deployment takes and gives. Raises RequestFailedError where it cannot be asked for anything."""
        if (signature := self._plane.signatures(name)) is not None and name in self.view.deployments:
            if version not in ("", VERSION):
                text = f"deployment {name!r} has no version {version!r}; leave it out, or ask for {VERSION!r}"
                raise RequestFailedError(Failure(Code.NOT_FOUND, Reason.UNKNOWN_MODEL, text, name))
            return signature
        route = find_route(self.view, name, 0, {})
        if isinstance(route, Failure):
            raise RequestFailedError(route)
        text = f"deployment {name!r}: this node is still fetching the model's description; try again in a second"
        raise RequestFailedError(Failure(Code.UNAVAILABLE, Reason.NOT_SERVED, text, name, retry_after_us=1000 * MS))

    # ------------------------------------------------------------ what is served

    def ServerLive(self, request: Any, context: grpc.ServicerContext) -> Any:
        return oip.message("inference.ServerLiveResponse")(live=True)

    def ServerReady(self, request: Any, context: grpc.ServicerContext) -> Any:
        return oip.message("inference.ServerReadyResponse")(ready=self._desk.ready())

    def ModelReady(self, request: Any, context: grpc.ServicerContext) -> Any:
        known = self.view.deployments.get(request.name)
        ready = known is not None and known.plan is not None and request.version in ("", VERSION)
        return oip.message("inference.ModelReadyResponse")(ready=ready)

    def ServerMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        extensions = ["model_repository", "model_configuration", "statistics", "binary_tensor_data"]
        return oip.message("inference.ServerMetadataResponse")(
            name="meshd", version=self._desk.version, extensions=extensions
        )

    def ModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        return served.metadata(request.name, VERSION, self.signature(request.name, request.version))

    def ModelConfig(self, request: Any, context: grpc.ServicerContext) -> Any:
        return served.config(request.name, self.signature(request.name, request.version))

    def ModelStatistics(self, request: Any, context: grpc.ServicerContext) -> Any:
        if request.name:
            self.signature(request.name, request.version)
        names = [request.name] if request.name else sorted(self.view.deployments)
        response = oip.message("inference.ModelStatisticsResponse")()
        response.model_stats.extend(served.statistics(n, VERSION, self._plane.statistics(n)) for n in names)
        return response

    def RepositoryIndex(self, request: Any, context: grpc.ServicerContext) -> Any:
        return served.index(self.view, VERSION, request.ready)

    def RepositoryModelLoad(self, request: Any, context: grpc.ServicerContext) -> Any:
        """A deployment is loaded for as long as it is deployed: nothing to do."""
        route = find_route(self.view, request.model_name, 0, {})
        if isinstance(route, Failure):
            raise RequestFailedError(route)
        return oip.message("inference.RepositoryModelLoadResponse")()

    def RepositoryModelUnload(self, request: Any, context: grpc.ServicerContext) -> Any:
        name = request.model_name
        text = f"{name!r} is deployed to the whole mesh, which is its operator's to end: meshctl retire {name}"
        context.abort(grpc.StatusCode.PERMISSION_DENIED, text)

    # ------------------------------------------------------------ handlers

    def handlers(self) -> dict[str, "grpc.RpcMethodHandler[bytes, bytes]"]:
        """A handler for every method of the service; those a mesh cannot have answer UNIMPLEMENTED."""
        found: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {}
        for method in oip.methods(oip.INFERENCE):
            path = f"/{oip.INFERENCE}/{method.name}"
            act = getattr(self, method.name, None)
            if method.name == "ModelStreamInfer":
                found[method.name] = grpc.stream_stream_rpc_method_handler(_guarded_stream(self._desk.gate, path, act))
            elif method.name == "ModelInfer":
                found[method.name] = grpc.unary_unary_rpc_method_handler(
                    _guarded(self._desk.gate, path, _as_is, act, _as_is)
                )
            else:
                reader = oip.message(method.input_type.full_name).FromString
                found[method.name] = grpc.unary_unary_rpc_method_handler(
                    _guarded(self._desk.gate, path, reader, act or _not_here, _serialised)
                )
        return found

    def close(self) -> None:
        """End the threads of streams."""
        self._stream_threads.shutdown(wait=False, cancel_futures=True)


_EMPTY_FINAL: Final = "triton_enable_empty_final_response"
Handler = Callable[[Any, grpc.ServicerContext], Any]


def _guarded(
    gate: Gate, path: str, reader: Callable[[bytes], Any], act: Handler | None, writer: Callable[[Any], bytes]
) -> Callable[[bytes, grpc.ServicerContext], bytes]:
    """A unary handler: the gate first, then the request is read; failures become statuses."""
    assert act is not None, path

    def handle(data: bytes, context: grpc.ServicerContext) -> bytes:
        gate.check(path, context)
        try:
            return writer(act(reader(data), context))
        except RequestFailedError as error:
            failures.abort(context, error.failure)
        except InvalidError as error:
            failures.abort(context, failures.of_invalid(error, ""))

    return handle


def _guarded_stream(
    gate: Gate, path: str, act: Callable[[Iterator[bytes], grpc.ServicerContext], Iterator[bytes]] | None
) -> Callable[[Iterator[bytes], grpc.ServicerContext], Iterator[bytes]]:
    assert act is not None, path

    def handle(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        gate.check(path, context)
        yield from act(requests, context)

    return handle


def _as_is(data: Any) -> Any:
    return data


def _serialised(message: Any) -> bytes:
    return bytes(message.SerializeToString())


def _not_here(request: Any, context: grpc.ServicerContext) -> Any:
    name = type(request).DESCRIPTOR.name.removesuffix("Request")
    context.abort(grpc.StatusCode.UNIMPLEMENTED, _NOT_HERE.format(name))


def _deadline_us(request: InferRequest, context: grpc.ServicerContext) -> int:
    """The sooner of gRPC's deadline and the `timeout` parameter; 0 for none."""
    for name in ("sequence_id", "sequence_start", "sequence_end"):
        if request.parameters.get(name):
            raise InvalidError(
                f"parameter {name!r}: models keep no state between requests; pass state as inputs and outputs"
            )
    remaining_s = context.time_remaining()
    times = [] if remaining_s is None else [max(1, int(remaining_s * 1_000_000))]
    timeout = request.parameters.get("timeout")
    if isinstance(timeout, int) and not isinstance(timeout, bool) and timeout > 0:
        times.append(timeout)
    return min(times, default=0)


def _too_many_streams() -> Failure:
    text = f"this node has {STREAMS_MAX} open streams; use one of them, plain calls, or another node"
    return Failure(Code.RESOURCE_EXHAUSTED, Reason.OVERLOADED, text, retry_after_us=1000 * MS)


def _drain(window: "queue.Queue[Any]") -> None:
    while not window.empty():
        window.get_nowait()


def add_inference(server: grpc.Server, desk: Desk) -> InferenceService:
    """Serve the Open Inference Protocol on `server`, which has `THREADS` threads."""
    service = InferenceService(desk)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(oip.INFERENCE, service.handlers()),))
    return service
