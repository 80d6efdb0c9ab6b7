"""Augmentation: more varied crops, and degraded inputs with clean targets."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, log
from pathlib import Path

import numpy as np
import scipy.signal
import soxr

from codec.arrays import Samples
from codec.corpus.clips import FILTER_REACH
from codec.corpus.index import scan
from codec.highpass import high_pass
from train.data.crops import Crops
from train.data.variety import limit, telephone, tones, transcode
from train.recipe.sections import AugmentConfig

FRAME_SECONDS = 0.02
# Frames this far below the loudest one are pauses (as in STOI, Taal et al. 2011,
# doi:10.1109/TASL.2011.2114881); power below the last of 16 bits is silence.
ACTIVE_RANGE_DB = 40.0
SILENCE = 2.0**-30
# Direct-to-reverberant ratio of a listener between half and twice the critical distance, at which
# both are equal; the direct sound loses 6 dB per doubling of the distance.
DIRECT_TO_REVERBERANT_DB = (-6.0, 6.0)
# Longest part of an impulse response that is used: enough for a cathedral.
MAX_RESPONSE_SECONDS = 5.0
# Level of stationary noise relative to full scale, before the gain, and where its slope begins.
NOISE_DB = -20.0
NOISE_KNEE_HZ = 100.0
# Attenuation of the low-pass, and its transition band as a share of the highest frequency.
STOPBAND_DB = 80.0
TRANSITION = 0.1


class Augmenter:
    """Applies the ``[augment]`` section of a recipe to crops.

    Args:
        config: the section.
        sample_rate: samples per second of the audio.
        num_samples: length of a crop.
        memory_gb: noise, and impulse responses, are kept in memory if they take less.

    Attributes:
        num_source_samples: length of the audio that a crop is made from, which is longer than the
            crop if its speed may change.

    Raises:
        AudioError: the folder of noise or of impulse responses holds no audio.
    """

    def __init__(
        self, config: AugmentConfig, sample_rate: int, num_samples: int, memory_gb: float = 0.0
    ) -> None:
        self._config, self._sample_rate, self._num_samples = config, sample_rate, num_samples
        self.num_source_samples = num_samples
        if config.resample:
            self.num_source_samples = _source_length(num_samples, 1 + config.resample)

        def crops(folder: str, share: float) -> Crops | None:
            if not (folder and share):
                return None
            return Crops(scan(Path(folder)), sample_rate, memory_gb=memory_gb)

        self._noise = crops(config.noise, config.noise_share)
        self._rooms = crops(config.impulse_responses, config.reverb_share)

    def __call__(
        self, source: Samples, rng: np.random.Generator, draw_other: Callable[[], Samples]
    ) -> tuple[Samples, Samples]:
        """Input and target ``[num_samples]`` of one crop, within [-1, 1].

        Both are the same array unless the input is degraded.

        Args:
            source: audio ``[num_source_samples]``.
            rng: source of all choices.
            draw_other: returns another source to mix in.
        """
        config = self._config
        if rng.random() < config.stationary_noise:
            clean = colored_noise(rng, self._num_samples, self._sample_rate)
        elif config.tones and rng.random() < config.tones:
            clean = tones(rng, self._num_samples, self._sample_rate)
        else:
            clean = self._vary(self._change_speed(source, rng), rng)
        if rng.random() < config.mix:
            clean = self._mix(clean, self._change_speed(draw_other(), rng), rng)
        clean = self._change_level(self._limit(clean, rng), rng)

        # In the physical order: room, other sources, microphone, transmission.
        degraded = clean
        if rng.random() < config.reverb_share:
            degraded = reverberate(degraded, self._draw_room(rng))
        if self._noise and rng.random() < config.noise_share:
            noise = self._noise.draw(rng, self._num_samples)
            snr_db = _between(config.noise_snr_db, rng)
            degraded = add_noise(degraded, noise, snr_db, self._sample_rate)
        if rng.random() < config.clip_share:
            degraded = overdrive(degraded, _between(config.clip_db, rng))
        if rng.random() < config.band_limit_share:
            degraded = low_pass(degraded, _between(config.band_limit_hz, rng), self._sample_rate)
        target = self._without_rumble(clean)
        if degraded is clean:
            return target, target
        return self._without_rumble(degraded).clip(-1, 1), target

    def _without_rumble(self, audio: Samples) -> Samples:
        if not self._config.high_pass:
            return audio
        filtered: Samples = high_pass(audio[None], self._sample_rate)[0].clip(-1, 1)
        return filtered

    def _change_speed(self, source: Samples, rng: np.random.Generator) -> Samples:
        if not self._config.resample:
            return source
        speed = 1 + rng.uniform(-self._config.resample, self._config.resample)
        return change_speed(source, self._num_samples, speed)

    def _vary(self, audio: Samples, rng: np.random.Generator) -> Samples:
        """Room, background noise, telephone line or another codec, in the physical order."""
        config, rate = self._config, self._sample_rate
        # What is off draws nothing, so that earlier recipes give the crops that they gave.
        if config.room_share and rng.random() < config.room_share:
            audio = reverberate(audio, self._draw_room(rng))
        if config.floor_share and rng.random() < config.floor_share:
            floor = colored_noise(rng, self._num_samples, rate)
            audio = add_noise(audio, floor, _between(config.floor_snr_db, rng), rate)
        if config.telephone_share and rng.random() < config.telephone_share:
            audio = telephone(audio, rate)
        if config.transcode_share and rng.random() < config.transcode_share:
            audio = transcode(audio.clip(-1, 1), rate, rng)
        return audio

    def _mix(self, audio: Samples, other: Samples, rng: np.random.Generator) -> Samples:
        if not self._config.mix_snr_db:
            return audio + other
        return add_noise(audio, other, _between(self._config.mix_snr_db, rng), self._sample_rate)

    def _limit(self, audio: Samples, rng: np.random.Generator) -> Samples:
        config = self._config
        if not config.limit_share or rng.random() >= config.limit_share:
            return audio
        return limit(audio, _between(config.limit_db, rng), hard=rng.random() < 0.5)

    def _change_level(self, audio: Samples, rng: np.random.Generator) -> Samples:
        """Gain and polarity; full scale limits the gain, because a target must not be clipped."""
        gain = 10 ** (_between(self._config.gain_db, rng) / 20)
        gain = min(gain, 1 / max(float(np.abs(audio).max()), 1e-9))
        if self._config.polarity and rng.random() < 0.5:
            gain = -gain
        return (audio * np.float32(gain)).clip(-1, 1)  # rounding may exceed 1

    def _draw_room(self, rng: np.random.Generator) -> Samples:
        if self._rooms:
            return self._rooms.draw_whole(rng, round(MAX_RESPONSE_SECONDS * self._sample_rate))
        seconds = _between(self._config.reverb_seconds, rng)
        direct_db = _between(DIRECT_TO_REVERBERANT_DB, rng)
        return synthetic_room(rng, seconds, direct_db, self._sample_rate)


def colored_noise(rng: np.random.Generator, num_samples: int, sample_rate: int) -> Samples:
    """Stationary noise at `NOISE_DB`, falling by 0 to 6 dB per octave above `NOISE_KNEE_HZ`."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    octaves = np.log2(
        np.fft.rfftfreq(num_samples, 1 / sample_rate).clip(NOISE_KNEE_HZ) / NOISE_KNEE_HZ
    )
    noise = np.fft.irfft(spectrum * 2 ** (-rng.uniform(0, 1) * octaves), num_samples)
    scaled: Samples = (noise * (10 ** (NOISE_DB / 20) / noise.std())).astype(np.float32)
    return scaled


