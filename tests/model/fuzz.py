"""Spoiled models: bytes flipped, cut, spliced, numbers and names changed. Every one is an error or a model that runs.

`python -m tests.model.fuzz [FILE.onnx...] --runs 10000` prints what happened, and stops at anything but an error of ours; without
files it spoils the real models under 500 kB.
A run that takes past SECONDS_MAX, or dies, is a finding: its seed is printed first.
"""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from meshd.engine.segment import compile_segment
from meshd.errors import InvalidError
from meshd.model import bundle, cuts
from meshd.model.onnx_import import import_bytes
from tests.engine import real_models

SECONDS_MAX = 10.0
"""Of the processor: a busy machine is no hang."""
ARENA_MAX = 64 << 20
"""A spoiled model may ask for much; running it is only to see that kernels stay inside what was planned."""


SMALL = ("pulsevad", "pulsevad_teacher", "pulsevad_int8")


def spoil(raw: bytes, rng: np.random.Generator) -> bytes:
    """One model out of another, a little wrong."""
    kind = int(rng.integers(6))
    if kind == 0:
        return raw[: int(rng.integers(len(raw)))]
    if kind in {1, 2}:
        made = bytearray(raw)
        for _ in range(int(rng.integers(1, 8))):
            made[int(rng.integers(len(made)))] ^= 1 << int(rng.integers(8))
        return bytes(made)
    if kind == 3:
        a, b, n = (int(v) for v in rng.integers(0, len(raw), 3))
        return raw[:a] + raw[b : b + n // 8] + raw[a:]
    return _spoil_graph(raw, rng)


def _spoil_graph(raw: bytes, rng: np.random.Generator) -> bytes:
    """A change that still parses: a number, a shape, an operator, an edge."""
    model = onnx.ModelProto.FromString(raw)
    graph = model.graph
    wild = [0, 1, -1, 2, 3, 7, 2**31 - 1, -(2**31), 2**62, -(2**63)]
    for _ in range(int(rng.integers(1, 4))):
        node = graph.node[int(rng.integers(len(graph.node)))]
        choice = int(rng.integers(6))
        value = wild[int(rng.integers(len(wild)))]
        if choice == 0 and graph.initializer:
            tensor = graph.initializer[int(rng.integers(len(graph.initializer)))]
            if tensor.dims:
                tensor.dims[int(rng.integers(len(tensor.dims)))] = value
        elif choice == 1 and node.attribute:
            _spoil_attribute(node.attribute[int(rng.integers(len(node.attribute)))], value, rng)
        elif choice == 2 and node.input:
            other = graph.node[int(rng.integers(len(graph.node)))]
            names = [*other.input, *other.output, ""]
            node.input[int(rng.integers(len(node.input)))] = names[int(rng.integers(len(names)))]
        elif choice == 3:
            node.op_type = graph.node[int(rng.integers(len(graph.node)))].op_type
        elif choice == 4 and graph.input:
            dims = graph.input[0].type.tensor_type.shape.dim
            if dims:
                dims[int(rng.integers(len(dims)))].dim_value = value
        elif graph.initializer:
            tensor = graph.initializer[int(rng.integers(len(graph.initializer)))]
            tensor.data_type = int(rng.integers(0, 24))
    return model.SerializeToString()  # type: ignore[no-any-return]


def _spoil_attribute(attribute: Any, value: int, rng: np.random.Generator) -> None:
    if attribute.ints:
        attribute.ints[int(rng.integers(len(attribute.ints)))] = value
        if rng.integers(4) == 0:
            del attribute.ints[0]
    elif attribute.type == onnx.AttributeProto.INT:
        attribute.i = value
    elif attribute.type == onnx.AttributeProto.FLOAT:
        attribute.f = float(value)


def attempt(raw: bytes) -> str:
    """`refused`, or `ran` where the model was sound after all."""
    try:
        graph, arrays = import_bytes(raw, "spoiled")
        packed = bundle.pack(graph, arrays)
        graph = packed.graph
        segment = compile_segment(graph, 0, len(cuts.layers(graph)), packed.blobs.__getitem__)
    except InvalidError as error:
        return "refused" if str(error) else "refused without words"
    if segment.arena_bytes > ARENA_MAX or sum(dict(c.macs).get("dense", 0) for c in cuts.costs(graph)) > 1e9:
        return "large"
    shapes = [tuple(1 if d is None else d for d in p.type.shape) for p in segment.inputs]
    segment.run([np.zeros(s, p.type.dtype) for s, p in zip(shapes, segment.inputs, strict=True)])
    return "ran"


def runs(models: list[bytes], seeds: range) -> Counter[str]:
    """Spoil and try, one seed after another; raises with the seed named."""
    told: Counter[str] = Counter()
    for raw in models:
        attempt(raw)  # Kernels are compiled before anything is timed.
    for seed in seeds:
        rng = np.random.default_rng(seed)
        spoiled = spoil(models[int(rng.integers(len(models)))], rng)
        before = time.process_time()
        try:
            told[attempt(spoiled)] += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
        took = time.process_time() - before
        assert took < SECONDS_MAX, f"seed {seed} took {took:.1f} s"
    return told


def small_real_models() -> list[bytes]:
    """Those of `tests.engine.real_models` under 500 kB. Raises OSError where they cannot be had."""
    found = [real_models.path(name).read_bytes() for name in real_models.MODELS if name in SMALL]
    assert all(len(raw) < 500_000 for raw in found)
    return found


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args()
    np.seterr(all="ignore")
    models = [p.read_bytes() for p in given.models] or small_real_models()
    total: Counter[str] = Counter()
    for start in range(given.first, given.first + given.runs, 100):
        print(f"seeds from {start}: {dict(total)}", file=sys.stderr, flush=True)
        total += runs(models, range(start, min(start + 100, given.first + given.runs)))
    print(dict(total))
    return 0


if __name__ == "__main__":
    sys.exit(main())
