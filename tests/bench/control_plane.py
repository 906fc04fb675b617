"""The control plane's numbers, from the simulator: `python -m tests.bench.control_plane [TABLE...]`.

Tables: detection, false-dead, heal, reach, bootstrap, idle. `false-dead` is long: it keeps what it has in --state FILE and
goes on from there, one seed at a time, until each cell has its hours (--hours, --profile choose a part). Virtual time: a busy
machine makes it slower, never different.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from meshd.config import MINUTE, PROFILES, S
from meshd.core.events import Sighted
from meshd.core.ids import NodeId
from meshd.sim.cluster import Cluster
from meshd.sim.meter import Meter, ms, quantile
from meshd.sim.network import Weather
from meshd.sim.run import Options, run

Row = tuple[object, ...]


def detection() -> Iterator[Row]:
    """First SUSPECT and DEAD everywhere after a crash."""
    yield ("nodes", "loss", "suspect p50", "p99", "dead all p50", "p99", "crashes", "target p99 dead")
    for nodes, seeds, target in ((2, 0, 6_500), (3, 6, 6_500), (8, 6, 6_500), (64, 2, 11_000)):
        for loss in (0.0, 0.1):
            suspect_us: list[int] = []
            dead_us: list[int] = []
            for seed in range(seeds):
                outcome = run(Options(nodes, 5, seed, {"crash": 4.0, "loss": loss}))
                assert not outcome.broken, outcome.broken
                suspect_us += outcome.meter.suspect_us
                dead_us += outcome.meter.dead_all_us
            if nodes == 2:
                suspect_us, dead_us = _pairs(loss)
            yield (
                nodes, loss, ms(quantile(suspect_us, 0.5)), ms(quantile(suspect_us, 0.99)),
                ms(quantile(dead_us, 0.5)), ms(quantile(dead_us, 0.99)), len(dead_us), target,
            )  # fmt: skip


def _pairs(loss: float) -> tuple[list[int], list[int]]:
    # A run keeps two alive; with two nodes one of them is to die.
    meters = []
    for seed in range(60):
        cluster, meter = _mesh(seed, 2, loss)
        cluster.run_for(5 * S + seed * 31_000)
        cluster.crash(1)
        cluster.run_for(12 * S)
        meters.append(meter)
    return [us for m in meters for us in m.suspect_us], [us for m in meters for us in m.dead_all_us]


def _mesh(seed: int, nodes: int, loss: float, profile: str = "default") -> tuple[Cluster, Meter]:
    # A seed besides mDNS: a simulated sighting comes once, and at 20 % loss both of two can be lost.
    cluster = Cluster(seed, nodes, timers=PROFILES[profile], weather=Weather(loss=loss), seeds=(0,))
    meter = Meter(cluster)
    cluster.watchers.append(meter.watch)
    cluster.on_crash = meter.crashed
    cluster.network.on_split, cluster.network.on_heal = meter.split, meter.healed
    meter.start()
    cluster.start()
    cluster.run_until(cluster.agreed, within_us=120 * S)
    return cluster, meter


def false_dead(state: Path | None, hours: float | None, profiles: list[str]) -> Iterator[Row]:
    """Living members declared DEAD, nobody crashing. Whole nodes, sealed datagrams and the codec; no checkers."""
    yield ("profile", "nodes", "loss", "false DEAD", "node-hours", "an hour, at most (95 %)", "asked for")
    kept = json.loads(state.read_text()) if state is not None and state.exists() else {}
    for profile, loss, wanted in _cells(profiles):
        for nodes in (2, 3, 8, 64):
            cell = kept.setdefault(f"{profile} {nodes} {loss}", {"seed": 0, "hours": 0.0, "false": 0, "seeds": []})
            while cell["hours"] < (hours or wanted):
                cluster, meter = _mesh(cell["seed"], nodes, loss, profile)
                cluster.run_for(FALSE_DEAD_RUN_US)
                cell["hours"] += meter.node_us / 3.6e9
                cell["false"] += meter.false_dead
                if meter.false_dead:
                    cell["seeds"] = [*cell["seeds"], cell["seed"]][:SEEDS_KEPT]
                cell["seed"] += 1
                if state is not None:
                    fresh = state.with_suffix(".new")
                    fresh.write_text(json.dumps(kept, indent=1))
                    fresh.replace(state)
            if profile == "default" and cell["seeds"]:
                print(f"false DEAD: nodes {nodes}, loss {loss}, seeds {cell['seeds']}", file=sys.stderr)
            bound = _at_most(cell["false"]) / cell["hours"]
            yield (profile, nodes, loss, cell["false"], round(cell["hours"], 1), f"{bound:.5f}", hours or wanted)


FALSE_DEAD_RUN_US = 30 * MINUTE
"""Virtual time a seed: the first minute, in which all is news, costs as much as the next five."""
SEEDS_KEPT = 20


def _cells(profiles: list[str]) -> list[tuple[str, float, float]]:
    """(profile, loss, node-hours), the short ones first. A baseline's rate is no target: it needs no 3,000 hours."""
    cells = [(p, loss, 300.0) for loss in (0.2, 0.3) for p in profiles]
    return cells + [(p, 0.1, 3_000.0 if p == "default" else 300.0) for p in profiles]


