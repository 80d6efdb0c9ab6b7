"""Reading stretches of indexed clips, mixed to mono and at one rate. No torch."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from fractions import Fraction
from math import ceil
from pathlib import Path

import numpy as np
import soxr

from codec.corpus.index import Clip, open_clip
from codec.errors import AudioError
from codec.io.audio import Samples

logger = logging.getLogger(__name__)

# What soxr's filter looks at on either side, with some room, at the lower of two rates. A crop
# from within a clip then equals that of the whole clip resampled, to 1e-6.
FILTER_REACH = 128
# Headers of compressed files are off by a little, and libsndfile lands a little late when it
# seeks in the last page of Vorbis: up to this much of an end may be missing.
TOLERATED_SECONDS = 0.1

_stderr_lock = threading.Lock()


def clip_length(clip: Clip, sample_rate: int) -> int:
    """Samples of a clip at another rate."""
    return max(1, round(clip.num_samples * sample_rate / clip.sample_rate))


def read_clip(
    folder: Path,
    clip: Clip,
    sample_rate: int,
    begin: int,
    end: int,
    report: Callable[[str], None] = logger.warning,
) -> Samples:
    """Samples ``begin`` to ``end`` of a clip, mono at ``sample_rate``, within [-1, 1]: ``[n]``.

    They are those of the whole clip resampled, wherever the stretch begins. What is not finite
    becomes silence, which ``report`` is told.

    Raises:
        AudioError: it cannot be read, or ends too early.
    """
    # Reading starts where the grids of both rates meet.
    step, grid = Fraction(clip.sample_rate, sample_rate).as_integer_ratio()
    reach = ceil(FILTER_REACH * max(1.0, grid / step)) if step != grid else 0
    origin = max(0, begin - reach) // grid * grid
    first, last = origin // grid * step, min(-(-(end + reach) * step // grid), clip.num_samples)
    noisy = first > 0 and clip.name.lower().endswith(".mp3")
    with (
        muted_stderr() if noisy else nullcontext(),
        open_clip(folder, clip, mono=True) as reader,
    ):
        if first:
            reader.seek(first)
        audio: Samples = reader.read(last - first)[0]
    missing = last - first - len(audio)
    if missing > TOLERATED_SECONDS * clip.sample_rate:
        raise AudioError(
            f"{clip.name} ends before sample {last}, though its header promises {clip.num_samples}"
        )
    if not np.isfinite(audio).all():
        report(f"{clip.name} holds NaN or infinite samples: they are taken as silence")
        audio = np.nan_to_num(audio, posinf=0.0, neginf=0.0)
    if step != grid:
        audio = soxr.resample(audio.clip(-1, 1), clip.sample_rate, sample_rate)
    audio = audio[begin - origin : end - origin].clip(-1, 1)  # soxr's filter overshoots
    return np.pad(audio, (0, end - begin - len(audio)))


@contextmanager
def muted_stderr() -> Iterator[None]:
    """Keep C code from writing to stderr.

    libsndfile's mp3 decoder, mpg123, reports after every seek that it lacks what came before, and
    cannot be told otherwise.
    """
    with _stderr_lock, Path(os.devnull).open("wb") as nowhere:
        try:
            stderr = os.dup(2)
        except OSError:  # closed: nobody hears
            yield
            return
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
