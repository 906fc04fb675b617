"""Activity recognition from a smartwatch: which of seven shoulder exercises, for people the network has never seen.

``python -m meshd.compress.recipes.activity --data watch_dataset.npy --out DIR`` trains a dense network and a pruned one
for every fold and seed (five folds by person, two people left out of each; three seeds), prints both accuracies with their
spread, and exports the pruned network of the first fold and seed with its card.

The network reads 2.56 s of six channels (acceleration, rotation) at 50 Hz as ``motion``, float32 [N, 6, 1, 128], in the
units of the sensor, and writes ``logits`` [N, 7]. Convolutions along time are 1 x 9. 95 % of the weights of all but the
first are zero, in blocks of 4 output channels.

Printed: dense 86.73 % +- 3.20 %, pruned 86.56 % +- 3.76 % on unseen people (mean and standard deviation of the 15 runs);
2,120,576 and 159,424 multiply-accumulates a window, 13.3 times fewer. The exported run gets 735 of its 800 windows right.

Data: Burns et al., "Shoulder physiotherapy exercise recognition", 2018, arXiv 1802.01489; ten people, both arms; BSD
licence, the file ``seglearn/data/watch_dataset.npy`` of seglearn 1.2.5 on PyPI.
"""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from meshd.compress.recipes import card
from meshd.compress.recipes.fit import Training, count_correct, fit, settle_statistics
from meshd.compress.torch.distill import distillation_loss
from meshd.compress.torch.export import to_onnx
from meshd.compress.torch.prune import BlockPruner

CLASSES = ["pendulum", "abduction", "forward elevation", "internal rotation", "external rotation", "trapezius", "row"]
DATA_SHA256 = "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537"
WINDOW = 128
HOP = 64
FOLDS = 5
SEEDS = (1, 2, 3)
PRUNED = ("time2", "time3", "time4")
SPARSITY = 0.95
SAMPLE_COUNT = 200


@dataclass(frozen=True)
class Windows:
    """Windows cut from the recordings.

    Attributes
    ----------
    motion : float32 tensor, shape (count, 6, 1, WINDOW)
    exercise : int64 tensor, shape (count,)
    person : int64 array, shape (count,)
    """

    motion: Tensor
    exercise: Tensor
    person: NDArray[np.int64]


def network() -> nn.Sequential:
    """Return the network; dense and pruned have the same layers."""
    layers: dict[str, nn.Module] = {"motion_norm": nn.BatchNorm2d(6)}
    channels = 6
    for name, outputs, stride in (("time1", 16, 2), ("time2", 64, 2), ("time3", 64, 2), ("time4", 128, 1)):
        layers[name] = nn.Conv2d(channels, outputs, (1, 9), stride=(1, stride), padding=(0, 4), bias=False)
        layers[f"{name}_norm"] = nn.BatchNorm2d(outputs)
        layers[f"{name}_relu"] = nn.ReLU()
        channels = outputs
    layers |= {"average": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "head": nn.Linear(channels, len(CLASSES))}
    model = nn.Sequential()
    for name, layer in layers.items():
        model.add_module(name, layer)
    return model


def multiplications(model: nn.Sequential) -> int:
    """Return the multiply-accumulates with a non-zero weight that one window costs."""
    found = 0
    x = torch.zeros(1, 6, 1, WINDOW)
    with torch.no_grad():
        for layer in model.eval():
            x = layer(x)
            if isinstance(layer, nn.Conv2d | nn.Linear):
                found += int(torch.count_nonzero(layer.weight)) * (x.shape[3] if x.dim() == 4 else 1)
    return found


def read_windows(path: Path) -> Windows:
    """Cut the recordings into half-overlapping windows.

    Raises
    ------
    ValueError
        If the file is not the one of seglearn 1.2.5: it is a pickle, so nothing else is ever unpacked.
    """
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != DATA_SHA256:
        raise ValueError(f"{path} has SHA-256 {digest}, not {DATA_SHA256}: take it from seglearn==1.2.5")
    recordings = np.load(path, allow_pickle=True).item()
    motion, exercise, person = [], [], []
    for series, label, subject in zip(recordings["X"], recordings["y"], recordings["subject"], strict=True):
        starts = range(0, len(series) - WINDOW + 1, HOP)
        motion += [series[start : start + WINDOW].T for start in starts]
        exercise += [int(label)] * len(starts)
        person += [int(subject)] * len(starts)
    values = np.stack(motion)[:, :, np.newaxis].astype(np.float32)
    return Windows(torch.from_numpy(values), torch.tensor(exercise), np.array(person))


