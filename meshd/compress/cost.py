"""What a budget is counted in: weights that are not zero, bytes in memory, or milliseconds on a board.

Predictions, by the same sums a mesh plans with: work over rate. A layer that is sparse is counted as such only where that is
less than dense: the kernels choose so too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from meshd.compress.calibration import Data
from meshd.compress.device import Device
from meshd.compress.layers import Layer, Network
from meshd.compress.moments import patches_of
from meshd.compress.pattern import Pattern
from meshd.compress.running import Runner
from meshd.model import bundle, cuts
from meshd.model.onnx_import import import_bytes

Of = Callable[[Layer, Pattern | None, float], float]
"""(layer, its pattern, sparsity) to cost."""


@dataclass(frozen=True, slots=True)
class Cost:
    """How a layer is counted, and `rest`, what is not in any layer; both in `unit`."""

    unit: str
    of: Of
    rest: float = 0.0


WEIGHTS = Cost("weights", lambda layer, _, sparsity: layer.size * (1 - sparsity))


def _bytes(layer: Layer, own: Pattern | None, sparsity: float) -> float:
    # A kept weight takes 4 bytes, and each unit the 4 of its place.
    kept = layer.size * (1 - sparsity)
    return min(4.0 * layer.size, kept * (4 + 4 / (own.block if own else 1)))


BYTES = Cost("bytes", _bytes)


def milliseconds(network: Network, one: Data, device: Device, dims: Mapping[str, int]) -> Cost:
    """Predicted milliseconds of one item on a board; `one` is an item."""
    sources = [layer.source for layer in network.layers]
    runner = Runner(network.model, sources, dims)
    shapes = {n: x.shape[1:] for n, x in zip(runner.names, runner.run(one), strict=True)}
    dense, sparse = device.rates["dense"], device.rates.get("sparse", device.rates["dense"])
    patches = {layer.name: patches_of(layer, shapes[layer.source]) for layer in network.layers}

    def of(layer: Layer, _: Pattern | None, sparsity: float) -> float:
        macs = patches[layer.name] * layer.size
        return 1000 * min(macs / dense, macs * (1 - sparsity) / sparse)

    graph = bundle.pack(*import_bytes(network.model.SerializeToString(), "model", dims)).graph
    work: dict[str, int] = {}
    for cost in cuts.costs(graph):
        for kind, count in cost.macs:
            work[kind] = work.get(kind, 0) + count
    whole = device.ms(work)
    return Cost(f"ms on {device.name}", of, max(0.0, whole - sum(of(layer, None, 0.0) for layer in network.layers)))
