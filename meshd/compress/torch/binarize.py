"""Binary layers: weights and activations of +-1, trained through a straight-through estimator.

Rule 1: the sign of zero is +1, here and in every kernel; an exported graph never meets a zero (see `export`).
Rule 2: a binary layer pads with +1, never with 0: every product then has the same number of terms, so its result has one
parity and a kernel needs no correction at the border.
Rule 3: latent weights stay within [-1, 1]; beyond it the estimator's gradient is zero and a weight would never return.

No per-channel scale (alpha in XNOR-Net) is kept: the BatchNorm2d that follows a binary layer learns it, together with the
threshold that the next sign needs.

Sources: Courbariaux et al., "Binarized Neural Networks", 2016, sections 1.1-1.3 (sign, estimator, clipping);
Rastegari et al., "XNOR-Net", ECCV 2016, sections 3.2-3.3 (normalise, then sign, then convolve).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class _StraightThroughSign(torch.autograd.Function):
    """Sign forward, hard tanh backward: ``d sign(x)/dx`` is taken as 1 where ``|x| <= 1`` and 0 elsewhere."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grads[0] * (x.abs() <= 1)


def binary_sign(x: Tensor) -> Tensor:
    """Return +1 where ``x >= 0`` and -1 elsewhere, with the straight-through gradient.

    Parameters
    ----------
    x : float tensor, any shape

    Returns
    -------
    tensor of the dtype and shape of `x`
    """
    signs: Tensor = _StraightThroughSign.apply(x)
    return signs


class Sign(nn.Module):
    """The activation in front of a binary layer; only its sign bits need to travel."""

    def forward(self, x: Tensor) -> Tensor:
        return binary_sign(x)


class BinaryConv2d(nn.Conv2d):
    """A convolution whose weights are the signs of its latent weights, padded with +1 and without bias.

    Feed it the output of `Sign`; follow it with a ``BatchNorm2d``.

    Parameters
    ----------
    in_channels, out_channels, kernel_size : int
        Square kernels only. Input channels in multiples of 64 fill whole machine words.
    padding : int
        Rows and columns of +1 on every side.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, padding: int = 0) -> None:
        super().__init__(in_channels, out_channels, kernel_size, bias=False)
        self.ones_padding = padding

    def forward(self, x: Tensor) -> Tensor:
        sides = (self.ones_padding,) * 4
        return functional.conv2d(functional.pad(x, sides, value=1.0), binary_sign(self.weight))


class BinaryLinear(nn.Linear):
    """A fully connected layer whose weights are the signs of its latent weights, without bias."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, binary_sign(self.weight))


@torch.no_grad()
def clip_latent_weights(model: nn.Module) -> None:
    """Clip the latent weights of every binary layer of `model` to [-1, 1], in place; call it after each step."""
    for module in model.modules():
        if isinstance(module, BinaryConv2d | BinaryLinear):
            module.weight.clamp_(-1.0, 1.0)


@torch.no_grad()
def start_latent_weights(layer: BinaryConv2d | BinaryLinear, weight: Tensor) -> None:
    """Start a binary layer from the trained float weights of the layer it replaces, in place.

    The signs are kept; the sizes are scaled a channel at a time so that three standard deviations reach the clip, which
    leaves the weights the float layer cared least about nearest to changing sign.

    Parameters
    ----------
    layer : the binary layer, written in place
    weight : float tensor, shape as ``layer.weight``
    """
    spread = weight.flatten(1).std(dim=1).clamp_min(1e-8).view(-1, *[1] * (weight.dim() - 1))
    layer.weight.copy_((weight / (3.0 * spread)).clamp(-1.0, 1.0))
