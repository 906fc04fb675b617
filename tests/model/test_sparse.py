"""Weights stored sparse come back as they were, small, and never from a blob that lies."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from meshd.errors import InvalidError
from meshd.model import bundle, sparse
from meshd.model.onnx_import import import_bytes
from meshd.v1 import model_pb2 as pb
from tests.model.networks import demo_like, model, node


def _weight(shape: tuple[int, ...], block: int, zeros: float) -> Any:
    rng = np.random.default_rng(0)
    keep = np.repeat(rng.random((shape[0] // block, *shape[1:])) >= zeros, block, axis=0)
    return (rng.standard_normal(shape) * keep).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "structure"),
    [
        ((8, 3, 3, 3), "block4"),
        ((16, 7), "block8"),
        ((16, 65), "block16"),
        ((5, 13), "zeros"),
        ((4, 64), "block4"),
        ((70,), "zeros"),
    ],
)
@pytest.mark.parametrize("zeros", [0.9, 1.0])
def test_what_is_packed_comes_back(shape: tuple[int, ...], structure: str, zeros: float) -> None:
    array = _weight(shape, sparse.BLOCKS[structure], zeros)
    made = sparse.pack(array, structure)
    assert made is not None
    raw, kept = made
    assert len(raw) == sparse.stored_bytes(structure, shape, 4, kept)
    back = sparse.unpack(memoryview(raw), structure, shape, np.dtype(np.float32), kept)
    assert back.dtype == np.float32
    assert back.flags.c_contiguous
    assert np.array_equal(back, array)


@pytest.mark.parametrize(("structure", "zeros"), [("", 0.9), ("sign", 0.9), ("block4", 0.2)])
def test_what_gains_nothing_stays_plain(structure: str, zeros: float) -> None:
    assert sparse.pack(_weight((8, 10), 4, zeros), structure) is None


def _pruned() -> tuple[bundle.Bundle, Any]:
    weight = _weight((64, 32, 3, 3), 4, 0.9)
    raw = model([node("Conv", ["x", "w"], ["y"])], {"x": ["N", 32, 8, 8]}, ["y"], {"w": weight})
    return bundle.pack(*import_bytes(raw, "pruned")), weight


def test_a_model_pruned_to_a_tenth_ships_in_an_eighth_and_always_the_same() -> None:
    packed, weight = _pruned()
    assert sum(map(len, packed.blobs.values())) < weight.nbytes / 8
    again, _ = _pruned()
    assert (again.digest, again.blobs) == (packed.digest, packed.blobs)
    (read,) = packed.graph.weights.values()
    assert np.array_equal(bundle.weight_array(read, packed.blobs[read.blob]), weight)


def test_a_model_without_sparse_weights_keeps_the_first_format() -> None:
    raw = model([node("Gemm", ["x", "w"], ["y"])], {"x": ["N", 4]}, ["y"], {"w": np.eye(4, dtype=np.float32) + 1})
    assert pb.Topology.FromString(bundle.pack(*import_bytes(raw, "plain")).topology).format == 1
    assert pb.Topology.FromString(_pruned()[0].topology).format == 2


def _kept(by: int) -> Callable[[pb.Topology], None]:
    def change(m: pb.Topology) -> None:
        m.weights[0].kept += by

    return change


def _huge(m: pb.Topology) -> None:
    m.weights[0].type.shape[:] = [2**16, 2**14]
    m.weights[0].kept = 0
    m.blobs[0].size_bytes = 2**28  # Room for the mask.


def _doubles(m: pb.Topology) -> None:
    m.weights[0].type.dtype = "float64"
    m.weights[0].kept = 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_kept(1_000_000), "blocks kept of"),
        (_kept(10_000), "blocks kept of"),
        (_kept(200), "ends at byte"),
        (lambda m: setattr(m.weights[0], "structure", "sign"), "cannot be stored sparse"),
        (lambda m: setattr(m.weights[0], "structure", ""), "cannot be stored sparse"),
        (lambda m: m.weights[0].type.shape.__setitem__(0, 63), "cannot be stored sparse"),
        (lambda m: m.weights[0].type.ClearField("shape"), "cannot be stored sparse"),
        (lambda m: setattr(m, "format", 1), "format 1 and weights stored sparse"),
        (_huge, "has more than"),
        (_doubles, "only float32"),
    ],
)
def test_a_topology_that_lies_about_a_sparse_weight_is_refused(
    change: Callable[[pb.Topology], object], words: str
) -> None:
    message = pb.Topology.FromString(_pruned()[0].topology)
    change(message)
    with pytest.raises(InvalidError, match=words):
        bundle.read_topology(message.SerializeToString(deterministic=True))


def test_a_mask_that_lies_is_refused() -> None:
    packed, _ = _pruned()
    (weight,) = packed.graph.weights.values()
    blob = bytearray(packed.blobs[weight.blob])
    blob[0] ^= 1
    with pytest.raises(InvalidError, match=r"weight w: .* keeps \d+ blocks, not \d+: push the model again"):
        bundle.weight_array(weight, bytes(blob))
    raw, kept = sparse.pack(_weight((8, 5), 4, 1.0), "block4") or (b"", 0)
    with pytest.raises(InvalidError, match="past its last block"):
        sparse.unpack(memoryview(raw[:-1] + b"\x80"), "block4", (8, 5), np.dtype(np.float32), kept)
    with pytest.raises(InvalidError, match="ends before"):
        bundle.weight_array(weight, packed.blobs[weight.blob][:-64])


def test_a_network_with_sparse_blobs_gives_the_bits_of_plain_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    from meshd.engine.segment import compile_segment

    x = np.random.default_rng(3).standard_normal((2, 1, 12, 12)).astype(np.float32)
    answers = []
    for worth in (sparse.WORTH, 0.0):
        monkeypatch.setattr(sparse, "WORTH", worth)
        packed = bundle.pack(*import_bytes(demo_like(), "demo"))
        assert any(w.kept is not None for w in packed.graph.weights.values()) == bool(worth)
        answers.append(compile_segment(packed.graph, 0, 6, packed.blobs.__getitem__).run([x])[0])
    assert np.array_equal(answers[0], answers[1])
