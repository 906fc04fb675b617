"""`meshctl infer`: run a deployment on arrays from .npy files, through this machine's daemon."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meshd.cli.meshctl.output import Table, output_option, say, show, socket_option, span
from meshd.errors import InvalidError, MisuseError

if TYPE_CHECKING:
    from meshd.client.inference import Array, TensorSpec

VALUES_SHOWN = 16


@click.command()
@click.argument("name", metavar="MODEL")
@click.option(
    "--input",
    "files",
    multiple=True,
    metavar="[NAME=]FILE",
    help="A .npy file; NAME= where the model has several inputs.",
)
@click.option("--save", type=click.Path(dir_okay=False, path_type=Path), help="Write the outputs to this .npz file.")
@click.option("--timeout", "timeout_s", default=30.0, show_default=True, help="Seconds to wait.")
@socket_option
@output_option
def command(
    name: str, files: tuple[str, ...], save: Path | None, timeout_s: float, socket: str | None, output: str
) -> None:
    """Run what is deployed as MODEL.

    An array without a batch dimension is sent as a batch of one. Without --input, prints what the model takes and gives.
    """
    from meshd.cli.meshctl import documents
    from meshd.client.admin import Admin, find_socket
    from meshd.client.inference import Inference

    with Admin(find_socket(socket)) as admin:
        targets = admin.inference_targets()
    with Inference(targets) as inference:
        takes, gives = inference.describe(name, timeout_s)
        if not files:
            document = documents.document("Signature", model=name, inputs=_specs(takes), outputs=_specs(gives))
            show(document, output, _render_signature)
            return
        answer = inference.infer(name, _inputs(files, takes), timeout_s)
    if save:
        import numpy as np

        np.savez(save, **answer.outputs)  # type: ignore[arg-type]
        say(f"wrote {save}")
    document = documents.document(
        "Inference",
        model=name,
        took_us=answer.took_us,
        outputs=[
            {"name": each, "dtype": str(array.dtype), "shape": list(array.shape), "values": array.ravel().tolist()}
            for each, array in answer.outputs.items()
        ],
    )
    show(document, output, _render)


def _inputs(files: Sequence[str], takes: "Sequence[TensorSpec]") -> "dict[str, Array]":
    import numpy as np

    specs = {spec.name: spec for spec in takes}
    arrays: dict[str, Array] = {}
    for word in files:
        name, _, file = word.rpartition("=")
        name = name or (takes[0].name if len(takes) == 1 else "")
        if name not in specs:
            raise MisuseError(f"--input {word}: the model takes {', '.join(specs)}; write --input NAME=FILE")
        try:
            array = np.load(file, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InvalidError(f"{file}: {error}; expected a .npy file") from None
        if not isinstance(array, np.ndarray):
            raise InvalidError(f"{file}: expected one array in a .npy file")
        arrays[name] = array[None] if array.ndim == len(specs[name].shape) - 1 else array
    return arrays


def _specs(specs: "Sequence[TensorSpec]") -> list[dict[str, Any]]:
    return [{"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)} for spec in specs]


def _render_signature(document: dict[str, Any], wide: bool) -> Iterable[Table]:
    rows = [
        (word, each["name"], each["datatype"], str(each["shape"]))
        for word, key in (("takes", "inputs"), ("gives", "outputs"))
        for each in document[key]
    ]
    yield Table(("", "NAME", "TYPE", "SHAPE"), rows)


def _render(document: dict[str, Any], wide: bool) -> Iterable[str]:
    for each in document["outputs"]:
        values = each["values"] if wide else each["values"][:VALUES_SHOWN]
        more = "" if len(values) == len(each["values"]) else f" ... ({len(each['values'])})"
        yield f"{each['name']} {each['dtype']} {each['shape']}: " + " ".join(f"{v:.6g}" for v in values) + more
    yield f"took {span(document['took_us'])}"
