"""A graph and its cuts as SVG, written by hand: one row an operation, in the order they run.

A layer is a band, a cut the dashed line below it, with what crosses there. Because rows are in topological order, the edges
that pass a dashed line are the tensors that cross that cut. An edge to the next row is a stroke; one that skips rows runs in a
lane at the left, the shortest nearest to the boxes. Deterministic: the same graph gives the same bytes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from meshd.core.plan import LayerCost
from meshd.model import cuts
from meshd.model.graph import Graph, TensorType

ROW, BOX, CUT = 30, 22, 30
"""Heights: of a row, of a box in it, and what a cut and the next layer's note take between."""
LANE, BOX_WIDTH, NOTES = 9, 300, 620
TOP, LABEL_CHARS_MAX, CROSSING_MAX = 72, 84, 2

COLOURS = {"binary": "#c9b6e4", "sparse": "#a8d8b9", "int8": "#f6d186", "dense": "#a9c9e8", "memory": "#e6e6e6"}
"""By cost class of the layer's work."""

STYLE = (
    "text{font:12px ui-monospace,monospace;fill:#222}.t{font-size:15px;font-weight:bold}.n{fill:#777}"
    ".b{stroke:#555}.e{fill:none;stroke:#777}.c{stroke:#c0392b;stroke-dasharray:6 4}.k{fill:#c0392b}"
)


@dataclass(frozen=True, slots=True)
class _Edge:
    """A tensor from the row that writes it (-1: an input) to one that reads it."""

    start: int
    end: int


