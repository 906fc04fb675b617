"""`meshctl bench`: how fast and how right a deployed model is, on one's own data."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from meshd.cli.meshctl.output import Table, output_option, show, socket_option, span

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("name", metavar="MODEL")
@click.option("--data", type=FILE, required=True, metavar="TEST.npz",
              help="An array for each input (of one input, any name), and 'labels' to be judged by.")  # fmt: skip
@click.option(
    "--callers", default=8, show_default=True, type=click.IntRange(1, 256), help="At once, for the throughput."
)
@click.option("--batch", default=1, show_default=True, type=click.IntRange(1, 4096), help="Items a request.")
@click.option(
    "--seconds", default=5.0, show_default=True, type=click.FloatRange(0, 3600), help="Of each phase, at least."
)
@click.option("--power-cmd", default="", metavar="COMMAND", help="A command that prints watts, where sysfs has none.")
@socket_option
@output_option
def command(
    name: str, data: Path, callers: int, batch: int, seconds: float, power_cmd: str, socket: str | None, output: str
) -> None:
    """Measure what is deployed as MODEL, through this machine's daemon.

    One caller first, for the latency, then several; all of the data is gone through at least once each time. Accuracy is that of
    the first output against the labels. Joules are those of this machine alone.
    """
    from meshd.bench.deployment import measure
    from meshd.cli.meshctl import documents
    from meshd.client.admin import Admin, find_socket
    from meshd.client.inference import Inference
    from meshd.compress import energy

    meter, why = energy.find(command=power_cmd)
    with Admin(find_socket(socket)) as admin:
        targets = admin.inference_targets()
    with Inference(targets) as inference:
        found = measure(inference, name, data, callers, batch, seconds, meter, why)
    show(documents.document("Bench", model=name, **found), output, _render)


def _render(document: dict[str, Any], wide: bool) -> Iterable[Table | str]:
    phases = (document["latency"], document["throughput"])
    yield Table(
        ("CALLERS", "REQUESTS", "FAILED", "P50", "P90", "P99", "ITEMS/S"),
        [
            (str(each["callers"]), str(each["requests"]), str(each["failed"]),
             *(span(each[key]) for key in ("p50_us", "p90_us", "p99_us")), f"{each['items_per_s']:.1f}")
            for each in phases
        ],
    )  # fmt: skip
    accuracy, energy = document["accuracy"], document["energy"]
    top1, joules = accuracy["top1"], energy["joules_per_item"]
    yield f"accuracy  {accuracy['reason'] if top1 is None else f'{top1:.2%} of the items'}"
    yield f"energy    {'not known: ' + energy['reason'] if joules is None else f'{joules:.4g} J an item, of this machine'}"
