"""Variable bitrate without a target bitrate: constant quality, and files of a given size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from codec.arguments import check_number
from codec.engines.base import Engine, WeighsCodes
from codec.entropy.allocation import ConstantQuality, Floats, gains, heard, threshold
from codec.errors import CodecError, ModelError
from codec.io.audio import Samples
from codec.rate.modes import HIGHEST_QUALITY

MAX_PASSES = 8
CLOSE = 0.985
"""A file is as large as was asked for if it has this share of the bytes."""
AIM = 0.993
"""Share of the bytes that is aimed at: a little above what was asked for would be of no use."""


class QualityScale:
    """Constant qualities of an engine: how much a codebook must lower the error to be sent.

    The scale is set by a synthetic voice: at quality q it gets ``1 + (K - 1) * q / 10`` codebooks
    per frame in the mean. What is easier to code gets fewer, what is harder or louder more.

    Args:
        engine: the model, which says what its codes are worth.

    Raises:
        ModelError: it does not.

    Example:
        >>> from codec import load_engine
        >>> from codec.entropy.allocation import Frames
        >>> scale = QualityScale(load_engine())
        >>> errors = np.cumprod(np.full((1, 5, 12), 0.7), axis=2)
        >>> frames = Frames(gains(errors, np.full(12, 10.0)), np.zeros((1, 5), np.bool_))
        >>> scale.allocator(10).choose(frames).tolist()
        [[12, 12, 12, 12, 12]]
    """

    def __init__(self, engine: Engine) -> None:
        if not isinstance(engine, WeighsCodes):
            raise ModelError("this engine has no variable bitrate: give another model, or --codebooks")
        info = engine.info
        audio = synthetic_voice(info.sample_rate, info.hop_length)
        found, _ = engine.analyze_step(audio, engine.init_encoder(1))
        self._prices: Floats = np.full(info.num_codebooks, float(info.bits_per_code))
        self._worth = gains(heard(found.errors, audio)[0].T, self._prices)

    def allocator(self, quality: float) -> ConstantQuality:
        """What chooses the numbers of codes at a quality from 0 to 10.

        Raises:
            CodecError: it is out of this range.
        """
        quality = check_number("quality", quality, 0, HIGHEST_QUALITY)
        num_frames, count = self._worth.shape
        mean, price = 1 + (count - 1) * quality / HIGHEST_QUALITY, self._prices[0]
        return ConstantQuality(threshold(self._worth, self._prices, mean * num_frames * price))


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
    audio: Samples = (0.1 * voice / voice.std()).astype(np.float32)[None]
    return audio


def search_size(target: int, encode: Callable[[float], int]) -> float:
    """The highest quality at which a file has ``target`` bytes at most, or nearly the highest.

    Args:
        target: bytes.
        encode: encodes at a quality and returns the number of bytes.

    Raises:
        CodecError: even at the lowest quality there are more bytes.

    Example:
        >>> sizes = []
        >>> quality = search_size(5_000, lambda q: sizes.append(q) or int(1_000 + 700 * q))
        >>> round(quality, 1), len(sizes) < 5
        (5.6, True)
    """
    low, low_size = 0.0, 0
    high, high_size = HIGHEST_QUALITY, 0
    best: float | None = None
    quality = HIGHEST_QUALITY / 2
    for number in range(MAX_PASSES):
        size = encode(quality)
        if size <= target:
            best, low, low_size = quality, quality, size
            if size >= CLOSE * target or quality == HIGHEST_QUALITY:
                break
        else:
            high, high_size = quality, size
            if quality == 0:
                raise CodecError(
                    f"at the lowest quality the file has {size} bytes: give at least as many as "
                    "--file-size, or a shorter file"
                )
        if low_size and high_size:
            quality = low + (high - low) * (AIM * target - low_size) / (high_size - low_size)
            quality = min(max(quality, low), high)
        elif best is not None:
            quality = min(HIGHEST_QUALITY, quality * AIM * target / size)
        else:
            quality = 0.0 if number == MAX_PASSES - 2 else quality * AIM * target / size - 0.2
            quality = max(0.0, quality)
    assert best is not None
    return best
