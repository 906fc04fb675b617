"""The Open Inference Protocol over gRPC: `inference.GRPCInferenceService`, Triton's superset as far as it fits a mesh.

Rule 1: what a method does stands in `methods`; here are bytes, deadlines, streams and statuses.
Rule 2: no generated `inference_pb2` is ever imported; messages come from the private pool (`wire.oip`).
Rule 3: requests and answers pass as bytes: tensors are views of what gRPC received, joined once into what it sends.
Rule 4: in a stream a failed request is an error message, and the stream goes on.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from meshd.config import CLIENT_THREADS, MS, STREAM_WINDOW, STREAMS_MAX
from meshd.core.journey.frames import Code, Failure, Reason
from meshd.daemon.services import failures
from meshd.daemon.services.methods import Desk, Methods, not_here
from meshd.daemon.services.roles import Gate
from meshd.dataplane.plane import RequestFailedError
from meshd.errors import DeniedError, InvalidError
from meshd.wire import oip
from meshd.wire.oip_request import InferRequest, read_request
from meshd.wire.oip_response import write_response, write_stream_error

THREADS: Final = CLIENT_THREADS + 3 * STREAMS_MAX
"""For the client server: a thread for each open stream (inference, health, reflection) beside those for calls."""


class InferenceService:
    """Handlers by method name; `add_inference` puts them on a server."""

    def __init__(self, desk: Desk) -> None:
        self._plane, self._gate, self._methods = desk.plane, desk.gate, Methods(desk)
        self._seats = threading.BoundedSemaphore(STREAMS_MAX)
        # Readers of streams never fill it: there is always a thread for what they read.
        self._stream_threads = ThreadPoolExecutor(STREAMS_MAX + CLIENT_THREADS // 2, "meshd-stream")

    # ------------------------------------------------------------ inference

    def ModelInfer(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        """One request, read from its bytes."""
        with self._plane.budget:
            request = read_request(data)
        return self._infer(request, context, stream=False)

    def _infer(self, request: InferRequest, context: grpc.ServicerContext, stream: bool) -> bytes:
        """Raises RequestFailedError."""
        answer = self._methods.infer(request, context.time_remaining(), context.add_callback)
        with self._plane.budget:
            return write_response(answer.model, answer.id, answer.outputs, answer.parameters, stream)

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
        id = ""
        try:
            with self._plane.budget:
                request = read_request(data)
            id = request.id
            return self._infer(request, context, stream=True)
        except RequestFailedError as error:
            return write_stream_error(str(error), id)
        except InvalidError as error:
            return write_stream_error(str(error), id)

    # ------------------------------------------------------------ handlers

    def handlers(self) -> dict[str, "grpc.RpcMethodHandler[bytes, bytes]"]:
        """A handler for every method of the service; those a mesh cannot have answer UNIMPLEMENTED."""
        found: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {}
        for method in oip.methods(oip.INFERENCE):
            path = f"/{oip.INFERENCE}/{method.name}"
            if method.name == "ModelStreamInfer":
                found[method.name] = grpc.stream_stream_rpc_method_handler(
                    _guarded_stream(self._gate, path, self.ModelStreamInfer)
                )
            elif method.name == "ModelInfer":
                found[method.name] = grpc.unary_unary_rpc_method_handler(_guarded(self._gate, path, self.ModelInfer))
            else:
                found[method.name] = grpc.unary_unary_rpc_method_handler(
                    _guarded(self._gate, path, self._unary(method))
                )
        return found

    def _unary(self, method: Any) -> "Handler":
        """A method of `Methods` over its messages' bytes."""
        act, reader = getattr(self._methods, method.name, None), oip.message(method.input_type.full_name).FromString

        def handle(data: bytes, context: grpc.ServicerContext) -> bytes:
            if act is None:
                raise not_here(method.name)
            try:
                request = reader(data)
            except DecodeError as error:
                raise InvalidError(f"not a {method.input_type.name}: {error}") from None
            return bytes(act(request).SerializeToString())

        return handle

    def close(self) -> None:
        """End the threads of streams."""
        self._stream_threads.shutdown(wait=False, cancel_futures=True)


Handler = Callable[[bytes, grpc.ServicerContext], bytes]


def _guarded(gate: Gate, path: str, act: Handler) -> Handler:
    """A unary handler: the gate first, then the request is read; failures become statuses."""

    def handle(data: bytes, context: grpc.ServicerContext) -> bytes:
        gate.check(path, context)
        try:
            return act(data, context)
        except RequestFailedError as error:
            failures.abort(context, error.failure)
        except InvalidError as error:
            failures.abort(context, failures.of_invalid(error, ""))
        except DeniedError as error:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        raise AssertionError("abort raises")

    return handle


def _guarded_stream(
    gate: Gate, path: str, act: Callable[[Iterator[bytes], grpc.ServicerContext], Iterator[bytes]]
) -> Callable[[Iterator[bytes], grpc.ServicerContext], Iterator[bytes]]:
    def handle(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        gate.check(path, context)
        yield from act(requests, context)

    return handle


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
