from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from codec.evaluation.mel import MEL_WINDOWS
from tests.conftest import sound
from train.objective.losses import (
    LEVEL_TOLERANCE,
    LOSSES,
    MAX_GAIN,
    View,
    evaluate_losses,
    hann_window,
    level_loss,
    loudness_difference,
    match_level,
    mel_means,
    partials_loss,
    spectrum,
    tonality_loss,
    waveform_loss,
)

RATE = 24_000
NAMES = ["waveform", "complex", "magnitude", "mel", "envelope"]


def losses(
    decoded: Tensor, original: Tensor, windows: tuple[int, ...] = MEL_WINDOWS
) -> dict[str, Tensor]:
    """All losses of the table, without matching of levels."""
    return evaluate_losses(LOSSES.values(), decoded, decoded, original, RATE, View(windows))


def audio(seed: int = 0, num_samples: int = 6_000) -> Tensor:
    return torch.from_numpy(
        np.stack([sound(num_samples, seed=seed), sound(num_samples, seed=seed + 9)])
    )


def test_equal_sounds_have_no_loss() -> None:
    values = losses(audio(), audio())
    assert abs(values.pop("envelope")) < 1e-6  # a correlation, one but for rounding
    for value in values.values():
        assert value == 0


@pytest.mark.parametrize(
    "levels", [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1e-7, 1.0), (1.0, 1.0), (8.0, 8.0)]
)
def test_losses_and_gradients_are_finite_from_silence_to_full_scale(
    levels: tuple[float, float],
) -> None:
    decoded = (audio(1) * levels[0]).requires_grad_()
    for name, value in losses(decoded, audio(2) * levels[1]).items():
        (gradient,) = torch.autograd.grad(value, decoded, retain_graph=True)
        assert value.isfinite() and gradient.isfinite().all(), name


@pytest.mark.parametrize("name", NAMES)
def test_a_louder_error_costs_more(name: str) -> None:
    original = audio()
    noise = audio(5)
    costs = [losses(original + level * noise, original)[name].item() for level in (0.01, 0.1, 1.0)]
    assert 0 < costs[0] < costs[1] < costs[2]


def test_flipped_polarity_changes_only_losses_that_see_phase() -> None:
    values = losses(-audio(), audio())
    assert values["waveform"] > 0.5 and values["complex"] > 0.01
    for name in ("magnitude", "mel", "envelope", "energy", "level", "tonality", "loudness"):
        assert abs(values[name]) < 1e-6


def test_levels_match_within_bounds_and_matched_losses_have_no_gradient_along_the_gain() -> None:
    sounds, others = (x * torch.tensor([[[1.0]], [[0.2]]]) for x in (audio(0), audio(1)))
    gain = torch.tensor([[[0.7]], [[1.6]]], requires_grad=True)
    matched = match_level(gain * sounds, sounds)
    torch.testing.assert_close(matched, sounds, rtol=1e-4, atol=1e-6)
    waveform_loss(match_level(gain * others, sounds), sounds, RATE).backward()
    assert gain.grad is not None and gain.grad.abs().max() < 1e-5
    assert match_level(sounds / 100, sounds).equal(sounds / 100 * MAX_GAIN)
    assert match_level(sounds * 100, sounds).equal(sounds * 100 / MAX_GAIN)
    silence = torch.zeros_like(sounds)
    assert match_level(silence, silence).equal(silence)


def test_the_energy_loss_sees_level_and_no_detail() -> None:
    noise, other = torch.randn(2, 2, 1, 24_000, generator=torch.Generator().manual_seed(0)) * 0.1
    assert losses(other, noise)["energy"] < 0.2 * losses(other, noise)["magnitude"]
    quieter = losses(noise / 10, noise)["energy"]
    torch.testing.assert_close(quieter, torch.tensor(1.0), rtol=0.01, atol=0)  # a decade


def test_the_level_loss_is_the_log_of_a_ratio_and_sees_nothing_else() -> None:
    sounds = audio()
    two_decades = torch.tensor(2.0 - LEVEL_TOLERANCE / 2)
    torch.testing.assert_close(
        level_loss(sounds / 100, sounds, RATE), two_decades, rtol=1e-3, atol=0
    )
    # Within the tolerance five times the error costs 25 times as much.
    costs = [level_loss(sounds * 10 ** (e * LEVEL_TOLERANCE), sounds, RATE) for e in (0.1, 0.5)]
    torch.testing.assert_close(costs[1] / costs[0], torch.tensor(25.0), rtol=1e-2, atol=0)
    assert level_loss(sounds.flip(-1), sounds, RATE) < 1e-6


