"""Further copies of each segment: who serves when the owner is gone.

Rule 1: live holders that are given stay, in their order.
Rule 2: another machine first: two copies on one machine die together. Then what is loaded already, then the fastest, a node
with n segments of this plan counting as n + 1 times as slow: it may have to serve them all.
Rule 3: the tightest segment chooses first, and a choice that leaves another with none is taken back, within a bound.
"""

from meshd.config import SUCCESSION_MAX
from meshd.core.placement_cost import Tables

TRIES_MAX = 600
"""Choices made before the best assignment so far is taken."""


def complete(tables: Tables, segments: list[tuple[int, int]], kept: list[list[int]], replicas: int) -> list[list[int]]:
    """Successions for `segments`: `kept` first, then as many others as `replicas` asks for and memory allows.

    Parameters
    ----------
    segments : layer ranges, in order
    kept : site indices that hold (or own) each segment already; counted against memory too
    replicas : copies wanted of each
    """
    left = list(tables.room)
    for (start, end), sites in zip(segments, kept, strict=True):
        for i in sites:
            left[i] -= tables.need(i, start, end)
    wanted = min(replicas, len(tables.sites))
    # A segment without any copy comes first, then the largest: it has the fewest places to go.
    slots = sorted(
        ((nth, -_size(tables, segments[n]), n) for n, sites in enumerate(kept) for nth in range(len(sites), wanted))
    )
    search = _Search(tables, segments, [list(sites) for sites in kept], left, [n for _, _, n in slots])
    search.run(0)
    if tables.problem.keep_input:
        search.everywhere(0)
    return search.best


class _Search:
    """Depth first over slots, best candidate first, keeping the assignment that gives most segments most copies."""

    def __init__(
        self,
        tables: Tables,
        segments: list[tuple[int, int]],
        given: list[list[int]],
        left: list[int],
        slots: list[int],
    ) -> None:
        self.tables, self.segments, self.given, self.left, self.slots = tables, segments, given, left, slots
        self.full = sum(len(sites) for sites in given) + len(slots)
        self.best = [list(sites) for sites in given]
        self.best_value = (0, 0)
        self.tries = 0
        self.load = [0] * len(tables.sites)
        """Segments of this plan each site has so far."""
        for sites in given:
            for i in sites:
                self.load[i] += 1

    def run(self, at: int) -> bool:
        """Fill slots from `at` on; True once nothing better can be found, or enough was tried."""
        if at == len(self.slots):
            return self._keep()
        n = self.slots[at]
        for i in self._candidates(n):
            self.tries += 1
            need = self.tables.need(i, *self.segments[n])
            self.left[i] -= need
            self.load[i] += 1
            self.given[n].append(i)
            done = self.run(at + 1)
            self.given[n].pop()
            self.load[i] -= 1
            self.left[i] += need
            if done:
                return True
        # Leaving this copy out may be all that is possible, or what lets the others fit.
        return self.run(at + 1)

    def _keep(self) -> bool:
        value = (sum(1 for sites in self.given if sites), sum(len(sites) for sites in self.given))
        if value > self.best_value:
            self.best_value = value
            self.best = [list(sites) for sites in self.given]
        return value[1] == self.full or self.tries > TRIES_MAX

    def everywhere(self, n: int) -> None:
        """Give segment `n` to all others that have room beside the best assignment."""
        self.given = self.best
        self.left, self.load = list(self.tables.room), [0] * len(self.load)
        for segment, sites in zip(self.segments, self.given, strict=True):
            for i in sites:
                self.left[i] -= self.tables.need(i, *segment)
                self.load[i] += 1
        self.given[n] += self._candidates(n)[: SUCCESSION_MAX - len(self.given[n])]

    def _candidates(self, n: int) -> list[int]:
        start, end = self.segments[n]
        tables, given = self.tables, self.given[n]
        hosts = {tables.sites[i].host for i in given} - {""}
        beside = [self.given[m][0] for m in (n - 1, n + 1) if 0 <= m < len(self.given) and self.given[m]]

        def rank(i: int) -> tuple[int, int, int, int, int]:
            site = tables.sites[i]
            need = tables.need(i, start, end)
            # The fuller a node would be, the less it is worth: w_memory x pressure squared, in 1/64.
            pressure = 64 - 64 * max(0, self.left[i] - need) // max(1, site.memory_bytes)
            took = tables.weight[i][end] - tables.weight[i][start]
            return (
                int(site.host in hosts),
                sum(tables.cut_off(i, j) for j in beside),
                int(tables.memory[i][end] != tables.memory[i][start]),
                (took + took * pressure * pressure // (64 * 64)) * (1 + self.load[i]),
                i,
            )

        fit = (i for i in range(len(tables.sites)) if i not in given)
        return sorted((i for i in fit if tables.need(i, start, end) <= self.left[i]), key=rank)


def _size(tables: Tables, segment: tuple[int, int]) -> int:
    return sum(tables.problem.memory_bytes[segment[0] : segment[1]])
