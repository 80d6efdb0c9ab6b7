"""Reconstruction losses and the table that lists them.

Every loss has the signature ``loss(decoded, original, sample_rate) -> scalar`` and is zero for
equal sounds. What ``decoded`` and ``original`` are depends on the loss's `Input`. Losses with the
same input share its transform, which is most of their cost.

To add a loss, write a function and add a line to `LOSSES`: the name becomes a weight in the
``[loss]`` section of recipes, and training, validation and benchmarks compute the loss wherever
that weight is above zero.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import librosa
import torch
import torch.nn.functional as F
from torch import Tensor

from codec.evaluation.mel import MEL_BANDS, MEL_WINDOWS

SPECTRUM_COMPRESSION = 0.3
# Amplitudes relative to a full-scale sine. Sound below -90 dB is inaudible, and without a floor the
# logarithm of silence would outweigh all sound in a batch.
AMPLITUDE_FLOOR = 3e-5

LEVEL_FLOOR = 1e-4
MAX_GAIN = 2.0
LEVEL_TOLERANCE = 0.05  # 1 dB

TONALITY_BAND_HZ = 100.0
TONALITY_FLOOR = 3e-6  # noise spreads over thousands of bins

# Windows that resolve the tones of a key and are no longer than one. Voiced speech always has
# several harmonics within the surroundings of a bin, a single tone has nothing else there.
PARTIALS_SECONDS = 0.0853
PARTIALS_HZ = 470.0
PARTIALS_SHARE = 0.7
PARTIALS_FLOOR = 0.01

# STOI's: frames of 25.6 ms, half overlapping, and segments of 384 ms.
ENVELOPE_SECONDS = 0.0256
SEGMENT_FRAMES = 30
SEGMENT_FLOOR = 4e-7
ENERGY_BANDS = 24
ENERGY_FRAMES = 8

# About two bands per critical band, and PESQ's constants: the growth of loudness with power, the
# share of a sound that masks an error, and the range of excess in which added sound is penalised.
# Powers are relative to the mean of a crop's bands.
LOUDNESS_BANDS = 42
LOUDNESS_EXPONENT = 0.23
LOUDNESS_THRESHOLD = 1e-6
MASKED_SHARE = 0.25
EXCESS_EXPONENT = 1.2
EXCESS_RANGE = (3.0, 12.0)
EXCESS_FLOOR = 1e-5
EXCESS_WEIGHT = 0.309
# Far below audible errors; it makes the gradient of the root finite at zero.
ERROR_FLOOR = 4.17e-5


def match_level(decoded: Tensor, original: Tensor) -> Tensor:
    """Scale decoded items to the level of the originals, by a gain of 1 / `MAX_GAIN` to `MAX_GAIN`.

    Losses that compare detail make decoded sound too quiet, because leaving out what cannot be
    predicted costs less than predicting it wrongly. At equal level they have no gradient along the
    level, which is left to `level_loss`.

    Args:
        decoded: ``[B, 1, N]``.
        original: ``[B, 1, N]``.

    Returns:
        ``[B, 1, N]``.
    """
    gain = _level(original) / _level(decoded)
    return decoded * gain.clamp(1 / MAX_GAIN, MAX_GAIN)[:, None, None]


def waveform_loss(decoded: Tensor, original: Tensor, sample_rate: int) -> Tensor:
    """Mean absolute difference, relative to each item's mean amplitude.

    Relative, so that quiet and loud recordings weigh the same.

    Example:
        >>> tone = torch.sin(torch.arange(480) / 10)[None, None]
        >>> round(float(waveform_loss(0.5 * tone, tone, 24_000)), 2)
        0.5
    """
    amplitude = original.abs().mean(dim=(1, 2)) + 1e-3
    return ((decoded - original).abs().mean(dim=(1, 2)) / amplitude).mean()


def level_loss(decoded: Tensor, original: Tensor, sample_rate: int) -> Tensor:
    """Difference between log10 levels of whole items, squared within `LEVEL_TOLERANCE`.

    Every weight of a decoder changes the level, so this gradient is many times longer at the
    weights than at the audio: without squaring it would keep a full-size gradient at the optimum
    and dominate the rest.
    """
    a, b = (_level(x).log10() for x in (decoded, original))
    return F.smooth_l1_loss(a, b, beta=LEVEL_TOLERANCE)


def tonality_loss(decoded: Tensor, original: Tensor, sample_rate: int) -> Tensor:
    """How much more tonal decoded sound is than the original: noise decoded as rows of tones.

    Where phase cannot be coded, a decoder minimises the other losses by repeating nearly the same
    frame, or by turning it by the same angle from frame to frame. Over a whole item such tones are
    lines. So the power of each of its finest bins is compared with the mean around it: the mean
    square over the squared mean is two in noise, and grows as fewer bins hold the power. What
    exceeds the original's ratio is penalised, as a ratio. Every critical band has the same weight:
    a tone is masked by the noise of its own band alone, and low bands are narrow.
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


