"""Commands pay only for what they use: what is loaded after them, seen from outside."""

import subprocess
import sys

import pytest

HEAVY = ("grpc", "numpy", "numba", "rich", "trio", "google.protobuf", "onnx", "zeroconf", "cryptography")


def loaded_after(code: str) -> list[str]:
    probe = f"""
import sys
try:
    {code}
except SystemExit as end:
    assert end.code in (0, None, 4), end.code
print("LOADED", *[m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return done.stderr.splitlines()[-1].split()[1:]


@pytest.mark.parametrize(
    "words", [["--help"], ["status", "--help"], ["deploy", "--help"], ["infer", "--help"], ["model", "push", "--help"]]
)
def test_help_of_meshctl_loads_nothing_heavy(words: list[str]) -> None:
    assert loaded_after(f"from meshd.cli.meshctl import main; main({words!r})") == []


@pytest.mark.parametrize("words", [["--help"], ["key", "--help"], ["run", "--help"]])
def test_help_of_meshd_loads_nothing_heavy(words: list[str]) -> None:
    assert loaded_after(f"from meshd.cli.meshd import main; main({words!r})") == []


def test_status_loads_neither_numpy_nor_numba_nor_off_a_terminal_rich() -> None:
    # There is no daemon at that socket: the whole client is loaded, nothing answers, exit code 4.
    code = "from meshd.cli.meshctl import main; main(['status', '--socket', '/proc/self/none.sock'])"
    assert loaded_after(code) == ["grpc", "google.protobuf"]
