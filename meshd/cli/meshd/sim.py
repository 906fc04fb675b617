"""`meshd sim`: what would my mesh do? The real control plane in virtual time, with faults."""

import json
from collections.abc import Iterator
from typing import Any

import click

from meshd.errors import Exit, MisuseError


@click.command()
@click.option("--nodes", type=int, default=8, show_default=True, help="Machines, 2 to 10,000.")
@click.option("--minutes", type=float, default=2.0, show_default=True, help="Virtual minutes with the faults on.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of everything: one seed, one history.")
@click.option(
    "--faults",
    default="",
    metavar="NAME[=N],...",
    help="What goes wrong, e.g. crash,loss=0.1,split. crash: one a minute.",
)
@click.option("--deployments", type=int, default=0, show_default=True, help="Models to place and keep served, 0 to 64.")
@click.option("--quiet", type=float, default=0.0, help="Virtual minutes of rest afterwards: nothing may move twice.")
@click.option("--profile", default="default", show_default=True, help="Timers: default, fast, lowpower, ...")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.pass_context
def command(
    ctx: click.Context,
    nodes: int,
    minutes: float,
    seed: int,
    faults: str,
    profile: str,
    deployments: int,
    quiet: float,
    output: str,
) -> None:
    """Simulate a mesh and report how it detects, heals and what it sends.

    Every invariant is checked after every step. A broken one, or a fault that was asked for and never happened, ends with exit
    code 1 and the command that replays it.
    """
    from meshd.sim.report import document
    from meshd.sim.run import Options, run, shrink

    options = Options(nodes, minutes, seed, dict(_parsed(faults)), profile, deployments, quiet)
    outcome = run(options)
    report = document(outcome)
    click.echo(json.dumps(report, indent=2) if output == "json" else "\n".join(_lines(report)))
    for name in outcome.missing:
        click.echo(f"meshd sim: the fault {name} never happened: give it more --minutes", err=True)
    if outcome.broken:
        click.echo(f"meshd sim: {outcome.broken[0]}", err=True)
        smaller = shrink(options, outcome.invariant)
        for now_us, node, event in list(run(smaller).cluster.trace.last)[-20:]:
            click.echo(f"  {now_us / 1e6:12.6f}  node {node:<4} {event}", err=True)
        click.echo(f"meshd sim: replay it with: {smaller.command()}", err=True)
    if outcome.broken or outcome.missing:
        ctx.exit(int(Exit.FAILURE))


def _parsed(faults: str) -> Iterator[tuple[str, float]]:
    for word in filter(None, faults.split(",")):
        name, given, number = word.strip().partition("=")
        try:
            yield name, float(number) if given else 0.0
        except ValueError:
            raise MisuseError(f"--faults: {word} is not NAME or NAME=NUMBER, as in loss=0.1") from None


def _lines(report: dict[str, Any]) -> Iterator[str]:
    yield f"{report['nodes']} nodes, {report['virtual_s']:.0f} virtual seconds, {report['events']} events, seed {report['seed']}"
    for name, words in (
        ("suspect_ms", "first SUSPECT after a crash"),
        ("dead_all_ms", "DEAD everywhere after a crash"),
        ("rumour_ticks", "a rumour known to all"),
        ("heal_ms", "whole again after the network was"),
        ("reelect_ms", "no route first to a dead owner"),
        ("plan_ms", "a plan agreed"),
    ):
        times, unit = report[name], name.rpartition("_")[2]
        if times["count"]:
            yield f"{words:<36} p50 {times['p50']:>9} {unit:<5}   p99 {times['p99']:>9} {unit:<5}   of {times['count']}"
    requests = report["requests"]
    if requests["sent"]:
        added = requests["added_ms"]
        words = f"{requests['failed']} failed, {requests['wrong']} wrong, {added['count']} disturbed"
        words += f" (p50 {added['p50']} ms, p99 {added['p99']} ms more)" if added["count"] else ""
        yield f"{'requests':<36} {requests['sent']} sent: {words}"
    bound = report["false_dead_an_hour_max"]
    yield f"{'false DEAD':<36} {report['false_dead']} in {report['node_hours']} node-hours (under {bound} an hour)"
    sent = report["bytes_per_s"]
    yield f"{'bytes a second sent a node':<36} idle {sent['idle']}   mean {sent['mean']}   peak {sent['peak']}"
    yield f"{'faults':<36} " + (", ".join(f"{name} {count}" for name, count in report["faults"].items()) or "none")
    broken = report["invariants"]["broken"]
    yield f"{'invariants':<36} {report['invariants']['checked']} checks, {len(broken) or 'none'} broken"
    yield f"{'trace':<36} {report['trace_hash']}"
