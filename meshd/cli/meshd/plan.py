"""`meshd plan`: what would the mesh decide for these boards and this model? For people choosing hardware.

The same solver as the mesh's, on a problem written in a file. Costs, as in `core.placement_cost`: a stage needs its layers'
memory, three times its output and three times its input (once, for the first stage), activations counted for the batch; a
link between two nodes carries the lesser of their bandwidths; the input lies at the first stage for nothing.
"""

import itertools
import json
from collections.abc import Iterator, Mapping
from math import ceil
from pathlib import Path
from typing import Any

import click

from meshd.config import LAYERS_MAX, NAME_CHARS_MAX
from meshd.core.ids import NodeId
from meshd.core.placement import Infeasible, Problem, Site, Solution, solve
from meshd.core.plan import Objective
from meshd.errors import ConflictError, InvalidError

FILE_BYTES_MAX = 16 << 20
NODES_MAX = 256
BATCH_MAX = 65_536
NUMBER_MAX = 1 << 48
"""Of bytes, bits a second and microseconds: 280 TB, and nine years."""
ACTIVATION_COPIES = 3
BAR_CELLS = 32
EXAMPLE = '{"input_bytes": 784, "layers": [{"memory_bytes": 1000, "output_bytes": 100}], "nodes": [{"name": "pi",' + (
    ' "memory_bytes": 1000000, "bandwidth_bps": 100000000, "layer_us": [1500]}], "objective": "latency", "batch": 1}'
)


@click.command()
@click.option(
    "--problem",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="JSON: input_bytes, layers, nodes, objective, batch.",
)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def command(path: Path, output: str) -> None:
    """Place a model on boards described in a file, and show the pipeline.

    \b
    {"input_bytes": ..., "batch": 1, "objective": "throughput" | "latency" | "energy",
     "layers": [{"memory_bytes": ..., "output_bytes": ...}, ...],
     "nodes": [{"name": ..., "memory_bytes": ..., "bandwidth_bps": ..., "layer_us": [...], "watts": ...}, ...]}

    layer_us is for one batch, one number a layer; activation bytes are for one item. Exit code 6 if nothing fits.
    """
    problem = read(path)
    found = solve(problem)
    if isinstance(found, Infeasible):
        raise ConflictError(f"nothing fits: {found.reason}")
    click.echo(
        json.dumps(document(problem, found), indent=2) if output == "json" else "\n".join(picture(problem, found))
    )


# ---------------------------------------------------------------- the file


def read(path: Path) -> Problem:
    """The problem in a file.

    Raises
    ------
    InvalidError
        It is not what it must be; names the field.
    """
    if path.stat().st_size > FILE_BYTES_MAX:
        raise InvalidError(f"{path}: over {FILE_BYTES_MAX} bytes is no problem a person wrote")
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidError(f"{path}: not JSON: {error}; for example {EXAMPLE}") from None
    return parse(given)


def parse(given: Any) -> Problem:
    """The problem a JSON value describes. Raises InvalidError, naming the field."""
    top = _object(given, "the problem")
    layers = _list(top, "layers", LAYERS_MAX)
    memory = [_number(_object(v, f"layers[{i}]"), "memory_bytes", f"layers[{i}].") for i, v in enumerate(layers)]
    outputs = [_number(_object(v, f"layers[{i}]"), "output_bytes", f"layers[{i}].") for i, v in enumerate(layers)]
    batch = _number(top, "batch", least=1, most=BATCH_MAX, default=1)
    objectives = [o.value for o in Objective]
    if top.get("objective", "latency") not in objectives:
        raise InvalidError(f"objective: {top['objective']!r} is none of {', '.join(objectives)}")
    objective = Objective(top.get("objective", "latency"))
    sites = tuple(_site(v, f"nodes[{i}]", len(layers), objective) for i, v in enumerate(_list(top, "nodes", NODES_MAX)))
    if len({site.node for site in sites}) < len(sites):
        raise InvalidError("nodes: two have the same name")
    return Problem(
        tuple(memory),
        tuple(batch * size for size in (_number(top, "input_bytes"), *outputs)),
        sites,
        objective,
        activation_copies=ACTIVATION_COPIES,
    )


def _site(given: Any, what: str, layers: int, objective: Objective) -> Site:
    node = _object(given, what)
    name = node.get("name")
    if not isinstance(name, str) or not 1 <= len(name) <= NAME_CHARS_MAX or not name.isprintable():
        raise InvalidError(f"{what}.name: a printable text of 1 to {NAME_CHARS_MAX} characters is needed")
    times = _list(node, "layer_us", LAYERS_MAX, f"{what}.")
    if len(times) != layers:
        raise InvalidError(f"{what}.layer_us: {len(times)} numbers for {layers} layers")
    if objective is Objective.ENERGY and "watts" not in node:
        raise InvalidError(f"{what}.watts: needed of every node, for the objective is energy")
    watts = node.get("watts", 0)
    if isinstance(watts, bool) or not isinstance(watts, int | float) or not 0 <= watts <= 1_000_000:
        raise InvalidError(f"{what}.watts: a number from 0 to 1,000,000 is needed, not {watts!r}")
    return Site(
        NodeId(name),
        _number(node, "memory_bytes", f"{what}."),
        tuple(_number({"us": value}, "us", f"{what}.layer_us[{i}] ") for i, value in enumerate(times)),
        _number(node, "bandwidth_bps", f"{what}.", least=1),
        milliwatts=round(watts * 1_000),
    )


