"""`meshd compress`: make a trained model small, offline, from its ONNX file and some data."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from meshd.errors import MisuseError

if TYPE_CHECKING:
    from meshd.compress.report import Report

FILE = click.Path(path_type=Path)


@click.group()
def command() -> None:
    """Make a model small: prune, quantise, and say what it cost. The original file is never touched."""


def dims_of(pairs: Sequence[str]) -> dict[str, int]:
    """`NAME=SIZE` words as sizes."""
    found = {}
    for words in pairs:
        name, _, size = words.rpartition("=")
        if not name or not size.isdecimal():
            raise MisuseError(f"--dim {words}: write NAME=SIZE, a whole number")
        found[name] = int(size)
    return found


def tell(line: str) -> None:
    """A line of progress, beside the answer."""
    click.echo(line, err=True)


def require_onnx() -> None:
    """Raise MisuseError where the extra is missing."""
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise MisuseError("compressing needs the onnx package: pip install 'meshd[onnx]'") from None


@command.command("prune")
@click.argument("model", metavar="MODEL.onnx", type=FILE)
@click.option(
    "--data", type=FILE, required=True, metavar="CALIB.npz", help="Items like those the model will see; a thousand do."
)
@click.option("--sparsity", type=float, help="Budget: share of all weights of layers to be zero, e.g. 0.8.")
@click.option(
    "--size", "size_bytes", type=click.IntRange(1), metavar="BYTES", help="Budget: the layers' weights in memory."
)
@click.option("--ms", type=float, help="Budget: predicted milliseconds of an item on --device.")
@click.option(
    "--device", "profile", type=FILE, metavar="PROFILE.json", help="What `python -m meshd.engine.measure` prints there."
)
@click.option(
    "--pattern",
    default="kernel",
    show_default=True,
    help="kernel (what meshd runs fastest: blocks of 4 outputs, 16 in products), block2 to block16, N:M, unstructured.",
)
@click.option(
    "--method",
    type=click.Choice(["obs", "wanda", "magnitude"]),
    default="obs",
    show_default=True,
    help="obs moves the kept weights so that outputs stay; the others only make zeros.",
)
@click.option("--dim", "dims", multiple=True, metavar="NAME=SIZE", help="Fix a free dimension.")
@click.option("-o", "--output", type=FILE, required=True, metavar="OUT.onnx")
def prune_command(
    *,
    model: Path,
    data: Path,
    sparsity: float | None,
    size_bytes: int | None,
    ms: float | None,
    profile: Path | None,
    pattern: str,
    method: str,
    dims: tuple[str, ...],
    output: Path,
) -> None:
    """Set weights to zero where meshd's kernels can leave them out.

    One budget is given (--sparsity, --size or --ms), and spread over the layers by what each does to the outputs. An
    interrupted run resumes when it is called again in the same words.
    """
    require_onnx()
    from meshd.compress import device
    from meshd.compress.prune import Wish, prune

    board = None if profile is None else device.read(profile)
    rows = prune(model, data, output, Wish(pattern, method, sparsity, size_bytes, ms, board, dims_of(dims)), tell)
    wide = max(len(r.name) for r in rows)
    for r in rows:
        told = f"{r.pattern or 'dense':<12} {r.zeros / r.size:7.2%} of {r.size:>11,}"
        click.echo(f"{r.name:{wide}}  {told}" + (f"  ({r.why})" if r.why else ""))
    zeros, size = sum(r.zeros for r in rows), sum(r.size for r in rows)
    click.echo(f"{'all':{wide}}  {'':<12} {zeros / size:7.2%} of {size:>11,}  → {output}")


@command.command("quantize")
@click.argument("model", metavar="MODEL.onnx", type=FILE)
@click.option(
    "--data",
    type=FILE,
    required=True,
    metavar="CALIB.npz",
    help="Items like those the model will see; some hundreds do.",
)
@click.option(
    "--range",
    "method",
    type=click.Choice(["mse", "percentile", "minmax"]),
    default="mse",
    show_default=True,
    help="How the range of a tensor is found: least error, without the rarest values, or all of it.",
)
@click.option("--keep", multiple=True, metavar="LAYER", help="Leave this layer float; repeatable.")
@click.option("--dim", "dims", multiple=True, metavar="NAME=SIZE", help="Fix a free dimension.")
@click.option("-o", "--output", type=FILE, required=True, metavar="OUT.onnx")
def quantize_command(
    *, model: Path, data: Path, method: str, keep: tuple[str, ...], dims: tuple[str, ...], output: Path
) -> None:
    """Weights and activations to int8, written as standard QDQ ONNX that other runtimes read too."""
    require_onnx()
    from meshd.compress.quantize import Wish, quantize

    names = quantize(model, data, output, Wish(method, keep, dims_of(dims)), tell)
    click.echo(f"{len(names)} layers are int8 → {output}")


@command.command("report")
@click.argument("models", metavar="A.onnx B.onnx ...", nargs=-1, required=True, type=FILE)
@click.option("--data", type=FILE, required=True, metavar="TEST.npz", help="Items and labels the models have not seen.")
@click.option("--metric", type=click.Choice(["top1", "top5", "balanced"]), default="top1", show_default=True)
@click.option("--dim", "dims", multiple=True, metavar="NAME=SIZE", help="Fix a free dimension.")
@click.option(
    "--device", "profiles", multiple=True, type=FILE, metavar="PROFILE.json", help="Predict for this board too."
)
@click.option("--power-cmd", default="", metavar="COMMAND", help="A command that prints watts, where sysfs has none.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--plot", type=FILE, metavar="FILE.svg", help="Accuracy against milliseconds.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def report_command(
    *,
    models: tuple[Path, ...],
    data: Path,
    metric: str,
    dims: tuple[str, ...],
    profiles: tuple[Path, ...],
    power_cmd: str,
    threads: int,
    plot: Path | None,
    output: str,
) -> None:
    """What a compressed model is worth beside the first: accuracy, agreement, size, work, milliseconds and joules.

    Measured on this machine through meshd's engine, one item at a time; predicted for boards whose profile is given
    (`python -m meshd.engine.measure` prints one).
    """
    require_onnx()
    from meshd.compress import chart, device, energy
    from meshd.compress.report import report
    from meshd.engine import threads as crew

    if plot is not None and plot.suffix != ".svg":
        raise MisuseError(f"--plot {plot}: the picture is an SVG; call it {plot.with_suffix('.svg').name}")
    crew.use(threads)
    meter, why = energy.find(command=power_cmd)
    devices = [device.read(p) for p in profiles]
    found = report(models, data, metric=metric, dims=dims_of(dims), meter=meter, no_meter=why, devices=devices)
    if plot is not None:
        points = [(r.name, r.ms, r.score) for r in found.rows if r.score is not None]
        if not points:
            raise MisuseError("--plot needs labels in the data")
        plot.write_text(chart.pareto(points, metric))
    click.echo(json.dumps(found.document(), indent=2) if output == "json" else "\n".join(_table(found)))


def _table(found: "Report") -> Iterator[str]:
    wide = max(len(r.name) for r in found.rows)
    heads = (found.metric, "agree", "file", "weights", "ms", "joules")
    yield f"{'':{wide}}  " + " ".join(f"{h:>9}" for h in heads) + "  work"
    for r in found.rows:
        cells = (
            "-" if r.score is None else f"{r.score:.2%}",
            "-" if r.agreement is None else f"{r.agreement:.2%}",
            f"{r.file_bytes / 1e3:,.0f}kB",
            f"{r.weight_bytes / 1e3:,.0f}kB",
            f"{r.ms:.3f}",
            "-" if r.joules is None else f"{r.joules:.2g}",
        )
        work = ", ".join(f"{n / 1e6:.2f}M {kind}" for kind, n in r.macs.items())
        yield f"{r.name:{wide}}  " + " ".join(f"{c:>9}" for c in cells) + f"  {work}"
        for name, ms in r.predicted_ms.items():
            yield f"{'':{wide}}  predicted on {name}: {ms:.3f} ms"
    if found.no_joules:
        yield f"no joules: {found.no_joules}"


@command.command("auto")
@click.argument("model", metavar="MODEL.onnx", type=FILE)
@click.option("--data", type=FILE, required=True, metavar="DATA.npz", help="Items, with labels where there are some.")
@click.option("--max-drop", type=float, default=0.5, show_default=True, help="Points of accuracy that may be lost.")
@click.option("--target-ms", type=float, help="Fast enough; else as fast as accuracy allows.")
@click.option(
    "--device", "profile", type=FILE, metavar="PROFILE.json", help="The board; else this machine is measured."
)
@click.option("--pattern", default="kernel", show_default=True)
@click.option("--dim", "dims", multiple=True, metavar="NAME=SIZE", help="Fix a free dimension.")
@click.option("-o", "--output", type=FILE, required=True, metavar="OUT.onnx")
def auto_command(
    *,
    model: Path,
    data: Path,
    max_drop: float,
    target_ms: float | None,
    profile: Path | None,
    pattern: str,
    dims: tuple[str, ...],
    output: Path,
) -> None:
    """The fastest model within an accuracy budget: how far to prune each layer, and which to make int8.

    An interrupted run resumes when it is called again in the same words.
    """
    require_onnx()
    from meshd.compress import device
    from meshd.compress.auto import Wish, auto

    board = device.here() if profile is None else device.read(profile)
    found = auto(model, data, output, Wish(board, max_drop, target_ms, pattern, dims_of(dims)), tell)
    for r in found.rows:
        kind = "int8" if r.name in found.int8 else r.pattern or "dense"
        click.echo(f"{r.name}  {kind:<12} {r.zeros / r.size:7.2%} zeros")
    click.echo(
        f"{found.ms:.4g} ms predicted on {board.name}, {found.drop:+.2f} points lost on held-out items → {output}"
    )
