"""A command group that imports a subcommand only when it runs, and ends with meshd's exit codes."""

import importlib
import os
from collections.abc import Mapping
from typing import Any

import click

from meshd.errors import MeshdError


class Lazy(click.Group):
    """Subcommands by name → (module that defines it as `command`, one line of help).

    The help line stands here so that `--help` imports no subcommand. A `MeshdError` out of one ends the process with the
    error's exit code and its text on stderr; what is not ours is a bug and shows its traceback.
    """

    def __init__(self, *arguments: Any, modules: Mapping[str, tuple[str, str]], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table."""
        return list(self._modules)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import and return a subcommand; None if there is no such."""
        if name not in self._modules:
            return None
        command: Any = importlib.import_module(self._modules[name][0]).command
        assert isinstance(command, click.Command), name
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table, without importing what it names."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self._modules.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run, and turn our errors into exit codes."""
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # Its chatter about closed connections is not for people.
        try:
            return super().invoke(ctx)
        except MeshdError as error:
            click.echo(f"{ctx.command_path}: {error}", err=True)
            ctx.exit(int(error.exit))
