"""The training loop of the recipes: fixed seeds, one cycle of the learning rate, resumable after every epoch.

Rule 1: what is random in an epoch follows from the seed and the epoch's number alone, so that a run that was interrupted
and resumed gives the weights that an uninterrupted one gives.

Source: Smith, "Super-Convergence", 2018 (one cycle); the bfloat16 passes halve an epoch's time on processors that have
the instructions, and the statistics are taken anew in float32 at the end.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
Augment = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class Training:
    """How long and how fast to train.

    Attributes
    ----------
    epochs, batch : int
    rate : float
        Peak of the learning rate, reached after a fifth of the steps.
    decay : float
        Decoupled weight decay (AdamW) of float weights with two axes or more.
    seed : int
    """

    epochs: int
    batch: int
    rate: float
    decay: float
    seed: int

    def steps(self, count: int) -> int:
        """Return the optimiser steps of a whole run over `count` examples; an epoch's last short batch is left out."""
        return self.epochs * (count // self.batch)


def fit(
    model: nn.Module,
    examples: Tensor,
    labels: Tensor,
    training: Training,
    loss: Loss,
    *,
    checkpoint: Path,
    augment: Augment,
    after_step: Callable[[int], None] = lambda step: None,
    after_epoch: Callable[[str], None] = lambda line: print(line, flush=True),
    undecayed: Callable[[nn.Module], bool] = lambda module: False,
) -> None:
    """Train `model` in place, or continue where `checkpoint` left off.

    Parameters
    ----------
    model : nn.Module
    examples : uint8 or float tensor, shape (count, ...)
    labels : int64 tensor, shape (count,)
    loss : callable
        Given the model, a batch from `augment` and its labels; returns the mean loss.
    checkpoint : path
        Written after every epoch, under a temporary name first. Delete it to start anew.
    augment : callable
        Turns a batch of `examples` into the model's input.
    after_step : callable
        Called with the number of steps done, after each: masks and clips are held here.
    after_epoch : callable
        Called with a line that tells how the epoch went.
    undecayed : callable
        True for a module whose weights must not decay.
    """
    count = len(examples)
    batches = count // training.batch
    optimiser = torch.optim.AdamW(_groups(model, training.decay, undecayed), lr=training.rate)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, training.rate, total_steps=training.steps(count), pct_start=0.2, cycle_momentum=False
    )
    first = _resume(checkpoint, model, optimiser, cycle)
    for epoch in range(first, training.epochs):
        started = time.perf_counter()
        random = torch.Generator().manual_seed(training.seed * 1_000 + epoch)
        order = torch.randperm(count, generator=random)
        model.train()
        total = 0.0
        for i in range(batches):
            chosen = order[i * training.batch : (i + 1) * training.batch]
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=_bfloat16_is_fast()):
                value = loss(model, augment(examples[chosen], random), labels[chosen])
            optimiser.zero_grad(set_to_none=True)
            value.backward()
            optimiser.step()
            cycle.step()
            after_step(epoch * batches + i + 1)
            total += value.item()
        _save(checkpoint, model, optimiser, cycle, epoch + 1)
        seconds = time.perf_counter() - started
        after_epoch(f"epoch {epoch + 1}/{training.epochs}: loss {total / batches:.4f}, {seconds:.0f} s")


@torch.no_grad()
def settle_statistics(model: nn.Module, batches: list[Tensor]) -> None:
    """Take the BatchNorm statistics anew, in float32, with the final weights, as plain means over `batches`; in place."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    model.train()
    for batch in batches:
        model(batch)
    model.eval()


@torch.no_grad()
def count_correct(model: nn.Module, examples: Tensor, labels: Tensor, batch: int = 1_000) -> int:
    """Return how many of `examples`, already the model's input, get their label as top answer."""
    model.eval()
    parts = zip(examples.split(batch), labels.split(batch), strict=True)
    return sum(int((model(x).argmax(dim=1) == y).sum()) for x, y in parts)


def _groups(model: nn.Module, decay: float, undecayed: Callable[[nn.Module], bool]) -> list[dict[str, object]]:
    """Split the parameters into those that decay and those that do not (biases, norms, what `undecayed` names)."""
    kept: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            (kept if parameter.dim() < 2 or undecayed(module) else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": decay}, {"params": kept, "weight_decay": 0.0}]


def _bfloat16_is_fast() -> bool:
    return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _save(
    checkpoint: Path,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    cycle: torch.optim.lr_scheduler.LRScheduler,
    epoch: int,
) -> None:
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    temporary = checkpoint.with_suffix(".tmp")
    state = {
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "cycle": cycle.state_dict(),
        "epoch": epoch,
    }
    torch.save(state, temporary)
    os.replace(temporary, checkpoint)


def _resume(
    checkpoint: Path,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    cycle: torch.optim.lr_scheduler.LRScheduler,
) -> int:
    """Load a checkpoint if there is one; return the epochs done. Only tensors and plain values are ever unpacked."""
    if not checkpoint.exists():
        return 0
    state = torch.load(checkpoint, weights_only=True)
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    cycle.load_state_dict(state["cycle"])
    return int(state["epoch"])
