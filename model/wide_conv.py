"""One-dimensional convolution of many channels as one matrix product: on the CPU, up to twice as fast as the library's.

Legend: B batch, C channels in, O channels out, K taps, T positions, N = B · positions out.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

# From these numbers of channels on the product is the faster way, measured with five taps.
MIN_IN_CHANNELS = 128
MIN_OUT_CHANNELS = 512


def wide_conv1d(inputs: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
    """Convolve (B, C, T) with (O, C, K) as `torch.nn.functional.conv1d` does, by whichever way is faster here."""
    n_out, n_in, _ = weight.shape
    wide = n_in >= MIN_IN_CHANNELS and n_out >= MIN_OUT_CHANNELS
    if bias is None or not wide or inputs.dtype != torch.float32 or inputs.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return functional.conv1d(inputs, weight, bias, stride, padding)
    outputs: Tensor = _MatrixConv.apply(inputs, weight, bias, stride, padding)
    return outputs


class _MatrixConv(torch.autograd.Function):
    """Taps laid out as rows, (C · K, N): the weights take part as they are, and so do their gradients.

    Tensors lie in memory as (channels, B, T), which costs nothing between layers of this kind. The taps are laid out again
    for the weights' gradients, which costs little and saves K times the inputs' memory.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
        taps = _taps(inputs, weight.shape[2], stride, padding)
        ctx.save_for_backward(inputs, weight)
        ctx.stride, ctx.padding = stride, padding
        product = torch.addmm(bias.unsqueeze(1), weight.flatten(1), taps)
        return product.view(len(weight), len(inputs), -1).transpose(0, 1)  # (O, B, T) → (B, O, T)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        inputs, weight = ctx.saved_tensors
        stride, padding = ctx.stride, ctx.padding
        n_batch, n_in, length = inputs.shape
        n_out, _, n_taps = weight.shape
        by_channel = gradient.transpose(0, 1).reshape(n_out, -1)  # (B, O, T) → (O, N)
        for_inputs = for_weight = for_bias = None
        if ctx.needs_input_grad[1]:
            for_weight = (by_channel @ _taps(inputs, n_taps, stride, padding).t()).view_as(weight)
        if ctx.needs_input_grad[2]:
            for_bias = by_channel.sum(1)
        if ctx.needs_input_grad[0]:
            spread = (weight.flatten(1).t() @ by_channel).view(n_in, n_taps, n_batch, -1)
            padded = gradient.new_zeros(n_in, n_batch, length + 2 * padding)
            reach = (spread.shape[3] - 1) * stride + 1
            for tap in range(n_taps):
                padded[:, :, tap : tap + reach : stride] += spread[:, tap]
            for_inputs = padded[:, :, padding : padding + length].transpose(0, 1)
        return for_inputs, for_weight, for_bias, None, None


def _taps(inputs: Tensor, n_taps: int, stride: int, padding: int) -> Tensor:
    """What each output position sees: (B, C, T) → (C · K, N)."""
    padded = functional.pad(inputs.transpose(0, 1), (padding, padding))
    return padded.unfold(2, n_taps, stride).permute(0, 3, 1, 2).reshape(padded.shape[0] * n_taps, -1)
