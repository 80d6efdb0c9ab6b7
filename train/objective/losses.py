"""Reconstruction losses: time, multi-resolution complex STFT, multi-scale mel, loudness, envelopes.

Every loss takes decoded and original audio ``[B, 1, N]`` and returns a scalar, zero at equality.
The spectral ones share each window's transform, which is most of their cost.
"""

from __future__ import annotations

import math

import librosa
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec.quality.mel import MEL_BANDS, MEL_WINDOWS

SPECTRUM_COMPRESSION = 0.3
# Amplitudes relative to a full-scale sine. Below -90 dB nothing is heard, and without a floor the
# logarithm of silence would outweigh all sound in a batch.
AMPLITUDE_FLOOR = 3e-5

LEVEL_FLOOR = 1e-4
MAX_GAIN = 2.0
LEVEL_TOLERANCE = 0.05  # 1 dB

TONALITY_BAND_HZ = 100.0
TONALITY_FLOOR = 3e-6  # noise spreads over thousands of bins

# STOI's: frames of 25.6 ms, half overlapping, and segments of 384 ms.
ENVELOPE_SECONDS = 0.0256
SEGMENT_FRAMES = 30
SEGMENT_FLOOR = 4e-7
ENERGY_BANDS = 24
ENERGY_FRAMES = 8

# About two bands to a critical one, and PESQ's constants: how loudness grows with power, what share
# of a sound masks an error, from which excess made-up sound is charged and how much at most. Powers
# are relative to the mean of a crop's bands.
LOUDNESS_BANDS = 42
LOUDNESS_EXPONENT = 0.23
LOUDNESS_THRESHOLD = 1e-6
MASKED_SHARE = 0.25
EXCESS_EXPONENT = 1.2
EXCESS_RANGE = (3.0, 12.0)
EXCESS_FLOOR = 1e-5
EXCESS_WEIGHT = 0.309
# Far below what counts, it gives the root a gradient at zero.
ERROR_FLOOR = 4.17e-5


def match_level(decoded: Tensor, original: Tensor) -> Tensor:
    """Decoded items at the level of the originals, by a gain of at most `MAX_GAIN` either way.

    Losses that compare detail have decoded sound too quiet, for what cannot be predicted is best
    left out. At equal level they say nothing about level, and `level_loss` alone decides it.
    """
    gain = _level(original) / _level(decoded)
    return decoded * gain.clamp(1 / MAX_GAIN, MAX_GAIN)[:, None, None]


def waveform_loss(decoded: Tensor, original: Tensor) -> Tensor:
    """Mean absolute difference, relative to each item's mean amplitude.

    Relative, so that quiet recordings teach as much as loud ones.
    """
    amplitude = original.abs().mean(dim=(1, 2)) + 1e-3
    return ((decoded - original).abs().mean(dim=(1, 2)) / amplitude).mean()


def level_loss(decoded: Tensor, original: Tensor) -> Tensor:
    """Difference between log10 levels of whole items, squared within `LEVEL_TOLERANCE`.

    Every weight of a decoder moves the level, so that this gradient is many times longer there
    than at the audio: without squaring it would rattle on about nothing and drown out the others.
    """
    a, b = (_level(x).log10() for x in (decoded, original))
    return F.smooth_l1_loss(a, b, beta=LEVEL_TOLERANCE)


