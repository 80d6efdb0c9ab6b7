"""The pitch that a decoder with an excitation has to find: its targets and its loss.

The metric `codec.evaluation.harmonics` finds the pitch in another way, so that training does not
optimise what measures it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from codec.network.excitation import HIGHEST_PITCH_HZ, LOWEST_PITCH_HZ, PITCH_STEPS, pitch_grid

TRACKING_HZ = 12_000
WINDOW_SECONDS = 0.04
MAX_FRAMES = 4096
"""Frames whose correlations are computed at a time, which bounds the memory."""

# The correlation at two periods is as high as at one: this much is subtracted for each octave
# below the highest pitch.
OCTAVE_PENALTY = 0.04
VOICED_CORRELATION = 0.6
SILENCE = 1e-4


def pitch_targets(audio: Tensor, sample_rate: int, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Pitch of voices at given times, by normalised correlation (Talkin, 1995, "RAPT").

    Args:
        audio: ``[B, 1, N]``.
        sample_rate: in Hz.
        centres: ``[T]``, the samples at which windows are centred. Beyond the audio is silence.

    Returns:
        The step of the nearest pitch, of `PITCH_STEPS`, and how well the sound repeats after its
        period, at most 1 and zero in silence: ``[B, T]`` each.

    Example:
        >>> pulses = (torch.arange(24_000) % 200 == 0).float()[None, None]
        >>> steps, periodicity = pitch_targets(pulses, 24_000, torch.tensor([12_000]))
        >>> octaves = steps.item() / (PITCH_STEPS - 1) * torch.tensor(500 / 60).log2()
        >>> round(float(60 * 2**octaves)), round(float(periodicity))
        (120, 1)
    """
    factor = max(1, sample_rate // TRACKING_HZ)
    rate = sample_rate / factor
    size, longest = round(WINDOW_SECONDS * rate), int(rate / LOWEST_PITCH_HZ) + 3
    smooth = F.avg_pool1d(F.pad(audio, (0, -audio.shape[-1] % factor)), factor)
    smooth = F.avg_pool1d(smooth, 5, stride=1, padding=2, count_include_pad=False)
    padded = F.pad(smooth[:, 0], (size + longest, size + longest))
    # The window and the one that it is compared with lie evenly around the centre.
    starts = (centres // factor - (size + longest // 2) // 2 + size + longest).clamp(min=0)
    places = starts[:, None] + torch.arange(size + longest, device=audio.device)
    frames = padded[:, places.clamp(max=padded.shape[1] - 1)]  # [B, T, size + longest]
    found = [_best_lag(part, size, rate) for part in frames.flatten(0, 1).split(MAX_FRAMES)]
    steps, periodicity = (torch.cat(parts).reshape(len(audio), -1) for parts in zip(*found))
    return steps, periodicity


def pitch_loss(logits: Tensor, steps: Tensor, periodicity: Tensor) -> Tensor:
    """Cross-entropy of pitch in voiced frames, plus that of voicing in all.

    Args:
        logits: ``[B, T, PITCH_STEPS + 1]``, from a `codec.network.excitation.PitchHead`.
        steps: ``[B, T]``, from `pitch_targets`.
        periodicity: ``[B, T]``, from `pitch_targets`.

    Returns:
        A scalar.

    Example:
        >>> steps, certain = torch.tensor([[3]]), 20 * torch.ones(1, 1, PITCH_STEPS + 1)
        >>> certain[..., :PITCH_STEPS] *= torch.arange(PITCH_STEPS) == 3
        >>> round(float(pitch_loss(certain, steps, torch.ones(1, 1))), 3)
        0.0
    """
    voiced = (periodicity > VOICED_CORRELATION).float()
    surprise = F.cross_entropy(logits[..., :PITCH_STEPS].mT, steps, reduction="none")
    pitch = (surprise * voiced).sum() / voiced.sum().clamp(min=1)
    return pitch + F.binary_cross_entropy_with_logits(logits[..., PITCH_STEPS], voiced)


def _best_lag(frames: Tensor, size: int, rate: float) -> tuple[Tensor, Tensor]:
    """Steps and correlations ``[N]`` of frames ``[N, size + longest]``."""
    frames = frames - frames.mean(1, keepdim=True)
    num_lags = frames.shape[1] - size + 1
    length = 1 << (frames.shape[1] + size).bit_length()
    first, whole = torch.fft.rfft(frames[:, :size], length), torch.fft.rfft(frames, length)
    products = torch.fft.irfft(first.conj() * whole, length)[:, :num_lags]
    energies = F.pad(frames.square().cumsum(1), (1, 0))
    energies = energies[:, size:] - energies[:, :num_lags]
    floor = size * SILENCE**2
    correlation = products / ((energies[:, :1] * energies).clamp(min=0).sqrt() + floor)
    pitches = pitch_grid(frames.device)
    at_pitches = _interpolated(correlation, rate / pitches)
    penalty = OCTAVE_PENALTY * torch.log2(HIGHEST_PITCH_HZ / pitches)
    steps = (at_pitches - penalty).argmax(1)
    return steps, at_pitches.gather(1, steps[:, None])[:, 0]


def _interpolated(values: Tensor, places: Tensor) -> Tensor:
    """Values ``[N, L]`` at fractional places ``[P]``, by cubic interpolation (Catmull and Rom)."""
    left = places.floor().long().clamp(1, values.shape[1] - 3)
    t = (places - left)[None]
    a, b, c, d = (values[:, left + offset] for offset in (-1, 0, 1, 2))
    cubic: Tensor = b + t / 2 * (
        c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a))
    )
    return cubic
