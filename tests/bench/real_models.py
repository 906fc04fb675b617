"""The real models beside ONNX Runtime, and what the engine said of itself beforehand. One command a figure:

    python -m tests.bench.real_models speed     ours, ONNX Runtime, the ratio, geometric mean
    python -m tests.bench.real_models pruned    the same convolutions pruned 90 % in blocks of 4, against ONNX Runtime dense
    python -m tests.bench.real_models cost      the cost model's microseconds of segments against measured ones
    python -m tests.bench.real_models memory    arena against what is alive, claimed bytes against held ones
    python -m tests.bench.real_models batch     items a second of a batch, as rows of one product, against one after another
    python -m tests.bench.real_models load      import, and loading all layers from disk

One thread, batch 1, both engines in turns in one process, the best of many runs each. Needs onnxruntime, and the models of
`tests.engine.real_models` (fetched from the package index). `--only NAME` for one model.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshd.core.bidding import layer_us
from meshd.engine import measure, threads
from meshd.engine.segment import Segment, compile_segment
from meshd.model import bundle, cuts
from meshd.model.graph import Graph, Operation, Port, TensorType, Weight
from meshd.model.onnx_import import import_model
from meshd.model.structure import structure_of
from tests.engine.real_models import MODELS, path

Array = NDArray[Any]

ROUNDS, SPEND_S = 5, 0.3
"""Turns of each engine, and seconds of a turn."""
SHORT_MS, SHORT_MORE_MS = 0.2, 0.15
"""Models that ONNX Runtime runs in less are counted apart: at most so much more."""
BLOCK, ZEROS = 4, 0.9
BATCH = 24
SEGMENT_US = 50
"""Segments shorter than this are not compared: a clock's tick and a call weigh as much."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A model packed, compiled whole, with inputs."""

    name: str
    packed: bundle.Bundle
    segment: Segment
    inputs: list[Array]


def ready(name: str, pruned: bool = False) -> Ready:
    graph, arrays = import_model(path(name), MODELS[name].dims)
    if pruned:
        arrays = {**arrays, **_pruned(graph, arrays)}
        found = structure_of(graph.operations, arrays)
        more = {n: replace(graph.weights[n], structure=kind, zeros=z) for n, (kind, z) in found.items()}
        graph = replace(graph, weights={**graph.weights, **more})
    packed = bundle.pack(graph, arrays)
    graph = packed.graph
    segment = compile_segment(graph, 0, len(cuts.layers(graph)), packed.blobs.__getitem__)
    segment.warm()
    rng = np.random.default_rng(0)
    shapes = [tuple(1 if d is None else d for d in p.type.shape) for p in graph.inputs]
    inputs = [rng.standard_normal(s).astype(p.type.dtype) for s, p in zip(shapes, graph.inputs, strict=True)]
    return Ready(name, packed, segment, inputs)


