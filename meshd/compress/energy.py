"""Joules, where this machine can tell: powercap's counters, a sensor of hwmon, or a command that prints watts.

Whatever is found measures the whole package or board, its idling and its other work with it: use a quiet machine. Where
nothing is found, the reason is part of the answer.

Source: the kernel's Documentation/power/powercap/powercap.rst and Documentation/hwmon/sysfs-interface.rst.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from meshd.errors import InvalidError

COMMAND_TIMEOUT_S = 5.0
MICRO = 1e-6


class Meter(Protocol):
    """Something that knows what was used since `begin`."""

    name: str

    def begin(self) -> None:
        """Start."""

    def sample(self) -> None:
        """Called now and then in between."""

    def joules(self, seconds: float) -> float:
        """Joules of `seconds` of work since `begin`."""


class Counters:
    """Files that count microjoules and start again at a bound."""

    def __init__(self, name: str, files: Sequence[tuple[Path, int]]) -> None:
        self.name, self._files = name, list(files)
        self._last: list[int] = []
        self._spent = 0

    def begin(self) -> None:
        """See `Meter`."""
        self._last, self._spent = [_number(path) for path, _ in self._files], 0

    def sample(self) -> None:
        """See `Meter`: often enough that no counter comes round twice."""
        for i, (path, bound) in enumerate(self._files):
            now = _number(path)
            step = now - self._last[i]
            self._spent += step if step >= 0 else step + bound
            self._last[i] = now

    def joules(self, seconds: float) -> float:
        """See `Meter`."""
        self.sample()
        return self._spent * MICRO


class Watts:
    """Something that tells watts now: the mean of what it told, times the seconds."""

    def __init__(self, name: str, read: Callable[[], float]) -> None:
        self.name, self._read = name, read
        self._told: list[float] = []

    def begin(self) -> None:
        """See `Meter`."""
        self._told = []

    def sample(self) -> None:
        """See `Meter`."""
        self._told.append(self._read())

    def joules(self, seconds: float) -> float:
        """See `Meter`."""
        if not self._told:
            self.sample()
        return sum(self._told) / len(self._told) * seconds


def find(root: Path = Path("/sys"), command: str = "") -> tuple[Meter | None, str]:
    """A meter, or None and why there is none.

    Parameters
    ----------
    root : of sysfs
    command : prints watts; used before anything else

    Raises
    ------
    InvalidError
        If the command fails or prints no number.
    """
    if command:
        _watts_of(command)
        return Watts(f"command {command!r}", lambda: _watts_of(command)), ""
    why = []
    for kind, look in (("powercap", _powercap), ("hwmon", _hwmon)):
        try:
            meter = look(root / "class" / kind)
        except PermissionError as error:
            why.append(f"{kind}: {error.filename} may not be read (root may)")
            continue
        except (OSError, ValueError) as error:
            why.append(f"{kind}: {error}")
            continue
        if meter is not None:
            return meter, ""
        why.append(f"{kind}: none here")
    return None, "; ".join(why) + "; --power-cmd takes a command that prints watts"


def _powercap(folder: Path) -> Meter | None:
    # A zone within a zone (`intel-rapl:0:1`) is counted by the outer one; `intel-rapl-mmio` counts the same package again.
    zones = sorted(p for p in folder.glob("*:*") if p.name.count(":") == 1 and "mmio" not in p.name)
    files = [(z / "energy_uj", _number(z / "max_energy_range_uj")) for z in zones if (z / "energy_uj").exists()]
    for path, _ in files:
        _number(path)
    return Counters("powercap " + ", ".join(z.parent.name for z, _ in files), files) if files else None


def _hwmon(folder: Path) -> Meter | None:
    for pattern in ("energy*_input", "power*_average", "power*_input"):
        for path in sorted(folder.glob(f"hwmon*/{pattern}")):
            label = path.with_name("name").read_text().strip() if path.with_name("name").exists() else path.parent.name
            _number(path)
            if pattern.startswith("energy"):
                return Counters(f"hwmon {label} {path.name}", [(path, 2**64)])
            return Watts(f"hwmon {label} {path.name}", lambda p=path: _number(p) * MICRO)  # type: ignore[misc]
    return None


def _number(path: Path) -> int:
    return int(path.read_text())


def _watts_of(command: str) -> float:
    try:
        done = subprocess.run(
            shlex.split(command), capture_output=True, text=True, check=True, timeout=COMMAND_TIMEOUT_S
        )
        watts = float(done.stdout.strip())
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise InvalidError(f"--power-cmd {command!r} must print watts as one number: {error}") from None
    if not 0 <= watts < 1e6:
        raise InvalidError(f"--power-cmd {command!r} printed {watts} watts")
    return watts
