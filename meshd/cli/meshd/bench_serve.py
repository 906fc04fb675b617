"""`meshd bench serve`: what a request costs beside the bare transport."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import click


@click.command()
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--peers", is_flag=True, help="Also ask MLServer, where it is installed here.")
@click.option(
    "--peer-python", multiple=True, metavar="PYTHON", help="Another interpreter to look for peers in; repeatable."
)
def command(output: str, peers: bool, peer_python: tuple[str, ...]) -> None:
    """Measure requests through one node and over one hop against bare gRPC and bare framed TLS (about a minute)."""
    from meshd.bench import serve

    report = serve.document(pythons=[*([sys.executable] if peers else []), *peer_python])
    click.echo(json.dumps(report, indent=2) if output == "json" else "\n".join(_lines(report)))


def _lines(report: dict[str, Any]) -> Iterator[str]:
    names = ("echo", "local", "echo_tls", "frames_tls", "hop")
    yield f"{'bytes':>8} " + " ".join(f"{name + ' ms':>13}" for name in names) + "   ratios (should stay below)"
    for row in report["latency"]:
        times = " ".join(f"{row['ms'][name]:>13.3f}" for name in names)
        ratios = ", ".join(f"{name} {value:.2f} ({row['limits'][name]})" for name, value in row["ratios"].items())
        yield f"{row['bytes']:>8} {times}   {ratios}"
    seen = report["throughput"]
    yield (
        f"{seen['callers']} callers, {seen['bytes']} bytes, requests a second: bare {seen['echo']:.0f},"
        f" one node {seen['local']:.0f} ({seen['ratio']:.2f}), one hop {seen['hop']:.0f}"
    )
    for peer in report["peers"]:
        yield (
            f"{peer['name']} {peer['version']}, the same request: {peer['theirs']:.0f} a second beside {peer['ours']:.0f}"
            f" ({peer['ratio']:.2f}, at least {peer['least']}), one alone {peer['theirs_ms']:.3f} ms beside {peer['ours_ms']:.3f}"
        )
