"""Every interleaving of the plan register with servability and unloading, on the real `core` code.

Three nodes, two planners, three epochs, at most one crash; plan records and facts arrive late, in any order, or are
overtaken. After each step of the search: without a crash there is always a plan that every node can really be served by, and
once all views are equal, nothing that is READY everywhere it must be goes unserved.

    python -m tests.core.register_model [--break wait|state]

What a node does in a situation is asked of `core.settling.Settling` itself (with `Plans`, `Shelf`, `Mesh`, `ownership`
behind it), once for each situation; the search only decides who hears what when.

Time passes in ticks of 5 s. What was said before a tick is heard before the next but one: news takes less than 10 s, which is
what the unload rule's wait is for.
"""

import argparse
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import NamedTuple

from meshd.config import S, Timers
from meshd.core.bidding import Bidder
from meshd.core.events import Load, Unload
from meshd.core.ids import Boot, NodeId, SegmentId
from meshd.core.ledger import Ledger
from meshd.core.matter import Matter
from meshd.core.mesh import Mesh
from meshd.core.plan import Plan, PlanSegment
from meshd.core.plans import Plans
from meshd.core.registry import Registry
from meshd.core.settling import Settling
from meshd.core.shelf import Item, Shelf
from meshd.core.view import Capacity, Hold, Holding, Member, State
from tests.core.intent_cluster import MODEL, deploy, sign, verify

NODES = (NodeId("a"), NodeId("b"), NodeId("c"))
TICK_US = 5 * S
TICKS_MAX = 2
NOW_US = 1_000 * S

_REGISTRY = Registry(verify)
RECORD = _REGISTRY.next(deploy(sizes=(1, 1), replicas=1), (b"key", NODES[0], Boot(1)), 1, sign)


def _plan(epoch: int, planner: int, *spans: tuple[int, int, tuple[int, ...]]) -> Plan:
    segments = tuple(PlanSegment(s, e, (), tuple(NODES[n] for n in nodes)) for s, e, nodes in spans)
    return Plan("d", 1, RECORD.digest, epoch, MODEL, segments, 1, NODES[planner], 1)


PLANS = (
    _plan(1, 0, (0, 2, (0, 1))),
    _plan(2, 0, (0, 1, (1,)), (1, 2, (2,))),
    _plan(2, 1, (0, 1, (2,)), (1, 2, (0,))),
    _plan(3, 1, (0, 2, (2,))),
)
"""The first is served when the search begins. Planner 0 may make the second, planner 1 the third and the fourth."""
SEGMENTS = tuple(sorted({SegmentId(p.plan_digest, i) for p in PLANS for i in range(len(p.segments))}))
NEEDS = tuple(sum(1 << SEGMENTS.index(SegmentId(p.plan_digest, i)) for i in range(len(p.segments))) for p in PLANS)
"""The segments of each plan, as bits."""


class Doing(NamedTuple):
    """What a node does in a situation."""

    kept: int
    target: int
    loading: int
    ready: int
    ticks: int
    """Since the target has stood here; -1: it does not."""
    route: tuple[tuple[int, tuple[int, ...]], ...]
    """For each segment of the plan it routes by: (segment, nodes to ask); empty where nothing serves."""


class One(NamedTuple):
    """A node's state."""

    kept: int
    heard: int
    heard_before_tick: int
    target: int
    loading: int
    ticks: int
    said: tuple[int, ...]
    """READY segments as bits, as it published them in turn; the last is the truth."""
    said_before_tick: int
    """How many of these were said before the last tick."""
    hears: tuple[int, ...]
    """For each node, which of what it said was heard last."""


class All(NamedTuple):
    """Everything."""

    nodes: tuple[One, ...]
    crashed: int
    known_dead: int
    """Nodes, as bits, that know of the crash."""


class NoPlanning:
    """Plans come from the search."""

    def consider(self, name: str, stands: object, now_us: int) -> tuple[list[object], None]:
        return [], None


