"""The Open Inference Protocol, called by tritonclient unchanged, in the process that holds the server's message classes."""

import asyncio
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from meshd.core.ids import NodeId
from meshd.core.journey.frames import Cancel
from meshd.daemon.servers import listen_tcp, listen_unix, make_server
from meshd.daemon.services.inference import THREADS, add_inference
from meshd.daemon.services.methods import Desk
from meshd.daemon.services.roles import Gate, Role
from meshd.wire import oip
from tests.dataplane.fake_mesh import WIDTH, FakeMesh


class Daemon:
    """A mesh's entry behind a real server, on a unix socket and on loopback."""

    def __init__(self, folder: Path, plan: list[list[str]] | None = None) -> None:
        self.mesh = FakeMesh(plan or [["e"], ["e"]])
        self.server = make_server(THREADS, 1 << 26, "client")
        gate = Gate(Role.CLIENT, lambda token: None)
        self.service = add_inference(self.server, Desk(self.mesh.door.plane, gate, "0.1", lambda: True))
        self.unix = "unix:" + listen_unix(self.server, folder / "client.sock")
        self.tcp = f"127.0.0.1:{listen_tcp(self.server, '127.0.0.1', 0, None)}"
        self.server.start()

    def close(self) -> None:
        self.server.stop(0).wait(10)
        self.service.close()
        self.mesh.close()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path)
    yield made
    made.close()


@pytest.fixture(params=["unix", "tcp"])
def client(request: pytest.FixtureRequest, daemon: Daemon) -> Iterator[Any]:
    with triton.InferenceServerClient(getattr(daemon, request.param)) as made:
        yield made


def _input(value: float = 1.0, batch: int = 1, name: str = "x", width: int = WIDTH, kind: str = "FP32") -> Any:
    tensor = triton.InferInput(name, [batch, width], kind)
    dtype = {"FP32": np.float32, "INT32": np.int32}[kind]
    tensor.set_data_from_numpy(np.full((batch, width), value, dtype))
    return tensor


