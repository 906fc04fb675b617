"""What must survive `kill -9`: the core's kept values (boot count, registry, plans, peers) and tokens. One SQLite file.

Rule 1: what a method wrote is on the disk when it returns (WAL with `synchronous=FULL`: each commit is fsynced).
Rule 2: blocking; the driver calls it from a thread, batched, never from trio.
Rule 3: core values go in and out through an encoding given by the caller; a value that no longer decodes (an older
version's) is dropped with a warning, for the mesh will tell it again.
"""

import fcntl
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from meshd.config import STORE_VALUE_BYTES_MAX
from meshd.errors import InvalidError, MeshdError, UnavailableError

log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS kept (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS tokens (
    digest BLOB PRIMARY KEY, name TEXT NOT NULL UNIQUE, role TEXT NOT NULL, created_s INTEGER NOT NULL
) STRICT;
"""
_FORMAT = 1


class Store:
    """The SQLite file of one state folder. Thread-safe: one connection behind one lock.

    Parameters
    ----------
    folder : made with mode 0700 if missing
    encode, decode : (key, core value) <-> bytes; `decode` raises a `MeshdError` for a key or bytes it does not know

    Raises
    ------
    UnavailableError
        Another daemon has the folder, or it cannot be written.
    InvalidError
        The file was written by a newer meshd.
    """

    def __init__(self, folder: Path, encode: Callable[[str, Any], bytes], decode: Callable[[str, bytes], Any]) -> None:
        self._encode, self._decode = encode, decode
        self._lock = threading.Lock()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._held = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            _lock_folder(self._held, folder)
            self._db = sqlite3.connect(folder / "meshd.sqlite", check_same_thread=False, isolation_level=None)
            self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")
            (found,) = self._db.execute("PRAGMA user_version").fetchone()
            if found > _FORMAT:
                raise InvalidError(f"{folder}: written by a newer meshd (format {found}, this one knows {_FORMAT})")
            self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={_FORMAT}; COMMIT;")
        except (OSError, sqlite3.Error) as error:
            raise UnavailableError(
                f"{folder}: {error}; check owner, mode and free space, or set --state-dir"
            ) from error

    def kept(self) -> dict[str, Any]:
        """Everything the core asked to keep, by key, in order of key."""
        with self._lock:
            rows = self._db.execute("SELECT key, value FROM kept ORDER BY key").fetchall()
        values: dict[str, Any] = {}
        for key, raw in rows:
            try:
                values[key] = self._decode(key, raw)
            except MeshdError as error:
                log.warning("forgot %s, which this version cannot read: %s", key, error)
        return values

    def keep(self, batch: Iterable[tuple[str, Any]]) -> None:
        """Write (key, value) pairs in one transaction; a value of None deletes the key. All or nothing.

        Raises
        ------
        UnavailableError
            The disk is full or broken; nothing of the batch was kept.
        """
        rows = [(key, None if value is None else self._encoded(key, value)) for key, value in batch]
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                for key, raw in rows:
                    if raw is None:
                        self._db.execute("DELETE FROM kept WHERE key = ?", (key,))
                    else:
                        self._db.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (key, raw))
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise UnavailableError(f"could not keep {len(rows)} values: {error}; is the disk full?") from error

    def _encoded(self, key: str, value: Any) -> bytes:
        raw = self._encode(key, value)
        assert len(raw) <= STORE_VALUE_BYTES_MAX, f"{key}: {len(raw)} bytes to keep, at most {STORE_VALUE_BYTES_MAX}"
        return raw

    def execute(self, statement: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """Run one statement of a table's own module (`tokens`) and commit it."""
        with self._lock:
            return self._db.execute(statement, values).fetchall()

    def close(self) -> None:
        """Close the file and let another daemon have the folder."""
        with self._lock:
            self._db.close()
            os.close(self._held)


def _lock_folder(descriptor: int, folder: Path) -> None:
    # An open-file lock ends with the process, however it ends; a pid file would not.
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UnavailableError(
            f"{folder}: another meshd runs with this state folder; stop it, or set --state-dir for a second node"
        ) from None
