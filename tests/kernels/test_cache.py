"""The folder of compiled kernels: versioned, private, and never a reason to stop."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from meshd.kernels import cache
from tests.kernels.driving import needs_numba

pytestmark = needs_numba

PROGRAM = """
import time
from meshd.kernels.jit import FOLDER, INT, jit
@jit(INT, result=INT)
def twice(x):
    return 2 * x
print(twice(21), sum(twice.stats.cache_hits.values()), FOLDER is not None)
"""


def _start(root: Path) -> tuple[list[str], str]:
    # As a file: Numba caches no functions of a -c program.
    program = root.parent / "program.py"
    program.write_text(PROGRAM)
    known = {**os.environ, "MESHD_CACHE_DIR": str(root), "PYTHONPATH": str(Path(__file__).parents[2])}
    known.pop("NUMBA_CACHE_DIR", None)
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, env=known, check=True)
    return done.stdout.split(), done.stderr


def test_the_second_start_finds_what_the_first_compiled_and_damage_is_mended(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    assert _start(root) == (["42", "0", "True"], "")
    assert _start(root) == (["42", "1", "True"], "")
    (folder,) = (root / "kernels").iterdir()
    assert folder.stat().st_mode & 0o077 == 0
    (compiled,) = folder.rglob("*.nbc")
    whole = compiled.read_bytes()
    for damage in (whole[: len(whole) // 2], b"", whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]):
        compiled.write_bytes(damage)
        out, talk = _start(root)
        assert out == ["42", "0", "True"]
        assert "damaged files were removed" in talk
        assert _start(root) == (["42", "1", "True"], "")


def test_a_file_that_another_process_is_about_to_seal_is_left_alone(tmp_path: Path) -> None:
    """Numba has written it, its process has not yet noted the digest, and a third process starts."""
    folder = tmp_path / "m_1"
    folder.mkdir()
    written = folder / "m.outer.locals.loop-4.py311.1.nbc"
    written.write_bytes(b"machine code")
    assert cache.verify(tmp_path) == 0
    assert written.exists()
    cache.seal(tmp_path)
    with cache.turn(tmp_path, "/package/m.py", "outer.<locals>.loop"):
        assert written.exists()
    assert cache.verify(tmp_path) == 0


def test_what_a_process_left_unsealed_goes_when_its_kernels_turn_comes(tmp_path: Path) -> None:
    folder = tmp_path / "m_1"
    folder.mkdir()
    cut, other = folder / "m.outer.locals.loop-4.py311.1.nbc", folder / "m.other-9.py311.1.nbc"
    for path in (cut, other):
        path.write_bytes(b"half of")
    with cache.turn(tmp_path, "/package/m.py", "outer.<locals>.loop"):
        assert not cut.exists()
        assert other.exists()


def test_what_lies_unsealed_is_compiled_anew_once(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    _start(root)
    (folder,) = (root / "kernels").iterdir()
    for mark in folder.rglob("*.sha256"):
        mark.unlink()
    assert _start(root) == (["42", "0", "True"], "")
    assert _start(root) == (["42", "1", "True"], "")


def test_a_folder_that_cannot_be_made_is_a_warning(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    out, talk = _start(blocked)
    assert out == ["42", "0", "False"]
    assert "cannot write the cache folder" in talk
    assert "MESHD_CACHE_DIR" in talk


def test_a_read_only_folder_is_a_warning(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    _start(root)
    (folder,) = (root / "kernels").iterdir()
    folder.chmod(0o500)
    try:
        out, talk = _start(root)
    finally:
        folder.chmod(0o700)
    if os.geteuid() == 0:
        assert out[0] == "42"  # Root may write it all the same.
    else:
        assert out == ["42", "0", "False"]
        assert "cannot write" in talk


def test_the_folder_is_another_one_for_another_source_or_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache.folder_name("a") != cache.folder_name("b")
    before = cache.folder_name("a")
    package = tmp_path / "kernels"
    package.mkdir()
    (package / "cache.py").write_text("other")
    monkeypatch.setattr(cache, "__file__", str(package / "cache.py"))
    assert cache.folder_name("a") != before


def test_the_root_follows_flag_variable_and_convention(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MESHD_CACHE_DIR", "CACHE_DIRECTORY", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    assert cache.root() == Path("/home/me/.cache/meshd")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache.root() == Path("/x/meshd")
    monkeypatch.setenv("CACHE_DIRECTORY", "/var/cache/meshd:/var/cache/other")
    assert cache.root() == Path("/var/cache/meshd")
    monkeypatch.setenv("MESHD_CACHE_DIR", "/given")
    assert cache.root() == Path("/given")
    monkeypatch.setattr(cache, "_chosen", [])
    cache.use(Path("/flag"))
    assert cache.root() == Path("/flag")
