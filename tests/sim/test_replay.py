"""One seed, one history: byte for byte, in any process."""

import os
import subprocess
import sys
from pathlib import Path

from meshd.config import S
from meshd.sim.cluster import Cluster
from meshd.sim.network import Weather

PROGRAM = """
from tests.sim.test_replay import history
print(history(11))
"""


def history(seed: int) -> str:
    cluster = Cluster(seed, 5, weather=Weather(loss=0.1, tail=0.02, duplicates=0.02))
    cluster.start()
    cluster.run_for(5 * S)
    cluster.crash(4)
    cluster.run_for(8 * S)
    cluster.restart(4)
    cluster.run_for(5 * S)
    return cluster.trace.digest()


def test_the_same_seed_gives_the_same_history_under_any_hash_seed() -> None:
    root = Path(__file__).resolve().parents[2]
    hashes = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM], cwd=root, env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True, text=True, check=True,
        ).stdout.strip()
        for hash_seed in ("0", "1", "4242")
    }  # fmt: skip
    assert hashes == {history(11)}


def test_another_seed_gives_another_history() -> None:
    assert history(1) != history(2)
