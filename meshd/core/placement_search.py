"""The chain of stages of least cost where costs add up: latency and energy.

Labels (how far, with which kinds of nodes, ending on which) grow one stage at a time; of two that differ in cost alone the
dearer goes, and so does whatever cannot beat the best chain known, even if every layer left ran on its best node for
nothing between. With no label dropped for want of room the result is the optimum over all subsets and orders; else each
position keeps its best few (a beam).

Rule: work is bounded by counts, never by a clock, or two machines would disagree.
"""

from meshd.core.placement_bottleneck import least_bottleneck
from meshd.core.placement_cost import NEVER, Chain, Tables
from meshd.core.plan import Objective

LABELS_MAX = 128
"""Labels kept after each stage: measured, see `tests/bench/placement_quality.py`."""
KINDS_MAX = 12
"""Kinds tried for a sum: a chain of least latency is short, and made of the fastest and the roomiest."""
BITS = 7
"""Of a count of nodes used, in a packed vector of counts by kind."""

Label = tuple[int, int, int, int, "Label | None"]
"""(cost, position, used, last site, label before)."""


def search(tables: Tables, segments_min: int) -> tuple[Chain, bool] | None:
    """The best chain of at least `segments_min` stages on different nodes, and whether the search was exhaustive."""
    if tables.problem.objective is Objective.THROUGHPUT:
        return least_bottleneck(tables, segments_min, cheapest(tables) if segments_min <= 1 else None)
    return _least_sum(tables, segments_min, cheapest(tables) if segments_min <= 1 else None)


def cheapest(tables: Tables) -> Chain | None:
    """Everything on the best single node, or None where no node has room."""
    layers = tables.layers
    able = [i for i in range(len(tables.sites)) if tables.fits(i, 0, layers)]
    if not able:
        return None
    throughput = tables.problem.objective is Objective.THROUGHPUT
    cost = tables.time if throughput else tables.weight
    return [(min(able, key=lambda i: (cost[i][layers], i)), 0, layers)]


def _least_sum(tables: Tables, segments_min: int, known: Chain | None) -> tuple[Chain, bool] | None:
    layers, weight = tables.layers, tables.weight
    kinds = _shortlist(tables)
    exhaustive = len(kinds) == len(tables.kinds)
    floor = _floor(tables, kinds)
    links = tables.problem.objective is Objective.LATENCY
    best = None if known is None else weight[known[0][0]][layers]
    best_chain = known
    level: list[Label] = [(0, 0, 0, -1, None)]
    for count in range(1, min(len(tables.sites), layers) + 1):
        last_end = layers - max(0, segments_min - count)
        grown: dict[tuple[int, int, int], Label] = {}
        for label in level:
            cost, start, used, before, _ = label
            for number, kind in enumerate(kinds):
                taken = (used >> (BITS * number)) & ((1 << BITS) - 1)
                if taken >= len(kind):
                    continue
                i = kind[0]
                row = weight[i]
                base = cost - row[start]
                if before >= 0:
                    other = kind[1] if i == before and len(kind) > 1 else i
                    link = tables.transfer(before, other)[start]
                    base += link + tables.delay(before, other) if links else 0
                    if link >= NEVER:
                        continue
                now_used = used + (1 << (BITS * number))
                for end in range(start + 1, min(last_end, tables.farthest(i, start)) + 1):
                    now = base + row[end]
                    if best is not None and now + floor[end] >= best:
                        break
                    if not tables.monotone and not tables.fits(i, start, end):
                        continue
                    if end == layers:
                        best, best_chain = now, _chain((now, end, now_used, i, label), kinds)
                        break
                    key = (end, now_used, i)
                    if key not in grown or now < grown[key][0]:
                        grown[key] = (now, end, now_used, i, label)
        level = list(grown.values())
        if best is not None:
            level = [label for label in level if label[0] + floor[label[1]] < best]
        if len(level) > LABELS_MAX:
            level, exhaustive = _beam(level), False
        if not level:
            break
    return None if best_chain is None else (best_chain, exhaustive)


def _beam(level: list[Label]) -> list[Label]:
    """The cheapest few of each position, so that neither the near nor the far crowd the others out."""
    by_position: dict[int, list[Label]] = {}
    for label in sorted(level, key=lambda label: label[:4]):
        by_position.setdefault(label[1], []).append(label)
    each = max(1, LABELS_MAX // len(by_position))
    return [label for position in sorted(by_position) for label in by_position[position][:each]]


def _floor(tables: Tables, kinds: list[list[int]]) -> list[int]:
    """For each position, what the layers after it cost at the least."""
    floor = [0] * (tables.layers + 1)
    for at in range(tables.layers - 1, -1, -1):
        floor[at] = floor[at + 1] + min(tables.weight[k[0]][at + 1] - tables.weight[k[0]][at] for k in kinds)
    return floor


def _shortlist(tables: Tables) -> list[list[int]]:
    """The kinds worth trying: in turn the cheapest for the whole, and the cheapest for what it has room for."""
    kinds = tables.kinds
    if len(kinds) <= KINDS_MAX:
        return kinds
    total = [tables.weight[k[0]][-1] for k in kinds]
    # A node that is slow but holds much saves a cut; one without room for a layer is no use.
    per_room = [total[n] * max(1, tables.memory[k[0]][-1]) // max(1, tables.room[k[0]]) for n, k in enumerate(kinds)]
    by_cost = sorted(range(len(kinds)), key=lambda n: (total[n], n))
    by_room = sorted(
        range(len(kinds)), key=lambda n: (-min(tables.room[kinds[n][0]], tables.memory[kinds[n][0]][-1]), total[n], n)
    )
    by_both = sorted(range(len(kinds)), key=lambda n: (per_room[n], n))
    in_turn = dict.fromkeys(n for trio in zip(by_cost, by_room, by_both, strict=True) for n in trio)
    return [kinds[n] for n in sorted(list(in_turn)[:KINDS_MAX])]


def _chain(label: Label | None, kinds: list[list[int]]) -> Chain:
    """Follow a label back, giving each stage a node of its kind that no other stage has."""
    steps: list[tuple[int, int, int]] = []
    while label is not None and label[4] is not None:
        steps.append((label[3], label[4][1], label[1]))
        label = label[4]
    kind_of = {kind[0]: kind for kind in kinds}
    given: dict[int, int] = {}
    chain: Chain = []
    for first, start, end in reversed(steps):
        nth = given.get(first, 0)
        given[first] = nth + 1
        chain.append((kind_of[first][nth], start, end))
    return chain
