"""`meshctl node ls|show|drain`."""

from collections.abc import Iterable
from typing import Any

import click

from meshd.cli.meshctl.output import (
    Table,
    count,
    output_option,
    show,
    show_each,
    size,
    socket_option,
    span,
    tell,
    watch_option,
)
from meshd.cli.meshctl.status import nodes_table
from meshd.errors import ConflictError, MisuseError, NotFoundError


@click.group()
def command() -> None:
    """List, show and drain nodes."""


@command.command("ls")
@socket_option
@output_option
@watch_option
def list_nodes(socket: str | None, output: str, watch: bool) -> None:
    """All members this node knows."""
    from meshd.cli.meshctl import documents
    from meshd.client.admin import Admin, find_socket

    def listed(told: Any) -> dict[str, Any]:
        return documents.document("NodeList", node=told.node_id, nodes=[documents.node(each) for each in told.nodes])

    with Admin(find_socket(socket)) as admin:
        if watch:
            show_each(map(listed, admin.watch_status()), output, _render_list)
        else:
            show(listed(admin.status()), output, _render_list)


@command.command("show")
@click.argument("node", required=False)
@socket_option
@output_option
def show_node(node: str | None, socket: str | None, output: str) -> None:
    """One NODE, by name, id, or the start of its id. Default: this one."""
    from meshd.cli.meshctl import documents
    from meshd.client.admin import Admin, find_socket

    with Admin(find_socket(socket)) as admin:
        told = documents.status(admin.status())
    found = find_node(told, node or told["node"])
    show(documents.document("Node", **found), output, _render_node)


@command.command("drain")
@click.argument("node", required=False)
@click.option("--off", is_flag=True, help="Take part again.")
@click.option("--timeout", "timeout_s", default=180.0, show_default=True, help="Seconds to wait for it to be empty.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@socket_option
@output_option
def drain(node: str | None, off: bool, timeout_s: float, yes: bool, socket: str | None, output: str) -> None:
    """Let this machine's node give up all it holds in good order, as before maintenance.

    Other nodes take over first. NODE, if given, must be this one: a drain is asked at the node itself.
    """
    from meshd.cli.meshctl import documents
    from meshd.client.admin import Admin, find_socket

    with Admin(find_socket(socket)) as admin:
        told = documents.status(admin.status())
        if node and find_node(told, node)["id"] != told["node"]:
            raise MisuseError(f"{node} is another node; run this command there")
        if not off and not yes:
            click.confirm("Give up everything this node serves?", abort=True, err=True)
        detail = admin.drain(not off, timeout_s) or ("takes part again" if off else "drained")
    tell(documents.done("undrain" if off else "drain", told["node"], detail), output)


def find_node(status: dict[str, Any], name: str) -> dict[str, Any]:
    """A node of a `Status` document by id, the start of one (4 or more characters), or name."""
    found = [
        n for n in status["nodes"] if name in (n["id"], n["name"]) or (len(name) >= 4 and n["id"].startswith(name))
    ]
    if not found:
        raise NotFoundError(f"no node {name!r} is known here; see: meshctl node ls")
    if len(found) > 1:
        raise ConflictError(f"{name!r} names {len(found)} nodes: {', '.join(n['id'][:8] for n in found)}; use the id")
    only: dict[str, Any] = found[0]
    return only


def _render_list(document: dict[str, Any], wide: bool) -> Iterable[Table]:
    yield nodes_table(document, wide)


def _render_node(node: dict[str, Any], wide: bool) -> Iterable[Table | str]:
    rows = [
        ("id", node["id"]),
        ("name", node["name"]),
        ("state", node["state"] + (", draining" if node["draining"] else "")),
        ("boot", f"{node['boot'] >> 32} (incarnation {node['incarnation']})"),
        ("addresses", ", ".join(node["addresses"])),
        ("software", node["software"]),
        ("memory", f"{size(node['free_bytes'])} free of {size(node['memory_bytes'])}"),
        ("cores", str(node["cores"])),
        ("rates", ", ".join(f"{name} {count(rate)}/s" for name, rate in node["rates"].items()) or "not measured"),
        ("numeric", node["numeric"]),
        ("labels", ", ".join(node["labels"]) or "-"),
        ("round trip", span(node["rtt_us"]) if node["rtt_us"] else "-"),
        ("unreachable", ", ".join(each[:8] for each in node["unreachable"]) or "-"),
    ]
    width = max(len(name) for name, _ in rows)
    yield from (f"{name.ljust(width)}  {value}" for name, value in rows)
    if node["holdings"]:
        yield ""
        yield Table(
            ("PLAN", "SEGMENT", "STATE", "AN ITEM", "KERNELS", "REASON"),
            [
                (
                    each["plan_digest"][:12],
                    str(each["segment"]),
                    each["state"],
                    span(each["measured_us"]) if each["measured_us"] else "-",
                    " ".join(f"{name}:{count}" for name, count in each["kernels"].items()) or "-",
                    each["reason"] or "-",
                )
                for each in node["holdings"]
            ],
        )
