"""Variable bitrate without a target bitrate: constant quality, and files of a given size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from codec.arrays import Samples
from codec.core.frames import levels_and_weights, slopes
from codec.engines.base import Engine
from codec.errors import CodecError
from codec.rate.allocation import lambda_for


def quality_lambdas(engine: Engine, qualities: Sequence[float]) -> list[float]:
    """The lambdas of constant qualities: codes are sent whose slope is above them.

    The scale is set by a synthetic voice: at quality q it gets ``1 + (K - 1) * q / 10`` codes
    per frame in the mean. What is easier to code gets fewer, what is harder or louder more.

    Args:
        engine: the model.
        qualities: from 0 to 10.

    Raises:
        ModelError: the model computes no errors.

    Example:
        >>> from codec import load_model
        >>> low, high = quality_lambdas(load_model().engine, [0, 5])
        >>> low > high
        True
    """
    spec = engine.spec
    audio = synthetic_voice(spec.sample_rate, spec.hop_length)
    found, _ = engine.analyze_step(audio, engine.init_encoder(1))
    _, weights = levels_and_weights(audio.reshape(-1, spec.hop_length))
    frames = slopes((found.errors[0] * weights).T, np.array(spec.bits))
    num_frames, most = frames.shape
    return [lambda_for(frames, (1 + (most - 1) * each / 10) * num_frames) for each in qualities]


def synthetic_voice(sample_rate: int, hop_length: int, seconds: float = 2.0) -> Samples:
    """A voice of harmonics with a moving pitch, syllables and some noise: ``[1, n]``, whole frames.

    Example:
        >>> synthetic_voice(24_000, 480).shape
        (1, 48000)
    """
    num_samples = int(seconds * sample_rate / hop_length) * hop_length
    time = np.arange(num_samples) / sample_rate
    pitch = 140 + 40 * np.sin(2 * np.pi * 0.7 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / sample_rate
    voice = np.zeros(num_samples)
    for number in range(1, 30):
        frequency = 140 * number
        if frequency < sample_rate / 2:
            voice += np.sin(number * phase + number**2) / (1 + (frequency / 500) ** 1.5)
    syllables = 0.1 + np.sin(2 * np.pi * 2 * time) ** 2
    noise = np.random.default_rng(0).standard_normal(num_samples)
    voice = syllables * voice / voice.std() + 0.05 * (1.1 - syllables) * noise
    # In 16 bits, so that it does not depend on how a machine rounds sines.
    audio: Samples = (np.round(3276.8 * voice / voice.std()) / 32_768).astype(np.float32)[None]
    return audio


def search_size(target: int, encode: Callable[[float], int]) -> float:
    """The highest quality at which a file has ``target`` bytes at most, or nearly the highest.

    Args:
        target: most bytes.
        encode: encodes at a quality and returns the number of bytes.

    Raises:
        CodecError: even at the lowest quality there are more bytes.

    Example:
        >>> sizes = []
        >>> quality = search_size(5_000, lambda q: sizes.append(q) or int(1_000 + 700 * q))
        >>> round(quality, 1), len(sizes) < 5
        (5.6, True)
    """
    aim = 0.993  # share of the bytes: a file that is a little too large is of no use
    low, low_size = 0.0, 0
    high, high_size = 10.0, 0
    best: float | None = None
    quality = high / 2
    for left in reversed(range(8)):
        size = encode(quality)
        if size <= target:
            best, low, low_size = quality, quality, size
            if size >= 0.985 * target or quality == 10:  # large enough
                break
        else:
            high, high_size = quality, size
            if quality == 0:
                raise CodecError(
                    f"at the lowest quality the file has {size} bytes: give at least as many, or "
                    "a shorter file"
                )
        if low_size and high_size:
            quality = low + (high - low) * (aim * target - low_size) / (high_size - low_size)
            quality = min(max(quality, low), high)
        elif best is not None:
            quality = min(10.0, quality * aim * target / size)
        else:
            quality = 0.0 if left == 1 else quality * aim * target / size - 0.2
            quality = max(0.0, quality)
    assert best is not None
    return best
