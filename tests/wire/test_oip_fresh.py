"""The committed descriptor set is what `proto/inference` says."""

from pathlib import Path

from tests.generate import ROOT, describe


def test_the_descriptor_set_is_fresh(tmp_path: Path) -> None:
    assert describe(tmp_path / "oip.binpb") == 0
    kept = (ROOT / "meshd/wire/oip.binpb").read_bytes()
    assert kept == (tmp_path / "oip.binpb").read_bytes(), "run: python -m tests.generate"
