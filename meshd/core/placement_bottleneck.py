"""The chain whose slowest stage or link is fastest: throughput.

Agree on a time T; each node then takes the longest run it can afford in T. Of two ends within reach the nearer is worth
keeping only if less crosses there: the farther one leaves every later node less to do. Bisection finds the least T that
some order of nodes meets, and each success lowers the bound to what it really took.

Where nodes are of few kinds all subsets and orders are tried (labels by count of each kind used); where they are many,
labels are ranked by the work they got done less what their nodes could have done, and the best few go on.

Source: Pinar and Aykanat, "Fast optimal load balancing algorithms for 1D partitioning", JPDC 2004, section 4.
"""

from bisect import bisect_right
from itertools import accumulate

from meshd.core.placement_cost import NEVER, Chain, Tables

WIDTH_MAX = 400
"""Labels a level may hold."""
STEPS_MAX = 4_000
"""Extensions of labels in one probe of the bisection, about: some milliseconds."""
TRIED_MAX = 16
"""Kinds a label is extended by: those that can do most of what is left."""
BITS = 7
"""Of a count of nodes used, in a packed vector of counts by kind."""

Label = tuple[int, int, int, int, "Label | None"]
"""(work done beyond what its nodes could do, position, used, last kind, label before)."""


def least_bottleneck(tables: Tables, segments_min: int, known: Chain | None) -> tuple[Chain, bool] | None:
    """The best chain of at least `segments_min` stages found, and whether every chain was (as good as) tried."""
    if known is None:
        known, _ = _within(tables, NEVER - 1, segments_min)
        if known is None:
            return None
    best = (tables.figures(known).bottleneck_us, known)
    low, exhaustive = tables.lower_bound() - 1, True
    while best[0] - low > (1 if exhaustive else max(1, best[0] >> 9)):
        middle = (low + best[0]) // 2
        chain, complete = _within(tables, middle, segments_min)
        if chain is not None:
            best = min(best, (tables.figures(chain).bottleneck_us, chain))
        else:
            low, exhaustive = middle, exhaustive and complete
    return best[1], exhaustive


def _within(tables: Tables, bound: int, segments_min: int) -> tuple[Chain | None, bool]:
    """A chain with no stage or link over `bound`, if one was found; and whether all were tried."""
    layers, kinds = tables.layers, tables.kinds
    work, able = _yardstick(tables, bound)
    tried = sorted(range(len(kinds)), key=lambda n: (-able[n], n))
    stages = min(len(tables.sites), layers)
    width = max(2, min(WIDTH_MAX, STEPS_MAX // (stages * min(len(kinds), TRIED_MAX))))
    ends: dict[tuple[int, int, int], list[int]] = {}
    complete = True
    level: list[Label] = [(0, 0, 0, -1, None)]
    for count in range(1, stages + 1):
        last_end = layers - max(0, segments_min - count)
        grown: dict[tuple[int, int, int], Label] = {}
        for label in level:
            gain, start, used, before, _ = label
            extended = 0
            for number in tried:
                kind = kinds[number]
                if (used >> (BITS * number)) & ((1 << BITS) - 1) >= len(kind):
                    continue
                if before >= 0:
                    other = kind[1] if number == before else kind[0]
                    if tables.transfer(kinds[before][0], other)[start] > bound:
                        continue
                extended += 1
                if extended > TRIED_MAX:
                    complete = False
                    break
                now_used = used + (1 << (BITS * number))
                key = (number, start, last_end)
                if key not in ends:
                    ends[key] = _ends(tables, kind[0], start, last_end, bound)
                for end in ends[key]:
                    now = (gain + work[end] - work[start] - able[number], end, now_used, number, label)
                    if end == layers:
                        return _chain(now, kinds), complete
                    grown.setdefault((end, now_used, number), now)
        level = list(grown.values())
        if len(level) > width:
            complete = False
            level.sort(key=lambda label: (-label[0], label[1:4]))
            del level[width:]
        if not level:
            break
    return None, complete


def _ends(tables: Tables, i: int, start: int, last_end: int, bound: int) -> list[int]:
    """Where a stage of site `i` from `start` may end: the farthest, then nearer ones across which less has to go."""
    row = tables.time[i]
    far = min(bisect_right(row, row[start] + bound) - 1, tables.farthest(i, start), last_end)
    found: list[int] = []
    least = NEVER
    for end in range(far, start, -1):
        size = tables.crossing[end] if end < tables.layers else 0
        if size < least and (tables.monotone or tables.fits(i, start, end)):
            found.append(end)
            least = size
    return found


def _yardstick(tables: Tables, bound: int) -> tuple[list[int], list[int]]:
    """Work up to each cut, and what each kind can do of it within `bound` and its memory: one measure for unlike nodes."""
    firsts = [kind[0] for kind in tables.kinds]
    total_bytes = max(1, sum(tables.problem.memory_bytes))
    if bound >= NEVER - 1:
        return list(accumulate(tables.problem.memory_bytes, initial=0)), [max(0, tables.room[i]) for i in firsts]
    work = [sum(tables.time[i][cut] for i in firsts) for cut in range(tables.layers + 1)]
    total = work[-1]
    able = [
        min(bound * total // max(1, tables.time[i][-1]), max(0, tables.room[i]) * total // total_bytes) for i in firsts
    ]
    return work, able


def _chain(label: Label, kinds: list[list[int]]) -> Chain:
    """Follow a label back, giving each stage a node of its kind that no other stage has."""
    steps: list[tuple[int, int, int]] = []
    at: Label | None = label
    while at is not None and at[4] is not None:
        steps.append((at[3], at[4][1], at[1]))
        at = at[4]
    given: dict[int, int] = {}
    chain: Chain = []
    for number, start, end in reversed(steps):
        nth = given.get(number, 0)
        given[number] = nth + 1
        chain.append((kinds[number][nth], start, end))
    return chain
