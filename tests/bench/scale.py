"""What size costs: `python -m tests.bench.scale NODES` for one size, a JSON line; the table `scale` of `control_plane` for all.

A mesh in which everybody knows all (`core.known`), idle; then some speak anew and a few crash. Measured: memory a node (datagrams
are values there, `sim.bare`), gossip ticks until a rumour reached all, time until the first suspects a crashed node and until all
hold it dead.
Each size in a process of its own: memory is what that process took.
"""

import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

from meshd.config import MS, S
from meshd.core.events import Effect, Input, Publish, Report, Sighted
from meshd.core.ids import NodeId
from meshd.sim.bare import Bare
from meshd.sim.cluster import Cluster
from meshd.sim.machine import Machine
from meshd.sim.meter import quantile
from tests.bench.figures import Figure

SIZES = (100, 1_000, 2_000, 10_000)
CRASHES, SPEAKERS = 4, 3
IDLE_US = 1 * S
DEAD_WITHIN_US = 60 * S


@dataclass(slots=True)
class Watch:
    """Counts who heard what, from effects alone: looking into 10,000 views would take longer than the run."""

    cluster: Cluster
    told_us: dict[NodeId, int] = field(default_factory=dict)
    incarnations: dict[NodeId, int] = field(default_factory=dict)
    know: dict[NodeId, set[int]] = field(default_factory=dict)
    """Speaker → machines that know its new incarnation."""
    reached_us: dict[NodeId, int] = field(default_factory=dict)
    crashed_us: dict[NodeId, int] = field(default_factory=dict)
    suspect_us: dict[NodeId, int] = field(default_factory=dict)
    dead_at: dict[NodeId, set[int]] = field(default_factory=dict)
    dead_all_us: dict[NodeId, int] = field(default_factory=dict)
    others: int = 0
    """Reports of members that neither crashed nor spoke."""

    def speak(self, machine: Machine) -> None:
        """One machine raises its incarnation, as if it had been accused, and gossips it."""
        self.told_us[machine.node_id] = self.cluster.clock.now_us
        self.know[machine.node_id] = {machine.index}
        self.incarnations[machine.node_id] = raise_incarnation(machine)

    def crash(self, machine: Machine) -> None:
        """One machine loses power."""
        self.crashed_us[machine.node_id] = self.cluster.clock.now_us
        self.dead_at[machine.node_id] = set()
        self.cluster.crash(machine.index)

    def watch(self, machine: Machine, input: Input, effects: list[Effect]) -> None:
        """After each step."""
        now_us = self.cluster.clock.now_us
        for effect in effects:
            if isinstance(effect, Publish):
                for node, incarnation in self.incarnations.items():
                    if node in self.reached_us or effect.view.members[node].incarnation < incarnation:
                        continue
                    self.know[node].add(machine.index)
                    if len(self.know[node]) == len(self.cluster.machines) - len(self.crashed_us):
                        self.reached_us[node] = now_us - self.told_us[node]
            elif isinstance(effect, Report) and effect.kind in {"member.suspect", "member.dead"}:
                self._heard(machine, NodeId(effect.subject), effect.kind == "member.dead")

    def _heard(self, machine: Machine, node: NodeId, dead: bool) -> None:
        if node not in self.crashed_us:
            self.others += 1
            return
        passed_us = self.cluster.clock.now_us - self.crashed_us[node]
        self.suspect_us.setdefault(node, passed_us)
        if dead:
            self.dead_at[node].add(machine.index)
            if len(self.dead_at[node]) == len(self.cluster.machines) - len(self.crashed_us):
                self.dead_all_us[node] = passed_us


def raise_incarnation(machine: Machine) -> int:
    """Let one machine refute an accusation nobody made, and gossip that; its new incarnation."""
    assert machine.node is not None
    machine.node.swim._refute(0)
    machine.give(Sighted(machine.address, machine.node_id))
    return machine.node.context.incarnation


