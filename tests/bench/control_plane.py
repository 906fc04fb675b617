"""The control plane's numbers, from the simulator: `python -m tests.bench.control_plane [TABLE...]`; `all` for everything.

Tables: detection, heal, reach, bootstrap, idle, slow-nodes, routes, scale, false-dead. Each row stands beside its target. `scale`
takes minutes and gigabytes (--sizes; --plot FILE draws it), `false-dead` hours: it keeps what it has in --state FILE and goes on
from there (--hours, --profile choose a part; with `all` it only prints what the state says). Virtual time: a busy machine makes
it slower, never different.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench import membership, scale
from tests.bench.false_dead import false_dead, kept_figures
from tests.bench.figures import Figure, show
from tests.bench.routes import routes
from tests.bench.slow_nodes import slow_nodes

TABLES: dict[str, Callable[[], Iterator[Figure]]] = {
    "detection": membership.detection, "heal": membership.heal, "reach": membership.reach,
    "bootstrap": membership.bootstrap, "idle": membership.idle, "slow-nodes": slow_nodes, "routes": routes,
}  # fmt: skip


def _scale(sizes: tuple[int, ...], plot: Path | None) -> Iterator[Figure]:
    measured = []
    for row in scale.rows(sizes):
        measured.append(row)
        yield from scale.figures(row)
    if plot is not None:
        plot.write_text(scale.plot(measured))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", help=f"{', '.join(TABLES)}, scale, false-dead, all; default all but scale")
    parser.add_argument("--state", type=Path, help="where false-dead keeps what it has")
    parser.add_argument("--hours", type=float, help="node-hours a cell of false-dead, instead of the target's")
    parser.add_argument("--jobs", type=int, default=1, help="processes for false-dead, a seed each")
    parser.add_argument("--profile", action="append", help="for false-dead; may be given twice to compare")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(scale.SIZES), help="nodes, for scale")
    parser.add_argument("--powered-on", type=int, nargs="+", help="nodes, for bootstrap")
    parser.add_argument("--plot", type=Path, help="write scale's figures as SVG")
    given = parser.parse_args()
    tables = dict(TABLES)
    if given.powered_on:
        tables["bootstrap"] = lambda: membership.bootstrap(tuple(given.powered_on))
    tables["scale"] = lambda: _scale(tuple(given.sizes), given.plot)
    tables["false-dead"] = lambda: false_dead(given.state, given.hours, given.profile or ["default"], given.jobs)
    everything = given.tables == ["all"]
    if everything and given.state is not None:
        tables["false-dead"] = lambda: kept_figures(given.state)
    names = given.tables or list(TABLES)
    if everything:
        names = [name for name in tables if name != "false-dead" or given.state is not None]
    missed = []
    for name in names:
        began = time.monotonic()
        print(f"\n{name}")
        missed += [f for f in show(tables[name]()) if f.verdict == "MISSED"]
        print(f"({time.monotonic() - began:.0f} s)")
    print(f"\n{len(missed)} targets missed" if missed else "\nevery target met")
    return 0


if __name__ == "__main__":
    sys.exit(main())
