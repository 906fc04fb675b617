"""`meshd bench`: how fast this machine is, and how near to its limits."""

import click

from meshd.cli.lazy import Lazy

COMMANDS: dict[str, tuple[str, str]] = {
    "kernels": ("meshd.cli.meshd.bench_kernels", "Each kernel against the limit of this machine."),
    "serve": ("meshd.cli.meshd.bench_serve", "Requests against the bare transport of the same bytes."),
}
"""Subcommand to the module that defines it as `command`, and its line in the help."""


@click.group(cls=Lazy, modules=COMMANDS)
def command() -> None:
    """Measure this machine. Use an idle one: what else runs is measured too."""
