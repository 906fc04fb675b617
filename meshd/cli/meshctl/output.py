"""How documents reach a person or a program: table, wide, json, yaml; once, or again after each change.

Rule 1: data on stdout, talk on stderr. Rule 2: rich is imported only for a table on a terminal that wants colour.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import click

FORMATS = ("table", "wide", "json", "yaml")

output_option = click.option(
    "-o", "--output", type=click.Choice(FORMATS), default="table", show_default=True, help="How to print it."
)
socket_option = click.option(
    "--socket", metavar="PATH", help="The daemon's admin socket. Default: $MESHD_SOCKET, else found."
)
watch_option = click.option(
    "-w", "--watch", is_flag=True, help="Print again after each change; json: a document a line."
)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under headings."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""


Render = Callable[[dict[str, Any], bool], Iterable[Table | str]]
"""(document, wide) → what a person reads."""


def show(document: dict[str, Any], output: str, render: Render) -> None:
    """Print one document."""
    if output == "json":
        click.echo(json.dumps(document, indent=2))
    elif output == "yaml":
        click.echo("\n".join(yaml_lines(document)))
    elif _wants_colour():
        parts = list(render(document, output == "wide"))
        console = _console(parts)
        for part in parts:
            console.print(_rich(part), soft_wrap=isinstance(part, str))
    else:
        click.echo(plain(render(document, output == "wide")))


def show_each(documents: Iterable[dict[str, Any]], output: str, render: Render) -> None:
    """Print documents as they come: a line each in json, a screen that updates on a terminal."""
    if output == "json":
        for document in documents:
            click.echo(json.dumps(document))
    elif output == "yaml":
        for document in documents:
            click.echo("---\n" + "\n".join(yaml_lines(document)))
    elif _wants_colour():
        from rich.console import Group
        from rich.live import Live

        with Live(console=_console(()), auto_refresh=False) as live:
            for document in documents:
                parts = render(document, output == "wide")
                live.update(refresh=True, renderable=Group(*(_rich(part) for part in parts)))
    else:
        for document in documents:
            click.echo(plain(render(document, output == "wide")) + "\n")


def plain(parts: Iterable[Table | str]) -> str:
    """Text without colour, columns aligned."""
    lines: list[str] = []
    for part in parts:
        if isinstance(part, str):
            lines.append(part)
            continue
        if part.title:
            lines.append(part.title)
        rows = [part.headings, *part.rows]
        widths = [max(len(row[column]) for row in rows) for column in range(len(part.headings))]
        lines += [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
    return "\n".join(lines)


def yaml_lines(value: Any, indent: str = "") -> list[str]:
    """A document as YAML's block style; scalars as JSON writes them, which is YAML too."""
    lines: list[str] = []
    items = value.items() if isinstance(value, dict) else ((None, each) for each in value)
    for key, each in items:
        head = f"{indent}- " if key is None else f"{indent}{key if key.isidentifier() else json.dumps(key)}:"
        if isinstance(each, dict | list) and each:
            inner = yaml_lines(each, indent + "  ")
            if key is None:
                lines += [head + inner[0].lstrip(), *inner[1:]]
            else:
                lines += [head, *inner]
        else:
            lines.append(f"{head.rstrip()} {json.dumps(each)}")
    return lines


def say(text: str) -> None:
    """Talk, on stderr."""
    click.echo(text, err=True)


def tell(document: dict[str, Any], output: str) -> None:
    """Say what a command did (`documents.done`): to a person on stderr, and to a program also as its document."""
    say(document["detail"])
    if output in ("json", "yaml"):
        show(document, output, lambda _, __: ())


def size(count: int) -> str:
    """Bytes for a person: 1.5M, 300K."""
    for unit in ("", "K", "M", "G"):
        if count < 1024 or unit == "G":
            return f"{count:.1f}{unit}" if unit and count < 100 else f"{count:.0f}{unit}"
        count = count / 1024  # type: ignore[assignment]
    raise AssertionError


def count(number: int) -> str:
    """A number of things for a person: 930, 7.2M, 796G."""
    value = float(number)
    for unit in ("", "k", "M", "G", "T"):
        if value < 1000 or unit == "T":
            return f"{value:.1f}{unit}" if unit and value < 100 else f"{value:.0f}{unit}"
        value /= 1000
    raise AssertionError


def span(us: int) -> str:
    """A time for a person: 250us, 12.3ms, 4.5s, 3h12m."""
    if us < 1_000:
        return f"{us}us"
    if us < 1_000_000:
        return f"{us / 1e3:.1f}ms"
    if us < 120_000_000:
        return f"{us / 1e6:.1f}s"
    minutes = us // 60_000_000
    return f"{minutes // 1440}d{minutes // 60 % 24}h" if minutes >= 1440 else f"{minutes // 60}h{minutes % 60:02}m"


def _wants_colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


_STYLES = {"alive": "green", "ready": "green", "suspect": "yellow", "dead": "red", "left": "dim", "failed": "red"}


def _console(parts: Sequence[Table | str]) -> Any:
    from rich.console import Console

    # A row that is too long for the terminal wraps there; cut cells would hide what one looks for.
    width = max((len(line) for line in plain(parts).splitlines()), default=0)
    console = Console(highlight=False)
    return Console(highlight=False, width=max(console.width, width))


def _rich(table: Table | str) -> Any:
    from rich.table import Column
    from rich.table import Table as RichTable
    from rich.text import Text

    if isinstance(table, str):
        return Text(table)
    columns = [Column(heading, no_wrap=True) for heading in table.headings]
    drawn = RichTable(
        *columns, title=table.title or None, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
    for row in table.rows:
        drawn.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    return drawn