def _pruned(graph: Any, arrays: Any) -> dict[str, Array]:
    """Every ordinary convolution's weights, the tenth of its blocks of 4 outputs with most magnitude left."""
    made = {}
    for o in graph.operations:
        if o.op == "Conv" and o.attributes["group"] == 1 and arrays[o.inputs[1]].shape[0] % BLOCK == 0:
            weight = arrays[o.inputs[1]]
            blocks = weight.reshape(weight.shape[0] // BLOCK, BLOCK, -1)
            size = np.abs(blocks).sum(1, keepdims=True)
            made[o.inputs[1]] = (blocks * (size >= np.quantile(size, ZEROS))).reshape(weight.shape)
    return made


def runtime(name: str, graph: Any, inputs: list[Array], profile: str = "") -> tuple[Any, dict[str, Array]]:
    """ONNX Runtime's session on one thread, and its feed."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = 1, 1, 4
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, profile
    session = onnxruntime.InferenceSession(str(path(name)), options, providers=["CPUExecutionProvider"])
    feed = {p.name: x for p, x in zip(graph.inputs, inputs, strict=True)}
    dims = MODELS[name].dims
    feed |= {i.name: np.array(dims[i.name], np.int64) for i in session.get_inputs() if i.name in dims}
    return session, feed


def in_turns(*runs: Callable[[], Any]) -> list[float]:
    """Milliseconds of each, the best of all its turns."""
    best = [float("inf")] * len(runs)
    for _ in range(ROUNDS):
        for k, run in enumerate(runs):
            run()
            end = time.perf_counter() + SPEND_S
            while time.perf_counter() < end:
                before = time.perf_counter()
                run()
                best[k] = min(best[k], (time.perf_counter() - before) * 1000)
    return best


def speed(names: list[str], pruned: bool = False) -> None:
    """Ours beside theirs."""
    ratios = []
    print(f"{'model':18}{'ours ms':>10}{'ORT ms':>10}{'ratio':>8}   kernels")
    for name in names:
        made = ready(name, pruned)
        session, feed = runtime(name, made.packed.graph, made.inputs)
        ours, theirs = in_turns(partial(made.segment.run, made.inputs), partial(session.run, None, feed))
        short = theirs < SHORT_MS
        verdict = f"(short: {ours - theirs:+.3f} ms, at most {SHORT_MORE_MS:+})" if short else ""
        print(f"{name:18}{ours:10.3f}{theirs:10.3f}{ours / theirs:8.2f}   {made.segment.kernels} {verdict}", flush=True)
        if not short:
            ratios.append(ours / theirs)
        if pruned:
            _layers_alone(made)
            shipped = sum(map(len, made.packed.blobs.values()))
            print(
                f"    ships in {shipped / 1e6:.2f} MB; its ONNX file, dense, has {path(name).stat().st_size / 1e6:.2f} MB"
            )
    if ratios and not pruned:
        print(
            f"geometric mean {statistics.geometric_mean(ratios):.2f}, greatest {max(ratios):.2f} of {len(ratios)} models"
        )


def _layers_alone(made: Ready) -> None:
    """Its pruned 1x1 and 3x3 convolutions, step by step, against ONNX Runtime's profile of the same nodes, dense."""
    sparse: dict[int, tuple[float, bool]] = {}
    for _ in range(30):
        for k, (step, us) in enumerate(made.segment._timed(1)):
            name = getattr(getattr(step, "kernel", None), "name", "")
            is_one = any(kind in name for kind in (".conv1x1", ".conv3x3", ".product"))
            sparse[k] = (min(us, sparse.get(k, (us, False))[0]), is_one)
    with tempfile.TemporaryDirectory() as folder:
        session, feed = runtime(made.name, made.packed.graph, made.inputs, os.path.join(folder, "profile"))
        for _ in range(30):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text())
    best: dict[str, float] = {}
    for event in events:
        arguments = event.get("args", {})
        if event.get("cat") == "Node" and arguments.get("op_name") in {"Conv", "FusedConv"} and _is_plain(arguments):
            best[event["name"]] = min(best.get(event["name"], float("inf")), event["dur"])
    ours, theirs = sum(us for us, is_one in sparse.values() if is_one), sum(best.values())
    print(
        f"    its 1x1 and 3x3 convolutions alone: {ours:.0f} us, ONNX Runtime dense {theirs:.0f} us: x {theirs / ours:.2f}"
    )


def _is_plain(arguments: Any) -> bool:
    """Whether a profiled convolution has windows of 1x1 or 3x3 and no groups, by its weight's and its input's shape."""
    shapes = [next(iter(kind.values())) for kind in arguments.get("input_type_shape", [])]
    if len(shapes) < 2 or len(shapes[1]) != 4:
        return False
    # ONNX Runtime lays channels in blocks (NCHWc), but weights keep their logical shape.
    return tuple(shapes[1][2:]) in {(1, 1), (3, 3)} and shapes[1][1] > 1


