"""A client's request at its entry: the thread that waits, and how a large batch is shared out and put together again."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from meshd.core.journey.frames import Answer, Failure, RequestId, Spent
from meshd.dataplane.links import Buffer

Pieces = tuple[Buffer, ...]
"""A payload, tensor by tensor."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """A request's answer: `raw[i]` are the little-endian bytes of the model's output `i`, leading dimension `batch`."""

    batch: int
    raw: Pieces
    spent: Spent
    attempts: int


class Waiting:
    """One request (or part of one) in flight, and what its client's thread sleeps on."""

    __slots__ = ("_wake", "attempts", "id", "inputs", "outcome", "outputs")

    def __init__(self, id: RequestId, inputs: Pieces) -> None:
        self.id, self.inputs = id, inputs
        self.outcome: Answer | Failure | None = None
        self.outputs: Pieces = ()
        self.attempts = 0
        self._wake = threading.Lock()
        self._wake.acquire()

    def finish(self, outcome: Answer | Failure, outputs: Pieces, attempts: int) -> None:
        """By whichever thread brings the outcome; once, but for a plane that closes meanwhile."""
        if self.outcome is not None:
            return
        self.outputs, self.attempts, self.outcome = outputs, attempts, outcome
        self._wake.release()

    def wait(self) -> Answer | Failure:
        """Block until it is finished. Time is kept elsewhere: the deadline finishes it too."""
        if self.outcome is None:
            self._wake.acquire()
        assert self.outcome is not None, "whoever lets the lock go has set the outcome"
        return self.outcome


def share(inputs: Pieces, batch: int, counts: Sequence[int]) -> Iterator[Pieces]:
    """The inputs of each part: views, nothing is copied."""
    if len(counts) == 1:
        yield inputs
        return
    views = [memoryview(piece) for piece in inputs]
    first = 0
    for count in counts:
        items = [len(view) // batch for view in views]
        yield tuple(view[first * n : (first + count) * n] for view, n in zip(views, items, strict=True))
        first += count


def merge(parts: Sequence[tuple[Waiting, Answer]]) -> Outputs:
    """The outputs of all parts, in order; each output is joined once."""
    (waiting, answer), *others = parts
    if not others:
        return Outputs(answer.batch, waiting.outputs, answer.spent, waiting.attempts)
    spent = [a.spent for _, a in parts]
    return Outputs(
        batch=sum(a.batch for _, a in parts),
        raw=tuple(b"".join(pieces) for pieces in zip(*(w.outputs for w, _ in parts), strict=True)),
        spent=Spent(
            queue_us=max(s.queue_us for s in spent),
            compute_us=sum(s.compute_us for s in spent),
            hops=sum(s.hops for s in spent),
            lost=sum(s.lost for s in spent),
        ),
        attempts=max(w.attempts for w, _ in parts),
    )
