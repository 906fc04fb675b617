"""Bearer tokens of remote clients. Only a token's SHA-256 is kept: whoever steals the store cannot call.

A token is 32 random bytes, so a plain hash is enough (no password is stretched here), and looking its hash up in an index
tells a guesser nothing.
"""

import hashlib
import re
import secrets
import sqlite3
import time
from dataclasses import dataclass

from meshd.config import TOKENS_MAX
from meshd.daemon.store import Store
from meshd.errors import ConflictError, MisuseError, NotFoundError

ROLES = ("client",)
"""`client` may ask for inference. Operators come by the admin socket, which needs no token."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token as listed: never its secret."""

    name: str
    role: str
    created_s: int
    """Seconds since 1970, by this node's clock: for people, never for a decision."""


class Tokens:
    """The tokens of one store. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(self, name: str, role: str) -> str:
        """Make a token and return its secret, which is shown this once."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}", name):
            raise MisuseError(f"token name {name!r}: expected 1 to 63 letters, digits and ._@-")
        if role not in ROLES:
            raise MisuseError(f"role {role!r}: expected one of {', '.join(ROLES)}")
        if len(self.list()) >= TOKENS_MAX:
            raise ConflictError(f"there are {TOKENS_MAX} tokens; remove some with: meshctl token rm NAME")
        secret = "meshd_" + secrets.token_urlsafe(32)
        try:
            row = (_digest(secret), name, role, int(time.time()))
            self._store.execute("INSERT INTO tokens (digest, name, role, created_s) VALUES (?, ?, ?, ?)", row)
        except sqlite3.IntegrityError:
            raise ConflictError(f"there is a token {name!r}; remove it with: meshctl token rm {name}") from None
        return secret

    def list(self) -> list[Token]:
        """All tokens, by name."""
        rows = self._store.execute("SELECT name, role, created_s FROM tokens ORDER BY name")
        return [Token(*row) for row in rows]

    def remove(self, name: str) -> None:
        """Forget a token: the next call with it is refused."""
        if not self._store.execute("DELETE FROM tokens WHERE name = ? RETURNING name", (name,)):
            raise NotFoundError(f"there is no token {name!r}; see: meshctl token ls")

    def role(self, secret: str) -> str | None:
        """The role of whoever presents `secret`, or None."""
        rows = self._store.execute("SELECT role FROM tokens WHERE digest = ?", (_digest(secret),))
        return str(rows[0][0]) if rows else None


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
