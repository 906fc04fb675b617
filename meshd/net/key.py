"""The mesh key file: who has it is a member.

    meshd mesh key 1
    mesh 9f86d081884c7d659a2feaa0c55ad015
    secret 60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752

The first `secret` seals, all open (up to four): to change a key, append the new one everywhere, then move it to the front
everywhere, then take the old one out. Lines starting with `#` are for people.

Rule 1: the file is refused if others than its owner can read it; nothing of it is ever printed or logged.
"""

import secrets
from dataclasses import dataclass
from pathlib import Path

from meshd.config import SECRETS_MAX
from meshd.errors import ConflictError, InvalidError
from meshd.net.private_file import read_private, write_private
from meshd.wire.seal import Keyring

FORMAT = "meshd mesh key 1"
_BYTES_MAX = 4096


@dataclass(frozen=True, slots=True)
class MeshKey:
    """A mesh's id and secrets, as kept in a file."""

    keyring: Keyring

    @property
    def mesh(self) -> str:
        """The mesh id in hex: public, it is in mDNS records."""
        return self.keyring.mesh.hex()

    @classmethod
    def new(cls) -> "MeshKey":
        """A fresh mesh: random id, one random secret."""
        return cls(Keyring(secrets.token_bytes(16), (secrets.token_bytes(32),)))

    @classmethod
    def load(cls, path: Path) -> "MeshKey":
        """Read a key file.

        Raises
        ------
        NotFoundError, DeniedError
            It is not there; others can read it.
        InvalidError
            It is not a key file of this version; the message names the line.
        """
        return cls.parse(read_private(path, _BYTES_MAX).decode(errors="replace"), str(path))

    @classmethod
    def parse(cls, text: str, where: str = "mesh key") -> "MeshKey":
        """Read a key file's text. Raises InvalidError; the message never holds a secret."""
        lines = [(n, line.strip()) for n, line in enumerate(text.splitlines(), 1)]
        lines = [(n, line) for n, line in lines if line and not line.startswith("#")]
        if not lines or lines[0][1] != FORMAT:
            raise InvalidError(f"{where}: the first line is not {FORMAT!r}: not a mesh key, or of a newer meshd")
        mesh: bytes | None = None
        found: list[bytes] = []
        for number, line in lines[1:]:
            word, _, value = line.partition(" ")
            try:
                raw = bytes.fromhex(value.strip())
            except ValueError:
                raw = b""
            if word == "mesh" and len(raw) == 16 and mesh is None:
                mesh = raw
            elif word == "secret" and len(raw) == 32:
                found.append(raw)
            else:
                raise InvalidError(f"{where}, line {number}: expected one 'mesh' of 32 hex digits, 'secret's of 64")
        if mesh is None or not 1 <= len(found) <= SECRETS_MAX:
            raise InvalidError(f"{where}: expected one 'mesh' line and 1 to {SECRETS_MAX} 'secret' lines")
        return cls(Keyring(mesh, tuple(found)))

    def text(self) -> str:
        """The file's text."""
        return "\n".join(
            [FORMAT, f"mesh {self.mesh}", *(f"secret {secret.hex()}" for secret in self.keyring.secrets), ""]
        )

    def save(self, path: Path, *, replace: bool = False) -> None:
        """Write the file with mode 0600.

        Raises
        ------
        ConflictError
            There is one already and `replace` is not set: a lost key cuts a node off its mesh.
        UnavailableError
            It cannot be written.
        """
        if not replace and path.exists():
            raise ConflictError(f"{path} exists; a node that loses its key is cut off its mesh. Move it away first")
        write_private(path, self.text().encode())
