"""Living members declared DEAD, nobody crashing: how often, by loss, size and profile; hours long, and resumable.

Whole nodes; datagrams carried as values (`sim.bare`: the same history at half the cost); no checkers. A death is a subject in one
boot and incarnation, however many hear of it; it counts from the first second of a run, as its node-hours do.
"""

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from meshd.config import MINUTE
from tests.bench.figures import Figure
from tests.bench.meshes import met

RUN_US = 30 * MINUTE
"""Virtual time a seed: the first minute, in which all is news, costs as much as the next five."""
SEEDS_KEPT = 20
NODES = (2, 3, 8, 64)


def false_dead(state: Path | None, hours: float | None, profiles: list[str], jobs: int = 1) -> Iterator[Figure]:
    """One figure a cell: the most there may be in an hour (95 %), with the count and the hours it rests on.

    `state` keeps the counts after every seed; a run that is stopped goes on from there. A target is met once no false death was
    seen in the hours asked for: the bound is then three over them.
    """
    kept = json.loads(state.read_text()) if state is not None and state.exists() else {}
    with ProcessPoolExecutor(jobs) as pool:
        for profile, loss, wanted in _cells(profiles):
            for nodes in NODES:
                cell = kept.setdefault(f"{profile} {nodes} {loss}", {"seed": 0, "hours": 0.0, "false": 0, "seeds": []})
                while cell["hours"] < (hours or wanted):
                    seeds = range(cell["seed"], cell["seed"] + jobs)
                    for seed, (ran, false) in zip(
                        seeds, pool.map(partial(_run, nodes, loss, profile), seeds), strict=True
                    ):
                        cell["seed"], cell["hours"], cell["false"] = (
                            seed + 1,
                            cell["hours"] + ran,
                            cell["false"] + false,
                        )
                        if false:
                            cell["seeds"] = [*cell["seeds"], seed][:SEEDS_KEPT]
                    if state is not None:
                        fresh = state.with_suffix(".new")
                        fresh.write_text(json.dumps(kept, indent=1))
                        fresh.replace(state)
                yield _figure(profile, nodes, loss, cell, wanted)


def _run(nodes: int, loss: float, profile: str, seed: int) -> tuple[float, int]:
    """One seed: node-hours, false deaths."""
    cluster, meter = met(seed, nodes, loss, profile)
    cluster.run_for(RUN_US)
    return meter.node_us / 3.6e9, meter.false_dead


def kept_figures(state: Path) -> Iterator[Figure]:
    """What a state file says, without running anything."""
    for key, cell in json.loads(state.read_text()).items():
        profile, nodes, loss = key.split()
        if cell["hours"]:
            yield _figure(profile, int(nodes), float(loss), cell, _wanted(profile, float(loss)))


def _figure(profile: str, nodes: int, loss: float, cell: dict[str, float], wanted: float) -> Figure:
    if profile == "default" and cell["seeds"]:
        print(f"false DEAD: {nodes} nodes, loss {loss}, seeds {cell['seeds']}", file=sys.stderr)
    return Figure(
        f"false DEAD, {profile}: {cell['false']} in {cell['hours']:.0f} h", f"{nodes} nodes, loss {loss}",
        float(f"{_at_most(int(cell['false'])) / cell['hours']:.3g}"), "/h, at most",
        float(f"{3 / wanted:.3g}") if profile == "default" else None,
    )  # fmt: skip


def _cells(profiles: list[str]) -> list[tuple[str, float, float]]:
    """(profile, loss, node-hours), the short ones first."""
    cells = [(profile, loss, _wanted(profile, loss)) for loss in (0.2, 0.3, 0.1) for profile in profiles]
    return sorted(cells, key=lambda cell: cell[2])


def _wanted(profile: str, loss: float) -> float:
    """A baseline's rate is no target: it needs no 3,000 hours."""
    return 3_000.0 if loss == 0.1 and profile == "default" else 300.0


def _at_most(seen: int) -> float:
    """Of what was seen `seen` times, how many there may have been (95 %, one-sided): three where nothing was seen."""
    return 3.0 if not seen else seen + 2 * seen**0.5 + 2