def partials_loss(decoded: Tensor, original: Tensor, sample_rate: int) -> Tensor:
    """Error in the surroundings of single tones, relative to the power of the item.

    A bin belongs to a single tone as far as it and its neighbours hold more than `PARTIALS_SHARE`
    of the power within `PARTIALS_HZ`. Around such bins the differences of spectra and of their
    magnitudes are penalised: the other losses see a tone that is off by a few percent in frequency,
    as codecs of speech decode the keys of telephones, as a small error.
    """
    size = 2 * round(PARTIALS_SECONDS * sample_rate / 2)
    window = hann_window(min(size, original.shape[-1] // 2 * 2), decoded.device)
    a, b = (spectrum(audio, window) for audio in (decoded, original))
    power = _power(b).transpose(1, 2)
    reach = round(PARTIALS_HZ * len(window) / sample_rate)
    own, around = (
        (2 * bins + 1) * F.avg_pool1d(power, 2 * bins + 1, stride=1, padding=bins)
        for bins in (1, reach)
    )
    single = (own / (around + AMPLITUDE_FLOOR**2) - PARTIALS_SHARE).clamp(min=0)
    weight = F.max_pool1d(single, 2 * reach + 1, stride=1, padding=reach) / (1 - PARTIALS_SHARE)
    magnitudes = _magnitude(a) - _magnitude(b)
    error = 0.5 * (_power(a - b) + magnitudes.square()).transpose(1, 2)
    share = (weight * error).sum(dim=(1, 2)) / (power.sum(dim=(1, 2)) + LEVEL_FLOOR**2)
    return ((share + PARTIALS_FLOOR).sqrt() - math.sqrt(PARTIALS_FLOOR)).mean()


def complex_loss(decoded: Tensor, original: Tensor, sample_rate: int) -> Tensor:
    """L1 between power-compressed complex spectra (Wisdom et al., arXiv:1811.08521).

    Compressing magnitudes to |X|^0.3 gives weak bins weight, as in hearing; keeping the phase
    preserves the waveform.
    """
    return _magnitude(_compress(decoded) - _compress(original)).mean()


def magnitude_loss(decoded: Tensor, original: Tensor, sample_rate: int) -> Tensor:
    """L1 between log10 magnitudes, bin by bin (Yamamoto et al., arXiv:1910.11480).

    Mel bands are wide at high frequencies: only this loss sees noise there that was decoded as a
    row of tones.
    """
    a, b = ((_power(x) + AMPLITUDE_FLOOR**2).log10() for x in (decoded, original))
    return 0.5 * (a - b).abs().mean()


def mel_loss(decoded: Tensor, original: Tensor, sample_rate: int) -> Tensor:
    """L1 between log10 mel magnitudes: a perceptual frequency scale, and level as a ratio."""
    filterbank = mel_means(sample_rate, _window_of(decoded), decoded.device)
    a, b = (
        (filterbank @ (_power(spectrum) + AMPLITUDE_FLOOR**2).sqrt()).log10()
        for spectrum in (decoded, original)
    )
    return (a - b).abs().mean()


def envelope_loss(decoded: Tensor, original: Tensor, sample_rate: int) -> Tensor:
    """One minus the correlation of the envelopes of bands, after STOI.

    Taal et al., 2011, doi:10.1109/TASL.2011.2114881: over `SEGMENT_FRAMES` frames each band's level
    is matched and its error clipped. Unlike in STOI, bands of silence correlate.
    """
    thirds = third_octaves(sample_rate, _window_of(decoded), decoded.device)
    envelopes = ((thirds @ x + AMPLITUDE_FLOOR**2).sqrt() for x in (decoded, original))
    length = min(SEGMENT_FRAMES, original.shape[-1])
    a, b = (x.unfold(-1, length, 1) for x in envelopes)
    a = a * (b.norm(dim=-1, keepdim=True) / a.norm(dim=-1, keepdim=True))
    a = torch.minimum(a, b * (1 + 10 ** (15 / 20)))
    a, b = (x - x.mean(-1, keepdim=True) for x in (a, b))
    powers = ((x.square().sum(-1) + SEGMENT_FLOOR).sqrt() for x in (a, b))
    correlation = ((a * b).sum(-1) + SEGMENT_FLOOR) / math.prod(powers)
    return (1 - correlation).mean()


def energy_loss(decoded: Tensor, original: Tensor, sample_rate: int) -> Tensor:
    """L1 between log10 amplitudes of bands over a tenth of a second.

    Losses that compare fine detail under-penalise missing energy wherever detail cannot be coded.
    This one sees no detail, only level.
    """
    bands = mel_sums(sample_rate, _window_of(decoded), ENERGY_BANDS, decoded.device)
    length = min(ENERGY_FRAMES, original.shape[-1])
    a, b = (
        (F.avg_pool1d(x, length, math.ceil(length / 2)) + AMPLITUDE_FLOOR**2).log10()
        for x in (bands @ decoded, bands @ original)
    )
    return 0.5 * (a - b).abs().mean()


def loudness_loss(decoded: Tensor, original: Tensor, sample_rate: int) -> Tensor:
    """Difference of loudness in bands, after PESQ (ITU-T P.862), see `loudness_difference`.

    As a loss: Martín-Doñas et al., 2018, doi:10.1109/LSP.2018.2871419.
    """
    bands = mel_sums(sample_rate, _window_of(decoded), LOUDNESS_BANDS, decoded.device)
    return loudness_difference(bands @ decoded, bands @ original)


def loudness_difference(decoded: Tensor, original: Tensor) -> Tensor:
    """Loss of `loudness_loss` from powers of bands.

    A share of the difference is masked by the sound itself, and sound that was added where there
    was little counts more than sound that is missing.

    Args:
        decoded: ``[B, bands, T]`` powers.
        original: ``[B, bands, T]`` powers.
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


class Input(enum.Enum):
    """What a loss compares. Decoded audio has the level of the original, see `match_level`."""

    WAVEFORM = "waveform"
    """Audio ``[B, 1, N]``."""
    UNMATCHED = "unmatched"
    """Audio ``[B, 1, N]``, decoded at its own level."""
    SPECTRA = "spectra"
    """Spectra ``[B, F, T, 2]`` of one window after the other; the loss is their mean."""
    BANDS = "bands"
    """Power spectra ``[B, F, T]`` of frames of `ENVELOPE_SECONDS`, which losses sum to bands."""


@dataclass(frozen=True, kw_only=True)
class Loss:
    """One line of the table of losses.

    Attributes:
        name: name of its weight in the ``[loss]`` section of recipes.
        paper: where it comes from; ``ours`` if nowhere else.
        input: what it compares.
        sees: what it penalises; describes its weight in recipes.
        function: ``(decoded, original, sample_rate)`` to a scalar.
        min_window: spectra of shorter windows are left out.
        required: recipes must give its weight; otherwise the weight is zero by default.
    """

    name: str
    paper: str
    input: Input
    sees: str
    function: Callable[[Tensor, Tensor, int], Tensor]
    min_window: int = 0
    required: bool = False


# The order is that of evaluation and of summation: with another order the weights of a trained
# model differ in the last bits.
LOSSES = {
    loss.name: loss
    for loss in (
        Loss(
            name="complex",
            paper="Wisdom et al., arXiv:1811.08521",
            input=Input.SPECTRA,
            sees="phase and level of every bin, weak bins included",
            function=complex_loss,
            min_window=256,  # shorter windows show no phase worth coding
            required=True,
        ),
        Loss(
            name="magnitude",
            paper="Yamamoto et al., arXiv:1910.11480",
            input=Input.SPECTRA,
            sees="level of every bin, and so tones in place of noise",
            function=magnitude_loss,
            min_window=512,  # shorter windows resolve no single tones
            required=True,
        ),
        Loss(
            name="mel",
            paper="Kumar et al., arXiv:2306.06546",
            input=Input.SPECTRA,
            sees="level of mel bands at seven resolutions in time",
            function=mel_loss,
            required=True,
        ),
        Loss(
            name="envelope",
            paper="Taal et al., doi:10.1109/TASL.2011.2114881",
            input=Input.BANDS,
            sees="envelopes of third-octave bands to 4 kHz, which carry speech",
            function=envelope_loss,
        ),
        Loss(
            name="energy",
            paper="ours",
            input=Input.BANDS,
            sees="missing or excess energy of bands over a tenth of a second",
            function=energy_loss,
        ),
        Loss(
            name="loudness",
            paper="ITU-T P.862; Martín-Doñas et al., doi:10.1109/LSP.2018.2871419",
            input=Input.BANDS,
            sees="audible differences of loudness, added sound more than missing sound",
            function=loudness_loss,
        ),
        Loss(
            name="waveform",
            paper="Défossez et al., arXiv:2210.13438",
            input=Input.WAVEFORM,
            sees="difference of samples, relative to the level",
            function=waveform_loss,
            required=True,
        ),
        Loss(
            name="tonality",
            paper="ours",
            input=Input.WAVEFORM,
            sees="tones that the original does not have",
            function=tonality_loss,
        ),
        Loss(
            name="partials",
            paper="ours",
            input=Input.WAVEFORM,
            sees="single tones of the wrong frequency, phase or level",
            function=partials_loss,
        ),
        Loss(
            name="level",
            paper="ours",
            input=Input.UNMATCHED,
            sees="level of the whole item",
            function=level_loss,
        ),
    )
}
"""Every reconstruction loss by name, in the order of evaluation."""


class View(NamedTuple):
    """What losses see of audio. By default everything, as in validation.

    Attributes:
        windows: windows of the spectra, any of `MEL_WINDOWS`.
        start: first sample of the spectra and bands.
        hops: hops per window of the spectra.
    """

    windows: tuple[int, ...] = MEL_WINDOWS
    start: int = 0
    hops: int = 4


def evaluate_losses(
    losses: Iterable[Loss],
    decoded: Tensor,
    matched: Tensor,
    original: Tensor,
    sample_rate: int,
    view: View,
) -> dict[str, Tensor]:
    """Value of each loss by name. Transforms that none of them needs are not computed.

    Args:
        losses: any of `LOSSES`, in its order.
        decoded: ``[B, 1, N]``.
        matched: ``[B, 1, N]``, decoded audio at the level of the original.
        original: ``[B, 1, N]``.
        sample_rate: in Hz.
        view: windows and offset of the spectra.

    Returns:
        Scalars, unweighted. A loss on spectra whose ``min_window`` exceeds every window is zero.
    """
    by_input: dict[Input, list[Loss]] = {}
    for loss in losses:
        by_input.setdefault(loss.input, []).append(loss)
    terms: dict[str, list[Tensor]] = {loss.name: [] for some in by_input.values() for loss in some}
    shifted = (matched[..., view.start :], original[..., view.start :])
    for window in view.windows:
        if seeing := [x for x in by_input.get(Input.SPECTRA, []) if window >= x.min_window]:
            hann = hann_window(window, decoded.device)
            a, b = (spectrum(audio, hann, view.hops) for audio in shifted)
            for loss in seeing:
                terms[loss.name].append(loss.function(a, b, sample_rate))
    if Input.BANDS in by_input:
        hann = hann_window(2 * round(ENVELOPE_SECONDS * sample_rate / 2), decoded.device)
        a, b = (_power(spectrum(audio, hann, hops=2)) for audio in shifted)
        for loss in by_input[Input.BANDS]:
            terms[loss.name].append(loss.function(a, b, sample_rate))
    for loss in by_input.get(Input.WAVEFORM, []):
        terms[loss.name].append(loss.function(matched, original, sample_rate))
    for loss in by_input.get(Input.UNMATCHED, []):
        terms[loss.name].append(loss.function(decoded, original, sample_rate))
    return {
        name: torch.stack(values).mean() if values else (0 * decoded).sum()
        for name, values in terms.items()
    }


def spectrum(audio: Tensor, window: Tensor, hops: int = 4) -> Tensor:
    """STFT ``[B, F, T, 2]``, real and imaginary parts last, with ``hops`` hops per window."""
    size = len(window)
    complex_spectrum = torch.stft(
        audio.squeeze(1), size, size // hops, window=window, return_complex=True
    )
    # In real arithmetic, which PyTorch runs about twice as fast.
    return torch.view_as_real(complex_spectrum)


# Constants of the transforms are computed once per device, outside of inference mode, so that a
# constant that validation computes first can be used in training.


@cache
@torch.inference_mode(False)
def hann_window(size: int, device: torch.device | None = None) -> Tensor:
    """Hann window ``[size]`` in whose spectra a sine has its own amplitude."""
    hann = torch.hann_window(size)
    return (hann * 2 / hann.sum()).to(device)


@cache
@torch.inference_mode(False)
def mel_means(sample_rate: int, window: int, device: torch.device | None = None) -> Tensor:
    """Mel bands of one of `MEL_WINDOWS` as weighted means over bins: ``[bands, F]``."""
    bands = MEL_BANDS[MEL_WINDOWS.index(window)]
    basis = librosa.filters.mel(sr=sample_rate, n_fft=window, n_mels=bands)
    basis /= basis.sum(axis=1, keepdims=True).clip(min=1e-6)
    return torch.from_numpy(basis).to(device)


@cache
@torch.inference_mode(False)
def mel_sums(
    sample_rate: int, window: int, bands: int, device: torch.device | None = None
) -> Tensor:
    """Mel bands as sums over bins: ``[bands, F]``."""
    basis = librosa.filters.mel(sr=sample_rate, n_fft=window, n_mels=bands, norm=None)
    return torch.from_numpy(basis).to(device)


@cache
@torch.inference_mode(False)
def third_octaves(sample_rate: int, window: int, device: torch.device | None = None) -> Tensor:
    """STOI's 15 bands of a third of an octave from 150 Hz, as sums over bins: ``[15, F]``."""
    frequency = torch.arange(window // 2 + 1) * sample_rate / window
    centre = 150 * 2 ** (torch.arange(15)[:, None] / 3)
    passed = (frequency >= centre * 2 ** (-1 / 6)) & (frequency < centre * 2 ** (1 / 6))
    return passed.float().to(device)


def _window_of(spectra: Tensor) -> int:
    """Length of the window of spectra ``[B, F, T, ...]``."""
    return 2 * (spectra.shape[1] - 1)


def _level(audio: Tensor) -> Tensor:
    """RMS amplitude of each item ``[B, 1, N]``: ``[B]``."""
    return (audio.square().mean(dim=(1, 2)) + LEVEL_FLOOR**2).sqrt()


def _power(x: Tensor) -> Tensor:
    return x[..., 0].square() + x[..., 1].square()


def _magnitude(x: Tensor) -> Tensor:
    """Magnitudes with a floor far below audibility, so that the gradient is finite at zero."""
    return (_power(x) + AMPLITUDE_FLOOR**4).sqrt() - AMPLITUDE_FLOOR**2


def _compress(x: Tensor) -> Tensor:
    scale = (_power(x) + 10 * AMPLITUDE_FLOOR**2) ** ((SPECTRUM_COMPRESSION - 1) / 2)
    return x * scale[..., None]
