"""Meshes that are closed whatever a test does."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from meshd.engine import segment
from meshd.model.graph import Port
from tests.dataplane.fake_mesh import FakeMesh


@pytest.fixture
def mesh_of() -> Iterator[Callable[..., FakeMesh]]:
    meshes: list[FakeMesh] = []

    def make(*arguments: object, **named: object) -> FakeMesh:
        meshes.append(FakeMesh(*arguments, **named))  # type: ignore[arg-type]
        return meshes[-1]

    yield make
    for mesh in meshes:
        mesh.close()


@pytest.fixture(autouse=True)
def float_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the engine brings its own: float32 as its bytes."""

    def encode(value: Any, encoding: str) -> memoryview:
        return memoryview(np.ascontiguousarray(value)).cast("B")

    def decode(raw: memoryview, encoding: str, port: Port, batch: int) -> Any:
        return np.frombuffer(raw, port.type.dtype).reshape(batch, *port.type.shape[1:])  # type: ignore[arg-type]

    monkeypatch.setattr(segment, "encode", encode)
    monkeypatch.setattr(segment, "decode", decode)
