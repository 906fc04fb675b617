"""Runs a schedule: arenas with every step bound to its place, a bounded pool of them, some items at a time.

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
from meshd.engine.step import Form, KernelStep, Step
from meshd.model.graph import TensorType

Array = NDArray[Any]


class Arena:
    """Memory for some items of a batch, side by side in every form, with the steps bound to their places in it.

    A kernel computes all items in one call, as rows of one product; any other step one item after another.

    Attributes
    ----------
    inputs, outputs : one array (items, elements) for each port
    """

    def __init__(
        self,
        plan: Schedule,
        types: Mapping[str, TensorType],
        inputs: Sequence[str],
        outputs: Sequence[str],
        items: int = 1,
    ) -> None:
        raw = np.zeros(plan.arena_bytes * items + ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
        self._memory = raw[start : start + plan.arena_bytes * items]
        self._plan, self._types, self._items = plan, types, items
        self._scratch = np.zeros(plan.scratch_floats, np.float32)
        self.inputs, self.outputs = ([self._ports(Form(n)) for n in names] for names in (inputs, outputs))
        self._bound: dict[int, list[tuple[Step, Callable[[], Any]]]] = {}
        self._calls: dict[int, list[Callable[[], Any]]] = {}
        self._bind(1)

    def _ports(self, form: Form) -> Array:
        return self.span(form, 0, self._items)[: self._items * self.elements(form)].reshape(self._items, -1)

    def elements(self, form: Form) -> int:
        """Of one item."""
        return prod(self._types[form.tensor].item) if form.layout is None else form.rows * form.layout.size

    def span(self, form: Form, first: int, count: int) -> Array:
        """Items `[first, first + count)` of a form as a flat array, slack included."""
        if form.layout is None:
            dtype: np.dtype[Any] = np.dtype(self._types[form.tensor].dtype)
            slack = self._plan.slack.get(form.tensor, 0)
        else:
            dtype, slack = form.layout.dtype, form.layout.slack
        each = self.elements(form)
        at = self._plan.offsets[form] * self._items + first * each * dtype.itemsize
        return self._memory[at : at + (count * each + slack) * dtype.itemsize].view(dtype)

    def shape(self, form: Form) -> tuple[int, ...]:
        """Of one item of a plain form."""
        assert form.layout is None, f"{form} has no ordinary shape"
        return self._types[form.tensor].item

    def _bind(self, count: int) -> None:
        bound: list[tuple[Step, Callable[[], Any] | None]] = []
        for step in self._plan.steps:
            if isinstance(step, KernelStep):
                bound.append((step, step.bind(_Items(self, 0, count), self._scratch)))
            else:
                bound += [(step, step.bind(_Items(self, i, 1), self._scratch)) for i in range(count)]
        self._bound[count] = [(step, call) for step, call in bound if call is not None]
        self._calls[count] = [call for _, call in self._bound[count]]

    def run(self, count: int = 1) -> None:
        """Compute the first `count` items, whose inputs lie in place."""
        if count not in self._calls:
            self._bind(count)
        for call in self._calls[count]:
            call()

    def run_timed(self) -> Iterator[tuple[Step, float]]:
        """As `run` of one item, telling each step and the microseconds it took."""
        for step, call in self._bound[1]:
            before = time.perf_counter_ns()
            call()
            yield step, (time.perf_counter_ns() - before) / 1000


class _Items:
    """Some items of an arena, as a step sees them (`step.Places`)."""

    def __init__(self, arena: Arena, first: int, count: int) -> None:
        self._arena, self._first, self.count = arena, first, count

    def shaped(self, form: Form) -> Array:
        assert self.count == 1, "only a kernel takes several items at once"
        shape = self._arena.shape(form)
        return self.flat(form)[: prod(shape)].reshape(shape)

    def flat(self, form: Form) -> Array:
        return self._arena.span(form, self._first, self.count)


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
