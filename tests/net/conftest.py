"""Identities for tests: made once, for a key takes a moment and a test needs three."""

from pathlib import Path

import pytest

from meshd.net.identity import Identity


@pytest.fixture(scope="session")
def identities(tmp_path_factory: pytest.TempPathFactory) -> list[Identity]:
    """Four nodes, in order of id."""
    folders = [tmp_path_factory.mktemp(f"node-{n}") for n in range(4)]
    return sorted((Identity.load_or_create(Path(f), "test") for f in folders), key=lambda i: i.node)
