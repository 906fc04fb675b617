"""From deploy to an agreed plan, on whole nodes in virtual time; and the longest steps, in real time.

    python -m tests.bench.plan_time [--nodes 64] [--seeds 20] [--loss 0.0]

Agreed: the first plan of the deployment was made (loading takes what it takes). Everywhere: all nodes know it.
"""

import argparse
import time
from dataclasses import replace

from meshd.config import MS, S
from meshd.core import events
from meshd.core.ids import Digest
from meshd.core.placement import solve
from meshd.core.plan import LayerCost, Policy
from meshd.core.view import Capacity
from meshd.sim.cluster import Cluster
from meshd.sim.machine import Machine
from meshd.sim.network import Weather

MODEL = Digest("ab" * 32)
LAYERS = 33


def main() -> None:
    """Print a line."""
    words = argparse.ArgumentParser()
    words.add_argument("--nodes", type=int, default=64)
    words.add_argument("--seeds", type=int, default=20)
    words.add_argument("--loss", type=float, default=0.0)
    asked = words.parse_args()
    agreed, everywhere, steps = [], [], []
    for seed in range(asked.seeds):
        one, all_, took = _deploy(seed, asked.nodes, asked.loss)
        agreed.append(one)
        everywhere.append(all_)
        steps += took
    for name, values in (("agreed", agreed), ("known everywhere", everywhere)):
        values.sort()
        print(
            f"{name:17} p50 {values[len(values) // 2]:6.0f} ms  p99 {values[int(0.99 * len(values))]:6.0f} ms  of {len(values)}"
        )
    steps.sort()
    worst = steps[int(0.99 * len(steps))]
    print(
        f"steps             p50 {steps[len(steps) // 2]:.2f} ms  p99 {worst:.2f} ms  max {steps[-1]:.2f} ms of {len(steps)}"
    )


def _deploy(seed: int, nodes: int, loss: float) -> tuple[float, float, list[float]]:
    cluster = Cluster(seed, nodes, weather=replace(Weather(), loss=loss))
    for machine in cluster.machines:
        machine.shelf.solve = solve
    cluster.machines[0].shelf.models.add(MODEL)
    cluster.start()
    cluster.run_until(cluster.agreed, within_us=60 * S)
    for machine in cluster.machines:
        capacity = Capacity(
            300 << 20, 300 << 20, (("dense", 10**9 * (1 + machine.index % 4)),), host=f"h{machine.index}"
        )
        machine.give(events.Measured(capacity))
    cluster.run_for(20 * S)
    layers = tuple(LayerCost((("dense", 10**7),), 16 << 20, 16 << 20, 100_000) for _ in range(LAYERS))
    took: list[float] = []
    for machine in cluster.machines:
        _time(machine, took)
    began = cluster.clock.now_us
    crossings = ((("t", "float32"),),) * (LAYERS - 1)
    cluster.machines[seed % nodes].operate(events.Deploy("d", MODEL, layers, crossings, 1_000, Policy()))
    agreed = cluster.run_until(lambda: _agreed_us(cluster) is not None, 30 * S)
    cluster.run_until(lambda: all(_knows(machine) for machine in cluster.up), 60 * S)
    return agreed / MS, (cluster.clock.now_us - began) / MS, took


def _time(machine: Machine, took: list[float]) -> None:
    node = machine.node
    assert node is not None
    step = node.step

    def timed(input: events.Input, now_us: int) -> list[events.Effect]:
        start = time.thread_time()
        effects = step(input, now_us)
        took.append(1e3 * (time.thread_time() - start))
        return effects

    node.step = timed  # type: ignore[method-assign]


def _agreed_us(cluster: Cluster) -> int | None:
    return next((us for m in cluster.machines for us, report in m.reports if report.kind == "plan.agreed"), None)


def _knows(machine: Machine) -> bool:
    served = None if machine.view is None else machine.view.deployments.get("d")
    return served is not None and served.target is not None


if __name__ == "__main__":
    main()
