"""Pruning after training: from an ONNX file and some of the user's data to one with zeros where kernels like them.

1. *Look:* each layer alone is pruned to a few sparsities, and what that does to the network's outputs on held-out items is
   its curve (`damage`).
2. *Spread:* one budget over all curves (`budget`).
3. *Prune:* from the first layer to the last, each with the inputs the layers before it now give, towards the outputs it used
   to have (`reconstruction`); its bias takes over the mean.

Methods: `magnitude` (w^2); `wanda` (w^2 times the mean of x^2: Sun et al. 2023); `obs`, the default, which also moves the kept
weights (Frantar and Alistarh 2022). The first two only make zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from meshd.compress import calibration, layers, pattern, reconstruction
from meshd.compress.budget import Point, allocate
from meshd.compress.calibration import Data
from meshd.compress.cost import BYTES, WEIGHTS, Cost, milliseconds
from meshd.compress.device import Device
from meshd.compress.layers import Layer, Network, new_bias
from meshd.compress.moments import ROWS_MAX, Moments, patches_of, rows_of
from meshd.compress.pattern import Bools, Pattern
from meshd.compress.progress import Progress
from meshd.compress.running import Runner
from meshd.errors import ConflictError, MisuseError
from meshd.model.onnx_import import import_bytes

METHODS = ("obs", "wanda", "magnitude")
LEVELS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98)
"""Sparsities each layer is tried at. Between two the curve is taken to be straight."""
LOOK_ITEMS_MAX = 256
"""Held-out items the networks with one layer pruned are run on: their outputs' mean error is known well enough."""

ERROR = "\0error"
"""Beside constants by name; no tensor is called so."""

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """What to make, under one budget of three.

    Attributes
    ----------
    sparsity : share of all weights of layers that shall be zero
    size_bytes : of the layers' weights as kernels hold them
    ms : predicted milliseconds of one item on `device`
    """

    pattern: str = "kernel"
    method: str = "obs"
    sparsity: float | None = None
    size_bytes: int | None = None
    ms: float | None = None
    device: Device | None = None
    dims: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pruned:
    """One row of the outcome."""

    name: str
    pattern: str
    """`""` where the layer stays as it was, with the reason in `why`."""
    size: int
    zeros: int
    error: float
    """Of the layer's outputs on held-out items, a share of their variance; 0 where it was not reconstructed."""
    why: str = ""


def prune(source: Path, data: Path, target: Path, wish: Wish, tell: Tell = lambda _: None) -> list[Pruned]:
    """Prune a file.

    Parameters
    ----------
    source, data : the model, and the calibration items (`calibration.read`); neither is touched
    target : what is written, whole or not at all
    tell : is told a line at each step

    Raises
    ------
    MisuseError, InvalidError, NotFoundError, ConflictError
        Of what does not fit, or cannot be met; nothing is written.
    """
    check(wish)
    layers.check_target(target, source, data)
    network = Network(source)
    graph, _ = import_bytes(network.raw, source.stem, wish.dims, source.parent)
    items = calibration.read(data, graph.inputs)
    progress = Progress(target, [source, data], {"prune": [wish.pattern, wish.method, dict(wish.dims)], "version": 1})
    job = Job(network, items, wish, progress, tell)
    chosen = job.spread()
    changed, rows = job.perform(chosen)
    layers.save(network.written(changed), target, source, data)
    progress.done()
    return rows


def check(wish: Wish) -> None:
    """Raise MisuseError where a wish is none."""
    if wish.method not in METHODS:
        raise MisuseError(f"{wish.method!r} is no method: {', '.join(METHODS)}")
    if [wish.sparsity, wish.size_bytes, wish.ms].count(None) != 2:
        raise MisuseError("give one budget: a sparsity, a size in bytes, or milliseconds")
    if wish.sparsity is not None and not 0 < wish.sparsity < 1:
        raise MisuseError(f"a sparsity of {wish.sparsity}: give a share between 0 and 1, such as 0.8")
    if wish.ms is not None and (wish.device is None or "dense" not in wish.device.rates):
        raise MisuseError(
            "milliseconds need the profile of a board, as python -m meshd.engine.measure prints one there"
        )


