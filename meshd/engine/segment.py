"""A compiled segment: layers `[start, end)` ready to run.

Safe to call from several threads at once. Bit-for-bit the same answers however a model is cut: each layer is lowered by
itself (`lower`), and what lies between layers is only how tensors are laid out (`schedule`). A batch is its items: as rows
of one product, or one after another, each accumulated as it would be alone, so it too changes no bit.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshd.engine.constants import Constants
from meshd.engine.crossing import decode, encode
from meshd.engine.executor import Arena, Pool
from meshd.engine.lower import Lowering
from meshd.engine.schedule import Schedule, schedule
from meshd.engine.step import KernelStep, Step
from meshd.engine.threads import SPLIT_FROM_US, crew
from meshd.errors import InvalidError, MisuseError
from meshd.model import cuts
from meshd.model.bundle import BlobReader
from meshd.model.check import check_graph
from meshd.model.graph import Graph, Port, TensorType

Array = NDArray[Any]

ARENA_BYTES_MAX = 2**31
"""Far past any edge device's memory; a topology that needs more is refused before it is tried."""

WARM_RUNS = 5

GROUP_MAX, GROUP_BYTES_MAX = 12, 512 * 1024
"""Items of a batch computed together, as rows of one product: twice the six rows that a product's kernel takes at once; and the
arena for them, which is made when the first batch comes. Past a core's cache it would cost more than it saves."""


