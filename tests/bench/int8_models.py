"""Real models in int8 after training, run by meshd: what that changes, and what time it takes.

    python -m tests.bench.int8_models opennsfw       # 500 crops of photographs: the change of its probability
    python -m tests.bench.int8_models orientation    # 400 pages of text at four rotations: the share told right

Needs pillow; `opennsfw` also scikit-image and scikit-learn, whose wheels ship the photographs. `--folder` keeps the quantised
file and reads it again. Times are of one thread, float and int8 run by turns.
"""

import argparse
import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import version_converter

from meshd.compress import quantize
from meshd.engine.segment import Segment, compile_segment
from meshd.model import bundle, cuts
from meshd.model.onnx_import import import_model
from tests.engine.real_models import path

Array = NDArray[Any]
SIDE = 224
PHOTOS = {
    "skimage/data": ["astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "motorcycle_left.png", "hubble_deep_field.jpg",
                     "retina.jpg", "ihc.png"],
    "sklearn/datasets/images": ["flower.jpg", "china.jpg"],
}  # fmt: skip
WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "while",
    "seven",
    "wizards",
    "quietly",
    "judge",
    "my",
]


@dataclass(frozen=True, slots=True)
class Study:
    """A model, its inputs, and what to say of two sets of answers."""

    model: str
    items: Callable[[int, int], Array]
    """(count, seed) → inputs."""
    calibration: int
    count: int
    verdict: Callable[[Array, Array], str]


def photographs() -> list[Any]:
    """Those that scikit-image and scikit-learn ship, opened."""
    from PIL import Image

    found = []
    for folder, names in PHOTOS.items():
        package, *rest = folder.split("/")
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise SystemExit(f"{package} is not there: pip install scikit-image scikit-learn pillow")
        root = Path(spec.submodule_search_locations[0]).joinpath(*rest)
        found += [Image.open(root / name).convert("RGB") for name in names]
    return found


def crops(count: int, seed: int) -> Array:
    """Squares of photographs, a third of their shorter side or more, some mirrored; as the model's authors feed it."""
    rng, images = np.random.default_rng(seed), photographs()
    out = np.empty((count, SIDE, SIDE, 3), np.float32)
    for i in range(count):
        image = images[i % len(images)]
        width, height = image.size
        side = int(rng.uniform(0.35, 1.0) * min(width, height))
        left, top = (int(rng.integers(0, edge - side + 1)) for edge in (width, height))
        square = image.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), 2)
        pixels = np.asarray(square, np.float32)[:, :: 1 if rng.random() < 0.5 else -1, ::-1]
        out[i] = pixels - np.array([104, 117, 123], np.float32)
    return out


def pages(count: int, seed: int) -> Array:
    """Lines of words in several sizes and inks; item i is turned by i % 4 quarters."""
    from PIL import Image, ImageDraw, ImageFont

    rng = np.random.default_rng(seed)
    mean, deviation = (np.array(v, np.float32) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    out = np.empty((count, 3, SIDE, SIDE), np.float32)
    for i in range(count):
        size, paper = int(rng.integers(11, 20)), int(rng.integers(215, 256))
        page = Image.new("RGB", (256, 256), (paper, paper, int(paper * rng.uniform(0.9, 1))))
        draw, font = ImageDraw.Draw(page), ImageFont.load_default(size)
        ink = tuple(int(v) for v in rng.integers(0, 90, 3))
        for y in range(int(rng.integers(2, 12)), 256, int(size * rng.uniform(1.2, 1.6))):
            text = " ".join(rng.choice(WORDS, 12))
            draw.text(
                (int(rng.integers(2, 12)), y), text[: int(rng.integers(24, 60))].capitalize(), fill=ink, font=font
            )
        pixels = np.rot90(np.asarray(page, np.float32) / 255, i % 4)[16 : 16 + SIDE, 16 : 16 + SIDE]
        out[i] = ((pixels - mean) / deviation).transpose(2, 0, 1)
    return out


def probability(before: Array, after: Array) -> str:
    """How far the second class moves."""
    change = np.abs(before - after)[:, 1]
    p50, p99, most = np.percentile(change, [50, 99, 100])
    same = (before.argmax(1) == after.argmax(1)).mean()
    return f"change of the probability: p50 {p50:.4f}, p99 {p99:.4f}, most {most:.4f}; same class {100 * same:.2f} %"


def turned(before: Array, after: Array) -> str:
    """How many rotations are told right: each quarter is the class that the float model gives it most often."""
    quarter = np.arange(len(before)) % 4
    names = [np.bincount(before[quarter == q].argmax(1), minlength=4).argmax() for q in range(4)]
    right = [100 * (a.argmax(1) == np.array(names)[quarter]).mean() for a in (before, after)]
    same = 100 * (before.argmax(1) == after.argmax(1)).mean()
    return f"told right: float {right[0]:.2f} %, int8 {right[1]:.2f} % (classes {names}); same {same:.2f} %"


STUDIES: Mapping[str, Study] = {
    "opennsfw": Study("opennsfw", crops, 44, 500, probability),
    "orientation": Study("orientation", pages, 64, 400, turned),
}


def compiled(file: Path) -> Segment:
    """The whole of a model."""
    packed = bundle.pack(*import_model(file))
    return compile_segment(packed.graph, 0, len(cuts.layers(packed.graph)), packed.blobs.__getitem__)


def answers(segment: Segment, items: Array) -> Array:
    """Of all items, some at a time."""
    return np.concatenate([segment.run([items[i : i + 20]])[0] for i in range(0, len(items), 20)])


def milliseconds(segments: list[Segment], item: Array, turns: int = 30) -> list[float]:
    """Medians of an item's time, by turns."""
    took: list[list[float]] = [[] for _ in segments]
    for _ in range(turns):
        for times, segment in zip(took, segments, strict=True):
            begun = time.perf_counter()
            segment.run([item])
            times.append(1000 * (time.perf_counter() - begun))
    return [statistics.median(t) for t in took]


def main() -> None:
    """See the file's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--items", type=int, default=0, help="how many items; the study's own number if not given")
    parser.add_argument("--folder", type=Path, help="keep the quantised file here")
    options = parser.parse_args()
    study = STUDIES[options.study]
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        source, target, data = (folder / f"{study.model}{end}" for end in (".onnx", ".int8.onnx", ".npz"))
        if not target.exists():
            model = onnx.load(path(study.model))
            if model.opset_import[0].version < quantize.OPSET_MIN:
                model = version_converter.convert_version(model, quantize.OPSET_MIN)
            onnx.save(model, source)
            name = import_model(source)[0].inputs[0].name
            np.savez(data, **{name: study.items(study.calibration, 1)})  # type: ignore[arg-type]
            quantize.quantize(source, data, target, quantize.Wish(), lambda line: print(line, file=sys.stderr))
        before, after = compiled(source), compiled(target)
        items = study.items(options.items or study.count, 2)
        print(f"{options.study}: {len(items)} items; kernels {before.kernels} → {after.kernels}")
        print(study.verdict(answers(before, items), answers(after, items)))
        ms = milliseconds([before, after], items[:1])
        sizes = [s.resident_bytes / 1e6 for s in (before, after)]
        print(
            f"ms: float {ms[0]:.2f}, int8 {ms[1]:.2f}, {ms[0] / ms[1]:.2f}x; MB loaded: {sizes[0]:.1f}, {sizes[1]:.1f}"
        )


if __name__ == "__main__":
    main()
