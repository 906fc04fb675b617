"""`meshctl token create|ls|rm`: bearer tokens of remote inference clients."""

import time
from collections.abc import Iterable
from typing import Any

import click

from meshd.cli.meshctl.output import Table, output_option, say, show, socket_option, tell


@click.group()
def command() -> None:
    """Make, list and remove client tokens."""


@command.command()
@click.argument("name")
@click.option("--role", default="client", show_default=True, type=click.Choice(["client"]), help="What it may do.")
@socket_option
@output_option
def create(name: str, role: str, socket: str | None, output: str) -> None:
    """Make a token called NAME. Its secret is printed this once and kept nowhere.

    It is good at this node only. Clients send it as `authorization: Bearer SECRET`.
    """
    from meshd.cli.meshctl import documents
    from meshd.client.admin import Admin, find_socket

    with Admin(find_socket(socket)) as admin:
        secret = admin.create_token(name, role)
    if output in ("table", "wide"):
        click.echo(secret)
        say(f"token {name} for role {role}; keep it secret, it is not shown again")
    else:
        show(documents.document("Token", name=name, role=role, secret=secret), output, lambda _, __: ())


@command.command("ls")
@socket_option
@output_option
def list_tokens(socket: str | None, output: str) -> None:
    """All tokens, without their secrets."""
    from meshd.cli.meshctl import documents
    from meshd.client.admin import Admin, find_socket

    with Admin(find_socket(socket)) as admin:
        listed = [documents.token(each) for each in admin.tokens()]
    show(documents.document("TokenList", tokens=listed), output, _render)


@command.command("rm")
@click.argument("name")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@socket_option
@output_option
def remove(name: str, yes: bool, socket: str | None, output: str) -> None:
    """Forget token NAME: the next call that carries it is refused."""
    from meshd.cli.meshctl import documents
    from meshd.client.admin import Admin, find_socket

    with Admin(find_socket(socket)) as admin:
        if not yes:
            click.confirm(f"Forget token {name}?", abort=True, err=True)
        admin.remove_token(name)
    tell(documents.done("token rm", name, f"token {name} is forgotten"), output)


def _render(document: dict[str, Any], wide: bool) -> Iterable[Table]:
    rows = [
        (each["name"], each["role"], time.strftime("%Y-%m-%d %H:%M", time.localtime(each["created_s"])))
        for each in document["tokens"]
    ]
    yield Table(("NAME", "ROLE", "CREATED"), rows)
