"""Rules of ownership and of requests."""

from dataclasses import replace
from typing import Any

from meshd.config import MS
from meshd.core.ids import Digest, NodeId
from meshd.core.journey import carrier
from meshd.core.journey import entry as entries
from meshd.core.journey.carrier import Carrier
from meshd.core.journey.effects import Effect, Finish
from meshd.core.journey.entry import Entry
from meshd.core.journey.frames import Answer, Forward
from meshd.core.journey.hop import Backlog, Hop
from meshd.core.journey.route import Route
from meshd.core.matter import Matter
from meshd.core.plan import Plan
from meshd.core.registry import Record
from meshd.core.settling import Settling
from meshd.core.view import State, View
from meshd.sim.run import Options
from tests.sim.mutants.mutant import Mutant, Patch


def _any_plan_will_do(patch: Patch) -> None:
    """A holder answers for another plan, and the entry does not look."""
    answer, answered = Carrier.answer, Entry.answered

    def another(self: Carrier, said: Answer, previous: NodeId) -> list[Effect]:
        return answer(self, replace(said, plan=Digest("0" * 64)), previous)

    def blind(self: Entry, peer: NodeId, said: Answer, now_us: int) -> list[Effect]:
        request = self._requests.get(said.request)
        for attempt in request.attempts if request else ():
            attempt.route = replace(attempt.route, plan=said.plan)
        return answered(self, peer, said, now_us)

    patch.setattr(Carrier, "answer", another)
    patch.setattr(Entry, "answered", blind)


def _hops_cost_nothing(patch: Patch) -> None:
    """The budget does not fall from hop to hop."""

    def undiminished(*fields: Any) -> Forward:
        return Forward(*fields[:6], fields[6] + 1, *fields[7:])

    patch.setattr(carrier, "Forward", undiminished)


def _computes_whatever_it_is_asked(patch: Patch) -> None:
    """A node does not look whether it holds the segment; and routes name nodes that do not."""
    judge, find_route = Hop.judge, entries.find_route

    def blind(self: Hop, forward: Forward, previous: NodeId, left_us: int, now_us: int, known: Any = None) -> Any:
        backlog = known or self.backlogs(forward.segment_id, forward.batch) or Backlog(0, 1 * MS)
        return judge(self, forward, previous, left_us, now_us, backlog)

    def anybody(view: View, *rest: Any) -> Any:
        route = find_route(view, *rest)
        return (
            replace(route, segments=(tuple(view.alive())[:4],) * len(route.segments))
            if isinstance(route, Route)
            else route
        )

    patch.setattr(Hop, "judge", blind)
    patch.setattr(entries, "find_route", anybody)


def _late_answers_count_too(patch: Patch) -> None:
    """Every attempt's answer goes to the client; and late is at once."""
    answered = Entry.answered

    def each(self: Entry, peer: NodeId, said: Answer, now_us: int) -> list[Effect]:
        if said.request not in self._requests:
            return [Finish(said.request, said, said.attempt)]
        return answered(self, peer, said, now_us)

    patch.setattr(Entry, "answered", each)
    patch.setattr(entries, "LATE_MIN_US", 1)
    patch.setattr(entries, "LATE_MAX_US", 1)


def _goes_back(patch: Patch) -> None:
    """Requests start by whatever plan serves, of whatever generation."""
    routed = Settling._routed

    def any_generation(self: Settling, record: Record, matter: Matter) -> Plan | None:
        matter.generation = 0
        return routed(self, record, matter)

    patch.setattr(Settling, "_routed", any_generation)


def _prefers_itself(patch: Patch) -> None:
    """Whoever holds a segment takes itself for its owner."""
    serve = Settling._serve

    def mine_first(self: Settling, name: str, record: Record, matter: Matter, *rest: Any) -> list[Any]:
        effects = serve(self, name, record, matter, *rest)
        if matter.served is not None:
            me = self._ledger.me
            lists = tuple(tuple(sorted(nodes, key=lambda n: n != me)) for nodes in matter.served.candidates)
            matter.served = replace(matter.served, candidates=lists)
        return effects

    patch.setattr(Settling, "_serve", mine_first)


def _needs_everybody(patch: Patch) -> None:
    """Nothing is served while somebody is dead."""
    routed = Settling._routed

    def whole_only(self: Settling, record: Record, matter: Matter) -> Plan | None:
        dead = any(member.state is State.DEAD for member in self._ledger.mesh.members.values())
        return None if dead else routed(self, record, matter)

    patch.setattr(Settling, "_routed", whole_only)


CALM = Options(5, 0.2, deployments=1)
MUTANTS = {
    "any plan will do": Mutant("E1", _any_plan_will_do, CALM),
    "requests go back a generation": Mutant(
        "E2", _goes_back, Options(5, 1, faults={"deploys": 12.0, "crash": 12.0}, deployments=1), seed=2
    ),
    "everybody prefers itself": Mutant("E3", _prefers_itself, CALM),
    "hops cost nothing": Mutant("E4", _hops_cost_nothing, CALM),
    "it computes whatever it is asked": Mutant("E5", _computes_whatever_it_is_asked, CALM, seed=1),
    "late answers count too": Mutant("E6", _late_answers_count_too, CALM),
    "nothing serves while somebody is dead": Mutant(
        "E7", _needs_everybody, Options(4, 1, faults={"gone": 0.0}, deployments=1), seed=1
    ),
}
