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
    print("equal, all of them")


def look() -> None:
    """The inner loops must use the vector unit: counts of bits and fused multiply-adds."""
    from meshd.kernels import binary, planes, tiles

    code = "\n".join(binary.binary_layer(6).inspect_asm().values())
    tile = tiles.plane_tiles()[1]
    more = "\n".join(planes.block_convolution(tile.rows, tile.lanes, tile.narrow).inspect_asm().values())
    if platform.machine() == "aarch64":
        assert "\tcnt\t" in code, "no cnt in the binary kernel"
        assert "\tfmla\t" in more, "no fmla in the convolution"
        print(f"cnt: {code.count(chr(9) + 'cnt' + chr(9))}, fmla: {more.count(chr(9) + 'fmla' + chr(9))}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
