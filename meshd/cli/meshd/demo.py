"""`meshd demo`: see the mesh find, place, serve, lose a node and go on, on this machine."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from meshd.errors import Exit

if TYPE_CHECKING:
    from meshd.demo.report import Run


@click.command()
@click.option("--nodes", type=click.IntRange(3, 12), default=4, show_default=True, help="Daemons to run.")
@click.option("--requests", type=click.IntRange(60, 1_000_000), default=300, show_default=True, help="Images to send.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option(
    "--keep", type=click.Path(path_type=Path, file_okay=False), help="Work in this folder and leave it: logs, state."
)
def command(nodes: int, requests: int, output: str, keep: Path | None) -> None:
    """Run real daemons on this machine, serve a real pruned and binary model, kill an owner in mid-stream.

    Everything stays on 127.0.0.1. Exit 0 only if no request was lost, no answer was wrong, and the accuracy is what the
    model's card says.
    """
    from meshd.demo import fleet, report, show, story
    from meshd.kernels.cache import use

    cache = fleet.cache_folder()
    use(cache)
    audience = show.audience(quiet=output == "json")
    with audience, fleet.Fleet(nodes, cache, keep) as daemons:
        run = story.tell(story.Options(nodes, requests), daemons, audience)
    if output == "json":
        click.echo(json.dumps(report.document(run), indent=2))
    else:
        _print(run)
    if report.problems(run):
        raise SystemExit(Exit.FAILURE)


def _print(run: "Run") -> None:
    from meshd.demo import report

    document, sent = report.document(run), len(run.outcomes)
    requests, failover = document["requests"], document["failover"]
    click.echo("")
    click.echo(
        f"requests   {sent} sent, {requests['answered']} answered, {requests['lost']} lost, {requests['wrong']} wrong; "
        f"at the kill {requests['in_flight_at_kill']} in flight, {requests['on_killed']} of them on {failover['killed']}"
    )
    click.echo(f"accuracy   {document['accuracy'] * 100:.1f} % of the images' labels, as the model run in one piece")
    for name, (p50, p99) in report.phases(run).items():
        click.echo(f"latency    {name:7} p50 {p50:7.2f} ms   p99 {p99:7.2f} ms")
    click.echo(f"           one node alone {run.single_ms:.2f} ms (compute only)")
    click.echo(
        f"failover   cost a request at most {failover['added_ms_max']:.0f} ms; suspected after {_ms(failover['suspect_ms'])}, "
        f"repaired after {_ms(failover['repaired_ms'])}, {failover['took_over']} took over"
    )
    for problem in document["problems"]:
        click.echo(f"PROBLEM    {problem}")
    click.echo("ok" if document["ok"] else "not ok")


def _ms(value: float | None) -> str:
    return "never" if value is None else f"{value:,.0f} ms"
