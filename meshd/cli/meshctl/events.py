"""`meshctl events`: what happened at this node, and what happens."""

import time
from collections.abc import Iterable
from typing import Any

import click

from meshd.cli.meshctl.output import output_option, socket_option


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on as they come.")
@click.option("--kind", help="Only kinds that begin so, such as `member.` or `plan.agreed`.")
@socket_option
@output_option
def command(follow: bool, kind: str | None, socket: str | None, output: str) -> None:
    """The last events (1,024 are kept), a line each; json: a document a line."""
    import json

    from meshd.cli.meshctl import documents
    from meshd.cli.meshctl.output import yaml_lines
    from meshd.client.admin import Admin, find_socket

    with Admin(find_socket(socket)) as admin:
        for told, missed in admin.events(once=not follow):
            if kind and not told.kind.startswith(kind):
                continue
            document = documents.event(told, missed)
            if output == "json":
                click.echo(json.dumps(document))
            elif output == "yaml":
                click.echo("---\n" + "\n".join(yaml_lines(document)))
            else:
                click.echo("\n".join(_lines(document)))


def _lines(event: dict[str, Any]) -> Iterable[str]:
    if event["missed"]:
        yield f"... {event['missed']} events were missed"
    clock = time.strftime("%H:%M:%S", time.localtime(event["wall_us"] / 1e6))
    detail = " ".join(f"{key}={value}" for key, value in event["detail"].items())
    yield f"{clock}.{event['wall_us'] // 1000 % 1000:03}  {event['event']:<22} {event['subject']}  {detail}".rstrip()
