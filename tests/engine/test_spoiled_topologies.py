"""A topology from outside, spoiled: refused, or compiled and run inside its own memory."""

import numpy as np
import pytest

from meshd.engine.segment import compile_segment
from meshd.errors import InvalidError
from meshd.model import bundle, cuts
from meshd.model.onnx_import import import_bytes
from meshd.v1 import model_pb2 as pb
from tests.model.networks import demo_like

OPERATORS = ["Conv", "Relu", "MaxPool", "Sign", "Add", "Softmax", "Reshape", "Gemm", "Affine", "Pad", "Concat"]


def spoil(raw: bytes, rng: np.random.Generator) -> bytes:
    message = pb.Topology.FromString(raw)
    for _ in range(int(rng.integers(1, 3))):
        o = message.operations[int(rng.integers(len(message.operations)))]
        choice = int(rng.integers(7))
        if choice == 0:
            o.op = OPERATORS[int(rng.integers(len(OPERATORS)))]
        elif choice == 1 and o.attributes:
            a = o.attributes[int(rng.integers(len(o.attributes)))]
            if a.WhichOneof("value") == "ints_value" and a.ints_value.values:
                a.ints_value.values[int(rng.integers(len(a.ints_value.values)))] = int(rng.integers(-2, 4))
            elif a.WhichOneof("value") == "int_value":
                a.int_value = int(rng.integers(-1, 4))
        elif choice == 2:
            w = message.weights[int(rng.integers(len(message.weights)))]
            w.structure = ["", "sign", "block4", "block16", "zeros"][int(rng.integers(5))]
        elif choice == 6:
            w = message.weights[int(rng.integers(len(message.weights)))]
            w.kept = int(rng.integers(0, 40))
            message.format = 2
        elif choice == 3:
            w, v = (message.weights[int(rng.integers(len(message.weights)))] for _ in range(2))
            w.blob, w.offset = v.blob, v.offset
        elif choice == 4:
            t = message.tensors[int(rng.integers(len(message.tensors)))]
            if t.type.shape:
                t.type.shape[int(rng.integers(len(t.type.shape)))] = int(rng.integers(-1, 20))
        else:
            other = message.operations[int(rng.integers(len(message.operations)))]
            o.inputs[int(rng.integers(len(o.inputs)))] = other.outputs[0]
    return message.SerializeToString(deterministic=True)


@pytest.mark.filterwarnings("ignore")
def test_spoiled_topologies_are_refused_or_run() -> None:
    packed = bundle.pack(*import_bytes(demo_like(), "demo"))
    ran = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        try:
            graph = bundle.read_topology(spoil(packed.topology, rng))
            end = len(cuts.layers(graph))
            assert len(cuts.costs(graph)) == end
            segment = compile_segment(graph, 0, end, packed.blobs.__getitem__)
            pieces = [compile_segment(graph, i, i + 1, packed.blobs.__getitem__) for i in range(end)]
        except InvalidError:
            continue
        shapes = [tuple(2 if d is None else d for d in p.type.shape) for p in segment.inputs]
        inputs = [np.ones(s, p.type.dtype) for s, p in zip(shapes, segment.inputs, strict=True)]
        whole, values = segment.run(inputs), inputs
        for piece in pieces:
            values = piece.run(values)
        assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(whole, values, strict=True)), seed
        ran += 1
    assert ran > 30