def draw(graph: Graph) -> str:
    """The whole graph as one SVG document."""
    ranges, priced = cuts.layers(graph), cuts.costs(graph)
    edges = _edges(graph)
    lanes = _lanes([e for e in edges if e.end - e.start > 1])
    left = 20 + LANE * (max(lanes.values(), default=-1) + 2)
    layer_of = [i for i, (first, last) in enumerate(ranges) for _ in range(first, last)]
    middle = [TOP + ROW * row + CUT * layer + ROW // 2 for row, layer in enumerate(layer_of)]
    middle.append(middle[-1] + ROW + CUT if middle else TOP)
    width, height = left + BOX_WIDTH + NOTES, middle[-1] + ROW
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        f"<style>{STYLE}</style>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text class="t" x="20" y="24">{_words(graph.name)}</text>',
        f'<text class="n" x="20" y="42">{_words(_ports(graph), 2 * LABEL_CHARS_MAX)}</text>',
    ]
    for i, (first, last) in enumerate(ranges):
        lines += _band(graph, i, priced[i], middle[first] - ROW // 2, middle[last - 1] + ROW // 2, left, width)
    lines += [_stroke(e, lanes.get(e), middle, left) for e in edges]
    for row, o in enumerate(graph.operations):
        kind = _kind(priced[layer_of[row]]) if cuts.works(o) else "memory"
        y = middle[row]
        lines.append(
            f'<rect class="b" x="{left}" y="{y - BOX // 2}" width="{BOX_WIDTH}" height="{BOX}" rx="4" fill="{COLOURS[kind]}"/>'
        )
        made = graph.tensors[next(n for n in o.outputs if n)]
        lines.append(f'<text x="{left + 8}" y="{y + 4}">{_words(f"{o.op} {_shape(made)}")}</text>')
        lines.append(f'<text class="n" x="{left + BOX_WIDTH + 10}" y="{y + 4}">{_words(o.name)}</text>')
    lines.append(f'<text class="n" x="{left + BOX_WIDTH // 2 - 22}" y="{middle[-1] + 4}">outputs</text>')
    return "\n".join([*lines, "</svg>", ""])


def _edges(graph: Graph) -> list[_Edge]:
    """Every pair of rows that share a tensor, once; the graph's inputs begin at -1, its outputs end past the last row."""
    writer = {p.name: -1 for p in graph.inputs}
    found: dict[_Edge, None] = {}
    for row, o in enumerate(graph.operations):
        for name in o.inputs:
            if name in writer:
                found[_Edge(writer[name], row)] = None
        writer.update((n, row) for n in o.outputs if n)
    for port in graph.outputs:
        found[_Edge(writer[port.name], len(graph.operations))] = None
    return list(found)


def _lanes(edges: Sequence[_Edge]) -> dict[_Edge, int]:
    """A lane for each edge that skips rows, so that no two overlap in one: the shortest first, nearest to the boxes."""
    taken: list[list[_Edge]] = []
    found = {}
    for edge in sorted(edges, key=lambda e: (e.end - e.start, e.start)):
        lane = next((i for i, held in enumerate(taken) if all(_apart(edge, h) for h in held)), len(taken))
        if lane == len(taken):
            taken.append([])
        taken[lane].append(edge)
        found[edge] = lane
    return found


def _apart(a: _Edge, b: _Edge) -> bool:
    # Edges of one source may share their lane: they are one tensor.
    return a.end <= b.start or b.end <= a.start or a.start == b.start


def _band(graph: Graph, layer: int, cost: LayerCost, top: int, bottom: int, left: int, width: int) -> Iterator[str]:
    """The layer's note above its rows, and the cut below them."""
    work = ", ".join(f"{_count(n)} {kind}" for kind, n in cost.macs if kind not in {"memory", "steps"})
    if layer % 2:
        yield f'<rect x="0" y="{top - 16}" width="{width}" height="{bottom - top + 16}" fill="#f5f5f0"/>'
    note = f"layer {layer}: {work or 'no multiplications'}; {_size(cost.resident_bytes)} held"
    yield f'<text x="{left + BOX_WIDTH + 10}" y="{top - 2}">{_words(note)}</text>'
    crossing = cuts.crossing(graph, layer)
    if crossing:
        names = ", ".join(f"{name} as {encoding}" for name, encoding in crossing[:CROSSING_MAX])
        more = f" and {len(crossing) - CROSSING_MAX} more" if len(crossing) > CROSSING_MAX else ""
        yield f'<path class="c" d="M10 {bottom + 8}H{width - 10}"/>'
        told = f"{_size(cost.crossing_bytes)}: {names}{more}"
        yield f'<text class="k" x="{left + BOX_WIDTH + 10}" y="{bottom + 4}">{_words(told)}</text>'


def _stroke(edge: _Edge, lane: int | None, middle: Sequence[int], left: int) -> str:
    start = middle[edge.start] if edge.start >= 0 else TOP - 8
    end = middle[edge.end]
    if lane is None:
        x = left + BOX_WIDTH // 2
        return f'<path class="e" d="M{x} {start + BOX // 2}V{end - BOX // 2}"/>'
    x = left - LANE * (lane + 2)
    return f'<path class="e" d="M{left} {start + 5}H{x}V{end - 5}H{left}"/>'


def _kind(cost: LayerCost) -> str:
    """The class of most of the layer's work."""
    work = [(n, kind) for kind, n in cost.macs if kind in COLOURS and kind != "memory"]
    return max(work)[1] if work else "memory"


def _ports(graph: Graph) -> str:
    told = [
        ", ".join(f"{p.name} {p.type.dtype} {_shape(p.type)}" for p in ports) for ports in (graph.inputs, graph.outputs)
    ]
    return f"{told[0]} → {told[1]}"


def _shape(t: TensorType) -> str:
    return "×".join("N" if d is None else str(d) for d in t.shape) or "scalar"


def _count(n: int) -> str:
    return next(
        (f"{n / scale:.1f} {unit}" for scale, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if n >= scale), str(n)
    )


def _size(n: int) -> str:
    return next(
        (f"{n / scale:.1f} {unit}" for scale, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if n >= scale), f"{n} B"
    )


def _words(text: str, most: int = LABEL_CHARS_MAX) -> str:
    return escape(text if len(text) <= most else text[: most - 1] + "…")
