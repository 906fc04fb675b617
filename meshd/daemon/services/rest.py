"""The Open Inference Protocol over HTTP: `/v2/...`, as Triton and KServe have it, over the same `Methods` as gRPC.

Rule 1: trio's thread only receives and sends; reading JSON, looking up tokens and waiting for the mesh are on threads.
Rule 2: the gate comes before the body: whoever may not call sends us nothing. Every path is a method of the one role table.
Rule 3: what is read is bounded before it is read: calls, bytes of one body, bytes of all bodies, time.
Rule 4: errors are `{"error": text}`; 429 and 503 say when to come again (`Retry-After`).
"""

import json
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from meshd.config import CLIENT_MESSAGE_BYTES_MAX, HTTP_BODIES_BYTES_MAX, HTTP_BODY_US, HTTP_CALLS_MAX, MS, S
from meshd.core.journey.frames import Code, Failure, Reason
from meshd.daemon.services import failures
from meshd.daemon.services.methods import VERSION, Answered, Desk, Methods, not_here
from meshd.dataplane.plane import RequestFailedError
from meshd.errors import DeniedError, InvalidError
from meshd.wire import oip
from meshd.wire.oip_json import read_json, read_json_request, write_json_response
from meshd.wire.oip_request import InferRequest

JSON_BYTES: Final = "Inference-Header-Content-Length"
PIECE_BYTES: Final = 64 * 1024
"""An answer leaves in pieces of this size: TLS would else encrypt all of it in one go, on the thread that answers pings."""
STATUSES: Final = {
    Code.CANCELLED: 499, Code.INVALID_ARGUMENT: 400, Code.DEADLINE_EXCEEDED: 504, Code.NOT_FOUND: 404,
    Code.RESOURCE_EXHAUSTED: 429, Code.UNIMPLEMENTED: 501, Code.INTERNAL: 500, Code.UNAVAILABLE: 503,
}  # fmt: skip

_M: Final = "/v2/models/{name}"
_V: Final = _M + "/versions/{version}"
PATHS: Final = (
    ("GET", "/v2", "ServerMetadata"),
    ("GET", "/v2/health/live", "ServerLive"),
    ("GET", "/v2/health/ready", "ServerReady"),
    ("GET", "/v2/models/stats", "ModelStatistics"),
    ("POST", "/v2/repository/index", "RepositoryIndex"),
    ("POST", "/v2/repository/models/{model_name}/load", "RepositoryModelLoad"),
    ("POST", "/v2/repository/models/{model_name}/unload", "RepositoryModelUnload"),
    *(("GET", path, "ModelMetadata") for path in (_M, _V)),
    *(("GET", f"{path}/ready", "ModelReady") for path in (_M, _V)),
    *(("GET", f"{path}/config", "ModelConfig") for path in (_M, _V)),
    *(("GET", f"{path}/stats", "ModelStatistics") for path in (_M, _V)),
    *(("POST", f"{path}/infer", "ModelInfer") for path in (_M, _V)),
    *(
        (verb, path, "TraceSetting")
        for verb in ("GET", "POST")
        for path in ("/v2/trace/setting", f"{_M}/trace/setting")
    ),
    *((verb, "/v2/logging", "LogSettings") for verb in ("GET", "POST")),
    *(
        (verb, f"/v2/{kind.lower()}sharedmemory/{{rest:path}}", f"{kind}SharedMemory{act}")
        for kind in ("System", "Cuda")
        for verb, act in (("GET", "Status"), ("POST", "Register"))
    ),
)
"""(HTTP's method, path, the protocol's method); what stands in braces is a field of that method's request."""
_READY: Final = {"ServerLive": "live", "ServerReady": "ready", "ModelReady": "ready"}
"""Methods that answer 200 or, as the protocol has it, 400."""


def make_app(desk: Desk) -> Starlette:
    """The ASGI app of one node."""
    return _Rest(desk).app


