"""Lifeguard's grid: some members are slow, healthy ones are held dead for it. How many, against plain SWIM?

At a slow member datagrams wait, both ways, for a while (D), then pass for a pause (I), then wait again; its timers run. A false
positive is a report of DEAD about a member that was never slow, at any member.

Source: Dadgar, Phillips and Currey, "Lifeguard", DSN 2018, section V: there Lifeguard has 1.89 % of SWIM's false positives.
"""

from collections.abc import Callable, Iterator
from random import Random

from meshd.config import MINUTE, MS, S
from meshd.core.events import Effect, Input, Report
from meshd.sim.cluster import Cluster
from meshd.sim.machine import Machine
from tests.bench.figures import Figure
from tests.bench.meshes import known

NODES, SLOW = 32, 4
SLOW_FOR_US = (4_096 * MS, 8_192 * MS, 16_384 * MS)
PAUSES_US = (64 * MS, 1_024 * MS)
RUN_US = 2 * MINUTE


class Slowness:
    """Makes the datagrams of some machines wait. Stands in front of `cluster.network.datagram`."""

    def __init__(self, cluster: Cluster, slow: list[int], slow_us: int, pause_us: int, until_us: int) -> None:
        self._cluster, self._pass = cluster, cluster.network.datagram
        self._free_us: dict[int, int] = {}
        """Slow machine → when what waits there goes on."""
        self._slow_us, self._pause_us, self._until_us = slow_us, pause_us, until_us
        cluster.network.datagram = self.datagram  # type: ignore[method-assign]
        rng = Random(f"{cluster.seed}/slowness")
        for host in slow:
            cluster.clock.after(rng.randrange(slow_us + pause_us), self._begin, host)

    def _begin(self, host: int) -> None:
        now_us = self._cluster.clock.now_us
        if now_us < self._until_us:
            self._free_us[host] = now_us + self._slow_us
            self._cluster.clock.after(self._slow_us + self._pause_us, self._begin, host)

    def datagram(self, source: int, to: int, body: bytes, wire_bytes: int, arrive: Callable[[bytes], None]) -> None:
        """As `Network.datagram`; waits before it leaves and before it is heard."""
        self._when_free(source, self._pass, source, to, body, wire_bytes, lambda b: self._when_free(to, arrive, b))

    def _when_free(self, host: int, call: Callable[..., None], *args: object) -> None:
        clock = self._cluster.clock
        if self._free_us.get(host, 0) > clock.now_us:
            clock.at(self._free_us[host], call, *args)
        else:
            call(*args)


def slow_nodes() -> Iterator[Figure]:
    """False positives of each cell and profile, then the shares of all."""
    sums: dict[str, int] = {}
    for profile in ("swim", "memberlist", "default"):
        for slow_us in SLOW_FOR_US:
            for pause_us in PAUSES_US:
                false = _cell(profile, slow_us, pause_us)
                sums[profile] = sums.get(profile, 0) + false
                where = f"slow {slow_us // MS} ms, pause {pause_us // MS} ms"
                yield Figure(f"false positives, {profile}", where, false)
    where = f"{SLOW} of {NODES} nodes slow"
    for profile, target in (("memberlist", None), ("default", 2.0)):
        share = 100 * sums[profile] / sums["swim"] if sums["swim"] else None
        yield Figure(
            f"of plain SWIM's {sums['swim']}, {profile}", where, None if share is None else round(share, 2), "%", target
        )


def _cell(profile: str, slow_us: int, pause_us: int) -> int:
    cluster = known(1, NODES, 0.0, profile, settle_us=5 * S)
    slow = Random(f"slow/{slow_us}/{pause_us}").sample(range(NODES), SLOW)
    healthy = {machine.node_id for machine in cluster.machines if machine.index not in slow}
    false = 0

    def watch(machine: Machine, input: Input, effects: list[Effect]) -> None:
        nonlocal false
        false += sum(
            isinstance(effect, Report) and effect.kind == "member.dead" and effect.subject in healthy
            for effect in effects
        )

    cluster.watchers.append(watch)
    Slowness(cluster, slow, slow_us, pause_us, cluster.clock.now_us + RUN_US)
    cluster.run_for(RUN_US)
    return false
