"""What a placement costs: the problem in whole numbers, and tables that answer each question of the search at once.

Rule 1: everything is an integer: microseconds, bytes, nanojoules; division rounds up.
Rule 2: `Tables` is the only place that knows the cost formula; search and standbys ask it.

A stage's time is the sum of its layers on its node. A link carries what lies at the cut, at the lesser of both bandwidths,
plus half a round trip. Throughput: the greatest of all stage and link times, for transfer overlaps compute. Latency: their
sum. Energy: stage times by each node's power.
"""

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from meshd.config import SEGMENTS_MAX, SUCCESSION_MAX
from meshd.core.ids import NodeId
from meshd.core.plan import Objective

GIGABIT = 1_000_000_000
NEVER = 1 << 62
"""A time that no bound admits: nodes that cannot reach each other."""

MOVE_BYTES_PER_US = 1 << 20
"""NB w_move: 100 MB take 0.8 s at 1 Gbit/s; spread over ten minutes of twenty requests a second, 67 us each."""

Chain = list[tuple[int, int, int]]
"""(site index, start, end) of each stage."""


@dataclass(frozen=True, slots=True)
class Site:
    """A node as the planner sees it: what it bid, or what its facts say."""

    node: NodeId
    memory_bytes: int
    """Budget for this deployment: the node's own, less what other deployments take."""
    layer_us: tuple[int, ...]
    """Time of each layer there, for one batch."""
    bandwidth_bps: int = GIGABIT
    rtt_us: int = 0
    host: str = ""
    """Machine; standbys go to another one where possible."""
    milliwatts: int = 0
    held: tuple[tuple[int, int], ...] = ()
    """Layer ranges of this model loaded there: they count once, whatever plan they are of."""
    on_disk: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """A segment that stands: its cuts, and its live holders in order (none, where all are lost)."""

    start: int
    end: int
    succession: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """What to place. All per batch."""

    memory_bytes: tuple[int, ...]
    """Loaded size of each layer."""
    crossing_bytes: tuple[int, ...]
    """What lies at each cut, one more than layers: the input first, the output last."""
    sites: tuple[Site, ...]
    """Best first where all else is equal: the planner orders them by rendezvous rank."""
    objective: Objective = Objective.LATENCY
    replicas: int = 1
    segments_min: int = 1
    move_bytes: tuple[int, ...] = ()
    """Blobs of each layer, to move where they are not on disk; empty where moving is free."""
    activation_copies: int = 0
    """How many times a stage holds its input and output beside its layers (the model's input once); 0: counted in the layers."""
    unreachable: tuple[tuple[NodeId, NodeId], ...] = ()
    """Pairs that cannot open a link."""
    gap: bool = False
    """Nothing serves: what is held may be let go before the new is loaded, so its memory counts as free."""
    kept: tuple[Kept, ...] = ()
    """For a repair: the segments as they are. Only gaps are filled."""
    keep_input: bool = False
    """The first segment goes to every node that has room for it, and is cut so that as many as possible have."""


class Figures(NamedTuple):
    """What a chain costs."""

    bottleneck_us: int
    latency_us: int
    energy_nj: int
    move: int


