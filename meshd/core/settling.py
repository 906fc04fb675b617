"""From records, plans and the mesh as it is: what to load, what to let go, what to fetch, and what serves.

Rule 1: settling may be run at any time and any number of times: it acts on differences only, and sets one timer.
Rule 2: holders load for the target, and unload only by the unload rule (`ownership.unload_after`).
Rule 3: which plan serves is derived from holdings, never written down: the greatest that is servable (`_routed`).
"""

from meshd.config import FETCH_AGAIN_US, READY_YOUNG_US
from meshd.core import repair
from meshd.core.deploying import keepers
from meshd.core.events import CancelTimer, Discard, Effect, Fetch, Report, SetTimer, TimerId
from meshd.core.ids import NodeId, SegmentId
from meshd.core.ledger import Ledger, served_models
from meshd.core.matter import Matter
from meshd.core.ownership import candidates, unload_after
from meshd.core.plan import Plan
from meshd.core.planning import Planning
from meshd.core.registry import Record
from meshd.core.view import Hold, Served

Due = int | None


class Settling:
    """Settles deployments one by one."""

    def __init__(self, ledger: Ledger, planning: Planning) -> None:
        self._ledger, self._planning = ledger, planning

    def settle(self, name: str, now_us: int) -> list[Effect]:
        """Bring one deployment to where records, plans and the mesh say it should be."""
        ledger, matter, record = self._ledger, self._ledger.matters[name], self._ledger.record(name)
        if record is None:
            return []
        effects: list[Effect] = []
        dues: list[Due] = []
        if record.retired:
            matter.run = matter.need = matter.target = matter.stands_since_us = None
            effects += self._let_go(name) + self._discard(matter)
        else:
            effects += self._adopt(name, record, matter, now_us)
            dues.append(self._measure(matter, now_us))
            effects += self._load(record, matter, now_us)
            unloads, due = self._unload(name, record, matter, now_us)
            effects += unloads
            dues += [due, self._retry_due(name, now_us)]
            effects += self._fetch(record, matter, dues, now_us)
            if not matter.held_back:
                begun, due = self._planning.consider(name, self._stands(record, matter, now_us), now_us)
                effects += begun
                dues += [due, self._patience_due(record, matter, now_us)]
        if matter.plans.prune(record.digest, self._worth):
            effects += ledger.persist(name)[1]
            ledger.note(name)
        effects += self._serve(name, record, matter, dues, now_us)
        return effects + self._timer(name, matter, [due for due in dues if due is not None and due > now_us], now_us)

    # ---------------------------------------------------------------- the target

    def _adopt(self, name: str, record: Record, matter: Matter, now_us: int) -> list[Effect]:
        """Note a new target; a promise to its planner ends, for the plan takes its place."""
        target = matter.plans.target(record.digest)
        if target == matter.target:
            return []
        matter.target, matter.target_seen_us, matter.stands_since_us, matter.tried_us = target, now_us, None, None
        matter.settled = ()
        if target is None:
            return []
        self._ledger.shelf.reserved.pop(name, None)
        stands = self._stands(record, matter, now_us)
        matter.settled = () if stands is None else stands.shortage
        return []

    def _stands(self, record: Record, matter: Matter, now_us: int) -> repair.Standing | None:
        if matter.target is None:
            return None
        ledger = self._ledger
        return repair.standing(matter.target, matter.target_seen_us, record, ledger.mesh, ledger.timers, now_us)

    def _measure(self, matter: Matter, now_us: int) -> Due:
        """Since when the target stands without a break."""
        if matter.target is None or not self._ledger.mesh.stands(matter.target):
            matter.stands_since_us = None
        elif matter.stands_since_us is None:
            matter.stands_since_us = now_us
        return None

    def _patience_due(self, record: Record, matter: Matter, now_us: int) -> Due:
        """When a listed node that does not hold its segment stops to count."""
        target, ledger = matter.target, self._ledger
        if target is None:
            return None
        patience = ledger.timers.overdue_us + 2 * target.load_us
        listed = {node for span in target.segments for node in span.succession}
        ends = [
            max(matter.target_seen_us, ledger.mesh.known_since_us(member)) + patience
            for member in ledger.mesh.live
            if member.node in listed
        ]
        return min((end for end in ends if end > now_us), default=None)

    # ---------------------------------------------------------------- holdings

    def _load(self, record: Record, matter: Matter, now_us: int) -> list[Effect]:
        ledger, target = self._ledger, matter.target
        effects: list[Effect] = []
        if target is None or ledger.shelf.draining:
            return effects
        for index, span in enumerate(target.segments):
            if ledger.me in span.succession:
                effects += ledger.shelf.load(SegmentId(target.plan_digest, index), target, record.layers, now_us)
        return effects

    def _unload(self, name: str, record: Record, matter: Matter, now_us: int) -> tuple[list[Effect], Due]:
        ledger, target = self._ledger, matter.target
        effects: list[Effect] = []
        dues: list[int] = []
        served_for = None if matter.stands_since_us is None else now_us - matter.stands_since_us
        for segment, item in sorted(ledger.shelf.items.items()):
            if item.deployment != name or item.unloading:
                continue
            same = target is not None and target.plan_digest == segment.plan
            listed = same and target is not None and ledger.me in target.segments[segment.index].succession
            if item.state is Hold.FAILED:
                if not listed:
                    effects += ledger.shelf.unload(segment)
                continue
            wait = unload_after(listed, same, ledger.shelf.draining, served_for, ledger.timers)
            over = ledger.shelf.draining and now_us >= ledger.shelf.drained_by_us
            if over or (wait < 0 and not listed and self._in_the_way(name, record, matter)):
                wait = 0
            if wait == 0:
                effects += ledger.shelf.unload(segment)
            elif wait > 0:
                dues.append(now_us + wait)
        return effects, min(dues, default=None)

    def _in_the_way(self, name: str, record: Record, matter: Matter) -> bool:
        """Whether nothing serves, and what is held and not listed keeps out what the target lists (an award with a gap).

        NB the one exception to the unload rule: no request can be answered whether or not it is kept.
        """
        ledger, target = self._ledger, matter.target
        if target is None or any(ledger.mesh.servable(plan) for plan in ledger.plans(name)):
            return False
        mine = (SegmentId(target.plan_digest, i) for i, s in enumerate(target.segments) if ledger.me in s.succession)
        return any(ledger.shelf.lacks_room(segment, target, record.layers) for segment in mine)

    def _let_go(self, name: str) -> list[Effect]:
        """A retired deployment needs nothing any more."""
        shelf = self._ledger.shelf
        shelf.reserved.pop(name, None)
        return [effect for s, i in sorted(shelf.items.items()) if i.deployment == name for effect in shelf.unload(s)]

    def _retry_due(self, name: str, now_us: int) -> Due:
        failed = (i for i in self._ledger.shelf.items.values() if i.deployment == name and i.state is Hold.FAILED)
        return min((item.retry_at_us for item in failed if item.retry_at_us > now_us), default=None)

    # ---------------------------------------------------------------- blobs

    def _fetch(self, record: Record, matter: Matter, dues: list[Due], now_us: int) -> list[Effect]:
        """Be one of three that keep a live deployment's blobs."""
        ledger = self._ledger
        if record.model in ledger.models or ledger.me not in keepers(ledger.mesh, record.model):
            return []
        sources = ledger.mesh.sources(record.model)
        if not sources:
            return []
        if now_us < matter.fetch_at_us:
            dues.append(matter.fetch_at_us)
            return []
        matter.fetch_at_us, matter.fetched = now_us + FETCH_AGAIN_US, record.model
        dues.append(matter.fetch_at_us)
        return [Fetch(record.model, sources)]

    def _discard(self, matter: Matter) -> list[Effect]:
        """Blobs that were fetched for a deployment that is no more; those that were pushed here stay."""
        model = matter.fetched
        if model is None or model in served_models(self._ledger):
            return []
        matter.fetched = None
        return [Discard(model)]

    # ---------------------------------------------------------------- what serves

    def _worth(self, plan: Plan) -> int:
        mesh = self._ledger.mesh
        return 2 if mesh.servable(plan) else int(mesh.anything_held(plan))

    def _serve(self, name: str, record: Record, matter: Matter, dues: list[Due], now_us: int) -> list[Effect]:
        ledger, mesh = self._ledger, self._ledger.mesh
        if record.retired:
            matter.served = None
            return []
        plan = self._routed(record, matter)
        lists: tuple[tuple[NodeId, ...], ...] = ()
        if plan is not None:
            lists = tuple(candidates(plan, index, mesh.holders) for index in range(len(plan.segments)))
            young = [
                h.ready_for_us for i in range(len(plan.segments)) for h in mesh.holders[SegmentId(plan.plan_digest, i)]
            ]
            ages = [now_us + READY_YOUNG_US - age for age in young if age < READY_YOUNG_US]
            dues.append(min(ages, default=None))
        before = matter.served
        matter.served = Served(
            name,
            record.model,
            ledger.registry.generation(name),
            record.digest,
            record.policy,
            plan,
            matter.target,
            lists,
            ledger.registry.conflict(name),
            matter.problem,
        )
        return _reports(name, before, matter.served)

    def _routed(self, record: Record, matter: Matter) -> Plan | None:
        """The greatest servable plan; within its generation, one whose listed nodes hold it goes first."""
        mesh = self._ledger.mesh
        able = [p for p in matter.plans.all(record.digest) if p.generation >= matter.generation and mesh.servable(p)]
        if not able:
            return None
        alike = [
            p for p in able if (p.generation, p.deployment_record) == (able[0].generation, able[0].deployment_record)
        ]
        plan = next((p for p in alike if mesh.stands_draining(p)), able[0])
        matter.generation = plan.generation
        return plan

    def _timer(self, name: str, matter: Matter, dues: list[int], now_us: int) -> list[Effect]:
        due = min(dues, default=None)
        if due == matter.due_us:
            return []
        matter.due_us, timer = due, TimerId(f"intent/due/{name}")
        return [CancelTimer(timer)] if due is None else [SetTimer(timer, due - now_us)]


def _reports(name: str, before: Served | None, after: Served) -> list[Effect]:
    """What an operator wants to see of a change: servable or not, and promotions."""
    plan_before = None if before is None else before.plan
    if after.plan is None:
        return [Report("deployment.unservable", name)] if plan_before is not None else []
    if plan_before is None or plan_before.plan_digest != after.plan.plan_digest:
        return [Report("deployment.servable", name, {"epoch": after.plan.epoch, "segments": len(after.plan.segments)})]
    assert before is not None
    return [
        Report("segment.promoted", name, {"segment": i, "from": old[0], "to": new[0]})
        for i, (old, new) in enumerate(zip(before.candidates, after.candidates, strict=True))
        if old[0] != new[0] and new[0] in old  # Else a node that is listed earlier has come up.
    ]
