"""What a row of the engine's table gets, and what it gives back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshd.model.graph import TensorType

Array = NDArray[Any]
Thunk = Callable[[], Any]
Bind = Callable[[Sequence[Any], Sequence[Array]], Thunk]
"""(inputs, outputs) → what computes. Arrays are plain, C order, of one item; absent inputs are None; constants are bound too."""


@dataclass(frozen=True, slots=True)
class Call:
    """One operation of the graph, about to be compiled.

    Attributes
    ----------
    inputs, outputs : types of one item; None for an absent input
    constants : elements of those inputs that are weights, None for the others
    attributes : checked against the operator table
    """

    op: str
    inputs: Sequence[TensorType | None]
    outputs: Sequence[TensorType]
    constants: Sequence[Array | None]
    attributes: Mapping[str, Any]

    def shape(self, index: int) -> tuple[int, ...]:
        t = self.inputs[index]
        assert t is not None, f"{self.op} has no input {index}"
        return t.item

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type of the first output."""
        return np.dtype(self.outputs[0].dtype)

    def scalar(self, value: float) -> Any:
        """A number of the first output's type, so that NumPy widens nothing."""
        return self.dtype.type(value)


Row = Callable[[Call], Bind]


def elementwise(function: Callable[..., Any]) -> Row:
    """A NumPy ufunc that writes in place: no allocation while running."""

    def row(_: Call) -> Bind:
        return lambda ins, outs: lambda: function(*ins, out=outs[0])

    return row


def computed(function: Callable[..., Any]) -> Row:
    """A function of arrays that returns one array; what it allocates is NumPy's affair."""

    def row(_: Call) -> Bind:
        return lambda ins, outs: lambda: np.copyto(outs[0], function(*ins), casting="unsafe")

    return row
