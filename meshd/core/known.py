"""What every node of an established mesh knows of all: made once from the nodes themselves, shared by all of them.

For simulations of large meshes only. To let 10,000 nodes find each other takes 10**8 lessons and as many records; a mesh
that has been together for a while is where detection and gossip are measured, and there everybody knows the same.

Rule: what is here is never written again; a node keeps its differences (`core.layered`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from meshd.config import BUCKETS
from meshd.core.facts import FactSet
from meshd.core.ids import NodeId
from meshd.core.membership import Record
from meshd.core.view import Member, State

if TYPE_CHECKING:
    from meshd.core.node import Node


@dataclass(frozen=True, slots=True)
class Known:
    """Tables by member, in one order."""

    records: dict[NodeId, Record]
    """All ALIVE, and verified: each has answered each other in its present boot."""
    places: dict[NodeId, int]
    facts: dict[NodeId, FactSet]
    hashes: dict[NodeId, tuple[int, int]]
    buckets: list[int]
    shown: dict[NodeId, Member]


def known(nodes: Iterable["Node"]) -> Known:
    """What `nodes` know of themselves, each started and alone."""
    table = Known({}, {}, {}, {}, [0] * BUCKETS, {})
    for node in nodes:
        context = node.context
        me = context.me
        table.places[me] = len(table.places)
        table.records[me] = Record(
            me, State.ALIVE, context.boot, context.incarnation, context.addresses, 0, context.certificate_hash,
            context.certificate, context.boot,
        )  # fmt: skip
        mine = node.facts.of(me)
        table.facts[me] = replace(mine, entries=dict(mine.entries), since_us=dict(mine.since_us))
        table.shown[me] = node.view.members[me]
        table.hashes[me] = bucket, part = node.sync.hashed()[me]
        table.buckets[bucket] ^= part
    return table
