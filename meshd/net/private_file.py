"""Files that hold secrets: written whole or not at all, readable by their owner only."""

import os
import secrets
import stat
from pathlib import Path

from meshd.errors import DeniedError, InvalidError, NotFoundError, UnavailableError


def write_private(path: Path, content: bytes) -> None:
    """Write `content` to `path` with mode 0600: temporary name, fsync, rename.

    Raises
    ------
    UnavailableError
        The folder cannot be written; nothing changed.
    """
    coming = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        # Mode 0600 from the first moment: a umask could only take more away.
        descriptor = os.open(coming, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(coming, path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)  # A rename is on disk only once its folder is.
        finally:
            os.close(folder)
    except OSError as error:
        coming.unlink(missing_ok=True)
        raise UnavailableError(f"could not write {path}: {error}") from error


def read_private(path: Path, bytes_max: int) -> bytes:
    """Read a secret.

    Raises
    ------
    NotFoundError
        There is no such file.
    DeniedError
        Others than its owner may read or write it (a secret that was open is no secret), or we may not.
    InvalidError
        It is longer than `bytes_max`.
    """
    try:
        with open(path, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(bytes_max + 1)
    except FileNotFoundError:
        raise NotFoundError(f"there is no {path}") from None
    except PermissionError as error:
        raise DeniedError(f"may not read {path}: {error.strerror}") from error
    # Group read alone is let through: systemd hands credentials out as 0440 to the service's own user.
    if mode & 0o037:
        raise DeniedError(f"{path} holds a secret but has mode {mode:04o}: run chmod 600 {path}")
    if len(content) > bytes_max:
        raise InvalidError(f"{path}: longer than {bytes_max} bytes, so it is not the file meant")
    return content
