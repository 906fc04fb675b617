"""What is refused at import, and how it is told: every node at once, not the first."""

from collections.abc import Sequence
from dataclasses import dataclass

from meshd.errors import InvalidError

SHOWN_MAX = 40
"""Nodes named in a message; `refusals` has all."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One node that meshd cannot run."""

    node: str
    op: str
    why: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.node} ({self.op}): {self.why}; {self.remedy}"


class UnsupportedModelError(InvalidError):
    """A sound model that meshd does not run; `refusals` says which nodes and why."""

    def __init__(self, refusals: Sequence[Refusal]) -> None:
        self.refusals = tuple(refusals)
        lines = [f"  {r}" for r in self.refusals[:SHOWN_MAX]]
        if len(self.refusals) > SHOWN_MAX:
            lines.append(f"  and {len(self.refusals) - SHOWN_MAX} more")
        super().__init__("\n".join([f"{len(self.refusals)} node(s) of the model are not supported:", *lines]))


class RefusedError(Exception):
    """Raised by a row for its own node; the walk turns it into a `Refusal` and goes on."""

    def __init__(self, why: str, remedy: str) -> None:
        super().__init__(why)
        self.why, self.remedy = why, remedy
