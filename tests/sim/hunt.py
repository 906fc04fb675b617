"""A long hunt: random meshes under random faults, until the time is up. A run that breaks an invariant is printed as a command.

    python -m tests.sim.hunt --minutes 30 --first 1 [--append FILE]

Seed `n` draws the size, the faults and the deployments of run `n`, so a hunt goes on where another ended.
"""

import argparse
import time
from random import Random

from meshd.sim.faults import FAULTS, NEED_DEPLOYMENTS
from meshd.sim.run import Options, run

SIZES = (2, 3, 5, 8, 16)


def options(seed: int) -> Options:
    """What run `seed` is."""
    rng = Random(f"hunt/{seed}")
    nodes = rng.choice(SIZES)
    deployments = rng.choice((0, 1, 1, 2, 3))
    names = [name for name in FAULTS if deployments or name not in NEED_DEPLOYMENTS]
    every = rng.random() < 0.04
    chosen = names if every else rng.sample(names, rng.randrange(1, 7))
    numbers = {"crash": rng.choice((1.0, 2.0, 4.0)), "loss": rng.choice((0.05, 0.1, 0.2))}
    faults = {name: numbers.get(name, 0.0) for name in chosen}
    return Options(nodes, rng.choice((0.5, 1.0, 2.0)), seed, faults, deployments=deployments)


def main() -> None:
    """Hunt."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--append", default="/dev/stdout")
    arguments = parser.parse_args()
    ends, seed, broken, hours = time.monotonic() + 60 * arguments.minutes, arguments.first, 0, 0.0
    while time.monotonic() < ends:
        chosen = options(seed)
        try:
            outcome = run(chosen)
            words, hours = "; ".join(outcome.broken), hours + outcome.meter.node_us / 3.6e9
        except Exception as error:  # noqa: BLE001 - a bug of any kind is what is hunted
            words = f"{type(error).__name__}: {error}"
        if words:
            broken += 1
            with open(arguments.append, "a") as file:
                file.write(f"{words}\n  {chosen.command()}\n")
        seed += 1
    runs = seed - arguments.first
    bound = f"{broken} broke" if broken else f"none broke: under {3 / max(1, runs):.2g} a run"
    print(f"seeds {arguments.first} to {seed - 1}: {runs} runs, {hours:.1f} simulated node-hours, {bound}")


if __name__ == "__main__":
    main()