def _at_most(seen: int) -> float:
    """Of what was seen `seen` times, how many there may have been (95 %, one-sided): three where nothing was seen."""
    return 3.0 if not seen else seen + 2 * seen**0.5 + 2


def heal() -> Iterator[Row]:
    """From the end of a split to all agreeing again."""
    yield ("nodes", "split s", "p50 ms", "p99 ms", "of", "target p50, p99")
    for nodes, seeds in ((2, 40), (8, 40), (64, 4)):
        for split_s in (5, 60, 600) if nodes < 64 else (60,):
            times_us = []
            for seed in range(seeds if split_s < 600 else 10):
                cluster, _ = _mesh(seed, nodes, 0.05)
                cluster.run_for(5 * S)
                cluster.network.split([range(nodes // 2), range(nodes // 2, nodes)])
                cluster.run_for(split_s * S + seed * 77_000)
                cluster.network.heal()
                times_us.append(cluster.run_until(cluster.agreed, within_us=120 * S))
            yield (
                nodes,
                split_s,
                ms(quantile(times_us, 0.5)),
                ms(quantile(times_us, 0.99)),
                len(times_us),
                "5000, 15000",
            )


def reach() -> Iterator[Row]:
    """Gossip ticks until a rumour is known to all."""
    yield ("nodes", "loss", "ticks p50", "worst", "of", "target")
    for nodes, loss in ((8, 0.0), (8, 0.1), (64, 0.0), (64, 0.1)):
        cluster, _ = _mesh(1, nodes, loss)
        cluster.run_for(20 * S)
        ticks = []
        for number in range(40):
            machine = cluster.machines[number % nodes]
            node = machine.node
            assert node is not None
            node.swim._refute(0)
            incarnation = node.context.incarnation
            machine.give(Sighted(machine.address, machine.node_id))

            known = partial(_know, cluster, machine.node_id, incarnation)
            ticks.append(cluster.run_until(known, within_us=16 * S) / cluster.timers.gossip_period_us)
            cluster.run_for(2 * S)
        ticks.sort()
        yield (nodes, loss, ticks[20], ticks[-1], len(ticks), 7)


def _know(cluster: Cluster, subject: NodeId, incarnation: int) -> bool:
    return all(m.view is not None and m.view.members[subject].incarnation >= incarnation for m in cluster.up)


def bootstrap() -> Iterator[Row]:
    """All powered on at once, until all see all; and the number of distinct sizes that Views showed."""
    yield ("nodes", "found by", "seconds", "distinct sizes", "target s")
    for nodes, found, target in ((64, "mdns", 3), (64, "seed", 3), (256, "seed", 45)):
        cluster = Cluster(1, nodes, mdns=found == "mdns", seeds=(0,) if found == "seed" else ())
        meter = Meter(cluster)
        cluster.watchers.append(meter.watch)
        cluster.start()
        took_us = cluster.run_until(cluster.agreed, within_us=120 * S, every_us=50_000)
        yield (nodes, found, took_us / 1e6, len(meter.sizes), target)


def idle() -> Iterator[Row]:
    """Bytes a second that an idle node sends, IPv4 and UDP headers counted."""
    yield ("nodes", "bytes a second", "target")
    for nodes in (2, 8, 64):
        cluster, _ = _mesh(1, nodes, 0.0)
        cluster.run_for(60 * S)
        before = cluster.network.sent_bytes
        cluster.run_for(60 * S)
        yield (nodes, round((cluster.network.sent_bytes - before) / 60 / nodes), 500)


TABLES: dict[str, Callable[[], Iterator[Row]]] = {
    "detection": detection, "heal": heal, "reach": reach, "bootstrap": bootstrap, "idle": idle,
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", help=f"{', '.join(TABLES)}, false-dead; default all but the last")
    parser.add_argument("--state", type=Path, help="where false-dead keeps what it has")
    parser.add_argument("--hours", type=float, help="node-hours a cell of false-dead, instead of the target's")
    parser.add_argument("--profile", action="append", help="for false-dead; may be given twice to compare")
    given = parser.parse_args()
    for name in given.tables or list(TABLES):
        began = time.monotonic()
        rows = (
            false_dead(given.state, given.hours, given.profile or ["default"])
            if name == "false-dead"
            else TABLES[name]()
        )
        print(f"\n{name}")
        for row in rows:
            print("  ".join(f"{cell!s:>14}" for cell in row), flush=True)
        print(f"({time.monotonic() - began:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
