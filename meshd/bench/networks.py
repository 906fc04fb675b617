"""Two small networks made of kernels alone, for comparisons as a whole: a convolutional one and a perceptron."""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from meshd.kernels import registry
from meshd.kernels.kernel import Kernel, Tail


@dataclass(frozen=True, slots=True)
class Chain:
    """Kernels one after the other, each writing what the next one reads; buffers made beforehand."""

    kernels: tuple[Kernel, ...]
    buffers: tuple[Any, ...]
    scratch: Any

    def run(self) -> None:
        """One item, one thread."""
        for k, kernel in enumerate(self.kernels):
            kernel.run(self.buffers[k], self.buffers[k + 1], None, self.scratch, 1, 0, kernel.tiles(1))


def chain(kernels: list[Kernel]) -> Chain:
    """Connect kernels: each writes the next one's layout."""
    for kernel, reader in itertools.pairwise(kernels):
        if kernel.writes_any:
            kernel.write_to(reader.input_layout)
    layouts = [kernels[0].input_layout, *(kernel.output_layout for kernel in kernels)]
    scratch = np.zeros(max(kernel.scratch_size for kernel in kernels) + 1, np.float32)
    return Chain(tuple(kernels), tuple(layout.empty() for layout in layouts), scratch)


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


__all__ = ["Chain", "cnn", "cnn_weights", "mlp", "pruned"]
