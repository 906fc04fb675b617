"""`meshd.v1.AdminService`: what `meshctl` asks, answered from the board, the library and the driver.

Rule 1: sync gRPC on threads of its own; at most `WATCHERS_MAX` streams, so that they never starve the short calls.
Rule 2: only on a unix socket; whoever may open it may do everything. The gate is asked all the same, before every call: a
server on which that were not so could not be added by mistake.
Rule 3: nothing is decided here: commands go to the core, and its refusals are told as they are.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpc

from meshd.config import (
    BLOB_BYTES_MAX,
    NAME_CHARS_MAX,
    PIECE_BYTES_MAX,
    SEGMENTS_MAX,
    SUCCESSION_MAX,
    TOPOLOGY_BYTES_MAX,
    WATCHERS_MAX,
)
from meshd.core import events
from meshd.core.events import Command, Done, Refused
from meshd.core.ids import Digest
from meshd.core.plan import LayerCost, Objective, Policy
from meshd.core.view import View
from meshd.daemon.board import Board
from meshd.daemon.library import Entry, Library
from meshd.daemon.services.models import layer_costs, model_layers, model_ports, order
from meshd.daemon.services.picture import Kernels, status
from meshd.daemon.services.roles import Gate
from meshd.daemon.services.statuses import answers, streams
from meshd.daemon.tokens import Tokens
from meshd.errors import ConflictError, Exit, InvalidError, MeshdError, MisuseError, NotFoundError, UnavailableError
from meshd.v1 import admin_pb2 as pb
from meshd.v1 import admin_pb2_grpc

WATCH_INTERVAL_S = 0.25
WATCH_IDLE_S = 1.0
"""How long a silent stream waits before it looks whether its reader still lives."""
DEPLOY_TIMEOUT_S, DRAIN_TIMEOUT_S, TIMEOUT_S_MAX = 60.0, 180.0, 600.0


class Operator(Protocol):
    """The driver, as an operator's command sees it."""

    def operate_from_thread(self, command: Command, timeout_s: float) -> Done | Refused:
        """Put a command to the node and wait for its answer."""


@dataclass(frozen=True, slots=True)
class Desk:
    """All the service works with."""

    gate: Gate
    board: Board
    library: Library
    tokens: Tokens
    operator: Operator
    kernels: Kernels
    diagnose: Callable[[View], Sequence[pb.Finding]]
    announce: Callable[[], None]
    """Tells the core that models on disk changed."""
    listeners: Sequence[pb.Listener] = ()
    mesh_id: str = ""
    notes: tuple[str, ...] = ()
    """Standing problems of this daemon, for the status."""


