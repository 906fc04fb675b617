"""The asking side of the negotiation: one planner's run from offer to plan, which is also how repair works.

    BIDDING → SOLVING → AWARDING → agreed
                 ↑          │ a reject, or silence: again without it, after a random 0.2 to 1 s, at most 3 rounds
                 └─ RESTING ┘

Rule 1: no state outlives the run: a planner that dies leaves promises that expire, and the next in rank begins anew.
Rule 2: two planners at once are harmless: plans are totally ordered, and holders follow the greatest.
Rule 3: in a repair what stands is given to the solver; only if the gaps cannot be filled is everything placed anew; and
only if nothing serves, and nothing fits beside what is held, as if that were gone.

Source: the contract net, Smith, "The contract net protocol", IEEE Trans. Computers 1980.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from meshd.config import AWARD_WINDOW_US, BID_WINDOW_US, FLAPPING_TIMES, MS, ROUNDS_MAX, S
from meshd.core.events import Effect, SendLink, Solve, Token
from meshd.core.ids import NodeId, rank
from meshd.core.intent_messages import Accept, Award, Bid, Decline, Offer, Reject
from meshd.core.mesh import bandwidth_bps
from meshd.core.placement import Infeasible, Kept, Problem, Site, Solution, Stage
from meshd.core.plan import Encoding, Plan, PlanSegment
from meshd.core.registry import Record
from meshd.core.rng import Rng
from meshd.core.view import Member

LOAD_BYTES_PER_US = 50
"""Stated speed of fetching, unpacking and loading: 50 MB/s, a slow card and a 1 Gbit/s link."""
LOAD_LEAST_US = 5 * S
"""Compiling kernels the first time takes seconds whatever the size."""


class Phase(Enum):
    """Where a run is."""

    BIDDING = "bidding"
    SOLVING = "solving"
    AWARDING = "awarding"
    RESTING = "resting"
    AGREED = "agreed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Brief:
    """What a run is about. Immutable: when any of it changes the run is dropped."""

    record: Record
    generation: int
    reason: str
    kept: tuple[Kept, ...] = ()
    """Segments as they stand, for a repair."""
    silent: Mapping[NodeId, Site] | None = None
    """What the facts say of holders that may not answer: they keep what they hold and get nothing new."""
    unreachable: tuple[tuple[NodeId, NodeId], ...] = ()
    flapping: tuple[NodeId, ...] = ()
    """Nodes that count as slow for what they do not hold: they hardly stay."""
    optimise: bool = False
    """Nothing is missing: move only if it is well worth it (`_worth_moving`)."""
    gap: bool = False
    """No plan serves: if nothing fits beside what is held, what is held may go first."""

    @property
    def again(self) -> bool:
        """Only copies are missing, and they could not be made when this was last planned: a plan that has no more is none."""
        return self.reason == "again"


class Run:
    """One planner's run for one deployment. The caller performs effects, and reads `phase`, `plan` and `problem`."""

    def __init__(self, me: NodeId, brief: Brief, rng: Rng) -> None:
        self.me, self.brief = me, brief
        self.phase = Phase.RESTING
        self.number = 0
        self.token = Token(0)
        self.deadline_us = 0
        """When `on_deadline` is due, in every phase but SOLVING, AGREED and FAILED."""
        self.plan: Plan | None = None
        self.problem = ""
        """Why it failed, in words for a person."""
        self.solution: Solution | None = None
        self._rng = rng
        self._round = 0
        self._members: dict[NodeId, Member] = {}
        self._left_out: dict[NodeId, str] = {}
        self._sites: dict[NodeId, Site] = {}
        self._waiting: dict[NodeId, None] = {}
        self._kept = brief.kept
        self._gap = False
        self._before: Solution | None = None
        """An optimising run: what stands, as the solver sees it."""

    # ---------------------------------------------------------------- offer, bid

    def offer(
        self, number: int, candidates: Iterable[Member], own: Bid | Decline, own_host: str, own_bps: int, now_us: int
    ) -> list[Effect]:
        """Begin a round under a fresh number: ask every candidate but those who refused before."""
        self.number, self.phase, self._round = number, Phase.BIDDING, self._round + 1
        self._members = {m.node: m for m in candidates if m.node not in self._left_out and m.node != self.me}
        self._sites, self._waiting = {}, dict.fromkeys(sorted(self._members))
        self.deadline_us = now_us + BID_WINDOW_US
        record = self.brief.record
        message = Offer(number, record.name, record.model, record.layers)
        effects: list[Effect] = [SendLink(node, message) for node in self._waiting]
        if isinstance(own, Bid) and self.me not in self._left_out:
            self._sites[self.me] = self._site(self.me, own, own_host, 0, own_bps)
        elif isinstance(own, Decline):
            self._left_out.setdefault(self.me, own.reason)
        return effects

    def answered(self, source: NodeId, message: Bid | Decline | Accept | Reject) -> bool:
        """A bid, or what became of an award. False for one that nobody waits for: of another round, or of other layers."""
        if message.number != self.number or source not in self._waiting:
            return False
        match self.phase, message:
            case Phase.BIDDING, Bid() if len(message.layer_us) == len(self.brief.record.layers):
                member = self._members[source]
                self._sites[source] = self._site(
                    source, message, member.capacity.host, member.rtt_us, bandwidth_bps(member)
                )
            case Phase.BIDDING, Decline(_, reason):
                self._left_out[source] = reason
            case Phase.AWARDING, Accept():
                pass
            case Phase.AWARDING, Reject(_, reason):
                self._left_out[source] = reason
            case _:
                return False
        del self._waiting[source]
        return True

    def unreachable(self, peer: NodeId) -> bool:
        """The link to `peer` is down: it will not answer this round. True if it was waited for."""
        if peer not in self._waiting:
            return False
        del self._waiting[peer]
        self._left_out[peer] = "its link is down"
        return True

    def _site(self, node: NodeId, bid: Bid, host: str, rtt_us: int, bps: int) -> Site:
        policy = self.brief.record.policy
        memory = min(bid.memory_bytes, policy.memory_bytes_max) if policy.memory_bytes_max else bid.memory_bytes
        times = bid.layer_us
        if node in self.brief.flapping:
            held = {at for start, end in bid.held for at in range(start, end)}
            times = tuple(us if at in held else us * FLAPPING_TIMES for at, us in enumerate(times))
        return Site(
            node,
            memory,
            times,
            bps,
            rtt_us,
            host,
            bid.milliwatts,
            bid.held,
            bid.on_disk,
        )

    # ---------------------------------------------------------------- solve

    def proceed(self, token: Token, now_us: int) -> list[Effect]:
        """Go on if nobody is waited for: bids are in (solve), or awards are (agreed, or a rest before the next round)."""
        if self._waiting:
            return []
        if self.phase is Phase.BIDDING:
            return self._solve(token)
        if self.phase is Phase.AWARDING:
            assert self.plan is not None
            if any(node in self._left_out for span in self.plan.segments for node in span.succession):
                return self._rest(now_us)
            self.phase = Phase.AGREED
        return []

    def on_deadline(self, token: Token, now_us: int) -> list[Effect]:
        """Nobody is waited for any longer. Call `offer` when this leaves the run RESTING with its deadline passed."""
        if self.phase is Phase.BIDDING:
            self._waiting = {}
        elif self.phase is Phase.AWARDING:
            self._left_out.update(dict.fromkeys(self._waiting, "it did not answer the award"))
            self._waiting = {}
        return self.proceed(token, now_us)

    def _solve(self, token: Token) -> list[Effect]:
        brief, record = self.brief, self.brief.record
        sites = dict(brief.silent or {}) | self._sites
        order = sorted(sites, key=lambda node: rank(record.name, node), reverse=True)
        self.phase, self.token = Phase.SOLVING, token
        weights = tuple(layer.weight_bytes for layer in record.layers)
        problem = Problem(
            tuple(layer.resident_bytes for layer in record.layers),
            (record.input_bytes, *(layer.crossing_bytes for layer in record.layers)),
            tuple(sites[node] for node in order),
            record.policy.objective,
            record.policy.replicas,
            record.policy.segments_min,
            weights,
            unreachable=brief.unreachable,
            gap=self._gap,
            keep_input=record.policy.keep_input,
            kept=tuple(Kept(k.start, k.end, tuple(n for n in k.succession if n in sites)) for k in self._kept),
        )
        return [Solve(token, problem)]

    def solved(
        self, token: Token, result: Solution | Infeasible, epoch: int, again: Token, now_us: int
    ) -> list[Effect]:
        """The solver's answer to `token`. `again` is for a second question, `epoch` for the plan."""
        if self.phase is not Phase.SOLVING or token != self.token:
            return []
        if self.brief.optimise:
            if isinstance(result, Infeasible) or (self._before is not None and not _worth_moving(self._before, result)):
                self.phase = Phase.FAILED
                return []
            if self._before is None:
                self._before, self._kept = result, ()
                return self._solve(again)
        if self.brief.again and (isinstance(result, Infeasible) or _copies(result.stages) <= _copies(self._kept)):
            self.phase = Phase.FAILED
            return []
        if isinstance(result, Infeasible):
            if self._kept:
                self._kept = ()
                return self._solve(again)
            if self.brief.gap and not self._gap:
                self._gap = True
                return self._solve(again)
            self.phase, self.problem = Phase.FAILED, self._failure(result.reason)
            return []
        self.solution = result
        self.plan = self._drafted(result, epoch)
        self.phase, self.deadline_us = Phase.AWARDING, now_us + AWARD_WINDOW_US
        self._waiting = dict.fromkeys(self._awarded(self.plan))
        effects: list[Effect] = [SendLink(n, self.award()) for n in self._waiting if n != self.me]
        return effects

    def _failure(self, reason: str) -> str:
        declined = ", ".join(f"{node}: {why}" for node, why in sorted(self._left_out.items())[:8])
        return f"{reason}; took no part: {declined}" if declined else reason

    def _awarded(self, plan: Plan) -> list[NodeId]:
        """Nodes that get something they do not hold: the others have nothing to promise."""
        new = {
            node
            for span in plan.segments
            for node in span.succession
            if node in self._sites and not _covers(self._sites[node].held, span.start, span.end)
        }
        return sorted(new)

    def award(self) -> Award:
        """What is said to those awarded."""
        assert self.plan is not None, "an award without a plan"
        return Award(self.number, self.plan, self._gap)

    @property
    def asks_me(self) -> bool:
        """Whether this node itself is among those awarded and has not answered."""
        return self.phase is Phase.AWARDING and self.me in self._waiting

    def _drafted(self, solution: Solution, epoch: int) -> Plan:
        record = self.brief.record
        last = len(record.layers)
        spans = tuple(
            PlanSegment(
                stage.start,
                stage.end,
                tuple((name, Encoding(kind)) for name, kind in record.crossings[stage.end - 1])
                if stage.end < last
                else (),
                stage.succession,
            )
            for stage in solution.stages
        )
        most = max(
            sum(
                layer.weight_bytes
                for span in spans
                if node in span.succession
                for layer in record.layers[span.start : span.end]
            )
            for node in {node for span in spans for node in span.succession}
        )
        load_us = LOAD_LEAST_US + most // LOAD_BYTES_PER_US
        return Plan(
            record.name,
            self.brief.generation,
            record.digest,
            epoch,
            record.model,
            spans,
            solution.cost,
            self.me,
            load_us,
        )

    # ---------------------------------------------------------------- again

    def _rest(self, now_us: int) -> list[Effect]:
        if self._round >= ROUNDS_MAX:
            self.phase, self.problem = Phase.FAILED, self._failure(f"no agreement in {ROUNDS_MAX} rounds")
            return []
        self.phase, self.plan = Phase.RESTING, None
        self.deadline_us = now_us + 200 * MS + self._rng.randrange(800 * MS)
        return []


def _copies(stages: tuple[Stage, ...] | tuple[Kept, ...]) -> int:
    return sum(len(stage.succession) for stage in stages)


def _covers(ranges: tuple[tuple[int, int], ...], start: int, end: int) -> bool:
    there = {at for low, high in ranges for at in range(low, high)}
    return all(at in there for at in range(start, end))


def _worth_moving(before: Solution, after: Solution) -> bool:
    """The gate of optimising moves: a quarter cheaper, twice what moving costs, and no copy fewer.

    Moving is priced over ten minutes of requests (`placement_cost.MOVE_BYTES_PER_US`).
    """
    old, new = before.cost - before.move, after.cost - after.move
    return 4 * new <= 3 * old and old - new >= 2 * after.move and after.copies_short <= before.copies_short
