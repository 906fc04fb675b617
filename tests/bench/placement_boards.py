"""Random clusters of published boards: 2 to 16, at most four kinds, throttled and starved ones among them.

Profiles: PipeEdge (usc-isi/PipeEdge, README_Scheduler.md, BSD-3-Clause), two boards and two vision transformers at batch 8.
"""

import json
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from meshd.core.ids import NodeId
from meshd.core.placement import Problem, Site
from meshd.core.plan import Objective

BATCH = 8
MB = 1_000_000
LINKS_BPS = (5_000_000, 10_000_000, 25_000_000, 50_000_000, 100_000_000, 300_000_000, 1_000_000_000)


@cache
def profiles() -> Any:
    """The published file."""
    return json.loads((Path(__file__).parent / "data" / "pipeedge_profiles.json").read_text())


def cluster(seed: int, objective: Objective = Objective.THROUGHPUT) -> Problem:
    """One random cluster and model, as `meshd plan` would be asked about it."""
    rng = Random(seed)
    data = profiles()
    model = rng.choice(sorted(data["models"]))
    shape = data["models"][model]
    kinds = []
    for _n in range(rng.randint(1, 4)):
        board = data["devices"][rng.choice(sorted(data["devices"]))]
        throttle = rng.choice((1.0, 1.0, 1.5, 2.0, 4.0))
        starve = rng.choice((1.0, 1.0, 0.5, 0.25, 0.125))
        times = board["model_profiles"][model][0]["time_s"]
        kinds.append(
            {
                "layer_us": tuple(max(1, round(t * throttle * 1e6)) for t in times),
                "memory_bytes": int(board["mem_MB"] * starve * MB),
                "bandwidth_bps": rng.choice(LINKS_BPS),
                "milliwatts": rng.choice((3_000, 5_000, 8_000, 20_000)),
            }
        )
    sites = tuple(Site(NodeId(f"n{i:02}"), **rng.choice(kinds)) for i in range(rng.randint(2, 16)))
    crossing = (shape["parameters_in"], *shape["parameters_out"])
    return Problem(
        memory_bytes=tuple(round(m * MB) for m in shape["mem_MB"]),
        crossing_bytes=tuple(4 * n * BATCH for n in crossing),
        sites=sites,
        objective=objective,
        activation_copies=3,
    )
