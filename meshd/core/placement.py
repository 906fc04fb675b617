"""Where a model is cut and who serves each part: the problem, its solution, and `solve`.

Rule 1: integers only, no clock and no chance: ARM and x86 agree, and so do two planners that heard the same bids.
Rule 2: the result is never dearer than everything on the best single node that meets the same demands.
Rule 3: in a repair nothing moves that still stands: cuts and live holders are given, only gaps are filled.
Rule 4: where inputs stay at the entry the first segment goes to all that have room, after everything else has its copies.

A *chain* of stages runs from layer 0 to the last; each stage is a segment and its owner, and a node owns at most one stage
(a mesh with fewer nodes than the segments asked for cuts further in place). Small problems are solved exactly, over
subsets and orders of kinds of nodes; larger ones by the same search with a bounded beam (`placement_search`). Then each
segment gets its standbys (`placement_standby`).

NB a plan in which every segment has its copies goes before a cheaper one in which some have not: the deployer who wants
speed before survival asks for one replica.

Sources: the bottleneck by "agree on T, each takes the longest run it can afford", Pinar and Aykanat, "Fast optimal load
balancing algorithms for 1D partitioning", JPDC 2004; the cost of boards and links as in PipeEdge, Hu et al., DSD 2022.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

from meshd.core.ids import NodeId
from meshd.core.placement_cost import GIGABIT, Chain, Kept, Problem, Site, Tables
from meshd.core.placement_search import cheapest, search
from meshd.core.placement_standby import complete

__all__ = ["GIGABIT", "Infeasible", "Kept", "Problem", "Site", "Solution", "Stage", "shortfall", "solve"]


@dataclass(frozen=True, slots=True)
class Stage:
    """Layers `[start, end)` and who serves them, the owner first."""

    start: int
    end: int
    succession: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class Solution:
    """Stages in order, and what they cost."""

    stages: tuple[Stage, ...]
    cost: int
    """The objective with what moving adds: microseconds, or nanojoules."""
    bottleneck_us: int
    latency_us: int
    energy_nj: int
    best_single_us: int | None
    """The objective (latency, or energy in nanojoules) of everything on the best single node; None where none has room."""
    lower_bound_us: int
    """No placement can be below this; equal to the objective where the search was exhaustive."""
    move: int
    """Of the cost, what moving adds."""
    copies_short: int
    """Copies that were asked for and fit nowhere."""


@dataclass(frozen=True, slots=True)
class Infeasible:
    """Why nothing fits, in words for a person: the constraint and by how much."""

    reason: str


def solve(problem: Problem) -> Solution | Infeasible:
    """Place `problem`; at most some tens of milliseconds for 32 cuts on 64 nodes (`tests/bench/placement_speed.py`)."""
    if problem.kept:
        return _repaired(problem)
    if wrong := _impossible(problem):
        return wrong
    found = _placed(problem, 1)
    if not isinstance(found, Infeasible) and found.copies_short and problem.replicas > 1:
        # Owners took what standbys needed. Leave room for a second segment as large on every node, and look again.
        for share in (2, 3):
            other = _placed(problem, share)
            if not isinstance(other, Infeasible) and (other.copies_short, other.cost) < (
                found.copies_short,
                found.cost,
            ):
                found = other
    return found


def shortfall(problem: Problem) -> Infeasible | None:
    """What can be said against `problem` without a search; None where a search is worth it."""
    return _impossible(problem) or _lacking(Tables(problem, 1))


def _placed(problem: Problem, share: int) -> Solution | Infeasible:
    """The best chain when a stage may take `1 / share` of a node's memory, with its standbys."""
    tables = Tables(problem, share)
    segments_min = min(problem.segments_min, len(problem.sites), tables.layers)
    found = None
    for wanted in range(segments_min, 0, -1):
        found = search(tables, wanted)
        if found is not None:
            break
    if found is None:
        return _shortfall(problem)
    chain, exhaustive = found
    if problem.keep_input:
        chain = tables.cut_first(chain)
    chain = tables.cut_further(chain, problem.segments_min)
    return _solution(Tables(problem, 1), chain, exhaustive)


