"""Device profiles: what a board does a second, to predict a model's milliseconds on it.

A profile is what `python -m meshd.engine.measure` prints there: ``{"rates": {"dense": ..., "sparse": ..., ...}}``,
multiply-accumulates a second by cost class, bytes for `memory`, operations for `steps`. The sum of work over rate is the
prediction; a mesh plans with the same one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from meshd.errors import InvalidError, NotFoundError


@dataclass(frozen=True, slots=True)
class Device:
    """A board by name, and its rates by cost class."""

    name: str
    rates: Mapping[str, float]

    def ms(self, work: Mapping[str, int]) -> float:
        """Milliseconds for work by cost class.

        Raises
        ------
        InvalidError
            If there is work of a class the profile has no rate of.
        """
        unknown = sorted(k for k, v in work.items() if v and k not in self.rates)
        if unknown:
            raise InvalidError(f"the profile of {self.name} has no rate of {', '.join(unknown)}: measure it anew there")
        return 1000 * sum(v / self.rates[k] for k, v in work.items() if v)


def read(path: Path) -> Device:
    """A profile; its name is the file's. Raises NotFoundError, InvalidError."""
    if not path.is_file():
        raise NotFoundError(f"there is no profile {path}")
    try:
        rates = json.loads(path.read_text(encoding="utf-8"))["rates"]
        found = {str(k): float(v) for k, v in rates.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidError(f"{path} is no profile, as python -m meshd.engine.measure prints one: {error!r}") from None
    if not found or not all(0 < v < 1e18 for v in found.values()):
        raise InvalidError(f"{path}: rates must be positive numbers a second")
    return Device(path.stem, found)


def here() -> Device:
    """This machine, measured now (a few seconds)."""
    from meshd.engine.measure import rates

    return Device("this machine", {k: float(v) for k, v in rates().rates.items()})
