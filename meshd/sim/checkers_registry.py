"""Invariants R1 to R3, of the register of deployment records, watched from outside.

The account kept here: every record that was ever made, and which of them each life of a machine was told.
"""

from collections import Counter

from meshd.core.events import Deploy, Effect, Input, LinkIn, Operate, Persist, Publish, Retire
from meshd.core.ids import Digest
from meshd.core.intent_messages import IntentTell, KeptIntent
from meshd.core.registry import Record
from meshd.sim.checkers import BrokenError
from meshd.sim.machine import Machine
from meshd.wire import codec

Life = tuple[int, int]
KEY = "intent/"


class RegistryCheckers:
    """Add `check` to `cluster.watchers`."""

    def __init__(self) -> None:
        self.checked: Counter[str] = Counter()
        self._made: dict[Digest, Record] = {}
        self._told: dict[Life, dict[str, dict[Digest, None]]] = {}
        """What this life knows of each deployment."""
        self._effective: dict[tuple[str, frozenset[Digest]], Digest] = {}
        """(deployment, records known) → the one that counts, wherever that was first seen."""

    def check(self, machine: Machine, input: Input, effects: list[Effect]) -> None:
        """After one step of one node."""
        assert machine.node is not None
        life = (machine.index, machine.life)
        told = self._told.get(life)
        if told is None:
            self._told = {known: names for known, names in self._told.items() if known[0] != machine.index}
            told = self._told[life] = _on_disk(machine)
        made_here = isinstance(input, Operate) and isinstance(input.command, Deploy | Retire)
        for effect in effects:
            if isinstance(effect, Persist) and isinstance(effect.value, KeptIntent):
                self._check_kept(machine, effect.key.removeprefix(KEY), effect.value, told, made_here)
        if isinstance(input, LinkIn) and isinstance(input.message, IntentTell) and machine.node.context.boot:
            genuine = [record.digest for record in input.message.records if self._made.get(record.digest) == record]
            told.setdefault(input.message.deployment, {}).update(dict.fromkeys(genuine))
        for effect in effects:
            if isinstance(effect, Publish):
                for name, served in effect.view.deployments.items():
                    self._check_effective(machine, name, served.record, told.get(name, {}))

    def _check_kept(
        self, machine: Machine, name: str, kept: KeptIntent, told: dict[str, dict[Digest, None]], made_here: bool
    ) -> None:
        for record in kept.records:
            if made_here and record.digest not in self._made:
                self._made[record.digest] = record
                told.setdefault(name, {})[record.digest] = None
            if self._made.get(record.digest) != record:
                raise BrokenError(
                    "R3", machine, f"it keeps a record of {name} that nobody signed: {record.digest[:12]}"
                )
        self.checked["R3"] += 1

    def _check_effective(self, machine: Machine, name: str, effective: Digest, known: dict[Digest, None]) -> None:
        if effective not in self._made:
            raise BrokenError("R3", machine, f"it serves a record of {name} that nobody made: {effective[:12]}")
        first = self._effective.setdefault((name, frozenset(known)), effective)
        if first != effective:
            raise BrokenError(
                "R1", machine, f"of the same records of {name}, {effective[:12]} counts and not {first[:12]}"
            )
        counts = dict(self._made[effective].vector)
        for digest in known:
            other = dict(self._made[digest].vector)
            later = all(other.get(author, 0) >= n for author, n in counts.items()) and other != counts
            if later:
                raise BrokenError("R2", machine, f"{digest[:12]} of {name} is causally later than {effective[:12]}")
        self.checked.update(("R1", "R2"))


def _on_disk(machine: Machine) -> dict[str, dict[Digest, None]]:
    told: dict[str, dict[Digest, None]] = {}
    for key, data in sorted(machine.disk.items()):
        if key.startswith(KEY):
            kept = codec.decode_value(key, data)
            told[key.removeprefix(KEY)] = {record.digest: None for record in kept.records}
    return told
