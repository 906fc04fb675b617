"""A steady load: so many requests a second, whether the last ones were answered or not, each judged as it comes back.

An open loop, unlike `demo.load`: a mesh that stands still does not make its callers wait their turn, and what waits is seen.
"""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import grpc

from meshd.client.inference import Inference
from meshd.demo.load import Sample
from meshd.errors import MeshdError

DEADLINE_S = 10.0
CALLERS_MAX = 640
"""50 requests a second that all wait for their deadline, and some."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One request: when it was due and when it ended (monotonic seconds), and how."""

    at_s: float
    ended_s: float
    right: bool = False
    """Answered, and the bytes are a single node's."""
    wrong: bool = False
    """Answered otherwise."""
    code: str = ""
    """gRPC's, of what was not answered."""
    error: str = ""

    @property
    def ms(self) -> float:
        return (self.ended_s - self.at_s) * 1e3


class Steady:
    """A context manager: `rate` requests a second from entering to leaving, which waits for the last of them.

    Parameters
    ----------
    targets : entries, for a client that goes on by the next when one is gone
    truths : answers to each image that count as right, one array for each model that may serve
    """

    def __init__(
        self, targets: Sequence[str], model: str, sample: Sample, rate: float, truths: Sequence[Any] = ()
    ) -> None:
        self._model, self._sample, self._rate = model, sample, rate
        self.truths = list(truths) or [sample.truth]
        self._client = Inference(targets)
        self.sent: list[Sent] = []
        self._end = threading.Event()
        self._pool = ThreadPoolExecutor(CALLERS_MAX, "steady")
        self._thread = threading.Thread(target=self._pace, name="steady-pace", daemon=True)

    def __enter__(self) -> "Steady":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        self._pool.shutdown()
        self._client.close()

    def between(self, begin_s: float, end_s: float) -> list[Sent]:
        """Requests that were due then."""
        return [each for each in list(self.sent) if begin_s <= each.at_s < end_s]

    def _pace(self) -> None:
        begin, number = time.monotonic(), 0
        while True:
            due = begin + number / self._rate
            if self._end.wait(max(0.0, due - time.monotonic())):
                return
            self._pool.submit(self._one, number % len(self._sample.images), due)
            number += 1

    def _one(self, which: int, due: float) -> None:
        image = {self._sample.input: self._sample.images[which : which + 1]}
        left_s = max(DEADLINE_S - (time.monotonic() - due), 0.001)
        try:
            (answer,) = self._client.infer(self._model, image, left_s).outputs.values()
        except MeshdError as failed:
            cause = failed.__cause__
            code = cause.code().name if isinstance(cause, grpc.RpcError) else type(failed).__name__
            self.sent.append(Sent(due, time.monotonic(), code=code, error=str(failed)))
            return
        right = any(answer.tobytes() == truth[which : which + 1].tobytes() for truth in self.truths)
        self.sent.append(Sent(due, time.monotonic(), right, not right))


def percentile(sent: Sequence[Sent], percent: float) -> float:
    """Milliseconds within which so many per cent of them ended; 0 of none."""
    times = sorted(each.ms for each in sent)
    return times[min(len(times) - 1, int(len(times) * percent / 100))] if times else 0.0
