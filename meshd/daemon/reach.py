"""Which peers data links are kept to, and what they measure there.

Rule 1: where anything is deployed, every live member may be an entry for every holder, so all are linked, up to
`DATA_LINKS_MAX`: holders first. Where nothing is deployed, none is.
Rule 2: DEAD and LEFT members are dropped; a SUSPECT keeps its link, whose end is the quickest news of a death.
Rule 3: who is alive again is dialled at once, whatever pause the dials that failed meanwhile led to.
"""

from collections.abc import Callable

from meshd.config import DATA_LINKS_MAX
from meshd.core.events import LinkMeasured
from meshd.core.ids import NodeId
from meshd.core.view import State, View
from meshd.net.link_data import DataLinks


class Reach:
    """Keeps `links` as the view wants them; on the driver's thread."""

    def __init__(self, links: DataLinks) -> None:
        self._links = links
        self._kept: set[NodeId] = set()
        self._suspect: set[NodeId] = set()

    def view_changed(self, view: View) -> None:
        """Connect and drop; neither waits."""
        wanted = set(wanted_links(view))
        for peer in self._kept - wanted:
            self._links.drop(peer)
        suspect = {peer for peer in wanted if view.members[peer].state is State.SUSPECT}
        for peer in (wanted - self._kept) | (self._suspect - suspect) & wanted:
            self._links.ensure(peer)
        self._kept, self._suspect = wanted, suspect

    def measure(self, tell: Callable[[LinkMeasured], object]) -> None:
        """Tell what each link measured since."""
        for peer in sorted(self._kept):
            if rtt_us := self._links.rtt_us(peer):
                # Links count bytes a second, the control plane bits.
                tell(LinkMeasured(peer, rtt_us, 8 * self._links.bandwidth_bps(peer)))


def wanted_links(view: View) -> list[NodeId]:
    """Peers to be linked to, holders and planned holders first."""
    if not view.deployments:
        return []
    planned = {
        node
        for served in view.deployments.values()
        for plan in (served.plan, served.target)
        if plan is not None
        for segment in plan.segments
        for node in segment.succession
    }
    live = [m for n, m in view.members.items() if n != view.me and m.state in (State.ALIVE, State.SUSPECT)]
    live.sort(key=lambda m: (m.node not in planned and not m.holdings, m.node))
    return [m.node for m in live[:DATA_LINKS_MAX]]
