"""Every message, every field out of range, at every state of a node, from members, strangers and the dead.

A Hypothesis state machine over the real `Node` and the real codec. Some rules lead it from state to state as a mesh would;
the others are bad input. Whatever the codec lets through never raises and never breaks a limit; what must be refused leaves
the digest of the state as it was, and is counted.

    python -m tests.core.bad_input --examples 2000
"""

import argparse
import hashlib
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from meshd.config import FACT_ENTRIES_MAX, S
from meshd.core import events
from meshd.core import intent_messages as intents
from meshd.core import messages as core
from meshd.core.ids import Boot, Digest, SegmentId, node_bytes
from meshd.core.plan import Plan, PlanSegment
from meshd.core.registry import Record, Registry
from meshd.core.view import Capacity, Hold, State
from meshd.errors import InvalidError
from meshd.v1 import control_pb2, gossip_pb2
from meshd.wire import codec
from tests.core.intent_cluster import MODEL, deploy, sign, verify
from tests.core.lone import BOOT, Lone, alive, certificate_of, id_of
from tests.core.mutate import mutate
from tests.wire.test_codec import DATAGRAMS, LINKS
from tests.wire.test_codec_intent import MESSAGES

PEERS = "abcd"
STRANGERS = "xy"
NAMES = st.sampled_from(PEERS)
SEEDS = st.integers(0, 1 << 32)
GOSSIP = [codec.encode_gossip(message) for message in DATAGRAMS]
LINK = [codec.encode_link(message) for message in (*LINKS, *MESSAGES)]
IDS = [node_bytes(id_of(name)) for name in (*PEERS, *STRANGERS)]


