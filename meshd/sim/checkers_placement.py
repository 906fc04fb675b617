"""Invariants P6, P8 and E7, which need the truth about the whole mesh: when it last changed, and who really holds what."""

from collections import Counter

from meshd.config import MINUTE, S
from meshd.core.events import Effect, Input, Loaded, Measured, Operate, Report, Solve, Solved, Token, Unload
from meshd.core.ids import SegmentId
from meshd.core.placement import Problem, Solution
from meshd.core.placement_cost import MOVE_BYTES_PER_US
from meshd.core.plan import Objective, Plan
from meshd.sim.checkers import BrokenError
from meshd.sim.cluster import Cluster
from meshd.sim.machine import Machine

Life = tuple[int, int]
LOOK_US = 1 * S
SETTLED_US = 30 * S
"""What changed that long ago everybody knows of: a death (20 s at the worst), and one round of anti-entropy."""
STILL_US = 30 * MINUTE


class PlacementCheckers:
    """Add `check` to `cluster.watchers` and call `start`."""

    def __init__(self, cluster: Cluster) -> None:
        self.checked: Counter[str] = Counter()
        self._cluster = cluster
        self._state: tuple[object, ...] = ()
        self._changed_us = 0
        """When anything last went wrong, or right."""
        self._moved_us: dict[str, int] = {}
        """Deployment → when something of it was last moved for the better, and nothing has changed since."""
        self._problems: dict[tuple[Life, Token], Problem] = {}
        self._held: dict[Life, dict[SegmentId, int]] = {}
        """What a life of a machine holds READY, and since when."""
        self._plans: dict[tuple[Life, str], Plan] = {}
        """The plan by which a life of a machine last served a deployment."""

    def start(self) -> None:
        """Begin to look, once a second."""
        self._cluster.clock.after(LOOK_US, self._look)

    def check(self, machine: Machine, input: Input, effects: list[Effect]) -> None:
        """After one step of one node."""
        life, now_us = (machine.index, machine.life), self._cluster.clock.now_us
        match input:
            case Loaded(segment):
                self._held.setdefault(life, {})[segment] = now_us
            case Solved(token, solution):
                problem = self._problems.pop((life, token), None)
                if problem is not None and isinstance(solution, Solution):
                    self._check_cost(machine, problem, solution)
            case Operate() | Measured():
                self._changed_us = now_us
        for effect in effects:
            match effect:
                case Unload(segment):
                    self._held.get(life, {}).pop(segment, None)
                case Solve(token, problem):
                    self._problems[life, token] = problem
                case Report("plan.agreed", name, detail):
                    self._check_move(machine, name, str(detail["reason"]))

    # ------------------------------------------------------------ P6

    def _check_move(self, machine: Machine, name: str, reason: str) -> None:
        now_us = self._cluster.clock.now_us
        self.checked["P6"] += 1
        if reason != "optimise":
            self._changed_us = now_us
            return
        before_us = self._moved_us.get(name)
        if before_us is not None and before_us > self._changed_us and now_us - before_us < STILL_US:
            raise BrokenError(
                "P6", machine, f"{name} is moved again {(now_us - before_us) // S} s after it was bettered"
            )
        self._moved_us[name] = now_us

    # ------------------------------------------------------------ P8

    def _check_cost(self, machine: Machine, problem: Problem, solution: Solution) -> None:
        """By its definition, apart from the solver: all layers on one node, for the objective of latency."""
        wanted = min(problem.replicas, len(problem.sites))
        able = [site for site in problem.sites if site.memory_bytes >= sum(problem.memory_bytes)]
        if problem.kept or problem.segments_min > 1 or problem.objective is not Objective.LATENCY or len(able) < wanted:
            return
        costs = []
        for site in able:
            held = {at for start, end in site.held for at in range(start, end)}
            bytes_ = () if site.on_disk else problem.move_bytes
            moved = sum(size for at, size in enumerate(bytes_) if at not in held)
            costs.append(sum(site.layer_us) + moved // MOVE_BYTES_PER_US)
        if solution.cost > min(costs):
            raise BrokenError("P8", machine, f"a plan costs {solution.cost}, all on one node {min(costs)}")
        self.checked["P8"] += 1

    # ------------------------------------------------------------ E7

    def _look(self) -> None:
        cluster, network = self._cluster, self._cluster.network
        cluster.clock.after(LOOK_US, self._look)
        up = [machine for machine in cluster.machines if machine.up]
        lives = {(machine.index, machine.life) for machine in up}
        self._held = {life: held for life, held in self._held.items() if life in lives}
        self._plans = {key: plan for key, plan in self._plans.items() if key[0] in lives}
        self._problems = {key: problem for key, problem in self._problems.items() if key[0] in lives}
        unwell = (network.unwell(), tuple(cluster.links.clogged), sum(extra.up for extra in cluster.extras))
        state = (
            tuple((m.index, m.life, m.stalled, m.timers_stalled) for m in up), network.sides(), unwell,
        )  # fmt: skip
        if state != self._state:
            self._state, self._changed_us = state, cluster.clock.now_us
        settled = cluster.clock.now_us - self._changed_us >= SETTLED_US and unwell == ((), (), 0)
        for machine in up:
            if machine.view is not None and not machine.stalled and not machine.timers_stalled:
                self._check_part(machine, settled)

    def _check_part(self, machine: Machine, settled: bool) -> None:
        assert machine.view is not None
        cluster, life = self._cluster, (machine.index, machine.life)
        for name, served in machine.view.deployments.items():
            if served.plan is not None:
                self._plans[life, name] = served.plan
            plan = self._plans.get((life, name))
            if plan is None or not settled or served.generation != plan.generation:
                continue
            part = [m for m in cluster.up if m is machine or cluster.connected(m, machine)]
            if not all(self._holds(part, SegmentId(plan.plan_digest, at)) for at in range(len(plan.segments))):
                continue
            self.checked["E7"] += 1
            if served.plan is None:
                words = f"{name} is held READY by nodes it is connected to, and not served"
                raise BrokenError("E7", machine, words)

    def _holds(self, part: list[Machine], segment: SegmentId) -> bool:
        before_us = self._cluster.clock.now_us - SETTLED_US
        return any(self._held.get((m.index, m.life), {}).get(segment, before_us + 1) <= before_us for m in part)
