"""Pauses: frames without codes, for which a decoder repeats the noise before them.

Where a packet has a second of room noise, the first frames of it are coded, and the others have no
codes. A decoder takes the codes of the frames before them, in an order that does not repeat, so
that the noise goes on without clicks or a buzz. Nothing outside of a packet is needed.
"""

from __future__ import annotations

from math import fsum

import numpy as np
import numpy.typing as npt

from codec.activity.levels import LOWEST_DB, Levels, LoudestLevel, frame_levels
from codec.arrays import Samples
from codec.core.library import call, core
from codec.entropy.context import NO_CODE, Integers

Booleans = npt.NDArray[np.bool_]

NUM_REFERENCES = 16
"""Frames before a pause that stand for it: a third of a second at 50 frames per second."""

BELOW_LOUDEST_DB = 30.0
"""Pauses are so much weaker than what was loudest before,"""
HIGHEST_DB = -45.0
"""and weaker than this in relation to full scale. The core has these too, and all others."""
SILENT_DB = -85.0
DECAY_DB = 0.25
"""Decrease of what counts as the loudest, per second."""
LOWEST_HZ = 150.0
"""Below this lies hum, which may stand out of noise."""


class PauseDetector:
    """Finds pauses in packets that follow one another.

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
        self._lowest_bin = int(LOWEST_HZ * hop_length / sample_rate)
        self._loudest = LoudestLevel(DECAY_DB)

    def find(self, audio: Samples) -> tuple[Booleans, Booleans]:
        """Frames without codes, and the frames before them that stand for them.

        Args:
            audio: ``[C, T * hop_length]``, the next packet.

        Returns:
            ``[C, T]`` each.
        """
        limits = self.limits(audio)
        return limits == 0, limits == 1

    def limits(self, audio: Samples) -> npt.NDArray[np.uint8]:
        """Most codes ``[C, T]`` of the frames of the next packet: `codec.rate.block.Block`."""
        given = np.ascontiguousarray(audio, np.float32)
        found = np.empty((len(audio), audio.shape[1] // self._hop_length), np.uint8)
        loudest, scratch = np.array([self._loudest.db]), self._scratch(found.size)
        shape = self._sample_rate, self._hop_length, len(audio)
        call("aec_find_pauses", *shape, given, loudest, found, scratch)
        self._loudest.db = float(loudest[0])
        return found

    def is_quiet(self, frame: Samples, *, decays: bool = True) -> tuple[float, bool]:
        """Level of the next frame ``[C, hop_length]``, and whether it may belong to a pause.

        Levels are in dB of full scale, and not below `SILENT_DB`.

        Args:
            frame: the frame.
            decays: whether what was loudest before counts less and less.
        """
        _, levels = self._levels(frame)
        self._loudest.follow(levels, frame.shape[1] / self._sample_rate if decays else 0.0)
        level = float(levels.max(initial=LOWEST_DB))
        highest = max(min(self._loudest.db - BELOW_LOUDEST_DB, HIGHEST_DB), SILENT_DB)
        return max(level, SILENT_DB), level < highest

    def noise_level(self, audio: Samples) -> float | None:
        """Mean level of frames ``[C, T * hop_length]`` in dB; None unless all are steady noise."""
        frames, levels = self._levels(audio)
        if not all(map(self._is_noise, frames, levels)):
            return None
        return max(fsum(each) / len(each) for each in np.maximum(levels, SILENT_DB).tolist())

    def _levels(self, audio: Samples) -> tuple[Samples, Levels]:
        """Frames ``[C, T, hop_length]``, and their levels ``[C, T]`` in dB of full scale."""
        frames = audio.reshape(len(audio), -1, self._hop_length)
        return frames, frame_levels(frames)

    def _is_noise(self, frames: Samples, levels: Levels) -> bool:
        given = (np.ascontiguousarray(each, np.float32) for each in (frames, levels))
        found, scratch = np.empty(1, np.uint32), self._scratch(len(levels))
        call("aec_is_noise", self._hop_length, self._lowest_bin, *given, found, scratch)
        return bool(found[0])

    def _scratch(self, num_frames: int) -> Samples:
        return np.empty(core().aec_pauses_scratch(self._hop_length, num_frames), np.float32)


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
