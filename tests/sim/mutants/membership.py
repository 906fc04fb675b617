"""Rules of membership and facts."""

from dataclasses import replace
from typing import Any

from meshd.config import S, Timers
from meshd.core import dissemination, join, membership, myfacts
from meshd.core.contact import Contacts
from meshd.core.facts import Facts, FactSet, Merged
from meshd.core.ids import NodeId
from meshd.core.join import Joins
from meshd.core.membership import Members
from meshd.core.messages import FactsDelta, Rumour
from meshd.core.myfacts import MyFacts
from meshd.core.reception import Reception
from meshd.core.swim import Swim
from meshd.core.sync import Sync
from meshd.core.view import State
from meshd.sim.run import Options
from tests.sim.mutants.mutant import Mutant, Patch


def _hearer_raises(patch: Patch) -> None:
    """Who hears of a suspicion raises the subject's incarnation for it."""
    learn = Swim.learn

    def raises(self: Swim, rumour: Rumour) -> membership.Record | None:
        raised = rumour.incarnation + (rumour.state is State.SUSPECT)
        return learn(self, replace(rumour, incarnation=raised))

    patch.setattr(Swim, "learn", raises)


def _alive_beats_suspect(patch: Patch) -> None:
    """ALIVE of the same incarnation ends a suspicion."""

    def supersedes(self: Members, rumour: Rumour) -> bool:
        record = self.records.get(rumour.subject)
        if record is None:
            return rumour.state is State.ALIVE
        if rumour.state is State.ALIVE and record.state is State.SUSPECT:
            return (rumour.boot, rumour.incarnation) >= record.order()[:2]
        return (rumour.boot, rumour.incarnation, rumour.state.value) > record.order()

    patch.setattr(Members, "supersedes", supersedes)


def _believes_its_accuser(patch: Patch) -> None:
    """A node that is accused takes it for true."""

    def hear(self: Swim, rumour: Rumour, source: NodeId) -> None:
        if rumour.state is State.SUSPECT:
            self._context.state = State.SUSPECT
            self._on_refuted(self._context.me)

    patch.setattr(Swim, "_hear_of_me", hear)
    patch.setattr(
        Swim, "accused", lambda self, held: hear(self, Rumour(held.state, self._context.me, held.boot, 0), "")
    )  # type: ignore[arg-type]


def _never_tires(patch: Patch) -> None:
    """News is passed on ten times as often."""
    patch.setattr(dissemination, "sends_max", lambda members, factor: 10 * factor * members.bit_length())


def _trusts_any_boot(patch: Patch) -> None:
    """A boot needs to prove nothing."""

    def proves(self: Reception, record: membership.Record, datagram: Any) -> bool:
        record.verified = datagram.boot
        return True

    patch.setattr(Reception, "_proves", proves)


def _never_buries(patch: Patch) -> None:
    """A suspicion whose time is up is forgotten about."""
    patch.setattr(Swim, "on_suspect_timer", lambda self, node: None)


def _never_refutes(patch: Patch) -> None:
    """The accused keeps its incarnation."""
    patch.setattr(Swim, "_refute", lambda self, accused: None)


def _never_calls_the_dead(patch: Patch) -> None:
    """Whom it holds dead a node never speaks to again; nor to peers it remembers."""
    patch.setattr(Contacts, "call", lambda self, record: None)
    patch.setattr(Contacts, "on_seeds", lambda self: None)


def _never_syncs(patch: Patch) -> None:
    """Anti-entropy sees no difference, gossip of facts is lost."""
    patch.setattr(Sync, "on_message", lambda self, source, message: None)
    patch.setattr(dissemination.Rumours, "put_facts", lambda self, node, base: None)


def _strangers_pile_up(patch: Patch) -> None:
    """Every Join that was not followed up is kept."""

    class Endless(dict):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return 0

    made = Joins.__init__

    def init(self: Joins, *arguments: Any) -> None:
        made(self, *arguments)
        self._strangers = Endless()

    patch.setattr(Joins, "__init__", init)
    patch.setattr(Joins, "sizes", lambda self: [("strangers", sum(1 for _ in self._strangers), join.CHALLENGES_MAX)])


def _forgets_to_count(patch: Patch) -> None:
    """Two facts of one version."""
    write = FactSet.write

    def same_version(self: FactSet, fact: Any, now_us: int) -> None:
        write(self, replace(fact, version=max(1, fact.version - 1)), now_us)

    patch.setattr(FactSet, "write", same_version)


