"""What a long run has found so far, kept beside its output, so that an interrupted run goes on where it was.

A folder `OUT.onnx.progress` with one `.npz` for each step, written whole or not at all. Its key is a digest of everything the
result depends on: with another key the folder is of another run, and is begun anew. Removed when the output is written.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


class Progress:
    """Steps of one run.

    Parameters
    ----------
    target : the file the run will write
    files : what it reads; their bytes are part of the key
    options : everything else that decides the result; JSON
    """

    def __init__(self, target: Path, files: list[Path], options: Mapping[str, Any]) -> None:
        digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
        for path in files:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        self.key, self.folder = digest.hexdigest(), target.with_name(target.name + ".progress")
        self.resumed = 0
        """Steps that were not done again."""
        if self._kept_key() != self.key:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir()
            (self.folder / "key").write_text(self.key)

    def _kept_key(self) -> str:
        try:
            return (self.folder / "key").read_text()
        except OSError:
            return ""

    def step(self, name: str, compute: Callable[[], Arrays]) -> dict[str, NDArray[Any]]:
        """The arrays of a step: as kept, else computed and kept."""
        path = self.folder / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.npz"
        try:
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                found = {str(n): file[f"a{i}"] for i, n in enumerate(file["names"])}
            self.resumed += 1
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            found = dict(compute())
            numbered = {f"a{i}": array for i, array in enumerate(found.values())}
            part = path.with_suffix(".part")
            with part.open("wb") as out:
                # Names of tensors may be anything, and so stand in an array of their own.
                np.savez(out, names=np.array(list(found), np.str_), **numbered)
            os.replace(part, path)
        return found

    def done(self) -> None:
        """Forget it all: the output is written."""
        shutil.rmtree(self.folder, ignore_errors=True)
