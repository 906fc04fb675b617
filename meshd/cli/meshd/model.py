"""`meshd model check`: what to know of a model before it is deployed: does it import, cut, run, agree, and how fast."""

import json
from pathlib import Path
from typing import Any

import click

from meshd.cli.meshd.model_check import Report, check
from meshd.errors import Exit, MisuseError


@click.group()
def command() -> None:
    """Look at models on this machine."""


@command.command("check")
@click.argument("path", metavar="FILE.onnx", type=click.Path(path_type=Path))
@click.option(
    "--cuts", type=click.IntRange(1), help="Cut at so many places at once; else at every single place, in turn."
)
@click.option(
    "--dim", "dims", multiple=True, metavar="NAME=SIZE", help="Fix a free dimension, or a whole-number input."
)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME=FILE.npy",
    help="Use this array for an input; the others are random numbers, always the same.",
)
@click.option(
    "--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads, ours and ONNX Runtime's."
)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.pass_context
def check_command(
    context: click.Context,
    *,
    path: Path,
    cuts: int | None,
    dims: tuple[str, ...],
    inputs: tuple[str, ...],
    threads: int,
    output: str,
) -> None:
    """Import a model, run it whole and in pieces, compare with ONNX Runtime where that is installed.

    Exit code 1 where the model is not supported, or its pieces do not give what the whole gives.
    """
    sizes = {name: _whole(name, value) for name, value in map(_pair, dims)}
    arrays = {name: Path(value) for name, value in map(_pair, inputs)}
    report = check(path, sizes, arrays, cuts, threads)
    click.echo(json.dumps(report.document(), indent=2) if output == "json" else "\n".join(_picture(report)))
    if not report.supported or report.pieces_equal is False:
        context.exit(Exit.FAILURE)


def _pair(words: str) -> tuple[str, str]:
    name, equals, value = words.rpartition("=")
    if not equals or not name:
        raise MisuseError(f"{words!r} is not NAME=VALUE")
    return name, value


def _whole(name: str, value: str) -> int:
    if not value.isdecimal():
        raise MisuseError(f"the size of {name} is {value!r}; it must be a whole number")
    return int(value)


def _picture(report: Report) -> list[str]:
    if not report.supported:
        return [f"{len(report.unsupported)} node(s) are not supported:", *(f"  {line}" for line in report.unsupported)]
    unknown = "onnxruntime is not installed: not compared"
    rows: list[tuple[str, Any]] = [
        ("layers", report.layers),
        ("kernels", ", ".join(f"{n} {kind}" for kind, n in report.kernels.items()) or "none"),
        ("weights", f"{report.weight_bytes / 1e6:.2f} MB"),
        ("arena", f"{report.arena_bytes / 1e6:.2f} MB, of which {report.live_bytes / 1e6:.2f} MB are in use at once"),
        (
            "pieces",
            f"{report.cuts} cuts, {'the same bits as in one piece' if report.pieces_equal else 'NOT what one piece gives'}",
        ),
        (
            "time",
            f"{report.ms:.3f} ms" + (f", ONNX Runtime {report.ort_ms:.3f} ms" if report.ort_ms is not None else ""),
        ),
        (
            "greatest error",
            f"{report.max_abs_error:.3g}" if report.max_abs_error is not None else report.note or unknown,
        ),
    ]
    wide = max(len(name) for name, _ in rows)
    return [f"{name:{wide}}  {value}" for name, value in rows]
