"""A table that many nodes of one process share, and each node's differences from it.

In a daemon every table is a `dict`. A simulation of 10,000 nodes that all know all others cannot hold 10**8 entries; it
holds one table, and for each node what is different there.

Rule 1: the base is never written. Values that their holder changes in place are copied (`thaw`) when they are first read.
Rule 2: it behaves as a `dict` does; only the order of iteration may differ where an entry was deleted and came back.
"""

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Layered(MutableMapping[Key, Value], Generic[Key, Value]):
    """`base` with changes on top.

    Parameters
    ----------
    base
        Shared; not to be written by anyone from now on.
    thaw
        Makes a copy of a value that its holder may change; None where values are immutable.
    """

    __slots__ = ("_base", "_changed", "_count", "_gone", "_thaw")

    def __init__(self, base: Mapping[Key, Value], thaw: Callable[[Value], Value] | None = None) -> None:
        self._base, self._thaw = base, thaw
        self._changed: dict[Key, Value] = {}
        self._gone: dict[Key, None] = {}
        """Keys of the base that are not here."""
        self._count = len(base)

    def __getitem__(self, key: Key) -> Value:
        if key in self._changed:
            return self._changed[key]
        if key in self._gone:
            raise KeyError(key)
        value = self._base[key]
        if self._thaw is not None:
            value = self._changed[key] = self._thaw(value)
        return value

    def peek(self, key: Key) -> Value:
        """The value, not to be changed: nothing is copied."""
        if key in self._changed:
            return self._changed[key]
        if key in self._gone:
            raise KeyError(key)
        return self._base[key]

    def __setitem__(self, key: Key, value: Value) -> None:
        self._count += key not in self
        self._gone.pop(key, None)
        self._changed[key] = value

    def __delitem__(self, key: Key) -> None:
        if key not in self:
            raise KeyError(key)
        self._count -= 1
        self._changed.pop(key, None)
        if key in self._base:
            self._gone[key] = None

    def __contains__(self, key: object) -> bool:
        return key in self._changed or (key in self._base and key not in self._gone)

    def __iter__(self) -> Iterator[Key]:
        yield from (key for key in self._base if key not in self._gone)
        yield from (key for key in self._changed if key not in self._base)

    def __len__(self) -> int:
        return self._count

    def copy(self) -> "Layered[Key, Value]":
        """Another with the same base and the same changes, which go their own way from here."""
        twin = Layered(self._base, self._thaw)
        twin._changed, twin._gone, twin._count = dict(self._changed), dict(self._gone), self._count
        return twin
