"""One run: a calm start, a faulty phase with the safety invariants checked after every step, then calm and the liveness ones.

As TigerBeetle's VOPR: whatever the faults were, once they stop for a while everybody is alive everywhere (M7), who is off is
dead everywhere (M6), and all know the same (M8).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from meshd.config import MINUTE, PROFILES, S, Timers
from meshd.core.view import State
from meshd.errors import MisuseError
from meshd.sim.checkers import BrokenError, Checkers
from meshd.sim.checkers_intent import IntentCheckers
from meshd.sim.checkers_placement import PlacementCheckers
from meshd.sim.checkers_registry import RegistryCheckers
from meshd.sim.cluster import Cluster
from meshd.sim.faults import FAULTS, NEED_DEPLOYMENTS, Course
from meshd.sim.meter import Meter
from meshd.sim.plane import Planes
from meshd.sim.requests import Requests
from meshd.sim.stopwatch import Stopwatch
from meshd.sim.workload import REST_US, Workload

DEPLOYMENTS_SIMULATED_MAX = 64
CALM_US = 60 * S
"""After the faults: by then nobody live is suspect anywhere (M7)."""
YOUNG_US, IDLE_US = 15 * S, 15 * S
"""A young mesh syncs more often; what an idle one sends is measured after that, over one round of anti-entropy."""
TRAFFIC_CALM_US = 10 * S
"""Before the faults requests run this long undisturbed: what faults add is measured from that."""
SETTLE_US = 60 * S
"""After that: by then all digests are equal (M8), by anti-entropy at the latest."""
SHORTEST_MINUTES = 0.1
"""A faulty phase is not shrunk further."""


@dataclass(frozen=True, slots=True)
class Options:
    """What to simulate."""

    nodes: int
    minutes: float = 1.0
    seed: int = 1
    faults: Mapping[str, float] = field(default_factory=dict)
    """Name → its number, 0 where it takes none."""
    profile: str = "default"
    deployments: int = 0
    quiet_minutes: float = 0.0
    """Of rest afterwards, in which nothing may be moved twice (P6)."""
    timers: Timers | None = None
    """Instead of a profile's: tests shorten what takes a day."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.faults) - set(FAULTS))
        if unknown:
            raise MisuseError(f"no fault is called {unknown[0]}; there are {', '.join(sorted(FAULTS))}")
        idle = [name for name in NEED_DEPLOYMENTS if name in self.faults]
        if idle and not self.deployments:
            raise MisuseError(f"the fault {idle[0]} strikes deployments: give --deployments 1 or more")
        if self.profile not in PROFILES:
            raise MisuseError(f"no profile is called {self.profile}; there are {', '.join(sorted(PROFILES))}")
        if not 2 <= self.nodes <= 10_000:
            raise MisuseError(f"a mesh of {self.nodes} nodes cannot be simulated; 2 to 10,000 can")
        if not 0 <= self.deployments <= DEPLOYMENTS_SIMULATED_MAX:
            raise MisuseError(f"{self.deployments} deployments; 0 to {DEPLOYMENTS_SIMULATED_MAX} can be simulated")
        if not 0 <= self.quiet_minutes <= 7 * 24 * 60:
            raise MisuseError(f"{self.quiet_minutes} quiet minutes is not between 0 and a week")
        if not 0 < self.minutes <= 7 * 24 * 60:
            raise MisuseError(f"{self.minutes} minutes is not between 0 and a week")

    def command(self) -> str:
        """What replays this run."""
        faults = ",".join(f"{name}={value:g}" if value else name for name, value in self.faults.items())
        words = f"meshd sim --nodes {self.nodes} --minutes {self.minutes:g} --seed {self.seed}"
        words += f" --faults {faults}" if faults else ""
        words += f" --deployments {self.deployments}" if self.deployments else ""
        words += f" --quiet {self.quiet_minutes:g}" if self.quiet_minutes else ""
        return words + (f" --profile {self.profile}" if self.profile != "default" else "")


@dataclass(slots=True)
class Outcome:
    """What came of it."""

    options: Options
    cluster: Cluster
    meter: Meter
    stopwatch: Stopwatch
    checkers: Checkers
    course: Course
    workload: Workload
    intent_checkers: IntentCheckers
    registry_checkers: RegistryCheckers
    placement_checkers: PlacementCheckers
    requests: Requests
    broken: list[str] = field(default_factory=list)
    """Invariants that failed, in words; the first ends the run."""
    invariant: str = ""
    missing: list[str] = field(default_factory=list)
    """Faults asked for that never happened."""
    idle_bytes_per_s: float = 0.0

    def checked(self) -> Counter[str]:
        """How often each invariant was looked at."""
        rooms = (self.checkers, self.intent_checkers, self.registry_checkers, self.placement_checkers, self.requests)
        return sum((room.checked for room in rooms), Counter({"M5": self.cluster.unchanged}))