def _takes_gaps(patch: Patch) -> None:
    """A delta from beyond what it has is taken as if nothing were missing."""
    merge = Facts.merge

    def blind(self: Facts, delta: FactsDelta, now_us: int) -> Merged:
        known = self.of(delta.node)
        base = known.version if known.boot == delta.boot else 0
        if delta.base > base and known.boot == delta.boot:
            delta = replace(delta, base=base)
        return merge(self, delta, now_us)

    patch.setattr(Facts, "merge", blind)


def _shows_parts(patch: Patch) -> None:
    """Part of a delta counts as the version it was cut at."""
    merge = Facts.merge
    patch.setattr(Facts, "merge", lambda self, delta, now_us: merge(self, replace(delta, whole=0), now_us))


def _takes_old_facts(patch: Patch) -> None:
    """What arrives is taken, newer or not."""

    def latest(self: Facts, delta: FactsDelta, now_us: int) -> Merged:
        merged = FactSet(delta.boot)
        for fact in delta.entries:
            merged.write(fact, now_us)
        merged.version = delta.version
        self._sets[delta.node] = merged
        return Merged.NEWS

    patch.setattr(Facts, "merge", latest)


def _mourns_strangers(patch: Patch) -> None:
    """Anti-entropy tells all tombstones to all, and an obituary about somebody unknown makes a member."""
    supersedes, in_buckets = Members.supersedes, Sync._in_buckets

    def all_told(self: Sync, buckets: set[int]) -> Any:
        members, intents = in_buckets(self, buckets)
        gone = [digest for node in self._members.gone if (digest := self._digest(node)) is not None]
        return (*members, *gone), intents

    patch.setattr(Members, "supersedes", lambda self, r: r.subject not in self.records or supersedes(self, r))
    patch.setattr(Sync, "_in_buckets", all_told)
    patch.setattr(Sync, "_age_us", lambda self, node: 0)


def _talks_all_the_time(patch: Patch) -> None:
    """Capacity is published whenever it changed."""
    patch.setattr(myfacts, "FACTS_BPS_MAX", 1 << 40)
    say = MyFacts.say

    def at_once(self: MyFacts, members: int) -> bool:
        self._said_us = None
        return say(self, members)

    patch.setattr(MyFacts, "say", at_once)


FAULTY = {"crash": 3.0, "loss": 0.2, "stall": 0.0, "burst": 0.0}
TERSE = replace(Timers(), rumour_sends_factor=1)
BRIEF = replace(Timers(), tombstone_dead_us=12 * S, tombstone_left_us=12 * S)

MUTANTS = {
    "a hearer raises the incarnation": Mutant("M1", _hearer_raises, Options(4, 1, faults=FAULTY)),
    "alive beats suspect": Mutant("M2", _alive_beats_suspect, Options(4, 1, faults=FAULTY), seed=1),
    "the accused believes it": Mutant("M3", _believes_its_accuser, Options(4, 1, faults=FAULTY)),
    "news never tires": Mutant("M4", _never_tires, Options(4, 1, faults={"crash": 2.0})),
    "any boot is trusted": Mutant("M5", _trusts_any_boot, Options(4, 2, faults={"crash": 6.0, "replay": 0.0})),
    "nobody is buried": Mutant("M6", _never_buries, Options(3, 0.1)),
    "nobody refutes": Mutant("M7", _never_refutes, Options(4, 1, faults=FAULTY)),
    "the dead are not called": Mutant("M7", _never_calls_the_dead, Options(4, 2, faults={"split": 0.0})),
    "nothing is mended": Mutant("M8", _never_syncs, Options(4, 1, faults={"split": 0.0})),
    "strangers pile up": Mutant("M9", _strangers_pile_up, Options(3, 1, faults={"strangers": 0.0}), seed=2),
    "versions stand still": Mutant("C1", _forgets_to_count, Options(3, 0.5, faults={"busy": 0.0})),
    "gaps are taken": Mutant("C2", _takes_gaps, Options(4, 1, faults={"loss": 0.4, "busy": 0.0}, timers=TERSE)),
    "parts are shown": Mutant(
        "C2", _shows_parts, Options(6, 0.5, faults={"crash": 3.0, "busy": 0.0}, deployments=2), 15
    ),
    "old facts are taken": Mutant("C3", _takes_old_facts, Options(4, 1, faults={"busy": 0.0, "delay": 0.0})),
    "ghosts return": Mutant(
        "C4", _mourns_strangers, Options(5, 4, faults={"gone": 0.0, "crash": 2.0, "busy": 0.0}, timers=BRIEF), 1
    ),
    "facts talk all the time": Mutant("C5", _talks_all_the_time, Options(3, 0.5, faults={"busy": 0.0})),
}
