"""The `meshctl` command. Each subcommand is a file here, imported only when it is asked for."""

import click

from meshd.cli.lazy import Lazy

COMMANDS: dict[str, tuple[str, str]] = {
    "status": ("meshd.cli.meshctl.status", "The mesh at a glance."),
    "node": ("meshd.cli.meshctl.node", "List, show and drain nodes."),
    "model": ("meshd.cli.meshctl.model", "Push, list, show and remove models."),
    "deploy": ("meshd.cli.meshctl.deploy", "Serve a model under a name."),
    "retire": ("meshd.cli.meshctl.retire", "Stop serving a name."),
    "plan": ("meshd.cli.meshctl.plan", "Show who serves which segment."),
    "events": ("meshd.cli.meshctl.events", "What happened, and what happens."),
    "infer": ("meshd.cli.meshctl.infer", "Run a model on arrays from .npy files."),
    "bench": ("meshd.cli.meshctl.bench", "How fast and how right a deployed model is, on your data."),
    "token": ("meshd.cli.meshctl.token", "Make, list and remove client tokens."),
    "wait": ("meshd.cli.meshctl.wait", "Wait until the mesh is as wanted."),
    "doctor": ("meshd.cli.meshctl.doctor", "Find what keeps nodes apart."),
}
"""Subcommand to the module that defines it as `command`, and its line in the help."""


@click.group(cls=Lazy, modules=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="meshd")
def main() -> None:
    """Operate a mesh through the daemon on this machine.

    Data goes to stdout, talk to stderr. Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 unavailable or timed out,
    5 denied, 6 conflict or constraints that cannot be met, 7 degraded.
    """
