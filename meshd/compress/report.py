"""What a compressed model is worth beside the original, on the user's own data and this machine.

Rule 1: every figure is counted or timed by meshd's own engine; what could not be measured is null, with the reason.
Rule 2: models are timed in turns, one item at a time, so that a neighbour's work falls on all alike; the median counts.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshd.compress import calibration
from meshd.compress.calibration import Data
from meshd.compress.device import Device
from meshd.compress.energy import Meter
from meshd.compress.running import BATCH
from meshd.engine.segment import Segment, compile_segment
from meshd.errors import InvalidError, MisuseError
from meshd.model import bundle, cuts
from meshd.model.graph import Graph
from meshd.model.onnx_import import import_model

SPEND_S = 1.0
"""Of timing, for each model."""
ROUNDS = 5
SAMPLE_S = 0.05
"""Between two looks at a meter, of work."""
NOT_WORK = ("steps", "memory")
"""Cost classes that are no multiply-accumulates."""


@dataclass(frozen=True, slots=True)
class Row:
    """One model. `None` where it could not be known."""

    name: str
    score: float | None
    agreement: float | None
    """Share of items with the same top answer as the first model."""
    file_bytes: int
    weight_bytes: int
    """As meshd sends them."""
    resident_bytes: int
    macs: Mapping[str, int]
    """By cost class, of one item."""
    kernels: Mapping[str, int]
    ms: float
    joules: float | None
    predicted_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    """All models, the first being what the others are held against."""

    metric: str
    items: int
    rows: list[Row]
    meter: str
    no_joules: str
    """Why joules are null; `""` where they are not."""

    def document(self) -> dict[str, Any]:
        """As JSON, a stable form for programs."""
        return {
            "apiVersion": "meshd/v1",
            "kind": "CompressReport",
            "metric": self.metric,
            "items": self.items,
            "meter": self.meter or None,
            "no_joules": self.no_joules or None,
            "models": [
                {
                    "name": r.name,
                    "score": r.score,
                    "agreement": r.agreement,
                    "file_bytes": r.file_bytes,
                    "weight_bytes": r.weight_bytes,
                    "resident_bytes": r.resident_bytes,
                    "macs": dict(r.macs),
                    "kernels": dict(r.kernels),
                    "ms": round(r.ms, 5),
                    "joules": r.joules,
                    "predicted_ms": {n: round(ms, 5) for n, ms in r.predicted_ms.items()},
                }
                for r in self.rows
            ],
        }


def report(
    paths: Sequence[Path],
    data: Path,
    *,
    metric: str = "top1",
    dims: Mapping[str, int] | None = None,
    meter: Meter | None = None,
    no_meter: str = "",
    devices: Sequence[Device] = (),
) -> Report:
    """Measure models beside one another.

    Raises
    ------
    MisuseError, InvalidError, NotFoundError
        From the files, or where labels do not fit the answers.
    """
    if metric not in METRICS:
        raise MisuseError(f"{metric!r} is no metric: {', '.join(METRICS)}")
    models = [_Model(path, dims) for path in paths]
    items = [calibration.read(data, m.graph.inputs) for m in models]
    answers = [m.answers(d) for m, d in zip(models, items, strict=True)]
    scores = [_score(metric, a, d, p) for a, d, p in zip(answers, items, paths, strict=True)]
    ms, joules = _times(models, items, meter)
    rows = []
    for i, m in enumerate(models):
        macs = m.macs()
        rows.append(
            Row(
                m.path.name,
                scores[i],
                _agreement(answers[0], answers[i]),
                m.path.stat().st_size,
                sum(m.graph.blobs.values()),
                m.segment.resident_bytes,
                {k: v for k, v in sorted(macs.items()) if k not in NOT_WORK},
                m.segment.kernels,
                ms[i],
                joules[i],
                {d.name: d.ms(macs) for d in devices},
            )
        )
    return Report(metric, items[0].count, rows, meter.name if meter else "", no_meter if meter is None else "")


class _Model:
    """A file, compiled."""

    def __init__(self, path: Path, dims: Mapping[str, int] | None) -> None:
        self.path = path
        packed = bundle.pack(*import_model(path, dims))
        self.graph: Graph = packed.graph
        self.segment: Segment = compile_segment(self.graph, 0, len(cuts.layers(self.graph)), packed.blobs.__getitem__)
        self.segment.warm()

    def answers(self, data: Data) -> NDArray[Any]:
        """The first output, of all items."""
        if not self.graph.batched:
            return np.stack([self.segment.run([x[i] for x in data.inputs])[0] for i in range(data.count)])
        return np.concatenate([self.segment.run(list(batch.inputs))[0] for batch in data.batches(BATCH)])

    def item(self, data: Data, i: int) -> list[NDArray[Any]]:
        """Inputs of one item."""
        return [x[i : i + 1] if self.graph.batched else x[i] for x in data.inputs]

    def macs(self) -> Counter[str]:
        """Work by cost class, steps and memory too."""
        found: Counter[str] = Counter()
        for cost in cuts.costs(self.graph):
            found.update(dict(cost.macs))
        return found


def _times(
    models: Sequence[_Model], items: Sequence[Data], meter: Meter | None
) -> tuple[list[float], list[float | None]]:
    """Milliseconds of one item, and joules where there is a meter."""
    times: list[list[float]] = [[] for _ in models]
    spent: list[float | None] = [None if meter is None else 0.0 for _ in models]
    for _ in range(ROUNDS):
        for i, (model, data) in enumerate(zip(models, items, strict=True)):
            if meter is not None:
                meter.begin()
            busy, sampled = 0.0, 0.0
            while busy < SPEND_S / ROUNDS:
                inputs = model.item(data, len(times[i]) % data.count)
                before = time.perf_counter()
                model.segment.run(inputs)
                times[i].append(time.perf_counter() - before)
                busy += times[i][-1]
                if meter is not None and busy - sampled >= SAMPLE_S:
                    meter.sample()
                    sampled = busy
            if meter is not None:
                spent[i] = (spent[i] or 0.0) + meter.joules(busy)
    joules = [None if s is None else s / len(t) for s, t in zip(spent, times, strict=True)]
    return [statistics.median(t) * 1000 for t in times], joules


def _agreement(a: NDArray[Any], b: NDArray[Any]) -> float | None:
    if a.shape != b.shape or a.ndim != 2 or a.shape[1] < 2:
        return None
    return float((a.argmax(1) == b.argmax(1)).mean())


def _score(metric: str, answers: NDArray[Any], data: Data, path: Path) -> float | None:
    if data.labels is None:
        return None
    if answers.ndim != 2 or answers.shape[1] < 2:
        raise InvalidError(f"{path} answers {list(answers.shape[1:])} an item; labels need one number a class")
    low, high = int(data.labels.min()), int(data.labels.max())
    if low < 0 or high >= answers.shape[1]:
        raise InvalidError(f"labels reach from {low} to {high}; {path} knows classes 0 to {answers.shape[1] - 1}")
    return METRICS[metric](answers, data.labels)


def _top(count: int) -> Callable[[NDArray[Any], NDArray[np.int64]], float]:
    def share(answers: NDArray[Any], labels: NDArray[np.int64]) -> float:
        best = np.argsort(-answers, axis=1, kind="stable")[:, :count]
        return float((best == labels[:, None]).any(1).mean())

    return share


def _balanced(answers: NDArray[Any], labels: NDArray[np.int64]) -> float:
    right = answers.argmax(1) == labels
    return float(np.mean([right[labels == c].mean() for c in np.unique(labels)]))


METRICS: Mapping[str, Callable[[NDArray[Any], NDArray[np.int64]], float]] = {
    "top1": _top(1),
    "top5": _top(5),
    "balanced": _balanced,
}
"""Name to share of right answers: first, among the first five, or the mean over classes of the first."""
