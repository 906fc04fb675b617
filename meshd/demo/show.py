"""How a demo reaches its audience: a table of the mesh that updates on a terminal, plain lines elsewhere."""

import os
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from meshd.v1 import admin_pb2 as pb
from meshd.v1.gossip_pb2 import HOLD_STATE_READY, HoldState, MemberState

if TYPE_CHECKING:
    from rich.live import Live

_TABLE_LINES = 6
"""What the table takes beside its rows, and a line to breathe."""


class Plain:
    """A line for each thing that happens, with its time; on stderr when data goes to stdout."""

    def __init__(self, *, err: bool) -> None:
        self._err, self._began = err, time.perf_counter()

    def __enter__(self) -> "Plain":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def say(self, text: str) -> None:
        """A line."""
        click.echo(f"{time.perf_counter() - self._began:5.1f} s  {text}", err=self._err)

    def picture(self, status: pb.Status) -> None:
        """One line for the whole mesh."""
        self.say("  ".join(f"{name}: {state}{held and ' ' + held}" for name, state, held in rows(status)))


class Screen:
    """A table of the mesh above the latest lines, on a terminal."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._lines: list[str] = []
        self._status: pb.Status | None = None
        self._live: Live | None = None

    def __enter__(self) -> "Screen":
        from rich.live import Live

        self._live = Live(refresh_per_second=8)
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._live is not None
        self._live.__exit__(kind, value, trace)

    def say(self, text: str) -> None:
        """A line under the table."""
        self._lines.append(f"{time.perf_counter() - self._began:5.1f} s  {text}")
        self._draw()

    def picture(self, status: pb.Status) -> None:
        """The table, drawn anew."""
        self._status = status
        self._draw()

    def _draw(self) -> None:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        assert self._live is not None
        listed = rows(self._status) if self._status else []
        room = max(3, self._live.console.size.height - len(listed) - _TABLE_LINES)
        table = Table("node", "state", "segments held", title="the mesh")
        for name, state, held in listed:
            table.add_row(name, state, held, style=None if state == "alive" else "red")
        self._live.update(Group(table, Text("\n".join(self._lines[-room:]), no_wrap=True, overflow="ellipsis")))


def rows(status: pb.Status) -> list[tuple[str, str, str]]:
    """(name, state, segments held) of each node, by name."""
    found = []
    for node in sorted(status.nodes, key=lambda n: n.name):
        held = [
            f"{h.segment}{'' if h.state == HOLD_STATE_READY else ' ' + _word(HoldState, h.state)}"
            for h in node.holdings
        ]
        found.append((node.name, _word(MemberState, node.state), "[" + ", ".join(held) + "]" if held else ""))
    return found


def _word(enum: Any, value: int) -> str:
    return str(enum.Name(value)).split("_STATE_")[1].lower()


def audience(*, quiet: bool) -> Plain | Screen:
    """A screen on a terminal, else lines; on stderr where stdout carries data."""
    if quiet:
        return Plain(err=True)
    return Screen() if sys.stdout.isatty() and os.environ.get("TERM") != "dumb" else Plain(err=False)