class BadInput(RuleBasedStateMachine):
    """A node called `me`, peers that do as told, and whoever means it ill."""

    def __init__(self) -> None:
        super().__init__()
        self.me = Lone(sign=sign, verify=verify)
        self.boots = dict.fromkeys(PEERS, BOOT)
        self.incarnations = dict.fromkeys(PEERS, 1)
        self.deployed = Registry(verify)
        self.epoch = 0
        self.tokens = 0
        self.me.give(events.Measured(Capacity(1_000, 1_000, (("dense", 10**9),))))

    # ------------------------------------------------------------ what is watched

    def digest(self) -> str:
        """All that this node knows, holds and keeps; what it merely counts or waits for is not in it."""
        node, context = self.me.node, self.me.node.context
        members = [
            (n, r.order(), r.addresses, r.certificate, r.verified, r.path)
            for n, r in sorted(node.members.records.items())
        ]
        facts = [(n, node.facts.of(n).boot, node.facts.of(n).version, node.facts.of(n).values()) for n, *_ in members]
        intent = node.intent
        shelf = (intent.holdings(), intent.reserved_bytes(), intent.draining)
        whole = (
            context.boot,
            context.incarnation,
            context.state,
            members,
            facts,
            intent.intents(),
            shelf,
            self.me.kept,
        )
        return hashlib.sha256(repr(whole).encode()).hexdigest()

    def refuses(self, give: Any, counted: bool = True) -> None:
        """What `give` brings changes nothing, and is counted."""
        # Any event settles what the ones before left to do: let it be done.
        self.me.give(events.LinkChanged(id_of("z"), True))
        before, refused = self.digest(), self.me.node.refused
        give()
        assert self.digest() == before, "what is refused changed the state"
        assert not counted or self.me.node.refused > refused, "what is refused was not counted"

    def is_member(self, name: str) -> bool:
        record = self.me.node.members.records.get(id_of(name))
        return record is not None and record.verified == self.boots[name]

    def members(self) -> list[str]:
        return [name for name in PEERS if self.is_member(name)]

    # ------------------------------------------------------------ from state to state

    @initialize(names=st.sets(NAMES), deployed=st.booleans())
    def begins(self, names: set[str], deployed: bool) -> None:
        for name in sorted(names):
            self.meets(name)
        if deployed:
            self.is_told_a_deployment("a", 2, False)

    @rule(name=NAMES)
    def meets(self, name: str) -> None:
        self.me.hear(name, core.Join(certificate_of(name), 99), self.boots[name])
        answers = self.me.sent_to(name, core.JoinAck)
        if answers:
            self.me.hear(name, core.JoinDone(answers[-1].nonce), self.boots[name])
            self.me.hear(name, core.Spread(core.News((alive(name, self.incarnations[name], self.boots[name]),))))

    @rule(name=NAMES)
    def restarts(self, name: str) -> None:
        self.boots[name], self.incarnations[name] = Boot(self.boots[name] + (1 << 32)), 1

    @rule(name=NAMES, accuser=NAMES)
    def accuses(self, accuser: str, name: str) -> None:
        boot, incarnation = self.boots[name], self.incarnations[name]
        rumour = core.Rumour(State.SUSPECT, id_of(name), boot, incarnation, accuser=id_of(accuser))
        self.me.hear(accuser, core.Spread(core.News((rumour,))), self.boots[accuser])

    @rule(name=NAMES, state=st.sampled_from([State.DEAD, State.LEFT]), teller=NAMES)
    def ends(self, name: str, state: State, teller: str) -> None:
        accuser = id_of(teller) if state is State.DEAD else None
        rumour = core.Rumour(state, id_of(name), self.boots[name], self.incarnations[name], accuser=accuser)
        self.me.hear(teller, core.Spread(core.News((rumour,))), self.boots[teller])

    @rule(us=st.sampled_from([1_000, 300_000, 2 * S, 20 * S]))
    def time_passes(self, us: int) -> None:
        self.me.wait(us)
        self.me.forget()

    @rule(name=NAMES, segments=st.integers(1, 3), keep=st.booleans())
    def is_told_a_deployment(self, name: str, segments: int, keep: bool) -> None:
        record = self.deployed.next(deploy(keep_input=keep), (b"key", id_of(name), self.boots[name]), 1, sign)
        self.deployed.merge(record)
        self.epoch += 1
        self.me.link(name, intents.IntentTell("d", (record,), (self.plan(record, segments),)))

    def plan(self, record: Record, segments: int) -> Plan:
        cuts = [6 * n // segments for n in range(segments + 1)]
        spans = tuple(PlanSegment(start, end, (), (id_of("me"), id_of("a"))) for start, end in pairwise(cuts))
        return Plan("d", 1, record.digest, self.epoch, MODEL, spans, 1, id_of("a"), 1)

    @rule(ok=st.booleans())
    def a_load_ends(self, ok: bool) -> None:
        for holding in self.me.node.intent.holdings():
            if holding.state is Hold.LOADING:
                answer = events.Loaded(holding.segment, 30, 5) if ok else events.LoadFailed(holding.segment, "no")
                self.me.give(answer)
            elif holding.state is Hold.DRAINING:
                self.me.give(events.Unloaded(holding.segment))

    @rule(name=NAMES)
    def is_offered_and_awarded(self, name: str) -> None:
        self.me.link(name, intents.Offer(5, "d", MODEL, deploy().layers))
        record = self.deployed.effective("d")
        if record is not None:
            self.me.link(name, intents.Award(5, self.plan(record, 2)))

    @rule(
        command=st.sampled_from([events.Drain(True), events.Drain(False), events.Retire("d"), deploy(segments_min=2)]),
        models=st.booleans(),
    )
    def is_commanded(self, command: events.Command, models: bool) -> None:
        self.tokens += 1
        self.me.give(events.DiskChanged((MODEL,) if models else ()))
        self.me.give(events.Operate(events.Token(self.tokens), command, 1))

    @rule(name=NAMES, up=st.booleans())
    def a_link_changes(self, name: str, up: bool) -> None:
        self.me.give(events.LinkChanged(id_of(name), up))

    @rule(late_us=st.sampled_from([600_000, 5 * S]))
    def wakes_late(self, late_us: int) -> None:
        self.me.give(events.Woke(late_us))

    @precondition(lambda self: self.me.node.context.incarnation < 3)
    @rule()
    def leaves(self) -> None:
        if self.tokens % 5 == 4:
            self.me.give(events.Operate(events.Token(0), events.Leave()))

    # ------------------------------------------------------------ bad input

    @rule(name=NAMES, which=st.sampled_from(GOSSIP), seed=SEEDS, changes=st.integers(1, 3))
    def a_member_sends_a_datagram_out_of_range(self, name: str, which: bytes, seed: int, changes: int) -> None:
        message = _out_of_range(gossip_pb2.GossipMessage.FromString(which), seed, changes, codec.decode_gossip)
        if message is not None:
            self.me.hear(name, message, self.boots[name])

    @rule(name=NAMES, which=st.sampled_from(LINK), seed=SEEDS, changes=st.integers(1, 3))
    def a_member_sends_a_frame_out_of_range(self, name: str, which: bytes, seed: int, changes: int) -> None:
        message = _out_of_range(control_pb2.LinkMessage.FromString(which), seed, changes, codec.decode_link)
        if message is not None:
            self.me.link(name, message)

    @rule(name=st.sampled_from(STRANGERS), which=st.sampled_from(GOSSIP), seed=SEEDS, changes=st.integers(0, 2))
    def a_stranger_says_anything(self, name: str, which: bytes, seed: int, changes: int) -> None:
        message = _out_of_range(gossip_pb2.GossipMessage.FromString(which), seed, changes, codec.decode_gossip)
        if message is not None:
            self.refuses(lambda: self.me.hear(name, message), counted=False)
            assert id_of(name) not in self.me.node.members.records

    @precondition(lambda self: self.members())
    @rule(which=st.sampled_from(DATAGRAMS), pick=st.integers(0, 3))
    def an_ended_boot_says_anything(self, which: Any, pick: int) -> None:
        name = self.members()[pick % len(self.members())]
        boot = Boot(self.boots[name] - (1 << 32))
        self.refuses(lambda: self.me.hear(name, which, boot))

    @rule(which=st.sampled_from(DATAGRAMS))
    def somebody_says_it_is_me(self, which: Any) -> None:
        self.refuses(lambda: self.me.hear("me", which))

    @precondition(lambda self: self.members())
    @rule(
        which=st.sampled_from(["ack", "nack", "relayed", "join ack", "join done"]), number=SEEDS, pick=st.integers(0, 3)
    )
    def an_answer_to_no_question(self, which: str, number: int, pick: int) -> None:
        name = self.members()[pick % len(self.members())]
        message = {
            "ack": core.Ack(number),
            "nack": core.Nack(number, id_of("b")),
            "relayed": core.PingReqAck(number, id_of("b")),
            "join ack": core.JoinAck(certificate_of(name), 1, number),
            "join done": core.JoinDone(number),
        }[which]
        self.refuses(lambda: self.me.hear(name, message, self.boots[name]), counted=False)

    @rule(
        name=NAMES, which=st.sampled_from(["bid", "decline", "accept", "reject"]), number=st.integers(1 << 40, 1 << 41)
    )
    def an_answer_to_no_offer(self, name: str, which: str, number: int) -> None:
        message = {
            "bid": intents.Bid(number, (1,), 1 << 40, (), False, 0),
            "decline": intents.Decline(number, "no"),
            "accept": intents.Accept(number),
            "reject": intents.Reject(number, "no"),
        }[which]
        self.refuses(lambda: self.me.link(name, message))

    @rule(name=NAMES, how=st.sampled_from(["altered", "unsigned", "another name", "misshapen"]))
    def a_record_that_is_not_what_was_signed(self, name: str, how: str) -> None:
        record = self.deployed.next(deploy(), (b"key", id_of(name), Boot(1 << 50)), 1, sign)
        bad = {
            "altered": replace(record, input_bytes=record.input_bytes + 1),
            "unsigned": replace(record, signature=b""),
            "another name": record,
            "misshapen": replace(record, crossings=()),
        }[how]
        told = "other" if how == "another name" else "d"
        self.refuses(lambda: self.me.link(name, intents.IntentTell(told, (bad,), ())))

    @precondition(lambda self: self.me.node.intent.served(0))
    @rule(name=NAMES, how=st.sampled_from(["gap", "overlap", "short", "twice", "another model", "another deployment"]))
    def a_plan_that_cannot_be(self, name: str, how: str) -> None:
        record = self.deployed.effective("d")
        served = self.me.node.intent.served(0).get("d")
        if record is None or served is None or served.record != record.digest:
            return
        good, both = PlanSegment(0, 3, (), (id_of("me"),)), (id_of("me"), id_of("me"))
        spans = {
            "gap": (good, PlanSegment(4, 6, (), (id_of("a"),))),
            "overlap": (good, PlanSegment(2, 6, (), (id_of("a"),))),
            "short": (good,),
            "twice": (PlanSegment(0, 6, (), both),),
        }.get(how, (PlanSegment(0, 6, (), (id_of("me"),)),))
        model = Digest("ef" * 32) if how == "another model" else MODEL
        deployment = "other" if how == "another deployment" else "d"
        plan = Plan(deployment, 1, record.digest, 1 << 40, model, spans, 1, id_of("a"), 1)
        self.refuses(lambda: self.me.link(name, intents.IntentTell("d", (), (plan,))))

    @rule(name=NAMES, number=st.integers(1 << 40, 1 << 41))
    def an_award_without_an_offer(self, name: str, number: int) -> None:
        plan = Plan("d", 1, Digest("0" * 64), 9, MODEL, (PlanSegment(0, 6, (), (id_of("me"),)),), 1, id_of("a"), 1)
        self.refuses(lambda: self.me.link(name, intents.Award(number, plan)))
        assert isinstance(self.me.linked[-1].message, intents.Reject)

    @rule(name=NAMES, start=st.integers(0, 5), end=st.integers(1, 511), gap=st.booleans())
    def an_award_of_layers_there_are_not(self, name: str, start: int, end: int, gap: bool) -> None:
        self.me.link(name, intents.Offer(6, "d", MODEL, deploy().layers))
        spans = (PlanSegment(0, max(7, end), (), (id_of("me"),)), PlanSegment(start, 6, (), (id_of("me"),)))
        plan = Plan("d", 1, Digest("0" * 64), 9, MODEL, spans, 1, id_of("a"), 1)
        self.refuses(lambda: self.me.link(name, intents.Award(6, plan, gap)), counted=False)

    @precondition(lambda self: len(self.members()) > 1)
    @rule(how=st.sampled_from(["too many", "mine"]))
    def facts_nobody_may_state(self, how: str) -> None:
        teller, subject = self.members()[:2]
        node = id_of("me") if how == "mine" else id_of(subject)
        boot = self.me.node.context.boot if how == "mine" else Boot(self.boots[subject] + 1)
        count = 3 if how == "mine" else FACT_ENTRIES_MAX + 1
        entries = tuple(
            core.Fact(SegmentId(Digest(f"{n:064x}"), 0), (1 << 40) + n, core.Held(Hold.READY)) for n in range(count)
        )
        delta = core.FactsDelta(node, boot, 0, (1 << 40) + count, entries)
        self.refuses(lambda: self.me.hear(teller, core.Spread(core.News(facts=(delta,))), self.boots[teller]))

    @precondition(lambda self: self.members())
    @rule(state=st.sampled_from([State.SUSPECT, State.DEAD, State.LEFT]), number=SEEDS)
    def an_obituary_of_nobody(self, state: State, number: int) -> None:
        teller = self.members()[0]
        accuser = None if state is State.LEFT else id_of(teller)
        rumour = core.Rumour(state, id_of(f"nobody {number}"), BOOT, 1, accuser=accuser)
        self.refuses(lambda: self.me.hear(teller, core.Spread(core.News((rumour,))), self.boots[teller]), counted=False)

    # ------------------------------------------------------------ always

    @invariant()
    def every_table_is_within_its_limit(self) -> None:
        for name, size, limit in self.me.node.sizes():
            assert size <= limit, name

    @invariant()
    def it_lists_itself_alive_or_left(self) -> None:
        view = self.me.view
        if view is not None:
            assert view.members[view.me].state in {State.ALIVE, State.LEFT}
            assert view.members[view.me].boot == self.me.node.context.boot or self.me.node.context.boot == 0


def _out_of_range(message: Any, seed: int, changes: int, decode: Any) -> Any:
    """The message with some fields changed, or None where the codec refuses it, which it does by name."""
    rng = Random(seed)
    for _ in range(changes):
        mutate(message, rng, IDS)
    data = message.SerializeToString()
    try:
        return decode(data)
    except InvalidError:
        return None


def main() -> None:
    """The long run."""
    words = argparse.ArgumentParser()
    words.add_argument("--examples", type=int, default=2_000)
    words.add_argument("--steps", type=int, default=60)
    asked = words.parse_args()
    chosen = settings(max_examples=asked.examples, stateful_step_count=asked.steps, deadline=None, print_blob=True)
    run_state_machine_as_test(BadInput, settings=chosen)
    print(f"{asked.examples} runs of up to {asked.steps} steps: nothing was raised, nothing refused changed anything")


if __name__ == "__main__":
    main()
