"""The `meshd` command. Each subcommand is a file here, imported only when it is asked for."""

import importlib
from typing import Any

import click

COMMANDS: dict[str, str] = {}
"""Subcommand to the module under this package that defines it as `command`."""


class Lazy(click.Group):
    """A group that imports a subcommand only when it runs, so that `--help` stays instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: Any = importlib.import_module(f"meshd.cli.meshd.{COMMANDS[name]}").command
        assert isinstance(command, click.Command), name
        return command


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="meshd")
def main() -> None:
    """meshd"""
