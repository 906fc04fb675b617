"""How long one `Node.step` takes, on all nodes of a simulated mesh with deployments, requests and crashes.

    python -m tests.bench.step_time [--nodes 64] [--minutes 2] [--deployments 4] [--faults crash]

CPU time of the thread, so that other work on the machine hardly counts. The target is for all steps; the kinds of input that take
longest stand below. Solving is no part of a step: it runs on a thread.
"""

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterator

from meshd.core.events import DatagramIn, Effect, Input, LinkIn, TimerFired
from meshd.core.node import Node
from meshd.sim.meter import quantile
from meshd.sim.run import Options, run
from tests.bench.figures import Figure, show

TARGET_MS = 5.0
KINDS_SHOWN = 8


def kind_of(input: Input) -> str:
    """Name of an input for the table."""
    match input:
        case DatagramIn() | LinkIn():
            return f"{type(input).__name__} {type(input.message).__name__}"
        case TimerFired():
            return f"timer {input.id.partition('/')[0]}"
    return type(input).__name__


def measure(options: Options) -> dict[str, list[int]]:
    """Kind of input → CPU time of each step, in ns."""
    took: dict[str, list[int]] = defaultdict(list)
    step = Node.step

    def timed(self: Node, input: Input, now_us: int) -> list[Effect]:
        began_ns = time.thread_time_ns()
        effects = step(self, input, now_us)
        took[kind_of(input)].append(time.thread_time_ns() - began_ns)
        return effects

    Node.step = timed  # type: ignore[method-assign]
    try:
        outcome = run(options)
    finally:
        Node.step = step  # type: ignore[method-assign]
    if outcome.broken:
        raise AssertionError(outcome.broken[0])
    return took


def figures(options: Options) -> Iterator[Figure]:
    """All steps, then the kinds whose slowest hundredth is slowest."""
    took = measure(options)
    where = f"{options.nodes} nodes, {options.deployments} deployments"
    whole = [ns for each in took.values() for ns in each]
    yield from _rows("a step", where, whole, TARGET_MS)
    by_p99 = sorted(took, key=lambda kind: -(quantile(took[kind], 0.99) or 0))
    for kind in by_p99[:KINDS_SHOWN]:
        yield from _rows(kind, where, took[kind], None)


def _rows(what: str, where: str, took_ns: list[int], at_most_ms: float | None) -> Iterator[Figure]:
    for name, q in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
        value = quantile(took_ns, q)
        target = at_most_ms if name == "p99" else None
        yield Figure(
            f"{what} {name}", where, None if value is None else round(value / 1e6, 3), "ms", target, len(took_ns)
        )


def main() -> int:
    """Print the table; 1 if the target is missed."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--nodes", type=int, default=64)
    words.add_argument("--minutes", type=float, default=2.0)
    words.add_argument("--deployments", type=int, default=4)
    words.add_argument("--faults", default="crash", help="names, by commas; empty for none")
    words.add_argument("--seed", type=int, default=1)
    asked = words.parse_args()
    faults = {name: 0.0 for name in asked.faults.split(",") if name}
    shown = show(figures(Options(asked.nodes, asked.minutes, asked.seed, faults, deployments=asked.deployments)))
    return int(any(figure.verdict == "MISSED" for figure in shown))


if __name__ == "__main__":
    sys.exit(main())
