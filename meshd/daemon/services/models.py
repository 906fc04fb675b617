"""What the admin API tells of a model, and a deploy as the core takes it."""

import math
from collections.abc import Sequence

import numpy as np

from meshd.core import events
from meshd.core.plan import LayerCost, Policy
from meshd.daemon.library import Entry
from meshd.model.cuts import costs, crossing, layers
from meshd.model.graph import Port
from meshd.v1 import admin_pb2 as pb
from meshd.v1 import model_pb2


def layer_costs(entry: Entry) -> tuple[LayerCost, ...]:
    """What a planner needs of each layer."""
    return costs(entry.graph)


def order(name: str, entry: Entry, policy: Policy) -> events.Deploy:
    """Everything about a model that the control plane must know to place it."""
    graph = entry.graph
    return events.Deploy(
        name=name,
        model=entry.model,
        layers=costs(graph),
        crossings=tuple(crossing(graph, layer) for layer in range(entry.layer_count - 1)),
        input_bytes=sum(_item_bytes(port) for port in graph.inputs),
        policy=policy,
    )


def _item_bytes(port: Port) -> int:
    return math.prod(d for d in port.type.shape if d is not None) * np.dtype(port.type.dtype).itemsize


def model_ports(ports: Sequence[Port]) -> list[model_pb2.Port]:
    """Inputs or outputs as told."""
    told = []
    for port in ports:
        shape = [-1 if d is None else d for d in port.type.shape]
        told.append(model_pb2.Port(name=port.name, type=model_pb2.TensorType(dtype=port.type.dtype, shape=shape)))
    return told


def model_layers(entry: Entry) -> list[pb.LayerSummary]:
    """Each layer: its cost, its operators, what the importer found in its weights."""
    graph = entry.graph
    told = []
    for (first, last), cost in zip(layers(graph), costs(graph), strict=True):
        operations = graph.operations[first:last]
        used = [graph.weights[i] for op in operations for i in op.inputs if i in graph.weights]
        told.append(
            pb.LayerSummary(
                macs=dict(cost.macs),
                weight_bytes=cost.weight_bytes,
                resident_bytes=cost.resident_bytes,
                crossing_bytes=cost.crossing_bytes,
                operators=[op.op for op in operations],
                structures=sorted({w.structure for w in used if w.structure}),
            )
        )
    return told
