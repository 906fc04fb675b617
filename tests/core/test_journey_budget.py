"""Admission, hedges, poison and the percentile of recent samples, as tables of what was seen and what follows."""

from meshd.config import (
    ADMISSION_IDLE,
    ADMISSION_MEMORY_US,
    ADMISSION_MIN,
    ADMISSION_START,
    HEDGE_CREDIT_MAX,
    HEDGE_CREDIT_MIN,
    MS,
    POISON_US,
    POISONS_MAX,
    POISONS_TOLD_MAX,
    S,
)
from meshd.core.ids import Boot, NodeId
from meshd.core.journey.budget import Admission, HedgeBucket, Poisons
from meshd.core.journey.effects import Send
from meshd.core.journey.frames import Code, Failure, Poison, Reason
from meshd.core.journey.peers import Recent
from tests.core.journey_world import World

NODE = NodeId("n")


def _taken(admission: Admission, most: int = 10_000) -> int:
    count = 0
    while count < most and admission.take():
        count += 1
    return count


def test_admission_begins_generous_and_refuses_past_its_limit() -> None:
    admission = Admission()
    assert _taken(admission) == ADMISSION_START
    admission.give()
    assert admission.take()
    assert not admission.take()


def test_sustained_slowness_shrinks_it_by_a_third_once_a_round() -> None:
    admission, now = Admission(), 10 * S
    admission.succeeded(50 * MS, 1, now)
    _taken(admission)
    for _ in range(4):
        admission.succeeded(300 * MS, 1, now)
    assert admission.limit == ADMISSION_START, "a few slow ones tell of a fault"
    for _ in range(4):
        admission.succeeded(300 * MS, 1, now)
    assert admission.limit == ADMISSION_START * 2 // 3, "one overload, one step"
    admission.succeeded(300 * MS, 1, now + 400 * MS)
    assert admission.limit == ADMISSION_START * 2 // 3 * 2 // 3


def test_it_never_shrinks_below_its_least_and_grows_while_it_is_used() -> None:
    admission, now = Admission(), 10 * S
    _taken(admission, 4)
    for _ in range(50):
        now += 1 * S
        admission.down(MS, now)
    assert admission.limit == ADMISSION_MIN
    admission.succeeded(10 * MS, 1, now)
    assert admission.limit == ADMISSION_MIN + 1
    for _ in range(200):
        admission.succeeded(10 * MS, 1, now)
    assert admission.limit <= 2 * admission.in_flight + 1, "not for what nobody asks for"


def test_a_short_model_may_be_slower_for_once_and_an_idle_one_starts_afresh() -> None:
    admission, now = Admission(), 10 * S
    admission.succeeded(1 * MS, 1, now)
    for _ in range(20):
        admission.succeeded(60 * MS, 1, now)
    assert admission.limit >= ADMISSION_START
    admission.limit = ADMISSION_MIN
    assert _taken(admission) == ADMISSION_IDLE


def test_large_batches_are_not_compared_with_small_ones_and_old_bests_are_forgotten() -> None:
    admission, now = Admission(), 10 * S
    admission.succeeded(10 * MS, 1, now)
    for _ in range(10):
        admission.succeeded(640 * MS, 64, now)
    assert admission.limit >= ADMISSION_START
    assert (admission.unloaded_us(1), admission.unloaded_us(64), admission.unloaded_us(1000)) == (10 * MS, 640 * MS, 0)
    for spell in (1, 2):
        admission.succeeded(20 * MS, 1, now + spell * ADMISSION_MEMORY_US)
    assert admission.unloaded_us(1) == 20 * MS


def test_the_bucket_holds_five_to_begin_with_and_a_tenth_of_requests_after() -> None:
    bucket = HedgeBucket()
    assert [bucket.take() for _ in range(HEDGE_CREDIT_MIN + 1)] == [True] * HEDGE_CREDIT_MIN + [False]
    for _ in range(9):
        bucket.request()
    assert not bucket.take()
    bucket.request()
    assert bucket.take()
    for _ in range(100_000):
        bucket.request()
    assert sum(bucket.take() for _ in range(1000)) == HEDGE_CREDIT_MAX