def _object(given: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(given, dict):
        raise InvalidError(f"{what}: an object in braces is needed; for example {EXAMPLE}")
    return given


def _list(given: Mapping[str, Any], key: str, most: int, where: str = "") -> list[Any]:
    value = given.get(key)
    if not isinstance(value, list) or not 1 <= len(value) <= most:
        raise InvalidError(f"{where}{key}: a list of 1 to {most} is needed")
    return value


def _number(
    given: Mapping[str, Any],
    key: str,
    where: str = "",
    *,
    least: int = 0,
    most: int = NUMBER_MAX,
    default: int | None = None,
) -> int:
    value = given.get(key, default)
    # NaN is not within any bounds; a fraction of a byte or microsecond counts whole.
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise InvalidError(f"{where}{key}: a number from {least} to {most} is needed, not {value!r}")
    return ceil(value)


# ---------------------------------------------------------------- answers


def document(problem: Problem, found: Solution) -> dict[str, Any]:
    """What `-o json` prints."""
    energy = problem.objective is Objective.ENERGY
    single = _best_single_us(problem, found)
    fastest = [min(site.layer_us[i] for site in problem.sites) for i in range(len(problem.memory_bytes))]
    answer: dict[str, Any] = {
        "apiVersion": "meshd/v1",
        "kind": "PlanReport",
        "objective": problem.objective.value,
        "stages": [{"node": s.succession[0], "start": s.start, "end": s.end} for s in found.stages],
        "bottleneck_us": found.bottleneck_us,
        "latency_us": found.latency_us,
        "best_single_us": single,
        "lower_bound_us": sum(fastest) if energy else found.lower_bound_us,
    }
    if energy:
        best = found.best_single_us
        answer["joules"] = found.energy_nj / 1e9
        answer["best_single_joules"] = None if best is None else best / 1e9
        answer["lower_bound_joules"] = found.lower_bound_us / 1e9
    return answer


def _best_single_us(problem: Problem, found: Solution) -> int | None:
    """Time of everything on the best single node: the best by the objective."""
    if problem.objective is not Objective.ENERGY or found.best_single_us is None:
        return found.best_single_us
    alike = [s for s in problem.sites if sum(s.layer_us) * s.milliwatts == found.best_single_us]
    return min(sum(site.layer_us) for site in alike)


def picture(problem: Problem, found: Solution) -> Iterator[str]:
    """The pipeline for people: a bar a stage as long as it takes, and what crosses between."""
    by_name = {site.node: site for site in problem.sites}
    times = [sum(by_name[s.succession[0]].layer_us[s.start : s.end]) for s in found.stages]
    links = list(_links(problem, found, by_name))
    longest = max(1, *times, *(us for us, _ in links)) if links else max(1, *times)
    spans = [f"layers {s.start}-{s.end - 1}" if s.end - s.start > 1 else f"layer {s.start}" for s in found.stages]
    left, names = max(map(len, spans)), max(len(s.succession[0]) for s in found.stages)
    for n, stage in enumerate(found.stages):
        slow = "  <- slowest" if times[n] == longest and len(found.stages) > 1 else ""
        name = stage.succession[0]
        yield f"  {spans[n]:<{left}}  {name:<{names}}  {_bar(times[n], longest)}  {_ms(times[n])}{slow}"
        if n < len(links):
            took, size = links[n]
            slow = "  <- slowest" if took == longest else ""
            yield f"  {'':<{left}}  {'|':<{names}}  {_bar(took, longest, '-')}  {_ms(took)} for {_bytes(size)}{slow}"
    yield ""
    yield f"  a batch every {_ms(found.bottleneck_us)}, each takes {_ms(found.latency_us)}" + (
        f" and {found.energy_nj / 1e9:.3g} J" if problem.objective is Objective.ENERGY else ""
    )
    single = _best_single_us(problem, found)
    yield f"  on the best single node: {_ms(single) if single is not None else 'it fits on none'}"


def _links(problem: Problem, found: Solution, by_name: Mapping[NodeId, Site]) -> Iterator[tuple[int, int]]:
    for before, after in itertools.pairwise(found.stages):
        size = problem.crossing_bytes[after.start]
        bandwidth = min(by_name[s.succession[0]].bandwidth_bps for s in (before, after))
        yield -(-size * 8_000_000 // bandwidth), size


def _bar(us: int, longest: int, cell: str = "#") -> str:
    return (cell * max(1, round(BAR_CELLS * us / longest))).ljust(BAR_CELLS)


def _ms(us: int) -> str:
    return f"{us / 1_000_000:.2f} s" if us >= 10_000_000 else f"{us / 1_000:.4g} ms"


def _bytes(size: int) -> str:
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size} B"
