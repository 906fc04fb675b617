"""`meshctl plan show`: who serves which segment of a deployment."""

from collections.abc import Iterable
from typing import Any

import click

from meshd.cli.meshctl.output import Table, output_option, show, show_each, size, socket_option, span, watch_option
from meshd.errors import NotFoundError


@click.group()
def command() -> None:
    """Show who serves which segment."""


@command.command("show")
@click.argument("name")
@socket_option
@output_option
@watch_option
def show_plan(name: str, socket: str | None, output: str, watch: bool) -> None:
    """The plan of deployment NAME: its segments, their owner and standbys, and what crosses each cut."""
    from meshd.cli.meshctl import documents
    from meshd.client.admin import Admin, find_socket

    def one(told: Any) -> dict[str, Any]:
        for each in told.deployments:
            if each.name == name:
                return documents.deployment_in_full(each, told.nodes)
        known = ", ".join(each.name for each in told.deployments) or "none"
        raise NotFoundError(f"there is no deployment {name!r} (there are: {known}); see: meshctl deploy")

    with Admin(find_socket(socket)) as admin:
        if watch:
            show_each(map(one, admin.watch_status()), output, render_plan)
        else:
            show(one(admin.status()), output, render_plan)


def render_plan(deployment: dict[str, Any], wide: bool) -> Iterable[Table | str]:
    """A `Deployment` for a person."""
    plan = deployment["serving"] or deployment["target"]
    word = "serving" if deployment["serving"] else "loading" if plan else "not planned"
    yield f"{deployment['name']} generation {deployment['generation']}: {word}"

    def called(node: str) -> str:
        name, short = deployment["nodes"].get(node), node if wide else node[:8]
        return short if not name else f"{name} ({short})" if wide else name

    if plan is not None:
        cost = span(plan["cost_us"])
        yield f"plan {plan['plan_digest'][:12]} epoch {plan['epoch']} by {called(plan['planner'])}, about {cost} an item"
        yield ""
        yield Table(("SEGMENT", "LAYERS", "OWNER", "STANDBYS", "KERNELS", "CROSSES AFTER"), [
            (
                str(index),
                f"{part['start']}-{part['end'] - 1}",
                called(part["owner"] or (part["succession"] or ["-"])[0]),
                ", ".join(called(each) for each in (part["standbys"] or part["succession"][1:])) or "-",
                " ".join(f"{name}:{count}" for name, count in part["classes"].items()) or "-",
                _crossing(part),
            )
            for index, part in enumerate(plan["segments"])
        ])  # fmt: skip
    if deployment["problem"]:
        yield f"! {deployment['problem']}"


def _crossing(part: dict[str, Any]) -> str:
    kinds = sorted({each["encoding"] for each in part["crossing"]})
    return f"{size(part['crossing_bytes'])} {'+'.join(kinds)}" if kinds else "-"
