"""The answering side of the negotiation: what this node bids, and which awards it accepts.

Rule 1: a bid reserves nothing; an accepted award reserves memory for ten seconds, or until a plan names the node.
Rule 2: a fresh promise to a planner who ranks better is not given up for one who ranks worse.
"""

from meshd.config import OFFERS_REMEMBERED_MAX, RATE_UNKNOWN, Timers
from meshd.core.ids import NodeId, rank
from meshd.core.intent_messages import Accept, Award, Bid, Decline, Offer, Reject
from meshd.core.plan import LayerCost
from meshd.core.shelf import Reservation, Shelf
from meshd.core.view import Capacity, Hold


def layer_us(rates: tuple[tuple[str, int], ...], layers: tuple[LayerCost, ...]) -> tuple[int, ...]:
    """Time of each layer for one item on a device of these rates, rounded up; a class that was not measured is slow."""
    known = dict(rates)
    return tuple(
        sum(-(-count * 1_000_000 // max(1, known.get(kind, RATE_UNKNOWN))) for kind, count in layer.macs)
        for layer in layers
    )


class Bidder:
    """Offers this node heard and may be awarded."""

    def __init__(self, me: NodeId, shelf: Shelf, timers: Timers) -> None:
        self._me, self._shelf, self._timers = me, shelf, timers
        self.offers: dict[tuple[NodeId, int], Offer] = {}
        self.refused = 0
        """Awards of what was never offered."""

    @staticmethod
    def is_of(offer: Offer, award: Award) -> bool:
        """Whether what is awarded is what was offered: the same deployment, each of its layers once."""
        plan = award.plan
        return plan.deployment == offer.deployment and plan.is_whole() and plan.segments[-1].end == len(offer.layers)

    def offered(self, source: NodeId, offer: Offer, capacity: Capacity, on_disk: bool, now_us: int) -> Bid | Decline:
        """Answer an offer."""
        if self._shelf.draining:
            return Decline(offer.number, "draining")
        if self._shelf.budget_bytes <= 0:
            return Decline(offer.number, "no memory budget yet: still measuring")
        failed = [i for i in self._shelf.items.values() if i.deployment == offer.deployment and i.state is Hold.FAILED]
        if any(item.retry_at_us > now_us for item in failed):
            return Decline(offer.number, f"a load failed here: {failed[0].reason}")
        self.offers[source, offer.number] = offer
        while len(self.offers) > OFFERS_REMEMBERED_MAX:
            del self.offers[next(iter(self.offers))]
        return Bid(
            offer.number,
            layer_us(capacity.rates, offer.layers),
            self._shelf.room_for(offer.deployment),
            self._shelf.held(offer.deployment),
            on_disk,
            int(capacity.watts * 1_000),
        )

    def awarded(self, source: NodeId, award: Award, trusted: bool, now_us: int) -> Accept | Reject:
        """Answer an award; reserves memory where it is accepted.

        Parameters
        ----------
        trusted : whether the planner whose promise this node holds is alive as far as it knows
        """
        offer = self.offers.get((source, award.number))
        name = award.plan.deployment
        if offer is None or not self.is_of(offer, award):
            self.refused += 1
            return Reject(award.number, "no such offer")
        before = self._shelf.reserved.get(name)
        if (
            before is not None
            and before.planner != source
            and trusted
            and now_us - before.made_us < self._timers.planner_step_us
            and rank(name, before.planner) > rank(name, source)
        ):
            return Reject(award.number, f"promised to {before.planner}, who ranks before you")
        layers = tuple(
            (at, offer.layers[at].resident_bytes)
            for span in award.plan.segments
            if self._me in span.succession
            for at in range(span.start, span.end)
        )
        promise = Reservation(source, award.number, layers, now_us, now_us + self._timers.reservation_us)
        fits = self._shelf.fits_alone(name, promise) if award.gap else self._shelf.reserve(name, promise)
        if not fits:
            return Reject(award.number, "the memory was taken meanwhile")
        return Accept(award.number)
