"""The optional adversarial stage: discriminators, and the losses between them and the codec.

Two kinds of discriminators, each at several scales: complex STFT discriminators (EnCodec,
arXiv:2210.13438, section 3.4) see pitch, bandwidth and phase; multi-period discriminators
(HiFi-GAN, arXiv:2010.05646, section 2.3) see periodic patterns. They are narrower than in the
papers and reduce the spectrum at once, in the first layer, so that training on a CPU is affordable.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from train.objective.losses import SPECTRUM_COMPRESSION

SLOPE = 0.2
"""Slope of the leaky ReLU below zero."""

PATCH_FRAMES, PATCH_BINS = 4, 32
"""Size of the patches of a spectrum that the first layer sees; they overlap by half."""
# Of the hidden layers, along time: with the longest window they see more than half a second.
HIDDEN_DILATIONS = (1, 2, 4)
PERIOD_WIDTHS = (1, 2, 4, 4)
# Relative to noise of full scale. It keeps gradients finite at silence.
POWER_FLOOR = 1e-6
# Features of silence are as small as the biases: relative to those, any difference is huge.
FEATURE_FLOOR = 1e-3


class Judgement(NamedTuple):
    """Output of one discriminator for a batch.

    Attributes:
        score: one value per patch of sound, high for real; any shape with the batch (or batch
            times period) first.
        features: output of each hidden layer, for `feature_loss`.
    """

    score: Tensor
    features: list[Tensor]


class Discriminators(nn.Module):
    """All discriminators of a recipe: audio ``[B, 1, N]``, of any length, to a judgement of each.

    Args:
        channels: width of each discriminator's first layer.
        stft_windows: windows of the complex STFT discriminators.
        periods: periods of the multi-period discriminators.

    Example:
        >>> discriminators = Discriminators(channels=2, stft_windows=(64,), periods=(2, 3))
        >>> len(discriminators(torch.zeros(1, 1, 500)))
        3
    """

    discriminators: Sequence[nn.Module]

    def __init__(self, channels: int, stft_windows: Sequence[int], periods: Sequence[int]) -> None:
        super().__init__()
        discriminators: list[nn.Module] = [
            *(SpectrumDiscriminator(channels, window) for window in stft_windows),
            *(PeriodDiscriminator(channels, period) for period in periods),
        ]
        self.discriminators = cast("Sequence[nn.Module]", nn.ModuleList(discriminators))

    def forward(self, audio: Tensor) -> list[Judgement]:
        """Judgements of the STFT discriminators first, each kind in the order of its argument."""
        return [discriminator(audio) for discriminator in self.discriminators]


class SpectrumDiscriminator(nn.Module):
    """2-D convolutions over a complex spectrum, real and imaginary part as channels.

    Magnitudes are compressed as in the complex loss, otherwise weak high frequencies have no
    influence. On crops coded at 6 kbit/s a long window then separated real from decoded with an
    area under the curve of 1.00 after 100 steps; without compression it was .66 after 400.

    The first layer takes overlapping patches of four frames and up to 32 bins, which costs little
    because all further layers are as small as the grid of patches.
    """

    def __init__(self, channels: int, window: int) -> None:
        super().__init__()
        hann = torch.hann_window(window)
        # Noise of unit power then has unit power in every bin, whatever the window.
        self.register_buffer("window", hann / hann.square().sum().sqrt(), persistent=False)
        size = (PATCH_FRAMES, min(PATCH_BINS, window // 16 * 4))
        stride, padding = ((PATCH_FRAMES // n, size[1] // n) for n in (2, 4))
        layers: list[nn.Module] = [
            nn.Conv2d(2, channels, size, stride=stride, padding=padding),
            *(
                nn.Conv2d(channels, channels, 3, padding=(dilation, 1), dilation=(dilation, 1))
                for dilation in HIDDEN_DILATIONS
            ),
        ]
        self.layers = nn.ModuleList(_normalised(layer) for layer in layers)
        self.head = _normalised(nn.Conv2d(channels, 1, 3, padding=1), is_head=True)

    def forward(self, audio: Tensor) -> Judgement:
        window = self.get_buffer("window")
        audio = F.pad(audio, (0, max(0, len(window) - audio.shape[-1])))
        spectrum = torch.stft(
            audio.squeeze(1),
            len(window),
            len(window) // 4,
            window=window,
            pad_mode="constant",
            return_complex=True,
        )
        power = spectrum.real.square() + spectrum.imag.square()
        spectrum = spectrum * (power + POWER_FLOOR) ** ((SPECTRUM_COMPRESSION - 1) / 2)
        return _apply(rearrange(torch.view_as_real(spectrum), "b f t c -> b c t f"), self)


class PeriodDiscriminator(nn.Module):
    """1-D convolutions over every ``period``-th sample, from each of the ``period`` first ones."""

    def __init__(self, channels: int, period: int) -> None:
        super().__init__()
        self.period = period
        widths = [1, *(channels * factor for factor in PERIOD_WIDTHS)]
        layers: list[nn.Module] = [
            nn.Conv1d(narrow, wide, 5, stride=3, padding=2)
            for narrow, wide in itertools.pairwise(widths)
        ]
        self.layers = nn.ModuleList(_normalised(layer) for layer in layers)
        self.head = _normalised(nn.Conv1d(widths[-1], 1, 3, padding=1), is_head=True)

    def forward(self, audio: Tensor) -> Judgement:
        audio = F.pad(audio, (0, -audio.shape[-1] % self.period))
        return _apply(rearrange(audio, "b 1 (t p) -> (b p) 1 t", p=self.period), self)


def discriminator_loss(real: list[Judgement], decoded: list[Judgement], kind: str) -> Tensor:
    """Loss of the discriminators: mean over them, zero when real and decoded are separated.

    Args:
        real: judgements of original audio.
        decoded: judgements of decoded audio, which is detached from the codec.
        kind: ``hinge`` (as in EnCodec, section 3.4) or ``least_squares`` (as in HiFi-GAN,
            eq. 1).
    """
    if kind == "hinge":
        terms = [
            F.relu(1 - a.score).mean() + F.relu(1 + b.score).mean() for a, b in zip(real, decoded)
        ]
    else:
        terms = [
            (a.score - 1).square().mean() + b.score.square().mean() for a, b in zip(real, decoded)
        ]
    return torch.stack(terms).mean()


def adversarial_loss(decoded: list[Judgement], kind: str) -> Tensor:
    """Loss of the codec: mean over discriminators, zero when all classify decoded audio as real.

    Args:
        decoded: judgements of decoded audio.
        kind: ``hinge`` (EnCodec, section 3.4) or ``least_squares`` (HiFi-GAN, eq. 2).
    """
    if kind == "hinge":
        terms = [F.relu(1 - judgement.score).mean() for judgement in decoded]
    else:
        terms = [(judgement.score - 1).square().mean() for judgement in decoded]
    return torch.stack(terms).mean()


def feature_loss(real: list[Judgement], decoded: list[Judgement]) -> Tensor:
    """Mean over all hidden layers of the L1 distance relative to the real features' size.

    EnCodec (arXiv:2210.13438), eq. 2. No gradient flows to the features of the real audio.
    """
    terms = [
        (a.detach() - b).abs().mean(dtype=torch.float32)
        / (a.detach().abs().mean(dtype=torch.float32) + FEATURE_FLOOR)
        for one, other in zip(real, decoded)
        for a, b in zip(one.features, other.features)
    ]
    return torch.stack(terms).mean()


def _apply(x: Tensor, discriminator: SpectrumDiscriminator | PeriodDiscriminator) -> Judgement:
    features = []
    for layer in discriminator.layers:
        x = F.leaky_relu(layer(x), SLOPE)
        features.append(x)
    return Judgement(discriminator.head(x).float(), features)


def _normalised(layer: nn.Module, *, is_head: bool = False) -> nn.Module:
    """A convolution with normalised weights: He initialisation, or Xavier for a head."""
    assert isinstance(layer, nn.Conv1d | nn.Conv2d) and layer.bias is not None
    if is_head:
        nn.init.xavier_normal_(layer.weight)
    else:
        nn.init.kaiming_normal_(layer.weight, a=SLOPE, nonlinearity="leaky_relu")
    nn.init.zeros_(layer.bias)
    normalised: nn.Module = weight_norm(layer)
    return normalised
