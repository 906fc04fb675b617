"""What lowering knows of a graph: who writes and reads each tensor, which hold signs, which weights are at hand."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from meshd.model.graph import Graph, Operation, TensorType
from meshd.model.quantised import QuantisedLayers, quantised_layers
from meshd.model.structure import pads_with_one, sign_tensors

Array = NDArray[Any]


@dataclass(slots=True)
class Context:
    """One graph; `constants` are the weights of the layers to be lowered."""

    graph: Graph
    constants: Mapping[str, Array]
    readers: dict[str, list[int]] = field(init=False)
    """Operations that read a tensor; one past the last for an output of the graph."""
    writer: dict[str, int] = field(init=False)
    signs: set[str] = field(init=False)
    pitches: dict[tuple[int, int], int] = field(init=False)
    quantised: QuantisedLayers = field(init=False)

    def __post_init__(self) -> None:
        graph = self.graph
        self.readers, self.writer = {}, {}
        for i, o in enumerate(graph.operations):
            for n in o.inputs:
                self.readers.setdefault(n, []).append(i)
            self.writer.update((n, i) for n in o.outputs if n)
        for p in graph.outputs:
            self.readers.setdefault(p.name, []).append(len(graph.operations))
        self.signs = sign_tensors(graph.operations)
        self.pitches = self._pitches()
        self.quantised = quantised_layers(graph)

    def _pitches(self) -> dict[tuple[int, int], int]:
        """Elements from row to row of planes of each size: one number for all convolutions there, so that they pass planes on."""
        found: dict[tuple[int, int], int] = {}
        for o in self.graph.operations:
            shape = self.type_of(o.inputs[0]).item if o.op == "Conv" else ()
            if len(shape) == 4 and o.attributes["strides"] == (1, 1):
                pads: Any = o.attributes["pads"]
                size = (shape[2], shape[3])
                found[size] = max(found.get(size, 0), shape[3] + max(pads[1], pads[3]))
        return found

    def type_of(self, name: str) -> TensorType:
        """Type of a tensor or weight that is there."""
        t = self.graph.type_of(name)
        assert t is not None
        return t

    def _structure(self, name: str) -> str:
        return self.graph.weights[name].structure if name in self.graph.weights else ""

    def absorbed(self, i: int, last: int) -> bool:
        """A Pad with +1 that the binary convolution behind it, in the same layer, does itself."""
        o = self.graph.operations[i]
        if not pads_with_one(o) or o.inputs[0] not in self.signs:
            return False
        readers = self.readers[o.outputs[0]]
        return len(readers) == 1 and readers[0] < last and self.binary(self.graph.operations[readers[0]]) is not None

    def binary(self, o: Operation) -> tuple[str, tuple[int, ...]] | None:
        """(tensor of signs, pads of +1) that a binary convolution reads, a Pad before it included; None if it is none."""
        if o.op != "Conv" or o.inputs[0] not in self.signs or self._structure(o.inputs[1]) != "sign":
            return None
        pad = self.graph.operations[self.writer[o.inputs[0]]] if o.inputs[0] in self.writer else None
        if pad is None or not pads_with_one(pad) or len(self.readers[o.inputs[0]]) != 1:
            return o.inputs[0], ()
        pads: Any = pad.attributes["pads"]
        rank, own = len(pads) // 2, o.attributes["pads"]
        plain = all(p >= 0 for p in pads) and not any(pads[k] or pads[rank + k] for k in (0, 1)) and not any(own)  # type: ignore[arg-type]
        return (pad.inputs[0], (*pads[2:rank], *pads[rank + 2 :])) if plain else (o.inputs[0], ())
