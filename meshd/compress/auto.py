"""The fastest model within an accuracy budget: pruned as a whole, each layer as far as it minds least, the rest int8.

Damage and predicted milliseconds of every layer at every level are known after one look (`prune`); a budget of milliseconds
then settles all layers at once. What is left to find is the budget: accuracy falls as it shrinks, so it is halved between
what holds and what does not. Layers that stay dense become int8 where the board's rates say that is faster.

Accuracy is counted on every fifth item, which no weight is fitted to (int8 takes its ranges from all). Without labels it is
the agreement with the original.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from meshd.compress import calibration, layers, prune, quantize
from meshd.compress.calibration import Data
from meshd.compress.device import Device
from meshd.compress.layers import Network
from meshd.compress.progress import Progress
from meshd.compress.running import Runner
from meshd.errors import ConflictError, MisuseError
from meshd.model.onnx_import import import_bytes, load

TRIES = 6
"""Budgets tried: the last halving is of 2 % of the range."""

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """What to look for.

    Attributes
    ----------
    device : the board the milliseconds are of
    max_drop : points of accuracy that may be lost
    target_ms : fast enough: stop there; None for as fast as accuracy allows
    """

    device: Device
    max_drop: float = 0.5
    target_ms: float | None = None
    pattern: str = "kernel"
    dims: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tried:
    """One budget and what came of it."""

    ms: float
    drop: float
    """Points of accuracy."""
    rows: list[prune.Pruned]
    int8: list[str]


def auto(source: Path, data: Path, target: Path, wish: Wish, tell: Tell = lambda _: None) -> Tried:
    """Find it, and write it.

    Parameters
    ----------
    source, data : the model, and items with labels (or without: then agreement counts); neither is touched
    tell : is told each try

    Raises
    ------
    ConflictError
        If `target_ms` cannot be had within `max_drop`; says what can. Nothing is written.
    MisuseError, InvalidError, NotFoundError
        Of what does not fit.
    """
    if not 0 <= wish.max_drop < 100:
        raise MisuseError(f"--max-drop {wish.max_drop}: points of accuracy, 0 to 100")
    layers.check_target(target, source, data)
    search = _Search(source, data, target, wish, tell)
    low, high = search.bounds()
    goal = max(low, wish.target_ms) if wish.target_ms is not None else low
    if wish.target_ms is not None and wish.target_ms < low * (1 - 1e-9):
        raise ConflictError(f"{wish.target_ms} ms cannot be had on {wish.device.name}: {low:.4g} is the least possible")
    best, worst = None, goal
    # First as fast as wished: if that holds there is nothing to look for.
    budget = goal
    for _ in range(TRIES):
        found = search.attempt(budget)
        tell(f"{budget:.4g} ms: {found.drop:+.2f} points lost (at most {wish.max_drop})")
        if found.drop <= wish.max_drop:
            best, high = found, budget
            if budget <= goal:
                break
        else:
            worst = budget
        budget = (worst + high) / 2
    if best is None or (wish.target_ms is not None and best.ms > wish.target_ms * (1 + 1e-9)):
        possible = f"{best.ms:.4g} ms" if best is not None else f"the original's {search.bounds()[1]:.4g} ms"
        raise ConflictError(
            f"within {wish.max_drop} points only {possible} can be had on {wish.device.name}: allow more loss or more time"
        )
    os.replace(search.file(best.ms), target)
    search.clear()
    return best


class _Search:
    """One run: its files lie in the progress folder, one for each budget tried."""

    def __init__(self, source: Path, data: Path, target: Path, wish: Wish, tell: Tell) -> None:
        self.source, self.data, self.wish = source, data, wish
        self.network = Network(source)
        graph, _ = import_bytes(self.network.raw, source.stem, wish.dims, source.parent)
        self.items = calibration.read(data, graph.inputs)
        learnt, self.held = self._halves()
        options = {"auto": [wish.pattern, dict(wish.dims)], "version": 1}
        self.progress = Progress(target, [source, data], options)
        # Looks are shared by all budgets; so are steps that happen to be the same.
        self.job = prune.Job(self.network, learnt, self._pruning(1.0), self.progress, tell)
        self.before = self._right(source)
        self._bounds: tuple[float, float] | None = None

    def _halves(self) -> tuple[Data, Data]:
        if self.items.count < calibration.HOLD_EVERY:
            raise MisuseError(f"{self.items.count} items are too few to tell what is lost: give some hundreds")
        learnt, held = self.items.halves()
        if self.items.labels is None:
            return learnt, held
        return learnt, replace(held, labels=self.items.labels[calibration.HOLD_EVERY - 1 :: calibration.HOLD_EVERY])

    def _pruning(self, ms: float) -> prune.Wish:
        return prune.Wish(self.wish.pattern, "obs", ms=ms, device=self.wish.device, dims=self.wish.dims)

    def bounds(self) -> tuple[float, float]:
        """Least possible milliseconds, and the original's."""
        if self._bounds is None:
            cost, _ = self.job.limit()
            curves = self.job.curves(cost).values()
            least = sum(min(p.cost for p in c) for c in curves)
            self._bounds = cost.rest + least, cost.rest + sum(c[0].cost for c in curves)
        return self._bounds

    def file(self, ms: float) -> Path:
        """Where the model of a budget lies."""
        return self.progress.folder / f"{ms!r}.onnx"

    def attempt(self, ms: float) -> Tried:
        """Make the model of a budget, and count what it loses."""
        self.job.wish = self._pruning(ms)
        changed, rows = self.job.perform(self.job.spread())
        pruned = self.file(ms)
        layers.save(self.network.written(changed), pruned, self.source, self.data)
        rates = self.wish.device.rates
        dense = [r.name for r in rows if not r.pattern]
        int8: list[str] = []
        if dense and rates.get("int8", 0.0) > rates["dense"]:
            keep = tuple(r.name for r in rows if r.pattern)
            both = pruned.with_suffix(".int8.onnx")
            int8 = quantize.quantize(pruned, self.data, both, quantize.Wish(keep=keep, dims=self.wish.dims))
            os.replace(both, pruned)
        return Tried(ms, 100 * (self.before - self._right(pruned)), rows, int8)

    def _right(self, path: Path) -> float:
        """Share of held-out items answered rightly, or as the original does."""
        top = Runner(load.parse(load.read(path)), None, self.wish.dims).all(self.held)[0].argmax(1)
        if self.held.labels is None:
            self.held = replace(self.held, labels=top)  # The original comes first: its answers are the labels.
        return float((top == self.held.labels).mean())

    def clear(self) -> None:
        """Forget the tries: the output is written."""
        self.progress.done()
