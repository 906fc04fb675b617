"""The `meshd` command. Each subcommand is a file here, imported only when it is asked for."""

import click

from meshd.cli.lazy import Lazy

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("meshd.cli.meshd.run", "Run the daemon: one node of the mesh."),
    "plan": ("meshd.cli.meshd.plan", "Plan on paper: where would a model go on these boards?"),
    "sim": ("meshd.cli.meshd.sim", "Simulate a mesh: what would it do when things go wrong?"),
    "demo": ("meshd.cli.meshd.demo", "See it all on this machine: find, place, serve, kill, survive."),
    "bench": ("meshd.cli.meshd.bench", "Measure this machine."),
    "model": ("meshd.cli.meshd.model", "Check a model before it is deployed: does it run, cut, agree?"),
    "compress": ("meshd.cli.meshd.compress", "Make a model small: prune, quantise, and say what it cost."),
    "key": ("meshd.cli.meshd.key", "Make, show or take over the mesh key."),
}
"""Subcommand to the module that defines it as `command`, and its line in the help."""


@click.group(cls=Lazy, modules=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="meshd")
def main() -> None:
    """Small devices share one neural network, and survive each other's failures."""
