"""`meshctl status`: nodes, deployments and what is wrong, at a glance."""

from collections.abc import Iterable
from typing import Any

import click

from meshd.cli.meshctl.output import Table, output_option, show, show_each, size, socket_option, span, watch_option
from meshd.errors import Exit


@click.command()
@socket_option
@output_option
@watch_option
@click.pass_context
def command(ctx: click.Context, socket: str | None, output: str, watch: bool) -> None:
    """The mesh as this machine's daemon sees it.

    Exit code 7 if a deployment is not served or something else is wrong with one.
    """
    from meshd.cli.meshctl import documents
    from meshd.client.admin import Admin, find_socket

    with Admin(find_socket(socket)) as admin:
        if watch:
            show_each((documents.status(told) for told in admin.watch_status()), output, render)
            return
        document = documents.status(admin.status())
    show(document, output, render)
    if degraded(document):
        ctx.exit(Exit.DEGRADED)


def degraded(document: dict[str, Any]) -> bool:
    """Whether a deployment is not as it should be."""
    return any(d["serving"] is None or d["problem"] or d["conflict"] for d in document["deployments"])


def render(document: dict[str, Any], wide: bool) -> Iterable[Table | str]:
    """For a person."""
    alive = sum(node["state"] == "alive" for node in document["nodes"])
    mesh = f"mesh {document['mesh'][:8]}" if document["mesh"] else "no mesh"
    nodes = f"{alive} of {len(document['nodes'])} nodes alive"
    yield f"node {document['node'][:8]}, {mesh}, {nodes}, up {span(document['uptime_us'])}"
    yield ""
    yield nodes_table(document, wide)
    if document["deployments"]:
        yield ""
        yield deployments_table(document)
    if wide:
        yield ""
        yield Table(("LISTENER", "ADDRESS"), [(each["role"], each["address"]) for each in document["listeners"]])
    for problem in document["problems"]:
        yield f"! {problem}"


def nodes_table(document: dict[str, Any], wide: bool) -> Table:
    """All members."""
    headings = ["NODE", "NAME", "STATE", "RTT", "MEMORY", "HOLDS"]
    rows = []
    for node in document["nodes"]:
        held = [h for h in node["holdings"] if h["state"] in ("ready", "draining")]
        rtt = "-" if node["id"] == document["node"] or not node["rtt_us"] else span(node["rtt_us"])
        memory = f"{size(node['free_bytes'])}/{size(node['memory_bytes'])}"
        state = node["state"] + (",draining" if node["draining"] else "")
        row = [node["id"] if wide else node["id"][:8], node["name"], state, rtt, memory, _holds(held, node)]
        if wide:
            row += [",".join(node["addresses"]), str(node["cores"]), ",".join(node["labels"]) or "-", node["software"]]
        rows.append(row)
    return Table([*headings, *(["ADDRESSES", "CORES", "LABELS", "SOFTWARE"] if wide else [])], rows)


def _holds(held: list[dict[str, Any]], node: dict[str, Any]) -> str:
    loading = sum(h["state"] in ("loading", "reserved") for h in node["holdings"])
    failed = sum(h["state"] == "failed" for h in node["holdings"])
    words = [f"{len(held)}"] + [f"+{loading} loading"] * bool(loading) + [f"{failed} failed"] * bool(failed)
    return " ".join(words)


def deployments_table(document: dict[str, Any]) -> Table:
    """All deployments and whether they are served."""
    rows = []
    for each in document["deployments"]:
        serving = each["serving"]
        copies = min((1 + len(s["standbys"]) for s in serving["segments"] if s["owner"]), default=0) if serving else 0
        rows.append(
            (
                each["name"],
                each["model"][:12],
                str(each["generation"]),
                "yes" if serving else "no",
                str(len(serving["segments"])) if serving else "-",
                f"{copies}/{each['policy']['replicas']}",
                each["problem"] or ("deployed twice at once" if each["conflict"] else "-"),
            )
        )
    return Table(("DEPLOYMENT", "MODEL", "GEN", "SERVED", "SEGMENTS", "COPIES", "PROBLEM"), rows)
