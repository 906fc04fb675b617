"""Requests at a mesh, several at once, each judged as it comes back.

Callers are plain threads in a closed loop: each sends its next image when the last was answered, so that as many requests are in
flight as there are callers, all the time.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshd.client.inference import Inference
from meshd.demo.report import Outcome
from meshd.errors import MeshdError

CALLERS = 16
TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Sample:
    """Images, their labels, and what the model run in one piece says of each."""

    input: str
    """Name of the model's one input."""
    images: NDArray[Any]
    labels: NDArray[Any]
    truth: NDArray[Any]


class Load:
    """Sends images `[0, total)` of a sample (over and over) through one entry, never past the gate.

    `open_to(n)` lets requests up to number `n` start; `outcomes` grows as they end.
    """

    def __init__(self, target: str, model: str, sample: Sample, total: int, callers: int = CALLERS) -> None:
        self._target, self._model, self._sample, self._total = target, model, sample, total
        self._gate, self._next = 0, 0
        self._changed = threading.Condition()
        self.outcomes: list[Outcome] = []
        self.in_flight = 0
        self._threads = [threading.Thread(target=self._call, daemon=True) for _ in range(min(callers, total))]
        for thread in self._threads:
            thread.start()

    def open_to(self, number: int) -> None:
        """Let requests up to `number` start."""
        with self._changed:
            self._gate = max(self._gate, min(number, self._total))
            self._changed.notify_all()

    def wait(self, holds: Callable[["Load"], bool], timeout_s: float) -> bool:
        """Until `holds` of this load; False when the time is up."""
        with self._changed:
            return self._changed.wait_for(lambda: holds(self), timeout_s)

    def finish(self, timeout_s: float) -> Sequence[Outcome]:
        """Open wholly, wait for the last answer."""
        self.open_to(self._total)
        self.wait(lambda load: len(load.outcomes) == load._total, timeout_s)
        return tuple(self.outcomes)

    def _call(self) -> None:
        with Inference(self._target) as client:
            while (number := self._take()) is not None:
                outcome = self._one(client, number % len(self._sample.labels))
                with self._changed:
                    self.in_flight -= 1
                    self.outcomes.append(outcome)
                    self._changed.notify_all()

    def _take(self) -> int | None:
        with self._changed:
            self._changed.wait_for(lambda: self._next < self._gate or self._next >= self._total)
            if self._next >= self._total:
                return None
            self._next += 1
            self.in_flight += 1
            self._changed.notify_all()
            return self._next - 1

    def _one(self, client: Inference, which: int) -> Outcome:
        sample = self._sample
        sent = time.perf_counter()
        try:
            result = client.infer(self._model, {sample.input: sample.images[which : which + 1]}, TIMEOUT_S)
        except MeshdError as error:
            return Outcome(sent, time.perf_counter(), False, False, False, error=str(error))
        ended = time.perf_counter()
        (answer,) = result.outputs.values()
        return Outcome(
            sent_s=sent,
            ended_s=ended,
            answered=True,
            right=answer.tobytes() == sample.truth[which : which + 1].tobytes(),
            correct=int(np.argmax(answer)) == int(sample.labels[which]),
            survived=result.nodes_lost > 0,
        )
