"""One measured number beside its target, and how a table of them is printed."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One row."""

    what: str
    where: str
    """Nodes, loss, and whatever else it depends on."""
    value: float | None
    unit: str = ""
    at_most: float | None = None
    """The target; None: there is none, it stands beside for comparison."""
    of: int | None = None
    """Samples."""

    @property
    def verdict(self) -> str:
        """Is the target met?"""
        if self.at_most is None or self.value is None:
            return ""
        return "ok" if self.value <= self.at_most else "MISSED"


def show(figures: Iterable[Figure]) -> list[Figure]:
    """Print each as it comes; all of them."""
    shown = []
    print(f"{'':34}{'':30}{'measured':>12} {'':8}{'target':>12}{'':>9}{'of':>7}")
    for f in figures:
        target = "" if f.at_most is None else f"<= {f.at_most:g}"
        value = "none" if f.value is None else f"{f.value:g}"
        of = "" if f.of is None else str(f.of)
        print(f"{f.what:34}{f.where:30}{value:>12} {f.unit:8}{target:>12}{f.verdict:>9}{of:>7}", flush=True)
        shown.append(f)
    return shown
