"""Files named by the SHA-256 of what is in them.

Rule 1: a file appears under its name whole, checked and fsynced, or not at all: temporary name, digest, fsync, rename.
Rule 2: what is read is checked again; a file that rotted is removed and counts as missing, so that it is fetched anew.
Rule 3: no path is ever made from anything but 64 hex characters.
"""

import hashlib
import mmap
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

from meshd.config import BLOB_BYTES_MAX
from meshd.core.ids import Digest
from meshd.errors import InvalidError, NotFoundError, UnavailableError

_DIGEST = re.compile(r"[0-9a-f]{64}")


class Blobs:
    """One folder of content-addressed files. Thread-safe: the file system is the only state."""

    def __init__(self, folder: Path, bytes_max: int = BLOB_BYTES_MAX) -> None:
        self._folder, self._bytes_max = folder, bytes_max
        self._coming = folder / "coming"
        self._coming.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in self._coming.iterdir():  # Of a process that was killed while it wrote.
            left.unlink()

    def path(self, digest: str) -> Path:
        """Where the blob is, if it is there."""
        if not _DIGEST.fullmatch(digest):
            raise InvalidError(f"{digest[:80]!r} is no SHA-256 in lower-case hex")
        return self._folder / digest[:2] / digest

    def __contains__(self, digest: str) -> bool:
        return self.path(digest).exists()

    def __iter__(self) -> Iterator[Digest]:
        """Names of all blobs, sorted."""
        return (Digest(p.name) for p in sorted(self._folder.glob("??/*")) if _DIGEST.fullmatch(p.name))

    def read(self, digest: str) -> memoryview:
        """Map the blob's bytes, checked against its name. Valid as long as the view lives, even once removed.

        Raises
        ------
        NotFoundError
            It is not here, or was damaged (and now is not here).
        """
        path = self.path(digest)
        try:
            with open(path, "rb") as file:
                empty = os.fstat(file.fileno()).st_size == 0  # An empty file cannot be mapped.
                view = memoryview(b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except FileNotFoundError:
            raise NotFoundError(f"blob {digest[:12]} is not on this node") from None
        if hashlib.sha256(view).hexdigest() != digest:
            path.unlink(missing_ok=True)
            raise NotFoundError(f"blob {digest[:12]} was damaged on disk and is removed; it will be fetched again")
        return view

    def write(self, digest: str, pieces: Iterable[bytes | memoryview]) -> None:
        """Store what `pieces` yield, if it hashes to `digest`; on disk when this returns.

        Raises
        ------
        InvalidError
            Too long, or another digest; nothing was kept.
        UnavailableError
            The disk is full or cannot be written; nothing was kept.
        """
        path, coming = self.path(digest), self._coming / secrets.token_hex(8)
        sha, size = hashlib.sha256(), 0
        try:
            with open(coming, "xb") as file:
                for piece in pieces:
                    size += len(piece)
                    if size > self._bytes_max:
                        raise InvalidError(f"blob {digest[:12]}: more than {self._bytes_max} bytes")
                    sha.update(piece)
                    file.write(piece)
                if sha.hexdigest() != digest:
                    raise InvalidError(f"blob {digest[:12]}: {size} bytes arrived that hash to {sha.hexdigest()[:12]}")
                file.flush()
                os.fsync(file.fileno())
            path.parent.mkdir(mode=0o700, exist_ok=True)
            os.replace(coming, path)
            _sync_folder(path.parent)
            _sync_folder(self._folder)
        except OSError as error:
            raise UnavailableError(f"could not write blob {digest[:12]}: {error}; is the disk full?") from error
        finally:
            coming.unlink(missing_ok=True)

    def remove(self, digest: str) -> None:
        """Forget a blob; whoever has it mapped keeps it."""
        self.path(digest).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    # A rename is on disk only once its folder is.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
