"""Excitation of voices: their pitch, pulses in phase with them, and the sound one period ago.

Voiced speech is a train of glottal pulses, filtered by the vocal tract. A decoder at a low bitrate
knows its pitch well, but cannot code where in a frame the pulses lie for every frequency; what it
decodes above 1 or 2 kHz is noise, and below there is noise between the harmonics. The pulses made
here have harmonics at all frequencies, and a network after them only has to filter them
(source-filter models: Fant, 1960; with neural filters: Wang et al., arXiv:1810.11946). Adding the
sound of earlier periods keeps what repeats and averages out noise (comb filters, as in NoLACE,
arXiv:2309.14521).
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec.network.layers import CausalConv1d, RMSNorm, State, init_zero

LOWEST_PITCH_HZ, HIGHEST_PITCH_HZ = 60.0, 500.0
PITCH_STEPS = 120
"""Number of pitches that are told apart, evenly spaced on a logarithmic scale: 1.8 % each."""

# Posteriors are sharpened, so that a small probability of another octave does not bend the mean.
# A maximum would not be continuous: two engines could find different pitches.
SHARPNESS = 3.0

PHASE_UNIT = 2**24
"""Phases add up as integers, so that they do not depend on how a signal is divided."""

# The phase of the fundamental is that of the last four blocks. Two periods of the lowest voices
# fit, and the newest block does not yet count fully.
PHASE_WINDOW = (0.12, 0.28, 0.35, 0.25)
SILENT_FUNDAMENTAL = 1e-6

PULSE_RADIUS = 12.0
"""Half the length of a pulse, a windowed sinc, in samples."""

PITCH_TOLERANCE = 0.1
"""Largest deviation of the frequency of the fundamental from the pitch that is believed."""

DELAY_TAPS = 6
"""Taps of the interpolation between samples: nearly flat to 6 kHz at 24 kHz."""


class PitchHead(nn.Module):
    """Pitch posterior and voicing from the features of a decoder.

    Shapes: ``[B, T, C] -> [B, T, PITCH_STEPS + 1]``, logits of the pitches and of voicing.
    """

    def __init__(self, channels: int, hidden: int = 128) -> None:
        super().__init__()
        self.norm = RMSNorm(channels)
        self.conv = CausalConv1d(channels, hidden, 3, before="silu")
        self.logits = nn.Linear(hidden, PITCH_STEPS + 1)
        init_zero(self.logits)

    def init_state(self, batch: int) -> State:
        return self.conv.init_state(batch)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        y, state = self.conv(self.norm(x), state)
        return self.logits(F.silu(y)).float(), state


def pitch_of(logits: Tensor) -> Tensor:
    """Pitch in Hz ``[B, T]`` from the output of a `PitchHead`: mean of a sharpened posterior."""
    posterior = (SHARPNESS * logits[..., :PITCH_STEPS]).softmax(-1)
    # Not a matrix product, which automatic half precision would round to 1 Hz.
    return (posterior * pitch_grid(logits.device).log()).sum(-1).exp()


def pitch_grid(device: torch.device) -> Tensor:
    """The pitches that are told apart, in Hz, ascending: ``[PITCH_STEPS]``."""
    steps = torch.linspace(0, 1, PITCH_STEPS, device=device)
    pitches: Tensor = LOWEST_PITCH_HZ * (HIGHEST_PITCH_HZ / LOWEST_PITCH_HZ) ** steps
    return pitches


class Excitation(nn.Module):
    """Pulses at a given pitch, locked to the phase of the fundamental of decoded audio.

    An oscillator runs at the pitch. Multiplied by its complex conjugate, the fundamental of the
    audio becomes a slow rotation, whose angle is the oscillator's error in phase. So the pulses
    follow the phase of the audio even if the pitch is a little wrong, and the oscillator's own past
    does not matter.

    The state is the phase of the oscillator in `PHASE_UNIT`, the last pitch and frequency, the
    products of the last blocks, and the last correction.

    Each value of the pitch is for a block of so many samples.
    """

    def __init__(self, block: int, sample_rate: int) -> None:
        super().__init__()
        self.block, self.sample_rate = block, sample_rate
        ramp = torch.arange(1, block + 1, dtype=torch.float32) / block
        self.register_buffer("ramp", ramp, persistent=False)

    @property
    def receptive_field(self) -> int:
        """In blocks: those of the phase window, and the correction before the last."""
        return len(PHASE_WINDOW) + 1

    def init_state(self, batch: int) -> State:
        ramp = self.get_buffer("ramp")
        return (
            torch.zeros(batch, 1, dtype=torch.int64, device=ramp.device),
            ramp.new_full((batch, 1), LOWEST_PITCH_HZ),
            ramp.new_full((batch, 1), LOWEST_PITCH_HZ / self.sample_rate),
            ramp.new_zeros(batch, len(PHASE_WINDOW) - 1, 2),
            ramp.new_zeros(batch, 1, 2),
        )

    @torch.no_grad()
    def forward(self, audio: Tensor, pitch: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """Pulses of about unit power and the length of periods in samples, for a piece.

        Args:
            audio: ``[B, T * block, 1]``, decoded audio with the right fundamental.
            pitch: ``[B, T]`` in Hz, at the end of each block.
            state: that of `init_state`, or of the previous piece.

        Returns:
            Pulses and lengths, ``[B, T * block, 1]`` each, and the state.
        """
        past = cast("tuple[Tensor, ...]", state)
        phase, last_pitch, last_frequency, products, last_correction = past
        num_blocks = pitch.shape[1]
        pitches = torch.cat((last_pitch, pitch), dim=1)
        steps = self._interpolated(pitches) / self.sample_rate
        within = steps.cumsum(-1)  # cycles, [B, T, block]
        turned = (within[..., -1] * PHASE_UNIT).round().long()
        phases = (phase + F.pad(turned.cumsum(1), (1, 0))) % PHASE_UNIT
        oscillator = phases[:, :-1, None] / PHASE_UNIT + within

        products = torch.cat((products, self._products(audio, oscillator)), dim=1)
        taps = [products.narrow(1, tap, num_blocks) for tap in range(len(PHASE_WINDOW))]
        error = torch.stack([w * each for w, each in zip(PHASE_WINDOW, taps, strict=True)]).sum(0)
        # Not a constant in one direction, which would let the oscillator's own phase matter.
        error = error / (error.norm(dim=-1, keepdim=True) + SILENT_FUNDAMENTAL)
        corrections = torch.cat((last_correction, error), dim=1)

        mean = within[..., -1] / self.block
        deviation = _turns(corrections) / self.block / mean
        deviation = deviation.clamp(-PITCH_TOLERANCE, PITCH_TOLERANCE)
        frequencies = torch.cat((last_frequency, mean * (1 + deviation)), dim=1)
        period = self._interpolated(frequencies).reciprocal().flatten(1)
        pulses = self._pulses(oscillator, steps, corrections)
        newest = (each[:, -1:] for each in (phases, pitches, frequencies))
        state = (*newest, products[:, num_blocks:], corrections[:, -1:])
        return pulses[..., None], period[..., None], state

    def _interpolated(self, values: Tensor) -> Tensor:
        """Samples ``[B, T, block]`` between values ``[B, T + 1]`` at the ends of blocks."""
        first, last = values[:, :-1, None], values[:, 1:, None]
        return first + (last - first) * self.get_buffer("ramp")

    def _products(self, audio: Tensor, oscillator: Tensor) -> Tensor:
        """The fundamental of each block, turned back by the oscillator: ``[B, T, 2]``."""
        angle = 2 * math.pi * oscillator
        blocks = audio.float().reshape(oscillator.shape)
        return torch.stack(((blocks * angle.cos()).mean(-1), -(blocks * angle.sin()).mean(-1)), -1)

    def _pulses(self, oscillator: Tensor, steps: Tensor, corrections: Tensor) -> Tensor:
        """Windowed sincs ``[B, T * block]`` where the corrected oscillator completes a cycle."""
        x, y = map(self._interpolated, corrections.unbind(-1))
        cycles = oscillator + torch.atan2(y, x) / (2 * math.pi)
        distance = (cycles - cycles.round()) / steps  # samples to the nearest pulse
        radius = (0.25 / steps).clamp(max=PULSE_RADIUS)  # a quarter of a period at most
        window = 0.5 + 0.5 * torch.cos(math.pi * (distance / radius).clamp(-1, 1))
        # Between corrections in opposite directions the phase is undefined: there are no pulses.
        level = (2 * (x.square() + y.square())).clamp(max=1) * steps.rsqrt()
        return (torch.sinc(distance) * window * level).flatten(1)


def _turns(corrections: Tensor) -> Tensor:
    """What corrections ``[B, T + 1, 2]`` turn within blocks, in cycles: the error of the pitch."""
    before, after = corrections[:, :-1], corrections[:, 1:]
    across = before[..., 0] * after[..., 1] - before[..., 1] * after[..., 0]
    along = (before * after).sum(-1)
    # Half a turn could be one in either direction, so towards it nothing is believed.
    return torch.atan2(across, along) / (2 * math.pi) * (2 + 2 * along).clamp(0, 1)


class EarlierPeriods(nn.Module):
    """The sound one period ago, two periods ago and so on, interpolated between samples.

    Each is the one before it, delayed by a period, so that the length of periods may change. The
    state is the past of the sound and of all but the last. The sampling rate is in Hz.
    """

    def __init__(self, count: int, sample_rate: int) -> None:
        super().__init__()
        self.count = count
        longest = sample_rate / (LOWEST_PITCH_HZ * (1 - PITCH_TOLERANCE))
        self.reach = math.ceil(longest) + DELAY_TAPS // 2
        taps = torch.arange(1 - DELAY_TAPS // 2, DELAY_TAPS // 2 + 1)
        self.register_buffer("taps", taps, persistent=False)
        angles = 2 * math.pi / DELAY_TAPS * taps
        table = torch.stack((1 - 2.0 * (taps % 2), angles.cos(), angles.sin()))
        self.register_buffer("table", table, persistent=False)

    def init_state(self, batch: int) -> State:
        """Silence, ``[batch, reach]`` for every period."""
        zeros = torch.zeros(batch, self.reach, device=self.get_buffer("taps").device)
        return (zeros,) * self.count

    @torch.no_grad()
    def forward(self, audio: Tensor, period: Tensor, state: State) -> tuple[list[Tensor], State]:
        """For audio ``[B, N, 1]`` and lengths of periods ``[B, N, 1]`` in samples.

        Returns:
            ``[B, N, 1]`` per period, and the state.
        """
        places, weights = self._interpolation(period[..., 0])
        found, kept, source = [], [], audio[..., 0].float()
        for past in cast("tuple[Tensor, ...]", state):
            past = torch.cat((past, source), dim=1)
            source = (past.gather(1, places).reshape(weights.shape) * weights).sum(1)
            found.append(source[..., None])
            kept.append(past[:, audio.shape[1] :])
        return found, tuple(kept)

    def _interpolation(self, period: Tensor) -> tuple[Tensor, Tensor]:
        """Samples in past and current piece ``[B, taps * N]``, and weights ``[B, taps, N]``.

        The weights are a windowed sinc. Its sines and cosines follow from those of the fraction of
        a sample by the addition theorems, since taps are whole samples apart.
        """
        taps = self.get_buffer("taps")[:, None]
        signs, cosines, sines = self.get_buffer("table")[..., None]
        now = torch.arange(period.shape[1], device=period.device) + self.reach
        # Relative to a whole number of samples, which keeps the precision of long recordings.
        whole = period.floor()
        fraction = (1 - (period - whole))[:, None]
        left = (now - whole.long() - 1).clamp(min=DELAY_TAPS // 2 - 1)
        distance = fraction - taps
        sinc = (math.pi * fraction).sin() * signs / (math.pi * distance)
        sinc = torch.where(distance.abs() < 1e-4, 1.0, sinc)
        angle = 2 * math.pi / DELAY_TAPS * fraction
        window = 0.5 + 0.5 * (angle.cos() * cosines + angle.sin() * sines)
        return (left[:, None] + taps).flatten(1), sinc * window
