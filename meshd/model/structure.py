"""What there is in a weight that a device can make use of: signs, shared zeros, zeros. Found once, at import."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshd.model.graph import Operation

ZEROS_FROM = 0.5
"""A weight with fewer zeros is dense on every device."""

BLOCK_HOLDS_MAX = 1.05
"""Weights a block holds for each that is not zero, at most: more, and a narrower block is the faster one."""

KEEPS_SIGNS = frozenset({"Reshape", "Transpose", "MaxPool"})
"""Operators that make ±1 of ±1."""


def pads_with_one(operation: Operation) -> bool:
    """Whether a Pad surrounds with +1, so that signs stay signs."""
    a = operation.attributes
    return operation.op == "Pad" and a["mode"] == "constant" and a["value"] == 1.0


def sign_tensors(operations: Iterable[Operation]) -> set[str]:
    """Tensors that hold nothing but ±1."""
    found: set[str] = set()
    for o in operations:
        if (o.op == "Sign" and o.attributes["zero"] == 1) or (
            o.inputs and o.inputs[0] in found and (o.op in KEEPS_SIGNS or pads_with_one(o))
        ):
            found.add(o.outputs[0])
    return found


def is_sign(array: NDArray[Any]) -> bool:
    """Whether a weight holds only ±1, both of them or many."""
    return array.dtype == np.float32 and array.size > 1 and bool((np.abs(array) == 1.0).all())


def structure_of(operations: Iterable[Operation], arrays: Mapping[str, NDArray[Any]]) -> dict[str, tuple[str, float]]:
    """(structure, share of zeros) of each weight of a convolution or product."""
    operations = list(operations)
    signs = sign_tensors(operations)
    readers: dict[str, list[Operation]] = {}
    for o in operations:
        for n in o.inputs:
            if n in arrays:
                readers.setdefault(n, []).append(o)
    found = {}
    for name, users in readers.items():
        array = arrays[name]
        if array.dtype in (np.int8, np.uint8) and array.ndim > 1 and array.size:
            if all(o.op == "DequantizeLinear" and o.inputs[0] == name for o in users) and len(users[0].inputs) < 3:
                found[name] = _zeros(array)  # Bytes around 0 that a layer multiplies.
            continue
        if not all(o.op in {"Conv", "Gemm"} and o.inputs[1] == name for o in users) or array.dtype != np.float32:
            continue
        if is_sign(array) and all(o.inputs[0] in signs for o in users):
            found[name] = ("sign", 0.0)
        elif array.size:
            found[name] = _zeros(array)
    return found


def _zeros(array: NDArray[Any]) -> tuple[str, float]:
    kept = (array != 0).reshape(array.shape[0], -1)
    zeros = 1.0 - float(np.count_nonzero(kept)) / array.size
    if zeros < ZEROS_FROM:
        return "", zeros
    for block in (16, 8, 4):
        if array.shape[0] % block == 0:
            held = block * np.count_nonzero(kept.reshape(-1, block, kept.shape[1]).any(axis=1))
            # A kept weight may be zero by chance. NB what counts is how many more weights the block would hold: at 95 % zeros
            # a share of zeros hardly falls where the work doubles.
            if held <= BLOCK_HOLDS_MAX * np.count_nonzero(kept):
                return f"block{block}", zeros
    return "zeros", zeros