class Model:
    """The search. `timers` and `served` are what is broken on purpose."""

    def __init__(self, timers: Timers | None = None, state_in_record: bool = False, epochs: int = 3) -> None:
        self.epochs = epochs
        self.timers = timers or Timers()
        self.state_in_record = state_in_record
        self.doing: Callable[..., Doing] = cache(self._doing)
        self.visited = 0
        self.progress = False

    # ------------------------------------------------------------ one node, by the real code

    def _doing(
        self, me: int, kept: int, target: int, loading: int, ready: int, ticks: int, views: tuple[int, ...]
    ) -> Doing:
        """`views`: READY bits of each node as heard, -1 for one known dead."""
        shelf = Shelf(1_000)
        for bit, segment in enumerate(SEGMENTS):
            if (ready | loading) >> bit & 1:
                index = next(p for p in PLANS if p.plan_digest == segment.plan).segments[segment.index]
                sizes = (1,) * (index.end - index.start)
                state = Hold.READY if ready >> bit & 1 else Hold.LOADING
                shelf.items[segment] = Item("d", index.start, sizes, state, ready_at_us=1)
        mesh = Mesh(NODES[me])
        mesh.members = {
            node: Member(
                node, node, State.DEAD if views[n] < 0 else State.ALIVE, Boot(1), 1, (), capacity=Capacity(1_000),
                holdings=tuple(
                    Holding(s, Hold.READY, 1, 1) for bit, s in enumerate(SEGMENTS) if views[n] >= 0 and views[n] >> bit & 1
                ),
                models=(MODEL,),
            )
            for n, node in enumerate(NODES)
        }  # fmt: skip
        registry = Registry(verify)
        registry.merge(RECORD)
        ledger = Ledger(NODES[me], self.timers, None, registry, mesh, shelf, Bidder(NODES[me], shelf, self.timers))  # type: ignore[arg-type]
        ledger.models = (MODEL,)
        matter = ledger.matters["d"] = Matter(Plans(p for n, p in enumerate(PLANS) if kept >> n & 1))
        matter.target = PLANS[target]
        matter.stands_since_us = None if ticks < 0 else NOW_US - ticks * TICK_US
        mesh.update(shelf.holdings(), False, NOW_US)
        effects = Settling(ledger, NoPlanning()).settle("d", NOW_US)  # type: ignore[arg-type]
        for effect in effects:
            if isinstance(effect, Load):
                loading |= 1 << SEGMENTS.index(effect.segment)
            elif isinstance(effect, Unload):
                ready &= ~(1 << SEGMENTS.index(effect.segment))
        assert matter.target is not None
        now_target = PLANS.index(matter.target)
        since = matter.stands_since_us
        return Doing(
            sum(1 << PLANS.index(p) for p in ledger.plans("d")),
            now_target,
            loading,
            ready,
            -1 if since is None else min(TICKS_MAX, (NOW_US - since) // TICK_US),
            self._route(matter),
        )

    def _route(self, matter: Matter) -> tuple[tuple[int, tuple[int, ...]], ...]:
        served = matter.served
        if served is None or served.plan is None:
            return ()
        if self.state_in_record and served.plan != matter.target:
            return ()  # The record that is greatest says PREPARING, so nothing is ACTIVE.
        return tuple(
            (SEGMENTS.index(SegmentId(served.plan.plan_digest, i)), tuple(NODES.index(n) for n in nodes))
            for i, nodes in enumerate(served.candidates)
        )

    def _settled(self, everything: All, me: int) -> tuple[All, Doing]:
        """Let one node act on what it knows until it has nothing more to do."""
        while True:
            one = everything.nodes[me]
            views = tuple(
                one.said[-1] if n == me
                else -1 if n == everything.crashed and everything.known_dead >> me & 1
                else other.said[one.hears[n]]
                for n, other in enumerate(everything.nodes)
            )  # fmt: skip
            doing = self.doing(me, one.kept, one.target, one.loading, one.said[-1], one.ticks, views)
            said = one.said if doing.ready == one.said[-1] else (*one.said, doing.ready)
            now = one._replace(
                kept=doing.kept, target=doing.target, loading=doing.loading, ticks=doing.ticks, said=said
            )
            if now == one:
                return everything, doing
            everything = _with(everything, me, now)

    # ------------------------------------------------------------ the search

    def start(self) -> All:
        """The first plan is served by its two holders, and all know it."""
        ready = tuple(NEEDS[0] if n in {0, 1} else 0 for n in range(3))
        nodes = tuple(One(1, 1, 1, 0, 0, TICKS_MAX, (ready[n],), 1, (0, 0, 0)) for n in range(3))
        return All(nodes, -1, 0)

    def steps(self, now: All) -> Iterator[tuple[str, All]]:
        """Everything that may happen next."""
        live = [n for n in range(3) if n != now.crashed]
        for n in live:
            one = now.nodes[n]
            for made, planner in ((1, 0), (2, 1), (3, 1)):
                needs = one.heard & 0b110 if made == 3 else not one.heard & 0b1110
                if made < self.epochs + (self.epochs > 1) and n == planner and needs and not one.heard >> made & 1:
                    yield f"{NODES[n]} plans {made}", self._hear(now, n, made)
            for other in range(3):
                if other == n:
                    continue
                if other in live:
                    for plan in range(len(PLANS)):
                        if now.nodes[other].kept >> plan & 1 and self._lacks(now, n, plan):
                            yield f"{NODES[n]} hears plan {plan} of {NODES[other]}", self._hear(now, n, plan)
                if other in live or not now.known_dead >> n & 1:
                    for at in range(one.hears[other] + 1, len(now.nodes[other].said)):
                        hears = tuple(at if m == other else was for m, was in enumerate(one.hears))
                        yield f"{NODES[n]} hears facts {at} of {NODES[other]}", _with(now, n, one._replace(hears=hears))
            for bit in range(len(SEGMENTS)):
                if one.loading >> bit & 1:
                    loaded = one._replace(loading=one.loading & ~(1 << bit), said=(*one.said, one.said[-1] | 1 << bit))
                    yield f"{NODES[n]} has loaded {bit}", _with(now, n, loaded)
            if now.crashed >= 0 and not now.known_dead >> n & 1:
                yield f"{NODES[n]} learns of the death", now._replace(known_dead=now.known_dead | 1 << n)
            if now.crashed < 0:
                yield f"{NODES[n]} crashes", now._replace(crashed=n)
        if self._may_tick(now, live):
            yield (
                "5 s pass",
                now._replace(
                    nodes=tuple(
                        one._replace(
                            ticks=one.ticks if one.ticks < 0 else min(TICKS_MAX, one.ticks + 1),
                            heard_before_tick=one.heard,
                            said_before_tick=len(one.said),
                        )
                        for one in now.nodes
                    )
                ),
            )

    def _hear(self, now: All, n: int, plan: int) -> All:
        one = now.nodes[n]
        return _with(now, n, one._replace(kept=one.kept | 1 << plan, heard=one.heard | 1 << plan))

    def _lacks(self, now: All, n: int, plan: int) -> bool:
        """Whether node `n` would ask for a plan: it never heard it, or it sees holdings of a plan it does not know."""
        one = now.nodes[n]
        if one.kept >> plan & 1:
            return False
        if not one.heard >> plan & 1:
            return True
        known = 0
        for p, needs in enumerate(NEEDS):
            known |= needs if one.kept >> p & 1 else 0
        seen = 0
        for other in range(3):
            if other != n and not (other == now.crashed and now.known_dead >> n & 1):
                seen |= now.nodes[other].said[one.hears[other]]
        return bool(seen & NEEDS[plan] & ~known)

    def _may_tick(self, now: All, live: list[int]) -> bool:
        """Whether all that was said before the last tick was heard, and a death too."""
        old = 0
        for n in live:
            old |= now.nodes[n].heard_before_tick & now.nodes[n].kept
        for n in live:
            one = now.nodes[n]
            if old & ~one.heard or (now.crashed >= 0 and not now.known_dead >> n & 1):
                return False
            if any(m != n and one.hears[m] < now.nodes[m].said_before_tick - 1 for m in live):
                return False
            if any(
                self._lacks(now, n, p) for m in live if m != n for p in range(len(PLANS)) if now.nodes[m].kept >> p & 1
            ):
                return False
        return True

    def check(self, now: All, routes: list[tuple[tuple[int, tuple[int, ...]], ...]]) -> str:
        """What is wrong with a settled state; empty if nothing."""
        live = [n for n in range(3) if n != now.crashed]
        truth = [now.nodes[n].said[-1] if n in live else 0 for n in range(3)]
        if now.crashed < 0:
            for n in live:
                if not routes[n]:
                    return f"{NODES[n]} has nothing to route by, and nobody crashed"
                for segment, nodes in routes[n]:
                    if not any(truth[m] >> segment & 1 for m in nodes):
                        return f"{NODES[n]} routes to {nodes}, and none of them holds segment {segment}"
        equal = all(now.nodes[n].hears[m] == len(now.nodes[m].said) - 1 for n in live for m in live if m != n)
        told = len({now.nodes[n].target for n in live}) == 1
        lacks = any(self._lacks(now, n, p) for n in live for m in live for p in range(4) if now.nodes[m].kept >> p & 1)
        dead = now.crashed < 0 or all(now.known_dead >> n & 1 for n in live)
        if equal and told and dead and not lacks:
            ready = truth[0] | truth[1] | truth[2]
            whole = [
                p for p in range(4) if ready & NEEDS[p] == NEEDS[p] and any(now.nodes[n].kept >> p & 1 for n in live)
            ]
            for n in live:
                if whole and not routes[n]:
                    return f"views are equal, plan {whole[-1]} is READY, and {NODES[n]} serves nothing"
        return ""

    def run(self, most: int = 0) -> list[str]:
        """Search; returns the steps to the first state that is wrong, or nothing. `most` states; 0: all."""
        start, _ = self._all_settled(self.start())
        # States are kept as their 64-bit hashes (of small integers: the same everywhere), or they would not fit in memory.
        # At five million states two that differ fall together with a chance of one in a million.
        before: dict[int, int] = {hash(start): 0}
        queue = deque([start])
        while queue:
            now = queue.popleft()
            self.visited += 1
            for _, then in self.steps(now):
                settled, routes = self._all_settled(then)
                settled = _trimmed(settled)
                if hash(settled) in before:
                    continue
                before[hash(settled)] = hash(now)
                if wrong := self.check(settled, routes):
                    return [*self._path(before, start, settled), wrong]
                queue.append(settled)
            if most and self.visited >= most:
                return [f"cut off after {most} states, {len(queue)} waiting"]
            if self.progress and self.visited % 250_000 == 0:
                print(f"{self.visited} states, {len(queue)} waiting", flush=True)
        return []

    def _path(self, before: dict[int, int], start: All, last: All) -> list[str]:
        chain = [hash(last)]
        while before[chain[-1]]:
            chain.append(before[chain[-1]])
        words, now = [], start
        for wanted in chain[-2::-1]:
            for word, then in self.steps(now):
                settled = _trimmed(self._all_settled(then)[0])
                if hash(settled) == wanted:
                    words.append(word)
                    now = settled
                    break
        return words

    def _all_settled(self, now: All) -> tuple[All, list[tuple[tuple[int, tuple[int, ...]], ...]]]:
        routes: list[tuple[tuple[int, tuple[int, ...]], ...]] = []
        for n in range(3):
            if n == now.crashed:
                routes.append(())
                continue
            now, doing = self._settled(now, n)
            routes.append(doing.route)
        return now, routes


def _with(everything: All, n: int, one: One) -> All:
    return everything._replace(nodes=tuple(one if m == n else was for m, was in enumerate(everything.nodes)))


def _trimmed(now: All) -> All:
    """Forget what everybody heard: two histories that end alike are one state."""
    listeners = [n for n in range(3) if n != now.crashed]
    nodes = list(now.nodes)
    for m, one in enumerate(nodes):
        heard = [now.nodes[n].hears[m] for n in listeners if n != m]
        gone = min([*heard, len(one.said) - 1])
        if gone:
            nodes[m] = one._replace(said=one.said[gone:], said_before_tick=max(0, one.said_before_tick - gone))
            for n in range(3):
                if n != m:
                    hears = tuple(max(0, at - gone) if k == m else at for k, at in enumerate(nodes[n].hears))
                    nodes[n] = nodes[n]._replace(hears=hears)
    return now._replace(nodes=tuple(nodes))


def broken(how: str, epochs: int = 3) -> Model:
    """A model with one rule broken on purpose."""
    if how == "wait":
        return Model(replace(Timers(), unload_after_us=0), epochs=epochs)
    if how == "state":
        return Model(state_in_record=True, epochs=epochs)
    return Model(epochs=epochs)


def main() -> int:
    """Search all, and say so."""
    words = argparse.ArgumentParser()
    words.add_argument("--break", dest="how", choices=["", "wait", "state"], default="")
    words.add_argument("--most", type=int, default=0)
    words.add_argument("--epochs", type=int, default=3, choices=[2, 3])
    asked = words.parse_args()
    model, began = broken(asked.how, asked.epochs), time.monotonic()
    model.progress = True
    wrong = model.run(asked.most)
    took = time.monotonic() - began
    print(f"{model.visited} states, {model.doing.cache_info().currsize} situations of one node, {took:.0f} s")  # type: ignore[attr-defined]
    print("\n".join(["WRONG:", *wrong]) if wrong else "not cut off; every state is right")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
