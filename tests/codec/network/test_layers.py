"""The streaming contract, on every layer and on whole networks: outputs, gradients, causality."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from codec.network.layers import (
    CausalConv1d,
    CausalConvTranspose1d,
    Chain,
    LappedAnalysis,
    LappedSynthesis,
    Layer,
    RecurrentUnit,
    ResidualUnit,
    compand,
    expand,
    init_linear,
    mdct,
)
from codec.network.model import Codec

# Different lengths add up floats in different orders. Sums that nearly cancel (the gradient of a
# bias, say) keep the absolute error of their terms.
TOLERANCE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}

# Each with the width of its input and the frames it takes at a time.
LAYERS: dict[str, tuple[Layer, int, int]] = {
    "pointwise": (CausalConv1d(3, 5), 3, 1),
    "conv": (CausalConv1d(3, 5, 4), 3, 1),
    "dilated": (CausalConv1d(3, 5, 3, dilation=4), 3, 1),
    "strided": (CausalConv1d(3, 5, 2, stride=4), 3, 4),
    "strided and dilated": (CausalConv1d(2, 5, 3, stride=3, dilation=2), 2, 3),
    "transposed": (CausalConvTranspose1d(3, 5, stride=4), 3, 1),
    "residual": (ResidualUnit(6, 3, 5), 6, 1),
    "gru": (RecurrentUnit(6, "gru"), 6, 1),
    "lstm": (RecurrentUnit(6, "lstm"), 6, 1),
    "analysis": (LappedAnalysis(7, stride=6), 1, 6),
    "synthesis": (LappedSynthesis(7, stride=6), 7, 1),
    "chain": (Chain([CausalConv1d(2, 4, 2, stride=2), ResidualUnit(4, 3, 2)]), 2, 2),
}


KINDS = ("gru", "lstm")


def in_pieces(layer: Layer, x: Tensor, lengths: list[int], step: int) -> Tensor:
    state = layer.init_state(len(x))
    pieces = []
    for piece in x.split([step * length for length in lengths], dim=1):
        y, state = layer(piece, state)
        pieces.append(y)
    return torch.cat(pieces, dim=1)


def assert_split_invariant(layer: Layer, channels: int, step: int) -> None:
    """Whole or in pieces: the same outputs, and the same gradients of input and weights."""
    torch.manual_seed(0)
    layer = copy.deepcopy(layer)
    assert isinstance(layer, torch.nn.Module)
    layer.requires_grad_(True)
    for parameter in layer.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)  # what starts at zero hides faults
    total = 13
    results = []
    x0 = torch.randn(2, total * step, channels)
    for lengths in ([total], [1] * total, [1, 4, 5, 3], [7, 6], [0, 12, 0, 1]):
        x = x0.clone().requires_grad_()
        y = in_pieces(layer, x, lengths, step)
        weights = torch.linspace(-1, 1, y.numel()).reshape(y.shape)
        results.append([y, *torch.autograd.grad((y * weights).sum(), [x, *layer.parameters()])])
    for result in results[1:]:
        for value, expected in zip(result, results[0], strict=True):
            torch.testing.assert_close(value, expected, **TOLERANCE)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_does_not_see_how_its_input_is_cut(name: str) -> None:
    assert_split_invariant(*LAYERS[name])


def test_encoder_and_decoder_do_not_see_how_their_input_is_cut(codec: Codec) -> None:
    hop, dim = codec.config.hop_length, codec.config.latent_dim
    for part, channels, step in ((codec.encoder, 1, hop), (codec.decoder, dim, 1)):
        assert_split_invariant(part, channels, step)


@pytest.mark.parametrize("name", LAYERS)
def test_the_future_does_not_change_the_past(name: str) -> None:
    layer, channels, step = LAYERS[name]
    x = torch.randn(1, 12 * step, channels)
    changed = x.clone()
    changed[:, 7 * step :] += 1
    before, after = in_pieces(layer, x, [12], step), in_pieces(layer, changed, [12], step)
    rate = before.shape[1] // 12
    assert torch.equal(before[:, : 7 * rate], after[:, : 7 * rate])
    assert not torch.equal(before[:, 7 * rate :], after[:, 7 * rate :])


def test_convolutions_equal_those_of_torch() -> None:
    conv = CausalConv1d(3, 5, 3, dilation=2)
    x = torch.randn(2, 11, 3)
    kernel = conv.linear.weight.reshape(5, 3, 3).transpose(1, 2)
    padded = torch.nn.functional.pad(x.mT, (4, 0))
    expected = torch.nn.functional.conv1d(padded, kernel, conv.linear.bias, dilation=2).mT
    torch.testing.assert_close(conv(x, conv.init_state(2))[0], expected, **TOLERANCE)

    up = CausalConvTranspose1d(3, 5, stride=4)
    kernel = up.linear.weight.reshape(8, 5, 3).permute(2, 1, 0)
    expected = torch.nn.functional.conv_transpose1d(x.mT, kernel, up.bias, stride=4).mT[:, :-4]
    torch.testing.assert_close(up(x, up.init_state(2))[0], expected, **TOLERANCE)


def test_analysis_is_an_mdct_that_synthesis_inverts() -> None:
    """Overlap and add cancel the aliasing: all but one stride of delay comes back."""
    stride = 8
    analysis, synthesis = (
        LappedAnalysis(stride, stride=stride),
        LappedSynthesis(stride, stride=stride),
    )
    with torch.no_grad():
        for linear in (analysis.project, synthesis.head):
            linear.weight.copy_(torch.eye(stride))
            linear.bias.zero_()
    x = torch.randn(2, 10 * stride, 1)
    features, _ = analysis(x, analysis.init_state(2))
    y, _ = synthesis(features, synthesis.init_state(2))
    torch.testing.assert_close(y[:, stride:], x[:, :-stride], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("layer", [ResidualUnit(6, 3, 2), *(RecurrentUnit(6, k) for k in KINDS)])
def test_a_unit_starts_as_the_identity(layer: ResidualUnit | RecurrentUnit) -> None:
    x = torch.randn(2, 7, 6)
    assert torch.equal(layer(x, layer.init_state(2))[0], x)


@torch.no_grad()
def test_a_start_keeps_the_power_of_a_signal() -> None:
    """Through a layer, and through one with a rectifier after it; the rectifier halves power."""
    torch.manual_seed(0)
    x = torch.randn(100, 400)
    layer = torch.nn.Linear(400, 500)
    init_linear(layer, fan_in=400, before="none")
    assert 0.95 < layer(x).square().mean() < 1.05
    init_linear(layer, fan_in=400, before="silu")
    assert 0.95 < layer(x).relu().square().mean() < 1.05
    assert not layer.bias.any()
    widths = {
        "plain": CausalConv1d(20, 500, 5).linear,
        "unit": ResidualUnit(100, 5, 1).conv.linear,
    }
    for name, gain in (("plain", 1), ("unit", 2**0.5)):
        deviation = float(widths[name].weight.std()) * widths[name].in_features ** 0.5
        assert deviation == pytest.approx(gain, rel=0.05)


@pytest.mark.parametrize("stride", [1, 6, 240])
def test_the_mdct_reconstructs_perfectly(stride: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 9 * stride)
    basis = mdct(stride)
    frames = x.unfold(1, 2 * stride, stride) @ basis.T @ basis
    overlapped = frames[:, :-1, stride:] + frames[:, 1:, :stride]
    expected = x[:, stride:-stride].reshape(1, -1, stride)
    torch.testing.assert_close(overlapped, expected, **TOLERANCE)


def test_expand_undoes_compand_where_it_is_heard() -> None:
    x = torch.cat((-torch.logspace(-2, 1, 50), torch.logspace(-2, 1, 50)))
    ratio = expand(compand(x)) / x
    assert ratio.min() > 0.9 and ratio.max() < 1.3
    zero = torch.zeros(1, requires_grad=True)
    (gradient,) = torch.autograd.grad(expand(compand(zero)).sum(), zero)
    assert gradient.isfinite().all() and gradient > 0
