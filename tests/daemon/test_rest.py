"""The Open Inference Protocol over HTTP: tritonclient unchanged, and by hand what it would never send."""

import http.client
import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from meshd.config import CLIENT_MESSAGE_BYTES_MAX, HTTP_JSON_BYTES_MAX, HTTP_JSON_NUMBERS_MAX
from meshd.core.ids import NodeId
from meshd.core.journey.frames import Cancel
from meshd.daemon.services.methods import Desk
from meshd.daemon.services.rest import PATHS, make_app
from meshd.daemon.services.roles import ROLES, Gate, Role
from meshd.net.identity import Identity
from meshd.wire import oip
from tests.daemon.webs import serving
from tests.dataplane.fake_mesh import WIDTH, FakeMesh


class Node:
    """A mesh's entry behind HTTP on loopback; over TLS where there is an identity."""

    def __init__(self, plan: list[list[str]] | None = None, identity: Identity | None = None) -> None:
        self.mesh = FakeMesh(plan or [["e"], ["e"]])
        self.is_ready = True
        self._stack = ExitStack()
        gate = Gate(Role.CLIENT, {"good": "client"}.get)
        desk = Desk(self.mesh.door.plane, gate, "0.1", lambda: self.is_ready)
        files = None if identity is None else (identity.certificate_path, identity.key_path)
        self.port, self.server = self._stack.enter_context(serving(lambda: make_app(desk), identity=files))

    def call(self, verb: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        """(status, JSON or bytes, headers) of one call on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        connection.request(verb, path, data, headers or {})
        response = connection.getresponse()
        text = response.read()
        connection.close()
        is_json = response.headers.get("content-type") == "application/json"
        return response.status, json.loads(text) if is_json else text, response.headers

    def infer(self, body: Any, path: str = "/v2/models/m/infer", headers: dict[str, str] | None = None) -> Any:
        """(status, answer)."""
        return self.call("POST", path, body, headers)[:2]

    def close(self) -> None:
        self.mesh.close()
        self._stack.close()


@pytest.fixture
def node() -> Iterator[Node]:
    made = Node()
    yield made
    made.close()


@pytest.fixture
def client(node: Node) -> Iterator[Any]:
    with triton.InferenceServerClient(f"127.0.0.1:{node.port}", concurrency=8) as made:
        yield made


def _input(value: float = 1.0, batch: int = 1, binary: bool = True) -> Any:
    tensor = triton.InferInput("x", [batch, WIDTH], "FP32")
    tensor.set_data_from_numpy(np.full((batch, WIDTH), value, np.float32), binary_data=binary)
    return tensor


def test_a_client_finds_out_what_there_is(node: Node, client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("m")
    assert client.is_model_ready("m", "1")
    assert not client.is_model_ready("nothing")
    server = client.get_server_metadata()
    assert (server["name"], server["version"]) == ("meshd", "0.1")
    assert "binary_tensor_data" in server["extensions"]
    model = client.get_model_metadata("m")
    assert (model["name"], model["versions"], model["platform"]) == ("m", ["1"], "meshd")
    assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, WIDTH]}]
    config = client.get_model_config("m", "1")
    assert config["max_batch_size"] > 0
    assert config["output"] == [{"name": "y", "data_type": "TYPE_FP32", "dims": [WIDTH]}]
    ready = [{"name": "m", "version": "1", "state": "READY", "reason": ""}]
    assert client.get_model_repository_index() == ready
    assert node.call("POST", "/v2/repository/index", {"ready": True})[1] == ready
    node.is_ready = False
    assert not client.is_server_ready()
    assert client.is_server_live()
    assert node.call("GET", "/v2/health/ready")[:2] == (400, {"ready": False})
    assert node.call("GET", "/v2/models/m/ready")[:2] == (200, {"name": "m", "ready": True})


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_an_inference_in_json_and_in_bytes(client: Any, binary_in: bool, binary_out: bool | None) -> None:
    outputs = None if binary_out is None else [triton.InferRequestedOutput("y", binary_data=binary_out)]
    answer = client.infer("m", [_input(2.0, 3, binary_in)], request_id="abc", outputs=outputs)
    assert np.array_equal(answer.as_numpy("y"), np.full((3, WIDTH), 5.0, np.float32))
    told = answer.get_response()
    assert (told["model_name"], told["model_version"], told["id"]) == ("m", "1", "abc")
    assert ("data" in told["outputs"][0]) == (binary_out is False)


def test_many_async_inferences_at_once(client: Any) -> None:
    calls = [client.async_infer("m", [_input(value)]) for value in range(20)]
    assert sorted(float(call.get_result().as_numpy("y")[0, 0]) for call in calls) == [v + 3.0 for v in range(20)]


def test_statistics_count_what_was_asked_whichever_way(client: Any) -> None:
    client.infer("m", [_input(1.0, 4)])
    (stats,) = client.get_inference_statistics("m")["model_stats"]
    assert (stats["name"], stats["version"], stats["inference_count"], stats["execution_count"]) == ("m", "1", 4, 1)
    assert stats["inference_stats"]["success"]["count"] == 1
    assert client.get_inference_statistics()["model_stats"][0]["name"] == "m"


def test_loading_is_the_meshs_business(client: Any) -> None:
    client.load_model("m")
    with pytest.raises(InferenceServerException, match="no model 'nothing'"):
        client.load_model("nothing")
    with pytest.raises(InferenceServerException, match="meshctl retire m") as caught:
        client.unload_model("m")
    assert caught.value.status() == "403"
    for call in (client.get_system_shared_memory_status, client.get_trace_settings, client.get_log_settings):
        with pytest.raises(InferenceServerException, match="share no memory") as caught:
            call()
        assert caught.value.status() == "501"


X = {"name": "x", "datatype": "FP32", "shape": [1, WIDTH]}
ONES = [1.0] * WIDTH


def test_data_may_be_nested_and_a_batch_may_come_in_rows(node: Node) -> None:
    rows = {**X, "shape": [2, WIDTH], "data": [ONES, [2] * WIDTH]}
    status, told = node.infer({"inputs": [rows]}, "/v2/models/m/versions/1/infer")
    assert (status, told["outputs"][0]["shape"]) == (200, [2, WIDTH])
    assert told["outputs"][0]["data"] == [4.0] * WIDTH + [5.0] * WIDTH


def _with(**change: Any) -> dict[str, Any]:
    return {"inputs": [{**X, "data": ONES, **change}]}


BAD = {
    "unknown model": ("/v2/models/nothing/infer", _with(), 404, "no model 'nothing' is deployed"),
    "wrong version": ("/v2/models/m/versions/2/infer", _with(), 404, "no version '2'"),
    "no such path": ("/v2/what", _with(), 404, "paths begin with /v2"),
    "no JSON": ("", b"{", 400, "not JSON"),
    "deep JSON": ("", b"[" * 100_000, 400, "not JSON|nested"),
    "a list": ("", b"[]", 400, "expected a JSON object"),
    "not UTF-8": ("", b'{"id": "\xff"}', 400, "not JSON"),
    "wrong name": ("", _with(name="z"), 400, "deployment 'm': unknown input 'z'"),
    "wrong type": ("", _with(datatype="INT32"), 400, "has datatype INT32; expected FP32"),
    "wrong shape": ("", _with(shape=[1, 7]), 400, r"shape \[1, 7\]; expected \[-1, 8\]"),
    "a shape of text": ("", _with(shape="8"), 400, "expected a list of at most 8"),
    "a huge shape": ("", _with(shape=[2**62, WIDTH]), 400, "send a smaller batch"),
    "no data": ("", {"inputs": [X]}, 400, "has no data"),
    "no inputs": ("", {}, 400, "input 'x' is missing"),
    "too many inputs": ("", {"inputs": [{}] * 300}, 400, "300 inputs; at most 256"),
    "too few numbers": ("", _with(data=[1.0]), 400, "has 1 numbers"),
    "text for numbers": ("", _with(data=["1"] * WIDTH), 400, "values of type str"),
    "nothing for a number": ("", _with(data=[None] * WIDTH), 400, "values of type NoneType"),
    "a number for text": ("", _with(name=5), 400, "'name': expected text"),
    "ragged": ("", _with(data=[[1.0], 2.0]), 400, "nested at most"),
    "a number past its type": ("", _with(data=[10**400] * WIDTH), 400, "not JSON|outside float32"),
    "parameters in parameters": ("", _with(parameters={"a": {}}), 400, "expected a number"),
    "bytes that are not there": ("", _with(parameters={"binary_data_size": 32}), 400, "0 bytes are left"),
    "wrong output": ("", {**_with(), "outputs": [{"name": "q"}]}, 400, "unknown output 'q'"),
    "a sequence": ("", {**_with(), "parameters": {"sequence_id": 5}}, 400, "keep no state"),
    "classes": ("", {**_with(), "outputs": [{"name": "y", "parameters": {"classification": 2}}]}, 501, "raw scores"),
    "much JSON": ("", b" " * (HTTP_JSON_BYTES_MAX + 1), 400, "send tensors as bytes"),
}


@pytest.mark.parametrize(("path", "body", "code", "says"), BAD.values(), ids=BAD)
def test_a_bad_request_is_told_what_was_expected(node: Node, path: str, body: Any, code: int, says: str) -> None:
    status, told = node.infer(body, path or "/v2/models/m/infer")
    assert status == code, told
    assert list(told) == ["error"]
    assert re.search(says, told["error"]), told
    assert node.infer(_with())[0] == 200


def test_headers_that_lie_are_told_so(node: Node) -> None:
    data = json.dumps(_with()).encode()
    name = "Inference-Header-Content-Length"
    assert node.infer(data, headers={name: "many"})[0] == 400
    assert "the body has" in node.infer(data, headers={name: "9999"})[1]["error"]
    assert "belong to no input" in node.infer(data + b"1234", headers={name: str(len(data))})[1]["error"]
    assert node.infer(data, headers={"Content-Encoding": "gzip"})[0] == 415
    assert node.call("GET", "/v2/models/m/infer")[0] == 405


def test_a_body_past_the_limit_is_refused_before_it_is_read(node: Node) -> None:
    with socket.create_connection(("127.0.0.1", node.port), 10) as caller:
        head = f"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {CLIENT_MESSAGE_BYTES_MAX + 1}\r\n\r\n"
        caller.sendall(head.encode() + b"{")
        assert caller.recv(4096).startswith(b"HTTP/1.1 413")


def test_headers_past_the_limit_are_refused(node: Node) -> None:
    with socket.create_connection(("127.0.0.1", node.port), 10) as caller:
        caller.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000)
        assert caller.recv(4096).startswith(b"HTTP/1.1 431")


def test_numbers_too_many_for_json_are_to_be_asked_for_as_bytes(node: Node) -> None:
    batch = HTTP_JSON_NUMBERS_MAX // WIDTH + 1
    raw = np.zeros((batch, WIDTH), np.float32).tobytes()
    head = {"inputs": [{**X, "shape": [batch, WIDTH], "parameters": {"binary_data_size": len(raw)}}]}
    text = json.dumps(head).encode()
    status, told = node.infer(text + raw, headers={"Inference-Header-Content-Length": str(len(text))})
    assert (status, "binary_data_output" in told["error"]) == (400, True)


def test_a_failure_has_its_status_and_says_when_to_come_again() -> None:
    node = Node([["e"], ["a"]])
    try:
        node.mesh.kill("a")
        node.mesh.suspect("a")  # Or it would be waited for, to the deadline.
        status, told, _ = node.call("POST", "/v2/models/m/infer", _with())
        assert status == 503
        assert "segment 1" in told["error"]
    finally:
        node.close()


def test_a_deadline_that_passed_is_a_504() -> None:
    node = Node([["a"]])
    gate = threading.Event()
    node.mesh.nodes[NodeId("a")].segment(0).before = lambda: gate.wait(20)  # type: ignore[assignment,return-value]
    try:
        status, told = node.infer({**_with(), "parameters": {"timeout": 50_000}})
        assert status == 504, told
    finally:
        gate.set()
        node.close()


def test_overload_is_a_429_with_a_time_to_come_again() -> None:
    node = Node([["e"]])
    gate, answers = threading.Event(), []
    node.mesh.door.segment(0).before = lambda: gate.wait(20)  # type: ignore[assignment,return-value]

    def ask() -> None:
        answers.append(node.call("POST", "/v2/models/m/infer", _with()))
        if answers[-1][0] == 429:
            gate.set()

    threads = [threading.Thread(target=ask) for _ in range(30)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert {status for status, _, _ in answers} == {200, 429}
        refused = next(each for each in answers if each[0] == 429)
        assert int(refused[2]["retry-after"]) >= 1
        assert "deployment 'm'" in refused[1]["error"]
    finally:
        gate.set()
        node.close()


def test_a_client_that_goes_away_frees_what_it_held() -> None:
    node = Node([["a"]])
    there, gate = threading.Event(), threading.Event()

    def stop() -> None:
        there.set()
        gate.wait(20)

    node.mesh.nodes[NodeId("a")].segment(0).before = stop
    try:
        caller = socket.create_connection(("127.0.0.1", node.port), 10)
        body = json.dumps(_with()).encode()
        head = f"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        caller.sendall(head.encode() + body)
        assert there.wait(10)
        caller.close()
        node.mesh.door.links.wait_for(Cancel)
    finally:
        gate.set()
        node.close()


def test_a_server_stops_while_a_client_takes_nothing_in() -> None:
    node = Node([["e"]])
    try:
        batch = 200_000
        raw = np.zeros((batch, WIDTH), np.float32).tobytes()
        described = {**X, "shape": [batch, WIDTH], "parameters": {"binary_data_size": len(raw)}}
        text = json.dumps({"inputs": [described], "parameters": {"binary_data_output": True}}).encode()
        caller = socket.create_connection(("127.0.0.1", node.port), 10)
        head = (
            f"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(text) + len(raw)}\r\n"
            f"Inference-Header-Content-Length: {len(text)}\r\n\r\n"
        )
        caller.sendall(head.encode() + text + raw)
        assert caller.recv(16).startswith(b"HTTP/1.1 200")
    finally:
        node.close()  # `serving` fails where the server does not stop.
    caller.close()


def test_over_tls_a_token_is_asked_for_before_the_body(tmp_path: Path) -> None:
    identity = Identity.load_or_create(tmp_path)
    node = Node(identity=identity)

    def context() -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=str(identity.certificate_path))
        made.check_hostname = False  # The name is meshd, the address is not.
        return made

    def client() -> Any:
        where = f"127.0.0.1:{node.port}"
        return triton.InferenceServerClient(where, ssl=True, ssl_context_factory=context, insecure=True)

    try:
        with client() as good:
            headers = {"authorization": "Bearer good"}
            assert good.is_server_live(headers=headers)
            answer = good.infer("m", [_input(2.0)], headers=headers)
            assert np.array_equal(answer.as_numpy("y"), np.full((1, WIDTH), 5.0, np.float32))
        for headers in ({}, {"authorization": "Bearer bad"}, {"authorization": "good"}):
            with client() as stranger, pytest.raises(InferenceServerException, match="token") as caught:
                stranger.infer("m", [_input()], headers=headers)
            assert caught.value.status() == "401"
    finally:
        node.close()


def test_connections_past_the_limit_are_turned_away(node: Node) -> None:
    callers = [socket.create_connection(("127.0.0.1", node.port), 10) for _ in range(33)]
    head = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    told = []
    for caller in callers:
        try:
            caller.sendall(head)
            told.append(caller.recv(12))
        except OSError:
            told.append(b"")
        # Kept open: what counts is how many there are at once.
    for caller in callers:
        caller.close()
    assert told.count(b"HTTP/1.1 200") == 32
    assert node.server.refused == 1


def test_every_path_is_a_method_of_the_one_role_table() -> None:
    methods = {each.name for each in oip.methods(oip.INFERENCE)}
    for verb, path, method in PATHS:
        assert f"/{oip.INFERENCE}/{method}" in ROLES, (verb, path)
    served = {method for _, _, method in PATHS}
    # Streams are gRPC's; one path of shared memory stands for what it would do.
    assert methods - served == {
        "ModelStreamInfer", "SystemSharedMemoryUnregister", "CudaSharedMemoryUnregister",
    }  # fmt: skip
