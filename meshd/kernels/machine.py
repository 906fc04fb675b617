"""What this CPU can do, as far as kernels care: width and number of vector registers, and a name for caches.

Follows NUMBA_CPU_FEATURES, so that a test can pretend to be a smaller machine.
"""

import os
import platform
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True, slots=True)
class Machine:
    """A vector unit. `vnni`: has the int8 dot product; `popcount`: counts bits of whole vectors in one instruction; `halves`:
    converts float16 in one instruction; `avx`: moves lanes about by indices."""

    cpu: str
    register_bytes: int
    registers: int
    popcount: bool = False
    vnni: bool = False
    x86: bool = True
    halves: bool = False
    avx: bool = False


@cache
def this_machine() -> Machine:
    """The machine that Numba will compile for. Imports llvmlite."""
    from llvmlite import binding

    forced = os.environ.get("NUMBA_CPU_FEATURES")
    if forced is None:
        features = {name for name, has in binding.get_host_cpu_features().items() if has}
    else:
        features = {word[1:] for word in forced.split(",") if word.startswith("+")}
    cpu = os.environ.get("NUMBA_CPU_NAME") or binding.get_host_cpu_name()
    if platform.machine() in {"aarch64", "arm64"}:
        return Machine(cpu, 16, 32, popcount=True, x86=False, halves=True)
    if "avx512f" in features and "avx512bw" in features:
        return Machine(cpu, 64, 32, "avx512vpopcntdq" in features, "avx512vnni" in features, halves=True, avx=True)
    if "avx2" in features and "fma" in features:
        return Machine(cpu, 32, 16, vnni="avxvnni" in features, halves="f16c" in features, avx=True)
    return Machine(cpu, 16, 16)