class AdminService(admin_pb2_grpc.AdminServiceServicer):
    """See the module."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._started_ns = time.monotonic_ns()
        self._streams = threading.BoundedSemaphore(WATCHERS_MAX)

    # ------------------------------------------------------------ looking

    @answers
    def GetStatus(self, request: pb.GetStatusRequest, context: grpc.ServicerContext) -> pb.GetStatusResponse:
        """See admin.proto."""
        return pb.GetStatusResponse(status=self._status(self._desk.board.view))

    @streams
    def WatchStatus(
        self, request: pb.WatchStatusRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchStatusResponse]:
        """See admin.proto."""
        with _Seat(self._streams):
            view = self._desk.board.view
            yield pb.WatchStatusResponse(status=self._status(view))
            while context.is_active() and not self._desk.board.closed:
                if (newer := self._desk.board.wait_view(view.version, WATCH_IDLE_S)) is not None:
                    view = newer
                    yield pb.WatchStatusResponse(status=self._status(view))
                    time.sleep(WATCH_INTERVAL_S)

    @streams
    def WatchEvents(
        self, request: pb.WatchEventsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchEventsResponse]:
        """See admin.proto."""
        board, after = self._desk.board, int(request.after)
        with _Seat(self._streams):
            while context.is_active() and not board.closed:
                found, missed = board.wait_events(after, 0 if request.once else WATCH_IDLE_S)
                for event in found:
                    after = event.sequence
                    detail = {key: _text(value) for key, value in event.report.detail.items()}
                    told = pb.MeshEvent(
                        sequence=event.sequence,
                        wall_us=event.wall_us,
                        kind=event.report.kind,
                        subject=event.report.subject,
                        detail=detail,
                    )
                    yield pb.WatchEventsResponse(event=told, missed=missed if request.after else 0)
                    missed = 0
                if request.once:
                    return

    @answers
    def Diagnose(self, request: pb.DiagnoseRequest, context: grpc.ServicerContext) -> pb.DiagnoseResponse:
        """See admin.proto."""
        return pb.DiagnoseResponse(findings=self._desk.diagnose(self._desk.board.view))

    def _status(self, view: View) -> pb.Status:
        picture = status(view, self._costs, self._desk.kernels)
        picture.uptime_us = (time.monotonic_ns() - self._started_ns) // 1000
        picture.mesh_id = self._desk.mesh_id
        picture.listeners.extend(self._desk.listeners)
        picture.problems.extend(self._desk.notes)
        return picture

    def _costs(self, model: Digest) -> tuple[LayerCost, ...] | None:
        try:
            return layer_costs(self._desk.library.entry(model))
        except MeshdError:
            return None

    # ------------------------------------------------------------ models

    @answers
    def BeginPush(self, request: pb.BeginPushRequest, context: grpc.ServicerContext) -> pb.BeginPushResponse:
        """See admin.proto."""
        if len(request.topology) > TOPOLOGY_BYTES_MAX:
            raise InvalidError(f"a topology is at most {TOPOLOGY_BYTES_MAX} bytes, not {len(request.topology)}")
        model = Digest(hashlib.sha256(request.topology).hexdigest())
        self._desk.library.add(model, request.topology)
        missing = [digest for digest, _ in self._desk.library.missing(model)]
        if not missing:
            self._desk.announce()
        return pb.BeginPushResponse(model=model, missing=missing)

    @answers
    def PushBlob(self, pieces: Iterator[pb.PushBlobRequest], context: grpc.ServicerContext) -> pb.PushBlobResponse:
        """See admin.proto."""
        first = next(pieces, pb.PushBlobRequest())
        library = self._desk.library
        sizes = {digest: size for entry in library.models() for digest, size in entry.blobs}
        if (size := sizes.get(first.digest)) is None:
            raise NotFoundError(f"no model here names blob {first.digest[:12]!r}; begin with its topology (BeginPush)")

        def each() -> Iterator[bytes]:
            left = min(size, BLOB_BYTES_MAX)
            for message in _chain(first, pieces):
                left -= len(message.piece)
                if left < 0:
                    raise InvalidError(f"blob {first.digest[:12]} is {size} bytes; more arrived")
                yield message.piece

        library.add_blob(first.digest, each())
        self._desk.announce()
        return pb.PushBlobResponse()

    @answers
    def ListModels(self, request: pb.ListModelsRequest, context: grpc.ServicerContext) -> pb.ListModelsResponse:
        """See admin.proto."""
        return pb.ListModelsResponse(models=[self._summary(entry) for entry in self._desk.library.models()])

    @answers
    def GetModel(self, request: pb.GetModelRequest, context: grpc.ServicerContext) -> pb.GetModelResponse:
        """See admin.proto."""
        entry = self._desk.library.find(request.model)
        return pb.GetModelResponse(
            summary=self._summary(entry),
            inputs=model_ports(entry.graph.inputs),
            outputs=model_ports(entry.graph.outputs),
            layers=model_layers(entry),
            topology=bytes(self._desk.library.read(entry.model)) if request.with_topology else b"",
        )

    @answers
    def RemoveModel(self, request: pb.RemoveModelRequest, context: grpc.ServicerContext) -> pb.RemoveModelResponse:
        """See admin.proto."""
        entry = self._desk.library.find(request.model)
        if used := self._used_by(entry.model):
            raise ConflictError(f"{entry.graph.name} is deployed as {', '.join(used)}; retire that first")
        freed = self._desk.library.remove(entry.model)
        self._desk.announce()
        return pb.RemoveModelResponse(freed_bytes=freed)

    def _used_by(self, model: Digest) -> list[str]:
        return [name for name, served in sorted(self._desk.board.view.deployments.items()) if served.model == model]

    def _summary(self, entry: Entry) -> pb.ModelSummary:
        return pb.ModelSummary(
            digest=entry.model,
            name=entry.graph.name,
            weight_bytes=entry.weight_bytes,
            layer_count=entry.layer_count,
            whole=not self._desk.library.missing(entry.model),
            deployments=self._used_by(entry.model),
        )

    # ------------------------------------------------------------ commands

    @answers
    def Deploy(self, request: pb.DeployRequest, context: grpc.ServicerContext) -> pb.DeployResponse:
        """See admin.proto."""
        if not request.name.isprintable() or "/" in request.name or not 1 <= len(request.name) <= NAME_CHARS_MAX:
            raise MisuseError(
                f"deployment name {request.name[:40]!r}: 1 to {NAME_CHARS_MAX} printable characters, no slash"
            )
        entry = self._desk.library.find(request.model)
        if missing := self._desk.library.missing(entry.model):
            raise ConflictError(
                f"{len(missing)} blobs of {entry.graph.name} are not on this node; run meshctl model push again"
            )
        command = order(request.name, entry, _policy(request.policy))
        return pb.DeployResponse(detail=self._operate(command, request.timeout_ms, DEPLOY_TIMEOUT_S))

    @answers
    def Retire(self, request: pb.RetireRequest, context: grpc.ServicerContext) -> pb.RetireResponse:
        """See admin.proto."""
        command = events.Retire(request.name)
        return pb.RetireResponse(detail=self._operate(command, request.timeout_ms, DEPLOY_TIMEOUT_S))

    @answers
    def Drain(self, request: pb.DrainRequest, context: grpc.ServicerContext) -> pb.DrainResponse:
        """See admin.proto."""
        command = events.Drain(request.on)
        return pb.DrainResponse(detail=self._operate(command, request.timeout_ms, DRAIN_TIMEOUT_S))

    def _operate(self, command: Command, timeout_ms: int, default_s: float) -> str:
        timeout_s = min(timeout_ms / 1000 or default_s, TIMEOUT_S_MAX)
        match self._desk.operator.operate_from_thread(command, timeout_s):
            case Done(detail):
                return detail
            case Refused(kind, reason):
                raise _REFUSALS.get(kind, MeshdError)(reason)

    # ------------------------------------------------------------ tokens

    @answers
    def CreateToken(self, request: pb.CreateTokenRequest, context: grpc.ServicerContext) -> pb.CreateTokenResponse:
        """See admin.proto."""
        return pb.CreateTokenResponse(secret=self._desk.tokens.create(request.name, request.role))

    @answers
    def ListTokens(self, request: pb.ListTokensRequest, context: grpc.ServicerContext) -> pb.ListTokensResponse:
        """See admin.proto."""
        tokens = self._desk.tokens.list()
        return pb.ListTokensResponse(
            tokens=[pb.TokenEntry(name=t.name, role=t.role, created_s=t.created_s) for t in tokens]
        )

    @answers
    def RemoveToken(self, request: pb.RemoveTokenRequest, context: grpc.ServicerContext) -> pb.RemoveTokenResponse:
        """See admin.proto."""
        self._desk.tokens.remove(request.name)
        return pb.RemoveTokenResponse()


def add_admin(server: grpc.Server, desk: Desk) -> None:
    """Serve the admin API on `server`, whose threads are `WATCHERS_MAX` more than its short calls need."""
    service: Any = _Guarded(AdminService(desk), desk.gate)
    admin_pb2_grpc.add_AdminServiceServicer_to_server(service, server)  # type: ignore[no-untyped-call]


class _Guarded:
    """The service behind the gate: no handler can be reached without it."""

    def __init__(self, service: AdminService, gate: Gate) -> None:
        self._service, self._gate = service, gate

    def __getattr__(self, name: str) -> Callable[[Any, grpc.ServicerContext], Any]:
        act, path = getattr(self._service, name), f"/{_SERVICE}/{name}"

        def handle(request: Any, context: grpc.ServicerContext) -> Any:
            self._gate.check(path, context)
            return act(request, context)

        return handle


_SERVICE = "meshd.v1.AdminService"
_REFUSALS: dict[str, type[MeshdError]] = {
    Exit.USAGE.name: MisuseError,
    Exit.NOT_FOUND.name: NotFoundError,
    Exit.UNAVAILABLE.name: UnavailableError,
    Exit.CONFLICT.name: ConflictError,
}
MESSAGE_BYTES_MAX = TOPOLOGY_BYTES_MAX + PIECE_BYTES_MAX
"""A topology in one message is the longest."""


class _Seat:
    """A place among the streams, or RESOURCE_EXHAUSTED's cousin in our errors."""

    def __init__(self, seats: threading.BoundedSemaphore) -> None:
        self._seats = seats

    def __enter__(self) -> None:
        if not self._seats.acquire(blocking=False):
            raise UnavailableError(f"{WATCHERS_MAX} streams are open already; close a meshctl that watches")

    def __exit__(self, *_: object) -> None:
        self._seats.release()


def _policy(told: pb.DeployPolicy) -> Policy:
    if told.replicas > SUCCESSION_MAX:
        raise MisuseError(f"replicas {told.replicas}: at most {SUCCESSION_MAX}")
    if told.segments_min > SEGMENTS_MAX:
        raise MisuseError(f"min-segments {told.segments_min}: at most {SEGMENTS_MAX}")
    name = pb.DeployObjective.Name(told.objective).removeprefix("DEPLOY_OBJECTIVE_")
    return Policy(
        replicas=told.replicas or 2,
        objective=Objective.LATENCY if name == "UNSPECIFIED" else Objective[name],
        segments_min=told.segments_min or 1,
        memory_bytes_max=told.memory_bytes_max,
        keep_to=_labels(told.keep_to),
        avoid=_labels(told.avoid),
        keep_input=told.keep_input,
    )


def _labels(told: Sequence[str]) -> tuple[str, ...]:
    if len(told) > 16 or any(len(label) > 64 for label in told):
        raise MisuseError("at most 16 labels of 64 characters")
    return tuple(sorted(set(told)))


def _chain(first: pb.PushBlobRequest, rest: Iterator[pb.PushBlobRequest]) -> Iterator[pb.PushBlobRequest]:
    yield first
    yield from rest


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
