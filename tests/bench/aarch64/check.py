"""Every family of kernels against the fallback on this machine, bit for bit where integers, and the code looked at for NEON.

usage: python -m tests.bench.aarch64.check [KERNELS]   (see run.sh, which starts it under qemu-user)
"""

import os
import platform
import sys
import time
from typing import Any

import numpy as np

from meshd.kernels.kernel import Kernel
from meshd.kernels.layout import Bits
from meshd.kernels.machine import this_machine
from tests.kernels.driving import run
from tests.kernels.shapes import random_kernel, random_move


def by_fallback(make: Any, seed: int) -> Kernel:
    """The same layer in NumPy."""
    os.environ["MESHD_NUMBA"] = "0"
    try:
        kernel: Kernel = make(seed)[0]
        return kernel
    finally:
        del os.environ["MESHD_NUMBA"]


def main(count: int) -> None:
    """Random layers, then the instructions in what was compiled for them."""
    print(platform.machine(), this_machine(), flush=True)
    begun, families = time.monotonic(), set()
    for seed in range(count):
        make: Any = random_move if seed % 3 == 0 else random_kernel
        made = make(seed)
        kernel, images, residual = (*made, None)[:3]
        other = by_fallback(make, seed)
        got, expected = run(kernel, images, residual, pieces=2, junk=-7.0), run(other, images, residual)
        families.add(kernel.family)
        if kernel.numeric == "exact":
            np.testing.assert_array_equal(got, expected, kernel.name)
        elif isinstance(kernel.output_layout, Bits):
            assert (got != expected).mean() < 0.01, kernel.name
        else:
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-4, err_msg=kernel.name)
        print(f"{time.monotonic() - begun:6.1f} s  {seed:3} {kernel.name}", flush=True)
    assert families >= {"binary", "sparse", "dense", "int8", "other"}, families
    look()
    stored_forms(begun)
    print("equal, all of them")


def stored_forms(begun: float) -> None:
    """Weights of every storage, and N:M patterns, bit for bit as the same numbers in a dense float32 matrix or in planes."""
    from meshd.kernels import convolution, packing, tiles
    from meshd.kernels.forms import Form
    from meshd.kernels.kernel import Tail

    rng = np.random.default_rng(0)
    matrix = rng.integers(-100, 100, (77, 66)) * (np.arange(66) % 2)
    rows = rng.standard_normal((5, 66, 1, 1)).astype(np.float32)
    expected = run(packing.pack(matrix.astype(np.float32), Tail(), Form(0)), rows)
    filters = rng.integers(-100, 100, (19, 5, 3, 3))
    images = rng.standard_normal((2, 5, 9, 11)).astype(np.float32)
    window, tile = convolution.Window(9, 11, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1), tiles.plane_tiles()[1]
    planes = run(convolution.pack(filters.astype(np.float32), window, Tail(), 0, None, tile, "float32"), images)
    for storage in ("float16", "int8"):
        made = [packing.pack(matrix.astype(storage), Tail(), f) for f in (Form(16, storage), Form(0, storage, 4))]
        for kernel in made:
            np.testing.assert_array_equal(run(kernel, rows), expected, kernel.name)
        kernel = convolution.pack(filters.astype(storage), window, Tail(), 0, None, tile)
        np.testing.assert_array_equal(run(kernel, images), planes, kernel.name)
        print(f"{time.monotonic() - begun:6.1f} s  {storage}", flush=True)


def look() -> None:
    """The inner loops must use the vector unit: counts of bits and fused multiply-adds."""
    from meshd.kernels import binary, planes, tiles

    code = "\n".join(binary.binary_layer(tiles.binary_rows(), False).inspect_asm().values())
    tile = tiles.plane_tiles()[1]
    more = "\n".join(planes.block_convolution(tile.rows, tile.lanes, tile.narrow, "float32").inspect_asm().values())
    if platform.machine() == "aarch64":
        assert "\tcnt\t" in code, "no cnt in the binary kernel"
        assert "\tfmla\t" in more, "no fmla in the convolution"
        print(f"cnt: {code.count(chr(9) + 'cnt' + chr(9))}, fmla: {more.count(chr(9) + 'fmla' + chr(9))}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
