"""`meshd compress`: make a trained model small, offline, from its ONNX file and some data."""

from collections.abc import Sequence
from pathlib import Path

import click

from meshd.errors import MisuseError

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
@click.option("--sparsity", type=float, required=True, help="Share of all weights of layers to be zero, e.g. 0.8.")
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
    *, model: Path, data: Path, sparsity: float, pattern: str, method: str, dims: tuple[str, ...], output: Path
) -> None:
    """Set weights to zero where meshd's kernels can leave them out.

    The sparsity is spread over the layers by what each does to the outputs. An interrupted run resumes when it is called
    again in the same words.
    """
    require_onnx()
    from meshd.compress.prune import Wish, prune

    rows = prune(model, data, output, Wish(pattern, method, sparsity, dims_of(dims)), tell)
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
