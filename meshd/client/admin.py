"""The admin API as Python: one daemon, over its admin socket, blocking.

Rule 1: no numpy here: `meshctl status` must start fast on a small device.
Rule 2: every status of the far side becomes one of `meshd.errors`, so that a command's exit code is right by itself.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import grpc

from meshd.errors import (
    ConflictError,
    DeniedError,
    InvalidError,
    MeshdError,
    MisuseError,
    NotFoundError,
    UnavailableError,
)
from meshd.v1 import admin_pb2 as pb
from meshd.v1 import admin_pb2_grpc

Reply = TypeVar("Reply")

PIECE_BYTES = 512 * 1024
CALL_TIMEOUT_S = 20.0

_ERRORS: dict[grpc.StatusCode, type[MeshdError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: MisuseError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: UnavailableError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: UnavailableError,
    grpc.StatusCode.PERMISSION_DENIED: DeniedError,
    grpc.StatusCode.UNAUTHENTICATED: DeniedError,
    grpc.StatusCode.FAILED_PRECONDITION: ConflictError,
}


def find_socket(named: str | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """Where the daemon's admin socket is: as named, as `MESHD_SOCKET` says, the user's own daemon's, the system's.

    Raises
    ------
    UnavailableError
        There is none, naming where it was looked for.
    """
    if given := named or environ.get("MESHD_SOCKET"):
        places = [Path(given)]
    else:
        home = Path(environ.get("HOME", "/"))
        state = Path(environ.get("XDG_STATE_HOME") or home / ".local/state") / "meshd"
        folders = [state / "run", Path("/run/meshd")]
        if environ.get("XDG_RUNTIME_DIR"):
            folders.insert(0, Path(environ["XDG_RUNTIME_DIR"]) / "meshd")
        if environ.get("MESHD_STATE_DIR"):
            folders.insert(0, Path(environ["MESHD_STATE_DIR"]) / "run")
        places = [folder / "admin.sock" for folder in folders]
    for place in places:
        if place.is_socket():
            return place
    raise UnavailableError(
        f"no daemon here (looked at {', '.join(map(str, places))}); start one with `meshd run`, or name its socket with --socket"
    )


class Admin:
    """One daemon's admin API; a context manager. Methods raise `meshd.errors` only.

    Parameters
    ----------
    socket : the admin socket's path, see `find_socket`
    timeout_s : for calls that do not say otherwise
    """

    def __init__(self, socket: Path, timeout_s: float = CALL_TIMEOUT_S) -> None:
        self._socket, self._timeout_s = socket, timeout_s
        options = [("grpc.max_receive_message_length", 64 * 1024 * 1024), ("grpc.enable_http_proxy", 0)]
        self._channel = grpc.insecure_channel(f"unix:{socket.absolute()}", options)
        self._stub: Any = admin_pb2_grpc.AdminServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def __enter__(self) -> "Admin":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def status(self) -> pb.Status:
        """The mesh as the daemon sees it."""
        return self._call(pb.GetStatusResponse, self._stub.GetStatus, pb.GetStatusRequest()).status

    def inference_targets(self) -> list[str]:
        """Where this daemon answers `Inference` on its own machine, as that takes it.

        Raises
        ------
        UnavailableError
            It has no such listener yet.
        """
        found = [f"unix:{each.address}" for each in self.status().listeners if each.role == "client"]
        if not found:
            raise UnavailableError("this daemon serves no inference yet; see its log")
        return found

    def watch_status(self, timeout_s: float | None = None) -> Iterator[pb.Status]:
        """The same at once and after every change. Ends with UnavailableError when the time is up or the daemon stops."""
        with self._translated():
            for told in self._stub.WatchStatus(pb.WatchStatusRequest(), timeout=timeout_s):
                yield told.status

    def wait(self, holds: Callable[[pb.Status], bool], timeout_s: float, what: str) -> pb.Status:
        """The first status for which `holds`; UnavailableError naming `what` when the time is up."""
        try:
            for status in self.watch_status(timeout_s):
                if holds(status):
                    return status
        except UnavailableError as error:
            if not isinstance(error.__cause__, grpc.RpcError) or not _timed_out(error.__cause__):
                raise
        raise UnavailableError(f"{what}: not within {timeout_s:.3g} s; see meshctl status and meshctl doctor")

    def events(self, after: int = 0, once: bool = False) -> Iterator[tuple[pb.MeshEvent, int]]:
        """(event, how many before it were missed)."""
        with self._translated():
            for told in self._stub.WatchEvents(pb.WatchEventsRequest(after=after, once=once)):
                yield told.event, told.missed

    def push(
        self, topology: bytes, blobs: Mapping[str, bytes], progress: Callable[[int, int], None] = lambda done, all: None
    ) -> str:
        """Store a model on the daemon's disk: only blobs that are not there travel. Returns its digest.

        `progress(bytes sent, bytes to send)` is called as it goes.
        """
        begun = self._call(pb.BeginPushResponse, self._stub.BeginPush, pb.BeginPushRequest(topology=topology))
        for digest in begun.missing:
            if digest not in blobs:
                raise InvalidError(
                    f"blob {digest[:12]} is named by the topology but not in the bundle; convert the model again"
                )
        total, done = sum(len(blobs[digest]) for digest in begun.missing), 0
        for digest in begun.missing:
            self._call(pb.PushBlobResponse, self._stub.PushBlob, _pieces(digest, blobs[digest]), timeout_s=600)
            done += len(blobs[digest])
            progress(done, total)
        return begun.model

    def models(self) -> list[pb.ModelSummary]:
        """Models on the daemon's disk."""
        return list(self._call(pb.ListModelsResponse, self._stub.ListModels, pb.ListModelsRequest()).models)

    def model(self, name: str, with_topology: bool = False) -> pb.GetModelResponse:
        """One model, by digest, start of a digest, or name; with its topology's bytes where they are asked for."""
        request = pb.GetModelRequest(model=name, with_topology=with_topology)
        return self._call(pb.GetModelResponse, self._stub.GetModel, request)

    def remove_model(self, name: str) -> int:
        """Remove a model from the daemon's disk; returns the bytes freed."""
        return self._call(pb.RemoveModelResponse, self._stub.RemoveModel, pb.RemoveModelRequest(model=name)).freed_bytes

    def deploy(self, name: str, model: str, policy: pb.DeployPolicy, timeout_s: float = 60) -> str:
        """Serve `model` under `name`; returns what the daemon says for a person."""
        request = pb.DeployRequest(name=name, model=model, policy=policy, timeout_ms=int(timeout_s * 1000))
        return self._call(pb.DeployResponse, self._stub.Deploy, request, timeout_s + 5).detail

    def retire(self, name: str, timeout_s: float = 60) -> str:
        """Stop serving `name`."""
        return self._call(
            pb.RetireResponse,
            self._stub.Retire,
            pb.RetireRequest(name=name, timeout_ms=int(timeout_s * 1000)),
            timeout_s + 5,
        ).detail

    def drain(self, on: bool = True, timeout_s: float = 180) -> str:
        """Give up all the daemon's node holds, or take part again."""
        return self._call(
            pb.DrainResponse, self._stub.Drain, pb.DrainRequest(on=on, timeout_ms=int(timeout_s * 1000)), timeout_s + 5
        ).detail

    def create_token(self, name: str, role: str) -> str:
        """Make a token; returns its secret."""
        return self._call(
            pb.CreateTokenResponse, self._stub.CreateToken, pb.CreateTokenRequest(name=name, role=role)
        ).secret

    def tokens(self) -> list[pb.TokenEntry]:
        """All tokens, without secrets."""
        return list(self._call(pb.ListTokensResponse, self._stub.ListTokens, pb.ListTokensRequest()).tokens)

    def remove_token(self, name: str) -> None:
        """Forget a token."""
        self._call(pb.RemoveTokenResponse, self._stub.RemoveToken, pb.RemoveTokenRequest(name=name))

    def diagnose(self) -> list[pb.Finding]:
        """What keeps nodes apart."""
        return list(self._call(pb.DiagnoseResponse, self._stub.Diagnose, pb.DiagnoseRequest()).findings)

    def _call(self, reply: type[Reply], method: Any, request: Any, timeout_s: float | None = None) -> Reply:
        with self._translated():
            answer = method(request, timeout=timeout_s or self._timeout_s)
        assert isinstance(answer, reply)
        return answer

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            raise self._error(error) from error

    def _error(self, error: grpc.RpcError) -> MeshdError:
        code, text = error.code(), error.details() or ""
        if code is grpc.StatusCode.UNAVAILABLE and not self._socket.is_socket():
            return UnavailableError(f"the daemon at {self._socket} has stopped; start it with `meshd run`")
        if code is grpc.StatusCode.UNAVAILABLE and "connect" in text.lower():
            return UnavailableError(
                f"no daemon answers at {self._socket} ({text}); is it running, and may you open its socket?"
            )
        if _timed_out(error):
            return UnavailableError(
                "the daemon did not answer in time; it may be busy: try again, or wait longer (--timeout)"
            )
        return _ERRORS.get(code, MeshdError)(text or f"the daemon failed: {code.name}; see its log")


def _timed_out(error: BaseException) -> bool:
    return isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def _pieces(digest: str, blob: bytes) -> Iterable[pb.PushBlobRequest]:
    yield pb.PushBlobRequest(digest=digest)
    view = memoryview(blob)
    for start in range(0, len(view), PIECE_BYTES):
        yield pb.PushBlobRequest(piece=bytes(view[start : start + PIECE_BYTES]))
