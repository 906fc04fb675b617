"""Runs a schedule: arenas with every step bound to its place, a bounded pool of them, one item after another.

Safe from several threads: a call takes an arena for itself, and waits where all are taken.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshd.config import ENGINE_CALLS_MAX
from meshd.engine.schedule import ALIGNMENT, Schedule
from meshd.engine.step import Form, Step
from meshd.model.graph import TensorType

Array = NDArray[Any]


class Arena:
    """Memory for one item, with every step bound to its place in it."""

    def __init__(
        self, plan: Schedule, types: Mapping[str, TensorType], inputs: Sequence[str], outputs: Sequence[str]
    ) -> None:
        raw = np.zeros(plan.arena_bytes + ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
        self._memory = raw[start : start + plan.arena_bytes]
        self._plan, self._types = plan, types
        scratch = np.zeros(plan.scratch_floats, np.float32)
        self.inputs = [self.shaped(Form(n)).reshape(-1) for n in inputs]
        self.outputs = [self.shaped(Form(n)) for n in outputs]
        bound = [(step, step.bind(self, scratch)) for step in plan.steps]
        self._thunks: list[tuple[Step, Callable[[], Any]]] = [(step, t) for step, t in bound if t is not None]
        self._calls = [t for _, t in self._thunks]

    def shaped(self, form: Form) -> Array:
        """See `step.Places`."""
        assert form.layout is None, f"{form} has no ordinary shape"
        shape = self._types[form.tensor].item
        return self.flat(form)[: prod(shape)].reshape(shape)

    def flat(self, form: Form) -> Array:
        """See `step.Places`."""
        at, t = self._plan.offsets[form], self._types[form.tensor]
        if form.layout is None:
            dtype: np.dtype[Any] = np.dtype(t.dtype)
            count = prod(t.item) + self._plan.slack.get(form.tensor, 0)
        else:
            dtype, count = form.layout.dtype, form.rows * form.layout.size + form.layout.slack
        return self._memory[at : at + count * dtype.itemsize].view(dtype)

    def run(self) -> None:
        """Compute the item whose inputs lie in place."""
        for call in self._calls:
            call()

    def run_timed(self) -> Iterator[tuple[Step, float]]:
        """As `run`, telling each step and the microseconds it took."""
        for step, call in self._thunks:
            before = time.perf_counter_ns()
            call()
            yield step, (time.perf_counter_ns() - before) / 1000


class Pool:
    """Arenas made when first needed, kept for the next call, never more than a machine can use at once."""

    def __init__(self, make: Callable[[], Arena]) -> None:
        self._make = make
        self._free: list[Arena] = []
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(ENGINE_CALLS_MAX)

    def clear(self) -> None:
        """Let go of arenas nobody uses: they were bound to what has changed."""
        with self._lock:
            self._free.clear()

    @contextmanager
    def arena(self) -> Iterator[Arena]:
        """One for the caller alone; waits where all are taken."""
        with self._room:
            with self._lock:
                arena = self._free.pop() if self._free else None
            arena = arena or self._make()
            try:
                # A floating-point warning of NumPy's would print, or raise where warnings are errors: IEEE results stand.
                with np.errstate(all="ignore"):
                    yield arena
            finally:
                with self._lock:
                    self._free.append(arena)
