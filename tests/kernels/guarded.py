"""Runs random kernels on arrays that end where unreadable memory begins; a program, because a fault ends the process.

usage: python -m tests.kernels.guarded FIRST COUNT
"""

import ctypes
import mmap
import sys
from typing import Any

import numpy as np

from tests.kernels.shapes import random_kernel, random_move

PAGE = mmap.PAGESIZE
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def guarded(like: Any, at_end: bool) -> Any:
    """A copy of a flat array right before (or right after) a page that faults when touched."""
    pages = -(-like.nbytes // PAGE)
    room = mmap.mmap(-1, (pages + 2) * PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(room))
    for page in (0, pages + 1):
        assert _libc.mprotect(address + page * PAGE, PAGE, 0) == 0
    offset = (pages + 1) * PAGE - like.nbytes if at_end else PAGE
    array = np.frombuffer(room, like.dtype, like.size, offset)
    array[:] = like
    return array


def main(first: int, count: int) -> None:
    """Both ends of every array, each kernel."""
    for seed in range(first, first + count):
        kernel, images = random_move(seed) if seed % 3 == 0 else random_kernel(seed)[:2]
        rows = len(images)
        print(seed, kernel.name, kernel.input_layout, kernel.output_layout, flush=True)
        x, out = kernel.input_layout.empty(rows), kernel.output_layout.empty(rows)
        kernel.input_layout.store(x, images)
        added = kernel.residual_layout.empty(rows) if kernel.residual_layout else None
        scratch = np.zeros(kernel.scratch_size, np.float32)
        answers = []
        for at_end in (True, False):
            arrays = [None if a is None else guarded(a, at_end) for a in (x, out, added, scratch)]
            kernel.run(*arrays, rows, 0, kernel.tiles(rows))  # type: ignore[arg-type]
            answers.append(kernel.output_layout.load(arrays[1], rows))
        np.testing.assert_array_equal(*answers)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