class Segment:
    """Layers `[start, end)` of a graph, compiled for this machine.

    Attributes
    ----------
    inputs, outputs : ports of the segment (float32 where signs cross: `decode` has unpacked them)
    resident_bytes : memory it holds while loaded: packed weights, and an arena
    arena_bytes, live_bytes : of the arena; and the greatest sum of what is alive in it at once
    group : items of a batch that are computed together
    kernels : count of layers by kernel class, e.g. `{"binary": 2, "sparse": 1}`
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    kernels: dict[str, int]

    def __init__(self, graph: Graph, start: int, end: int, plan: Schedule, types: Mapping[str, TensorType]) -> None:
        self.inputs, self.outputs = cuts.segment_ports(graph, start, end)
        self.start, self.end = start, end
        self.arena_bytes, self.live_bytes = plan.arena_bytes, plan.live_bytes
        self.kernels = _classes(plan)
        self.steps, self._plan = plan.steps, plan
        self._batched = graph.batched
        ins, outs = [p.name for p in self.inputs], [p.name for p in self.outputs]
        self.group = max(1, min(GROUP_MAX, GROUP_BYTES_MAX // max(1, plan.arena_bytes)))
        self._pool = Pool(lambda: Arena(plan, types, ins, outs))
        self._groups = Pool(lambda: Arena(plan, types, ins, outs, self.group))

    @property
    def resident_bytes(self) -> int:
        """Bytes held while loaded."""
        weights = sum(step.resident_bytes for step in self.steps)
        return weights + self.arena_bytes + self._plan.scratch_floats * 4

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Compute.

        Parameters
        ----------
        inputs : by position, C order, of the ports' types; the same leading batch in all, where the batch is free

        Returns
        -------
        Fresh arrays the caller owns, by position.

        Raises
        ------
        MisuseError
            If number, type, shape or batch is not that of the ports.
        """
        batch = self._check(inputs)
        outputs = [np.empty(_shape(p, batch), np.dtype(p.type.dtype)) for p in self.outputs]
        if not batch:
            return outputs
        given, made = [x.reshape(batch, -1) for x in inputs], [y.reshape(batch, -1) for y in outputs]
        team = crew()
        ways = min(batch, team.cores)
        with team.computing():
            if ways == 1:
                self._items(given, made, 0, batch)
            else:
                edges = [i * batch // ways for i in range(ways + 1)]
                team.share(lambda i: self._items(given, made, edges[i], edges[i + 1]), ways)
        return outputs

    def _items(self, given: Sequence[Array], made: Sequence[Array], first: int, last: int) -> None:
        """Compute items `[first, last)` of a batch."""
        group = min(self.group, last - first)
        with (self._pool if group == 1 else self._groups).arena() as arena:
            for at in range(first, last, group):
                until = min(at + group, last)
                for target, source in zip(arena.inputs, given, strict=True):
                    target[: until - at] = source[at:until]
                arena.run(until - at)
                for target, source in zip(made, arena.outputs, strict=True):
                    target[at:until] = source[: until - at]

    def warm(self) -> int:
        """Compile and run once on zeros; returns microseconds of a later run (batch of one)."""
        inputs = [np.zeros(_shape(p, 1), np.dtype(p.type.dtype)) for p in self.inputs]
        self.run(inputs)
        self._split()
        self.run(inputs)
        best = 2**63
        for _ in range(WARM_RUNS):
            before = time.perf_counter_ns()
            self.run(inputs)
            best = min(best, time.perf_counter_ns() - before)
        return best // 1000

    def layer_us(self, runs: int = 3) -> dict[int, int]:
        """Microseconds of each layer, the mean of a few runs on zeros."""
        spent: dict[int, float] = {}
        for step, us in self._timed(runs):
            spent[step.layer] = spent.get(step.layer, 0.0) + us
        return {layer: round(us / runs) for layer, us in sorted(spent.items())}

    def _timed(self, runs: int) -> Iterator[tuple[Step, float]]:
        """Run on zeros, telling each step and its microseconds."""
        with self._pool.arena() as arena:
            for target in arena.inputs:
                target[:] = 0
            arena.run()
            for _ in range(runs):
                yield from arena.run_timed()

    def _split(self) -> None:
        """Deal the tiles of long steps, now that it is known which are long."""
        cores = crew().cores
        if cores == 1:
            return
        for step, us in self._timed(1):
            if isinstance(step, KernelStep) and us >= SPLIT_FROM_US:
                step.ways = cores
        self._pool.clear()
        self._groups.clear()

    def _check(self, inputs: Sequence[Array]) -> int:
        if len(inputs) != len(self.inputs):
            raise MisuseError(f"{len(inputs)} inputs where the segment takes {len(self.inputs)}")
        batch = inputs[0].shape[0] if self._batched and inputs and inputs[0].ndim else 1
        for port, x in zip(self.inputs, inputs, strict=True):
            shape = _shape(port, batch)
            if x.dtype != port.type.dtype or x.shape != shape:
                raise MisuseError(f"{port.name} is {x.dtype} {list(x.shape)}, not {port.type.dtype} {list(shape)}")
        return int(batch)


def _shape(port: Port, batch: int) -> tuple[int, ...]:
    return tuple(batch if d is None else d for d in port.type.shape)


def _classes(plan: Schedule) -> dict[str, int]:
    """Layers by the class of their kernel with the most work; a layer without any is not counted."""
    heaviest: dict[int, tuple[int, str]] = {}
    for step in plan.steps:
        if step.family != "memory":
            heaviest[step.layer] = max(heaviest.get(step.layer, (0, "")), (step.macs, step.family))
    return dict(sorted(Counter(family for _, family in heaviest.values()).items()))


def compile_segment(graph: Graph, start: int, end: int, blobs: BlobReader) -> Segment:
    """Choose kernels, pack weights, plan the arena.

    Raises
    ------
    InvalidError
        If a blob or the graph is not what it must be.
    NotFoundError
        From `blobs`, if one is missing.
    """
    check_graph(graph)
    ranges = cuts.layers(graph)
    if not 0 <= start < end <= len(ranges):
        raise InvalidError(f"layers [{start}, {end}) of a model of {len(ranges)}")
    constants = Constants(graph, ranges[start][0], ranges[end - 1][1], blobs)
    lowering = Lowering(graph, constants)
    steps = []
    for i in range(start, end):
        steps += lowering.layer(i, *ranges[i])
        constants.forget()
    before, after = cuts.segment_ports(graph, start, end)
    types = lowering.types
    plan = schedule(steps, types, [p.name for p in before], [p.name for p in after])
    if plan.arena_bytes > ARENA_BYTES_MAX:
        raise InvalidError(f"layers [{start}, {end}) need {plan.arena_bytes} bytes to run; at most {ARENA_BYTES_MAX}")
    return Segment(graph, start, end, plan, types)


__all__ = ["Segment", "compile_segment", "decode", "encode"]