def test_a_client_finds_out_what_there_is(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("m")
    assert client.is_model_ready("m", "1")
    assert not client.is_model_ready("nothing")
    server = client.get_server_metadata()
    assert (server.name, server.version) == ("meshd", "0.1")
    model = client.get_model_metadata("m")
    assert (model.name, list(model.versions)) == ("m", ["1"])
    assert [(t.name, t.datatype, list(t.shape)) for t in model.inputs] == [("x", "FP32", [-1, WIDTH])]
    config = client.get_model_config("m").config
    assert config.max_batch_size > 0
    assert [(t.name, t.data_type, list(t.dims)) for t in config.output] == [("y", 11, [WIDTH])]
    index = client.get_model_repository_index()
    assert [(m.name, m.version, m.state) for m in index.models] == [("m", "1", "READY")]


def test_an_inference_answers_with_its_id(client: Any) -> None:
    answer = client.infer("m", [_input(2.0, 3)], request_id="abc", outputs=[triton.InferRequestedOutput("y")])
    assert np.array_equal(answer.as_numpy("y"), np.full((3, WIDTH), 5.0, np.float32))
    assert answer.get_response().id == "abc"


def test_many_async_inferences_at_once(client: Any) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    for value in range(20):
        client.async_infer("m", [_input(value)], callback=lambda result, error: answers.put((result, error)))
    got = [answers.get(timeout=20) for _ in range(20)]
    assert [error for _, error in got if error] == []
    assert sorted(float(r.as_numpy("y")[0, 0]) for r, _ in got) == [v + 3.0 for v in range(20)]


def test_a_stream_answers_errors_in_band_and_goes_on(client: Any) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    for value in range(5):
        client.async_stream_infer("m", [_input(value)], request_id=str(value))
    client.async_stream_infer("m", [_input(0, name="wrong")], request_id="bad")
    client.async_stream_infer("nothing", [_input(0)])
    client.async_stream_infer("m", [_input(9)], request_id="after", enable_empty_final_response=True)
    got = [answers.get(timeout=20) for _ in range(8)]
    client.stop_stream()
    assert [float(r.as_numpy("y")[0, 0]) for r, e in got if e is None] == [3.0, 4.0, 5.0, 6.0, 7.0, 12.0]
    assert [str(e) for _, e in got if e is not None] == [
        "deployment 'm': unknown input 'wrong'; the model takes x FP32 [-1, 8]",
        "no model 'nothing' is deployed in this mesh (deployed: m)",
    ]
    assert got[-1][0].get_response().parameters["triton_final_response"].bool_param


def test_statistics_count_what_was_asked(client: Any) -> None:
    client.infer("m", [_input(1.0, 4)])
    with pytest.raises(InferenceServerException):
        client.infer("m", [_input(kind="INT32")])
    (stats,) = client.get_inference_statistics("m").model_stats
    assert (stats.name, stats.version, stats.inference_count, stats.execution_count) == ("m", "1", 4, 1)
    assert stats.inference_stats.success.count == 1
    assert stats.inference_stats.success.ns > 0


def test_loading_is_the_meshs_business(client: Any) -> None:
    client.load_model("m")
    with pytest.raises(InferenceServerException, match="no model 'nothing'"):
        client.load_model("nothing")
    with pytest.raises(InferenceServerException, match="meshctl retire m"):
        client.unload_model("m")
    with pytest.raises(InferenceServerException, match="share no memory"):
        client.get_system_shared_memory_status()


BAD = {
    "unknown model": ({"model": "nothing"}, "NOT_FOUND", r"no model 'nothing' is deployed .*deployed: m"),
    "wrong version": ({"version": "2"}, "NOT_FOUND", "no version '2'"),
    "wrong name": ({"name": "z"}, "INVALID_ARGUMENT", r"unknown input 'z'; the model takes x FP32 \[-1, 8\]"),
    "wrong type": ({"kind": "INT32"}, "INVALID_ARGUMENT", "'x' has datatype INT32; expected FP32"),
    "wrong shape": ({"width": 7}, "INVALID_ARGUMENT", r"'x' has shape \[1, 7\]; expected \[-1, 8\]"),
    "wrong output": ({"output": "q"}, "INVALID_ARGUMENT", r"unknown output 'q'; the model gives y FP32 \[-1, 8\]"),
    "a sequence": ({"sequence_id": 5}, "INVALID_ARGUMENT", "keep no state"),
    "classes": ({"class_count": 2}, "UNIMPLEMENTED", "classification is not supported"),
}


@pytest.mark.parametrize(("how", "code", "says"), BAD.values(), ids=BAD)
def test_a_bad_request_is_told_what_was_expected(daemon: Daemon, how: dict[str, Any], code: str, says: str) -> None:
    tensor = _input(name=how.get("name", "x"), width=how.get("width", WIDTH), kind=how.get("kind", "FP32"))
    outputs = [triton.InferRequestedOutput(how.get("output", "y"), class_count=how.get("class_count", 0))]
    with (
        triton.InferenceServerClient(daemon.tcp) as client,
        pytest.raises(InferenceServerException, match=says) as caught,
    ):
        client.infer(
            how.get("model", "m"),
            [tensor],
            how.get("version", ""),
            outputs,
            sequence_id=how.get("sequence_id", 0),
        )
    assert caught.value.status() == f"StatusCode.{code}"


Request = oip.message("inference.ModelInferRequest")
SHAPE = [1, WIDTH]
RAW = bytes(4 * WIDTH)
MESSAGES = {
    "too few bytes": (
        Request(
            model_name="m", inputs=[{"name": "x", "datatype": "FP32", "shape": SHAPE}], raw_input_contents=[b"1234"]
        ),
        r"'x' has 4 bytes; FP32 \[1, 8\] is 32",
    ),
    "no data": (Request(model_name="m", inputs=[{"name": "x", "datatype": "FP32", "shape": SHAPE}]), "has no data"),
    "no inputs": (Request(model_name="m"), "input 'x' is missing"),
    "twice": (Request(model_name="m", inputs=[{"name": "x"}, {"name": "x"}]), "given twice"),
    "both": (
        Request(
            model_name="m",
            inputs=[{"name": "x", "datatype": "FP32", "shape": SHAPE, "contents": {"fp32_contents": [1.0]}}],
            raw_input_contents=[RAW],
        ),
        "both contents and raw_input_contents",
    ),
    "one raw for none": (
        Request(
            model_name="m",
            inputs=[{"name": "x", "datatype": "FP32", "shape": SHAPE}],
            raw_input_contents=[RAW, RAW],
        ),
        "2 raw_input_contents for 1 inputs",
    ),
    "a huge shape": (
        Request(
            model_name="m",
            inputs=[{"name": "x", "datatype": "FP32", "shape": [2**62, WIDTH]}],
            raw_input_contents=[RAW],
        ),
        "send a smaller batch",
    ),
    "no batch": (
        Request(
            model_name="m", inputs=[{"name": "x", "datatype": "FP32", "shape": [0, WIDTH]}], raw_input_contents=[b""]
        ),
        r"shape \[0, 8\]",
    ),
    "too few numbers": (
        Request(
            model_name="m",
            inputs=[{"name": "x", "datatype": "FP32", "shape": SHAPE, "contents": {"fp32_contents": [1.0]}}],
        ),
        "has 1 fp32_contents",
    ),
    "two million empty inputs": (b"\x2a\x00" * 2_000_000, "more than 256 inputs"),
    "noise": (b"\xff\xfe\xfd" * 10, "64 bits|cut short|wire type"),
}


@pytest.mark.parametrize(("message", "says"), MESSAGES.values(), ids=MESSAGES)
def test_malformed_messages_are_invalid_and_disturb_nobody(daemon: Daemon, message: Any, says: str) -> None:
    data = message if isinstance(message, bytes) else message.SerializeToString()
    with grpc.insecure_channel(daemon.unix) as channel:
        call = channel.unary_unary(f"/{oip.INFERENCE}/ModelInfer")
        with pytest.raises(grpc.RpcError, match=says) as caught:
            call(data, timeout=20)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        good = Request(
            model_name="m", inputs=[{"name": "x", "datatype": "FP32", "shape": SHAPE}], raw_input_contents=[RAW]
        )
        assert call(good.SerializeToString(), timeout=20)


def test_typed_contents_are_taken_too(daemon: Daemon) -> None:
    typed = Request(
        model_name="m",
        inputs=[{"name": "x", "datatype": "FP32", "shape": SHAPE, "contents": {"fp32_contents": [1.5] * WIDTH}}],
    )
    with grpc.insecure_channel(daemon.tcp) as channel:
        data = channel.unary_unary(f"/{oip.INFERENCE}/ModelInfer")(typed.SerializeToString(), timeout=20)
    response = oip.message("inference.ModelInferResponse").FromString(data)
    assert np.all(np.frombuffer(response.raw_output_contents[0], np.float32) == 4.5)


def test_a_failure_carries_its_reason_and_the_node(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, [["e"], ["a"]])
    try:
        daemon.mesh.kill("a")
        daemon.mesh.suspect("a")  # Or it would be waited for, to the deadline.
        with grpc.insecure_channel(daemon.unix) as channel:
            good = Request(
                model_name="m", inputs=[{"name": "x", "datatype": "FP32", "shape": SHAPE}], raw_input_contents=[RAW]
            )
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(f"/{oip.INFERENCE}/ModelInfer")(good.SerializeToString(), timeout=20)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        status = oip.message("google.rpc.Status").FromString(
            dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
        )
        info = oip.message("google.rpc.ErrorInfo").FromString(status.details[0].value)
        assert (info.domain, info.reason) == ("meshd", "UNREACHABLE")
        assert dict(info.metadata) == {"deployment": "m", "segment": "1", "node": "e"}
    finally:
        daemon.close()


def test_overload_says_when_to_come_again(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, [["e"]])
    gate, done = threading.Event(), queue.Queue[Any]()
    daemon.mesh.door.segment(0).before = lambda: gate.wait(20)  # type: ignore[assignment,return-value]
    good = Request(model_name="m", inputs=[{"name": "x", "datatype": "FP32", "shape": SHAPE}], raw_input_contents=[RAW])
    try:
        with grpc.insecure_channel(daemon.unix) as channel:
            call = channel.unary_unary(f"/{oip.INFERENCE}/ModelInfer")
            calls = [call.future(good.SerializeToString(), timeout=20) for _ in range(60)]
            for each in calls:
                each.add_done_callback(done.put)
            refused = done.get(timeout=10)
            gate.set()
            codes = [c.code() for c in calls]
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
        status = oip.message("google.rpc.Status").FromString(
            dict(refused.trailing_metadata())["grpc-status-details-bin"]
        )
        assert [d.type_url.rpartition("/")[2] for d in status.details] == [
            "google.rpc.ErrorInfo",
            "google.rpc.RetryInfo",
        ]
        retry = oip.message("google.rpc.RetryInfo").FromString(status.details[1].value)
        assert retry.retry_delay.nanos > 0
    finally:
        gate.set()
        daemon.close()


def test_the_asyncio_client_works_in_this_process_too(daemon: Daemon) -> None:
    async def run() -> list[float]:
        async with triton_aio.InferenceServerClient(daemon.tcp) as client:
            assert await client.is_model_ready("m")
            answers = await asyncio.gather(*(client.infer("m", [_input(v)]) for v in range(5)))
            return [float(a.as_numpy("y")[0, 0]) for a in answers]

    assert asyncio.run(run()) == [v + 3.0 for v in range(5)]


def test_a_client_that_goes_away_frees_what_it_held(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, [["a"]])
    plane = daemon.mesh.door.plane
    there, gate, home = threading.Event(), threading.Event(), threading.Event()
    infer = plane.infer

    def stop() -> None:
        there.set()
        gate.wait(20)

    def infer_and_go_home(*arguments: Any) -> Any:
        try:
            return infer(*arguments)
        finally:
            home.set()

    plane.infer = infer_and_go_home  # type: ignore[method-assign]

    daemon.mesh.nodes[NodeId("a")].segment(0).before = stop
    good = Request(model_name="m", inputs=[{"name": "x", "datatype": "FP32", "shape": SHAPE}], raw_input_contents=[RAW])
    try:
        with grpc.insecure_channel(daemon.unix) as channel:
            call = channel.unary_unary(f"/{oip.INFERENCE}/ModelInfer").future(good.SerializeToString())
            assert there.wait(10)
            call.cancel()
            daemon.mesh.door.links.wait_for(Cancel)
            assert home.wait(10), "its thread went home"
        assert plane.counts()["failed CANCELLED"] == 1
        assert plane.counts()["in_flight"] == 0
    finally:
        gate.set()
        daemon.close()
