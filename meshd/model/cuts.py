"""Where a graph may be cut, what crosses there, and what each layer costs. Contract; see the issue.

A *cut* is a place in topological order where the set of live tensors is small. Layers are the runs between adjacent cuts;
a segment is `[start, end)` in layers. Deterministic: every node derives the same layers from the same topology.
"""

from meshd.core.plan import LayerCost
from meshd.model.graph import Graph, Port


def layers(graph: Graph) -> tuple[tuple[int, int], ...]:
    """Operation ranges `[first, last)` of each layer; at most LAYERS_MAX (neighbours merged)."""
    raise NotImplementedError


def crossing(graph: Graph, layer: int) -> tuple[tuple[str, str], ...]:
    """(tensor, encoding value) that cross the cut after `layer`, in topological order; see `core.plan.Encoding`."""
    raise NotImplementedError


def costs(graph: Graph) -> tuple[LayerCost, ...]:
    """What a planner needs of each layer."""
    raise NotImplementedError


def segment_ports(graph: Graph, start: int, end: int) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """What goes into and comes out of layers `[start, end)`: the whole graph's ports at its ends."""
    raise NotImplementedError
