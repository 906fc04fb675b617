"""What this device can do a second, by cost class: small networks of one class each, compiled and timed.

The classes are those of `core.plan.LayerCost`. Measured by running the engine, not its kernels: what a planner wants to know
is how long a layer takes here. A few seconds with kernels compiled already; run it in a child process (`meshd.daemon.rates`
does, and keeps the result), or by hand: `python -m meshd.engine.measure`.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshd.engine.segment import Segment, compile_segment
from meshd.kernels import registry
from meshd.model import bundle, cuts
from meshd.model.check import infer_types
from meshd.model.graph import Attribute, Graph, Operation, Port, TensorType, Weight

SPEND_S = 0.15
"""For each class; the best of many short runs, so that a neighbour's work is not taken for ours."""

WINDOW: Mapping[str, Attribute] = {"strides": (1, 1), "dilations": (1, 1), "pads": (1, 1, 1, 1), "group": 1}


@dataclass(frozen=True, slots=True)
class Rates:
    """Multiply-accumulates a second by class, bytes a second for `memory`, steps a second for `steps`; the numeric class."""

    rates: Mapping[str, int]
    numeric: str


def rates() -> Rates:
    """Measure this device."""
    # Binary kernels are compiled first: the demo, which starts at the same time, compiles its convolutions meanwhile.
    classes = (_binary(), _dense(), _sparse(), _int8())
    steps = 1 / _seconds_a_step()
    memory = _memory_rate()
    found = {"steps": steps, "memory": memory}
    for kind, segment, graph in classes:
        (cost,) = cuts.costs(graph)
        macs = dict(cost.macs)
        rest = macs["steps"] / steps + macs["memory"] / memory
        # What memory and overhead take is booked under their own classes; never let them eat the whole.
        took = _seconds(segment)
        found[kind] = macs[kind] / max(took - rest, took / 4)
    return Rates({k: max(1, round(v)) for k, v in sorted(found.items())}, "fma" if registry.compiled() else "numpy")


def forms() -> None:
    """Measure which tiles, and how fast each form of a sparse layer is here, so that later processes choose by that."""
    if registry.compiled():
        from meshd.kernels import forms, tile_rates

        tile_rates.measure()
        forms.measure()


def _seconds(segment: Segment) -> float:
    """The best time of one item, copies in and out left out."""
    best, end = float("inf"), time.perf_counter() + SPEND_S
    while time.perf_counter() < end:
        best = min(best, sum(segment.layer_us(1).values()) / 1e6)
    return max(best, 1e-6)


class _Net:
    """A chain of operations with weights, made into a segment."""

    def __init__(self, shape: tuple[int, ...], dtype: str = "float32") -> None:
        self.operations: list[Operation] = []
        self.types = {"x": TensorType(dtype, shape)}
        self.arrays: dict[str, NDArray[Any]] = {}
        self.structures: dict[str, tuple[str, float]] = {}
        self.last = "x"

    def weight(self, array: NDArray[Any], structure: str = "", zeros: float = 0.0) -> str:
        name = f"w{len(self.arrays)}"
        self.arrays[name], self.structures[name] = array, (structure, zeros)
        return name

    def add(self, op: str, weights: tuple[str, ...] = (), **attributes: Attribute) -> None:
        name = f"t{len(self.operations)}"
        operation = Operation(name, op, (self.last, *weights), (name,), attributes)
        held = {n: TensorType(a.dtype.name, a.shape) for n, a in self.arrays.items()}
        (self.types[name],) = infer_types(operation, tuple({**self.types, **held}[n] for n in operation.inputs))
        self.operations.append(operation)
        self.last = name

    def segment(self) -> tuple[Segment, Graph]:
        weights = {
            n: Weight(n, TensorType(a.dtype.name, a.shape), "", 0, *self.structures[n]) for n, a in self.arrays.items()
        }
        first, last = ((Port(n, self.types[n]),) for n in ("x", self.last))
        packed = bundle.pack(Graph("rate", first, last, tuple(self.operations), weights, self.types), self.arrays)
        graph = packed.graph
        return compile_segment(graph, 0, len(cuts.layers(graph)), packed.blobs.__getitem__), graph


def _seconds_a_step() -> float:
    """A step on almost nothing: what Python, the call and a kernel's start cost each time, kernels and NumPy in turns."""
    net = _Net((1, 8, 4, 4))
    for _ in range(8):
        net.add("Conv", (net.weight(_normal(8, 8, 1, 1)),), **{**WINDOW, "pads": (0, 0, 0, 0)})
        net.add("Sigmoid")
    return _seconds(net.segment()[0]) / 16


def _memory_rate() -> float:
    """Bytes read and written by elementwise work that does not fit the fastest cache."""
    net = _Net((1, 64, 128, 64))
    net.add("LeakyRelu", alpha=0.1)
    segment, graph = net.segment()
    return dict(cuts.costs(graph)[0].macs)["memory"] / _seconds(segment)


def _normal(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def _dense() -> tuple[str, Segment, Graph]:
    net = _Net((1, 64, 28, 28))
    net.add("Conv", (net.weight(_normal(64, 64, 3, 3)),), **WINDOW)
    return "dense", *net.segment()


def _sparse() -> tuple[str, Segment, Graph]:
    net = _Net((1, 64, 28, 28))
    keep = np.repeat(np.random.default_rng(1).random((16, 64 * 9)) < 0.1, 4, axis=0).reshape(64, 64, 3, 3)
    array = _normal(64, 64, 3, 3) * keep
    zeros = 1.0 - float(np.count_nonzero(array)) / array.size
    net.add("Conv", (net.weight(array.astype(np.float32), "block4", zeros),), **WINDOW)
    return "sparse", *net.segment()


def _binary() -> tuple[str, Segment, Graph]:
    net = _Net((1, 128, 28, 28))
    net.add("Sign", zero=1)
    signs = np.where(_normal(128, 128, 3, 3) < 0, -1, 1).astype(np.float32)
    net.add("Conv", (net.weight(signs, "sign"),), **WINDOW)
    return "binary", *net.segment()


def _int8() -> tuple[str, Segment, Graph]:
    """A quantised layer as the importer leaves it: bytes in and out, real values between, which no kernel makes."""
    net = _Net((1, 128, 28, 28), "uint8")
    step, zero = net.weight(np.array(0.02, np.float32)), net.weight(np.array(128, np.uint8))
    whole = np.clip(_normal(128, 128, 3, 3) * 40, -127, 127).astype(np.int8)
    net.add("DequantizeLinear", (step, zero), axis=1)
    image, net.last = net.last, net.weight(whole)
    net.add("DequantizeLinear", (net.weight(np.full(128, 0.01, np.float32)),), axis=0)
    weight, net.last = net.last, image
    net.add("Conv", (weight,), **WINDOW)
    net.add("QuantizeLinear", (step, zero), axis=1, to="uint8")
    return "int8", *net.segment()


if __name__ == "__main__":
    measured = rates()
    print(json.dumps({"rates": dict(measured.rates), "numeric": measured.numeric}))
