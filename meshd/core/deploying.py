"""Operators' commands that wait: a deploy until its record and its blobs are safe, a drain until nothing is held.

Rule 1: every command is answered exactly once.
Rule 2: a deploy is answered when its record is on this disk and the model is whole on three nodes' (all, if fewer).
Rule 3: what is missing when time is up is said by name.
"""

from dataclasses import dataclass, field

from meshd.config import DEPLOY_ANSWER_US, DISKS_MIN, DRAIN_ANSWER_US
from meshd.core.events import Answer, Done, Effect, Refused, Token
from meshd.core.ids import Digest, NodeId, rank
from meshd.core.mesh import Mesh


@dataclass(slots=True)
class Waiting:
    """A deploy that was not answered yet."""

    name: str
    model: Digest
    persist: Token
    until_us: int
    kept: bool = False


@dataclass(slots=True)
class Desk:
    """Commands by token."""

    deploys: dict[Token, Waiting] = field(default_factory=dict)
    retires: dict[Token, tuple[Token, str]] = field(default_factory=dict)
    """By the token of the Persist."""
    drains: dict[Token, int] = field(default_factory=dict)
    """Token to when it is answered whatever is held."""

    @property
    def waiting(self) -> int:
        """Commands not answered yet."""
        return len(self.deploys) + len(self.retires) + len(self.drains)

    def deploy(self, token: Token, name: str, model: Digest, persist: Token, now_us: int) -> None:
        """Wait for `persist` and the model's blobs."""
        self.deploys[token] = Waiting(name, model, persist, now_us + DEPLOY_ANSWER_US)

    def drain(self, token: Token, now_us: int) -> None:
        """Wait until nothing is held."""
        self.drains[token] = now_us + DRAIN_ANSWER_US

    def retire(self, token: Token, name: str, persist: Token) -> None:
        """Wait for `persist`."""
        self.retires[persist] = (token, name)

    def persisted(self, persist: Token) -> list[Effect]:
        """A record is on disk: a retire is answered, a deploy has one thing less to wait for."""
        for waiting in self.deploys.values():
            waiting.kept |= waiting.persist == persist
        token, name = self.retires.pop(persist, (None, ""))
        return [] if token is None else [Answer(token, Done(f"{name} is retired"))]

    def answers(self, mesh: Mesh, own_models: tuple[Digest, ...], holds_nothing: bool, now_us: int) -> list[Effect]:
        """Answer what can be answered now."""
        effects: list[Effect] = []
        for token, waiting in list(self.deploys.items()):
            there, wanted = on_disk(mesh, waiting.model, own_models), min(DISKS_MIN, len(mesh.live))
            if waiting.kept and len(there) >= wanted:
                effects.append(Answer(token, Done(f"{waiting.name} is kept, its model is on {len(there)} nodes")))
            elif now_us >= waiting.until_us:
                late = [n for n in keepers(mesh, waiting.model) if n not in there]
                why = f"the model is on {len(there)} of {wanted} nodes; not on {', '.join(late) or 'any other'}"
                why = why if waiting.kept else "the record is not on disk yet: is the disk full or failing?"
                effects.append(Answer(token, Refused("UNAVAILABLE", f"{why}; the deployment goes on")))
            else:
                continue
            del self.deploys[token]
        for token, until in list(self.drains.items()):
            if holds_nothing or now_us >= until:
                effects.append(
                    Answer(token, Done("nothing is held" if holds_nothing else "time is up: what was held is let go"))
                )
                del self.drains[token]
        return effects

    def dues_us(self) -> list[int]:
        """When commands must be answered at the latest."""
        return [*(waiting.until_us for waiting in self.deploys.values()), *self.drains.values()]


def on_disk(mesh: Mesh, model: Digest, own_models: tuple[Digest, ...]) -> list[NodeId]:
    """Live nodes with a model whole on disk."""
    return [m.node for m in mesh.live if model in (own_models if m.node == mesh.me else m.models)]


def keepers(mesh: Mesh, model: Digest) -> list[NodeId]:
    """Nodes that keep a live deployment's blobs: the first three by rendezvous, those that stay before those that leave."""
    order = sorted(mesh.live, key=lambda m: rank(model, m.node), reverse=True)
    order.sort(key=mesh.drains)
    return [m.node for m in order[:DISKS_MIN]]
