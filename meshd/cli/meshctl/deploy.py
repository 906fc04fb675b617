"""`meshctl deploy`: serve a model under a name, and wait until the mesh does."""

from typing import TYPE_CHECKING

import click

from meshd.cli.meshctl.output import output_option, say, show, socket_option
from meshd.cli.meshctl.plan import render_plan
from meshd.errors import Exit, UnavailableError

if TYPE_CHECKING:
    from meshd.client.admin import Admin
    from meshd.v1 import admin_pb2 as pb

PATIENCE_S = 10.0
"""A problem may pass (a node still measures itself); one that stays this long is the answer."""


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
        generation = max((d.generation for d in admin.status().deployments if d.name == name), default=0)
        say(admin.deploy(name, model or name, policy, timeout_s) or f"{name}: the order is kept")
        found = _ordered(admin.status(), name, generation) if no_wait else _await(admin, name, generation, timeout_s)
        document = documents.deployment_in_full(found, admin.status().nodes)
    show(document, output, render_plan)
    if not no_wait and not _serves(found):
        say(f"{name}: {found.problem or 'not served in time; see meshctl plan show'}")
        ctx.exit(Exit.CONFLICT if found.problem else Exit.UNAVAILABLE)


def _await(admin: "Admin", name: str, generation: int, timeout_s: float) -> "pb.DeploymentStatus":
    """What became of the order: served, or not with the time up or with one problem that stayed for `PATIENCE_S`."""
    import time

    until, problem, since = time.monotonic() + timeout_s, "", time.monotonic()
    while True:
        left_s = until - time.monotonic()
        try:
            status = admin.wait(lambda s: _serves(_ordered(s, name, generation)), max(min(1.0, left_s), 0.1), name)
        except UnavailableError:
            status = admin.status()
        now, found = time.monotonic(), _ordered(status, name, generation)
        if _serves(found):
            return found
        if found.problem != problem:
            problem, since = found.problem, now
            if problem:
                say(f"{name}: {problem}")
        if _measuring(status):
            since = now
        if now >= until or (problem and now - since >= PATIENCE_S):
            return found


def _ordered(status: "pb.Status", name: str, generation: int) -> "pb.DeploymentStatus":
    """The deployment past `generation`; an empty one until the order is seen."""
    from meshd.v1 import admin_pb2 as pb

    for each in status.deployments:
        if each.name == name and each.generation > generation:
            return each
    return pb.DeploymentStatus(name=name)


def _measuring(status: "pb.Status") -> bool:
    """Whether a live node has not said yet what it offers: a first start compiles and times kernels for a while."""
    from meshd.v1.gossip_pb2 import MEMBER_STATE_ALIVE

    return any(node.state == MEMBER_STATE_ALIVE and not node.memory_bytes for node in status.nodes)


def _serves(found: "pb.DeploymentStatus") -> bool:
    """Whether a plan of what was ordered last is served in all its segments."""
    plan = found.serving
    return (
        found.HasField("serving")
        and plan.generation == found.generation
        and all(part.candidates for part in plan.segments)
    )


def _bytes(text: str) -> int:
    import re

    found = re.fullmatch(r"(\d+)\s*([kmg]?)(?:i?b)?", text.strip().lower())
    if not found:
        raise click.BadParameter(
            f"{text!r}: expected bytes, such as 300000000, 512MiB or 2G", param_hint="--memory-max"
        )
    return int(found[1]) << {"": 0, "k": 10, "m": 20, "g": 30}[found[2]]
