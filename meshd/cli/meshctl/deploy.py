"""`meshctl deploy`: serve a model under a name, and wait until the mesh does."""

import click

from meshd.cli.meshctl.output import output_option, say, show, socket_option
from meshd.cli.meshctl.plan import render_plan
from meshd.errors import Exit


@click.command()
@click.argument("name")
@click.option("--model", help="Digest, start of one, or name of a pushed model. Default: NAME.")
@click.option(
    "--min-segments", default=1, show_default=True, type=click.IntRange(1, 64), help="Split at least so often."
)
@click.option("--replicas", default=2, show_default=True, type=click.IntRange(1, 16), help="Copies of each segment.")
@click.option(
    "--objective", default="latency", show_default=True, type=click.Choice(["latency", "throughput", "energy"]),
    help="What a placement minimises.",
)  # fmt: skip
@click.option("--memory-max", default="0", help="Most one node may give, such as 512MiB. 0: its own budget.")
@click.option("--keep-to", multiple=True, metavar="LABEL", help="Only nodes with this label; repeat for several.")
@click.option("--avoid", multiple=True, metavar="LABEL", help="No node with this label; repeat for several.")
@click.option(
    "--keep-input",
    is_flag=True,
    help="Raw inputs never leave the node a request came in at: nodes with no room for the first segment refuse.",
)
@click.option("--no-wait", is_flag=True, help="Answer once the order is kept, not once it is served.")
@click.option("--timeout", "timeout_s", default=120.0, show_default=True, help="Seconds to wait.")
@socket_option
@output_option
@click.pass_context
def command(
    ctx: click.Context,
    name: str,
    model: str | None,
    min_segments: int,
    replicas: int,
    objective: str,
    memory_max: str,
    keep_to: tuple[str, ...],
    avoid: tuple[str, ...],
    keep_input: bool,
    no_wait: bool,
    timeout_s: float,
    socket: str | None,
    output: str,
) -> None:
    """Serve a model under NAME; deploying a NAME again replaces its model and policy.

    Nodes agree among themselves who serves which part; this answers when all parts are served. Exit code 6 if it cannot
    be placed, 4 if it took too long.
    """
    from meshd.cli.meshctl import documents
    from meshd.client.admin import Admin, find_socket
    from meshd.client.order import order, serves
    from meshd.v1 import admin_pb2 as pb

    policy = pb.DeployPolicy(
        replicas=replicas,
        objective="DEPLOY_OBJECTIVE_" + objective.upper(),
        segments_min=min_segments,
        memory_bytes_max=_bytes(memory_max),
        keep_to=keep_to,
        avoid=avoid,
        keep_input=keep_input,
    )
    with Admin(find_socket(socket)) as admin:
        found = order(admin, name, model or name, policy, timeout_s, say, wait=not no_wait)
        document = documents.deployment_in_full(found, admin.status().nodes)
    show(document, output, render_plan)
    if not no_wait and not serves(found):
        say(f"{name}: {found.problem or 'not served in time; see meshctl plan show'}")
        ctx.exit(Exit.CONFLICT if found.problem else Exit.UNAVAILABLE)


def _bytes(text: str) -> int:
    import re

    found = re.fullmatch(r"(\d+)\s*([kmg]?)(?:i?b)?", text.strip().lower())
    if not found:
        raise click.BadParameter(
            f"{text!r}: expected bytes, such as 300000000, 512MiB or 2G", param_hint="--memory-max"
        )
    return int(found[1]) << {"": 0, "k": 10, "m": 20, "g": 30}[found[2]]