def test_tones_are_penalised_unless_the_original_has_them() -> None:
    generator = torch.Generator().manual_seed(0)
    noise, other = torch.randn(2, 8, 1, 36 * 480, generator=generator) * 0.1

    def cost(decoded: Tensor, original: Tensor = noise) -> float:
        return tonality_loss(decoded, original, RATE).item()

    assert cost(other) < 0.05
    for period in (480, 441):  # a buzz, at the frame rate or not
        buzz = noise[..., :period].repeat(1, 1, 40)[..., : noise.shape[-1]]
        assert cost(buzz) > 0.5
        assert cost(buzz.roll(7, -1), buzz) < 0.05
        assert 2 * cost(other) < cost(other + 0.5 * buzz) < cost(other + buzz) < cost(buzz)
    # A sign that alternates from frame to frame, or every third frame, makes tones too.
    for turns in ([1.0, -1.0], [1.0, 1.0, -1.0]):
        signs = torch.tensor(turns).repeat_interleave(480).repeat(36 // len(turns))
        assert cost(noise[..., :480].repeat(1, 1, 36) * signs) > 0.4
    # The cost of a tone depends on its band, not on its place in it: low bands are narrow.
    time = torch.arange(noise.shape[-1]) / 24_000
    costs = [cost(other + 0.02 * torch.sin(2 * torch.pi * f * time)) for f in (333, 350, 8333)]
    assert abs(costs[0] - costs[1]) < 0.2 * (costs[0] - cost(other))
    assert costs[0] - cost(other) > 5 * (costs[2] - cost(other)) > 0


def test_single_tones_must_have_their_frequency_and_voices_are_left_alone() -> None:
    time = torch.arange(RATE) / RATE

    def tones(*frequencies: float) -> Tensor:
        waves = [torch.sin(2 * torch.pi * frequency * time) for frequency in frequencies]
        return 0.1 * torch.stack(waves).sum(0)[None, None]

    def cost(decoded: Tensor, original: Tensor) -> float:
        return partials_loss(decoded, original, RATE).item()

    key = tones(852, 1477)
    assert cost(key, key) == 0
    assert cost(tones(852, 1500), key) > 0.5  # next to nothing for losses in bands
    assert cost(tones(852), key) > 0.4
    assert 0.05 < cost(tones(852) + 0.7 * tones(1477), key) < cost(tones(852), key)
    noise = torch.randn(key.shape, generator=torch.Generator().manual_seed(0))
    assert cost(0 * noise, noise) < 0.01
    voice = tones(*range(150, 4000, 150))
    assert cost(0 * voice, voice) < 0.01
    # Each item counts alike, whatever its level is.
    both = cost(torch.cat((0.01 * tones(852), tones(852))), torch.cat((0.01 * key, key)))
    assert abs(both - cost(tones(852), key)) < 0.01


def test_the_loudness_loss_penalises_added_sound_and_not_masked_sound() -> None:
    """One band, one frame of speech level; below it a second, empty one."""
    original = torch.tensor([1.0, 0.0])[None, :, None]

    def cost(*powers: float) -> float:
        return loudness_difference(torch.tensor(powers)[None, :, None], original).item()

    assert cost(1.2, 0.0) == cost(0.8, 0.0) == cost(1.0, 0.0) == 0
    assert 0 < cost(1.0, 1e-4) < cost(1.0, 1e-2)
    assert cost(1.0, 0.1) > 2 * cost(0.1, 0.0)  # added rather than missing


def test_envelopes_match_whatever_their_level_and_phase() -> None:
    sounds = audio(0, 24_000)
    assert losses(-0.5 * sounds, sounds)["envelope"] < 1e-3
    flat = torch.randn(sounds.shape, generator=torch.Generator().manual_seed(0)) * 0.1
    assert losses(flat, sounds)["envelope"] > 0.2


def test_the_magnitude_loss_sees_noise_decoded_as_tones() -> None:
    """Mel bands are too wide to separate them."""
    generator = torch.Generator().manual_seed(0)
    noise, other = torch.randn(2, 1, 1, 24_000, generator=generator) * 0.1
    time = torch.arange(24_000)[:, None] / 24_000
    frequencies = torch.arange(50, 12_000, 50)
    phases = 6.283 * torch.rand(len(frequencies), generator=generator)
    tones = torch.sin(2 * torch.pi * frequencies * time + phases).sum(1)[None, None]
    tones *= noise.square().mean().sqrt() / tones.square().mean().sqrt()
    as_noise, as_tones = (losses(x, noise, (2048,))["magnitude"] for x in (other, tones))
    assert as_tones > 1.3 * as_noise


@pytest.mark.parametrize("num_samples", [600, 1_100])
def test_short_sounds_have_envelopes_too(num_samples: int) -> None:
    decoded, original = audio(1, num_samples), audio(2, num_samples)
    for value in losses(decoded, original, (32,)).values():
        assert value.isfinite()


def test_a_full_scale_sine_has_amplitude_one() -> None:
    time = torch.arange(24_000) / 24_000
    sine = torch.sin(2 * torch.pi * 3_000 * time)[None, None]
    for window in MEL_WINDOWS[2:]:
        peak = spectrum(sine, hann_window(window))[..., 20:-20, :].norm(dim=-1).amax(1)
        torch.testing.assert_close(peak, torch.ones_like(peak), rtol=0.02, atol=0.02)


def test_mel_bands_are_those_of_librosa() -> None:
    import librosa

    bank = mel_means(RATE, 1024).numpy()
    expected = librosa.filters.mel(sr=24_000, n_fft=1024, n_mels=160)
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(bank, expected, rtol=1e-5)


def test_chosen_windows_are_the_only_ones_used() -> None:
    decoded, original = audio(1), audio(2)
    short = losses(decoded, original, (32, 64))
    assert short["complex"] == 0 and short["mel"] > 0
    every = [losses(decoded, original, (window,))["mel"] for window in MEL_WINDOWS]
    torch.testing.assert_close(torch.stack(every).mean(), losses(decoded, original)["mel"])
