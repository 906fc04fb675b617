"""When this node's turn to plan has come, and its negotiations from offer to plan.

Rule 1: the node at rank i plans if nothing settled the matter 2 s x i after it saw the reason; past the first four none does.
Rule 2: a run ends when the need for it does: a plan that arrives from elsewhere settles it.
"""

from meshd.config import PLAN_AGAIN_US, PLANNERS_MAX, SHORT_AGAIN_US
from meshd.core import repair
from meshd.core.events import Effect, Report, Token
from meshd.core.ids import NodeId
from meshd.core.intent_messages import Accept, Award, Bid, Decline, Offer, Reject
from meshd.core.ledger import Ledger
from meshd.core.matter import Matter
from meshd.core.mesh import bandwidth_bps
from meshd.core.negotiation import Brief, Phase, Run
from meshd.core.placement import Infeasible, Kept, Solution
from meshd.core.registry import Record
from meshd.core.repair import Need, Standing
from meshd.core.view import State


class Planning:
    """Negotiations of this node, as planner and as bidder."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._next_offer = 0

    # ---------------------------------------------------------------- the turn

    def consider(self, name: str, stands: Standing | None, now_us: int) -> tuple[list[Effect], int | None]:
        """Begin to plan if it is needed and this node's turn; else say when that will be, if ever."""
        ledger = self._ledger
        matter, record = ledger.matters[name], ledger.record(name)
        assert record is not None, f"{name} is considered without a record"
        fresh = ledger.mesh.print_changed_us <= matter.target_seen_us
        wanted = repair.need(stands, matter.settled, fresh, ledger.mesh, ledger.timers)
        if wanted is None and stands is not None and stands.plan.generation < ledger.registry.generation(name):
            # Two parts of the mesh deployed, and met: who served the other's later generation goes back to none (E2).
            wanted = Need("merged", 0)
        if wanted != matter.need:
            matter.need, matter.needed_since_us = wanted, now_us
        if wanted is None:
            matter.problem = ""
            return self._better(name, record, matter, stands, now_us)
        if matter.run is not None and matter.run.brief.optimise:
            matter.run = None
        if matter.run is not None and matter.run.brief.record.digest != record.digest:
            matter.run = None
        if matter.run is not None:
            return [], matter.run.deadline_us if matter.run.phase is not Phase.SOLVING else None
        due = self._due(name, matter, wanted)
        if due is None or due > now_us:
            return [], due
        return self._begin(name, record, wanted, stands, now_us), None

    def _better(
        self, name: str, record: Record, matter: Matter, stands: Standing | None, now_us: int
    ) -> tuple[list[Effect], int | None]:
        """Nothing can be done that was not tried. The first planner looks, now and then, for copies that could not be made,

        and once, when all was quiet for a while, whether it can be bettered (L3).
        """
        ledger, run = self._ledger, matter.run
        if run is not None and (run.brief.optimise or run.brief.again) and run.brief.record.digest == record.digest:
            return [], run.deadline_us if run.phase is not Phase.SOLVING else None
        matter.run = None
        first = ledger.mesh.planners(name)[0]
        if stands is None or ledger.shelf.draining or first != ledger.me:
            return [], None
        if stands.shortage:
            # Who could not answer when this was planned (suspect, stalled, its link down) may now.
            due = max(matter.target_seen_us, matter.looked_us) + SHORT_AGAIN_US
            if due > now_us:
                return [], due
            matter.looked_us = now_us
            return self._begin(name, record, Need("again", 0), stands, now_us), None
        if matter.stands_since_us is None:
            return [], None
        quiet_us = max(matter.stands_since_us, matter.target_seen_us, ledger.mesh.print_changed_us)
        if matter.optimised_us is not None and matter.optimised_us >= quiet_us:
            return [], None
        if matter.optimise_at is None or matter.optimise_at[0] != quiet_us:
            # A random moment: planners of many deployments do not all move at once.
            after_us = ledger.timers.optimise_after_us
            matter.optimise_at = (quiet_us, quiet_us + after_us + ledger.rng.randrange(after_us))
        due = matter.optimise_at[1]
        if matter.moved_us is not None:
            due = max(due, matter.moved_us + ledger.timers.optimise_again_us)
        if due > now_us:
            return [], due
        matter.optimised_us = now_us
        return self._begin(name, record, Need("optimise", 0), stands, now_us), None

    def _due(self, name: str, matter: Matter, wanted: Need) -> int | None:
        order = self._ledger.mesh.planners(name)[:PLANNERS_MAX]
        if self._ledger.me not in order:
            return None
        due = (
            matter.needed_since_us
            + wanted.after_us
            + order.index(self._ledger.me) * self._ledger.timers.planner_step_us
        )
        if matter.tried_us is not None and matter.tried_us >= self._ledger.mesh.print_changed_us:
            due = max(due, matter.tried_us + PLAN_AGAIN_US)
        return due

    def _begin(self, name: str, record: Record, wanted: Need, stands: Standing | None, now_us: int) -> list[Effect]:
        ledger = self._ledger
        kept: tuple[Kept, ...] = ()
        silent = None
        if stands is not None:
            kept, silent = stands.kept(), repair.silent_sites(stands, record, ledger.mesh)
        generation = ledger.registry.generation(name)
        pairs = repair.unreachable_pairs(ledger.mesh)
        gap = not any(ledger.mesh.servable(plan) for plan in ledger.plans(name))
        run = Run(
            ledger.me,
            Brief(
                record,
                generation,
                wanted.kind,
                kept,
                silent,
                pairs,
                ledger.mesh.flapping(now_us),
                wanted.kind == "optimise",
                gap,
            ),
            ledger.rng,
        )
        ledger.matters[name].run = run
        begun = Report("plan.begun", name, {"reason": wanted.kind})
        return [begun, *self._offer(name, run, now_us)]

    def _offer(self, name: str, run: Run, now_us: int) -> list[Effect]:
        ledger = self._ledger
        self._next_offer += 1
        record = run.brief.record
        able = [
            m for m in repair.admitted(ledger.mesh, record.policy) if m.state is State.ALIVE and m.node != ledger.me
        ]
        asked = repair.candidates(able, record, run.brief.silent or (), ledger.rng)
        offer = Offer(self._next_offer, name, record.model, record.layers)
        own: Bid | Decline = ledger.bidder.offered(
            ledger.me, offer, ledger.capacity, record.model in ledger.models, now_us
        )
        me = ledger.mesh.members.get(ledger.me)
        if me is None or not ledger.mesh.may_serve(me, record.policy):
            own = Decline(offer.number, "outside the labels asked for, or draining") if me is not None else own
        effects = run.offer(offer.number, asked, own, ledger.capacity.host, bandwidth_bps(me), now_us)
        return effects + self._after(name, run, run.proceed(ledger.token(), now_us), now_us)

    # ---------------------------------------------------------------- events of a run

    def answered(self, source: NodeId, message: Bid | Decline | Accept | Reject, now_us: int) -> list[Effect]:
        """An answer to one of this node's offers or awards."""
        for name, run in self._runs():
            if run.number == message.number and run.answered(source, message):
                return self._after(name, run, run.proceed(self._ledger.token(), now_us), now_us)
        self._ledger.refused += 1
        return []

    def link_down(self, peer: NodeId, now_us: int) -> list[Effect]:
        """Nothing is to be heard from `peer` for now."""
        effects: list[Effect] = []
        for name, run in self._runs():
            if run.unreachable(peer):
                effects += self._after(name, run, run.proceed(self._ledger.token(), now_us), now_us)
        return effects

    def solved(self, token: Token, result: Solution | Infeasible, now_us: int) -> list[Effect]:
        """The solver's answer."""
        for name, run in self._runs():
            if run.phase is Phase.SOLVING and run.token == token:
                epoch = self._ledger.matters[name].plans.epoch + 1
                effects = run.solved(token, result, epoch, self._ledger.token(), now_us)
                if run.asks_me:
                    reply = self.awarded(self._ledger.me, run.award(), now_us)
                    run.answered(self._ledger.me, reply)
                return effects + self._after(name, run, run.proceed(self._ledger.token(), now_us), now_us)
        return []

    def due(self, name: str, now_us: int) -> list[Effect]:
        """The deployment's timer fired: a run may have waited long enough."""
        run = self._ledger.matters[name].run
        if run is None or now_us < run.deadline_us or run.phase is Phase.SOLVING:
            return []
        if run.phase is Phase.RESTING:
            return self._offer(name, run, now_us)
        return self._after(name, run, run.on_deadline(self._ledger.token(), now_us), now_us)

    def _runs(self) -> list[tuple[str, Run]]:
        return [(name, m.run) for name, m in sorted(self._ledger.matters.items()) if m.run is not None]

    def _after(self, name: str, run: Run, effects: list[Effect], now_us: int) -> list[Effect]:
        """What the end of a run brings."""
        ledger, matter = self._ledger, self._ledger.matters[name]
        if run.phase is Phase.FAILED and (run.brief.optimise or run.brief.again):
            matter.run = None
            return effects
        if run.phase is Phase.FAILED:
            matter.run, matter.tried_us, matter.problem = None, now_us, run.problem
            return [*effects, Report("plan.impossible", name, {"reason": run.problem})]
        if run.phase is not Phase.AGREED:
            return effects
        plan = run.plan
        assert plan is not None
        matter.run, matter.problem = None, ""
        matter.moved_us = now_us if run.brief.optimise else matter.moved_us
        matter.plans.merge(plan)
        ledger.note(name)
        named = tuple({node: None for span in plan.segments for node in span.succession})
        detail: dict[str, str | int] = {
            "epoch": plan.epoch,
            "segments": len(plan.segments),
            "cost": plan.cost_us,
            "reason": run.brief.reason,
        }
        agreed = Report("plan.agreed", name, detail)
        return [*effects, agreed, *ledger.persist(name)[1], *ledger.tell_at_once(name, named)]

    # ---------------------------------------------------------------- the other side

    def offered(self, source: NodeId, offer: Offer, now_us: int) -> Bid | Decline:
        """Answer another planner's offer."""
        ledger = self._ledger
        return ledger.bidder.offered(source, offer, ledger.capacity, offer.model in ledger.models, now_us)

    def awarded(self, source: NodeId, award: Award, now_us: int) -> Accept | Reject:
        """Answer an award."""
        ledger = self._ledger
        promise = ledger.shelf.reserved.get(award.plan.deployment)
        planner = None if promise is None else ledger.mesh.members.get(promise.planner)
        trusted = planner is not None and planner.state is State.ALIVE
        return ledger.bidder.awarded(source, award, trusted, now_us)