class _Rest:
    def __init__(self, desk: Desk) -> None:
        self._desk, self._methods = desk, Methods(desk)
        # Not trio's own limiter: the store writes by that one, and must not wait for inference.
        self._threads = trio.CapacityLimiter(HTTP_CALLS_MAX)
        self._calls = self._body_bytes = 0
        self.app = Starlette(
            routes=[Route(path, self._endpoint(method), methods=[verb]) for verb, path, method in PATHS],
            exception_handlers={HTTPException: _refused},
        )

    def _endpoint(self, method: str) -> Callable[[Request], Any]:
        act = self._infer if method == "ModelInfer" else self._plain
        path = f"/{oip.INFERENCE}/{method}"

        async def endpoint(request: Request) -> Response:
            if self._calls >= HTTP_CALLS_MAX:
                return _failed(_busy(f"this node has {HTTP_CALLS_MAX} calls over HTTP at once"))
            self._calls += 1
            try:
                over_tls, sent = request.url.scheme == "https", request.headers.getlist("authorization")
                if refusal := await self._thread(lambda: self._desk.gate.refusal(path, over_tls, sent), over_tls):
                    return _error(403 if refusal.is_known else 401, refusal.text)
                return await act(request, method)
            finally:
                self._calls -= 1

        return endpoint

    async def _thread(self, act: Callable[[], Any], is_slow: bool = True) -> Any:
        # Abandoned at the end: a thread that waits for the mesh is told so by the plane.
        return await trio.to_thread.run_sync(act, limiter=self._threads, abandon_on_cancel=True) if is_slow else act()

    # ------------------------------------------------------------ what is served

    async def _plain(self, request: Request, method: str) -> Response:
        fields = {key: value for key, value in request.path_params.items() if key != "rest"}
        body = await self._body(request)
        if isinstance(body, Response):
            return body

        def act() -> Response:
            if (call := getattr(self._methods, method, None)) is None:
                raise not_here(method)
            if method == "RepositoryIndex" and body:
                fields["ready"] = read_json(memoryview(b"".join(body))).get("ready") is True
            told = as_json(call(oip.message(f"inference.{method}Request")(**fields)))
            if method == "RepositoryIndex":
                return _json(200, told["models"])  # Triton's form of it: the list alone.
            if method == "ModelConfig":
                return _json(200, told["config"])
            if key := _READY.get(method):
                return _json(200 if told[key] else 400, {"name": fields["name"], **told} if "name" in fields else told)
            return _json(200, told)

        return await self._thread(lambda: _translated(act))  # type: ignore[no-any-return]

    # ------------------------------------------------------------ inference

    async def _infer(self, request: Request, method: str) -> Response:
        name, version = request.path_params["name"], request.path_params.get("version", "")
        if request.headers.get("content-encoding", "identity") != "identity":
            return _error(415, "compressed bodies are not taken; send it as it is (tensors hardly shrink)")
        said = request.headers.get(JSON_BYTES)
        if said is not None and not said.isdecimal():
            return _error(400, f"{JSON_BYTES} is {said[:40]!r}; expected the JSON's length in bytes")
        body = await self._body(request)
        if isinstance(body, Response):
            return body
        hang_up = HangUp()

        def act() -> Response:
            try:
                with self._desk.plane.budget:
                    asked = read_json_request(b"".join(body), None if said is None else int(said))
                body.clear()
                asked.model_name, asked.model_version = name, version
                answered = self._methods.infer(asked, None, hang_up.add)
                with self._desk.plane.budget:
                    return _written(answered, asked)
            except InvalidError as error:
                raise RequestFailedError(failures.of_invalid(error, name)) from error

        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch, request, hang_up)
            response: Response = await self._thread(lambda: _translated(act))
            nursery.cancel_scope.cancel()
        return response

    async def _body(self, request: Request) -> list[bytes] | Response:
        """The body in pieces as they came, or why it is not taken."""
        said = request.headers.get("content-length", "0")
        claimed = int(said) if said.isdecimal() else 0
        size = held = 0
        pieces: list[bytes] = []
        try:
            with trio.move_on_after(HTTP_BODY_US / S) as limit:
                more = True
                while more:
                    message = await request.receive()
                    if message["type"] == "http.disconnect":
                        return _error(499, "the client went away")
                    piece, more = message.get("body", b""), message.get("more_body", False)
                    size += len(piece)
                    # What is said to come is claimed at once, what comes unsaid as it comes.
                    claim = max(claimed, size) - held
                    if held + claim > CLIENT_MESSAGE_BYTES_MAX:
                        return _error(
                            413, f"a request has at most {CLIENT_MESSAGE_BYTES_MAX} bytes; send a smaller batch"
                        )
                    if self._body_bytes + claim > HTTP_BODIES_BYTES_MAX:
                        return _failed(_busy("this node is being sent as much as it can hold"))
                    held += claim
                    self._body_bytes += claim
                    pieces += [piece] if piece else []
        finally:
            self._body_bytes -= held
        if limit.cancelled_caught:
            return _error(408, f"the body did not come within {HTTP_BODY_US // S} s")
        return pieces


