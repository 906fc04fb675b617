"""A deployed model on somebody's own data: how fast, how right, and where a sensor tells, for how many joules.

Joules are those of this machine alone, its idling subtracted.

First one caller (latency), then several (throughput; every answer is kept, for the accuracy); each goes through all of the
data at least once, and on for as long as asked. MLPerf's words: SingleStream, then closed-loop load.

Rule: what cannot be known is None, with the reason beside it.
"""

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from meshd.client.calls import Array, TensorSpec
from meshd.client.inference import Inference
from meshd.compress import calibration
from meshd.compress.energy import Meter
from meshd.errors import InvalidError, MisuseError, UnavailableError
from meshd.model.graph import Port, TensorType

IDLE_S = 1.0
"""Of the machine's own joules, measured before, to be subtracted."""
SAMPLE_S = 0.2


@dataclass(slots=True)
class Load:
    """One phase."""

    callers: int
    times_us: list[int] = field(default_factory=list)
    failed: int = 0
    """Requests that nobody could answer."""
    seconds: float = 0.0

    def document(self, batch: int) -> dict[str, Any]:
        """Of requests that were answered."""
        hundredths = statistics.quantiles(self.times_us, n=100, method="inclusive") if len(self.times_us) > 1 else None
        first = self.times_us[0]
        p50, p90, p99 = (hundredths[i] for i in (49, 89, 98)) if hundredths else (first, first, first)
        return {
            "callers": self.callers, "requests": len(self.times_us), "failed": self.failed, "p50_us": round(p50),
            "p90_us": round(p90), "p99_us": round(p99), "items_per_s": round(len(self.times_us) * batch / self.seconds, 1),
        }  # fmt: skip


def measure(
    inference: Inference, name: str, file: Path, callers: int, batch: int, seconds: float, meter: Meter | None, why: str
) -> dict[str, Any]:
    """Everything, as the fields of a document.

    Parameters
    ----------
    batch : items a request; the last of the data that fill none are left out
    seconds : of each phase, at least
    meter, why : see `compress.energy.find`

    Raises
    ------
    MeshdError
        Data that does not fit the model, or a mesh that answers nothing.
    """
    takes, gives = inference.describe(name)
    data = calibration.read(file, [_port(spec) for spec in takes])
    if not all(spec.shape[:1] == (-1,) for spec in takes):
        raise MisuseError(f"{name} has no free first dimension, so its data has no items; see meshctl infer")
    if (count := data.count // batch) == 0:
        raise MisuseError(f"{file} has {data.count} items, less than one request of {batch}")
    requests = [
        {spec.name: x[i * batch : (i + 1) * batch] for spec, x in zip(takes, data.inputs, strict=True)}
        for i in range(count)
    ]
    answers: list[Array | None] = [None] * count

    def ask(turn: int) -> None:
        answers[turn % count] = inference.infer(name, requests[turn % count]).outputs[gives[0].name]

    ask(0)  # Opens the connection; nothing of it is counted.
    single = _load(ask, count, 1, seconds)
    idle_watts = _idle_watts(meter)
    if meter is not None:
        meter.begin()
    many = _load(ask, count, callers, seconds, meter)
    joules = None if meter is None else meter.joules(many.seconds)
    top1, unscored = _accuracy(answers, None if data.labels is None else data.labels[: count * batch])
    items = len(many.times_us) * batch
    return {
        "items": data.count,
        "batch": batch,
        "latency": single.document(batch),
        "throughput": many.document(batch),
        "accuracy": {"top1": top1, "reason": unscored},
        "energy": {
            "joules_per_item": None if joules is None else max(0.0, joules - idle_watts * many.seconds) / items,
            "idle_watts": None if meter is None else idle_watts,
            "sensor": None if meter is None else meter.name,
            "reason": why if meter is None else None,
        },
    }


def _port(spec: TensorSpec) -> Port:
    return Port(spec.name, TensorType(spec.dtype, tuple(None if n == -1 else n for n in spec.shape)))


def _load(ask: Callable[[int], None], least: int, callers: int, seconds: float, meter: Meter | None = None) -> Load:
    """`callers` in a closed loop, until `seconds` are over and `least` requests were made."""
    load, lock, began = Load(callers), threading.Lock(), time.perf_counter()
    turns = iter(range(1 << 62))

    def work(_: int) -> None:
        while True:
            with lock:
                turn = next(turns)
            now = time.perf_counter()
            if turn >= least and now - began >= seconds:
                return
            try:
                ask(turn)
            except UnavailableError:
                with lock:
                    load.failed += 1
                continue
            with lock:
                load.times_us.append(round((time.perf_counter() - now) * 1e6))

    with ThreadPoolExecutor(callers) as pool, _Sampling(meter):
        list(pool.map(work, range(callers)))
    load.seconds = time.perf_counter() - began
    if not load.times_us:
        raise UnavailableError(f"none of {load.failed} requests was answered; see meshctl status")
    return load


class _Sampling:
    """Asks a meter now and then, on a thread, until the end of the block."""

    def __init__(self, meter: Meter | None) -> None:
        self._meter, self._over = meter, threading.Event()
        self._thread = threading.Thread(target=self._run, args=(meter,)) if meter is not None else None

    def _run(self, meter: Meter) -> None:
        while not self._over.wait(SAMPLE_S):
            meter.sample()

    def __enter__(self) -> None:
        if self._thread is not None:
            self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()


def _idle_watts(meter: Meter | None) -> float:
    if meter is None:
        return 0.0
    meter.begin()
    with _Sampling(meter):
        time.sleep(IDLE_S)
    return meter.joules(IDLE_S) / IDLE_S


def _accuracy(answers: Sequence[Array | None], labels: Array | None) -> tuple[float | None, str | None]:
    if labels is None:
        return None, "the data has no array 'labels'"
    if (gone := sum(answer is None for answer in answers)) > 0:
        return None, f"{gone} of {len(answers)} requests were never answered"
    scores = np.concatenate([answer for answer in answers if answer is not None])
    if scores.ndim != 2 or scores.shape[1] < 2:
        return None, f"the first output is {list(scores.shape[1:])} an item; labels need one number a class"
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise InvalidError(
            f"labels reach from {labels.min()} to {labels.max()}; the model knows {scores.shape[1]} classes"
        )
    return round(float(np.mean(scores.argmax(1) == labels)), 6), None
