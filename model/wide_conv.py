"""One-dimensional convolution of many channels as matrix products: on the CPU, up to two and a half times as fast as the library's.

Legend: B batch, C channels in, O channels out, K taps, T positions, N = B · positions out, J tiles of four positions.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

# From these numbers of channels on a single product is the faster way, measured with five taps.
MIN_IN_CHANNELS = 128
MIN_OUT_CHANNELS = 512

# From these numbers of weights per tap and of positions on tiles are faster still. They are for this geometry alone.
MIN_TILED_WEIGHTS = 192 * 384
MIN_TILED_POSITIONS = 256
N_TAPS, PADDING, TILE = 5, 2, 4
# A tile's eight products are polynomials' values at these and at infinity. Small numbers and their inverses round least: the
# error is four times that of a single product, 1.5e-6 of the outputs' root mean square.
POINTS = (0.0, 1.0, -1.0, 0.5, -2.0, 2.0, -0.5)
N_PRODUCTS = len(POINTS) + 1
BLOCK = 128  # output channels whose transformed weights exist at a time, near enough to stay in the cache


def wide_conv1d(inputs: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
    """Convolve (B, C, T) with (O, C, K) as `torch.nn.functional.conv1d` does, by whichever way is faster here."""
    n_out, n_in, n_taps = weight.shape
    outputs: Tensor
    here = inputs.device.type == "cpu" and not torch.is_autocast_enabled("cpu") and not torch.compiler.is_exporting()
    if bias is not None and inputs.dtype == torch.float32 and here:
        tiles_fit = (n_taps, stride, padding) == (N_TAPS, 1, PADDING) and len(inputs) * inputs.shape[2] >= MIN_TILED_POSITIONS
        if tiles_fit and n_in * n_out >= MIN_TILED_WEIGHTS:
            outputs = _TileConv.apply(inputs, weight, bias)
            return outputs
        if n_in >= MIN_IN_CHANNELS and n_out >= MIN_OUT_CHANNELS:
            outputs = _MatrixConv.apply(inputs, weight, bias, stride, padding)
            return outputs
    return functional.conv1d(inputs, weight, bias, stride, padding)


class WideConv1d(nn.Conv1d):
    """A convolution by whichever way is faster."""

    def forward(self, input: Tensor) -> Tensor:
        if self.groups > 1 or self.dilation != (1,):
            return super().forward(input)
        return wide_conv1d(input, self.weight, self.bias, self.stride[0], int(self.padding[0]))


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


class _TileConv(torch.autograd.Function):
    """Four outputs of five taps from eight products instead of twenty, forward and in both gradients.

    outputs = Aᵀ [(G weights) · (Bᵀ inputs)] for every tile; the products over channels are matrix products over all tiles.
    Source: Winograd 1980, Arithmetic Complexity of Computations; Lavin & Gray 2016, section 4.1, of images.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        seen = _seen(inputs)
        outputs = inputs.new_empty(len(weight), TILE * seen.shape[2])
        to_outputs, *_ = _transforms(inputs.dtype)
        for rows, transformed in zip(outputs.split(BLOCK), _transformed(weight), strict=True):
            products = torch.bmm(transformed, seen)
            torch.mm(products.view(N_PRODUCTS, -1).t(), to_outputs, out=rows.view(-1, TILE))
        return _from_tiles(outputs, inputs.shape, 0) + bias.unsqueeze(1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        inputs, weight = ctx.saved_tensors
        to_outputs, of_weight, of_inputs = _transforms(inputs.dtype)
        for_products = (to_outputs @ _to_tiles(gradient, 0).t()).view(N_PRODUCTS, len(weight), -1)
        blocks = for_products.split(BLOCK, 1)
        for_inputs = for_weight = for_bias = None
        if ctx.needs_input_grad[1]:
            seen = _seen(inputs).transpose(1, 2)
            for_weight = torch.empty_like(weight)
            for products, rows in zip(blocks, for_weight.split(BLOCK), strict=True):
                torch.mm(torch.bmm(products, seen).view(N_PRODUCTS, -1).t(), of_weight, out=rows.view(-1, N_TAPS))
        if ctx.needs_input_grad[2]:
            for_bias = gradient.sum((0, 2))
        if ctx.needs_input_grad[0]:
            for_seen = for_products.new_zeros(N_PRODUCTS, inputs.shape[1], for_products.shape[2])
            for products, transformed in zip(blocks, _transformed(weight), strict=True):
                for_seen.baddbmm_(transformed.transpose(1, 2), products)
            flat = for_seen.view(N_PRODUCTS, -1)
            tiles = flat.t() @ of_inputs[:, :TILE]
            tiles[1:].addmm_(flat[:, :-1].t(), of_inputs[:, TILE:])
            for_inputs = _from_tiles(tiles.view(inputs.shape[1], -1), inputs.shape, PADDING)
        return for_inputs, for_weight, for_bias


@cache
def _transforms(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """What turns a tile's outputs (8, 4), the taps (8, 5) and the positions that it sees (8, 8) into the factors of its products."""
    outputs, taps, positions = (_values_at_points(size) for size in (TILE, N_TAPS, N_PRODUCTS))
    return outputs.to(dtype), taps.to(dtype), torch.linalg.inv(positions).t().to(dtype)


def _values_at_points(n_coefficients: int) -> Tensor:
    """The powers of every point, and the coefficient that counts at infinity: (8, coefficients)."""
    finite = torch.vander(torch.tensor(POINTS, dtype=torch.float64), n_coefficients, increasing=True)
    return torch.cat((finite, torch.eye(n_coefficients, dtype=torch.float64)[-1:]))


def _transformed(weight: Tensor) -> Iterator[Tensor]:
    """Weights (O, C, K) block by block, each (8, up to `BLOCK`, C) in the memory of the one before."""
    _, of_weight, _ = _transforms(weight.dtype)
    n_out, n_in, _ = weight.shape
    memory = weight.new_empty(N_PRODUCTS * min(n_out, BLOCK) * n_in)
    for rows in weight.split(BLOCK):
        block = memory[: N_PRODUCTS * len(rows) * n_in].view(N_PRODUCTS, -1)
        torch.mm(of_weight, rows.reshape(-1, N_TAPS).t(), out=block)
        yield block.view(N_PRODUCTS, len(rows), n_in)


def _seen(inputs: Tensor) -> Tensor:
    """(B, C, T) → (8, C, J). A tile sees the four positions of its own and those of the next, which lie behind it."""
    *_, of_inputs = _transforms(inputs.dtype)
    tiles = _to_tiles(inputs, PADDING)
    seen = of_inputs[:, :TILE] @ tiles.t()
    seen[:, :-1].addmm_(of_inputs[:, TILE:], tiles[1:].t())
    return seen.view(N_PRODUCTS, inputs.shape[1], -1)


def _to_tiles(clips: Tensor, start: int) -> Tensor:
    """Clips (B, C, T) one behind the other, from position `start` on and with the padding that they share → (C · J, 4).

    The last tile of every channel is for the one before it to see: it has no outputs.
    """
    n_batch, n_channels, length = clips.shape
    n_positions = n_batch * (length + PADDING)
    row = clips.new_zeros(n_channels, TILE * (-(-n_positions // TILE) + 1))
    row[:, start : start + n_positions].view(n_channels, n_batch, -1)[:, :, :length] = clips.transpose(0, 1)
    return row.view(-1, TILE)


def _from_tiles(row: Tensor, shape: torch.Size, start: int) -> Tensor:
    """The clips in (C, 4 · J), those of the length and number of `shape`: (B, C, T)."""
    n_batch, _, length = shape
    positions = row[:, start : start + n_batch * (length + PADDING)]
    return positions.view(len(row), n_batch, -1)[:, :, :length].transpose(0, 1)
