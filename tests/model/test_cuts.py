"""Cuts: few, where little crosses, the same everywhere."""

import itertools
import time

import numpy as np
import pytest

from meshd.config import LAYERS_MAX, MODEL_OPERATIONS_MAX
from meshd.core.plan import Encoding
from meshd.model import bundle, cuts
from meshd.model.graph import Graph, Operation, Port, TensorType, Weight
from meshd.model.onnx_import import import_bytes
from tests.model.networks import demo_like, model, node


@pytest.fixture(scope="module")
def graph() -> Graph:
    return bundle.pack(*import_bytes(demo_like(), "demo")).graph


def test_layers_are_contiguous_and_cover_all_operations(graph: Graph) -> None:
    edges = [0]
    for first, last in cuts.layers(graph):
        assert first == edges[-1] < last
        edges.append(last)
    assert edges[-1] == len(graph.operations)


def test_activations_and_pooling_stay_with_the_layer_that_feeds_them(graph: Graph) -> None:
    ops = [[graph.operations[i].op for i in range(*r)] for r in cuts.layers(graph)]
    assert ops[0] == ["Conv", "Relu", "MaxPool"]
    assert ops[1] == ["Conv", "Sign"]
    assert ops[2] == ["Pad", "Conv", "Affine", "Relu"]


def test_signs_cross_as_bits_and_all_else_as_float32(graph: Graph) -> None:
    assert cuts.crossing(graph, 0) == (("stem.p", Encoding.FLOAT32.value),)
    assert cuts.crossing(graph, 1) == (("signs", Encoding.SIGN_BITS.value),)
    assert cuts.costs(graph)[1].crossing_bytes == 16 * 6 * 6 // 8
    assert cuts.costs(graph)[0].crossing_bytes == 8 * 6 * 6 * 4


def test_both_branches_of_a_residual_cross(graph: Graph) -> None:
    assert [n for n, _ in cuts.crossing(graph, 3)] == ["trunk", "branch"]


def test_nothing_crosses_after_the_last_layer(graph: Graph) -> None:
    last = len(cuts.layers(graph)) - 1
    assert cuts.crossing(graph, last) == ()
    assert cuts.costs(graph)[last].crossing_bytes == 0


def test_ports_of_neighbours_meet(graph: Graph) -> None:
    end = len(cuts.layers(graph))
    assert cuts.segment_ports(graph, 0, end) == (graph.inputs, graph.outputs)
    for cut in range(1, end):
        _, out = cuts.segment_ports(graph, 0, cut)
        into, _ = cuts.segment_ports(graph, cut, end)
        assert out == into
        assert [p.name for p in out] == [n for n, _ in cuts.crossing(graph, cut - 1)]
        assert all(p.type.shape[0] is None for p in out)


def test_costs_know_the_class_of_each_layer(graph: Graph) -> None:
    kinds = [dict(c.macs) for c in cuts.costs(graph)]
    assert kinds[0]["dense"] == 8 * 9 * 144
    assert 0 < kinds[1]["sparse"] < 0.2 * 16 * 8 * 9 * 36
    assert kinds[2]["binary"] == 16 * 16 * 9 * 36
    assert all(k["memory"] > 0 for k in kinds)


def test_what_leaves_with_a_convolution_costs_no_step_and_no_memory() -> None:
    weights = {"w": np.ones((4, 4, 1, 1), np.float32)}

    def cost(*ops: str) -> dict[str, int]:
        names = ["c", *(f"t{i}" for i in range(len(ops)))]
        nodes = [node("Conv", ["x", "w"], ["c"])]
        nodes += [node(op, [a], [b]) for op, a, b in zip(ops, names, names[1:], strict=False)]
        raw = model(nodes, {"x": ["N", 4, 8, 8]}, names[-1:], weights)
        (layer,) = cuts.costs(bundle.pack(*import_bytes(raw, "tail")).graph)
        return dict(layer.macs)

    plain = cost()
    assert cost("Relu") == cost("HardSwish", "Relu") == plain
    assert cost("Relu", "Tanh")["steps"] == plain["steps"] + 1
    # After a step of its own nothing leaves with the kernel any more.
    assert cost("Tanh", "Relu")["steps"] == plain["steps"] + 2


def test_blob_bytes_are_counted_once(graph: Graph) -> None:
    assert sum(c.weight_bytes for c in cuts.costs(graph)) == sum(graph.blobs.values())


def test_a_model_past_the_limit_has_its_layers_merged() -> None:
    depth = LAYERS_MAX + 40
    nodes = [node("Gemm", [f"x{i}", "w"], [f"x{i + 1}"], transB=1) for i in range(depth)]
    raw = model(nodes, {"x0": ["N", 4]}, [f"x{depth}"], {"w": np.eye(4, dtype=np.float32) * 2})
    graph = bundle.pack(*import_bytes(raw, "deep")).graph
    assert len(cuts.layers(graph)) == LAYERS_MAX


def test_the_longest_model_allowed_is_cut_and_priced_in_seconds() -> None:
    t = TensorType("float32", (None, 4))
    names = [f"x{i}" for i in range(MODEL_OPERATIONS_MAX + 1)]
    operations = tuple(Operation(b, "Gemm", (a, "w"), (b,)) for a, b in itertools.pairwise(names))
    weight = Weight("w", TensorType("float32", (4, 4)), "", 0)
    long = Graph("long", (Port("x0", t),), (Port(names[-1], t),), operations, {"w": weight}, dict.fromkeys(names, t))
    before = time.process_time()
    packed = bundle.pack(long, {"w": np.eye(4, dtype=np.float32)})
    graph = bundle.read_topology(packed.topology)
    assert len(cuts.costs(graph)) == LAYERS_MAX
    assert time.process_time() - before < 20  # Seconds of the processor; it takes about two.
