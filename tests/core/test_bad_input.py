"""Bad input at every state, short; the long run: `python -m tests.core.bad_input --examples 2000`."""

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from meshd.v1 import control_pb2, gossip_pb2
from meshd.wire import codec
from tests.core.bad_input import GOSSIP, LINK, BadInput, _out_of_range
from tests.core.mutate import fields
from tests.wire.test_codec import DATAGRAMS


def test_bad_input_at_any_state_is_refused_and_counted_and_changes_nothing() -> None:
    chosen = settings(max_examples=25, stateful_step_count=40, deadline=None, derandomize=True, database=None)
    run_state_machine_as_test(BadInput, settings=chosen)


def test_each_kind_of_message_is_sent_and_most_of_what_is_out_of_range_the_codec_refuses() -> None:
    kinds = {field.name for field in control_pb2.LinkMessage.DESCRIPTOR.oneofs[0].fields}
    sent = {control_pb2.LinkMessage.FromString(wire).WhichOneof("body") for wire in LINK}
    assert sent == kinds
    assert len(DATAGRAMS) >= len(gossip_pb2.GossipMessage.DESCRIPTOR.oneofs_by_name["body"].fields)
    for wires, kind, decode in (
        (GOSSIP, gossip_pb2.GossipMessage, codec.decode_gossip),
        (LINK, control_pb2.LinkMessage, codec.decode_link),
    ):
        outcomes = [_out_of_range(kind.FromString(wire), seed, 1, decode) for wire in wires for seed in range(60)]
        assert 0.2 < sum(outcome is None for outcome in outcomes) / len(outcomes) < 0.9


def test_the_mutation_reaches_fields_however_deep() -> None:
    names = {name for wire in LINK for *_, name in fields(control_pb2.LinkMessage.FromString(wire))}
    assert any(name.count(".") >= 4 for name in names)
    assert len(names) > 100
