"""Meshes that are closed whatever a test does."""

from collections.abc import Callable, Iterator

import pytest

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