class HangUp:
    """What to call once the client goes away; told of on trio's thread, asked for on the call's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[Callable[[], None]] = []
        self._is_gone = False

    def add(self, call: Callable[[], None]) -> bool:
        """See `methods.OnHangUp`."""
        with self._lock:
            self._calls.append(call)
            return not self._is_gone

    def now(self) -> None:
        """The client is gone."""
        with self._lock:
            self._is_gone = True
            calls = list(self._calls)
        for call in calls:
            call()


async def _watch(request: Request, hang_up: HangUp) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    hang_up.now()


# ---------------------------------------------------------------- answers


class Pieces(Response):
    """A body in buffers, sent bit by bit and never joined."""

    def __init__(
        self, pieces: Sequence[bytes | bytearray | memoryview], headers: dict[str, str], media_type: str
    ) -> None:
        self.body = b""
        super().__init__(None, 200, {"content-length": str(sum(map(len, pieces))), **headers}, media_type)
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for piece in self._pieces:
            for start in range(0, len(piece), PIECE_BYTES):
                part = bytes(memoryview(piece)[start : start + PIECE_BYTES])
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _written(answered: Answered, asked: InferRequest) -> Response:
    every = asked.parameters.get("binary_data_output") is True
    wanted = {each.name: each.parameters.get("binary_data", every) is True for each in asked.outputs}
    as_bytes = [wanted.get(output.name, every) for output in answered.outputs]
    pieces, json_bytes = write_json_response(
        answered.model, VERSION, answered.id, answered.outputs, answered.parameters, as_bytes
    )
    if json_bytes is None:
        return Pieces(pieces, {}, "application/json")
    return Pieces(pieces, {JSON_BYTES: str(json_bytes)}, "application/octet-stream")


def as_json(message: Any) -> dict[str, Any]:
    """A protocol message as Triton's JSON has it: proto names, enums by name, numbers as numbers, scalars always there."""
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            plain = kind.fields_by_name["value"].message_type is None
            found[field.name] = {str(key): each if plain else as_json(each) for key, each in value.items()}
        elif field.is_repeated:
            found[field.name] = [as_json(each) if kind is not None else each for each in value]
        elif kind is not None:
            if message.HasField(field.name):
                found[field.name] = as_json(value)
        else:
            found[field.name] = field.enum_type.values_by_number[value].name if field.enum_type else value
    return found


def _translated(act: Callable[[], Response]) -> Response:
    try:
        return act()
    except RequestFailedError as error:
        return _failed(error.failure)
    except InvalidError as error:
        return _failed(failures.of_invalid(error, ""))
    except DeniedError as error:
        return _error(403, str(error))


def _failed(failure: Failure) -> Response:
    wait = {"Retry-After": str(math.ceil(failure.retry_after_us / S))} if failure.retry_after_us else {}
    return _error(STATUSES[failure.code], failure.message, wait)


def _busy(text: str) -> Failure:
    return Failure(Code.RESOURCE_EXHAUSTED, Reason.OVERLOADED, f"{text}; come again", retry_after_us=1000 * MS)


def _error(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    headers = {"WWW-Authenticate": "Bearer", **(headers or {})} if status == 401 else headers
    return _json(status, {"error": text}, headers)


def _json(status: int, told: Any, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(told), status, headers, "application/json")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, f"{request.method} {request.url.path}: {error.detail}; paths begin with /v2")
