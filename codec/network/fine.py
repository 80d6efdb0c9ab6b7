"""`FineSynthesis`: a second synthesis stage with a fine time resolution, for voices.

The transform of the first stage has windows of 20 ms, in which two to four pulses of a voice lie:
the signs of all coefficients would have to be right to put them in place. Here frames are 2.5 ms
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
from codec.network.lapped import MDCT, InverseMDCT, compand, expand
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
SPECTRA = 1 + PERIODS + 2
"""Spectra that the network sees and scales: audio, earlier periods, pulses and transforms."""

ENVELOPE_FRAMES = 6
ENVELOPE_FLOOR = 1e-5
EXCITATION_SCALE = 0.5
"""Level of the excitation at the input of the network, next to companded coefficients."""


class FineSynthesis(nn.Module):
    """Shape decoded audio and an excitation in frames of a few milliseconds.

        audio      -> MDCT ---------------------.
                   -> one, two periods ago -> MDCT
        pulses     -> MDCT ---------------------+-> residual units -> gains and changes
        features   -> conditions ---------------'

        gain * audio + gains * audio of earlier periods + envelope * (gains * pulses) + change
        -> inverse MDCT -> audio

    All gains are by frame and coefficient. The envelope is that of the audio, so that the gains of
    the pulses do not depend on level. Without training, the audio passes unchanged.

    Args:
        channels: channels of the features.
        block: samples per frame of the features.
        stride: samples per frame of this stage, a divisor of ``block``.
        width: channels of its residual units.
        kernel_size: taps of their convolutions.
        dilations: dilation of each.
        sample_rate: in Hz.
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
        self.block, self.stride = block, stride
        self.analysis, self.synthesis = MDCT(stride), InverseMDCT(stride)
        self.pitch = PitchHead(channels)
        self.excitation = Excitation(block, sample_rate)
        self.earlier = EarlierPeriods(PERIODS, sample_rate)
        self.conditions = 3 * width // 4
        self.condition = nn.Linear(channels, self.conditions * (block // stride))
        init_linear(self.condition, fan_in=channels, before="none")
        self.enter = CausalConv1d(SPECTRA * stride + self.conditions, width, 2)
        self.units = Chain(ResidualUnit(width, kernel_size, dilation) for dilation in dilations)
        self.norm = RMSNorm(width)
        self.hidden = nn.Linear(width, width)
        init_linear(self.hidden, fan_in=width, before="silu")
        self.gains = nn.Linear(width, SPECTRA * stride)
        init_zero(self.gains)
        self.change = nn.Linear(width, stride)
        init_zero(self.change)

    @property
    def span(self) -> Span:
        """In blocks. The pitch and the phase of the excitation look back further than the audio."""
        ratio = self.block // self.stride
        network = [self.enter.span, self.units.span, self.synthesis.span]
        after = compose([Span(stride=Fraction(1, ratio)), self.analysis_span, *network])
        reach = -(-self.earlier.reach // self.block)
        pitch = self.pitch.conv.context + self.excitation.receptive_field
        before = reach + max(reach, pitch)
        field = after.receptive_field
        assert field is not None
        return Span(
            stride=Fraction(1, self.block),
            latency=Fraction(self.stride, self.block),
            receptive_field=field + before,
        )

    @property
    def analysis_span(self) -> Span:
        """Of the short transform, in its frames: it and the envelope see some frames back."""
        return Span(receptive_field=ENVELOPE_FRAMES + 1)

    def init_state(self, batch: int) -> State:
        """The state before any audio."""
        power = self.analysis.basis.new_zeros(batch, ENVELOPE_FRAMES - 1, self.stride)
        return (
            self.pitch.init_state(batch),
            self.excitation.init_state(batch),
            self.earlier.init_state(batch),
            tuple(self.analysis.init_state(batch) for _ in range(SPECTRA)),
            power,
            self.enter.init_state(batch),
            self.units.init_state(batch),
            self.synthesis.init_state(batch),
        )

    def forward(self, audio: Tensor, features: Tensor, state: State) -> tuple[Tensor, State]:
        """One piece.

        Args:
            audio: ``[B, T * block, 1]`` of the first stage.
            features: ``[B, T, C]``, its features.
            state: from `init_state`, or from the call with the previous piece.

        Returns:
            Audio ``[B, T * block, 1]``, ``stride`` samples later, and the state.
        """
        assert isinstance(state, tuple)
        pitch, excitation, earlier, spectra, powers, enter, units, tail = state
        assert isinstance(spectra, tuple)
        logits, pitch = self.pitch(features, pitch)
        excited, excitation = self.excitation(audio.detach(), pitch_of(logits.detach()), excitation)
        periods, earlier = self.earlier(audio.detach(), excited.period, earlier)
        sources = [audio, *periods, excited.pulses, excited.transforms]
        pairs = [self.analysis(source, each) for source, each in zip(sources, spectra, strict=True)]
        (spectrum, *periods, pulse, transform), spectra = zip(*pairs, strict=True)
        envelope, powers = self._envelope(spectrum, powers)

        seen = [compand(each) for each in (spectrum, *periods)]
        seen += [EXCITATION_SCALE * pulse, EXCITATION_SCALE * transform]
        normal = F.rms_norm(features, features.shape[-1:], eps=0.01)
        conditions = self.condition(normal).reshape(len(audio), -1, self.conditions)
        x, enter = self.enter(torch.cat((*seen, conditions), dim=-1), enter)
        x, units = self.units(x, units)
        gains = self.gains(F.silu(self.hidden(self.norm(x)))).float()
        with torch.autocast(x.device.type, enabled=False):
            keep, *others = gains.split(self.stride, dim=-1)
            scaled = [*periods, envelope * pulse, envelope * transform]
            out = spectrum * (2 * keep.sigmoid()) + expand(self.change(x.float()))
            for each, gain in zip(scaled, others, strict=True):
                out = out + each * (2 * gain.tanh())
            out, tail = self.synthesis(out, tail)
        return out, (pitch, excitation, earlier, spectra, powers, enter, units, tail)

    def _envelope(self, spectrum: Tensor, powers: State) -> tuple[Tensor, Tensor]:
        """Smoothed magnitudes ``[B, T, stride]`` of coefficients, whose signs and phases vary."""
        assert isinstance(powers, Tensor)
        num_frames = spectrum.shape[1]
        bands = spectrum.square()
        bands = torch.cat((bands[..., :1], bands, bands[..., -1:]), dim=-1)
        bands = (bands[..., :-2] + 2 * bands[..., 1:-1] + bands[..., 2:]) / 4
        bands = torch.cat((powers, bands), dim=1)
        frames = [bands.narrow(1, back, num_frames) for back in range(ENVELOPE_FRAMES)]
        mean = torch.stack(frames).mean(0)
        return (mean + ENVELOPE_FLOOR**2).sqrt(), bands[:, num_frames:]
