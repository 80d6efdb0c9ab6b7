from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.conftest import sound
from train.losses import MEL_WINDOWS, SpectralLosses, spectrum, waveform_loss

NAMES = ["waveform", "complex", "magnitude", "mel"]


def losses(
    decoded: Tensor, original: Tensor, windows: tuple[int, ...] | None = None
) -> dict[str, Tensor]:
    values = SpectralLosses(24_000)(decoded, original, windows)
    return values | {"waveform": waveform_loss(decoded, original)}


def audio(seed: int = 0, num_samples: int = 6_000) -> Tensor:
    return torch.from_numpy(
        np.stack([sound(num_samples, seed=seed), sound(num_samples, seed=seed + 9)])
    )


def test_equal_sounds_have_no_loss() -> None:
    for value in losses(audio(), audio()).values():
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


def test_what_is_phase_and_what_is_energy() -> None:
    """Flipped polarity is heard by the losses that see phase, and by no other."""
    values = losses(-audio(), audio())
    assert values["waveform"] > 0.5 and values["complex"] > 0.01
    assert values["magnitude"] < 1e-6 and values["mel"] < 1e-6


def test_a_full_scale_sine_has_amplitude_one() -> None:
    time = torch.arange(24_000) / 24_000
    sine = torch.sin(2 * torch.pi * 3_000 * time)[None, None]
    for window in MEL_WINDOWS[2:]:
        hann = SpectralLosses(24_000).get_buffer(f"hann_{window}")
        peak = spectrum(sine, hann)[..., 20:-20].abs().amax(1)
        torch.testing.assert_close(peak, torch.ones_like(peak), rtol=0.02, atol=0.02)


def test_mel_bands_are_those_of_librosa() -> None:
    import librosa

    bank = SpectralLosses(24_000).get_buffer("mel_1024").numpy()
    expected = librosa.filters.mel(sr=24_000, n_fft=1024, n_mels=160)
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(bank, expected, rtol=1e-5)


def test_chosen_windows_are_the_only_ones_used() -> None:
    decoded, original = audio(1), audio(2)
    short = losses(decoded, original, (32, 64))
    assert short["complex"] == 0 and short["mel"] > 0
    every = [losses(decoded, original, (window,))["mel"] for window in MEL_WINDOWS]
    torch.testing.assert_close(torch.stack(every).mean(), losses(decoded, original)["mel"])
