"""What all parts use: the audio, and rounds in which everything has its turn."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from benchmarks.shared import recordings
from benchmarks.shared.resampling import resample


def speech(sample_rate: int, num_samples: int) -> np.ndarray:
    """The bundled recording, repeated: ``[N]`` float32."""
    audio = resample(recordings.EXAMPLE.load(), recordings.SAMPLE_RATE, sample_rate)
    return np.resize(audio, num_samples)


def interleave(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each function in every round; an additional first round is for warming up."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            if number:
                seconds[name].append(time.perf_counter() - began)
    return seconds
