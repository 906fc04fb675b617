"""Who this node is: a P-256 key that never leaves its disk, a certificate of it, and the id that is the key's digest.

Rule 1: what is pinned is the public key. A certificate may be made anew; a new key is a new node.
Rule 2: subject CN=<node id>, SubjectKeyIdentifier and AuthorityKeyIdentifier: with one subject for all and no
    identifiers, OpenSSL looks at the first certificate of a roster only.
Rule 3: valid from 1970 to 9999: a board without a clock must be able to join.
Rule 4: P-256: gRPC's TLS takes no Ed25519 certificates.
"""

import datetime
import hashlib
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from meshd.config import CERTIFICATE_BYTES_MAX
from meshd.core.ids import NodeId, node_id
from meshd.errors import InvalidError
from meshd.net.private_file import read_private, write_private

KEY_FILE, CERTIFICATE_FILE = "identity.key", "identity.crt"
_KEY_BYTES_MAX = 4096
_ALWAYS = (datetime.datetime(1970, 1, 1), datetime.datetime(9999, 12, 31, 23, 59, 59))


@dataclass(frozen=True, slots=True)
class Identity:
    """This node's id, certificate and where its key lies."""

    node: NodeId
    certificate: bytes
    """X.509, DER."""
    key_path: Path
    """PEM, PKCS 8, mode 0600."""
    certificate_path: Path
    """PEM."""
    key_pem: bytes = field(repr=False)
    """For gRPC's server credentials and for signing; never to be logged."""

    @property
    def certificate_pem(self) -> bytes:
        """The certificate as gRPC and people take it."""
        return x509.load_der_x509_certificate(self.certificate).public_bytes(Encoding.PEM)

    @classmethod
    def load_or_create(cls, folder: Path, host: str = "") -> "Identity":
        """The identity kept in `folder`, made at the first start. `host` names the machine in the certificate.

        The certificate is made anew from the same key where it is missing, so the id stays.

        Raises
        ------
        InvalidError
            What lies there is damaged: restoring it keeps the node's id, removing it makes a new node.
        DeniedError, UnavailableError
            Others may read the key; the folder cannot be written.
        """
        key_path, certificate_path = folder / KEY_FILE, folder / CERTIFICATE_FILE
        if not key_path.exists():
            fresh = ec.generate_private_key(ec.SECP256R1())
            pem = fresh.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            write_private(key_path, pem)
        pem = read_private(key_path, _KEY_BYTES_MAX)
        try:
            key = load_pem_private_key(pem, None)
        except (ValueError, TypeError) as error:
            raise InvalidError(
                f"{key_path} holds no private key; restore it, or remove it to become a new node"
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise InvalidError(f"{key_path} holds a key of another kind; meshd's are P-256")
        node = _node(key.public_key())
        if not certificate_path.exists():
            write_private(
                certificate_path, _certify(key, node, host or socket.gethostname()).public_bytes(Encoding.PEM)
            )
        try:
            certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes()).public_bytes(Encoding.DER)
        except (ValueError, OSError) as error:
            raise InvalidError(f"{certificate_path} holds no certificate; remove it and it is made anew") from error
        if identify(certificate) != node:
            raise InvalidError(f"{certificate_path} is not of the key beside it; remove it and it is made anew")
        return cls(node, certificate, key_path, certificate_path, pem)


def identify(certificate: bytes) -> NodeId:
    """The node a certificate (DER) belongs to: 16 bytes of SHA-256 of its public key, in Base32.

    It says whose key is in it, not that the sender has that key: a TLS handshake shows that.

    Raises
    ------
    InvalidError
        Not a certificate, too long, or not of a P-256 key.
    """
    if len(certificate) > CERTIFICATE_BYTES_MAX:
        raise InvalidError(f"a certificate is at most {CERTIFICATE_BYTES_MAX} bytes, not {len(certificate)}")
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except Exception as error:  # A parser of strangers' bytes: whatever it raises means the same.
        raise InvalidError(f"not a certificate: {type(error).__name__}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise InvalidError("a node's key is P-256")
    return _node(key)


def _node(key: ec.EllipticCurvePublicKey) -> NodeId:
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return node_id(hashlib.sha256(spki).digest()[:16])


def _certify(key: ec.EllipticCurvePrivateKey, node: NodeId, host: str) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node)])
    subject = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    names: list[x509.GeneralName] = [x509.DNSName("meshd")]
    if host.isascii() and host.replace("-", "").replace(".", "").isalnum() and host != "meshd":
        names.append(x509.DNSName(host[:63]))
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(int.from_bytes(os.urandom(16), "big") >> 1 | 1)
        .not_valid_before(_ALWAYS[0])
        .not_valid_after(_ALWAYS[1])
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(subject, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject), critical=False)
        .sign(key, hashes.SHA256())
    )
