"""The house's own rules, as tests: style, types, walls between rooms, generated code, tidiness."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LINES_MAX = 500
TOP_LEVEL = {
    ".ci", ".gitignore", "ARCHITECTURE.md", "CHANGELOG.md", "LICENSE", "README.md", "meshd", "proto", "pyproject.toml",
    "systemd", "tests",
}  # fmt: skip


def _tool(*words: str) -> None:
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def _tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / line for line in listed.splitlines() if (ROOT / line).is_file()]


def _sources() -> list[Path]:
    return [p for p in _tracked() if p.suffix == ".py" and "_pb2" not in p.name]


def test_ruff_finds_nothing() -> None:
    _tool("-m", "ruff", "check", ".")


def test_the_code_is_formatted() -> None:
    _tool("-m", "ruff", "format", "--check", ".")


def test_types_are_strict() -> None:
    _tool("-m", "mypy")


def test_imports_go_down_only() -> None:
    _tool("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache")


def test_generated_code_is_fresh(tmp_path: Path) -> None:
    sources = sorted((ROOT / "proto/meshd/v1").glob("*.proto"))
    _tool(
        "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}",
        f"--grpc_python_out={tmp_path}", *map(str, sources),
    )  # fmt: skip
    fresh = {p.name: p.read_text() for p in (tmp_path / "meshd/v1").iterdir() if _has_content(p)}
    kept = {p.name: p.read_text() for p in (ROOT / "meshd/v1").glob("*_pb2*")}
    assert kept == fresh, "run: python -m tests.generate"


def _has_content(path: Path) -> bool:
    # grpc_tools writes a stub module even for files without a service.
    return "_grpc" not in path.name or "Servicer" in path.read_text()


def test_buf_lint_finds_nothing() -> None:
    buf = shutil.which("buf") or str(Path(sys.executable).parent / "buf")
    done = subprocess.run([buf, "lint"], cwd=ROOT / "proto", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_file_fits_in_the_head() -> None:
    long = {str(p.relative_to(ROOT)): n for p in _sources() if (n := len(p.read_text().splitlines())) > LINES_MAX}
    assert not long, f"past {LINES_MAX} lines: two rooms? {long}"


def test_every_module_says_what_it_is() -> None:
    mute = [
        str(p.relative_to(ROOT))
        for p in _sources()
        if p.stat().st_size and not ast.get_docstring(ast.parse(p.read_text()))
    ]
    assert not mute


def test_no_file_is_a_junk_drawer() -> None:
    assert not [p for p in _sources() if p.stem in {"utils", "util", "common", "helpers", "misc"}]


def test_the_top_level_holds_only_what_people_expect() -> None:
    assert {p.relative_to(ROOT).parts[0] for p in _tracked()} <= TOP_LEVEL


def test_nothing_names_a_developers_machine() -> None:
    telling = re.compile(r"/(?:work|root)/(?!\.)[a-z]|\.\./shared")
    here = Path(__file__)
    found = [
        f"{p.relative_to(ROOT)}: {m.group()}"
        for p in _tracked()
        if p != here and p.suffix in {".py", ".md", ".toml", ".proto", ".service", ".sh", ".json", ".yaml", ""}
        for m in [telling.search(p.read_text(errors="ignore"))]
        if m
    ]
    assert not found


def test_nothing_is_pickled() -> None:
    assert not [
        p for p in _sources() if re.search(r"^\s*(?:import|from) (?:pickle|marshal|shelve|dill)", p.read_text(), re.M)
    ]
