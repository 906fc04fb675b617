"""QDQ models run in bytes: the same bits whole, in pieces and without Numba; the standard's answers within a step."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from meshd.engine.segment import Segment, compile_segment, decode, encode
from meshd.errors import InvalidError
from meshd.kernels import registry
from meshd.model import bundle, cuts
from meshd.model.onnx_import import import_bytes
from tests.engine.test_spoiled_topologies import spoil
from tests.kernels.driving import needs_numba
from tests.model.networks import model, node

Array = NDArray[Any]


class Net:
    """A QDQ network in the making; `x` is the float tensor last made."""

    def __init__(self, shape: list[int | str], dtype: str = "uint8", zero: int = 120) -> None:
        self.rng, self.dtype, self.zero = np.random.default_rng(11), dtype, zero
        self.nodes: list[Any] = []
        self.weights: dict[str, Array] = {}
        self.shape, self.x = shape, "x"

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        self.x = f"t{len(self.nodes)}"
        self.nodes.append(node(op, [i if i != "" else self.x for i in inputs], [self.x], **attributes))
        return self.x

    def constant(self, array: Any) -> str:
        name = f"c{len(self.weights)}"
        self.weights[name] = np.asarray(array)
        return name

    def pair(self, x: str, scale: float = 0.04, zero: int | None = None) -> str:
        """Quantised and back."""
        step = self.constant(np.float32(scale))
        none = self.constant(np.array(self.zero if zero is None else zero, self.dtype))
        return self.add("DequantizeLinear", self.add("QuantizeLinear", x, step, none), step, none)

    def weight(self, shape: tuple[int, ...], *, axis: int = 0, kind: str = "channel") -> str:
        """Behind its DequantizeLinear: one scale an output, one in all, or 8 bits with a zero point of their own."""
        each = kind != "tensor"
        scale = (0.002 + 0.002 * self.rng.random(shape[axis])).astype(np.float32) if each else np.float32(0.003)
        low, high, dtype = (0, 256, np.uint8) if kind == "asymmetric" else (-128, 128, np.int8)
        names = [self.constant(self.rng.integers(low, high, shape).astype(dtype)), self.constant(scale)]
        if kind == "asymmetric":
            names.append(self.constant(self.rng.integers(60, 190, shape[axis]).astype(np.uint8)))
        return self.add("DequantizeLinear", *names, axis=axis)

    def conv(
        self, x: str, outputs: int, inner: int, kernel: tuple[int, ...], *, kind: str = "channel", **how: Any
    ) -> str:
        w = self.weight((outputs, inner, *kernel), kind=kind)
        counts = self.constant(self.rng.integers(-3000, 3000, outputs).astype(np.int32))
        step = self.constant(np.full(outputs, 1e-4, np.float32))
        return self.add("Conv", x, w, self.add("DequantizeLinear", counts, step, axis=0), **how)

    def bytes(self) -> bytes:
        return model(self.nodes, {"x": self.shape}, [self.x], self.weights, opset=21)


def chain(dtype: str, zero: int, kind: str) -> Net:
    """Convolutions with pads and strides, ReLU, pooling before and after quantising, a flattened product."""
    net = Net(["N", 3, 12, 11], dtype, zero)
    low = 0 if dtype == "uint8" else -128
    x = net.pair("x")
    x = net.pair(net.add("Relu", net.conv(x, 20, 3, (3, 3), kind=kind, pads=[1, 1, 1, 1])), 0.02, low)
    x = net.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net.pair(x, 0.02, low)
    x = net.conv(x, 33, 20, (3, 2), kind=kind, strides=[2, 1], pads=[0, 1, 1, 0])
    x = net.pair(net.add("MaxPool", x, kernel_shape=[2, 2]), 0.05)
    flat = net.pair(net.add("Flatten", x), 0.05)
    w = net.weight((33 * 2 * 4, 10), axis=1, kind=kind)
    net.add("Add", net.add("MatMul", flat, w), net.constant(net.rng.standard_normal(10).astype(np.float32)))
    return net


def residual(fused: bool) -> Net:
    """A skip of bytes: added to the floats of a convolution, or to its bytes."""
    net = Net(["N", 8, 9, 7])
    skip = net.pair(net.add("Relu", net.conv(net.pair("x"), 16, 8, (1, 1))), 0.03, 0)
    x = net.pair(net.add("Relu", net.conv(skip, 16, 16, (3, 3), pads=[1, 1, 1, 1])), 0.05, 0)
    x = net.conv(x, 16, 16, (3, 3), pads=[1, 1, 1, 1])
    x = x if fused else net.pair(x, 0.06, 130)
    x = net.pair(net.add("Relu", net.add("Add", x, skip)), 0.07, 0)
    net.conv(x, 6, 16, (1, 1))
    return net


def mobile() -> Net:
    """Depthwise and grouped convolutions, functions of one element between bytes, a mean, signed bytes."""
    net = Net(["N", 8, 10, 10], "int8", -3)
    x = net.pair(net.add("HardSwish", net.conv(net.pair("x"), 24, 8, (1, 1))), 0.05, -120)
    x = net.pair(net.add("HardSwish", x), 0.03, -120)
    x = net.pair(net.conv(x, 24, 1, (3, 3), group=24, strides=[2, 2], pads=[1, 1, 1, 1]), 0.03)
    x = net.pair(net.add("HardSigmoid", x, alpha=0.3), 0.008, -128)
    x = net.pair(net.conv(x, 64, 12, (3, 3), group=2, pads=[1, 1, 1, 1]), 0.06)
    x = net.pair(net.add("GlobalAveragePool", x), 0.02)
    w = net.weight((5, 64), kind="tensor")
    net.add("Gemm", net.pair(net.add("Flatten", x), 0.02), w, transB=1)
    return net


def line() -> Net:
    """One spatial axis."""
    net = Net(["N", 6, 40])
    x = net.pair(net.add("Relu", net.conv(net.pair("x"), 12, 6, (5,), pads=[2, 2], dilations=[1])), 0.04, 0)
    x = net.pair(net.add("MaxPool", x, kernel_shape=[2], strides=[2]), 0.04, 0)
    net.pair(net.conv(x, 7, 12, (3,), dilations=[2]), 0.05)
    return net


def rows() -> Net:
    """Products over several rows, widths that are no multiple of four."""
    net = Net([1, 7, 30])
    x = net.pair(net.add("MatMul", net.pair("x"), net.weight((30, 22), axis=1)), 0.05)
    net.pair(net.add("MatMul", x, net.weight((22, 9), axis=1, kind="asymmetric")), 0.08)
    return net


def sparse() -> Net:
    """Bytes of which blocks of four outputs are mostly zero."""
    net = Net(["N", 16, 8, 8])
    x = net.pair("x")
    w = net.rng.integers(-128, 128, (32, 16, 3, 3)) * np.repeat(net.rng.random((8, 16, 3, 3)) < 0.12, 4, axis=0)
    step = net.constant(np.full(32, 0.01, np.float32))
    real = net.add("DequantizeLinear", net.constant(w.astype(np.int8)), step, axis=0)
    net.pair(net.add("Conv", x, real, pads=[1, 1, 1, 1]), 0.1)
    return net


def linear_operators() -> Net:
    """QLinearConv and QLinearMatMul."""
    net = Net(["N", 4, 6, 6])
    scales = [net.constant(np.float32(s)) for s in (0.04, 0.05, 0.06)]
    zeros = [net.constant(np.array(z, np.uint8)) for z in (120, 7, 128)]
    q = net.add("QuantizeLinear", "x", scales[0], zeros[0])
    w, sw = net.constant(net.rng.integers(-128, 128, (9, 4, 3, 3)).astype(np.int8)), np.full(9, 0.004, np.float32)
    bias, none = net.constant(np.arange(9, dtype=np.int32) * 100), net.constant(np.zeros(9, np.int8))
    q = net.add("QLinearConv", q, scales[0], zeros[0], w, net.constant(sw), none, scales[1], zeros[1], bias)
    q = net.add("Flatten", q)
    b, zb = net.constant(net.rng.integers(0, 256, (144, 5)).astype(np.uint8)), net.constant(np.array(131, np.uint8))
    q = net.add("QLinearMatMul", q, scales[1], zeros[1], b, net.constant(np.float32(0.003)), zb, scales[2], zeros[2])
    net.add("DequantizeLinear", q, scales[2], zeros[2])
    return net


CASES: dict[str, tuple[Callable[[], Net], dict[str, int]]] = {
    "unsigned": (lambda: chain("uint8", 120, "channel"), {"int8": 3}),
    "signed": (lambda: chain("int8", -5, "tensor"), {"int8": 3}),
    "nine bits": (lambda: chain("uint8", 200, "asymmetric"), {"int8": 3}),
    "fused residual": (lambda: residual(True), {"int8": 4}),
    "residual of bytes": (lambda: residual(False), {"int8": 4}),
    "mobile": (mobile, {"int8": 4}),
    "line": (line, {"int8": 2}),
    "rows": (rows, {"int8": 2}),
    "sparse": (sparse, {"sparse": 1}),
    "linear operators": (linear_operators, {"int8": 2}),
}


@pytest.fixture(scope="module", params=CASES)
def case(request: Any) -> tuple[str, bytes, bundle.Bundle, Array]:
    raw = CASES[request.param][0]().bytes()
    packed = bundle.pack(*import_bytes(raw, "net"))
    shape = [1 if d is None else d for d in packed.graph.inputs[0].type.shape]
    x = (np.random.default_rng(3).standard_normal(shape) * 2).astype(np.float32)
    return str(request.param), raw, packed, x


def _segment(packed: bundle.Bundle, start: int, end: int) -> Segment:
    return compile_segment(packed.graph, start, end, packed.blobs.__getitem__)


def _whole(packed: bundle.Bundle, x: Array) -> tuple[Segment, Array]:
    segment = _segment(packed, 0, len(cuts.layers(packed.graph)))
    return segment, segment.run([x])[0]


@needs_numba
def test_each_layer_finds_its_kernel(case: Any) -> None:
    name, _, packed, x = case
    found = _whole(packed, x)[0].kernels
    # Groups that are too small for this machine's vectors are multiplied as floats.
    assert sum(found.values()) == sum(CASES[name][1].values())
    assert name == "mobile" or found == CASES[name][1]


def test_answers_are_the_standards_within_a_step(case: Any) -> None:
    _, raw, packed, x = case
    (truth,) = ReferenceEvaluator(raw).run(None, {"x": x})
    ours = _whole(packed, x)[1]
    spread, apart = float(np.abs(truth).max()), np.abs(ours - truth)
    assert apart.max() <= 0.02 * spread
    assert (apart <= 1e-5 * spread).mean() > 0.99  # The rest lies on the edge between two steps.


def test_cut_anywhere_the_bits_are_the_same(case: Any) -> None:
    _, _, packed, x = case
    graph, (_, whole) = packed.graph, _whole(packed, x)
    end = len(cuts.layers(graph))
    for count in range(1, end):
        for places in itertools.combinations(range(1, end), count):
            values = [x]
            for start, stop in itertools.pairwise((0, *places, end)):
                piece = _segment(packed, start, stop)
                values, crossing = piece.run(values), cuts.crossing(graph, stop - 1)
                if crossing:
                    assert {graph.tensors[n].dtype for n, _ in crossing} <= {"uint8", "int8"}
                    sent = [bytes(encode(v, e)) for v, (_, e) in zip(values, crossing, strict=True)]
                    values = [decode(r, e, p, 1) for r, (_, e), p in zip(sent, crossing, piece.outputs, strict=True)]
            assert np.array_equal(values[0], whole), places


@needs_numba
def test_without_numba_the_bits_are_the_same(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    name, _, packed, x = case
    compiled = _whole(packed, x)[1]
    monkeypatch.setenv("MESHD_NUMBA", "0")
    assert not registry.compiled()
    plain = _whole(packed, x)[1]
    if name == "mobile":  # A mean is summed in another order.
        assert np.abs(plain - compiled).max() <= 0.02 * np.abs(compiled).max()
    else:
        assert np.array_equal(plain, compiled)


def test_blobs_hold_bytes(case: Any) -> None:
    _, _, packed, _ = case
    for weight in packed.graph.weights.values():
        assert len(weight.type.shape) < 2 or weight.type.dtype in {"int8", "uint8"}


def test_a_reader_with_another_scale_and_zero_point_sees_the_bytes_its_own_way() -> None:
    """What is written for one reading and read by another: the bytes count, cut or whole."""
    net = Net(["N", 4, 5, 5])
    step, zero = net.constant(np.float32(0.04)), net.constant(np.array(205, np.uint8))
    q = net.add("QuantizeLinear", net.conv(net.pair("x"), 12, 4, (1, 1)), step, zero)
    other = [net.constant(np.float32(0.03)), net.constant(np.array(90, np.uint8))]
    x = net.add("DequantizeLinear", q, *other)
    y = net.conv(x, 12, 12, (1, 1))
    table = net.pair(net.add("HardSwish", net.add("DequantizeLinear", q, *other)), 0.05)
    net.pair(net.add("Add", net.pair(y, 0.06), table), 0.2)
    raw = net.bytes()
    packed = bundle.pack(*import_bytes(raw, "net"))
    x_in = np.random.default_rng(1).standard_normal((1, 4, 5, 5)).astype(np.float32)
    segment, whole = _whole(packed, x_in)
    assert segment.kernels in ({"int8": 2}, {"dense": 2})
    (truth,) = ReferenceEvaluator(raw).run(None, {"x": x_in})
    assert np.abs(whole - truth).max() <= 0.21
    assert (np.abs(whole - truth) < 1e-4).mean() > 0.99
    values = [x_in]
    for i in range(len(cuts.layers(packed.graph))):
        values = _segment(packed, i, i + 1).run(values)
    assert np.array_equal(values[0], whole)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [line, mobile])
def test_spoiled_topologies_are_refused_or_give_the_same_bits_in_pieces(make: Callable[[], Net]) -> None:
    packed = bundle.pack(*import_bytes(make().bytes(), "net"))
    ran = 0
    for seed in range(60):
        try:
            graph = bundle.read_topology(spoil(packed.topology, np.random.default_rng(seed)))
            end = len(cuts.layers(graph))
            whole = compile_segment(graph, 0, end, packed.blobs.__getitem__)
            pieces = [compile_segment(graph, i, i + 1, packed.blobs.__getitem__) for i in range(end)]
        except InvalidError:
            continue
        given = [np.ones([1 if d is None else d for d in p.type.shape], p.type.dtype) for p in whole.inputs]
        values = given
        for piece in pieces:
            values = piece.run(values)
        for a, b in zip(whole.run(given), values, strict=True):
            assert np.array_equal(a, b, equal_nan=True), seed
        ran += 1
    assert ran > 5
