"""The contract of layers, measured on every layer and on whole networks.

Outputs and gradients do not depend on how the input is cut into pieces, the future does not change
the past, and stride, latency and receptive field are what the layer states.
"""

from __future__ import annotations

import copy
import dataclasses
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor

from codec.config import CodecConfig
from codec.network.lapped import (
    MDCT,
    InverseMDCT,
    InverseShortTimeTransform,
    LappedAnalysis,
    ShortTimeTransform,
    SpectrumHead,
    compand,
    expand,
    mdct_basis,
)
from codec.network.layers import (
    CausalConv1d,
    CausalConvTranspose1d,
    Chain,
    Layer,
    RecurrentUnit,
    ResidualUnit,
    State,
    init_linear,
)
from codec.network.model import Codec, Encoder
from codec.network.span import Span, compose
from tests.conftest import FSQ, GRU, LADDER, LAPPED, LSTM, VAE

# Different lengths sum floats in different orders. Sums that nearly cancel, such as the gradient of
# a bias, keep the absolute error of their terms.
TOLERANCE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}


class Flat(torch.nn.Module):
    """Real and imaginary parts as channels."""

    span = Span()

    def init_state(self, batch: int) -> State:
        return ()

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return x.flatten(2), ()


class Unflat(Flat):
    """The inverse of `Flat`."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return x.unflatten(2, (2, self.stride + 1)), ()


# Each layer with the channels of its input and the number of frames that it takes at a time.
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
    "mdct": (MDCT(6), 1, 6),
    "odd mdct": (MDCT(5), 1, 5),
    "inverse mdct": (InverseMDCT(6), 6, 1),
    "short-time transform": (Chain([ShortTimeTransform(6), Flat()]), 1, 6),
    "inverse short-time transform": (Chain([Unflat(6), InverseShortTimeTransform(6)]), 14, 1),
    "analysis": (LappedAnalysis(7, stride=6), 1, 6),
    "head": (SpectrumHead(7, stride=6), 7, 1),
    "chain": (Chain([CausalConv1d(2, 4, 2, stride=2), ResidualUnit(4, 3, 2)]), 2, 2),
    "chain that upsamples twice": (
        Chain(
            [
                CausalConv1d(3, 4, 2),
                CausalConvTranspose1d(4, 3, stride=3),
                CausalConvTranspose1d(3, 2, stride=4),
                CausalConv1d(2, 2, 3, dilation=4),
            ]
        ),
        3,
        1,
    ),
    "chain there and back": (
        Chain(
            [
                CausalConv1d(2, 4, 2, stride=6),
                CausalConvTranspose1d(4, 3, stride=2),
                ResidualUnit(3, 2, 2),
                CausalConvTranspose1d(3, 1, stride=3),
            ]
        ),
        2,
        6,
    ),
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
        parameter.data += 0.1 * torch.randn_like(parameter)  # zeros would hide faults
    total = 13
    results = []
    x0 = torch.randn(2, total * step, channels)
    for lengths in ([total], [1] * total, [1, 4, 5, 3], [7, 6], [0, 12, 0, 1]):
        x = x0.clone().requires_grad_()
        y = in_pieces(layer, x, lengths, step)
        weights = torch.linspace(-1, 1, y.numel()).reshape(y.shape)
        loss, inputs = (y * weights).sum(), [x, *layer.parameters()]
        # The pitch of an excitation learns from a loss of its own.
        results.append([y, *torch.autograd.grad(loss, inputs, materialize_grads=True)])
    for result in results[1:]:
        for value, expected in zip(result, results[0], strict=True):
            torch.testing.assert_close(value, expected, **TOLERANCE)


@pytest.mark.parametrize("name", LAYERS)
def test_the_output_of_a_layer_does_not_depend_on_how_its_input_is_cut(name: str) -> None:
    assert_split_invariant(*LAYERS[name])


def test_encoder_and_decoder_do_not_depend_on_how_their_input_is_cut(codec: Codec) -> None:
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


def test_the_mdct_frame_is_that_of_its_basis() -> None:
    mdct, x = MDCT(6), torch.randn(1, 18, 1)
    frames, state = mdct(x, mdct.init_state(1))
    torch.testing.assert_close(frames[0, 1], mdct.basis @ x[0, :12, 0], **TOLERANCE)
    assert isinstance(state, Tensor) and torch.equal(state, x[:, 12:].mT)


def test_the_transforms_have_no_weights() -> None:
    for transform in (MDCT(6), InverseMDCT(6)):
        assert not transform.state_dict()


@pytest.mark.parametrize("layer", [ResidualUnit(6, 3, 2), *(RecurrentUnit(6, k) for k in KINDS)])
def test_a_unit_starts_as_the_identity(layer: ResidualUnit | RecurrentUnit) -> None:
    x = torch.randn(2, 7, 6)
    assert torch.equal(layer(x, layer.init_state(2))[0], x)


@torch.no_grad()
def test_initialization_keeps_the_power_of_a_signal() -> None:
    """Through a linear layer alone, and through one followed by a rectifier, which halves it."""
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


@pytest.mark.parametrize("stride", [1, 5, 60])
def test_the_short_time_transform_reconstructs_perfectly(stride: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 9 * stride, 1)
    analysis, synthesis = ShortTimeTransform(stride), InverseShortTimeTransform(stride)
    spectrum, _ = analysis(x, analysis.init_state(2))
    assert spectrum.shape == (2, 9, 2, stride + 1)
    y, _ = synthesis(spectrum, synthesis.init_state(2))
    torch.testing.assert_close(y[:, stride:], x[:, :-stride], **TOLERANCE)


def test_a_bin_of_the_short_time_transform_is_that_of_torch() -> None:
    transform, x = ShortTimeTransform(8), torch.randn(1, 48, 1)
    spectrum, _ = transform(x, transform.init_state(1))
    window = torch.sin(torch.pi / 16 * (torch.arange(16) + 0.5)) / 8**0.5
    expected = torch.stft(x[..., 0], 16, 8, window=window, center=False, return_complex=True).mT
    torch.testing.assert_close(torch.complex(*spectrum[:, 1:].unbind(2)), expected, **TOLERANCE)


@pytest.mark.parametrize("stride", [1, 6, 240])
def test_the_mdct_reconstructs_perfectly(stride: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 9 * stride)
    basis = mdct_basis(stride)
    frames = x.unfold(1, 2 * stride, stride) @ basis.T @ basis
    overlapped = frames[:, :-1, stride:] + frames[:, 1:, :stride]
    expected = x[:, stride:-stride].reshape(1, -1, stride)
    torch.testing.assert_close(overlapped, expected, **TOLERANCE)


def test_expand_inverts_compand_at_audible_levels() -> None:
    x = torch.cat((-torch.logspace(-2, 1, 50), torch.logspace(-2, 1, 50)))
    ratio = expand(compand(x)) / x
    assert ratio.min() > 0.9 and ratio.max() < 1.3
    zero = torch.zeros(1, requires_grad=True)
    (gradient,) = torch.autograd.grad(expand(compand(zero)).sum(), zero)
    assert gradient.isfinite().all() and gradient > 0


# Stride, latency and receptive field

ODD = dataclasses.replace(
    LAPPED,
    strides=(15, 3),
    encoder_channels=(15, 45),
    decoder_channels=(15, 45),
    latent_dim=45,
    kernel_size=2,
    decoder_dilations=((1, 3), (2,)),
)
WIDE = dataclasses.replace(
    LADDER,
    strides=(4, 3, 5),
    encoder_channels=(4, 12, 60),
    decoder_channels=(4, 12, 60),
    latent_dim=60,
)
CONFIGS = {
    "lapped": LAPPED,
    "ladder": LADDER,
    "fsq": FSQ,
    "gru": GRU,
    "lstm": LSTM,
    "vae": VAE,
    "odd": ODD,
    "wide": WIDE,
    "one level": dataclasses.replace(
        LAPPED,
        strides=(7,),
        encoder_channels=(9,),
        decoder_channels=(5,),
        encoder_dilations=((2, 1),),
        decoder_dilations=((4,),),
    ),
}


def parts(config: CodecConfig) -> dict[str, tuple[Layer, int, int]]:
    """Encoder, decoder and both in sequence, as in `LAYERS`, with random weights."""
    torch.manual_seed(0)
    codec = Codec(config)
    hop, dim = config.hop_length, config.latent_dim
    # Without the quantizer, which is frame-wise and would block gradients.
    whole = Chain([codec.encoder, codec.decoder])
    return {
        "encoder": (codec.encoder, 1, hop),
        "decoder": (codec.decoder, dim, 1),
        "codec": (whole, 1, hop),
    }


def measured_stride_and_field(layer: Layer, channels: int, step: int) -> tuple[Fraction, int]:
    """Input frames per output frame, and the most that influence one output frame, by gradient."""
    torch.manual_seed(0)
    layer = copy.deepcopy(layer)
    assert isinstance(layer, torch.nn.Module)
    for parameter in layer.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)  # zeros would block gradients
    total = 12
    if layer.span.receptive_field is not None:
        total += -(-layer.span.receptive_field // step)
    x = torch.randn(1, total * step, channels, requires_grad=True)
    y, _ = layer(x, layer.init_state(1))
    per_step = y.shape[1] // total
    field = 0
    for position in range(1, per_step + 1):
        weights = torch.randn(y.shape[-1])
        (gradient,) = torch.autograd.grad(y[0, -position] @ weights, x, retain_graph=True)
        used = gradient[0].abs().sum(-1).nonzero()
        field = max(field, int(used[-1] - used[0]) + 1)
    return Fraction(x.shape[1], y.shape[1]), field


def assert_spans(layer: Layer, channels: int, step: int) -> None:
    stride, field = measured_stride_and_field(layer, channels, step)
    assert stride == layer.span.stride
    if layer.span.receptive_field is None:
        assert field == 12 * step  # the whole input
    else:
        assert field == layer.span.receptive_field


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_has_the_stride_and_receptive_field_that_it_states(name: str) -> None:
    assert_spans(*LAYERS[name])


@pytest.mark.parametrize("part", ["encoder", "decoder", "codec"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_codec_has_the_stride_and_receptive_field_that_it_states(name: str, part: str) -> None:
    layer, channels, step = parts(CONFIGS[name])[part]
    assert_spans(layer, channels, step)
    codec = Codec(CONFIGS[name])
    assert codec.span == compose([codec.encoder.span, codec.decoder.span])
    if part == "codec":
        assert codec.span == layer.span


def test_a_recurrent_layer_makes_the_receptive_field_unbounded() -> None:
    for config in (GRU, LSTM):
        codec = Codec(config)
        for span in (codec.encoder.span, codec.decoder.span, codec.span):
            assert span.receptive_field is None


def pass_through(layer: Any) -> Any:
    """A copy of a layer or network whose learned layers pass their newest input unchanged."""
    layer = copy.deepcopy(layer)
    with torch.no_grad():
        for module in layer.modules():
            if isinstance(module, CausalConv1d):
                module.linear.weight.zero_()
                torch.nn.init.eye_(module.linear.weight[:, -module.patch :])
            elif isinstance(module, CausalConvTranspose1d):
                torch.nn.init.eye_(module.linear.weight)  # the first half of a frame
            elif isinstance(module, LappedAnalysis | Encoder):
                torch.nn.init.eye_(module.project.weight)
            elif isinstance(module, SpectrumHead):
                torch.nn.init.eye_(module.head.weight)
    return layer


def measured_lag(x: Tensor, y: Tensor) -> int:
    """Samples by which ``y`` trails ``x``, by cross-correlation."""
    x, y = x.detach().flatten(), y.detach().flatten()
    products = [float(x[: len(x) - lag] @ y[lag:]) for lag in range(len(x) // 2)]
    return products.index(max(products))


@pytest.mark.parametrize(
    ("layer", "channels"),
    [
        (CausalConv1d(3, 12, 3, stride=4, dilation=2), 3),
        (CausalConvTranspose1d(12, 3, stride=4), 12),
        (ResidualUnit(6, 3, 5), 6),
        (RecurrentUnit(6, "gru"), 6),
        (RecurrentUnit(6, "lstm"), 6),
        (Chain([CausalConv1d(3, 12, 2, stride=4), CausalConvTranspose1d(12, 3, stride=4)]), 3),
        (Chain([MDCT(6), InverseMDCT(6)]), 1),
        (Chain([MDCT(5), InverseMDCT(5)]), 1),
        (Chain([ShortTimeTransform(6), InverseShortTimeTransform(6)]), 1),
        (Chain([ShortTimeTransform(5), InverseShortTimeTransform(5)]), 1),
        (Chain([LappedAnalysis(6, stride=6), SpectrumHead(6, stride=6), InverseMDCT(6)]), 1),
        (
            Chain(
                [
                    *(LappedAnalysis(6, stride=6), CausalConv1d(6, 18, 2, stride=3)),
                    *(CausalConvTranspose1d(18, 6, stride=3), SpectrumHead(6, stride=6)),
                    InverseMDCT(6),
                ]
            ),
            1,
        ),
    ],
)
def test_a_layer_that_passes_its_input_has_the_latency_that_it_states(
    layer: Layer, channels: int
) -> None:
    """A lapped transform is measured together with its inverse, which completes the samples."""
    torch.manual_seed(0)
    layer = pass_through(layer)
    x = torch.randn(1, 180, channels)
    y, _ = layer(x, layer.init_state(1))
    # In values, which strides only reorder: a frame of the input holds ``channels`` of them.
    assert measured_lag(x, y) == layer.span.latency * channels


@pytest.mark.parametrize("config", [ODD, WIDE, dataclasses.replace(ODD, recurrent="gru")])
def test_a_codec_that_passes_its_input_has_the_delay_that_it_states(config: CodecConfig) -> None:
    torch.manual_seed(0)
    codec = pass_through(Codec(config))
    x = torch.randn(1, 40 * config.hop_length, 1)
    latent, _ = codec.encoder(x, codec.encoder.init_state(1))
    y, _ = codec.decoder(latent, codec.decoder.init_state(1))
    assert measured_lag(x, y) == codec.span.latency == codec.delay - config.lookahead
    # `decode_latent` removes the delay, but for the lookahead, which no layer here uses.
    aligned = codec.decode_latent(latent, x.shape[1])
    assert measured_lag(aligned, x) == config.lookahead


@pytest.mark.parametrize("name", CONFIGS)
def test_files_of_earlier_versions_have_the_delay_of_their_layers(name: str) -> None:
    """Which the config derives without torch."""
    config = CONFIGS[name]
    delay = Codec(config).delay
    assert config.delay == delay
    values = config.to_dict()
    del values["lookahead"]
    again = CodecConfig.from_dict(values | {"delay": delay})
    assert again == config
    assert Codec(again).delay == delay


def test_composition_keeps_whole_frames() -> None:
    """One output frame never needs a fraction of an input frame."""
    up = Span(stride=Fraction(1, 3), receptive_field=2)
    assert compose([up]) == up and compose([]) == Span()
    assert compose([up, up]) == Span(stride=Fraction(1, 9), receptive_field=3)
    assert compose([up, Span(receptive_field=5)]).receptive_field == 4
    assert compose([up, Span(receptive_field=None)]).receptive_field is None
    late = Span(stride=Fraction(1, 3), latency=Fraction(1), receptive_field=2)
    assert compose([up, late]).latency == Fraction(1, 3)
