"""Random crops of indexed clips, mixed to mono and at one rate; from memory or from the files.

No torch. A clip that cannot be read is reported once, and another one is drawn in its place by the
same generator: a draw depends on the generator and the clips alone, never on earlier draws.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.sharedctypes import RawArray

import numpy as np
from tqdm import tqdm

from codec.arrays import Samples
from codec.corpus.clips import clip_length, read_clip
from codec.corpus.index import Index
from codec.errors import AudioError, ConfigError
from codec.io.pipes import is_terminal

logger = logging.getLogger(__name__)

FULL_SCALE = 32767
# Whole clips are read in pieces of this length, so that an hour-long clip takes little memory.
LOADED_SECONDS = 60
# This many failed draws in a row are not a coincidence.
MAX_FAILURES = 100


class Crops:
    """Random crops of a set of clips.

    Args:
        index: the clips.
        sample_rate: rate that everything is resampled to.
        class_weights: how often a class is drawn relative to its duration, 1 if not named.
        clip_weights: how often each clip is drawn within its class, relative to its duration.
        memory_gb: clips that take less than this in total (16-bit) are decoded at once and kept;
            otherwise every crop is read from its file.

    Attributes:
        in_memory: whether the clips are kept in memory.

    Raises:
        ConfigError: ``class_weights`` names a class that does not exist, or leaves none.
        AudioError: nothing can be decoded.
    """

    def __init__(
        self,
        index: Index,
        sample_rate: int,
        *,
        class_weights: Mapping[str, float] | None = None,
        clip_weights: Sequence[float] | None = None,
        memory_gb: float = 0.0,
    ) -> None:
        weights = _weights(index, class_weights or {}, clip_weights)
        self._folder, self._sample_rate = index.folder, sample_rate
        self._clips = tuple(clip for clip, weight in zip(index.clips, weights) if weight)
        weights = [weight for weight in weights if weight]
        self._lengths = np.array([clip_length(clip, sample_rate) for clip in self._clips])
        # In shared memory, so that several workers report a clip once.
        self._reported = RawArray("B", len(self._clips))
        self.in_memory = 2 * int(self._lengths.sum()) <= memory_gb * 1e9
        if self.in_memory:
            self._load()
        shares = np.cumsum(self._lengths * np.array(weights))
        if not shares[-1]:
            raise AudioError(f"nothing under {self._folder} can be decoded: give other audio")
        self._cumulative = shares / shares[-1]

    def draw(self, rng: np.random.Generator, num_samples: int, num_starts: int = 1) -> Samples:
        """A random crop ``[n]``; every second of a class is equally likely.

        A crop is from one clip. A clip that is shorter than the crop is put at a random place in
        silence.

        Args:
            rng: source of all choices.
            num_samples: length of a crop.
            num_starts: with more than one, up to ``num_starts - 1`` samples that follow in the
                clip are returned too. All crops are equally likely if each is cut from a random
                place of that: one read serves several crops.

        Raises:
            AudioError: one draw after another cannot be read.
        """

        def choose() -> tuple[int, int, int]:
            number = int(np.searchsorted(self._cumulative, rng.random(), side="right"))
            room = int(self._lengths[number]) - num_samples
            # Starts are counted from the first possible one and divided into runs.
            possible = abs(room) + 1
            position = int(rng.integers(possible))
            position -= position % num_starts
            size = num_samples + min(num_starts, possible - position) - 1
            return number, min(room, 0) + position, size

        return self._first_readable(choose)

    def draw_whole(self, rng: np.random.Generator, max_samples: int) -> Samples:
        """Any clip from its beginning, all clips equally likely; at most ``max_samples``."""

        def choose() -> tuple[int, int, int]:
            number = int(rng.choice(np.flatnonzero(self._lengths)))
            return number, 0, min(int(self._lengths[number]), max_samples)

        return self._first_readable(choose)

    def _first_readable(self, choose: Callable[[], tuple[int, int, int]]) -> Samples:
        for _ in range(MAX_FAILURES):
            number, start, size = choose()
            try:
                return self._cut(number, start, size)
            except (AudioError, OSError) as error:
                self._report(number, str(error))
        raise AudioError(
            f"{MAX_FAILURES} crops in a row could not be read from {self._folder}: "
            "is its disk still there?"
        )

    def _cut(self, number: int, start: int, size: int) -> Samples:
        """A stretch of a clip, with silence outside of the clip."""
        begin, end = max(start, 0), min(start + size, int(self._lengths[number]))
        if self.in_memory:
            offset = int(self._offsets[number])
            kept = self._memory[offset + begin : offset + end]
            audio = np.divide(kept, FULL_SCALE, dtype=np.float32)
        else:
            audio = self._read(number, begin, end)
        if end - begin < size:
            padded: Samples = np.pad(audio, (begin - start, start + size - end))
            return padded
        return audio

    def _read(self, number: int, begin: int, end: int) -> Samples:
        clip = self._clips[number]
        report = partial(self._report, number)
        return read_clip(self._folder, clip, self._sample_rate, begin, end, report)

    def _report(self, number: int, reason: str) -> None:
        if not self._reported[number]:
            self._reported[number] = 1
            logger.warning("%s", reason)

    def _load(self) -> None:
        """Decode all clips to 16 bits, end to end; lengths become those that could be decoded."""
        self._offsets = np.cumsum(self._lengths) - self._lengths
        self._memory = np.empty(int(self._lengths.sum()), np.int16)

        def load(number: int) -> int:
            """Fill the clip's place; the number of samples that could be decoded."""
            length, offset = int(self._lengths[number]), int(self._offsets[number])
            for begin in range(0, length, LOADED_SECONDS * self._sample_rate):
                end = min(begin + LOADED_SECONDS * self._sample_rate, length)
                try:
                    piece = self._read(number, begin, end)
                except (AudioError, OSError) as error:
                    self._report(number, str(error))
                    return begin
                self._memory[offset + begin : offset + end] = (piece * FULL_SCALE).round()
            return length

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            numbers = range(len(self._clips))
            loaded = pool.map(load, numbers)
            hidden = not is_terminal()
            progress = tqdm(loaded, "reading audio", len(numbers), disable=hidden, leave=False)
            self._lengths = np.array(list(progress))


def _weights(
    index: Index, class_weights: Mapping[str, float], clip_weights: Sequence[float] | None
) -> list[float]:
    """Weight of each clip's duration. Those of the clips change no class's share."""
    hours = index.hours_by_class
    for name in class_weights:
        if name not in hours:
            raise ConfigError(
                f"data.class_weights names {name!r}, but the classes under {index.folder} are "
                f"{', '.join(hours)}"
            )
    by_class = {sound_class: class_weights.get(sound_class, 1.0) for sound_class in hours}
    if not any(by_class.values()):
        raise ConfigError("data.class_weights leaves no class to draw from: raise one above 0")
    by_clip = clip_weights or [1.0] * len(index.clips)
    weighted = dict.fromkeys(hours, 0.0)
    for clip, weight in zip(index.clips, by_clip, strict=True):
        weighted[clip.sound_class] += clip.seconds / 3600 * weight
    return [
        weight * by_class[clip.sound_class] * hours[clip.sound_class] / weighted[clip.sound_class]
        for clip, weight in zip(index.clips, by_clip, strict=True)
    ]
