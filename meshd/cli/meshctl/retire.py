"""`meshctl retire`: stop serving a name."""

import click

from meshd.cli.meshctl.output import output_option, socket_option, tell


@click.command()
@click.argument("name")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--timeout", "timeout_s", default=60.0, show_default=True, help="Seconds to wait.")
@socket_option
@output_option
def command(name: str, yes: bool, timeout_s: float, socket: str | None, output: str) -> None:
    """Stop serving NAME on the whole mesh. The model stays on disks until nothing needs it."""
    from meshd.cli.meshctl import documents
    from meshd.client.admin import Admin, find_socket

    with Admin(find_socket(socket)) as admin:
        if not yes:
            click.confirm(f"Stop serving {name} everywhere?", abort=True, err=True)
        detail = admin.retire(name, timeout_s) or f"{name} is retired"
    tell(documents.done("retire", name, detail), output)
