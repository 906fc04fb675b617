"""One node under glass: inputs by hand, effects in a list, time as told, timers that fire when their time comes."""

import hashlib
from random import Random
from typing import Any, TypeVar

from meshd.config import Timers
from meshd.core.events import (
    CancelTimer,
    DatagramIn,
    Effect,
    Input,
    LinkIn,
    Persist,
    Persisted,
    Publish,
    Report,
    SendDatagram,
    SendLink,
    SetTimer,
    TimerFired,
    TimerId,
)
from meshd.core.ids import Address, Boot, NodeId, node_id
from meshd.core.messages import Ack, Join, JoinAck, JoinDone, News, Ping, Rumour, Spread
from meshd.core.node import Identity, Node, Setup
from meshd.core.reception import certificate_hash
from meshd.core.registry import Sign, Verify
from meshd.core.view import Member, State, View

M = TypeVar("M")
BOOT = Boot(7 << 32 | 5)


def certificate_of(name: str) -> bytes:
    return b"certificate:" + name.encode()


def id_of(name: str) -> NodeId:
    return node_id(hashlib.sha256(certificate_of(name)).digest()[:16])


def address_of(name: str) -> Address:
    return Address(f"10.0.0.{ord(name[0])}", 7946)


def alive(name: str, incarnation: int = 1, boot: Boot = BOOT) -> Rumour:
    return Rumour(
        State.ALIVE, id_of(name), boot, incarnation, (address_of(name),), certificate_hash(certificate_of(name))
    )


class Lone:
    """A node called `me` and what it does."""

    def __init__(
        self,
        seed: int = 1,
        seeds: tuple[Address, ...] = (),
        restored: dict[str, Any] | None = None,
        sign: Sign | None = None,
        verify: Verify | None = None,
    ) -> None:
        self.now_us = 1_000_000
        self.timers: dict[TimerId, int] = {}
        self.kept: dict[str, Any] = dict(restored or {})
        self.sent: list[SendDatagram] = []
        self.linked: list[SendLink] = []
        self.reports: list[Report] = []
        self.effects: list[Effect] = []
        self.view: View | None = None
        self.node = Node(
            Setup(
                Identity(id_of("me"), certificate_of("me"), (address_of("me"),), "me"),
                rng=lambda purpose: Random(f"{seed}/{purpose}"),
                identify=lambda cert: node_id(hashlib.sha256(cert).digest()[:16]),
                sign=sign or (lambda record: record),
                verify=verify or (lambda key, record, signature: True),
                seeds=seeds,
                timers=Timers(),
                restored=dict(self.kept),
            )
        )
        self._perform(self.node.start(self.now_us))

    # ------------------------------------------------------------ doing

    def give(self, input: Input) -> list[Effect]:
        effects = self.node.step(input, self.now_us)
        self._perform(effects)
        return effects

    def hear(self, name: str, message: Any, boot: Boot = BOOT) -> list[Effect]:
        return self.give(DatagramIn(id_of(name), boot, address_of(name), message))

    def link(self, name: str, message: Any) -> list[Effect]:
        return self.give(LinkIn(id_of(name), message))

    def wait(self, us: int) -> None:
        """Let time pass; timers fire in order."""
        until_us = self.now_us + us
        while self.timers and min(self.timers.values()) <= until_us:
            id = min(self.timers, key=lambda each: (self.timers[each], each))
            self.now_us = max(self.now_us, self.timers.pop(id))
            self.give(TimerFired(id))
        self.now_us = until_us

    def meet(self, *names: str) -> None:
        """Handshakes, and each newcomer speaks for itself."""
        for name in names:
            self.hear(name, Join(certificate_of(name), 99))
            answer = self.last(JoinAck)
            assert answer.returned == 99
            self.hear(name, JoinDone(answer.nonce))
            self.hear(name, Spread(News((alive(name),))))

    def answer(self, *names: str) -> None:
        """These ack every ping sent to them since `forget`."""
        for send in list(self.sent):
            for name in names:
                if send.receiver == id_of(name) and isinstance(send.message, Ping):
                    self.hear(name, Ack(send.message.number))

    def wait_answering(self, us: int, *names: str) -> None:
        """Time passes and these answer at once."""
        until_us = self.now_us + us
        while self.now_us < until_us:
            self.forget()
            self.wait(min(10_000, until_us - self.now_us))
            self.answer(*names)

    def forget(self) -> None:
        self.sent.clear()
        self.linked.clear()
        self.effects.clear()

    # ------------------------------------------------------------ knowing

    def sent_to(self, name: str, kind: type[M]) -> list[M]:
        return [s.message for s in self.sent if s.receiver == id_of(name) and isinstance(s.message, kind)]

    def last(self, kind: type[M]) -> M:
        return [s.message for s in self.sent if isinstance(s.message, kind)][-1]

    def member(self, name: str) -> Member:
        assert self.view is not None
        return self.view.members[id_of(name)]

    def state(self, name: str) -> State | None:
        member = self.view.members.get(id_of(name)) if self.view is not None else None
        return member.state if member is not None else None

    def rumours(self, about: str) -> list[Rumour]:
        """All that was said of somebody since `forget`."""
        found = []
        for send in self.sent:
            news = getattr(send.message, "news", None)
            if news is not None:
                found += [rumour for rumour in news.rumours if rumour.subject == id_of(about)]
        return found

    def _perform(self, effects: list[Effect]) -> None:
        self.effects += effects
        for effect in effects:
            match effect:
                case SetTimer(id, after_us):
                    self.timers[id] = self.now_us + after_us
                case CancelTimer(id):
                    self.timers.pop(id, None)
                case SendDatagram():
                    self.sent.append(effect)
                case SendLink():
                    self.linked.append(effect)
                case Publish(view):
                    self.view = view
                case Report():
                    self.reports.append(effect)
                case Persist(key, value, token):
                    self.kept[key] = value
                    self.give(Persisted(token))