def test_poison_is_forgotten_in_time_and_bounded_in_number() -> None:
    def lives(node: NodeId, boot: Boot) -> bool:
        return False

    poisons = Poisons()
    poisons.add(b"x", 0, NODE, Boot(1))
    assert poisons.left_us(b"x", 1 * S, lives) == POISON_US - 1 * S
    assert poisons.left_us(b"y", 1 * S, lives) == 0
    assert poisons.left_us(b"x", POISON_US, lives) == 0
    assert len(poisons) == 0
    for n in range(POISONS_MAX + 10):
        poisons.add(n.to_bytes(4, "little"), n, NODE, Boot(1))
    assert len(poisons) == POISONS_MAX
    assert poisons.left_us((5).to_bytes(4, "little"), 2000, lives) == 0, "the oldest went"


def test_an_input_is_innocent_once_the_node_it_seemed_to_kill_is_seen_in_the_same_boot() -> None:
    poisons = Poisons()
    poisons.add(b"x", 0, NODE, Boot(1))
    poisons.add(b"y", 0, NODE, None)
    assert poisons.left_us(b"x", 1 * S, lambda node, boot: boot == Boot(2)) > 0
    assert poisons.left_us(b"x", 1 * S, lambda node, boot: (node, boot) == (NODE, Boot(1))) == 0
    assert poisons.left_us(b"x", 1 * S, lambda node, boot: False) == 0, "and stays so"
    assert poisons.left_us(b"y", 1 * S, lambda node, boot: True) > 0, "it was back in another boot: it did die"


def test_the_percentile_follows_the_last_samples_only() -> None:
    recent = Recent(10)
    assert recent.p99 is None
    for sample in range(1, 11):
        recent.add(sample)
    assert recent.p99 == 10
    for _ in range(20):
        recent.add(3)
    assert recent.p99 == 3
    recent.add(99)
    assert recent.p99 == 99, "a new worst is known at once"


def test_a_peer_whose_link_comes_up_is_told_of_the_newest_poisons() -> None:
    world = World([["a"]])
    entry = world.hosts[world.entry].journey
    for n in range(POISONS_TOLD_MAX + 3):
        entry.poison(bytes([n]) * 16, Failure(Code.INTERNAL, Reason.HOLDERS_LOST, "", node=NODE), 0)
    told = [e.frame for e in entry.link_changed(NodeId("a"), True, 1 * S) if isinstance(e, Send)]
    assert [t.digest[0] for t in told if isinstance(t, Poison)] == list(range(3, POISONS_TOLD_MAX + 3))
    assert all(t.left_us == POISON_US - 1 * S for t in told if isinstance(t, Poison))


def test_what_is_refused_already_is_refused_no_shorter_by_a_peers_word() -> None:
    poisons = Poisons()
    poisons.add(b"x", 0, NODE, None)
    poisons.add(b"x", 1, NODE, None, left_us=5)
    assert poisons.left_us(b"x", 1 * S, lambda node, boot: False) == POISON_US - 1 * S


def test_a_network_that_became_slow_is_no_load() -> None:
    admission, now = Admission(), 10 * S
    admission.succeeded(20 * MS, 1, now, 15 * MS)
    _taken(admission)
    for _ in range(20):
        admission.succeeded(400 * MS, 1, now, 15 * MS)
    before = admission.limit
    assert before >= ADMISSION_START, "neither queues nor compute took it"
    for _ in range(20):
        admission.succeeded(400 * MS, 1, now, 250 * MS)
    assert admission.limit < before


def test_what_is_slow_while_hardly_anything_is_in_flight_is_the_new_unloaded_latency() -> None:
    admission, now = Admission(), 10 * S
    admission.succeeded(20 * MS, 1, now)
    _taken(admission, ADMISSION_MIN)
    admission.succeeded(400 * MS, 1, now)
    assert admission.unloaded_us(1) == 400 * MS
