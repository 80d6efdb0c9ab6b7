"""What an experiment is given and what it yields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.contenders.aecodec import Aecodec
from benchmarks.contenders.base import Contender, Encoded
from benchmarks.contenders.ffmpeg import Opus


class Trial(NamedTuple):
    """Decoded audio of an experiment.

    Attributes:
        series: codec and variant: a line of a plot.
        condition: amount of degradation: a position on the x axis.
        decoded: ``[N]``; None if nothing could be decoded.
        reference: ``[N]``, audio to compare with.
        facts: further figures.
    """

    series: str
    condition: str
    decoded: np.ndarray | None
    reference: np.ndarray
    facts: dict[str, float]


class Subject(NamedTuple):
    """A recording with all that the experiments need.

    Attributes:
        audio: ``[N]`` float32 at the model's rate.
        noise: ``[N]`` float32, at the same rate.
        ours: our codec.
        opus: Opus.
        seed: seed of all random numbers, specific to the file.
        quick: whether to run only the mildest and the most severe condition.
        streams: streams that were made, by what `encode_within` was asked for.
    """

    audio: np.ndarray
    noise: np.ndarray
    ours: Aecodec
    opus: Opus
    seed: int
    quick: bool
    streams: dict[Any, Encoded]

    @property
    def sample_rate(self) -> int:
        """Sample rate of the audio, in Hz."""
        return self.ours.sample_rate

    @property
    def bitrate(self) -> int:
        """Bitrate of our codec: its highest."""
        return self.ours.bitrates()[-1]

    @property
    def opus_bitrate(self) -> int:
        """Bitrate of Opus: the nearest to ours."""
        return self.opus.nearest_bitrate(self.bitrate)

    def contenders(self) -> tuple[tuple[Contender, int], ...]:
        """Both codecs with their bitrates."""
        return ((self.ours, self.bitrate), (self.opus, self.opus_bitrate))

    def encode(self, packet_seconds: float) -> Encoded:
        """The stream of our codec, with packets of about this duration."""
        frames = max(1, round(packet_seconds * self.ours.loaded.spec.frame_rate))
        return self.ours.encode(self.audio, self.bitrate, frames_per_packet=frames)

    def random(self, *key: int) -> np.random.Generator:
        """A random generator, the same for equal keys."""
        return np.random.default_rng((self.seed, *key))

    def conditions(self, all_conditions: Sequence[float]) -> Sequence[float]:
        """The conditions to run."""
        return (all_conditions[0], all_conditions[-1]) if self.quick else all_conditions
