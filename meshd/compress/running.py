"""Running an ONNX model over data through meshd's own engine, and reading any tensor on the way.

What is computed is what a mesh would compute; only what the wanted tensors depend on is run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from meshd.compress.calibration import Data
from meshd.engine.segment import Segment, compile_segment
from meshd.model import bundle, cuts
from meshd.model.graph import Graph
from meshd.model.onnx_import import import_bytes

BATCH = 50
"""Items at a time: enough to amortise a call, few enough that patches of a convolution fit in memory."""

Array = NDArray[Any]


def compiled(model: onnx.ModelProto, dims: Mapping[str, int] | None = None) -> tuple[Graph, Segment]:
    """Import a model and compile the whole of it; raises as `import_model`."""
    packed = bundle.pack(*import_bytes(model.SerializeToString(), "model", dims))
    graph = packed.graph
    return graph, compile_segment(graph, 0, len(cuts.layers(graph)), packed.blobs.__getitem__)


class Runner:
    """A model, compiled to give some of its tensors.

    Parameters
    ----------
    model : not changed
    wanted : names of tensors (inputs too); None for the model's outputs
    dims : sizes of free dimensions, as for `import_model`
    """

    def __init__(
        self, model: onnx.ModelProto, wanted: Sequence[str] | None = None, dims: Mapping[str, int] | None = None
    ) -> None:
        constants = {t.name for t in model.graph.initializer}
        fixed = dims or {}
        inputs = [i.name for i in model.graph.input if i.name not in constants and i.name not in fixed]
        names = [o.name for o in model.graph.output] if wanted is None else list(dict.fromkeys(wanted))
        self.names = names
        self._given = {n: inputs.index(n) for n in names if n in inputs}
        self._computed = [n for n in names if n not in self._given]
        self._segment: Segment | None = None
        self._batched = True
        if self._computed:
            graph, self._segment = compiled(upto(model, self._computed), dims)
            self._batched = graph.batched

    def run(self, data: Data) -> list[Array]:
        """The wanted tensors for all items of `data`, by position; the first axis is the item."""
        made: dict[str, Array] = {n: data.inputs[i] for n, i in self._given.items()}
        if self._segment is not None:
            if self._batched:
                found = self._segment.run([np.ascontiguousarray(x) for x in data.inputs])
            else:
                each = [self._segment.run([np.ascontiguousarray(x[i]) for x in data.inputs]) for i in range(data.count)]
                found = [np.stack(one) for one in zip(*each, strict=True)]
            made.update(zip(self._computed, found, strict=True))
        return [made[n] for n in self.names]

    def over(self, data: Data, size: int = BATCH) -> Iterator[list[Array]]:
        """`run` for `size` items at a time."""
        for batch in data.batches(size):
            yield self.run(batch)

    def all(self, data: Data) -> list[Array]:
        """`run`, in batches, put together."""
        return [np.concatenate(parts) for parts in zip(*self.over(data), strict=True)]


def upto(model: onnx.ModelProto, wanted: Sequence[str]) -> onnx.ModelProto:
    """A copy that computes only the tensors `wanted`, as its outputs."""
    needed, nodes = set(wanted), []
    for node in reversed(model.graph.node):
        if needed & set(node.output):
            needed.update(node.input)
            # A branch of an If reads names of the outer graph.
            needed.update(n for a in node.attribute if a.HasField("g") for inner in a.g.node for n in inner.input)
            nodes.append(node)
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    del cut.graph.node[:], cut.graph.output[:], cut.graph.initializer[:], cut.graph.value_info[:]
    cut.graph.node.extend(reversed(nodes))
    cut.graph.initializer.extend(t for t in model.graph.initializer if t.name in needed)
    cut.graph.output.extend(onnx.ValueInfoProto(name=n) for n in wanted)
    return cut
