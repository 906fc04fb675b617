"""The Ed25519 key that signs this node's deployment records. (Ed25519 is deterministic: ECDSA would break replay.)

It is another key than the node's identity: gRPC's TLS takes no Ed25519 certificates, records take nothing else.
"""

from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from meshd.errors import InvalidError, NotFoundError
from meshd.net.private_file import read_private, write_private

KEY_BYTES = 32


class Signer:
    """Signs with the key kept in `folder`, made at the first start. Raises InvalidError for a damaged one."""

    def __init__(self, folder: Path) -> None:
        path = folder / "signing.key"
        try:
            raw = read_private(path, 2 * KEY_BYTES)
        except NotFoundError:
            raw = Ed25519PrivateKey.generate().private_bytes_raw()
            write_private(path, raw)
        if len(raw) != KEY_BYTES:
            raise InvalidError(f"{path} is damaged; restore it, or remove it: records already signed stay valid")
        self._key = Ed25519PrivateKey.from_private_bytes(raw)
        self.public = self._key.public_key().public_bytes_raw()

    def sign(self, record: bytes) -> bytes:
        """64 bytes over `record`."""
        return self._key.sign(record)


def verify(public: bytes, record: bytes, signature: bytes) -> bool:
    """Whether `signature` is `public`'s over `record`; False for anything malformed."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, record)
    except (InvalidSignature, ValueError):
        return False
    return True
