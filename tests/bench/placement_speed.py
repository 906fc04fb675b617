"""Time the solver takes for 32 cuts on 64 nodes, all alike, of four kinds, and all different.

python -m tests.bench.placement_speed
"""

import time
from random import Random

from meshd.core.ids import NodeId
from meshd.core.placement import Infeasible, Problem, Site, solve
from meshd.core.plan import Objective

LAYERS = 33
NODES = 64


def problem(seed: int, kinds: int, objective: Objective, room: float = 0.3, replicas: int = 2) -> Problem:
    """A mesh of 64 nodes, of which each holds about `room` of the model."""
    rng = Random(seed)
    memory = tuple(rng.randrange(1 << 20, 16 << 20) for _ in range(LAYERS))
    work = [rng.randrange(1_000, 50_000) for _ in range(LAYERS)]
    boards = []
    for _ in range(kinds):
        slow = rng.uniform(1, 5)
        boards.append(
            {
                "layer_us": tuple(int(w * slow * rng.uniform(0.9, 1.1)) for w in work),
                "memory_bytes": int(sum(memory) * room * rng.uniform(0.5, 1.5)),
                "bandwidth_bps": rng.choice((10_000_000, 100_000_000, 1_000_000_000)),
                "milliwatts": rng.choice((3_000, 5_000, 20_000)),
                "rtt_us": rng.choice((200, 500, 2_000)),
            }
        )
    sites = tuple(Site(NodeId(f"n{i:02}"), **boards[i % kinds]) for i in range(NODES))
    crossing = tuple(rng.choice((10_000, 50_000, 200_000)) for _ in range(LAYERS + 1))
    return Problem(memory, crossing, sites, objective, replicas, move_bytes=memory)


def main() -> None:
    """Print a line an objective and number of kinds."""
    for objective in Objective:
        for kinds in (1, 4, 16, 64):
            for room in (0.2, 0.4, 1.5):
                took, short = [], 0
                for seed in range(8):
                    asked = problem(seed, kinds, objective, room)
                    start = time.thread_time()
                    found = solve(asked)
                    took.append(1e3 * (time.thread_time() - start))
                    short += isinstance(found, Infeasible) or found.copies_short > 0
                took.sort()
                print(
                    f"{objective.value:10} kinds {kinds:2} room {room:4}: median {took[4]:6.1f} ms, worst {took[-1]:6.1f} ms,"
                    f" copies short {short}"
                )


if __name__ == "__main__":
    main()
