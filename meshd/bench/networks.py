"""Small networks made of kernels alone, for comparisons as a whole: a convolutional one, a perceptron, single layers."""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from meshd.kernels import registry
from meshd.kernels.kernel import Kernel, Tail
from meshd.kernels.layout import Octets, Planes

INT8_SCALE = 0.02


@dataclass(frozen=True, slots=True)
class Chain:
    """Kernels one after the other, each writing what the next one reads; buffers made beforehand."""

    kernels: tuple[Kernel, ...]
    buffers: tuple[Any, ...]
    scratch: Any
    rows: int = 1

    def run(self) -> None:
        """One item (or all rows of a product), one thread."""
        for k, kernel in enumerate(self.kernels):
            tiles = kernel.tiles(self.rows)
            kernel.run(self.buffers[k], self.buffers[k + 1], None, self.scratch, self.rows, 0, tiles)


def chain(kernels: list[Kernel], rows: int = 1) -> Chain:
    """Connect kernels: each writes the next one's layout."""
    for kernel, reader in itertools.pairwise(kernels):
        if kernel.writes_any:
            kernel.write_to(reader.input_layout)
    layouts = [kernels[0].input_layout, *(kernel.output_layout for kernel in kernels)]
    scratch = np.zeros(max(kernel.scratch_size for kernel in kernels) + 1, np.float32)
    return Chain(tuple(kernels), tuple(layout.empty(rows) for layout in layouts), scratch, rows)


def pruned(rng: Any, shape: tuple[int, ...], zeros: float, block: int) -> Any:
    """Random weights; `block` outputs share each zero."""
    kept = np.repeat(rng.random((shape[0] // block, *shape[1:])) >= zeros, block, axis=0)
    return (rng.standard_normal(shape) * kept / np.sqrt(shape[1])).astype(np.float32)


def cnn_weights(zeros: float, block: int) -> tuple[Any, Any, Any]:
    """Conv 3x3 64 to 128, conv 1x1 128 to 128, dense 128 to 10."""
    rng = np.random.default_rng(1)
    return (
        pruned(rng, (128, 64, 3, 3), zeros, block),
        pruned(rng, (128, 128, 1, 1), zeros, block),
        pruned(rng, (10, 128), 0.0, 1),
    )


def cnn(zeros: float, block: int) -> Chain:
    """Conv 3x3, ReLU, conv 1x1, global average, dense: of a 64 x 56 x 56 image."""
    first, second, last = cnn_weights(zeros, block)
    one = registry.convolution(first, 56, 56, pads=(1, 1, 1, 1), tail=Tail(low=0.0))
    source = one.output_layout
    two = registry.convolution(second, 56, 56, source=source)
    pool = registry.pool("average", 128, 56, 56, (56, 56), source=two.output_layout)
    return chain([one, two, pool, registry.product(last)])


def mlp(zeros: float, block: int) -> Chain:
    """Three layers of 1024 with ReLU, one row."""
    rng = np.random.default_rng(2)
    return chain([registry.product(pruned(rng, (1024, 1024), zeros, block), tail=Tail(low=0.0)) for _ in range(3)])


def binary_convolution() -> Chain:
    """Floats to bits, and a 3 x 3 convolution of bits to bits, 128 to 128 channels of a 28 x 28 image, padded with +1."""
    weight = np.random.default_rng(3).standard_normal((128, 128, 3, 3)).astype(np.float32)
    convolve = registry.convolution(weight, 28, 28, pads=(1, 1, 1, 1), signs=True, pad_sign=1, tail=Tail(bits=True))
    return chain([registry.convert(Planes.plain(128, 28, 28), convolve.input_layout), convolve])


def int8_weights(convolution: bool) -> Any:
    """(128, 64, 3, 3), or a matrix (1024, 1024)."""
    shape = (128, 64, 3, 3) if convolution else (1024, 1024)
    return np.random.default_rng(4).integers(-127, 128, shape).astype(np.int8)


def int8_convolution() -> Chain:
    """Bytes to bytes: 3 x 3, 64 to 128 channels of a 56 x 56 image."""
    tail = Tail(np.full(128, INT8_SCALE * INT8_SCALE, np.float32))
    source = Octets(64, 56, 56, pitch=56, scale=INT8_SCALE)
    made = registry.convolution_int8(int8_weights(True), source, pads=(1, 1, 1, 1), tail=tail)
    made.write_to(Octets(128, 56, 56, pitch=56, scale=1.0))
    return chain([made])


def int8_product() -> Chain:
    """Bytes to bytes: 96 rows times 1024 x 1024."""
    tail = Tail(np.full(1024, INT8_SCALE * INT8_SCALE, np.float32))
    made = registry.product_int8(int8_weights(False), Octets(1024, scale=INT8_SCALE), tail=tail)
    made.write_to(Octets(1024, scale=1.0))
    return chain([made], 96)


__all__ = [
    "Chain",
    "binary_convolution",
    "cnn",
    "cnn_weights",
    "int8_convolution",
    "int8_product",
    "int8_weights",
    "mlp",
    "pruned",
]
