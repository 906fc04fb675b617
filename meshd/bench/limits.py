"""What one core of this machine can do at most, measured by loops that do nothing else.

Peak rates of the three inner instructions (fma, byte dot product, xor-popcount-add) and read bandwidth of each cache: what
every kernel is compared with, in the same run.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from meshd.kernels.jit import F4, I4, I8, INT, U1, U8, jit
from meshd.kernels.machine import this_machine
from meshd.kernels.simd import (
    REGISTER_BYTES,
    add,
    bit_xor,
    column,
    count_differing,
    dot_octets,
    fma,
    load,
    load_rows,
    splat,
    store,
    store_rows,
)  # fmt: skip

ROUNDS = 9
KIB = 1024
FLOATS, WORDS = REGISTER_BYTES // 4, REGISTER_BYTES // 8
CHAINS = 12
"""Independent additions in flight: more than any latency times throughput."""
COUNTS = 6 if this_machine().registers == 32 else 2
"""As the binary kernels have it: what fits the registers."""
PAIR, WIDE = 2 * WORDS, 2 * FLOATS
READ = 8 * WORDS


@jit(F4, INT)
def fma_loop(x, count):
    """`count` steps of 12 chains of fma."""
    # Every chain begins with a number of its own, or the compiler would compute one for all.
    acc, a, b = column(CHAINS, FLOATS, x, 0, 1), load(FLOATS, x, 0), load(FLOATS, x, 1)
    for _ in range(count):
        acc = fma(b, a, acc)
    store_rows(x, 64, FLOATS, CHAINS, acc)


@jit(U1, I4, I8, INT)
def dot_loop(x, w, places, count):
    """`count` steps of a tile like that of the int8 kernels, of byte dot products."""
    acc, b = splat(COUNTS, WIDE, np.int32(0)), load(WIDE, w, 0)
    # Every row has bytes of its own, as in `count_loop`.
    starts = load_rows(COUNTS, 1, places, 0, 1)
    for k in range(count):
        acc = dot_octets(acc, x, starts, 4 * (k & 15), b)
    store_rows(w, 64, WIDE, COUNTS, acc)


@jit(U8, I8, INT)
def count_loop(x, places, count):
    """`count` steps of 6 x 2 chains of xor, popcount, add: the tile of the binary kernels."""
    acc, b = splat(COUNTS, PAIR, np.uint64(0)), load(PAIR, x, 0)
    # Every row has words of its own, or the compiler would count once for all.
    starts = load_rows(COUNTS, 1, places, 0, 1)
    for k in range(count):
        acc = count_differing(acc, x, starts, k & 15, b)
    store_rows(x, 64, PAIR, COUNTS, acc)


@jit(U8, INT, INT)
def read_loop(x, count, times):
    """Read `count` words `times` times."""
    acc = splat(1, READ, np.uint64(0))
    for t in range(times):
        # Not the same as the last time, or the compiler would read once for all.
        acc = add(acc, splat(1, READ, np.uint64(t)))
        for i in range(0, count, READ):
            acc = bit_xor(acc, load(READ, x, i))
    store(x, 0, acc)


@dataclass(frozen=True, slots=True)
class Limits:
    """One core: multiply-accumulates a nanosecond, bits of them for binary, gigabytes a second."""

    fma: float
    dot: float
    popcount: float
    l1: float
    l2: float
    l3: float
    dram: float

    def document(self) -> dict[str, float]:
        """For JSON; units in the names."""
        names = {
            "fma": "fma_gmac_s", "dot": "dot_gmac_s", "popcount": "popcount_gbitmac_s",
            "l1": "l1_gb_s", "l2": "l2_gb_s", "l3": "l3_gb_s", "dram": "dram_gb_s",
        }  # fmt: skip
        return {name: round(getattr(self, field), 1) for field, name in names.items()}


def median_s(work: Callable[[], None], least_s: float = 0.002) -> float:
    """The median over rounds of the time of one call, in seconds; a round lasts at least `least_s`."""
    work()
    begun = time.perf_counter()
    work()
    calls = max(1, round(least_s / max(time.perf_counter() - begun, 1e-7)))
    found = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        for _ in range(calls):
            work()
        found.append((time.perf_counter() - begun) / calls)
    return statistics.median(found)


def measure() -> Limits:
    """All of them; about a second."""
    steps = 100_000
    floats, octets = np.zeros(64 + CHAINS * FLOATS, np.float32), np.ones(64 * (COUNTS + 1), np.uint8)
    numbers, words = np.ones(64 + CHAINS * FLOATS, np.int32), np.ones(64 + 2 * COUNTS * WORDS, np.uint64)
    places = np.arange(COUNTS, dtype=np.int64)
    fmas = CHAINS * FLOATS * steps / median_s(lambda: fma_loop(floats, steps))
    dots = COUNTS * 4 * WIDE * steps / median_s(lambda: dot_loop(octets, numbers, 64 * places, steps))
    counts = COUNTS * 2 * WORDS * 64 * steps / median_s(lambda: count_loop(words, places, steps))
    return Limits(fmas / 1e9, dots / 1e9, counts / 1e9, *(_bandwidth(size) for size in SIZES))


SIZES = (16 * KIB, 320 * KIB, 6 * KIB * KIB, 160 * KIB * KIB)
"""Well within each cache, and past the last."""


def _bandwidth(size: int) -> float:
    words = np.ones(size // 8, np.uint64)
    times = max(1, 10**6 // size)
    return size * times / median_s(lambda: read_loop(words, len(words) // READ * READ, times)) / 1e9


EXPECTED = {
    # Measured quiet, with the loops of another program.
    "znver4": {"fma": 58.5, "dot": 234.0, "popcount": 1235.0},
}
KNOWN_BYTES = 64
"""Registers of the machines in `EXPECTED`: one that pretends to be smaller is another."""
TOLERANCE = 0.05


def doubts(limits: Limits) -> list[str]:
    """Why these limits are not to be trusted: this CPU is known, and something else took its time."""
    found = []
    for name, expected in EXPECTED.get(this_machine().cpu, {}).items():
        measured = getattr(limits, name)
        if this_machine().register_bytes == KNOWN_BYTES and abs(measured / expected - 1) > TOLERANCE:
            found.append(
                f"{name} measured {measured:.1f}, known {expected:.1f} on {this_machine().cpu}: other work or another clock"
            )
    return found


__all__ = ["Limits", "doubts", "measure", "median_s"]