class Job:
    """One run."""

    def __init__(self, network: Network, items: Data, wish: Wish, progress: Progress, tell: Tell) -> None:
        self.network, self.wish, self.progress, self.tell = network, wish, progress, tell
        self.learnt, self.held = items.halves()
        self.patterns: dict[str, Pattern] = {}
        self.why: dict[str, str] = {}
        for layer in network.layers:
            found = pattern.parse(wish.pattern, layer)
            if found is None:
                self.why[layer.name] = f"{layer.outputs} outputs and {layer.terms} terms do not fit {wish.pattern}"
            else:
                self.patterns[layer.name] = found

    # 1 and 2: look, and spread.

    def spread(self) -> dict[str, float]:
        """Sparsity of each layer."""
        sizes = {layer.name: layer.size for layer in self.network.layers}
        total = sum(sizes.values())
        if self.wish.sparsity is not None and self._reachable(sizes) < self.wish.sparsity * total * (1 - 1e-9):
            possible = self._reachable(sizes) / total
            raise ConflictError(
                f"{self.wish.sparsity:.1%} of {total:,} weights cannot be zero in pattern {self.wish.pattern}: "
                f"at most {possible:.1%}; these stay dense: {self.why or 'none'}; ask less, or another --pattern"
            )
        if fixed := {n: 1 - p.keep / p.of for n, p in self.patterns.items() if p.of}:
            return fixed  # N:M leaves no choice.
        cost, most = self.limit()
        named = {layer.name: layer for layer in self.network.layers}
        return allocate(
            self.curves(cost),
            most - cost.rest,
            cost.unit,
            lambda name, sparsity: cost.of(named[name], self.patterns.get(name), sparsity),
        )

    def limit(self) -> tuple[Cost, float]:
        """What is counted, and how much of it there may be."""
        if self.wish.ms is not None and self.wish.device is not None:
            return milliseconds(self.network, self.held.some(0, 1), self.wish.device, self.wish.dims), self.wish.ms
        if self.wish.size_bytes is not None:
            return BYTES, self.wish.size_bytes
        return WEIGHTS, sum(layer.size for layer in self.network.layers) * (1 - (self.wish.sparsity or 0.0))

    def curves(self, cost: Cost) -> dict[str, list[Point]]:
        """Cost and damage of each layer at each level."""
        held, found = self.held.some(0, LOOK_ITEMS_MAX), {}
        for layer in self.network.layers:
            own = self.patterns.get(layer.name)
            found[layer.name] = [Point(0.0, cost.of(layer, own, 0.0), 0.0)]
            if own is not None:
                damages = zip(LEVELS, self._look(layer, own, held), strict=True)
                found[layer.name] += [Point(s, cost.of(layer, own, s), float(d)) for s, d in damages]
        return found

    def _reachable(self, sizes: Mapping[str, int]) -> float:
        """Weights that can be zero at most."""
        most = {n: 1 - p.keep / p.of if p.of else LEVELS[-1] for n, p in self.patterns.items()}
        return sum(sizes[n] * share for n, share in most.items())

    def _look(self, layer: Layer, own: Pattern, held: Data) -> NDArray[Any]:
        """Damage at each level."""

        def compute() -> dict[str, NDArray[Any]]:
            pieces = self._moments(layer, self.network.model)
            scores = self._scores(layer, own, pieces)
            weight = self.network.weight(layer)
            before = _zero_units(own, weight)
            damages = [
                self._damage(layer, own, pieces, scores, level, held) if level > before else 0.0 for level in LEVELS
            ]
            return {"damages": np.array(damages)}

        damages = self.progress.step(f"look {layer.name}", compute)["damages"]
        self.tell(
            f"{layer.name}: {own.name}, damage "
            + ", ".join(f"{s:.0%} {d:.2g}" for s, d in zip(LEVELS, damages, strict=True))
        )
        return damages

    def _damage(
        self,
        layer: Layer,
        own: Pattern,
        pieces: Sequence[tuple[Moments, Moments]],
        scores: NDArray[Any],
        level: float,
        held: Data,
    ) -> float:
        """What this layer alone does to the network's outputs: mean squared change, a share of the outputs' variance."""
        changed, _ = self._made(layer, own, pieces, own.best(scores, level, layer.taps))
        return change(self.network.model, self.network.written(changed), held, self.wish.dims)

    # 3: prune.

    def perform(self, chosen: Mapping[str, float]) -> tuple[dict[str, NDArray[Any]], list[Pruned]]:
        """New constants by name, and a row for each layer."""
        changed: dict[str, NDArray[Any]] = {}
        rows = []
        for layer in self.network.layers:
            own, level, error = self.patterns.get(layer.name), chosen.get(layer.name, 0.0), 0.0
            weight = self.network.weight(layer)
            if own is not None and level > _zero_units(own, weight):
                # What a layer becomes depends on those before it: all levels are part of the step's name.
                made = self.progress.step(
                    f"prune {layer.name} {sorted(chosen.items())}", partial(self._pruned, layer, own, level, changed)
                )
                error = float(made.pop(ERROR))
                changed.update(made)
                weight = layer.matrix(made[layer.weight])
                self.tell(
                    f"{layer.name}: {np.mean(weight == 0):.1%} zeros, outputs off by {error:.2%} of their variance"
                )
            zeros = int(np.count_nonzero(weight == 0))
            name = own.name if own is not None and level else ""
            rows.append(Pruned(layer.name, name, layer.size, zeros, error, self.why.get(layer.name, "")))
        return changed, rows

    def _pruned(self, layer: Layer, own: Pattern, level: float, changed: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        pieces = self._moments(layer, self.network.written(changed))
        made, error = self._made(layer, own, pieces, own.best(self._scores(layer, own, pieces), level, layer.taps))
        return {**made, ERROR: np.array(error)}

    # Of one layer.

    def _moments(self, layer: Layer, now: onnx.ModelProto) -> list[tuple[Moments, Moments]]:
        """For each group (inputs as they are now, outputs as they were): of the items learnt from, and of those held out."""
        if self.wish.method == "magnitude":
            return []
        was = Runner(self.network.model, [layer.source], self.wish.dims)
        is_now = Runner(now, [layer.source], self.wish.dims)
        weight, rows = self.network.weight(layer), layer.outputs // layer.groups
        found = []
        if layer.terms > reconstruction.TERMS_MAX and self.wish.method == "obs":
            raise ConflictError(
                f"{layer.name} has {layer.terms} terms an output; obs takes {reconstruction.TERMS_MAX}: use --method wanda"
            )
        for _ in range(layer.groups):
            found.append((Moments(layer.terms, rows), Moments(layer.terms, rows)))
        for side, data in enumerate((self.learnt, self.held)):
            for (before,), (after,) in zip(was.over(data), is_now.over(data), strict=True):
                step = max(1, data.count * patches_of(layer, before.shape[1:]) // ROWS_MAX)
                for g, pair in enumerate(found):
                    outputs = rows_of(layer, before, g, step) @ weight[g * rows : (g + 1) * rows].T
                    pair[side].add(rows_of(layer, after, g, step), outputs)
        return found

    def _scores(self, layer: Layer, own: Pattern, pieces: Sequence[tuple[Moments, Moments]]) -> NDArray[Any]:
        """What each unit is worth, (outputs / block, k)."""
        weight = self.network.weight(layer)
        rows = layer.outputs // layer.groups
        if self.wish.method == "magnitude":
            scores = own.sums(np.square(weight, dtype=np.float64))
        elif self.wish.method == "wanda":
            means = np.repeat([(a + b).squares for a, b in pieces], rows, axis=0)
            scores = own.sums(np.square(weight, dtype=np.float64) * means)
        else:
            each = [
                reconstruction.trace(
                    reconstruction.Problem(weight[g * rows : (g + 1) * rows], a + b, reconstruction.TRACE_DAMPING), own
                )
                for g, (a, b) in enumerate(pieces)
            ]
            scores = np.concatenate(each)
        scores[~own.sums(weight != 0).astype(bool)] = -1.0  # What is zero stays zero.
        return scores

    def _made(
        self, layer: Layer, own: Pattern, pieces: Sequence[tuple[Moments, Moments]], kept: Bools
    ) -> tuple[dict[str, NDArray[Any]], float]:
        """The layer's new constants by name, and its error."""
        weight = self.network.weight(layer)
        if self.wish.method != "obs":
            return {layer.weight: layer.stored(weight * own.spread(kept))}, 0.0
        rows, units = layer.outputs // layer.groups, len(kept) // layer.groups
        made, errors, shifts = [], [], []
        for g, (learnt, held) in enumerate(pieces):
            mine = weight[g * rows : (g + 1) * rows]
            new, error = reconstruction.reconstruct(mine, learnt, held, own, kept[g * units : (g + 1) * units])
            both = learnt + held
            made.append(new)
            errors.append(error)
            shifts.append(both.target_mean - new @ both.mean)
        found: dict[str, NDArray[Any]] = {layer.weight: layer.stored(np.concatenate(made))}
        if bias := new_bias(layer):
            old = self.network.constants[layer.bias] if layer.bias else 0.0
            found[bias] = (old + np.concatenate(shifts)).astype(np.float32)
        return found, float(np.mean(errors))


def _zero_units(own: Pattern, weight: NDArray[Any]) -> float:
    """Share of units that hold nothing but zeros."""
    return 1.0 - float(np.count_nonzero(own.sums(weight != 0))) / (weight.size // own.block)


def change(before: onnx.ModelProto, after: onnx.ModelProto, data: Data, dims: Mapping[str, int]) -> float:
    """Mean squared change of a network's float outputs, a share of their variance; the mean over outputs."""
    shares = []
    for a, b in zip(Runner(before, None, dims).all(data), Runner(after, None, dims).all(data), strict=True):
        if a.dtype.kind == "f":
            wide = a.astype(np.float64).reshape(len(a), -1)
            variance = float(np.square(wide - wide.mean(0)).mean())
            shares.append(float(np.square(b.reshape(len(b), -1) - wide).mean()) / max(variance, 1e-30))
    return float(np.mean(shares)) if shares else 0.0
