"""What all contenders share: one interface, resampling and alignment.

A contender takes audio at any rate and returns it at that rate, with the same length and without
delay, together with the number of bits that it spent. Audio is resampled with soxr's HQ setting on
both sides. Delay is removed by the same rule for all: a file format's own decoder removes the delay
that the file announces, and `align` removes the rest.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from scipy.signal import correlate

from benchmarks.shared.resampling import resample
from codec.errors import ConfigError

MAX_DELAY_SECONDS = 0.1
DELAY_EVIDENCE = 0.1
"""Share of (1 - correlation) that a lag must gain over lag 0 before it is accepted as delay."""


class Encoded(NamedTuple):
    """Audio as a contender encoded it.

    Attributes:
        content: what the contender's ``decode`` takes: a file, packets or codes.
        payload_bits: bits that carry audio, without any container.
        file_bytes: size of the file that a user would get; None if there is no file format.
    """

    content: Any
    payload_bits: int
    file_bytes: int | None


class Coded(NamedTuple):
    """Audio after encoding and decoding.

    Attributes:
        audio: ``[N]`` float32, with the rate and the length of the input, delay removed.
        payload_bits: bits that carry audio, without any container.
        file_bytes: size of the file that a user would get; None if there is no file format.
        delay: delay that `align` removed, in samples.
    """

    audio: np.ndarray
    payload_bits: int
    file_bytes: int | None
    delay: int = 0


class Contender(ABC):
    """A codec of the benchmarks.

    A subclass states in class attributes what it is and what it needs, and implements `bitrates`,
    `encode` and `decode`. It overrides `open` only if it loads a model or has a mode for speech.

    Attributes:
        name: name on the command line and in tables, unique among the contenders.
        speech_only: True if it is not meant for music and other sounds.
        programs: programs that must be on the path.
        programs_from: system package that contains these programs, for the error message.
        packages: Python packages that it needs besides those of the benchmarks.
        extra: optional dependencies of aecodec that contain them, a name from ``pyproject.toml``.
        needs_weights: True if it runs with a folder of weights that the user gives.
        sample_rate: sample rate that it works at, in Hz.
        num_parameters: number of parameters of its network; None if it has none.
        hop_length: samples per frame of its network; 0 if it has none.

    Example:
        >>> class EightBit(Contender):
        ...     name = "eight-bit"
        ...     sample_rate = 8_000
        ...     def bitrates(self):
        ...         return (64_000,)
        ...     def encode(self, audio, bitrate):
        ...         content = (127 * audio).round().astype(np.int8)
        ...         return Encoded(content, 8 * len(content), len(content))
        ...     def decode(self, encoded):
        ...         return encoded.content.astype(np.float32) / 127
        >>> coded = EightBit.open().code(np.zeros(24_000, np.float32), 24_000, 64_000)
        >>> coded.audio.shape, coded.payload_bits, coded.delay
        ((24000,), 64000, 0)
    """

    name: ClassVar[str]
    speech_only: ClassVar[bool] = False
    programs: ClassVar[tuple[str, ...]] = ()
    programs_from: ClassVar[str] = ""
    packages: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    needs_weights: ClassVar[bool] = False
    sample_rate: int
    num_parameters: int | None = None
    hop_length: int = 0

    @classmethod
    def open(cls, model: str = "", *, speech: bool = True) -> Self:
        """Return the contender, ready to run.

        Args:
            model: model or folder of weights; empty if the contender needs none.
            speech: whether the audio is speech, for codecs that have a mode for it.

        Raises:
            CodecError: a program, a package or the weights are missing.
        """
        return cls()

    @classmethod
    def open_for_timing(cls) -> Self:
        """Return the contender for measuring its speed, without weights of the user."""
        return cls.open()

    def countable(self) -> Contender:
        """The contender in a form whose multiply-accumulates can be counted: in PyTorch."""
        return self

    @classmethod
    def weights_file(cls, model: str) -> Path | None:
        """File that holds the weights of ``model``; None if the contender has none."""
        return None

    @classmethod
    def takes(cls, sound_class: str) -> bool:
        """Whether the contender is meant for this class of sound."""
        return sound_class == "speech" or not cls.speech_only

    @abstractmethod
    def bitrates(self) -> tuple[int, ...]:
        """Bitrates that the contender offers, in bits per second, ascending."""

    @abstractmethod
    def encode(self, audio: np.ndarray, bitrate: int) -> Encoded:
        """Encode ``[N]`` float32 in [-1, 1] at `sample_rate`.

        Args:
            audio: ``[N]`` samples.
            bitrate: one of `bitrates`.
        """

    @abstractmethod
    def decode(self, encoded: Encoded) -> np.ndarray:
        """Decode to about ``[N]`` float32 at `sample_rate`; `code` corrects length and delay."""

    def code(self, audio: np.ndarray, sample_rate: int, bitrate: int) -> Coded:
        """Encode and decode ``[N]`` float32 in [-1, 1].

        Args:
            audio: ``[N]`` samples.
            sample_rate: sample rate of ``audio``, in Hz.
            bitrate: one of `bitrates`.

        Raises:
            ConfigError: the contender does not offer this bitrate.
        """
        if bitrate not in self.bitrates():
            offered = ", ".join(f"{value / 1000:g}" for value in self.bitrates())
            raise ConfigError(
                f"{self.name} does not run at {bitrate / 1000:g} kbit/s: choose from {offered}"
            )
        encoded = self.encode(resample(audio, sample_rate, self.sample_rate), bitrate)
        decoded = resample(self.decode(encoded), self.sample_rate, sample_rate)
        aligned, delay = align(decoded, audio, sample_rate)
        return Coded(aligned, encoded.payload_bits, encoded.file_bytes, delay)

    def nearest_bitrate(self, bitrate: int) -> int:
        """The offered bitrate that is nearest to ``bitrate``."""
        return min(self.bitrates(), key=lambda offered: abs(offered - bitrate))


def align(decoded: np.ndarray, original: np.ndarray, sample_rate: int) -> tuple[np.ndarray, int]:
    """Find and remove the delay of decoded audio.

    The delay is the lag, at most `MAX_DELAY_SECONDS` in either direction, with the highest
    correlation. A codec that does not preserve the waveform has no clear maximum, so a lag must
    exceed the normalised correlation at lag 0 by `DELAY_EVIDENCE` of what it lacks to 1 itself: for
    a preserved waveform a delay of one sample is accepted, for noise none is.

    Args:
        decoded: ``[M]`` samples.
        original: ``[N]`` samples.
        sample_rate: sample rate of both, in Hz.

    Returns:
        ``decoded`` without delay, ``[N]``, cut or padded with zeros; and the delay in samples,
        positive if ``decoded`` was late.

    Example:
        >>> click = np.zeros(1000, np.float32)
        >>> click[500] = 1
        >>> align(np.roll(click, 7), click, 24_000)[1]
        7
    """
    length = max(len(decoded), len(original))
    a, b = (np.pad(audio, (0, length - len(audio))) for audio in (decoded, original))
    scale = math.sqrt(float(np.square(a).sum()) * float(np.square(b).sum()))
    delay = 0
    if scale > 0:
        reach = min(round(MAX_DELAY_SECONDS * sample_rate), length - 1)
        correlation = correlate(a, b, method="fft")[length - 1 - reach : length + reach] / scale
        best = int(correlation.argmax())
        gained, lacking = correlation[best] - correlation[reach], 1 - correlation[best]
        if gained > DELAY_EVIDENCE * lacking:
            delay = best - reach
    moved = decoded[delay:] if delay >= 0 else np.pad(decoded, (-delay, 0))
    moved = moved[: len(original)]
    return np.pad(moved, (0, len(original) - len(moved))).astype(np.float32), delay