def measure(nodes: int) -> dict[str, float]:
    """One size."""
    began_s, before = time.process_time(), _resident_bytes()
    cluster = Cluster(1, nodes, mdns=False, kind=Bare)
    cluster.start_known()
    known_bytes = _resident_bytes() - before
    watch = Watch(cluster)
    cluster.watchers.append(watch.watch)
    cluster.run_for(IDLE_US)
    for i in range(SPEAKERS):
        watch.speak(cluster.machines[i * nodes // SPEAKERS + 1])
    cluster.run_until(lambda: len(watch.reached_us) == SPEAKERS, within_us=20 * S, every_us=50 * MS)
    for i in range(CRASHES):
        watch.crash(cluster.machines[i * nodes // CRASHES])
        cluster.run_for(137 * MS)
    cluster.run_until(lambda: len(watch.dead_all_us) == CRASHES, within_us=DEAD_WITHIN_US, every_us=100 * MS)
    ticks = sorted(us / cluster.timers.gossip_period_us for us in watch.reached_us.values())
    return {
        "nodes": nodes,
        "known_kb": round(known_bytes / nodes / 1024),
        "resident_kb": round((_resident_bytes() - before) / nodes / 1024),
        "resident_gb": round((_resident_bytes() - before) / 1e9, 2),
        "ticks": round(ticks[-1], 1),
        "suspect_s": round((quantile(list(watch.suspect_us.values()), 0.5) or 0) / S, 2),
        "suspect_max_s": round(max(watch.suspect_us.values()) / S, 2),
        "dead_s": round(max(watch.dead_all_us.values()) / S, 2),
        "false": watch.others,
        "events": cluster.clock.events,
        "virtual_s": round(cluster.clock.now_us / S, 1),
        "cpu_s": round(time.process_time() - began_s),
    }


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4_096


def rows(sizes: tuple[int, ...] = SIZES) -> Iterator[dict[str, float]]:
    """Every size, each in its own process."""
    for nodes in sizes:
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.scale", str(nodes)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{nodes} nodes: {done.stderr[-2_000:]}")
        yield json.loads(done.stdout)


def figures(row: dict[str, float]) -> Iterator[Figure]:
    """One size's row as figures beside their targets."""
    nodes, where = int(row["nodes"]), f"{row['nodes']:,} nodes"
    yield Figure("memory, one node", where, row["resident_kb"], "KiB", None)
    yield Figure("memory, all", where, row["resident_gb"], "GB", 8.0)
    yield Figure("rumour reaches all, worst", where, row["ticks"], "ticks", 7 if nodes <= 64 else 13, SPEAKERS)
    yield Figure("first SUSPECT p50", where, row["suspect_s"], "s", None, CRASHES)
    yield Figure("DEAD everywhere, worst", where, row["dead_s"], "s", 11 if nodes <= 64 else 23, CRASHES)
    yield Figure("held dead or suspect, and alive", where, row["false"], "", 0)
    yield Figure("events simulated", where, row["events"], "", None)
    yield Figure("processor time", where, row["cpu_s"], "s", None)


WIDTH, HEIGHT, MARGIN = 260, 220, 44
PANELS = (("resident_kb", "KiB a node"), ("dead_s", "s until dead everywhere"), ("ticks", "ticks until all know"))


def plot(measured: list[dict[str, float]]) -> str:
    """An SVG: memory, detection and convergence against the number of nodes (logarithmic)."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH * len(PANELS)}" height="{HEIGHT}"'
        ' font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    low, high = (math.log10(measured[i]["nodes"]) for i in (0, -1))
    for panel, (key, title) in enumerate(PANELS):
        left, top = panel * WIDTH + MARGIN, MARGIN // 2
        wide, tall = WIDTH - MARGIN - 16, HEIGHT - MARGIN - top
        most = max(row[key] for row in measured) * 1.15
        at = [
            (left + (math.log10(row["nodes"]) - low) / ((high - low) or 1) * wide, top + (1 - row[key] / most) * tall)
            for row in measured
        ]
        lines.append(f'<path d="M{left} {top}V{top + tall}H{left + wide}" fill="none" stroke="#888"/>')
        lines.append(f'<text x="{left}" y="{top - 8}">{escape(title)}</text>')
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        lines.append(f'<polyline points="{points}" fill="none" stroke="#27c"/>')
        for (x, y), row in zip(at, measured, strict=True):
            lines.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#27c"/>')
            lines.append(f'<text x="{x:.1f}" y="{y - 7:.1f}" text-anchor="middle">{row[key]:g}</text>')
            lines.append(f'<text x="{x:.1f}" y="{top + tall + 15}" text-anchor="middle">{row["nodes"]:,.0f}</text>')
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
