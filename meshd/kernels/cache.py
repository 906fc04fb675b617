"""Where compiled kernels are kept between runs: a private folder, one for each meshd, Numba, CPU and kernel source.

Numba's own key does not see edits in a file that a kernel calls into, hence the digest of these sources in the folder's
name. A folder that cannot be written is no reason to stop: kernels are then compiled anew in every process.
"""

import hashlib
import os
import tempfile
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

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
    """The versioned cache folder, made and found writable; None, with a warning, where that is impossible."""
    folder = root() / "kernels" / folder_name(cpu)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        warnings.warn(
            f"kernels are compiled anew in every process: cannot write the cache folder {folder} ({error.strerror}); "
            "set MESHD_CACHE_DIR to a folder of your own",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return folder


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "source"
