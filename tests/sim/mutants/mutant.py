"""What a mutant is."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from meshd.sim.run import Options

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Mutant:
    """One broken rule."""

    breaks: str
    """The invariant that must be reported."""
    apply: Callable[[Patch], None]
    options: Options
    seed: int = 0
    """One in which it is noticed, so that the ordinary tests need not look for it."""