def vary(motion: Tensor, random: torch.Generator) -> Tensor:
    """Return the windows as another wearer might have made them: each channel stronger or weaker, shifted, and noisy."""
    count, channels = motion.shape[:2]
    gain = 1 + 0.15 * torch.randn(count, channels, 1, 1, generator=random)
    offset = 0.1 * torch.randn(count, channels, 1, 1, generator=random)
    return motion * gain + offset + 0.05 * torch.randn(motion.shape, generator=random)


def train(motion: Tensor, exercise: Tensor, training: Training, cache: Path) -> tuple[nn.Sequential, nn.Sequential]:
    """Return the dense network and the pruned one that starts from it and learns from it."""
    torch.manual_seed(training.seed)
    dense, pruned = network(), network()

    def plain(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(model(x), y)

    def distilled(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            answers = dense(x)
        return distillation_loss(model(x), answers, y, temperature=2.0, soft=0.5)

    def quiet(line: str) -> None:
        pass

    checkpoint = cache / f"dense-{training.seed}.pt"
    fit(dense, motion, exercise, training, plain, checkpoint=checkpoint, augment=vary, after_epoch=quiet)
    settle_statistics(dense, [motion])
    pruned.load_state_dict(dense.state_dict())
    for norm in (module for module in pruned.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.momentum = 0.1
    steps = training.steps(len(motion))
    pruner = BlockPruner(
        {name: pruned.get_submodule(name) for name in PRUNED}, SPARSITY, steps // 20, steps // 2, every=10
    )
    checkpoint = cache / f"pruned-{training.seed}.pt"
    fit(
        pruned,
        motion,
        exercise,
        training,
        distilled,
        checkpoint=checkpoint,
        augment=vary,
        after_step=pruner.hold,
        after_epoch=quiet,
    )
    settle_statistics(pruned, [motion])
    return dense, pruned


def main(arguments: list[str] | None = None) -> None:
    """Run the recipe."""
    parser = argparse.ArgumentParser(
        description="Train a pruned activity recogniser and compare it with the dense one."
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for activity.onnx and activity.json")
    parser.add_argument("--data", type=Path, required=True, help="seglearn/data/watch_dataset.npy of seglearn 1.2.5")
    parser.add_argument("--cache", type=Path, help="folder of checkpoints to resume from (default: OUT/cache)")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    cache: Path = options.cache or options.out / "cache"
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)

    windows = read_windows(options.data)
    people = np.unique(windows.person)
    scores: dict[str, list[float]] = {"dense": [], "pruned": []}
    first: tuple[nn.Sequential, nn.Sequential, NDArray[np.bool_]] | None = None
    for fold in range(FOLDS):
        unseen = np.isin(windows.person, people[fold::FOLDS])
        held = windows.motion[unseen], windows.exercise[unseen]
        for seed in SEEDS:
            training = Training(options.epochs, 64, 4e-3, 1e-2, 10 * fold + seed)
            dense, pruned = train(windows.motion[~unseen], windows.exercise[~unseen], training, cache)
            for name, model in (("dense", dense), ("pruned", pruned)):
                scores[name].append(count_correct(model, *held) / int(unseen.sum()))
            print(
                f"fold {fold} seed {seed}: dense {scores['dense'][-1]:.2%}, pruned {scores['pruned'][-1]:.2%}",
                flush=True,
            )
            first = first or (dense, pruned, unseen)
    assert first is not None, "there is a first fold"
    dense, pruned, unseen = first
    unseen_people = {
        name: {"mean": float(np.mean(found)), "spread": float(np.std(found)), "runs": found}
        for name, found in scores.items()
    }
    for name, found in unseen_people.items():
        print(f"{name}: {found['mean']:.2%} +- {found['spread']:.2%} on unseen people")
    costs = {"dense": multiplications(dense), "pruned": multiplications(pruned)}
    print(f"multiply-accumulates a window: {costs}, {costs['dense'] / costs['pruned']:.1f} times fewer")

    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "activity.onnx"
    model = to_onnx(pruned.eval(), (6, 1, WINDOW), name="activity", input_name="motion", output_name="logits")
    path.write_bytes(model.SerializeToString(deterministic=True))
    about = {
        "title": "Shoulder exercises from a smartwatch, pruned",
        "licence": "Apache-2.0",
        "data": {
            "name": "watch_dataset of seglearn 1.2.5",
            "licence": "BSD",
            "source": "https://pypi.org/project/seglearn/",
        },
        "classes": CLASSES,
        "recipe": {"command": "python -m meshd.compress.recipes.activity --data watch_dataset.npy --out DIR"},
        "unseen_people": unseen_people,
        "multiply_accumulates": costs,
    }
    # The order of the held-out windows is by recording: shuffle it, so that the sample is of all exercises.
    order = np.flatnonzero(unseen)[np.random.default_rng(0).permutation(int(unseen.sum()))]
    card.write(path, about, windows.motion[order].numpy(), windows.exercise[order].numpy(), SAMPLE_COUNT)


if __name__ == "__main__":
    main()
