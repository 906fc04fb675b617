"""Bundles: deterministic, aligned, and distrustful of everything read."""

import dataclasses
import hashlib
from collections.abc import Callable

import numpy as np
import pytest

from meshd.errors import InvalidError
from meshd.model import bundle, cuts
from meshd.model.graph import Graph
from meshd.model.onnx_import import import_bytes
from meshd.v1 import model_pb2 as pb
from tests.model.networks import demo_like


@pytest.fixture(scope="module")
def packed() -> bundle.Bundle:
    return bundle.pack(*import_bytes(demo_like(), "demo"))


def test_the_same_model_gives_the_same_bytes(packed: bundle.Bundle) -> None:
    again = bundle.pack(*import_bytes(demo_like(), "demo"))
    assert again.topology == packed.topology
    assert again.digest == packed.digest == hashlib.sha256(packed.topology).hexdigest()
    assert list(again.blobs) == list(packed.blobs)


def test_another_model_has_another_digest(packed: bundle.Bundle) -> None:
    assert bundle.pack(*import_bytes(demo_like(4), "demo")).digest != packed.digest


def test_blobs_are_named_by_their_digest_and_weights_aligned(packed: bundle.Bundle) -> None:
    graph = packed.graph
    for digest, blob in packed.blobs.items():
        assert hashlib.sha256(blob).hexdigest() == digest
        assert graph.blobs[digest] == len(blob)
    assert all(w.offset % 64 == 0 for w in graph.weights.values())


def test_one_blob_for_each_weighted_operation(packed: bundle.Bundle) -> None:
    graph = packed.graph
    weighted = [o for o in graph.operations if any(n in graph.weights for n in o.inputs)]
    assert len(packed.blobs) == len(weighted)


def test_a_graph_survives_the_journey_with_its_weights(packed: bundle.Bundle) -> None:
    graph, arrays = import_bytes(demo_like(), "demo")
    read = bundle.read_topology(packed.topology)
    assert read.operations == graph.operations
    assert read.tensors == graph.tensors
    assert (read.inputs, read.outputs) == (graph.inputs, graph.outputs)
    for name, array in arrays.items():
        weight = read.weights[name]
        assert np.array_equal(bundle.weight_array(weight, packed.blobs[weight.blob]), array)


def test_signs_are_stored_eight_to_a_byte(packed: bundle.Bundle) -> None:
    graph = packed.graph
    (signs,) = (w for w in graph.weights.values() if w.structure == "sign")
    assert len(packed.blobs[signs.blob]) == -(-16 * 16 * 9 // 8 // 64) * 64


def test_structure_is_recorded(packed: bundle.Bundle) -> None:
    found = {w.structure: w.zeros for w in packed.graph.weights.values()}
    assert set(found) == {"", "sign", "block4"}
    assert 0.8 < found["block4"] < 0.97


def test_blobs_of_all_layers_are_all_blobs(packed: bundle.Bundle) -> None:
    graph = packed.graph
    end = len(cuts.layers(graph))
    assert dict(bundle.blobs_of(graph, 0, end)) == graph.blobs
    parts = [bundle.blobs_of(graph, i, i + 1) for i in range(end)]
    assert [b for part in parts for b in part] == list(bundle.blobs_of(graph, 0, end))


def _edit(packed: bundle.Bundle, change: Callable[[pb.Topology], object]) -> bytes:
    message = pb.Topology.FromString(packed.topology)
    change(message)
    return message.SerializeToString(deterministic=True)


def _two_to_the_62(m: pb.Topology) -> None:
    m.weights[0].type.shape[:] = [2**62]


def _wrong_shape(m: pb.Topology) -> None:
    next(t for t in m.tensors if t.name == "sparse").type.shape[1] = 7


def _swap(m: pb.Topology) -> None:
    first = pb.Operation()
    first.CopyFrom(m.operations[0])
    m.operations[0].CopyFrom(m.operations[1])
    m.operations[1].CopyFrom(first)


def _bad_attribute(m: pb.Topology) -> None:
    m.operations[0].attributes[0].string_value = "two"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: setattr(m, "format", 9), "format 9"),
        (_two_to_the_62, "ends at byte 18446744073709551616"),
        (_wrong_shape, "sparse"),
        (_swap, "before it is written"),
        (_bad_attribute, "attribute"),
        (lambda m: setattr(m.operations[0], "op", "Exec"), "no such operator"),
        (lambda m: setattr(m.weights[0], "offset", 2**40), "byte"),
        (lambda m: setattr(m.weights[0], "offset", 8), "multiple of 64"),
        (lambda m: setattr(m.weights[0], "blob", 99), "blob 99"),
        (lambda m: setattr(m.blobs[0], "sha256", b"short"), "digest of 5"),
        (lambda m: setattr(m.blobs[0], "size_bytes", 2**40), "bytes"),
        (lambda m: setattr(m.weights[0].type, "dtype", "object"), "object"),
        (lambda m: m.inputs.pop(), "inputs"),
        (lambda m: m.tensors.extend(pb.Port(name=f"t{i}") for i in range(100_001)), "tensors"),
        (lambda m: m.operations.extend(pb.Operation() for _ in range(20_001)), "operations"),
    ],
)
def test_a_spoiled_topology_is_refused_by_name(
    packed: bundle.Bundle, change: Callable[[pb.Topology], object], words: str
) -> None:
    with pytest.raises(InvalidError, match=words):
        bundle.read_topology(_edit(packed, change))


def test_cut_and_flipped_bytes_never_do_worse_than_an_error(packed: bundle.Bundle) -> None:
    rng = np.random.default_rng(0)
    for n in rng.integers(0, len(packed.topology), 100):
        _read(packed.topology[:n])
        spoiled = bytearray(packed.topology)
        spoiled[n] ^= 1 << int(rng.integers(8))
        _read(bytes(spoiled))


def _read(raw: bytes) -> Graph | None:
    try:
        return bundle.read_topology(raw)
    except InvalidError:
        return None


def test_a_blob_that_is_too_short_is_refused(packed: bundle.Bundle) -> None:
    weight = packed.graph.weights["stem.b"]
    with pytest.raises(InvalidError, match="ends before"):
        bundle.weight_array(weight, packed.blobs[weight.blob][:-64])


def test_an_array_of_another_shape_is_not_packed() -> None:
    graph, arrays = import_bytes(demo_like(), "demo")
    arrays["head.b"] = arrays["head.b"][:-1]
    with pytest.raises(InvalidError, match=r"head\.b"):
        bundle.pack(graph, arrays)


def test_an_operation_of_a_fixed_graph_has_no_batch() -> None:
    graph, arrays = import_bytes(demo_like(), "demo")
    port = dataclasses.replace(graph.outputs[0], type=dataclasses.replace(graph.outputs[0].type, shape=(1, 10)))
    with pytest.raises(InvalidError, match="batch"):
        bundle.pack(dataclasses.replace(graph, outputs=(port,)), arrays)
