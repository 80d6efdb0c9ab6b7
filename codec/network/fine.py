"""`FineSynthesis`: a second synthesis stage with a fine time resolution, for voices.

The transform of the first stage has windows of 20 ms, in which two to four pulses of a voice lie:
the signs of all coefficients would have to be right to put them in place. Here windows are 5 ms
long, and a network sees and shapes single pulses (compare the short transforms of MDCTCodec,
arXiv:2411.00464, and the filters of NoLACE, arXiv:2309.14521).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec.network.excitation import EarlierPeriods, Excitation, PitchHead, pitch_of
from codec.network.lapped import (
    InverseShortTimeTransform,
    ShortTimeTransform,
    compand_complex,
    expand_complex,
    power,
)
from codec.network.layers import (
    CausalConv1d,
    Chain,
    ResidualUnit,
    RMSNorm,
    State,
    init_linear,
    init_zero,
)
from codec.network.span import Span, compose

PERIODS = 2
"""Number of earlier periods that are added."""
ADDED = PERIODS + 1
"""Spectra that are added to that of the audio: those of earlier periods and of the pulses."""

ENVELOPE_FRAMES = 6
ENVELOPE_FLOOR = 1e-5
EXCITATION_SCALE = 0.5
"""Level of the pulses at the input of the network, next to companded spectra."""


class FineSynthesis(nn.Module):
    """Shape decoded audio and an excitation in frames of a few milliseconds.

        audio     -> spectrum -------------------------------.
                  -> one, two periods ago -> spectra --------+-> residual units -> gains, changes
        pulses    -> spectrum -------------------------------+
        features  -> conditions -----------------------------'

        gain * audio + gains * audio of earlier periods + gain * envelope * pulses + change
        -> inverse transform -> audio

    All gains are by frame and frequency; those of what is added are complex, so that its phase can
    be turned. The envelope is that of the audio, so that the gain of the pulses does not depend on
    level. Without training, the audio passes unchanged.

    A frame of the features, which have so many channels, lasts ``block`` samples, one of this stage
    ``stride``, a divisor of that. Its residual units are ``width`` channels wide, with one kernel
    size and a dilation for each. The sampling rate is in Hz.
    """

    def __init__(
        self,
        channels: int,
        *,
        block: int,
        stride: int,
        width: int,
        kernel_size: int,
        dilations: Sequence[int],
        sample_rate: int,
    ) -> None:
        super().__init__()
        self.block, self.stride, self.bins = block, stride, stride + 1
        self.analysis = ShortTimeTransform(stride)
        self.synthesis = InverseShortTimeTransform(stride)
        self.pitch = PitchHead(channels)
        self.excitation = Excitation(block, sample_rate)
        self.earlier = EarlierPeriods(PERIODS, sample_rate)
        self.conditions = 3 * width // 4
        self.condition = nn.Linear(channels, self.conditions * (block // stride))
        init_linear(self.condition, fan_in=channels, before="none")
        spectra = 2 * self.bins * (1 + ADDED)
        self.enter = CausalConv1d(spectra + self.conditions, width)
        self.units = Chain(ResidualUnit(width, kernel_size, dilation) for dilation in dilations)
        self.norm = RMSNorm(width)
        self.hidden = nn.Linear(width, width)
        init_linear(self.hidden, fan_in=width, before="silu")
        self.gain = nn.Linear(width, self.bins)
        self.gains = nn.Linear(width, ADDED * 2 * self.bins)
        self.change = nn.Linear(width, 2 * self.bins)
        for layer in (self.gain, self.gains, self.change):
            init_zero(layer)

    @property
    def span(self) -> Span:
        """In blocks. The pitch and the phase of the excitation look back further than the audio."""
        ratio = self.block // self.stride
        # The spectrum and the envelope see some frames back.
        analysis = Span(receptive_field=ENVELOPE_FRAMES + 1)
        network = [analysis, self.enter.span, self.units.span, self.synthesis.span]
        after = compose([Span(stride=Fraction(1, ratio)), *network])
        reach = -(-self.earlier.reach // self.block)
        pitch = self.pitch.conv.context + self.excitation.receptive_field
        field = after.receptive_field
        assert field is not None
        return Span(
            stride=Fraction(1, self.block),
            latency=Fraction(self.stride, self.block),
            receptive_field=field + reach + max(reach, pitch),
        )

    def init_state(self, batch: int) -> State:
        power = self.analysis.basis.new_zeros(batch, ENVELOPE_FRAMES - 1, self.bins)
        return (
            self.pitch.init_state(batch),
            self.excitation.init_state(batch),
            self.earlier.init_state(batch),
            tuple(self.analysis.init_state(batch) for _ in range(1 + ADDED)),
            power,
            self.enter.init_state(batch),
            self.units.init_state(batch),
            self.synthesis.init_state(batch),
        )

    def forward(self, audio: Tensor, features: Tensor, state: State) -> tuple[Tensor, State]:
        """Audio ``[B, T * block, 1]`` and features ``[B, T, C]`` of the first stage, a piece.

        Returns:
            Audio ``[B, T * block, 1]``, ``stride`` samples later, and the state.
        """
        pitch, excitation, earlier, spectra, powers, enter, units, tail = state
        logits, pitch = self.pitch(features, pitch)
        hertz = pitch_of(logits.detach())
        pulses, period, excitation = self.excitation(audio.detach(), hertz, excitation)
        periods, earlier = self.earlier(audio.detach(), period, earlier)
        pairs = map(self.analysis, (audio, *periods, pulses), spectra)
        (spectrum, *added, pulse), spectra = zip(*pairs, strict=True)
        envelope, powers = self._envelope(spectrum, powers)

        seen = [*map(compand_complex, (spectrum, *added)), EXCITATION_SCALE * pulse]
        normal = F.rms_norm(features, features.shape[-1:], eps=0.01)
        conditions = self.condition(normal).reshape(audio.shape[0], -1, self.conditions)
        x = torch.cat((*(each.flatten(2) for each in seen), conditions), dim=-1)
        x, enter = self.enter(x, enter)
        x, units = self.units(x, units)
        hidden = F.silu(self.hidden(self.norm(x)))
        gain, gains, change = self.gain(hidden), self.gains(hidden), self.change(x)
        with torch.autocast(x.device.type, enabled=False):
            out = spectrum * (2 * gain.float().sigmoid())[..., None, :]
            out = out + expand_complex(change.float().reshape(out.shape))
            turns = (2 * gains.float().tanh()).chunk(ADDED, dim=-1)
            for each, turn in zip((*added, envelope * pulse), turns, strict=True):
                out = out + complex_product(each, turn.reshape(out.shape))
            out, tail = self.synthesis(out, tail)
        return out, (pitch, excitation, earlier, spectra, powers, enter, units, tail)

    def _envelope(self, spectrum: Tensor, powers: State) -> tuple[Tensor, Tensor]:
        """Smoothed magnitudes ``[B, T, 1, bins]`` of a spectrum, and the state."""
        assert isinstance(powers, Tensor)
        num_frames = spectrum.shape[1]
        bands = power(spectrum).squeeze(2)
        bands = torch.cat((bands[..., :1], bands, bands[..., -1:]), dim=-1)
        bands = (bands[..., :-2] + 2 * bands[..., 1:-1] + bands[..., 2:]) / 4
        bands = torch.cat((powers, bands), dim=1)
        mean = bands.narrow(1, 0, num_frames)
        for back in range(1, ENVELOPE_FRAMES):
            mean = mean + bands.narrow(1, back, num_frames)
        mean = mean / ENVELOPE_FRAMES
        return (mean + ENVELOPE_FLOOR**2).sqrt()[:, :, None], bands[:, num_frames:]


def complex_product(a: Tensor, b: Tensor) -> Tensor:
    """Product of spectra ``[..., 2, bins]``, whose parts are real and imaginary."""
    (a_real, a_imaginary), (b_real, b_imaginary) = (each.chunk(2, dim=-2) for each in (a, b))
    real = a_real * b_real - a_imaginary * b_imaginary
    imaginary = a_real * b_imaginary + a_imaginary * b_real
    return torch.cat((real, imaginary), dim=-2)
