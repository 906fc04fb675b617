"""`meshctl doctor`: what keeps nodes apart, and what to do about it."""

from collections.abc import Iterable
from typing import Any

import click

from meshd.cli.meshctl.output import output_option, show, socket_option
from meshd.errors import Exit


@click.command()
@socket_option
@output_option
@click.pass_context
def command(ctx: click.Context, socket: str | None, output: str) -> None:
    """Look at nodes that are heard but are no members, at peers that cannot be reached, at this node itself.

    Exit code 7 if anything is wrong.
    """
    from meshd.cli.meshctl import documents
    from meshd.client.admin import Admin, find_socket

    with Admin(find_socket(socket)) as admin:
        document = documents.document("Diagnosis", findings=[documents.finding(each) for each in admin.diagnose()])
    show(document, output, _render)
    if any(each["severity"] in ("warning", "error") for each in document["findings"]):
        ctx.exit(Exit.DEGRADED)


def _render(document: dict[str, Any], wide: bool) -> Iterable[str]:
    if not document["findings"]:
        yield "nothing found"
    for each in document["findings"]:
        yield f"{each['severity']}: {each['finding']}: {each['subject']}"
        yield f"    {each['says']}"
        yield f"    → {each['advice']}"
