"""Laws of the seal: what may be opened, by whom, how often; and that nothing else leaves a trace."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.config import DATAGRAM_BODY_BYTES_MAX, REPLAY_WINDOW
from meshd.core.ids import Boot, NodeId, node_id
from meshd.errors import MisuseError
from meshd.wire.seal import DATAGRAM_BYTES_MAX, HEADER_BYTES, TAG_BYTES, Keyring, Opened, Opener, Refusal, Sealer

A, B, C = (node_id(bytes([n]) * 16) for n in (1, 2, 3))
MESH = bytes(range(16))
RING = Keyring(MESH, (b"k" * 32,))
BOOT = Boot(7 << 32)


def sealer(node: NodeId = A, boot: Boot = BOOT, ring: Keyring = RING) -> Sealer:
    return Sealer(ring, node, boot)


def opener(node: NodeId = B, ring: Keyring = RING, **limits: int) -> Opener:
    return Opener(ring, node, Boot(1), **limits)


@given(st.binary(max_size=DATAGRAM_BODY_BYTES_MAX))
@settings(derandomize=True, max_examples=50)
def test_what_was_sealed_for_me_opens_and_names_its_source(body: bytes) -> None:
    assert opener().open(sealer().seal(B, body)) == Opened(A, BOOT, False, body)


def test_a_datagram_fits_ipv6s_minimum() -> None:
    whole = sealer().seal(B, bytes(DATAGRAM_BODY_BYTES_MAX))
    assert len(whole) == DATAGRAM_BYTES_MAX
    assert len(whole) + 40 + 8 <= 1280
    with pytest.raises(MisuseError, match="1153"):
        sealer().seal(B, bytes(DATAGRAM_BODY_BYTES_MAX + 1))


def test_a_body_does_not_show() -> None:
    assert b"a secret body" not in sealer().seal(B, b"a secret body")


def test_every_changed_bit_is_refused_and_changes_nothing() -> None:
    datagram, far = sealer().seal(B, b"body"), opener()
    for position in range(len(datagram) * 8):
        altered = bytearray(datagram)
        altered[position // 8] ^= 1 << position % 8
        assert isinstance(far.open(bytes(altered)), Refusal), f"bit {position}"
    assert len(far) == 0
    assert isinstance(far.open(datagram), Opened)


def test_every_cut_is_refused() -> None:
    datagram, far = sealer().seal(B, b"body"), opener()
    assert all(isinstance(far.open(datagram[:n]), Refusal) for n in range(len(datagram)))
    assert far.open(datagram + b"x") is Refusal.FORGED
    assert far.open(b"md" + bytes(DATAGRAM_BYTES_MAX)) is Refusal.MALFORMED


@given(st.binary(max_size=200))
@settings(derandomize=True, max_examples=100)
def test_noise_is_refused(noise: bytes) -> None:
    far = opener()
    assert isinstance(far.open(noise), Refusal)
    assert isinstance(far.open(b"md\x01\x00" + MESH[:4] + noise), Refusal)
    assert len(far) == 0


def test_who_it_was_not_meant_for_cannot_open_it() -> None:
    datagram = sealer().seal(B, b"body")
    assert opener(C).open(datagram) is Refusal.FORGED


def test_a_datagram_for_anyone_opens_everywhere_and_says_so() -> None:
    datagram = sealer().seal(None, b"join")
    assert opener(B).open(datagram) == opener(C).open(datagram) == Opened(A, BOOT, True, b"join")


def test_a_datagram_for_me_cannot_be_passed_off_as_one_for_anyone() -> None:
    datagram = bytearray(sealer().seal(B, b"body"))
    datagram[3] ^= 1
    assert opener(C).open(bytes(datagram)) is Refusal.FORGED
    assert opener(B).open(bytes(datagram)) is Refusal.FORGED


def test_another_mesh_is_told_apart_from_a_forgery() -> None:
    other = Keyring(b"o" * 16, RING.secrets)
    assert opener().open(sealer(ring=other).seal(B, b"")) is Refusal.OTHER_MESH
    assert opener().open(sealer(ring=Keyring(MESH, (b"x" * 32,))).seal(B, b"")) is Refusal.FORGED


def test_another_version_is_named() -> None:
    datagram = bytearray(sealer().seal(B, b""))
    datagram[2] += 1
    assert opener().open(bytes(datagram)) is Refusal.VERSION


def test_my_own_datagram_reflected_is_refused_but_a_clones_is_heard() -> None:
    me = Opener(RING, A, BOOT)
    assert me.open(sealer().seal(A, b"")) is Refusal.OWN
    assert isinstance(me.open(sealer(boot=Boot(BOOT + 1)).seal(A, b"")), Opened)


def test_a_node_that_raises_its_boot_still_knows_what_came() -> None:
    far, datagram = opener(), sealer().seal(B, b"")
    assert isinstance(far.open(datagram), Opened)
    far.use_boot(Boot(2))
    assert far.open(datagram) is Refusal.REPLAYED
    assert far.open(sealer(B, Boot(2)).seal(B, b"")) is Refusal.OWN


def test_each_datagram_opens_once() -> None:
    near, far = sealer(), opener()
    datagrams = [near.seal(B, b"%d" % n) for n in range(10)]
    assert [type(far.open(d)) for d in datagrams] == [Opened] * 10
    assert [far.open(d) for d in datagrams] == [Refusal.REPLAYED] * 10


@given(st.permutations(range(40)), st.sets(st.integers(0, 39)))
@settings(derandomize=True, max_examples=50)
def test_any_order_within_the_window_is_fine(order: list[int], lost: set[int]) -> None:
    near, far = sealer(), opener()
    datagrams = [near.seal(B, b"%d" % n) for n in range(40)]
    came = [n for n in order if n not in lost]
    assert all(isinstance(far.open(datagrams[n]), Opened) for n in came)
    assert all(far.open(datagrams[n]) is Refusal.REPLAYED for n in came)


def test_what_is_older_than_the_window_is_refused_even_if_it_never_came() -> None:
    near, far = sealer(), opener()
    datagrams = [near.seal(B, b"") for _ in range(REPLAY_WINDOW + 1)]
    assert isinstance(far.open(datagrams[-1]), Opened)
    assert far.open(datagrams[0]) is Refusal.REPLAYED
    assert isinstance(far.open(datagrams[1]), Opened)


def test_a_jump_of_the_count_costs_no_memory() -> None:
    near, far = sealer(), opener()
    assert isinstance(far.open(near.seal(B, b"")), Opened)
    near._count = 2**64 - 2
    assert isinstance(far.open(near.seal(B, b"")), Opened)
    assert far.open(near_again(2**64 - 3 - REPLAY_WINDOW)) is Refusal.REPLAYED


def near_again(count: int) -> bytes:
    near = sealer()
    near._count = count - 1
    return near.seal(B, b"")


def test_a_new_boot_and_the_one_before_it_have_a_window_and_a_lower_one_is_opened_without() -> None:
    boots = [sealer(boot=Boot(n)) for n in (10, 20, 30)]
    before = [s.seal(B, b"") for s in boots]
    far = opener()
    assert isinstance(far.open(boots[1].seal(B, b"")), Opened)
    assert [isinstance(far.open(before[0]), Opened) for _ in range(2)] == [True, True]
    assert isinstance(far.open(boots[2].seal(B, b"")), Opened)
    assert isinstance(far.open(before[1]), Opened)
    assert far.open(before[1]) is Refusal.REPLAYED
    assert isinstance(far.open(boots[0].seal(B, b"")), Opened)
    assert far.open(before[1]) is Refusal.REPLAYED, "a lower boot took the window of a higher one"
    assert isinstance(far.open(sealer(boot=Boot(40)).seal(B, b"")), Opened)
    assert [isinstance(far.open(before[1]), Opened) for _ in range(2)] == [True, True]


def test_a_forged_higher_boot_does_not_push_out_the_real_one() -> None:
    far = opener()
    assert isinstance(far.open(sealer().seal(B, b"")), Opened)
    forged = sealer(boot=Boot(BOOT + 9), ring=Keyring(MESH, (b"x" * 32,)))
    assert far.open(forged.seal(B, b"")) is Refusal.FORGED
    assert isinstance(far.open(near_again(2)), Opened)


def test_memory_is_bounded_by_members_and_a_full_table_forgets_nobody() -> None:
    far = opener(sources_max=2)
    near = {n: sealer(node_id(bytes([n]) * 16)) for n in (10, 11, 12)}
    assert [type(far.open(s.seal(B, b""))) for s in near.values()] == [Opened, Opened, Refusal]
    assert far.refused[Refusal.TABLE_FULL] == 1
    far.forget(node_id(bytes([10]) * 16))
    assert isinstance(far.open(near[12].seal(B, b"")), Opened)


def test_refusals_are_counted_by_reason() -> None:
    far, datagram = opener(), sealer().seal(B, b"body")
    for noise in (b"", b"GET / HTTP/1.1", datagram, datagram, datagram[:-1]):
        far.open(noise)
    assert far.refused == {Refusal.MALFORMED: 2, Refusal.REPLAYED: 2}


def test_a_key_is_changed_without_a_moment_of_silence() -> None:
    old, new = b"o" * 32, b"n" * 32
    steps = [Keyring(MESH, ring) for ring in ((old,), (old, new), (new, old), (new,))]
    for before, after in itertools.pairwise(steps):
        assert isinstance(opener(ring=after).open(sealer(ring=before).seal(B, b"")), Opened)
        assert isinstance(opener(ring=before).open(sealer(ring=after).seal(B, b"")), Opened)
    assert opener(ring=steps[3]).open(sealer(ring=steps[0]).seal(B, b"")) is Refusal.FORGED


def test_counts_never_repeat_in_a_boot_and_keys_differ_between_boots() -> None:
    near = sealer()
    counts = [near.seal(B, b"")[32:HEADER_BYTES] for _ in range(100)]
    assert len(set(counts)) == 100
    same = [sealer(boot=Boot(n)).seal(B, b"body")[HEADER_BYTES:-TAG_BYTES] for n in (1, 2)]
    assert same[0] != same[1]


def test_a_keyring_keeps_its_secrets_out_of_logs() -> None:
    assert RING.secrets[0].hex() not in repr(RING)
    assert repr(RING.secrets[0]) not in repr(RING)
    with pytest.raises(MisuseError):
        Keyring(MESH, ())


def test_what_was_sealed_before_a_proof_is_refused_after_it() -> None:
    keyring = Keyring(bytes(16), (bytes(32),))
    one, two = node_id(bytes(range(16))), node_id(bytes(range(1, 17)))
    sealer = Sealer(keyring, one, Boot(1))
    before, proof, after = (sealer.seal(two, body) for body in (b"before", b"proof", b"after"))
    restarted = Opener(keyring, two, Boot(9))
    assert isinstance(restarted.open(proof), Opened)
    restarted.proven(one, Boot(1))
    assert restarted.open(before) is Refusal.REPLAYED
    assert isinstance(restarted.open(after), Opened)
