"""A convolution as matrix products equals the library's, forward and backward."""

import pytest
import torch
from torch.nn import functional

from model import wide_conv
from model.wide_conv import WideConv1d, wide_conv1d


def _tensors(n_out: int = 512, n_in: int = 128, n_taps: int = 5, n_batch: int = 3, length: int = 23) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    shapes = ((n_batch, n_in, length), (n_out, n_in, n_taps), (n_out,))
    return [(torch.randn(shape, generator=draw) * scale).requires_grad_() for shape, scale in zip(shapes, (1.0, 0.05, 1.0), strict=True)]


GEOMETRIES = [(5, 1, 2, 23), (5, 3, 2, 23), (5, 3, 2, 24), (3, 2, 0, 9), (1, 1, 0, 4), (5, 1, 2, 1)]


@pytest.mark.parametrize(("n_taps", "stride", "padding", "length"), GEOMETRIES)
def test_outputs_and_gradients_are_those_of_a_convolution(n_taps, stride, padding, length):
    tensors = _tensors(n_taps=n_taps, length=length)
    found, expected = wide_conv1d(*tensors, stride, padding), functional.conv1d(*tensors, stride, padding)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    gradient = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    for ours, theirs in zip(torch.autograd.grad(found, tensors, gradient), torch.autograd.grad(expected, tensors, gradient), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


def test_frozen_weights_get_no_gradient_while_the_inputs_do():
    inputs, weight, bias = _tensors()
    wide_conv1d(inputs, weight.requires_grad_(False), bias.requires_grad_(False), 1, 2).sum().backward()
    assert inputs.grad.abs().sum() > 0
    assert weight.grad is None and bias.grad is None


@pytest.mark.parametrize(("changes", "precision", "taken"), [
    ({}, None, True), ({"n_in": 64}, None, False), ({"n_out": 256}, None, False), ({}, torch.bfloat16, False),
])  # fmt: skip
def test_the_product_is_for_wide_layers_in_full_precision_alone(changes, precision, taken, monkeypatch):
    calls, lay_out = [], wide_conv._taps
    monkeypatch.setattr(wide_conv, "_taps", lambda *arguments: calls.append(arguments) or lay_out(*arguments))
    with torch.autocast("cpu", precision or torch.bfloat16, enabled=precision is not None):
        assert wide_conv1d(*_tensors(**changes), 1, 2).shape[2] == 23
    assert bool(calls) == taken


TILED = [(1, 256), (1, 255), (2, 141), (7, 19), (300, 1)]  # clips, positions


@pytest.mark.parametrize(("n_batch", "length"), TILED)
def test_tiles_give_the_outputs_and_gradients_of_a_convolution(n_batch, length):
    tensors = [each.detach().double().requires_grad_() for each in _tensors(n_out=130, n_in=3, n_batch=n_batch, length=length)]
    found, expected = wide_conv._TileConv.apply(*tensors), functional.conv1d(*tensors, 1, 2)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    gradient = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for ours, theirs in zip(torch.autograd.grad(found, tensors, gradient), torch.autograd.grad(expected, tensors, gradient), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


def test_tiles_in_single_precision_err_by_a_few_millionths():
    tensors = _tensors(n_out=384, n_in=192, n_batch=2, length=200)
    exact = functional.conv1d(*[each.double() for each in tensors], 1, 2)
    error = wide_conv1d(*tensors, 1, 2).double() - exact
    assert error.square().mean().sqrt() < 3e-6 * exact.square().mean().sqrt()
    assert error.abs().max() < 1e-5 * exact.abs().max()


@pytest.mark.parametrize(("changes", "stride", "padding", "taken"), [
    ({}, 1, 2, True), ({"n_taps": 3}, 1, 1, False), ({"length": 100}, 1, 2, False), ({"n_in": 96}, 1, 2, False), ({}, 3, 2, False),
    ({}, 1, 0, False),
])  # fmt: skip
def test_tiles_are_for_many_positions_of_five_taps_alone(changes, stride, padding, taken, monkeypatch):
    calls, lay_out = [], wide_conv._to_tiles
    monkeypatch.setattr(wide_conv, "_to_tiles", lambda *arguments: calls.append(arguments) or lay_out(*arguments))
    tensors = _tensors(**({"n_out": 384, "n_in": 192, "n_batch": 2, "length": 150} | changes))
    torch.testing.assert_close(wide_conv1d(*tensors, stride, padding), functional.conv1d(*tensors, stride, padding), rtol=1e-4, atol=1e-4)
    assert bool(calls) == taken


def test_tiles_give_no_gradients_to_frozen_weights():
    inputs, weight, bias = _tensors(n_out=384, n_in=192, length=100)
    wide_conv1d(inputs, weight.requires_grad_(False), bias.requires_grad_(False), 1, 2).sum().backward()
    assert inputs.grad.abs().sum() > 0
    assert weight.grad is None and bias.grad is None


@pytest.mark.parametrize("options", [{"groups": 2}, {"dilation": 2}, {"stride": 3}, {"bias": False}])
def test_a_layer_with_any_options_is_the_librarys(options):
    layer = WideConv1d(256, 512, 5, padding=2, **options)
    inputs = torch.randn(3, 256, 100, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(inputs), torch.nn.Conv1d.forward(layer, inputs), rtol=1e-4, atol=1e-5)
