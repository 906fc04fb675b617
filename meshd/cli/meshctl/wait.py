"""`meshctl wait`: until the mesh is as wanted, for scripts."""

from typing import Any

import click

from meshd.cli.meshctl.output import output_option, socket_option, tell


@click.command()
@click.option("--nodes", "nodes_min", type=click.IntRange(1), help="At least so many nodes are alive.")
@click.option("--deployment", "names", multiple=True, metavar="NAME", help="NAME is served; repeat for several.")
@click.option("--copies", type=click.IntRange(1, 16), help="With --deployment: so many READY copies of each segment.")
@click.option("--timeout", "timeout_s", default=60.0, show_default=True, help="Seconds to wait.")
@socket_option
@output_option
def command(
    nodes_min: int | None,
    names: tuple[str, ...],
    copies: int | None,
    timeout_s: float,
    socket: str | None,
    output: str,
) -> None:
    """Wait for this machine's daemon to answer, and for every condition given. Exit code 4 when the time is up."""
    import time

    from meshd.cli.meshctl import documents
    from meshd.client.admin import Admin, find_socket
    from meshd.errors import UnavailableError

    def holds(status: Any) -> bool:
        return _nodes(status) >= (nodes_min or 0) and all(_copies(status, name) >= (copies or 1) for name in names)

    until = time.monotonic() + timeout_s
    while True:
        left_s = until - time.monotonic()
        try:
            with Admin(find_socket(socket)) as admin:
                status = admin.wait(holds, max(left_s, 0.1), _wanted(nodes_min, names, copies))
            break
        except UnavailableError:
            # It may be starting, or starting again.
            if until - time.monotonic() < 0.5:
                raise
            time.sleep(0.2)
    alive = _nodes(status)
    detail = f"{alive} nodes alive" + "".join(f", {name} served" for name in names)
    served = [{"name": name, "copies": _copies(status, name)} for name in names]
    tell(documents.done("wait", None, detail, nodes_alive=alive, deployments=served), output)


def _nodes(status: Any) -> int:
    from meshd.v1.gossip_pb2 import MEMBER_STATE_ALIVE

    return sum(node.state == MEMBER_STATE_ALIVE for node in status.nodes)


def _copies(status: Any, name: str) -> int:
    for each in status.deployments:
        if each.name == name and each.HasField("serving"):
            return min((len(part.candidates) for part in each.serving.segments), default=0)
    return 0


def _wanted(nodes_min: int | None, names: tuple[str, ...], copies: int | None) -> str:
    words = [f"{nodes_min} nodes alive"] * bool(nodes_min)
    words += [f"{name} served" + (f" in {copies} copies" if copies else "") for name in names]
    return " and ".join(words) or "an answer"