def change_speed(source: Samples, num_samples: int, speed: float) -> Samples:
    """``num_samples`` of audio played ``speed`` times as fast, pitch included."""
    played = soxr.resample(source[: _source_length(num_samples, speed)], speed, 1.0)
    # The samples at the edges, which depend on the silence around the source, are left out.
    changed: Samples = played[FILTER_REACH : FILTER_REACH + num_samples]
    return changed


def active_power(audio: Samples, sample_rate: int) -> float:
    """Mean square of the parts that are not pauses."""
    size = min(round(FRAME_SECONDS * sample_rate), len(audio))
    frames = audio[: len(audio) // size * size].reshape(-1, size)
    power = np.square(frames, dtype=np.float64).mean(axis=1)
    return float(power[power >= power.max() * 10 ** (-ACTIVE_RANGE_DB / 10)].mean())


def add_noise(audio: Samples, noise: Samples, snr_db: float, sample_rate: int) -> Samples:
    """Audio with noise at a ratio of their active powers; unchanged if either is silent."""
    power, noise_power = active_power(audio, sample_rate), active_power(noise, sample_rate)
    if min(power, noise_power) < SILENCE:
        return audio
    scale = (power / noise_power / 10 ** (snr_db / 10)) ** 0.5
    return audio + noise * np.float32(scale)


def synthetic_room(
    rng: np.random.Generator, seconds: float, direct_db: float, sample_rate: int
) -> Samples:
    """Impulse response of a synthetic room: direct sound, then decaying noise.

    Moorer, About This Reverberation Business (Computer Music Journal 3(2), 1979).

    Args:
        rng: source of the noise.
        seconds: reverberation time, in which the noise falls by 60 dB.
        direct_db: ratio of the direct sound's energy to that of the noise.
        sample_rate: samples per second of the response.

    Example:
        >>> len(synthetic_room(np.random.default_rng(0), 0.5, 0.0, 24_000))
        12001
    """
    time = np.arange(1, ceil(seconds * sample_rate) + 1, dtype=np.float32) / sample_rate
    tail = rng.standard_normal(len(time), np.float32) * np.exp(time * (-3 * log(10) / seconds))
    tail *= np.float32((10 ** (-direct_db / 10) / np.square(tail).sum()) ** 0.5)
    return np.concatenate((np.ones(1, np.float32), tail))


def reverberate(audio: Samples, response: Samples) -> Samples:
    """Audio in a room; its direct sound keeps its time, level and sign.

    The direct sound is the response's highest peak. The room is silent when the crop begins, like
    the state of the codec.
    """
    peak = int(np.abs(response).argmax())
    if abs(response[peak]) < SILENCE:
        return audio
    heard: Samples = scipy.signal.fftconvolve(audio, response / response[peak])
    return heard[peak : peak + len(audio)]


def overdrive(audio: Samples, excess_db: float) -> Samples:
    """Audio whose peaks, ``excess_db`` above the clipping limit, are cut off."""
    limit = np.abs(audio).max() * np.float32(10 ** (-excess_db / 20))
    return audio.clip(-limit, limit)


def low_pass(audio: Samples, end_hz: float, sample_rate: int) -> Samples:
    """Audio without the frequencies above ``end_hz``, not delayed.

    A linear-phase FIR filter with a Kaiser window (Kaiser 1974), with its delay compensated.
    """
    if end_hz >= sample_rate / 2:
        return audio
    width = TRANSITION * end_hz
    taps, beta = scipy.signal.kaiserord(STOPBAND_DB, width / (sample_rate / 2))
    taps |= 1  # odd: the delay is a whole number of samples
    kernel = scipy.signal.firwin(
        taps, end_hz - width / 2, window=("kaiser", beta), fs=sample_rate
    ).astype(np.float32)
    filtered: Samples = scipy.signal.fftconvolve(audio, kernel, mode="full")
    return filtered[taps // 2 : taps // 2 + len(audio)]


def _source_length(num_samples: int, speed: float) -> int:
    return ceil(speed * (num_samples + 2 * FILTER_REACH)) + 1


def _between(limits: tuple[float, ...], rng: np.random.Generator) -> float:
    return float(rng.uniform(limits[0], limits[1]))
