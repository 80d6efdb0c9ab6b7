"""Reconstruction losses: time, multi-resolution complex STFT, multi-scale mel.

Every loss takes decoded and original audio ``[B, 1, N]`` and returns a scalar, zero at equality.
The spectral ones share each window's transform, which is most of their cost.
"""

from __future__ import annotations

import librosa
import torch
from torch import Tensor, nn

# The windows of DAC (arXiv:2306.06546, section 3.4), hop a quarter, with these many mel bands.
MEL_WINDOWS = (32, 64, 128, 256, 512, 1024, 2048)
MEL_BANDS = (5, 10, 20, 40, 80, 160, 320)
SPECTRUM_COMPRESSION = 0.3
# Amplitudes relative to a full-scale sine. Below -90 dB nothing is heard, and without a floor the
# logarithm of silence would outweigh all sound in a batch.
AMPLITUDE_FLOOR = 3e-5


def waveform_loss(decoded: Tensor, original: Tensor) -> Tensor:
    """Mean absolute difference, relative to each item's mean level.

    Relative, so that quiet recordings teach as much as loud ones.
    """
    level = original.abs().mean(dim=(1, 2)) + 1e-3
    return ((decoded - original).abs().mean(dim=(1, 2)) / level).mean()


def complex_loss(decoded: Tensor, original: Tensor) -> Tensor:
    """L1 between power-compressed complex spectra (Wisdom et al., arXiv:1811.08521).

    Compressing magnitudes to |X|^0.3 lets weak bins count, as they do for the ear; keeping the
    phase keeps the waveform.
    """
    a, b = _compress(decoded), _compress(original)
    return (a - b).abs().mean()


def magnitude_loss(decoded: Tensor, original: Tensor) -> Tensor:
    """L1 between power-compressed magnitudes: energy, wherever the phase may be."""
    return (_compress(decoded).abs() - _compress(original).abs()).abs().mean()


def mel_loss(decoded: Tensor, original: Tensor, filterbank: Tensor) -> Tensor:
    """L1 between log10 mel magnitudes: the ear's frequency scale, and level as a ratio."""
    a, b = (
        (filterbank @ (_power(spectrum) + AMPLITUDE_FLOOR**2).sqrt()).log10()
        for spectrum in (decoded, original)
    )
    return (a - b).abs().mean()


class SpectralLosses(nn.Module):
    """Complex, magnitude and mel losses over one set of windows.

    Args:
        sample_rate: of the audio, for the mel scale.
        windows: window lengths, any of `MEL_WINDOWS`.
    """

    def __init__(self, sample_rate: int, windows: tuple[int, ...] = MEL_WINDOWS) -> None:
        super().__init__()
        self.windows = windows
        for window in windows:
            bands = MEL_BANDS[MEL_WINDOWS.index(window)]
            basis = librosa.filters.mel(sr=sample_rate, n_fft=window, n_mels=bands)
            # Bands as weighted means; windows that show a sine at its amplitude.
            basis /= basis.sum(axis=1, keepdims=True).clip(min=1e-6)
            hann = torch.hann_window(window)
            self.register_buffer(f"mel_{window}", torch.from_numpy(basis), persistent=False)
            self.register_buffer(f"hann_{window}", hann * 2 / hann.sum(), persistent=False)

    def forward(
        self, decoded: Tensor, original: Tensor, windows: tuple[int, ...] | None = None
    ) -> dict[str, Tensor]:
        """Mean of each loss over ``windows`` (all if None), by name.

        A random few windows per step cost less and teach as much as all of them.
        """
        windows = self.windows if windows is None else windows
        terms: dict[str, list[Tensor]] = {"complex": [], "magnitude": [], "mel": []}
        for window in windows:
            hann = self.get_buffer(f"hann_{window}")
            a, b = spectrum(decoded, hann), spectrum(original, hann)
            # Short windows see no phase worth coding.
            if window >= 256:
                terms["complex"].append(complex_loss(a, b))
                terms["magnitude"].append(magnitude_loss(a, b))
            terms["mel"].append(mel_loss(a, b, self.get_buffer(f"mel_{window}")))
        return {
            name: torch.stack(values).mean() if values else decoded.new_zeros(())
            for name, values in terms.items()
        }


def spectrum(audio: Tensor, window: Tensor) -> Tensor:
    """Complex STFT ``[B, F, T]`` with a hop of a quarter window."""
    return torch.stft(
        audio.squeeze(1), len(window), len(window) // 4, window=window, return_complex=True
    )


def _power(x: Tensor) -> Tensor:
    return x.real.square() + x.imag.square()


def _compress(x: Tensor) -> Tensor:
    return x * (_power(x) + 10 * AMPLITUDE_FLOOR**2) ** ((SPECTRUM_COMPRESSION - 1) / 2)