def cost(names: list[str]) -> None:
    """Predicted against measured, of each layer and of the quarters, halves and the whole of each model."""
    known = tuple(sorted(_rates().items()))
    errors: list[float] = []
    print(f"{'model':18}{'segment':>10}{'predicted us':>14}{'measured us':>13}{'error':>8}")
    for name in names:
        graph = (made := ready(name)).packed.graph
        told, end = layer_us(known, cuts.costs(graph)), len(cuts.layers(graph))
        spans = {(0, end)} | {(i * end // n, (i + 1) * end // n) for n in (2, 4) for i in range(n)}
        for start, stop in sorted(s for s in spans if s[0] < s[1]):
            took = round(_steps_us(compile_segment(graph, start, stop, made.packed.blobs.__getitem__)))
            predicted = sum(told[start:stop])
            if took < SEGMENT_US:
                continue
            errors.append(abs(predicted - took) / took)
            print(f"{name:18}{f'{start}-{stop}':>10}{predicted:14}{took:13}{predicted / took - 1:+8.0%}", flush=True)
    print(f"median error {statistics.median(errors):.0%} of {len(errors)} segments")


def _steps_us(segment: Segment, runs: int = 20) -> float:
    """The sum of every step's best time: what a neighbour on this machine disturbs least."""
    segment.warm()
    best: dict[int, float] = {}
    for _ in range(runs):
        best |= {k: min(us, best.get(k, us)) for k, (_, us) in enumerate(segment._timed(1))}
    return sum(best.values())


@cache
def _rates() -> dict[str, int]:
    return dict(measure.rates().rates)


def memory(names: list[str]) -> None:
    """What is held against what was claimed."""
    print(f"{'model':18}{'segment':>10}{'arena/live':>12}{'claimed':>12}{'held':>12}{'off':>7}")
    for name in names:
        graph = (made := ready(name)).packed.graph
        claims, end = [c.resident_bytes for c in cuts.costs(graph)], len(cuts.layers(graph))
        for start, stop in sorted({(0, end), (0, end // 2), (end // 2, end)}):
            piece = compile_segment(graph, start, stop, made.packed.blobs.__getitem__)
            claimed, held = sum(claims[start:stop]), piece.resident_bytes
            ratio = piece.arena_bytes / piece.live_bytes
            print(
                f"{name:18}{f'{start}-{stop}':>10}{ratio:12.3f}{claimed:12}{held:12}{held / claimed - 1:+7.0%}",
                flush=True,
            )


def batch(names: list[str]) -> None:
    """Batches of 24 as the engine runs them, and with groups of one."""
    print(f"{'model':22}{'group':>6}{'grouped ms':>12}{'singly ms':>11}{'times':>7}")
    for name, made in [*_perceptrons(), *((n, ready(n)) for n in names)]:
        if not made.packed.graph.batched:
            continue
        segment, inputs = made.segment, [np.concatenate([x] * BATCH) for x in made.inputs]
        group = segment.group

        def run(size: int, segment: Segment = segment, inputs: list[Array] = inputs) -> None:
            segment.group = size
            segment.run(inputs)

        grouped, singly = in_turns(partial(run, group), partial(run, 1))
        print(f"{name:22}{group:6}{grouped:12.3f}{singly:11.3f}{singly / grouped:7.2f}", flush=True)


def _perceptrons() -> list[tuple[str, Ready]]:
    """3 x 1024, dense and pruned to a tenth in blocks of 16."""
    made = []
    for name, zeros in (("perceptron", 0.0), ("perceptron 90 % zeros", ZEROS)):
        rng = np.random.default_rng(0)
        arrays, operations, types = {}, [], {"x0": TensorType("float32", (None, 1024))}
        for i in range(3):
            keep = np.repeat(rng.random((64, 1024)) >= zeros, 16, axis=0)
            arrays[f"w{i}"] = (rng.standard_normal((1024, 1024)) * keep).astype(np.float32)
            operations.append(Operation(f"o{i}", "Gemm", (f"x{i}", f"w{i}"), (f"x{i + 1}",)))
            types[f"x{i + 1}"] = types["x0"]
        found = structure_of(operations, arrays)
        weights = {n: Weight(n, TensorType("float32", a.shape), "", 0, *found[n]) for n, a in arrays.items()}
        first, last = ((Port(n, types["x0"]),) for n in ("x0", "x3"))
        packed = bundle.pack(Graph(name, first, last, tuple(operations), weights, types), arrays)
        graph = packed.graph
        segment = compile_segment(graph, 0, len(cuts.layers(graph)), packed.blobs.__getitem__)
        segment.warm()
        made.append((name, Ready(name, packed, segment, [rng.standard_normal((1, 1024)).astype(np.float32)])))
    return made


def load(names: list[str]) -> None:
    """Import on the caller's machine; compile of all layers out of blobs on disk, kernels compiled before."""
    print(f"{'model':18}{'file MB':>10}{'import s':>10}{'load s':>10}")
    for name in names:
        ready(name)
        before = time.perf_counter()
        packed = bundle.pack(*import_model(path(name), MODELS[name].dims))
        imported = time.perf_counter() - before
        with tempfile.TemporaryDirectory() as folder:
            for digest, blob in packed.blobs.items():
                (Path(folder) / digest).write_bytes(blob)
            before = time.perf_counter()
            graph = packed.graph
            end = len(cuts.layers(graph))
            segment = compile_segment(graph, 0, end, partial(_blob, Path(folder)))
            segment.run([np.zeros([1 if n is None else n for n in p.type.shape], p.type.dtype) for p in segment.inputs])
            loaded = time.perf_counter() - before
        print(f"{name:18}{path(name).stat().st_size / 1e6:10.2f}{imported:10.2f}{loaded:10.2f}", flush=True)


def _blob(folder: Path, digest: str) -> bytes:
    return (folder / digest).read_bytes()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", choices=["speed", "pruned", "cost", "memory", "batch", "load"])
    parser.add_argument("--only", choices=list(MODELS), action="append")
    given = parser.parse_args()
    threads.use(1)
    names = given.only or list(MODELS)
    if given.figure == "pruned":
        speed(given.only or ["opennsfw", "orientation"], pruned=True)
    else:
        {"speed": speed, "cost": cost, "memory": memory, "batch": batch, "load": load}[given.figure](names)
    return 0


if __name__ == "__main__":
    sys.exit(main())
