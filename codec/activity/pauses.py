"""Pauses: frames without codes, for which a decoder repeats the noise before them.

Where a packet has a second of room noise, the first frames of it are coded, and the others have no
codes. A decoder takes the codes of the frames before them, in an order that does not repeat, so
that the noise goes on without clicks or a buzz. Nothing outside of a packet is needed.
"""

from __future__ import annotations

from math import fsum

import numpy as np

from codec.arrays import Booleans, Samples
from codec.core.frames import levels_and_weights
from codec.core.library import call, core
from codec.entropy.context import NO_CODE, Integers

NUM_REFERENCES = 16
"""Frames before a pause that stand for it: a third of a second at 50 frames per second."""

SILENT_DB = -85.0
"""What is weaker counts as being at this level."""


class PauseDetector:
    """Finds pauses in packets that follow one another.

    They are 30 dB below what was loudest before, and below -45 dB of full scale, for half a second
    at least, steady, and without tones.

    Args:
        sample_rate: samples per second.
        hop_length: samples per frame.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> audio = 0.1 * rng.standard_normal((1, 48_000)).astype(np.float32)
        >>> audio[:, 20_000:] *= 0.001
        >>> pauses, _ = PauseDetector(24_000, 480).find(audio)
        >>> pauses.shape, np.flatnonzero(pauses).tolist()[:2]
        ((1, 100), [64, 65])
    """

    def __init__(self, sample_rate: int, hop_length: int) -> None:
        self._sample_rate, self._hop_length = sample_rate, hop_length
        # Below 150 Hz lies hum, which may stand out.
        self._lowest_bin = int(150.0 * hop_length / sample_rate)
        self._loudest = -200.0  # level of what was loudest, in dB; it counts less and less

    def find(self, audio: Samples) -> tuple[Booleans, Booleans]:
        """Frames without codes, and the frames before them that stand for them.

        Args:
            audio: ``[C, T * hop_length]``, the next packet.

        Returns:
            ``[C, T]`` each.
        """
        found = np.empty((len(audio), audio.shape[1] // self._hop_length), np.uint8)
        loudest = np.array([self._loudest])
        scratch = np.empty(core().aec_pauses_scratch(self._hop_length, found.size), np.float32)
        shape = self._sample_rate, self._hop_length, len(audio)
        given = np.ascontiguousarray(audio, np.float32)
        call("aec_find_pauses", *shape, given, loudest, found, scratch)
        self._loudest = float(loudest[0])
        return found == 0, found == 1

    def is_quiet(self, frame: Samples, *, decays: bool = True) -> tuple[float, bool]:
        """Level of the next frame ``[C, hop_length]``, and whether it may belong to a pause.

        Levels are in dB of full scale, and not below `SILENT_DB`.

        Args:
            frame: the frame.
            decays: whether what was loudest before counts less and less.
        """
        levels, _ = levels_and_weights(frame)
        highest = self._threshold(levels, frame.shape[1] / self._sample_rate if decays else 0.0)
        level = float(levels.max())
        return max(level, SILENT_DB), level < max(highest, SILENT_DB)

    def noise_level(self, audio: Samples) -> float | None:
        """Mean level of frames ``[C, T * hop_length]`` in dB; None unless all are steady noise."""
        frames = audio.reshape(len(audio), -1, self._hop_length)
        levels, _ = levels_and_weights(frames)
        if not all(map(self._is_noise, frames, levels)):
            return None
        return max(fsum(each) / len(each) for each in np.maximum(levels, SILENT_DB).tolist())

    def _threshold(self, levels: Samples, seconds: float) -> float:
        """The level below which the next frames, which last so many seconds, are quiet."""
        self._loudest = max(self._loudest - 0.25 * seconds, float(levels.max(initial=-200.0)))
        return min(self._loudest - 30.0, -45.0)

    def _is_noise(self, frames: Samples, levels: Samples) -> bool:
        """Whether frames ``[T, hop_length]`` of a channel differ little, and have no tones."""
        found = np.empty(1, np.uint32)
        scratch = np.empty(core().aec_pauses_scratch(self._hop_length, len(levels)), np.float32)
        given = np.ascontiguousarray(frames, np.float32), levels
        call("aec_is_noise", self._hop_length, self._lowest_bin, *given, found, scratch)
        return bool(found[0])


def fill_pauses(codes: Integers) -> Integers:
    """Codes ``[C, K, T]`` of a packet with those of earlier frames where there are none.

    A pause that begins with frame s repeats the n frames before it, which have codes and are
    `NUM_REFERENCES` at most. Its frame i, counted from 0, has the codes of frame
    ``s - 1 - (n * (40503 * i % 65536) // 65536)``.
    """
    absent = codes[:, 0] == NO_CODE
    if not absent.any():
        return codes
    filled = codes.copy()
    for channel, own in enumerate(absent):
        last = 0
        for start, end in _runs(own):
            count = min(NUM_REFERENCES, start - last)
            if count:
                back = noise_order(count, np.arange(end - start))
                filled[channel, :, start:end] = codes[channel][:, start - 1 - back]
            last = end
    return filled


def noise_order(count: int, indices: Integers) -> Integers:
    """Ages of the frames of noise that are played, of ``count`` frames, the newest of which is 0.

    Multiples of the golden ratio, which return to no frame soon, and to all equally often.

    Args:
        count: number of frames of noise.
        indices: ``[n]``, indices of the frames to play.
    """
    order: Integers = count * (40503 * indices % 65536) // 65536
    return order


def _runs(flags: Booleans) -> list[tuple[int, int]]:
    """Beginnings and ends of the runs in which ``flags`` are set."""
    edges = np.flatnonzero(np.diff(flags.astype(np.int8), prepend=0, append=0))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
