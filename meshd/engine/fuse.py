"""What follows a kernel and goes into its store, so that no activation is written twice.

Rule: an operation joins only where nobody else reads what lies between, inside one layer.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from meshd.engine.context import Array, Context
from meshd.errors import MisuseError
from meshd.kernels.kernel import Bend, Tail
from meshd.model.graph import Operation

_PLAIN = Tail()


def _leaky(o: Operation) -> Bend | None:
    slope = float(o.attributes["alpha"])  # type: ignore[arg-type]
    return Bend("leaky", slope) if 0 <= slope <= 1 else None


BENDS: Mapping[str, Callable[[Operation], Bend | None]] = {
    "HardSwish": lambda _: Bend("hard_swish", 1 / 6, 0.5),
    "HardSigmoid": lambda o: Bend("hard_sigmoid", float(o.attributes["alpha"]), float(o.attributes["beta"])),  # type: ignore[arg-type]
    "LeakyRelu": _leaky,
}
"""The same steps as the rows of `operators.pointwise`, and so the same bits."""


@dataclass(slots=True)
class Fusion:
    """A tail as it grows: scale and bias, residual, bend, clip, sign; in this order and no other."""

    context: Context
    index: int
    last: int
    bends: bool = False
    """Whether the kernel takes a bend in its tail."""
    value: Tail = _PLAIN
    out: str = ""
    residual: str = ""
    fused: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        o = self.context.graph.operations[self.index]
        self.out = o.outputs[0]
        if o.op in {"Conv", "Gemm"} and len(o.inputs) > 2:
            bias = self.context.constants.get(o.inputs[2])
            if bias is None:
                raise MisuseError(f"the bias of {o.name} is computed")
            self.value = Tail(bias=bias)

    def grow(self) -> None:
        """Take in followers as long as they fit."""
        low = self.context
        while not self.value.bits:
            readers = low.readers.get(self.out, [])
            if len(readers) != 1 or readers[0] >= self.last:
                return
            o = low.graph.operations[readers[0]]
            grown = self._with(o)
            if grown is None:
                return
            self.value = grown
            self.fused.append(readers[0])
            self.out = o.outputs[0]

    def _with(self, o: Operation) -> Tail | None:
        low, tail = self.context, self.value
        open_ended = tail.low == -np.inf and tail.high == np.inf
        if o.op == "Affine":
            pair = [self._each(n) for n in o.inputs[1:]]
            if o.inputs[0] != self.out or tail is not _PLAIN or pair[0] is None or pair[1] is None:
                return None
            return replace(tail, scale=pair[0], bias=pair[1])
        if o.op in BENDS:
            if not self.bends or not open_ended or tail.bend is not None:
                return None
            bend = BENDS[o.op](o)
            return None if bend is None else replace(tail, bend=bend)
        if o.op == "Add" and open_ended and not tail.residual and tail.bend is None:
            other = o.inputs[1] if o.inputs[0] == self.out else o.inputs[0]
            if (
                other == self.out
                or other not in low.graph.tensors
                or low.type_of(other).item != low.type_of(self.out).item
            ):
                return None
            self.residual = other
            return replace(tail, residual=True)
        if o.op == "Relu" and open_ended:
            return replace(tail, low=0.0)
        if o.op == "Clip" and open_ended and o.attributes["low"] <= o.attributes["high"]:  # type: ignore[operator]
            return replace(tail, low=float(o.attributes["low"]), high=float(o.attributes["high"]))  # type: ignore[arg-type]
        if o.op == "Sign" and o.attributes["zero"] == 1:
            return replace(tail, bits=True)
        return None

    def _each(self, name: str) -> Array | None:
        """A constant with one value an output."""
        low = self.context
        value, out = low.constants.get(name), low.type_of(self.out).item
        gemm = low.graph.operations[self.index].op == "Gemm"
        axis = len(out) - 1 if gemm else 1
        if value is None or value.dtype != np.float32:
            return None
        wide: Sequence[int] = (1,) * (len(out) - value.ndim) + value.shape
        if any(d != 1 for k, d in enumerate(wide) if k != axis):
            return None
        return np.ascontiguousarray(np.broadcast_to(value.reshape(-1), (out[axis],)))
