"""What is served, in the protocol's words: metadata, configuration, index, statistics."""

import math
from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from meshd.config import TENSOR_BYTES_MAX
from meshd.core.view import Served, View
from meshd.daemon.services.tensors import DATATYPES, shape_of
from meshd.dataplane.links import Signature
from meshd.dataplane.meters import Statistics, Tally
from meshd.model.graph import Port
from meshd.wire import oip

PLATFORM: Final = "meshd"
BATCH_MAX: Final = 1_024
"""Told to clients where the deployment sets no bound; what a request may really be is bounded by bytes."""


def metadata(name: str, version: str, signature: Signature) -> Any:
    """ModelMetadataResponse: shapes with the batch as -1."""
    message = oip.message("inference.ModelMetadataResponse")
    response = message(name=name, versions=[version], platform=PLATFORM)
    for field, ports in ((response.inputs, signature.inputs), (response.outputs, signature.outputs)):
        for port in ports:
            field.add(name=port.name, datatype=DATATYPES[port.type.dtype], shape=shape_of(port))
    return response


def batch_max(signature: Signature) -> int:
    """`max_batch_size`: 0 where the first dimension is no batch."""
    ports = (*signature.inputs, *signature.outputs)
    if not all(port.type.shape[:1] == (None,) for port in ports):
        return 0
    item_bytes = max(_item_bytes(port) for port in ports)
    return signature.batch_max or max(1, min(BATCH_MAX, TENSOR_BYTES_MAX // item_bytes))


def _item_bytes(port: Port) -> int:
    return max(1, math.prod(n for n in port.type.shape if n is not None) * np.dtype(port.type.dtype).itemsize)


def config(name: str, signature: Signature) -> Any:
    """ModelConfigResponse: `dims` leave the batch out when `max_batch_size` is above 0."""
    most = batch_max(signature)
    response = oip.message("inference.ModelConfigResponse")()
    made = response.config
    made.name, made.platform, made.backend, made.max_batch_size = name, PLATFORM, PLATFORM, most
    made.model_transaction_policy.decoupled = False
    numbers = made.DESCRIPTOR.file.enum_types_by_name["DataType"].values_by_name
    for field, ports in ((made.input, signature.inputs), (made.output, signature.outputs)):
        for port in ports:
            dims = shape_of(port)[1:] if most else shape_of(port)
            field.add(name=port.name, data_type=numbers[f"TYPE_{DATATYPES[port.type.dtype]}"].number, dims=dims)
    return response


def index(view: View, version: str, ready_only: bool) -> Any:
    """RepositoryIndexResponse."""
    response = oip.message("inference.RepositoryIndexResponse")()
    for name, served in sorted(view.deployments.items()):
        state, reason = _state(served)
        if state == "READY" or not ready_only:
            response.models.add(name=name, version=version, state=state, reason=reason)
    return response


def _state(served: Served) -> tuple[str, str]:
    if served.plan is not None:
        return "READY", ""
    return ("LOADING", "") if served.target is not None else ("UNAVAILABLE", served.problem or "no plan yet")


def statistics(name: str, version: str, seen: Statistics) -> Any:
    """ModelStatistics: requests that this node was the entry of."""
    made = oip.message("inference.ModelStatistics")(
        name=name,
        version=version,
        last_inference=seen.last_ms,
        inference_count=seen.items,
        execution_count=seen.success.count,
    )
    stats = made.inference_stats
    pairs: Iterable[tuple[Any, Tally]] = (
        (stats.success, seen.success),
        (stats.fail, seen.fail),
        (stats.queue, seen.queue),
        (stats.compute_input, seen.compute_input),
        (stats.compute_infer, seen.compute_infer),
        (stats.compute_output, seen.compute_output),
    )
    for field, tally in pairs:
        field.count, field.ns = tally.count, tally.ns
    return made
