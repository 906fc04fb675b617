"""`meshctl model push|ls|show|rm`. Conversion from ONNX happens here, on the caller's machine: no daemon parses ONNX."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meshd.cli.meshctl.output import Table, count, output_option, say, show, size, socket_option, tell
from meshd.errors import MisuseError

if TYPE_CHECKING:
    from meshd.model.bundle import Bundle


@click.group()
def command() -> None:
    """Push, list, show and remove models."""


@command.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", help="What the model is called. Default: as the file.")
@click.option("--dim", "dims", multiple=True, metavar="NAME=N", help="Fix a free dimension; repeat for several.")
@socket_option
@output_option
def push(file: Path, name: str | None, dims: tuple[str, ...], socket: str | None, output: str) -> None:
    """Convert an ONNX FILE and store it on this machine's node, ready to deploy.

    Only weights that are not there yet travel.
    """
    from meshd.cli.meshctl import documents
    from meshd.client.admin import Admin, find_socket

    place = find_socket(socket)
    bundle = _bundle(file, name or file.stem, dims)
    with Admin(place) as admin:
        digest = admin.push(
            bundle.topology, bundle.blobs, lambda done, total: say(f"sent {size(done)} of {size(total)}")
        )
        document = documents.model_in_full(admin.model(digest))
    show(document, output, _render)


@command.command("ls")
@socket_option
@output_option
def list_models(socket: str | None, output: str) -> None:
    """Models on this node's disk."""
    from meshd.cli.meshctl import documents
    from meshd.client.admin import Admin, find_socket

    with Admin(find_socket(socket)) as admin:
        listed = [documents.model(each) for each in admin.models()]
    show(documents.document("ModelList", models=listed), output, _render_list)


@command.command("show")
@click.argument("model")
@click.option("--graph", is_flag=True, help="Print its graph with the cuts as SVG instead: redirect it to a file.")
@socket_option
@output_option
def show_model(model: str, graph: bool, socket: str | None, output: str) -> None:
    """One MODEL, by digest, start of it, or name: its layers, their cost, and what would cross a cut after each."""
    from meshd.cli.meshctl import documents
    from meshd.client.admin import Admin, find_socket

    with Admin(find_socket(socket)) as admin:
        if graph:
            from meshd.model.bundle import read_topology
            from meshd.model.drawing import draw

            click.echo(draw(read_topology(admin.model(model, with_topology=True).topology)), nl=False)
            return
        document = documents.model_in_full(admin.model(model))
    show(document, output, _render)


@command.command("rm")
@click.argument("model")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@socket_option
@output_option
def remove(model: str, yes: bool, socket: str | None, output: str) -> None:
    """Remove a MODEL that no deployment uses from this node's disk."""
    from meshd.cli.meshctl import documents
    from meshd.client.admin import Admin, find_socket

    with Admin(find_socket(socket)) as admin:
        found = admin.model(model).summary
        if not yes:
            click.confirm(f"Remove {found.name} ({size(found.weight_bytes)}) from this node?", abort=True, err=True)
        freed_bytes = admin.remove_model(found.digest)
    detail = f"removed {found.name}: {size(freed_bytes)} freed"
    tell(documents.done("model rm", found.digest, detail, name=found.name, freed_bytes=freed_bytes), output)


def _bundle(file: Path, name: str, dims: Sequence[str]) -> "Bundle":
    from dataclasses import replace

    from meshd.model.bundle import pack
    from meshd.model.onnx_import import import_model

    graph, arrays = import_model(file, _dims(dims))
    return pack(replace(graph, name=name), arrays)


def _dims(words: Sequence[str]) -> dict[str, int]:
    found = {}
    for word in words:
        name, _, number = word.rpartition("=")
        if not name or not number.isdigit():
            raise MisuseError(f"--dim {word}: expected NAME=N, such as T=16")
        found[name] = int(number)
    return found


def _render_list(document: dict[str, Any], wide: bool) -> Iterable[Table]:
    rows = [
        (
            each["digest"] if wide else each["digest"][:12],
            each["name"],
            size(each["weight_bytes"]),
            str(each["layer_count"]),
            "yes" if each["whole"] else "no",
            ", ".join(each["deployments"]) or "-",
        )
        for each in document["models"]
    ]
    yield Table(("MODEL", "NAME", "WEIGHTS", "LAYERS", "WHOLE", "DEPLOYED AS"), rows)


def _render(model: dict[str, Any], wide: bool) -> Iterable[Table | str]:
    yield f"model {model['digest']}"
    yield f"{model['name']}: {size(model['weight_bytes'])} of weights in {model['layer_count']} layers" + (
        "" if model["whole"] else ", not whole on this node"
    )
    for word, ports in (("takes", model["inputs"]), ("gives", model["outputs"])):
        yield f"{word} " + ", ".join(f"{p['name']} {p['dtype']} {p['shape']}" for p in ports)
    yield ""
    yield Table(
        ("LAYER", "OPERATORS", "WORK", "WEIGHTS", "CROSSES AFTER", "FOUND"),
        [
            (
                str(index),
                " ".join(each["operators"]) if wide else _shortened(each["operators"]),
                " ".join(f"{name}:{count(macs)}" for name, macs in each["macs"].items()),
                size(each["weight_bytes"]),
                size(each["crossing_bytes"]),
                " ".join(each["structures"]) or "-",
            )
            for index, each in enumerate(model["layers"])
        ],
    )


def _shortened(operators: list[str]) -> str:
    return " ".join(operators) if len(operators) <= 3 else f"{operators[0]} .. {operators[-1]} ({len(operators)})"
