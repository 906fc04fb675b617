"""`meshd bench kernels`: rates, limits and ratios of the compiled kernels."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import click

from meshd.errors import Exit, MisuseError


@click.command()
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option(
    "--break-even", is_flag=True, help="Only: from which share of zeros on each sparse form pays here; kept for use."
)
@click.option(
    "--peers",
    is_flag=True,
    help="Also time the peers that are installed here (onnxruntime, openvino, deepsparse, litert, larq).",
)
@click.option(
    "--peer-python", multiple=True, metavar="PYTHON", help="Another interpreter to look for peers in; repeatable."
)
@click.pass_context
def command(ctx: click.Context, output: str, break_even: bool, peers: bool, peer_python: tuple[str, ...]) -> None:
    """Measure every kernel, and this machine's limits in the same run (about a minute).

    Ends with exit code 1 if the limits are not those known for this CPU: then something else was running.
    """
    from meshd.kernels import registry

    if not registry.compiled():
        raise MisuseError("without Numba there are no compiled kernels to measure; install it, or unset MESHD_NUMBA")
    from meshd.bench import kernels

    if break_even:
        found = kernels.break_even()
        click.echo(json.dumps(found, indent=2) if output == "json" else "\n".join(_forms(found)))
        return
    pythons = [*([sys.executable] if peers else []), *peer_python]
    report = kernels.document(peers=pythons)
    click.echo(json.dumps(report, indent=2) if output == "json" else "\n".join(_lines(report)))
    for doubt in report["doubts"]:
        click.echo(f"meshd bench kernels: {doubt}", err=True)
    if report["doubts"]:
        ctx.exit(int(Exit.FAILURE))


def _lines(report: dict[str, Any]) -> Iterator[str]:
    yield report["cpu"]
    yield "limits of one core: " + ", ".join(f"{name} {value}" for name, value in report["limits"].items())
    yield f"{'kernel':<24} {'shape':<14} {'zeros':>5} {'us':>10} {'rate':>8} {'limit':>8} {'ratio':>6}"
    for row in report["kernels"]:
        zeros = f"{row['sparsity']:.2f}" if row["sparsity"] else ""
        line = f"{row['name']:<24} {row['shape']:<14} {zeros:>5} {row['us']:>10.1f} {row['rate']:>8.1f} {row['limit']:>8.1f}"
        cold = f"  cold {row['cold_us']:.1f} us" if "cold_us" in row else ""
        yield f"{line} {row['ratio']:>6.2f}  {row['unit']}{cold}" + (f"  ({row['why']})" if "why" in row else "")
    for row in report["peers"]:
        ours = f"{row['ours_us']:.1f} us"
        if "ours_unstructured_us" in row:
            ours += f" (without structure {row['ours_unstructured_us']:.1f})"
        yield f"{row['work']:<24} {row['name']} {row['version']}: {row['us']:.1f} us, ours {ours}: {row['ratio']:.2f} x"


def _forms(report: dict[str, Any]) -> Iterator[str]:
    yield f"{'form':<12} {'G weights/s':>11}   pays past"
    for form in report["forms"]:
        yield f"{form['form']:<12} {form['rate']:>11.1f}   {100 * form['zeros']:.0f} % zeros"
