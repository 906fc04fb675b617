"""Every kernel against the limit of this machine, measured in the same run; and where skipping zeros begins to pay.

A row is one operation of one family: its time (median), its rate, the limit that binds it (an instruction's peak, or the
bandwidth at which its weights can be read), and their ratio. Times are of one thread and one item.
"""

import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from meshd.bench.limits import Limits, doubts, measure, median_s
from meshd.bench.peers import compare
from meshd.kernels import forms, registry
from meshd.kernels.kernel import Kernel, Tail
from meshd.kernels.layout import Bits, Octets, Planes
from meshd.kernels.machine import this_machine

L2_BYTES = 1024 * 1024
"""Weights past this are also timed cold; of the CPUs measured so far."""
COLD_BYTES = 64 * 1024 * 1024
RATIO_LOW = 0.6


@dataclass(frozen=True, slots=True)
class Case:
    """One row to measure.

    limit : maps the machine's limits to that of this row, in its unit
    why : why the ratio is low, where it is
    """

    name: str
    shape: str
    make: Callable[[Any], Kernel]
    limit: Callable[[Limits], float]
    rows: int = 1
    sparsity: float = 0.0
    unit: str = "GMAC/s"
    work: float = 0.0
    """Units done, where it is not the kernel's multiply-accumulates."""
    why: str = ""


def document(cases: list[Case] | None = None, peers: list[str] | None = None) -> dict[str, Any]:
    """Measure, and describe the run: kind `KernelBench` of `meshd/v1`. `peers`: interpreters in which to look for them."""
    limits = measure()
    rows = [_row(case, limits) for case in cases or list(CASES)]
    return {
        "apiVersion": "meshd/v1",
        "kind": "KernelBench",
        "cpu": f"{this_machine().cpu} ({platform.machine()}, {8 * this_machine().register_bytes}-bit)",
        "limits": limits.document(),
        "doubts": doubts(limits),
        "kernels": rows,
        "peers": compare(peers) if peers else [],
    }


def break_even() -> dict[str, Any]:
    """Measure every form of skipping zeros, keep the rates for loading models, and say where each begins to pay."""
    rates = forms.measure(every=True)
    return {
        "apiVersion": "meshd/v1",
        "kind": "BreakEven",
        "cpu": this_machine().cpu,
        "forms": [
            {
                "form": name,
                "rate": round(rate, 2),
                "zeros": round(forms.break_even(rates[forms.dense_of(name)], rate), 3),
            }
            for name, rate in rates.items()
            if name != forms.dense_of(name)
        ],
    }


def _row(case: Case, limits: Limits) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    kernel = case.make(rng)
    source: Any = kernel.input_layout
    x, out = source.empty(case.rows), kernel.output_layout.empty(case.rows)
    source.store(x, _images(rng, kernel, case.rows))
    scratch, tiles = np.zeros(kernel.scratch_size, np.float32), kernel.tiles(case.rows)

    def work() -> None:
        kernel.run(x, out, None, scratch, case.rows, 0, tiles)

    seconds = median_s(work)
    done = case.work or kernel.macs * case.rows
    limit = case.limit(limits)
    row = {
        "name": case.name,
        "shape": case.shape,
        "sparsity": case.sparsity,
        "us": round(seconds * 1e6, 2),
        "rate": round(done / seconds / 1e9, 1),
        "limit": round(limit, 1),
        "unit": case.unit,
        "ratio": round(done / seconds / 1e9 / limit, 3),
    }
    if kernel.resident_bytes > L2_BYTES:
        row["cold_us"] = round(_cold_s(work) * 1e6, 2)
    if float(row["ratio"]) < RATIO_LOW:  # type: ignore[arg-type]
        row["why"] = case.why or "other work on this machine took time: measure again when it is idle"
    return row


