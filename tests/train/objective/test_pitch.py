"""The pitch that decoders learn to find, on sounds whose pitch is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from codec.network.excitation import HIGHEST_PITCH_HZ, LOWEST_PITCH_HZ, PITCH_STEPS
from train.objective.pitch import pitch_loss, pitch_targets


def voice(pitch: float, rate: int, num_samples: int) -> Tensor:
    """Harmonics that fall by 6 dB per octave, ``[1, 1, N]``."""
    time = torch.arange(num_samples) / rate
    numbers = torch.arange(1, int(0.4 * rate / pitch))[:, None]
    waves = torch.sin(2 * math.pi * pitch * numbers * time + numbers) / numbers
    return 0.1 * waves.sum(0)[None, None]


def hertz(steps: Tensor) -> Tensor:
    return LOWEST_PITCH_HZ * (HIGHEST_PITCH_HZ / LOWEST_PITCH_HZ) ** (steps / (PITCH_STEPS - 1))


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 44_100])
@pytest.mark.parametrize("pitch", [65.0, 110.0, 231.0, 390.0])
def test_the_pitch_of_a_voice_is_found(pitch: float, rate: int) -> None:
    centres = torch.arange(rate // 10, rate // 2, rate // 100)
    steps, periodicity = pitch_targets(voice(pitch, rate, rate // 2 + rate // 10), rate, centres)
    assert (hertz(steps) / pitch - 1).abs().max() < 0.03
    assert periodicity.min() > 0.9


def test_a_change_of_pitch_is_found_at_its_place() -> None:
    rate = 24_000
    audio = torch.cat((voice(100, rate, 6_000), voice(200, rate, 6_000)), dim=-1)
    steps, _ = pitch_targets(audio, rate, torch.tensor([3_000, 5_000, 7_000, 9_000]))
    assert hertz(steps)[0].tolist() == pytest.approx([100, 100, 200, 200], rel=0.03)


def test_noise_and_silence_are_not_voiced() -> None:
    torch.manual_seed(0)
    centres = torch.arange(1_000, 20_000, 240)
    _, noise = pitch_targets(0.1 * torch.randn(3, 1, 24_000), 24_000, centres)
    _, silence = pitch_targets(torch.zeros(1, 1, 24_000), 24_000, centres)
    assert (noise > 0.6).float().mean() < 0.02
    assert not silence.any()


@pytest.mark.parametrize("num_samples", [1, 239, 5_001])
def test_places_beyond_the_audio_are_silent(num_samples: int) -> None:
    centres = torch.tensor([-90_000, -1, 0, num_samples, 90_000])
    steps, periodicity = pitch_targets(torch.randn(2, 1, num_samples), 24_000, centres)
    assert steps.shape == periodicity.shape == (2, 5)
    assert not periodicity[:, [0, 4]].any()


def test_the_loss_ignores_the_pitch_of_unvoiced_frames() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 6, PITCH_STEPS + 1, requires_grad=True)
    steps, periodicity = torch.randint(PITCH_STEPS, (2, 6)), torch.zeros(2, 6)
    periodicity[0, 2] = 0.9
    (gradient,) = torch.autograd.grad(pitch_loss(logits, steps, periodicity), logits)
    of_pitch = gradient[..., :PITCH_STEPS].abs().sum(-1)
    assert of_pitch[0, 2] > 0 and of_pitch.count_nonzero() == 1
    assert gradient[..., PITCH_STEPS].count_nonzero() == 12
    assert (gradient[0, 2].argmin() == steps[0, 2]) or gradient[0, 2, PITCH_STEPS] < 0


def test_without_voices_the_loss_is_finite() -> None:
    logits = torch.zeros(1, 3, PITCH_STEPS + 1)
    loss = pitch_loss(logits, torch.zeros(1, 3, dtype=torch.long), torch.zeros(1, 3))
    assert loss == pytest.approx(math.log(2))
