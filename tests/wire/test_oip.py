"""The walked request and the written response, against protobuf's own classes of the private pool."""

import random
import tracemalloc

import numpy as np
import pytest
import tritonclient.grpc as triton
from google.protobuf.message import DecodeError

from meshd.config import TENSOR_RANK_MAX, TENSORS_PER_REQUEST_MAX
from meshd.errors import InvalidError
from meshd.wire import oip
from meshd.wire.oip_request import FIELDS_MAX, read_request
from meshd.wire.oip_response import OutputTensor, write_response, write_stream_error

Request = oip.message("inference.ModelInferRequest")


def _request() -> object:
    request = Request(model_name="m", model_version="1", id="é-7")
    request.parameters["yes"].bool_param = True
    request.parameters["n"].int64_param = -5
    request.parameters["s"].string_param = "text"
    request.parameters["d"].double_param = 0.5
    request.parameters["u"].uint64_param = 2**64 - 1
    tensor = request.inputs.add(name="x", datatype="FP32", shape=[2, -1, 300])
    tensor.parameters["binary_data_size"].int64_param = 8
    request.inputs.add(name="y", datatype="INT8", shape=[1]).contents.int_contents.extend([1, -2, 300])
    request.outputs.add(name="out").parameters["classification"].int64_param = 3
    request.raw_input_contents.extend([b"12345678", b""])
    return request


def test_a_walked_request_says_what_protobuf_says() -> None:
    request = _request()
    read = read_request(request.SerializeToString())  # type: ignore[attr-defined]
    assert (read.model_name, read.model_version, read.id) == ("m", "1", "é-7")
    assert read.parameters == {"yes": True, "n": -5, "s": "text", "d": 0.5, "u": 2**64 - 1}
    assert [(t.name, t.datatype, t.shape) for t in read.inputs] == [("x", "FP32", (2, -1, 300)), ("y", "INT8", (1,))]
    assert read.inputs[0].parameters == {"binary_data_size": 8}
    contents = oip.message("inference.InferTensorContents").FromString(bytes(read.inputs[1].contents or b""))
    assert list(contents.int_contents) == [1, -2, 300]
    assert [(o.name, o.parameters) for o in read.outputs] == [("out", {"classification": 3})]
    assert [bytes(r) for r in read.raw] == [b"12345678", b""]


def test_tensors_are_views_of_what_arrived() -> None:
    data = Request(raw_input_contents=[bytes(1000)]).SerializeToString()
    (raw,) = read_request(data).raw
    assert raw.obj is data


def test_unknown_fields_are_skipped_and_dimensions_may_be_unpacked() -> None:
    data = b"\xf8\x01\x05" + Request(model_name="m").SerializeToString() + b"\x2a\x04\x18\x02\x18\x03" + b"\xa5\x06abcd"
    read = read_request(data)
    assert (read.model_name, read.inputs[0].shape) == ("m", (2, 3))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (Request(inputs=[{}] * (TENSORS_PER_REQUEST_MAX + 1)), f"more than {TENSORS_PER_REQUEST_MAX} inputs"),
        (Request(raw_input_contents=[b""] * 300), "raw_input_contents"),
        (Request(outputs=[{}] * 300), "outputs"),
        (Request(inputs=[{"name": "x", "shape": [1] * (TENSOR_RANK_MAX + 1)}]), "'x': more than 8 dimensions"),
        (Request(model_name="m" * 5000), "model_name"),
        (b"\x0a\x05abc", "cut short: 5 bytes said, 3 there"),
        (b"\x0a", "cut short"),
        (b"\x0a\x01\xff", "not UTF-8"),
        (b"\xff" * 11, "64 bits"),
        (b"\x08\x01", "wire type 0"),
        (b"\x0b", "wire type 3"),
        (b"\xf8\x01\x05" * (FIELDS_MAX + 1), f"more than {FIELDS_MAX} fields"),
    ],
)
def test_what_is_no_request_is_refused_by_name(data: object, says: str) -> None:
    raw = data if isinstance(data, bytes) else data.SerializeToString()  # type: ignore[attr-defined]
    with pytest.raises(InvalidError, match=says):
        read_request(raw)


def test_two_million_empty_inputs_cost_nothing() -> None:
    data = b"\x2a\x00" * 2_000_000
    tracemalloc.start()
    with pytest.raises(InvalidError, match="inputs"):
        read_request(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_damaged_bytes_are_refused_or_read_and_never_crash() -> None:
    seed = 7
    print("seed", seed)
    chance = random.Random(seed)
    whole = _request().SerializeToString()  # type: ignore[attr-defined]
    for _ in range(2000):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            read_request(bytes(data[: chance.randrange(len(data) + 1)]))
        except InvalidError:
            continue


@pytest.mark.parametrize("stream", [False, True])
def test_a_written_response_is_what_clients_read(stream: bool) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    outputs = [
        OutputTensor("a", "FP32", (2, 3), memoryview(values).cast("B")),
        OutputTensor("b", "INT8", (1, 0), b""),
    ]
    parameters = [("done", True), ("n", -3), ("s", "x")]
    data = write_response("m", "7", outputs, parameters, stream)
    kind = "ModelStreamInferResponse" if stream else "ModelInferResponse"
    response = oip.message(f"inference.{kind}").FromString(data)
    response = response.infer_response if stream else response
    assert (response.model_name, response.model_version, response.id) == ("m", "1", "7")
    assert [(o.name, o.datatype, list(o.shape)) for o in response.outputs] == [
        ("a", "FP32", [2, 3]),
        ("b", "INT8", [1, 0]),
    ]
    assert list(response.raw_output_contents) == [values.tobytes(), b""]
    assert response.parameters["done"].bool_param
    assert response.parameters["n"].int64_param == -3
    assert response.parameters["s"].string_param == "x"
    if not stream:
        theirs = triton.service_pb2.ModelInferResponse.FromString(data)
        assert np.array_equal(triton.InferResult(theirs).as_numpy("a"), values)


def test_a_stream_error_names_its_request() -> None:
    response = oip.message("inference.ModelStreamInferResponse").FromString(write_stream_error("no", "9"))
    assert (response.error_message, response.infer_response.id) == ("no", "9")


def test_the_private_pool_has_the_numbers_of_tritons_own_messages() -> None:
    theirs = triton.service_pb2.DESCRIPTOR.pool
    ours = oip.pool().FindFileByName("inference/oip.proto")
    for message in ours.message_types_by_name.values():
        _compare(message, theirs.FindMessageTypeByName(message.full_name))
    for enum in ours.enum_types_by_name.values():
        known = theirs.FindEnumTypeByName(enum.full_name).values_by_name
        assert all(value.number == known[value.name].number for value in enum.values)
    known = theirs.FindServiceByName(oip.INFERENCE).methods_by_name
    for method in oip.methods(oip.INFERENCE):
        assert method.input_type.full_name == known[method.name].input_type.full_name
        assert method.server_streaming == known[method.name].server_streaming


def _compare(ours: object, theirs: object) -> None:
    known = theirs.fields_by_name  # type: ignore[attr-defined]
    for field in ours.fields:  # type: ignore[attr-defined]
        assert (field.number, field.type) == (known[field.name].number, known[field.name].type), field.full_name
    for nested in ours.nested_types:  # type: ignore[attr-defined]
        _compare(nested, theirs.nested_types_by_name[nested.name])  # type: ignore[attr-defined]


def test_protobufs_own_reader_agrees_on_what_is_broken() -> None:
    with pytest.raises(DecodeError):
        Request.FromString(b"\x0a\x05abc")
