"""Who may shake hands with whom: pinned keys, on OpenSSL over memory."""

import contextlib
import ssl
from pathlib import Path

import pytest

from meshd.errors import DeniedError, InvalidError, MeshdError
from meshd.net.identity import Identity
from meshd.net.tls import Roster


def roster(me: Identity, *others: Identity) -> Roster:
    made = Roster(me)
    for other in others:
        made.trust(other.node, other.certificate)
    return made


def shake(client: ssl.SSLContext, server: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """A handshake over memory. Raises what OpenSSL raises at whichever end refuses."""
    bios = [ssl.MemoryBIO() for _ in range(4)]
    near = client.wrap_bio(bios[0], bios[1])
    far = server.wrap_bio(bios[2], bios[3], server_side=True)
    for _ in range(4):
        for end in (near, far):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
            bios[2].write(bios[1].read())
            bios[0].write(bios[3].read())
    far.write(b"x")  # In TLS 1.3 a client learns at its first read whether it was let in.
    bios[0].write(bios[3].read())
    assert near.read(1) == b"x"
    return near, far


def test_members_shake_hands_and_know_each_other_by_key(identities: list[Identity]) -> None:
    a, b, c, _ = identities
    mine, theirs = roster(a, b, c), roster(b, a, c)
    near, far = shake(mine.dialler_context(b.node), theirs.listener_context())
    assert near.version() == "TLSv1.3"
    assert mine.check(near.getpeercert(True), b.node) == b.node
    assert theirs.check(far.getpeercert(True)) == a.node


def test_a_listener_lets_in_any_of_many_members(identities: list[Identity]) -> None:
    a, b, c, d = identities
    listener = roster(a, b, c, d)
    for member in (b, c, d):
        _, far = shake(roster(member, a).dialler_context(a.node), listener.listener_context())
        assert listener.check(far.getpeercert(True)) == member.node


def test_a_stranger_is_refused_by_the_listener(identities: list[Identity]) -> None:
    a, b, c, _ = identities
    with pytest.raises(ssl.SSLError):
        shake(roster(c, a).dialler_context(a.node), roster(a, b).listener_context())


def test_a_dialler_refuses_another_member_in_the_place_of_its_peer(identities: list[Identity]) -> None:
    a, b, c, _ = identities
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(roster(a, b, c).dialler_context(b.node), roster(c, a, b).listener_context())


def test_who_shows_no_certificate_is_refused(identities: list[Identity]) -> None:
    a, b, _, _ = identities
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    bare.verify_mode = ssl.CERT_NONE
    with pytest.raises(ssl.SSLError):
        shake(bare, roster(a, b).listener_context())


def test_tls_1_2_is_refused(identities: list[Identity]) -> None:
    a, b, _, _ = identities
    old = roster(b, a).dialler_context(a.node)
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        shake(old, roster(a, b).listener_context())


def test_a_member_added_to_a_listener_in_use_is_let_in(identities: list[Identity]) -> None:
    a, b, c, _ = identities
    listener = roster(a, b)
    context = listener.listener_context()
    listener.trust(c.node, c.certificate)
    assert listener.listener_context() is context
    shake(roster(c, a).dialler_context(a.node), listener.listener_context())


def test_who_is_struck_off_is_cut_refused_and_not_dialled(identities: list[Identity]) -> None:
    a, b, c, _ = identities
    listener, cut = roster(a, b, c), []
    listener.on_strike(cut.append)
    _near, far = shake(roster(b, a).dialler_context(a.node), listener.listener_context())
    listener.strike(b.node)
    listener.strike(b.node)
    assert cut == [b.node]
    with pytest.raises(DeniedError, match=b.node):
        listener.check(far.getpeercert(True))
    with pytest.raises(DeniedError):
        listener.dialler_context(b.node)
    with pytest.raises(ssl.SSLError):
        shake(roster(b, a).dialler_context(a.node), listener.listener_context())
    shake(roster(c, a).dialler_context(a.node), listener.listener_context())


def test_no_ticket_is_issued_that_could_bring_a_peer_back(identities: list[Identity]) -> None:
    a, b, _, _ = identities
    near, _ = shake(roster(b, a).dialler_context(a.node), roster(a, b).listener_context())
    assert near.session is None or not near.session.has_ticket


def test_a_renewed_certificate_of_the_same_key_replaces_the_old_one(identities: list[Identity], tmp_path: Path) -> None:
    a, b = identities[0], Identity.load_or_create(tmp_path)
    b.certificate_path.unlink()
    renewed = Identity.load_or_create(b.key_path.parent, "renewed")
    listener = roster(a, b)
    listener.listener_context()
    listener.trust(b.node, renewed.certificate)
    _, far = shake(roster(renewed, a).dialler_context(a.node), listener.listener_context())
    assert listener.check(far.getpeercert(True)) == b.node
    assert len(listener) == 1


def test_a_roster_takes_no_certificate_under_another_name(identities: list[Identity]) -> None:
    a, b, c, _ = identities
    mine = roster(a)
    with pytest.raises(InvalidError):
        mine.trust(b.node, c.certificate)
    with pytest.raises(MeshdError):
        mine.check(None)
    assert len(mine) == 0
