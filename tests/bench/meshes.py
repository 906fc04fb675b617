"""Meshes to measure on: one that met by itself, one that knows itself from the start, the shares of what was measured."""

from collections.abc import Iterator, Sequence

from meshd.config import PROFILES, S
from meshd.sim.bare import Bare
from meshd.sim.cluster import Cluster
from meshd.sim.machine import Machine
from meshd.sim.meter import Meter, quantile
from meshd.sim.network import Weather
from tests.bench.figures import Figure


def met(seed: int, nodes: int, loss: float, profile: str = "default") -> tuple[Cluster, Meter]:
    """Powered on, found each other, agreed; the meter runs from the start. Datagrams are carried as values."""
    # A seed besides mDNS: a simulated sighting comes once, and at 20 % loss both of two can be lost.
    cluster = Cluster(seed, nodes, timers=PROFILES[profile], weather=Weather(loss=loss), seeds=(0,), kind=Bare)
    meter = Meter(cluster)
    cluster.watchers.append(meter.watch)
    cluster.on_crash = meter.crashed
    cluster.network.on_split, cluster.network.on_heal = meter.split, meter.healed
    meter.start()
    cluster.start()
    cluster.run_until(cluster.agreed, within_us=120 * S)
    return cluster, meter


def known(
    seed: int, nodes: int, loss: float, profile: str = "default", settle_us: int = 30 * S, kind: type[Machine] = Bare
) -> Cluster:
    """One that has been together for a while: everybody knows all, most round trips are measured."""
    cluster = Cluster(seed, nodes, timers=PROFILES[profile], weather=Weather(loss=loss), seeds=(0,), kind=kind)
    cluster.start_known()
    cluster.run_for(settle_us)
    return cluster


def shares(
    what: str, where: str, times_us: Sequence[int], p50_s: float | None = None, p99_s: float | None = None
) -> Iterator[Figure]:
    """The median and p99, in seconds, with their targets."""
    for share, target in ((0.5, p50_s), (0.99, p99_s)):
        value = quantile(times_us, share)
        seconds = None if value is None else round(value / S, 2)
        yield Figure(f"{what} p{100 * share:.0f}", where, seconds, "s", target, len(times_us))