def _repaired(problem: Problem) -> Solution | Infeasible:
    """The same cuts with the gaps filled; a segment nobody has room for makes it infeasible."""
    tables = Tables(problem, 1)
    index = {site.node: i for i, site in enumerate(tables.sites)}
    kept = [[index[n] for n in stage.succession if n in index] for stage in problem.kept]
    segments = [(stage.start, stage.end) for stage in problem.kept]
    succession = complete(tables, segments, kept, problem.replicas)
    for (start, end), nodes in zip(segments, succession, strict=True):
        if not nodes:
            need = min((tables.need(i, start, end) for i in range(len(tables.sites))), default=0)
            return Infeasible(f"layers [{start}, {end}) need {need} bytes and no live node has as much left")
    chain: Chain = [(nodes[0], start, end) for (start, end), nodes in zip(segments, succession, strict=True)]
    for (one, _, end), (other, _, _) in pairwise(chain):
        if tables.cut_off(one, other):
            ids = (tables.sites[one].node, tables.sites[other].node)
            return Infeasible(
                f"{ids[0]} and {ids[1]}, on both sides of the cut at {end}, cannot open a link to each other"
            )
    return _described(tables, chain, succession, exhaustive=False)


def _solution(tables: Tables, chain: Chain, exhaustive: bool) -> Solution:
    segments = [(start, end) for _, start, end in chain]
    succession = complete(tables, segments, [[site] for site, _, _ in chain], tables.problem.replicas)
    return _described(tables, chain, succession, exhaustive)


def _described(tables: Tables, chain: Chain, succession: list[list[int]], exhaustive: bool) -> Solution:
    problem = tables.problem
    figures = tables.figures(chain)
    single = cheapest(tables)
    wanted = min(problem.replicas, len(tables.sites))
    bound = tables.objective(figures) if exhaustive else min(tables.lower_bound(), tables.objective(figures))
    return Solution(
        tuple(
            Stage(start, end, tuple(tables.sites[i].node for i in nodes))
            for (_, start, end), nodes in zip(chain, succession, strict=True)
        ),
        tables.objective(figures) + figures.move,
        figures.bottleneck_us,
        figures.latency_us,
        figures.energy_nj,
        None if single is None else tables.objective(tables.figures(single)),
        bound,
        figures.move,
        sum(max(0, wanted - len(nodes)) for nodes in succession),
    )


def _impossible(problem: Problem) -> Infeasible | None:
    """What can be said without a search."""
    layers = len(problem.memory_bytes)
    if not problem.sites:
        return Infeasible("no node may take part: none is alive, measured and within the labels asked for")
    if problem.segments_min > layers:
        return Infeasible(f"{problem.segments_min} segments were asked for, and the model has {layers} layers")
    return None


def _shortfall(problem: Problem) -> Infeasible:
    if wrong := _lacking(Tables(problem, 1)):
        return wrong
    # Together there is enough, one by one there is not: how much more would do, were it given to every node?
    too_little, enough = 0, sum(problem.memory_bytes) + 7 * problem.activation_copies * max(problem.crossing_bytes)
    while enough - too_little > max(1, enough >> 7):
        middle = (too_little + enough) // 2
        sites = tuple(replace(site, memory_bytes=site.memory_bytes + middle) for site in problem.sites)
        if search(Tables(replace(problem, sites=sites), 1), 1) is None:
            too_little = middle
        else:
            enough = middle
    return Infeasible(
        "no chain of nodes that reach each other fits the layers into their memories one by one:"
        f" about {enough} bytes more on every node would do"
    )


def _lacking(tables: Tables) -> Infeasible | None:
    problem = tables.problem
    lacking = [min(tables.need(k, i, i + 1) - room for k, room in enumerate(tables.room)) for i in range(tables.layers)]
    if max(lacking) > 0:
        layer = lacking.index(max(lacking))
        return Infeasible(f"layer {layer} alone is {lacking[layer]} bytes more than any node has left for it")
    total, offered = sum(problem.memory_bytes), sum(max(0, room) for room in tables.room)
    if total > offered:
        return Infeasible(
            f"the model needs {total} bytes, and all nodes together have {offered}: {total - offered} bytes too few"
        )
    return None