def _cold_s(work: Callable[[], None]) -> float:
    """Median time right after something else filled the caches."""
    import statistics
    import time

    other, found = np.ones(COLD_BYTES // 8, np.uint64), []
    for _ in range(7):
        other += 1
        begun = time.perf_counter()
        work()
        found.append(time.perf_counter() - begun)
    return statistics.median(found)


def _images(rng: Any, kernel: Kernel, rows: int) -> Any:
    source = kernel.input_layout
    return rng.standard_normal((rows, source.channels, source.height, source.width)).astype(np.float32)


def _weight(rng: Any, shape: tuple[int, ...], zeros: float = 0.0, block: int = 1) -> Any:
    kept = np.repeat(rng.random((-(-shape[0] // block), *shape[1:])) >= zeros, block, axis=0)[: shape[0]]
    return (rng.standard_normal(shape) * kept).astype(np.float32)


def _stored(weight: Any, storage: str) -> Any:
    return (weight * 30 if storage == "int8" else weight).astype(storage)


def _conv(
    outputs: int, inner: int, kernel: int, size: int, zeros: float = 0.0, block: int = 1, *, bits: bool = False,
    signs: bool = False, stride: int = 1, groups: int = 1, storage: str = "float32",
) -> Callable[[Any], Kernel]:  # fmt: skip
    def make(rng: Any) -> Kernel:
        weight = _stored(_weight(rng, (outputs, inner, kernel, kernel), zeros, block), storage)
        tail = Tail(bias=np.zeros(outputs, np.float32), low=-np.inf if signs else 0.0, bits=bits)
        return registry.convolution(
            weight, size, size, pads=(kernel // 2,) * 4, strides=(stride, stride), groups=groups, tail=tail, signs=signs
        )

    return make


def _product(
    outputs: int,
    k: int,
    zeros: float = 0.0,
    block: int = 1,
    *,
    signs: bool = False,
    bits: bool = False,
    form: forms.Form | None = None,
) -> Callable[[Any], Kernel]:
    def make(rng: Any) -> Kernel:
        weight, tail = _weight(rng, (outputs, k), zeros, block), Tail(bias=np.zeros(outputs, np.float32), bits=bits)
        if form is not None and form.period:
            weight *= np.arange(k) % 2
        if form is not None:
            from meshd.kernels import packing

            return packing.pack(_stored(weight, form.storage), tail.checked(outputs), form)
        return registry.product(weight, tail=tail, signs=signs)

    return make


def _int8(outputs: int, inner: int, kernel: int, size: int) -> Callable[[Any], Kernel]:
    def make(rng: Any) -> Kernel:
        weight = rng.integers(-127, 128, (outputs, inner, kernel, kernel)).astype(np.int8)
        source, tail = Octets(inner, size, size, pitch=size, scale=0.02), Tail(np.full(outputs, 1e-4, np.float32))
        if size == 1:
            made = registry.product_int8(weight[:, :, 0, 0], source, tail=tail)
        else:
            made = registry.convolution_int8(weight, source, pads=(kernel // 2,) * 4, tail=tail)
        to = made.output_layout
        made.write_to(Octets(to.channels, to.height, to.width, pitch=to.width, scale=0.02))
        return made

    return make


def _fma(limits: Limits) -> float:
    return limits.fma


def _bits(limits: Limits) -> float:
    return limits.popcount


def _read(bytes_a_weight: float, level: str) -> Callable[[Limits], float]:
    return lambda limits: float(getattr(limits, level)) / bytes_a_weight


ONE_ROW = "one row: each weight is read for one multiplication, and the calls around it count"


def _cases() -> Iterator[Case]:
    yield Case("binary.product", "64x4096x4096", _product(4096, 4096, signs=True), _bits, 64, unit="Gbit-MAC/s")
    yield Case("binary.product", "784x128x1152", _product(128, 1152, signs=True), _bits, 784, unit="Gbit-MAC/s")
    yield Case(
        "binary.product.bits", "784x128x1152", _product(128, 1152, signs=True, bits=True), _bits, 784, unit="Gbit-MAC/s"
    )
    yield Case(
        "binary.product.row", "1x1024x1024", _product(1024, 1024, signs=True), _bits, unit="Gbit-MAC/s", why=ONE_ROW
    )
    yield Case("binary.conv3x3", "128>128@28", _conv(128, 128, 3, 28, signs=True, bits=True), _bits, unit="Gbit-MAC/s")
    yield Case(
        "binary.conv3x3.grouped", "128>128@28/g8", _conv(128, 16, 3, 28, signs=True, bits=True, groups=8), _bits,
        unit="Gbit-MAC/s", why="a group's 16 channels are a quarter of the word that is counted",
    )  # fmt: skip
    yield Case(
        "binary.conv3x3.floats", "128>128@28", _conv(128, 128, 3, 28, signs=True), _bits, unit="Gbit-MAC/s",
        why="floats leave by channel, one by one",
    )  # fmt: skip
    yield Case(
        "binary.pack", "128@28", lambda _: registry.convert(Planes.plain(128, 28, 28), Bits(128, 28, 28, 1, 1, 1, 30)),
        lambda limits: limits.l2, work=128 * 28 * 28 * 4, unit="GB/s", why="planes are read 16 positions at a time",
    )  # fmt: skip
    for zeros in (0.8, 0.9, 0.95):
        yield Case("sparse.conv3x3.b4", "64>128@56", _conv(128, 64, 3, 56, zeros, 4), _fma, sparsity=zeros)
    single = "single weights: an input is loaded for each multiplication, across cache lines"
    yield Case("sparse.conv3x3.b1", "64>128@56", _conv(128, 64, 3, 56, 0.9), _fma, sparsity=0.9, why=single)
    yield Case("sparse.conv1x1.b4", "128>128@56", _conv(128, 128, 1, 56, 0.9, 4), _fma, sparsity=0.9)
    for storage in ("float16", "int8"):
        yield Case(
            f"sparse.conv3x3.b4.{storage}",
            "64>128@56",
            _conv(128, 64, 3, 56, 0.9, 4, storage=storage),
            _fma,
            sparsity=0.9,
        )
    bytes_of = {"float32": 4, "float16": 2, "int8": 1}
    for block, storage in (
        (16, "float32"),
        (8, "float32"),
        (4, "float32"),
        (1, "float32"),
        (16, "float16"),
        (16, "int8"),
    ):
        level = _read(bytes_of[storage] + 4 / block, "l2")
        form = forms.Form(block, storage)
        yield Case(
            f"sparse.product.b{form.name}", "1x1024x1024", _product(1024, 1024, 0.9, block, form=form), level,
            sparsity=0.9, why="blocks narrower than a register use part of it" if block < 16 else ONE_ROW,
        )  # fmt: skip
    yield Case(
        "sparse.product.2:4", "1x1024x1024", _product(1024, 1024, form=forms.Form(0, period=4)), _read(4.25, "l2"),
        sparsity=0.5, why="three instructions a kept weight: pick, shift, fma",
    )  # fmt: skip
    yield Case("dense.product", "96x1024x1024", _product(1024, 1024), _fma, 96)
    yield Case("dense.product.row", "1x1024x1024", _product(1024, 1024), _read(4, "l3"), why=ONE_ROW)
    yield Case("dense.conv3x3", "64>128@56", _conv(128, 64, 3, 56), _fma)
    yield Case("dense.conv3x3", "512>512@7", _conv(512, 512, 3, 7), _fma)
    yield Case("dense.conv1x1", "128>128@56", _conv(128, 128, 1, 56), _fma)
    yield Case("dense.conv7x7", "3>64@224/2", _conv(64, 3, 7, 224, stride=2), _fma)
    yield Case("dense.depthwise3x3", "128@56", _conv(128, 1, 3, 56, groups=128), _fma, why=single)
    yield Case("int8.product", "96x1024x1024", _int8(1024, 1024, 1, 1), lambda limits: limits.dot, 96)
    yield Case("int8.conv3x3", "64>128@56", _int8(128, 64, 3, 56), lambda limits: limits.dot)


CASES = tuple(_cases())
