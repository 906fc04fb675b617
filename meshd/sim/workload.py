"""Deployments on a simulated mesh: boards that offer memory and speed, models that one board alone cannot hold.

Rule: the models lie on a few disks at the start, as if pushed; everything after that is the mesh's doing.
"""

import hashlib
from functools import partial
from random import Random

from meshd.config import MIB, S
from meshd.core import events
from meshd.core.ids import Digest, NodeId
from meshd.core.placement import solve
from meshd.core.plan import LayerCost, Policy
from meshd.core.view import Capacity, Hold, Served
from meshd.sim.cluster import Cluster
from meshd.sim.machine import Machine

LAYERS = 12
LAYER_BYTES = 10 * MIB
WORK = 400_000
"""Multiply-accumulates a layer: 0.2 to 0.8 ms on the boards there are, so that they keep up with the requests."""
CROSSING_BYTES = 20_000
"""Of the input, and of what crosses each cut: 20 requests a second fit through 5 Mbit/s."""
RATES = (500_000_000, 1_000_000_000, 2_000_000_000)
PUSHED_TO = 2


class Workload:
    """`count` deployments on `cluster`; call `prepare` before machines start, `deploy` once they know each other."""

    def __init__(self, cluster: Cluster, count: int) -> None:
        self.cluster, self.names = cluster, [f"model-{n}" for n in range(count)]
        self._rng = Random(f"{cluster.seed}/workload")

    def model(self, name: str) -> Digest:
        """The digest that stands for a model."""
        return Digest(hashlib.sha256(name.encode()).hexdigest())

    def prepare(self) -> None:
        """Give every machine its measure, and some the models."""
        for machine in self.cluster.machines:
            # Room for two thirds of one model, and as much for each further deployment a node has to share in; in a mesh
            # of few for half again what two copies of everything take. From three on whole models lie side by side: a repair
            # cuts nothing anew, and what is left over in pieces would fit no copy.
            names, nodes = len(self.names), len(self.cluster.machines)
            memory = LAYERS * LAYER_BYTES * max(nodes * (2 + names), 9 * names) // (3 * nodes)
            if names >= 3:
                memory = max(memory, LAYERS * LAYER_BYTES * 3 * -(-2 * names // nodes) // 2)
            rates = (("dense", self._rng.choice(RATES)),)
            machine.shelf.capacity = Capacity(memory, memory, rates, host=f"host-{machine.index}")
            machine.shelf.solve = solve
            machine.shelf.measured_us = partial(_measured_us, rates)
        for n, name in enumerate(self.names):
            for k in range(PUSHED_TO):
                self.cluster.machines[(n + k) % len(self.cluster.machines)].shelf.models.add(self.model(name))

    def deploy(self) -> None:
        """Ask for all of them, each at a node that is up."""
        for name in self.names:
            self._deploy(name, self._rng.choice(self.cluster.up), Policy())

    def deploy_again(self, rng: Random, machine: Machine | None = None, name: str | None = None) -> bool:
        """Ask for one in another shape, at some node; False if none is up."""
        up = self.cluster.up
        if machine is None and up:
            machine = up[rng.randrange(len(up))]
        if machine is None or not machine.up:
            return False
        name = name or self.names[rng.randrange(len(self.names))]
        self._deploy(name, machine, Policy(segments_min=rng.randrange(1, 5)))
        return True

    def _deploy(self, name: str, machine: Machine, policy: Policy) -> None:
        layers = (LayerCost((("dense", WORK),), LAYER_BYTES, LAYER_BYTES, CROSSING_BYTES),) * LAYERS
        crossings = ((("t", "float32"),),) * (LAYERS - 1)
        machine.operate(events.Deploy(name, self.model(name), layers, crossings, CROSSING_BYTES, policy))

    # ------------------------------------------------------------ knowing

    def served(self, machine: Machine, name: str) -> Served | None:
        """A deployment in a machine's view."""
        return None if machine.view is None else machine.view.deployments.get(name)

    def holders(self, name: str, index: int, plan: Digest) -> list[NodeId]:
        """Machines that are up and really hold a segment."""
        found = []
        for machine in self.cluster.up:
            assert machine.node is not None
            for holding in machine.node.intent.holdings():
                if (holding.segment.plan, holding.segment.index) == (plan, index) and holding.state is Hold.READY:
                    found.append(machine.node_id)
        return found

    def wanting(self) -> tuple[str, str] | None:
        """What keeps the deployments from rest: the invariant, and why; None if all agree and each segment has its copies."""
        for name in self.names:
            if (why := self._wanting(name)) is not None:
                return why
        return None

    def _wanting(self, name: str) -> tuple[str, str] | None:
        views = [(machine.index, self.served(machine, name)) for machine in self.cluster.up]
        known = [(index, view) for index, view in views if view is not None]
        if len(known) < len(views):
            index = next(index for index, view in views if view is None)
            return "R5", f"node {index} does not know {name}"
        at, first = known[0]
        for index, view in known[1:]:
            if (view.record, view.generation) != (first.record, first.generation):
                return "R5", f"nodes {at} and {index} have different records of {name}"
        for index, view in known[1:]:
            if view.target != first.target:
                return "P7", f"nodes {at} and {index} have different targets for {name}"
        for index, view in known:
            if view.plan is None:
                return "P5", f"node {index} has no plan that serves {name}: {view.problem or 'no reason given'}"
            if view.target != view.plan:
                return "P5", f"node {index} serves {name} by another plan than its target"
        assert first.plan is not None
        copies = min(first.policy.replicas, len(self.cluster.up))
        for index in range(len(first.plan.segments)):
            if len(self.holders(name, index, first.plan.plan_digest)) < copies:
                return "P5", f"segment {index} of {name} has fewer than {copies} copies"
        for index, view in known[1:]:
            if [nodes[0] for nodes in view.candidates] != [nodes[0] for nodes in first.candidates]:
                return "E3", f"nodes {at} and {index} see different owners of {name}"
        return None


REST_US = 200 * S
"""After the faults: a failed load's patience (70 s and more), twice, and the way to a plan."""


def _measured_us(rates: tuple[tuple[str, int], ...], load: events.Load) -> int:
    """What one item takes on a board, as measured when the segment was warmed."""
    span = load.plan.segments[load.segment.index]
    return max(1, (span.end - span.start) * WORK * 1_000_000 // dict(rates)["dense"])
