"""`meshd run`: the daemon. Its flags are `daemon.settings.KEYS`."""

import os
import sys
from collections.abc import Callable
from typing import Any

import click

from meshd.daemon.settings import KEYS, load


def _with_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    for key in reversed(KEYS):
        shown = f" [default: {key.default}]" if key.default else ""
        command = click.option(key.flag, key.name, metavar="VALUE", help=key.help + shown)(command)
    return command


@click.command()
@click.option("--config", metavar="FILE", help="Settings. Default: meshd.toml in $CONFIGURATION_DIRECTORY, else XDG's.")
@_with_flags
def command(**flags: str | None) -> None:
    """Run one node of the mesh until a signal ends it.

    SIGTERM and SIGINT give up in good order what this node serves (10 s at most); a second one ends it at once. Every flag
    is also a key of meshd.toml and an environment variable (--grpc-port: grpc_port, MESHD_GRPC_PORT). The log goes to stderr.
    """
    settings = load(flags)
    from meshd.daemon.supervisor import run

    code = run(settings)
    # Everything is closed and flushed; a compilation that still runs on a thread must not hold up the end.
    sys.stderr.flush()
    os._exit(code)
