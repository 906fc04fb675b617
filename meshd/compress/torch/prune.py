"""Gradual block pruning: groups of output channels share one set of kept positions.

Four neighbouring output channels keep the same (input channel, row, column) positions, so that a kernel loads one input
vector and multiplies it into four accumulators: the format decides the speed, and costs little accuracy when the network
is trained while it is pruned.

Rule 1: what is pruned stays zero: `BlockPruner.hold` runs after every step of the optimiser.
Rule 2: the sparsity of a layer never falls; which blocks make it up may change while the schedule still moves.

Sources: Zhu and Gupta, "To prune, or not to prune", 2017 (schedule); blocks along output channels after Elsen et al.,
"Fast Sparse ConvNets", CVPR 2020.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def sparsity_at(step: int, first: int, last: int, target: float) -> float:
    """Return the sparsity wanted at `step`: 0 before `first`, `target` from `last` on, a cubic between.

    ``target - target * (1 - (step - first) / (last - first)) ** 3``: fast while there is much to spare, slow at the end.

    Raises
    ------
    ValueError
        If the target is not in [0, 1) or `last` is not after `first`.
    """
    if not 0.0 <= target < 1.0:
        raise ValueError(f"sparsity target {target} is not in [0, 1): give a fraction such as 0.9")
    if last <= first:
        raise ValueError(f"pruning ends at step {last}, not after its first step {first}: give it at least one step")
    progress = min(max((step - first) / (last - first), 0.0), 1.0)
    return target - target * (1.0 - progress) ** 3


def block_mask(weight: Tensor, sparsity: float, block: int = 4) -> Tensor:
    """Choose what a layer keeps: the blocks with the largest sum of squares.

    Parameters
    ----------
    weight : float tensor, shape (outputs, ...)
        A convolution's (outputs, inputs, rows, columns) or a fully connected layer's (outputs, inputs).
    sparsity : float
        Fraction of the blocks to drop, in [0, 1); at least one block is kept.
    block : int
        Output channels that share their positions; `outputs` must be a multiple of it.

    Returns
    -------
    bool tensor of the shape of `weight`, True where the weight is kept

    Raises
    ------
    ValueError
        If `outputs` is not a multiple of `block`.
    """
    outputs = weight.shape[0]
    if outputs % block:
        raise ValueError(f"{outputs} output channels are not a multiple of the block of {block}: choose another block")
    energy = weight.detach().reshape(outputs // block, block, -1).square().sum(dim=1)
    kept_count = max(1, round(energy.numel() * (1.0 - sparsity)))
    kept = torch.zeros(energy.numel(), dtype=torch.bool)
    # A stable sort, not topk: which of two equal blocks is kept must not depend on the thread count.
    kept[torch.argsort(energy.flatten(), descending=True, stable=True)[:kept_count]] = True
    mask = kept.reshape(energy.shape).unsqueeze(1).expand(-1, block, -1)
    return mask.reshape(weight.shape)


class BlockPruner:
    """Prunes some layers of a model while it trains, and holds their masks.

    Parameters
    ----------
    layers : mapping of name to ``nn.Conv2d`` or ``nn.Linear``
    target : float
        Final sparsity of each layer.
    first, last : int
        Steps of the optimiser between which sparsity grows.
    every : int
        Steps between two choices of the mask.
    block : int
        See `block_mask`.

    Notes
    -----
    A mask is a buffer of the layer it prunes, named ``mask``: it is saved and loaded with the model, so that a run that
    resumes from a checkpoint goes on with the masks it had.
    """

    def __init__(
        self, layers: Mapping[str, nn.Module], target: float, first: int, last: int, *, every: int = 50, block: int = 4
    ) -> None:
        sparsity_at(first, first, last, target)  # Refuse a bad schedule now, not after an hour of training.
        self.layers = {name: _prunable(name, layer) for name, layer in layers.items()}
        self.target, self.first, self.last, self.every, self.block = target, first, last, every, block
        for layer in self.layers.values():
            layer.register_buffer("mask", torch.ones_like(layer.weight, dtype=torch.bool))

    @torch.no_grad()
    def hold(self, step: int) -> None:
        """Zero what is pruned; at the schedule's steps choose the masks anew. Call it after every optimiser step."""
        moves = self.first <= step <= self.last and ((step - self.first) % self.every == 0 or step == self.last)
        for layer in self.layers.values():
            if moves:
                wanted = sparsity_at(step, self.first, self.last, self.target)
                layer.mask.copy_(block_mask(layer.weight, wanted, self.block))
            layer.weight.mul_(layer.mask)


def _prunable(name: str, layer: nn.Module) -> nn.Conv2d | nn.Linear:
    """Return the layer if it can be pruned."""
    if not isinstance(layer, nn.Conv2d | nn.Linear):
        raise ValueError(f"layer {name} is a {type(layer).__name__}: only Conv2d and Linear can be block-pruned")
    return layer
