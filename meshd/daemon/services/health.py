"""`grpc.health.v1.Health` from the private pool: grpcio-health-checking breaks once tritonclient stands beside it.

Services: `` and `inference.GRPCInferenceService` are this node; any other name is a deployment.
"""

import threading
from collections.abc import Iterator
from typing import Any, Final

import grpc

from meshd.config import STREAMS_MAX
from meshd.core.journey.frames import Code, Failure, Reason
from meshd.daemon.services import failures
from meshd.daemon.services.methods import Desk
from meshd.wire import oip

SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3
LOOK_INTERVAL_S: Final = 0.5
"""How late a watcher may hear of a change."""


class HealthService:
    """See the module."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._seats = threading.BoundedSemaphore(STREAMS_MAX)
        self._closed = threading.Event()

    def status(self, service: str) -> int | None:
        """A ServingStatus, or None for a name that is not known."""
        if service in ("", oip.INFERENCE, oip.HEALTH):
            return SERVING if self._desk.ready() else NOT_SERVING
        served = self._desk.plane.view().deployments.get(service)
        if served is None:
            return None
        return SERVING if served.plan is not None and self._desk.ready() else NOT_SERVING

    def check(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        """One look."""
        self._desk.gate.check(f"/{oip.HEALTH}/Check", context)
        service = _service(data)
        status = self.status(service)
        if status is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no service or deployment {service!r} here")
        return _answer(status or NOT_SERVING)

    def watch(self, data: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """The status now and whenever it changes."""
        self._desk.gate.check(f"/{oip.HEALTH}/Watch", context)
        if not self._seats.acquire(blocking=False):
            text = f"this node has {STREAMS_MAX} watchers of its health; use Check"
            failures.abort(context, Failure(Code.RESOURCE_EXHAUSTED, Reason.OVERLOADED, text, retry_after_us=1_000_000))
        try:
            service, told = _service(data), -1
            while context.is_active() and not self._closed.is_set():
                status = self.status(service)
                now = SERVICE_UNKNOWN if status is None else status
                if now != told:
                    told = now
                    yield _answer(now)
                self._closed.wait(LOOK_INTERVAL_S)
        finally:
            self._seats.release()

    def close(self) -> None:
        """End all watches."""
        self._closed.set()


def _service(data: bytes) -> str:
    return str(oip.message("grpc.health.v1.HealthCheckRequest").FromString(data).service)


def _answer(status: int) -> bytes:
    return bytes(oip.message("grpc.health.v1.HealthCheckResponse")(status=status).SerializeToString())


def add_health(server: grpc.Server, desk: Desk) -> HealthService:
    """Serve health on `server`."""
    service = HealthService(desk)
    handlers: dict[str, Any] = {
        "Check": grpc.unary_unary_rpc_method_handler(service.check),
        "Watch": grpc.unary_stream_rpc_method_handler(service.watch),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(oip.HEALTH, handlers),))
    return service
