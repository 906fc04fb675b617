"""How long a suspicion lasts before it is a death: Lifeguard's, as a pure function and one small record.

The timeout falls from `most` to `least` as independent members confirm: one node that hears nobody (its own fault,
usually) accuses slowly; three that agree accuse fast.

Source: Dadgar, Phillips and Currey, "Lifeguard", DSN 2018, section IV-B; memberlist `suspicion.go`.
NB the confirmations needed are recomputed as members become suspect themselves, and are at most 2.
"""

import math
from dataclasses import dataclass, field

from meshd.config import Timers
from meshd.core.ids import NodeId

CONFIRMATIONS_MAX = 2

_FALLEN_PERMILLE = {
    # log(c + 1) / log(k + 1): the share of the way from most to least after c of k confirmations. A table, so that no
    # rounding differs between machines.
    (0, 0): 1000,
    (0, 1): 0,
    (1, 1): 1000,
    (0, 2): 0,
    (1, 2): 631,
    (2, 2): 1000,
}


def timeout_us(timers: Timers, members: int, confirmed: int, needed: int) -> int:
    """Length of a suspicion, from its beginning.

    Parameters
    ----------
    members
        N, this node and the suspect included.
    confirmed
        Accusers besides the first.
    needed
        Confirmations that suffice, 0 to 2; 0 where nobody else could confirm.
    """
    least = timers.probe_period_us * timers.suspicion_min_periods * max(1000, round(1000 * math.log10(members))) // 1000
    most = least * timers.suspicion_max_factor
    fallen = _FALLEN_PERMILLE[min(confirmed, needed), needed]
    return most - (most - least) * fallen // 1000


@dataclass(slots=True)
class Suspicion:
    """An open suspicion of one (boot, incarnation)."""

    of: tuple[int, int]
    """(boot, incarnation)."""
    began_us: int
    """Moved forward by the time this node itself was stopped."""
    accusers: dict[NodeId, None] = field(default_factory=dict)
    last_pings: bool = False
    """Time is up: four last pings are out."""

    def confirm(self, accuser: NodeId) -> bool:
        """Count an accuser; True if it was new and still counts (worth passing on)."""
        if accuser in self.accusers or len(self.accusers) > CONFIRMATIONS_MAX:
            return False
        self.accusers[accuser] = None
        return True

    @property
    def confirmed(self) -> int:
        """Accusers besides the first."""
        return len(self.accusers) - 1
