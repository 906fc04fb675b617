"""The user's own data: arrays of an `.npz` file, held against the model's inputs before anything is computed with them.

A file holds an array for each input, by its name (where there is one input, any name), and `labels` where there are some.

Rule: nothing is guessed. What does not fit is an error naming the array, what it is and what it must be.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshd.errors import InvalidError, NotFoundError
from meshd.model.graph import Port

LABELS = "labels"
HOLD_EVERY = 5


@dataclass(frozen=True, slots=True)
class Data:
    """Items to run a model on.

    Attributes
    ----------
    inputs : by position of the model's inputs; the first axis is the item
    labels : int64, shape (count,); None where the file has none
    """

    inputs: tuple[NDArray[Any], ...]
    labels: NDArray[np.int64] | None = None

    @property
    def count(self) -> int:
        """Items."""
        return len(self.inputs[0])

    def some(self, first: int, last: int) -> Data:
        """Items `[first, last)`."""
        labels = None if self.labels is None else self.labels[first:last]
        return Data(tuple(x[first:last] for x in self.inputs), labels)

    def halves(self) -> tuple[Data, Data]:
        """Four fifths to learn from, and every fifth item held out; of fewer than five items all twice."""
        if self.count < HOLD_EVERY:
            return self, self
        out = np.arange(self.count) % HOLD_EVERY == HOLD_EVERY - 1
        return Data(tuple(x[~out] for x in self.inputs)), Data(tuple(x[out] for x in self.inputs))

    def batches(self, size: int) -> Iterator[Data]:
        """All items, `size` at a time."""
        for first in range(0, self.count, size):
            yield self.some(first, first + size)


def read(path: Path, ports: Sequence[Port], *, labelled: bool = False) -> Data:
    """Read and check a file.

    Parameters
    ----------
    ports : the model's inputs
    labelled : whether labels must be there

    Raises
    ------
    NotFoundError, InvalidError
        Naming the array, what it is and what it must be.
    """
    if not path.is_file():
        raise NotFoundError(f"there is no data file {path}")
    try:
        # NB opened here: NumPy leaves a file open that is no zip.
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError, AttributeError, TypeError) as error:
        raise InvalidError(f"{path} is no .npz file of numbers (numpy.savez writes them): {error}") from None
    labels = arrays.pop(LABELS, None)
    if len(ports) == 1 and len(arrays) == 1:
        arrays = {ports[0].name: next(iter(arrays.values()))}
    missing = [p.name for p in ports if p.name not in arrays]
    if missing:
        raise InvalidError(
            f"{path} has no array {missing[0]!r} for the model's input; it has {sorted(arrays) or 'none but labels'}"
        )
    inputs = tuple(_input(path, p, arrays[p.name]) for p in ports)
    counts = {p.name: len(x) for p, x in zip(ports, inputs, strict=True)}
    if len(set(counts.values())) > 1:
        raise InvalidError(f"{path}: the inputs differ in their count of items: {counts}")
    return Data(inputs, _labels(path, labels, len(inputs[0]), labelled))


def _input(path: Path, port: Port, array: NDArray[Any]) -> NDArray[Any]:
    item = port.type.item[1:] if port.type.shape[:1] == (None,) else port.type.item
    wanted = f"{port.type.dtype} (count, {', '.join(map(str, item))})"
    if array.ndim != len(item) + 1 or array.shape[1:] != item:
        raise InvalidError(f"{path}: {port.name} has shape {list(array.shape)}; the model takes {wanted}")
    if not len(array):
        raise InvalidError(f"{path}: {port.name} is empty: give some hundred items like those the model will see")
    floats = port.type.dtype.startswith("float")
    if (array.dtype.kind != "f") if floats else (array.dtype != port.type.dtype):
        raise InvalidError(
            f"{path}: {port.name} is {array.dtype}; the model takes {wanted}: prepare it as the model expects"
        )
    if floats:
        bad = len(array) - int(np.isfinite(array).reshape(len(array), -1).all(axis=1).sum())
        if bad:
            raise InvalidError(
                f"{path}: {bad} of {len(array)} items of {port.name} hold NaN or infinity: leave them out"
            )
    return np.ascontiguousarray(array, port.type.dtype)


def _labels(path: Path, labels: NDArray[Any] | None, count: int, needed: bool) -> NDArray[np.int64] | None:
    if labels is None:
        if needed:
            raise InvalidError(f"{path} has no array 'labels', without which nothing tells right from wrong")
        return None
    if labels.dtype.kind not in "iu" or labels.shape != (count,):
        raise InvalidError(
            f"{path}: labels are {labels.dtype} {list(labels.shape)}; they must be {count} whole numbers, one an item"
        )
    return labels.astype(np.int64)