class Tables:
    """Prefix sums and link times of a problem, with nodes that are alike gathered into kinds.

    `share` divides each node's memory: the rest is left to standbys.
    """

    def __init__(self, problem: Problem, share: int = 1) -> None:
        self.problem = problem
        self.sites = problem.sites
        self.layers = len(problem.memory_bytes)
        self.crossing = problem.crossing_bytes
        copies = problem.activation_copies
        self._inflow = [copies * b if cut else min(copies, 1) * b for cut, b in enumerate(self.crossing)]
        self._outflow = [copies * b for b in self.crossing]
        self.monotone = copies == 0
        """Whether memory only grows along the layers, so that the first end that does not fit is the last to try."""
        self.time = [_prefix(site.layer_us) for site in self.sites]
        self.memory: list[list[int]] = []
        self.room: list[int] = []
        self.move: list[list[int]] = []
        for site in self.sites:
            held = _layers(site.held)
            free = set() if problem.gap else held
            self.memory.append(_prefix([0 if i in free else b for i, b in enumerate(problem.memory_bytes)]))
            self.room.append(site.memory_bytes // share - (sum(problem.memory_bytes) - self.memory[-1][-1]))
            there = site.on_disk or not problem.move_bytes
            moved = [0 if there or i in held else b for i, b in enumerate(problem.move_bytes or problem.memory_bytes)]
            self.move.append([b // MOVE_BYTES_PER_US for b in _prefix(moved)])
        order = {site.node: i for i, site in enumerate(self.sites)}
        self._cut_off = {
            pair
            for a, b in problem.unreachable
            if a in order and b in order
            for pair in ((order[a], order[b]), (order[b], order[a]))
        }
        self.weight = [self._weights(i) for i in range(len(self.sites))]
        """Prefix sums of what a layer adds to the cost where costs add up."""
        self.kinds = self._kinds()
        self._transfer: dict[int, list[int]] = {}

    def _weights(self, i: int) -> list[int]:
        if self.problem.objective is Objective.ENERGY:
            watt = self.sites[i].milliwatts
            return [t * watt + m for t, m in zip(self.time[i], self.move[i], strict=True)]
        return [t + m for t, m in zip(self.time[i], self.move[i], strict=True)]

    def _kinds(self) -> list[list[int]]:
        apart = {i for pair in self._cut_off for i in pair}
        kinds: dict[object, list[int]] = {}
        for i, s in enumerate(self.sites):
            alike = (s.layer_us, s.memory_bytes, s.bandwidth_bps, s.rtt_us, s.milliwatts, s.held, s.on_disk)
            kinds.setdefault(i if i in apart else alike, []).append(i)
        return list(kinds.values())

    def cut_off(self, a: int, b: int) -> bool:
        """Whether `a` and `b` cannot open a link."""
        return (a, b) in self._cut_off

    def transfer(self, a: int, b: int) -> list[int]:
        """Microseconds to send what lies at each cut from `a` to `b`: a row over cuts."""
        if (a, b) in self._cut_off:
            return [NEVER] * (self.layers + 1)
        bandwidth = min(self.sites[a].bandwidth_bps, self.sites[b].bandwidth_bps)
        row = self._transfer.get(bandwidth)
        if row is None:
            row = self._transfer[bandwidth] = [-(-size * 8_000_000 // bandwidth) for size in self.crossing]
        return row

    def delay(self, a: int, b: int) -> int:
        """Half a round trip. NB a planner knows round trips to itself: the longer of the two stands for the pair."""
        return max(self.sites[a].rtt_us, self.sites[b].rtt_us) // 2

    def need(self, i: int, start: int, end: int) -> int:
        """Bytes that layers `[start, end)` add on site `i`."""
        return self.memory[i][end] - self.memory[i][start] + self._inflow[start] + self._outflow[end]

    def fits(self, i: int, start: int, end: int) -> bool:
        """Whether `[start, end)` fits beside what is loaded."""
        return self.need(i, start, end) <= self.room[i]

    def farthest(self, i: int, start: int) -> int:
        """No end past this fits from `start` (layers alone; activations come on top)."""
        row = self.memory[i]
        return bisect_right(row, row[start] + self.room[i] - self._inflow[start]) - 1

    def figures(self, chain: Chain) -> Figures:
        """What `chain` costs."""
        bottleneck = latency = energy = move = 0
        before = -1
        for i, start, end in chain:
            if before >= 0 and before != i:
                link = self.transfer(before, i)[start]
                bottleneck, latency = max(bottleneck, link), latency + link + self.delay(before, i)
            took = self.time[i][end] - self.time[i][start]
            bottleneck, latency = max(bottleneck, took), latency + took
            energy += took * self.sites[i].milliwatts
            move += self.move[i][end] - self.move[i][start]
            before = i
        if self.problem.objective is Objective.THROUGHPUT:
            # Stages of one node, cut in place, take turns on it.
            turns: dict[int, int] = {}
            for i, start, end in chain:
                turns[i] = turns.get(i, 0) + self.time[i][end] - self.time[i][start]
            bottleneck = max(bottleneck, *turns.values())
        return Figures(bottleneck, latency, energy, move)

    def objective(self, figures: Figures) -> int:
        """The one number that is minimised, before moving."""
        match self.problem.objective:
            case Objective.THROUGHPUT:
                return figures.bottleneck_us
            case Objective.LATENCY:
                return figures.latency_us
            case Objective.ENERGY:
                return figures.energy_nj

    def lower_bound(self) -> int:
        """What no chain can be below: each layer on its best node, links free."""
        rows = self.time
        if self.problem.objective is Objective.ENERGY:
            rows = [[t * s.milliwatts for t in row] for row, s in zip(self.time, self.sites, strict=True)]
        least = [min(row[i + 1] - row[i] for row in rows) for i in range(self.layers)]
        if self.problem.objective is Objective.THROUGHPUT:
            return max(*least, -(-sum(least) // min(len(self.sites), self.layers)))
        return sum(least)

    def cut_first(self, chain: Chain) -> Chain:
        """Cut the first stage in place so that most nodes have room for what is left of it, there where least crosses."""
        i, start, end = chain[0]
        enough = min(len(self.sites), SUCCESSION_MAX)

        def rank(cut: int) -> tuple[int, int, int]:
            able = sum(1 for site in range(len(self.sites)) if self.fits(site, start, cut))
            return (-min(able, enough), self.crossing[cut], cut)

        cut = min(range(start + 1, end + 1), key=rank)
        if cut == end or len(chain) >= SEGMENTS_MAX:
            return chain
        return [(i, start, cut), (i, cut, end), *chain[1:]]

    def cut_further(self, chain: Chain, segments_min: int) -> Chain:
        """Cut stages in place, the longest first, until there are as many segments as asked for: costs nothing but a call."""
        chain = list(chain)
        while len(chain) < segments_min:
            at = max(range(len(chain)), key=lambda n: (chain[n][2] - chain[n][1], -n))
            i, start, end = chain[at]
            middle = (start + end) // 2
            chain[at : at + 1] = [(i, start, middle), (i, middle, end)]
        return chain


def _prefix(values: tuple[int, ...] | list[int]) -> list[int]:
    return list(accumulate(values, initial=0))


def _layers(ranges: tuple[tuple[int, int], ...]) -> set[int]:
    return {i for start, end in ranges for i in range(start, end)}
