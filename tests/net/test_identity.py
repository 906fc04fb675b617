"""A node is its key: ids, certificates, the files they are kept in, the mesh key file."""

import os
from pathlib import Path

import pytest
from cryptography import x509

from meshd.config import CERTIFICATE_BYTES_MAX
from meshd.errors import ConflictError, DeniedError, InvalidError, NotFoundError
from meshd.net.identity import Identity, identify
from meshd.net.key import MeshKey


def test_an_identity_survives_a_restart(tmp_path: Path) -> None:
    first = Identity.load_or_create(tmp_path, "board-1")
    assert Identity.load_or_create(tmp_path, "board-1") == first
    assert len(first.node) == 26
    assert identify(first.certificate) == first.node
    assert sorted(p.name for p in tmp_path.iterdir()) == ["identity.crt", "identity.key"]


def test_the_key_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        identity = Identity.load_or_create(tmp_path)
    finally:
        os.umask(before)
    assert identity.key_path.stat().st_mode & 0o777 == 0o600
    assert "PRIVATE" not in repr(identity)


def test_a_certificate_made_anew_is_the_same_node(tmp_path: Path) -> None:
    first = Identity.load_or_create(tmp_path)
    first.certificate_path.unlink()
    second = Identity.load_or_create(tmp_path)
    assert second.node == first.node
    assert second.certificate != first.certificate


def test_a_certificate_says_what_tls_libraries_need(tmp_path: Path) -> None:
    identity = Identity.load_or_create(tmp_path, "board-1.lan")
    certificate = x509.load_der_x509_certificate(identity.certificate)
    assert certificate.subject.rfc4514_string() == f"CN={identity.node}"
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["meshd", "board-1.lan"]
    subject = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    issuer = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert subject.digest == issuer.key_identifier
    assert (certificate.not_valid_before_utc.year, certificate.not_valid_after_utc.year) == (1970, 9999)
    assert len(identity.certificate) <= CERTIFICATE_BYTES_MAX
    certificate.verify_directly_issued_by(certificate)


@pytest.mark.parametrize("host", ["", "örtchen", "x" * 200, "a b", "meshd", "under_score"])
def test_a_strange_host_name_still_gives_a_certificate_that_fits(tmp_path: Path, host: str) -> None:
    assert len(Identity.load_or_create(tmp_path, host).certificate) <= CERTIFICATE_BYTES_MAX


def test_damage_is_named_and_never_replaced_by_a_new_node(tmp_path: Path) -> None:
    identity = Identity.load_or_create(tmp_path)
    identity.key_path.write_bytes(identity.key_pem[:40])
    with pytest.raises(InvalidError, match=r"identity\.key"):
        Identity.load_or_create(tmp_path)


def test_a_certificate_of_another_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    mine, other = (Identity.load_or_create(tmp_path / name) for name in "ab")
    mine.certificate_path.write_bytes(other.certificate_path.read_bytes())
    with pytest.raises(InvalidError, match="not of the key beside it"):
        Identity.load_or_create(tmp_path / "a")


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    identity = Identity.load_or_create(tmp_path)
    identity.key_path.chmod(0o644)
    with pytest.raises(DeniedError, match="chmod 600"):
        Identity.load_or_create(tmp_path)


@pytest.mark.parametrize("junk", [b"", b"\x30", bytes(500), b"-----BEGIN CERTIFICATE-----", bytes(5000)])
def test_junk_is_no_certificate(junk: bytes) -> None:
    with pytest.raises(InvalidError):
        identify(junk)


def test_a_mesh_key_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    key = MeshKey.new()
    key.save(tmp_path / "mesh.key")
    assert MeshKey.load(tmp_path / "mesh.key") == key
    assert (tmp_path / "mesh.key").stat().st_mode & 0o777 == 0o600
    assert key.keyring.secrets[0].hex() not in repr(key)


def test_a_mesh_key_is_not_overwritten_by_accident(tmp_path: Path) -> None:
    MeshKey.new().save(tmp_path / "mesh.key")
    with pytest.raises(ConflictError):
        MeshKey.new().save(tmp_path / "mesh.key")
    other = MeshKey.new()
    other.save(tmp_path / "mesh.key", replace=True)
    assert MeshKey.load(tmp_path / "mesh.key") == other


def test_a_mesh_key_file_holds_several_secrets_in_order() -> None:
    key = MeshKey.new()
    text = key.text() + f"# the next one\nsecret {'ab' * 32}\n"
    assert MeshKey.parse(text).keyring.secrets == (*key.keyring.secrets, b"\xab" * 32)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: "", "first line"),
        (lambda t: t.replace("key 1", "key 2"), "newer meshd"),
        (lambda t: t.replace("mesh ", "mash ").replace("meshd mash", "meshd mesh"), "line 2"),
        (lambda t: t + "secret 00", "line 4"),
        (lambda t: t + t.splitlines()[1], "line 4"),
        (lambda t: "\n".join(t.splitlines()[:2]), "secret"),
        (lambda t: t + ("secret " + "00" * 32 + "\n") * 4, "1 to 4"),
    ],
)
def test_a_bad_mesh_key_is_named_without_its_secret(change, said) -> None:
    key = MeshKey.new()
    with pytest.raises(InvalidError, match=said) as caught:
        MeshKey.parse(change(key.text()))
    assert key.keyring.secrets[0].hex() not in str(caught.value)


def test_a_missing_or_open_mesh_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"mesh\.key"):
        MeshKey.load(tmp_path / "mesh.key")
    MeshKey.new().save(tmp_path / "mesh.key")
    (tmp_path / "mesh.key").chmod(0o604)
    with pytest.raises(DeniedError, match="chmod 600"):
        MeshKey.load(tmp_path / "mesh.key")