def run(options: Options) -> Outcome:
    """Simulate; never raises for what the mesh does wrong."""
    cluster = Cluster(options.seed, options.nodes, timers=options.timers or PROFILES[options.profile])
    checkers, meter = Checkers(), Meter(cluster)
    stopwatch = Stopwatch(cluster)
    cluster.watchers += [checkers.check, meter.watch, stopwatch.watch]

    def split() -> None:
        meter.split()
        stopwatch.split()

    cluster.network.on_split, cluster.network.on_heal = split, meter.healed
    planes = Planes(cluster)

    def crashed(index: int) -> None:
        meter.crashed(index)
        stopwatch.crashed(index)
        planes.crashed(index)

    cluster.on_crash = crashed
    meter.start()
    workload, intent_checkers = Workload(cluster, options.deployments), IntentCheckers()
    registry, placement = RegistryCheckers(), PlacementCheckers(cluster)
    requests = Requests(planes, workload.names)
    if options.deployments:
        workload.prepare()
        cluster.watchers += [intent_checkers.check, registry.check, placement.check, requests.watch_node, planes.watch]
        placement.start()
        planes.watchers.append(requests.watch)
    outcome = Outcome(
        options,
        cluster,
        meter,
        stopwatch,
        checkers,
        Course(cluster, 0),
        workload,
        intent_checkers,
        registry,
        placement,
        requests,
    )
    try:
        _phases(options, outcome)
    except BrokenError as error:
        outcome.broken.append(str(error))
        outcome.invariant = error.invariant
    return outcome


def _phases(options: Options, outcome: Outcome) -> None:
    cluster = outcome.cluster
    cluster.start()
    _within(outcome, "M7", cluster.agreed, 30 * S + options.nodes * 50_000, "the mesh does not come together")
    outcome.stopwatch.running = True
    cluster.run_for(YOUNG_US)
    outcome.idle_bytes_per_s = _idle(cluster)

    if options.deployments:
        outcome.workload.deploy()
        _at_rest(outcome)
        outcome.requests.start()
        cluster.run_for(TRAFFIC_CALM_US)
        outcome.requests.is_calm = False
    until_us = cluster.clock.now_us + int(options.minutes * MINUTE)
    outcome.course = course = Course(cluster, until_us, outcome.workload)
    cluster.on_fault = course.count
    for name, value in options.faults.items():
        FAULTS[name](course, value)
    cluster.clock.run_until(course.until_us)
    outcome.missing = [name for name in options.faults if not course.happened[name]]

    course.calm()
    outcome.requests.running = False
    cluster.run_for(CALM_US)
    outcome.requests.stop()
    for machine in cluster.up:
        for other in cluster.up:
            state = cluster.sees(machine, other)
            if state is not State.ALIVE:
                raise BrokenError(
                    "M7", machine, f"node {other.index} is {state} there, {CALM_US // S} s after the last fault"
                )
    outcome.checkers.checked["M7"] += 1
    _within(outcome, "M8", lambda: len(cluster.digests()) == 1, SETTLE_US, "digests differ")
    if options.deployments:
        _at_rest(outcome)
        cluster.run_for(int(options.quiet_minutes * MINUTE))
        outcome.idle_bytes_per_s = _idle(cluster)  # Earlier, boards were still telling of the links they had measured.
    _burial(options, outcome)


def _idle(cluster: Cluster) -> float:
    """Bytes a second that a node sends while nothing happens."""
    before = cluster.network.sent_bytes
    cluster.run_for(IDLE_US)
    return (cluster.network.sent_bytes - before) / (IDLE_US / S) / len(cluster.machines)


def _at_rest(outcome: Outcome) -> None:
    """R5, P7, P5, E3: everything asked for is served with its copies, and all agree by what plan and whom."""
    cluster, workload = outcome.cluster, outcome.workload
    try:
        cluster.run_until(lambda: workload.wanting() is None, REST_US, every_us=100_000)
    except TimeoutError:
        invariant, why = workload.wanting() or ("P5", "it came to rest too late")
        raise BrokenError(invariant, cluster.up[0], f"{why}, {REST_US // S} s after the last fault") from None
    outcome.checkers.checked.update(("R5", "P7", "P5", "E3"))


def _burial(options: Options, outcome: Outcome) -> None:
    """M6: one more is switched off, for good."""
    cluster, timers = outcome.cluster, outcome.cluster.timers
    victim = cluster.up[options.seed % len(cluster.up)]
    cluster.crash(victim.index)
    # The longest suspicion there is, twice (the first accuser may itself be unwell), after a slow probe.
    longest_us = timers.suspicion_min_periods * timers.suspicion_max_factor * timers.probe_period_us
    within_us = 2 * longest_us * max(1, len(str(options.nodes))) + 20 * timers.probe_period_us
    words = f"node {victim.index} is off and not dead everywhere"
    _within(outcome, "M6", lambda: all(cluster.sees(m, victim) is State.DEAD for m in cluster.up), within_us, words)


def _within(outcome: Outcome, invariant: str, done: object, within_us: int, what: str) -> None:
    cluster = outcome.cluster
    assert callable(done)
    try:
        cluster.run_until(done, within_us)
    except TimeoutError:
        raise BrokenError(invariant, cluster.up[0], f"{what} within {within_us // S} s") from None
    outcome.checkers.checked[invariant] += 1


def shrink(options: Options, invariant: str) -> Options:
    """Fewer faults, and a shorter time, with which the same invariant still breaks: no single fault can be left out.

    Source: delta debugging, Zeller and Hildebrandt, 2002: halves first, then quarters, at last one by one.
    """
    size = (len(options.faults) + 1) // 2
    while size:
        names = list(options.faults)
        for at in range(0, len(names), size):
            fewer = {n: v for n, v in options.faults.items() if n not in names[at : at + size]}
            if len(fewer) < len(options.faults) and run(trial := replace(options, faults=fewer)).invariant == invariant:
                options = trial
        size //= 2
    while options.minutes > SHORTEST_MINUTES:
        trial = replace(options, minutes=round(options.minutes / 2, 3))
        if run(trial).invariant != invariant:
            break
        options = trial
    return options
