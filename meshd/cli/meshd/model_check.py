"""The check behind `meshd model check`: a model whole and in pieces, beside ONNX Runtime."""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshd.engine import threads as crew
from meshd.engine.segment import Segment, compile_segment, decode, encode
from meshd.errors import InvalidError, MisuseError, NotFoundError
from meshd.model import bundle, cuts
from meshd.model.graph import Graph, Port
from meshd.model.onnx_import import UnsupportedModelError, import_model

Array = NDArray[Any]
SPEND_S = 0.5
"""Of timing, for each engine."""


@dataclass(slots=True)
class Report:
    """What was found. `None` where it could not be known."""

    supported: bool = True
    unsupported: list[str] = field(default_factory=list)
    layers: int = 0
    cuts: int = 0
    max_abs_error: float | None = None
    pieces_equal: bool | None = None
    ms: float = 0.0
    ort_ms: float | None = None
    arena_bytes: int = 0
    live_bytes: int = 0
    weight_bytes: int = 0
    resident_bytes: int = 0
    kernels: Mapping[str, int] = field(default_factory=dict)
    layer_us: Mapping[int, int] = field(default_factory=dict)
    note: str = ""

    def document(self) -> dict[str, Any]:
        """As JSON, a stable form for programs."""
        return {
            "apiVersion": "meshd/v1",
            "kind": "ModelCheck",
            "supported": self.supported,
            "unsupported": self.unsupported,
            "layers": self.layers,
            "cuts": self.cuts,
            "max_abs_error": self.max_abs_error,
            "pieces_equal": self.pieces_equal,
            "ms": round(self.ms, 4),
            "ort_ms": None if self.ort_ms is None else round(self.ort_ms, 4),
            "arena_bytes": self.arena_bytes,
            "live_bytes": self.live_bytes,
            "weight_bytes": self.weight_bytes,
            "resident_bytes": self.resident_bytes,
            "kernels": dict(self.kernels),
            "layer_us": [self.layer_us.get(i, 0) for i in range(self.layers)],
        }


def check(
    path: Path, dims: Mapping[str, int], given: Mapping[str, Path], places: int | None = None, threads: int = 1
) -> Report:
    """Check one model.

    Parameters
    ----------
    dims : as for `onnx_import.import_model`
    given : input name → .npy file; inputs not named are random, seed 0
    places : cut at so many places at once, spread evenly; None cuts at each possible place in turn
    threads : most to compute on

    Raises
    ------
    InvalidError, NotFoundError, MisuseError
        If the file is no sound model, or an input does not fit.
    """
    try:
        packed = bundle.pack(*import_model(path, dims))
    except UnsupportedModelError as error:
        return Report(supported=False, unsupported=[str(r) for r in error.refusals])
    crew.use(threads)
    graph = packed.graph
    end = len(cuts.layers(graph))
    whole = compile_segment(graph, 0, end, packed.blobs.__getitem__)
    inputs = _inputs(graph.inputs, given)
    whole.warm()
    answers = whole.run(inputs)
    report = Report(
        layers=end,
        arena_bytes=whole.arena_bytes,
        live_bytes=whole.live_bytes,
        weight_bytes=sum(graph.blobs.values()),
        resident_bytes=whole.resident_bytes,
        kernels=whole.kernels,
        layer_us=whole.layer_us(),
    )
    report.pieces_equal, report.cuts = _in_pieces(packed, graph, inputs, answers, places)
    report.ms = _best_ms(lambda: whole.run(inputs))
    _beside_ort(path, dims, graph, inputs, answers, threads, report)
    return report


def _inputs(ports: Sequence[Port], given: Mapping[str, Path]) -> list[Array]:
    unknown = set(given) - {p.name for p in ports}
    if unknown:
        raise MisuseError(f"the model has no input {sorted(unknown)}; it has {[p.name for p in ports]}")
    rng = np.random.default_rng(0)
    made = []
    for port in ports:
        if port.name in given:
            if not given[port.name].is_file():
                raise NotFoundError(f"there is no file {given[port.name]}")
            try:
                array = np.load(given[port.name], allow_pickle=False)
            except (ValueError, OSError) as error:
                raise InvalidError(f"{given[port.name]} is no .npy file of numbers: {error}") from None
            made.append(np.ascontiguousarray(array))
            continue
        shape = tuple(1 if d is None else d for d in port.type.shape)
        kind = np.dtype(port.type.dtype)
        values = rng.standard_normal(shape) if kind.kind == "f" else rng.integers(0, 2, shape)
        made.append(values.astype(kind))
    return made


def _in_pieces(
    packed: bundle.Bundle, graph: Graph, inputs: list[Array], answers: list[Array], places: int | None
) -> tuple[bool, int]:
    """Whether all pieces give what the whole gives, through the wire's encoding; and how many cuts were tried."""
    end = len(cuts.layers(graph))
    if places is None:
        tried: list[tuple[int, ...]] = [(i,) for i in range(1, end)]
    else:
        count = min(places, end - 1)
        tried = [tuple(sorted({round(i * end / (count + 1)) for i in range(1, count + 1)} - {0, end}))]
    equal = True
    for at in tried:
        values = inputs
        for start, stop in itertools.pairwise((0, *at, end)):
            values = _through(graph, compile_segment(graph, start, stop, packed.blobs.__getitem__), values)
        equal = equal and all(
            np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(values, answers, strict=True)
        )
    return equal, len(tried) if places is None else len(tried[0])


def _through(graph: Graph, piece: Segment, values: list[Array]) -> list[Array]:
    made = piece.run(values)
    crossing = cuts.crossing(graph, piece.end - 1)
    if not crossing:
        return made
    batch = made[0].shape[0] if graph.batched else 1
    sent = [bytes(encode(v, e)) for v, (_, e) in zip(made, crossing, strict=True)]
    return [decode(raw, e, port, batch) for raw, (_, e), port in zip(sent, crossing, piece.outputs, strict=True)]


def _best_ms(run: Callable[[], Any]) -> float:
    """The best of many runs: what the machine can do when nothing else wants it."""
    run()
    best, end = float("inf"), time.perf_counter() + SPEND_S
    while time.perf_counter() < end:
        before = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - before)
    return best * 1000


def _beside_ort(
    path: Path,
    dims: Mapping[str, int],
    graph: Graph,
    inputs: list[Array],
    answers: list[Array],
    threads: int,
    report: Report,
) -> None:
    try:
        import onnxruntime
    except ImportError:
        return
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 4
    feed: dict[str, Array] = dict(zip((p.name for p in graph.inputs), inputs, strict=True))
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for info in session.get_inputs():
            if info.name in dims:
                feed[info.name] = np.full([d for d in info.shape if isinstance(d, int)], dims[info.name], np.int64)
        theirs = session.run([p.name for p in graph.outputs], feed)
    except Exception as error:  # noqa: BLE001 - its errors are of many kinds, and none is ours.
        report.note = f"ONNX Runtime does not run it: {str(error).splitlines()[0][:200]}"
        return
    report.max_abs_error = max(
        (
            float(np.abs(a.astype(np.float64) - np.asarray(b, np.float64)).max(initial=0.0))
            for a, b in zip(answers, theirs, strict=True)
        ),
        default=0.0,
    )
    report.ort_ms = _best_ms(lambda: session.run(None, feed))


__all__ = ["Report", "check"]
