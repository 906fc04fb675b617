"""Where compiled kernels are kept between runs: a private folder, one for each meshd, Numba, CPU and kernel source.

Numba's own key does not see edits in a file that a kernel calls into, hence the digest of these sources in the folder's
name. A folder that cannot be written is no reason to stop: kernels are then compiled anew in every process.
"""

import fcntl
import hashlib
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

SEAL = ".sha256"

_chosen: list[Path] = []


def use(folder: Path) -> None:
    """Keep compiled kernels under `folder`; called before the first kernel is compiled, else it has no effect."""
    _chosen[:] = [folder]


def root() -> Path:
    """The folder given to `use`; else MESHD_CACHE_DIR, systemd's CACHE_DIRECTORY, XDG_CACHE_HOME/meshd, ~/.cache/meshd."""
    if _chosen:
        return _chosen[0]
    given = os.environ.get("MESHD_CACHE_DIR") or os.environ.get("CACHE_DIRECTORY", "").split(":")[0]
    if given:
        return Path(given)
    home = os.environ.get("XDG_CACHE_HOME") or Path(os.environ.get("HOME", "/nonexistent")) / ".cache"
    return Path(home) / "meshd"


def folder_name(cpu: str) -> str:
    """Names the combination that compiled code is good for."""
    sources = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        sources.update(path.read_bytes())
    # NB the packages are not imported for this: their versions are read from the installation's metadata.
    parts = [f"{name}-{_version(name)}" for name in ("meshd", "numba")]
    return "-".join([*parts, cpu, sources.hexdigest()[:12]])


def prepare(cpu: str) -> Path | None:
    """The versioned cache folder, made, writable and sound; None, with a warning, where that is impossible."""
    folder = root() / "kernels" / folder_name(cpu)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        if damaged := verify(folder):
            warnings.warn(
                f"{damaged} damaged files were removed from {folder}; their kernels are compiled anew",
                RuntimeWarning,
                stacklevel=2,
            )
    except OSError as error:
        warnings.warn(
            f"kernels are compiled anew in every process: cannot write the cache folder {folder} ({error.strerror}); "
            "set MESHD_CACHE_DIR to a folder of your own",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return folder


def seal(folder: Path) -> None:
    """Note the digest of every cached file beside it; after each compilation that added one."""
    for path in _cached(folder):
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            mark = _mark(path)
            if not mark.exists() or mark.read_text() != digest:
                draft = mark.with_name(f"{mark.name}.{os.getpid()}")
                draft.write_text(digest)
                draft.replace(mark)
        except OSError:
            continue  # Another process removed it, or the disk is full: unsealed files go when their kernel's turn comes.


def verify(folder: Path) -> int:
    """Remove cached files that are not what was sealed; returns how many.

    A file cut short by a power cut would stop a process at load, a flipped bit in machine code could do anything. Removing is
    always safe: Numba compiles what it does not find, also while another process starts. A file without a seal is left
    alone here: another process may be about to seal it (see `turn`).
    """
    removed = 0
    for path in _cached(folder):
        try:
            sound = _mark(path).read_text() == hashlib.sha256(path.read_bytes()).hexdigest()
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError):
            sound = False
        if not sound:
            path.unlink(missing_ok=True)
            removed += 1
    return removed


@contextmanager
def turn(folder: Path, source: str, kernel: str) -> Iterator[None]:
    """Of the processes that want this kernel now one compiles it, and the others find it when their turn comes.

    Whose turn it is, is alone with this kernel's files: what lies there unsealed was left by a process that ended while it
    wrote, and goes.
    """
    # As Numba names its files: after the source file and the function, without the brackets of <locals>.
    name = f"{Path(source).stem}.{kernel}".replace("<", "").replace(">", "")
    descriptor = None
    with suppress(OSError):  # Without locks a kernel may be compiled twice, no more.
        descriptor = os.open(folder / f"{name}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # Let go when it closes, or the process ends.
    try:
        for path in _cached(folder, f"{name}-"):
            if not _mark(path).exists():
                path.unlink(missing_ok=True)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _mark(path: Path) -> Path:
    return path.with_name(path.name + SEAL)


def _cached(folder: Path, name: str = "") -> list[Path]:
    return [path for path in folder.rglob(f"{name}*.nb[ci]") if path.is_file()]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "source"
