"""How kernels are compiled: once for explicit types, serial, without the GIL, kept in the private cache folder.

Importing this imports Numba, with its cache folder set.
"""

import functools
import hashlib
import os
from collections.abc import Callable
from typing import Any

from meshd.kernels import cache
from meshd.kernels.machine import this_machine

FOLDER = cache.prepare(f"{this_machine().cpu}-{hashlib.sha256(repr(this_machine()).encode()).hexdigest()[:8]}")
if FOLDER is not None:
    os.environ["NUMBA_CACHE_DIR"] = str(FOLDER)

import numba  # noqa: E402 - it reads its settings when first imported, and a cache folder must be set by then

if FOLDER is not None:
    numba.config.CACHE_DIR = str(FOLDER)

from numba.np.unsafe.ndarray import to_fixed_tuple  # noqa: E402 - after its settings, as above

F4 = numba.types.float32[::1]
I4 = numba.types.int32[::1]
I8 = numba.types.int64[::1]
U8 = numba.types.uint64[::1]
U1 = numba.types.uint8[::1]
VALUES = {"float32": F4, "float16": numba.types.uint16[::1], "int8": numba.types.int8[::1]}
"""How the weights of a float kernel are stored. Numba has no arrays of halves: they come as their bits."""
INT = numba.types.int64
FLOAT = numba.types.float32


def jit(*arguments: Any, result: Any = numba.types.void, inner: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Compile now, for these argument types and no others: a read-only or strided array is refused, not recompiled for.

    `inner`: called by kernels only, never from Python. The wrappers that are not needed are not made, for neither kind:
    with a dozen numbers in an argument they took a third of the compiling.
    """

    def compile_now(function: Callable[..., Any]) -> Any:
        options = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True, "no_cpython_wrapper": inner}
        signature = result(*arguments)
        if FOLDER is None:
            return numba.njit(signature, **options)(function)
        with cache.turn(FOLDER, function.__code__.co_filename, function.__qualname__):
            compiled = numba.njit(signature, cache=True, **options)(function)
            if compiled.stats.cache_misses:
                cache.seal(FOLDER)
        return compiled

    return compile_now


def late(*arguments: Any) -> Callable[[Callable[..., Any]], Callable[[], Any]]:
    """As `jit`, but compiled when first asked for: the name becomes a function without arguments that gives the kernel.

    For kernels beside each other in a file of which most models need one. A segment asks when it is warmed, before it serves.
    """
    return lambda function: functools.cache(lambda: jit(*arguments)(function))


def record(kind: type) -> Any:
    """The Numba type of a NamedTuple whose fields are all ints."""
    return numba.types.NamedUniTuple(INT, len(kind._fields), kind)  # type: ignore[attr-defined]


__all__ = [
    "F4",
    "FLOAT",
    "FOLDER",
    "I4",
    "I8",
    "INT",
    "U1",
    "U8",
    "VALUES",
    "jit",
    "late",
    "numba",
    "record",
    "to_fixed_tuple",
]
