"""Invariants of registry, placement and ownership, watched from outside after every step. Names as in PROTOCOL.

Rule: a checker keeps its own account; what it must judge by (a node's view at that moment) it takes from what was published.
"""

from collections import Counter
from collections.abc import Mapping

from meshd.core.events import Drain, Effect, Input, LinkIn, Load, LoadFailed, Operate, Publish, Unload, Unloaded
from meshd.core.ids import NodeId, SegmentId
from meshd.core.intent_messages import IntentTell
from meshd.core.plan import Plan
from meshd.core.view import Hold, Member, Served, State, View
from meshd.sim.checkers import BrokenError
from meshd.sim.machine import Machine
from meshd.sim.workload import LAYER_BYTES, LAYERS
from meshd.wire import codec

Life = tuple[int, int]


class IntentCheckers:
    """All per-step checks of deployments. Add `check` to `cluster.watchers`."""

    def __init__(self) -> None:
        self.checked: Counter[str] = Counter()
        self._generations: dict[tuple[Life, str], int] = {}
        """The greatest generation a life published, or began with: what was on its disk when it was powered on."""
        self._held: dict[Life, dict[SegmentId, tuple[str, int, int]]] = {}
        """What a life of a machine has loaded or is loading: deployment, first layer, end."""
        self._started: dict[tuple[Life, str], int] = {}
        """The generation requests last started with."""
        self._stands: dict[tuple[Life, str], tuple[Plan, int]] = {}
        """The target that stands in a machine's view, and since when by its clock."""
        self._views: dict[Life, View] = {}
        self._draining: set[Life] = set()

    def check(self, machine: Machine, input: Input, effects: list[Effect]) -> None:
        """After one step of one node."""
        assert machine.node is not None
        life = (machine.index, machine.life)
        if life not in self._held:
            self._begin(machine, life)
        if isinstance(input, Operate) and isinstance(input.command, Drain):
            (self._draining.add if input.command.on else self._draining.discard)(life)
        before = self._views.get(life)
        for effect in effects:
            if isinstance(effect, Publish):
                self._check_view(machine, life, before, effect.view, input)
                self._views[life] = effect.view
        for effect in effects:
            if isinstance(effect, Unload):
                self._check_unload(machine, life, effect.segment)
        self._check_memory(machine, life, input, effects)

    def _begin(self, machine: Machine, life: Life) -> None:
        """A machine was powered on: what it knew in earlier lives is what its disk says."""
        index = machine.index
        self._generations = {key: value for key, value in self._generations.items() if key[0][0] != index}
        self._started = {key: value for key, value in self._started.items() if key[0][0] != index}
        self._stands = {key: value for key, value in self._stands.items() if key[0][0] != index}
        self._views = {old: view for old, view in self._views.items() if old[0] != index}
        self._held = {old: held for old, held in self._held.items() if old[0] != index}
        self._draining = {old for old in self._draining if old[0] != index}
        self._held[life] = {}
        for path, data in sorted(machine.disk.items()):
            if path.startswith("intent/"):
                joined: Counter[object] = Counter()
                for record in codec.decode_value(path, data).records:
                    joined |= Counter(dict(record.vector))
                self._generations[life, path.removeprefix("intent/")] = joined.total()

    # ------------------------------------------------------------ memory

    def _check_memory(self, machine: Machine, life: Life, input: Input, effects: list[Effect]) -> None:
        """P1: layers that are here or on their way, each once, and what is promised beyond them."""
        assert machine.node is not None
        held = self._held[life]
        if isinstance(input, LoadFailed | Unloaded):
            held.pop(input.segment, None)
        loads = [effect for effect in effects if isinstance(effect, Load)]
        for load in loads:
            span = load.plan.segments[load.segment.index]
            held[load.segment] = (load.plan.deployment, span.start, span.end)
        capacity = machine.shelf.capacity
        if capacity is None:
            return
        layers = {(name, at) for name, start, end in held.values() for at in range(start, end)} if loads else ()
        taken = max(machine.node.intent.reserved_bytes(), LAYER_BYTES * len(layers))
        if taken > capacity.memory_bytes:
            raise BrokenError("P1", machine, f"{taken} bytes reserved, loading and ready of {capacity.memory_bytes}")
        self.checked["P1"] += 1

    # ------------------------------------------------------------ views

    def _check_view(self, machine: Machine, life: Life, before: View | None, view: View, input: Input) -> None:
        for name, served in view.deployments.items():
            old = None if before is None else before.deployments.get(name)
            for plan in (served.plan, served.target):
                if plan is not None:
                    self._check_cover(machine, plan)
            if served.generation < self._generations.get((life, name), 0):
                raise BrokenError("R4", machine, f"the generation of {name} fell to {served.generation}")
            self._generations[life, name] = served.generation
            if served.plan is not None:
                if served.plan.generation < self._started.get((life, name), 0):
                    raise BrokenError(
                        "E2", machine, f"requests of {name} start with generation {served.plan.generation}"
                    )
                self._started[life, name] = served.plan.generation
            if isinstance(input, LinkIn) and isinstance(input.message, IntentTell) and old is not None:
                self._check_merge(machine, old, served)
            self._note_standing(machine, life, served, view.members)
        self.checked.update(("P3", "R4", "E2"))

    def _check_cover(self, machine: Machine, plan: Plan) -> None:
        ends = [0, *(span.end for span in plan.segments)]
        ahead = all(span.start < span.end for span in plan.segments)
        if [span.start for span in plan.segments] != ends[:-1] or not ahead or ends[-1] != LAYERS:
            raise BrokenError("P3", machine, f"plan {plan.epoch} of {plan.deployment} does not cover its layers once")

    def _check_merge(self, machine: Machine, old: Served, served: Served) -> None:
        """P2: a merge of records and plans alone never takes away what serves."""
        if old.plan is not None and served.plan is None:
            raise BrokenError("P2", machine, f"{served.name} was servable before a merge and is not after")
        self.checked["P2"] += 1

    def _note_standing(self, machine: Machine, life: Life, served: Served, members: Mapping[NodeId, Member]) -> None:
        key, target = (life, served.name), served.target
        if target is None or not _stands(target, members):
            self._stands.pop(key, None)
        elif key not in self._stands or self._stands[key][0] != target:
            self._stands[key] = (target, machine.local_us())

    # ------------------------------------------------------------ unloading

    def _check_unload(self, machine: Machine, life: Life, segment: SegmentId) -> None:
        """P4: what the target does not list goes, once that stood for the wait; or nobody asks for it, or nothing serves."""
        view = self._views.get(life)
        self.checked["P4"] += 1
        if view is None or life in self._draining:
            return
        assert machine.node is not None
        wait_us = machine.cluster.timers.unload_after_us
        for name, served in view.deployments.items():
            target = served.target
            if target is None:
                continue
            listed = target.plan_digest == segment.plan and machine.node_id in target.segments[segment.index].succession
            if listed:
                raise BrokenError("P4", machine, f"unloads segment {segment.index} of {name}, for which it is listed")
        names = [
            n
            for n, s in view.deployments.items()
            if any(p and p.plan_digest == segment.plan for p in (s.plan, s.target))
        ]
        for name in names:
            served = view.deployments[name]
            stood = self._stands.get((life, name))
            for_us = -1 if stood is None else machine.local_us() - stood[1]
            if served.plan is not None and for_us < wait_us:
                raise BrokenError("P4", machine, f"unloads a segment of {name} when its target stood for {for_us} us")


def _stands(target: Plan, members: Mapping[NodeId, Member]) -> bool:
    """Whether live nodes that `target` lists hold all of it READY, by these members' facts."""
    for index, span in enumerate(target.segments):
        segment = SegmentId(target.plan_digest, index)
        ready = [
            node
            for node in span.succession
            if node in members
            and members[node].state in {State.ALIVE, State.SUSPECT}
            and any(h.segment == segment and h.state is Hold.READY for h in members[node].holdings)
        ]
        if not ready:
            return False
    return True