def tonality_loss(decoded: Tensor, original: Tensor, sample_rate: int) -> Tensor:
    """How much more tonal decoded sound is than the original: noise decoded as rows of tones.

    Where phase cannot be coded, a decoder does well by the other losses to make up much the same in
    every frame, or to turn it by the same angle from frame to frame. Over a whole item such tones
    are lines. So the power of each of its finest bins is compared with the mean around it: squared,
    the ratio is two in noise, and more the fewer bins hold the power. What exceeds the original's
    is charged, as a ratio. Each critical band counts as much as any other: a tone hides in the
    noise of its own band alone, and low bands are narrow.

    Args:
        decoded: ``[B, 1, N]``.
        original: likewise.
        sample_rate: in Hz.
    """
    size = decoded.shape[-1]
    window = torch.hann_window(size, device=decoded.device)
    window *= 2 / window.sum()
    bins = max(2, round(TONALITY_BAND_HZ * size / sample_rate))
    ratios = []
    for audio in (decoded, original):
        whole = torch.fft.rfft(audio.squeeze(1) * window)
        power = _power(torch.view_as_real(whole)) + TONALITY_FLOOR**2
        bands = power[:, : power.shape[1] // bins * bins].reshape(len(power), -1, bins)
        ratios.append((bands.square().mean(-1) / bands.mean(-1).square()).log10())
    excess = (ratios[0] - ratios[1]).clamp(min=0)
    centre = (torch.arange(excess.shape[1], device=excess.device) + 0.5) * bins / size * sample_rate
    # Zwicker and Terhardt, 1980, doi:10.1121/1.385079.
    bandwidth = 25 + 75 * (1 + 1.4 * (centre / 1000).square()) ** 0.69
    return (excess / bandwidth).sum(1).mean() / (1 / bandwidth).sum()


def complex_loss(decoded: Tensor, original: Tensor) -> Tensor:
    """L1 between power-compressed complex spectra (Wisdom et al., arXiv:1811.08521).

    Compressing magnitudes to |X|^0.3 lets weak bins count, as they do for the ear; keeping the
    phase keeps the waveform.
    """
    return _magnitude(_compress(decoded) - _compress(original)).mean()


def magnitude_loss(decoded: Tensor, original: Tensor) -> Tensor:
    """L1 between log10 magnitudes, bin by bin (Yamamoto et al., arXiv:1910.11480).

    Mel bands are wide where frequencies are high: noise there that was decoded as a row of tones
    is seen here alone.
    """
    a, b = ((_power(x) + AMPLITUDE_FLOOR**2).log10() for x in (decoded, original))
    return 0.5 * (a - b).abs().mean()


def mel_loss(decoded: Tensor, original: Tensor, filterbank: Tensor) -> Tensor:
    """L1 between log10 mel magnitudes: the ear's frequency scale, and level as a ratio."""
    a, b = (
        (filterbank @ (_power(spectrum) + AMPLITUDE_FLOOR**2).sqrt()).log10()
        for spectrum in (decoded, original)
    )
    return (a - b).abs().mean()


def envelope_loss(decoded: Tensor, original: Tensor) -> Tensor:
    """One minus the correlation of the envelopes of bands, after STOI.

    Taal et al., 2011, doi:10.1109/TASL.2011.2114881: over `SEGMENT_FRAMES` at a time each band's
    level is matched and its error clipped. Other than in STOI bands of silence agree.

    Args:
        decoded: ``[B, bands, T]`` amplitudes.
        original: likewise.
    """
    length = min(SEGMENT_FRAMES, original.shape[-1])
    a, b = (x.unfold(-1, length, 1) for x in (decoded, original))
    a = a * (b.norm(dim=-1, keepdim=True) / a.norm(dim=-1, keepdim=True))
    a = torch.minimum(a, b * (1 + 10 ** (15 / 20)))
    a, b = (x - x.mean(-1, keepdim=True) for x in (a, b))
    powers = ((x.square().sum(-1) + SEGMENT_FLOOR).sqrt() for x in (a, b))
    correlation = ((a * b).sum(-1) + SEGMENT_FLOOR) / math.prod(powers)
    return (1 - correlation).mean()


def energy_loss(decoded: Tensor, original: Tensor) -> Tensor:
    """L1 between log10 amplitudes of bands over a tenth of a second.

    Losses that compare fine detail are content with too little wherever detail cannot be coded;
    this one sees no detail, only level.

    Args:
        decoded: ``[B, bands, T]`` powers.
        original: likewise.
    """
    length = min(ENERGY_FRAMES, original.shape[-1])
    a, b = (
        (F.avg_pool1d(x, length, math.ceil(length / 2)) + AMPLITUDE_FLOOR**2).log10()
        for x in (decoded, original)
    )
    return 0.5 * (a - b).abs().mean()


def loudness_loss(decoded: Tensor, original: Tensor) -> Tensor:
    """Difference of loudness in bands, after PESQ (ITU-T P.862).

    A share of it is masked by the sound itself, and what was added where there was little counts
    more than what is missing. As a loss: Martín-Doñas et al., 2018, doi:10.1109/LSP.2018.2871419.

    Args:
        decoded: ``[B, bands, T]`` powers.
        original: likewise.
    """
    level = original.mean(dim=(1, 2), keepdim=True) + LEVEL_FLOOR**2
    a, b = (x / level for x in (decoded, original))
    excess = ((a + EXCESS_FLOOR) / (b + EXCESS_FLOOR)) ** EXCESS_EXPONENT
    excess = torch.where(excess < EXCESS_RANGE[0], 0, excess.clamp(max=EXCESS_RANGE[1]))
    # PESQ's loudness, less what it subtracts to make that of silence zero.
    a, b = ((0.5 * (x + LOUDNESS_THRESHOLD)) ** LOUDNESS_EXPONENT for x in (a, b))
    of_silence = (0.5 * LOUDNESS_THRESHOLD) ** LOUDNESS_EXPONENT
    error = F.relu((a - b).abs() - MASKED_SHARE * (torch.minimum(a, b) - of_silence))
    symmetric = (error.square().mean(dim=1) + ERROR_FLOOR**2).sqrt() - ERROR_FLOOR
    asymmetric = (error * excess).mean(dim=1)
    return (symmetric + EXCESS_WEIGHT * asymmetric).mean()


class SpectralLosses(nn.Module):
    """Complex, magnitude and mel losses over one set of windows, and those of coarser bands.

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
        size = 2 * round(ENVELOPE_SECONDS * sample_rate / 2)
        hann = torch.hann_window(size)
        self.register_buffer("hann_envelope", hann * 2 / hann.sum(), persistent=False)
        thirds = _third_octaves(sample_rate, size)
        self.register_buffer("thirds", thirds, persistent=False)
        for name, bands in (("energy", ENERGY_BANDS), ("loudness", LOUDNESS_BANDS)):
            basis = librosa.filters.mel(sr=sample_rate, n_fft=size, n_mels=bands, norm=None)
            self.register_buffer(f"{name}_bands", torch.from_numpy(basis), persistent=False)

    def forward(
        self,
        decoded: Tensor,
        original: Tensor,
        windows: tuple[int, ...] | None = None,
        hops: int = 4,
    ) -> dict[str, Tensor]:
        """Mean of each loss over ``windows`` (all if None), by name.

        A random few windows per step, and fewer ``hops`` to a window, cost less and teach as much
        as long as they fall elsewhere in every step.
        """
        windows = self.windows if windows is None else windows
        terms: dict[str, list[Tensor]] = {"complex": [], "magnitude": [], "mel": []}
        for window in windows:
            hann = self.get_buffer(f"hann_{window}")
            a, b = spectrum(decoded, hann, hops), spectrum(original, hann, hops)
            # Short windows see no phase worth coding, and no single tones.
            if window >= 256:
                terms["complex"].append(complex_loss(a, b))
            if window >= 512:
                terms["magnitude"].append(magnitude_loss(a, b))
            terms["mel"].append(mel_loss(a, b, self.get_buffer(f"mel_{window}")))
        hann, thirds = self.get_buffer("hann_envelope"), self.get_buffer("thirds")
        a, b = (_power(spectrum(audio, hann, hops=2)) for audio in (decoded, original))
        envelopes = ((thirds @ power + AMPLITUDE_FLOOR**2).sqrt() for power in (a, b))
        terms["envelope"] = [envelope_loss(*envelopes)]
        for name, loss in (("energy", energy_loss), ("loudness", loudness_loss)):
            bands = self.get_buffer(f"{name}_bands")
            terms[name] = [loss(bands @ a, bands @ b)]
        return {
            name: torch.stack(values).mean() if values else decoded.new_zeros(())
            for name, values in terms.items()
        }


def _third_octaves(sample_rate: int, size: int) -> Tensor:
    """STOI's 15 bands of a third of an octave from 150 Hz, as sums over bins: ``[15, F]``."""
    frequency = torch.arange(size // 2 + 1) * sample_rate / size
    centre = 150 * 2 ** (torch.arange(15)[:, None] / 3)
    return ((frequency >= centre * 2 ** (-1 / 6)) & (frequency < centre * 2 ** (1 / 6))).float()


def spectrum(audio: Tensor, window: Tensor, hops: int = 4) -> Tensor:
    """STFT ``[B, F, T, 2]``, real and imaginary parts last, with ``hops`` hops to a window."""
    size = len(window)
    complex_spectrum = torch.stft(
        audio.squeeze(1), size, size // hops, window=window, return_complex=True
    )
    # In real arithmetic, which PyTorch runs about twice as fast.
    return torch.view_as_real(complex_spectrum)


def _level(audio: Tensor) -> Tensor:
    """RMS amplitude of each item ``[B, 1, N]``: ``[B]``."""
    return (audio.square().mean(dim=(1, 2)) + LEVEL_FLOOR**2).sqrt()


def _power(x: Tensor) -> Tensor:
    return x[..., 0].square() + x[..., 1].square()


def _magnitude(x: Tensor) -> Tensor:
    """The floor, far below what is heard, gives the root a gradient at zero."""
    return (_power(x) + AMPLITUDE_FLOOR**4).sqrt() - AMPLITUDE_FLOOR**2


def _compress(x: Tensor) -> Tensor:
    scale = (_power(x) + 10 * AMPLITUDE_FLOOR**2) ** ((SPECTRUM_COMPRESSION - 1) / 2)
    return x * scale[..., None]
