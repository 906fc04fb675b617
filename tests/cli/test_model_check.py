"""`meshd model check`: a document for programs, words for people, and an exit code for both."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from meshd.cli.meshd import model_check
from meshd.cli.meshd.model import command
from meshd.engine import threads
from meshd.errors import InvalidError, MisuseError, NotFoundError
from tests.model.networks import demo_like, model, node


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_check, "SPEND_S", 0.01)
    monkeypatch.setattr(threads, "_crew", [threads.Crew(1)])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "demo.onnx"
    made.write_bytes(demo_like())
    return made


def test_a_sound_model_is_checked_at_every_cut(file: Path) -> None:
    pytest.importorskip("onnxruntime")
    done = CliRunner().invoke(command, ["check", str(file), "-o", "json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert (told["apiVersion"], told["kind"], told["supported"]) == ("meshd/v1", "ModelCheck", True)
    assert told["layers"] == 6
    assert told["cuts"] == 5
    assert told["pieces_equal"] is True
    assert told["max_abs_error"] < 1e-4
    assert told["ms"] > 0
    assert told["ort_ms"] > 0
    assert told["arena_bytes"] > 0


def test_people_read_words(file: Path) -> None:
    done = CliRunner().invoke(command, ["check", str(file), "--cuts", "2"])
    assert done.exit_code == 0
    assert "2 cuts, the same bits as in one piece" in done.output


def test_an_unsupported_model_is_listed_and_fails(tmp_path: Path) -> None:
    made = tmp_path / "odd.onnx"
    made.write_bytes(model([node("NonZero", ["x"], ["y"])], {"x": [1, 4]}, ["y"]))
    done = CliRunner().invoke(command, ["check", str(made), "-o", "json"])
    assert done.exit_code == 1
    told = json.loads(done.output)
    assert told["supported"] is False
    assert "NonZero" in told["unsupported"][0]


def test_inputs_can_be_given(file: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((2, 1, 12, 12), np.float32))
    done = CliRunner().invoke(command, ["check", str(file), "--input", f"image={tmp_path / 'x.npy'}"])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["none.onnx"], NotFoundError),
        (["--dim", "N", "{file}"], MisuseError),
        (["--dim", "N=two", "{file}"], MisuseError),
        (["--input", "q=x.npy", "{file}"], MisuseError),
        (["--input", "image=x.npy", "{file}"], NotFoundError),
    ],
)
def test_misuse_is_told(file: Path, words: list[str], error: type[Exception]) -> None:
    done = CliRunner().invoke(command, ["check", *(w.format(file=file) for w in words)])
    assert isinstance(done.exception, error)


def test_a_file_that_is_no_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"\x08\x07")
    done = CliRunner().invoke(command, ["check", str(tmp_path / "x.onnx")])
    assert isinstance(done.exception, InvalidError)
