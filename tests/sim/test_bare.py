"""A bare machine's node lives the same history as a whole one's."""

import hashlib

import pytest

from meshd.config import S
from meshd.core.events import Effect, Input
from meshd.sim.bare import Bare
from meshd.sim.cluster import Cluster
from meshd.sim.machine import Machine
from meshd.sim.network import Weather


def _history(machine: type[Machine], nodes: int, loss: float) -> tuple[str, int]:
    """A hash of every input of every node with its time, and their number."""
    cluster = Cluster(5, nodes, weather=Weather(loss=loss), kind=machine)
    heard, count = hashlib.blake2b(), 0

    def watch(machine: Machine, input: Input, effects: list[Effect]) -> None:
        nonlocal count
        count += 1
        heard.update(f"{cluster.clock.now_us} {machine.index} {input!r}".encode())

    cluster.watchers.append(watch)
    cluster.start()
    cluster.run_for(20 * S)
    cluster.crash(1)
    cluster.run_for(8 * S)
    cluster.restart(1)
    cluster.run_for(15 * S)
    return heard.hexdigest(), count


@pytest.mark.parametrize("loss", [0.0, 0.3])
@pytest.mark.parametrize("nodes", [2, 8])
def test_every_node_hears_the_same_at_the_same_moment(nodes: int, loss: float) -> None:
    assert _history(Bare, nodes, loss) == _history(Machine, nodes, loss)
