"""Read sections of indexed clips, mixed down to mono and resampled. Needs no torch."""

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

from codec.arrays import Samples
from codec.bitrate import ceil_div
from codec.corpus.index import Clip, open_clip
from codec.errors import AudioError
from codec.io.pipes import stderr_is_apart

logger = logging.getLogger(__name__)

# Half-length of soxr's filter with a margin, in samples at the lower of the two rates. With this
# much context a resampled section equals the same section of the whole resampled clip to 1e-6.
FILTER_REACH = 128
# Lengths in headers of compressed files are slightly inexact, and libsndfile seeks slightly too
# far in the last page of a Vorbis file: accept a section that ends early by up to this much.
TOLERATED_SECONDS = 0.1


def clip_length(clip: Clip, sample_rate: int) -> int:
    """Number of samples of a clip after resampling to ``sample_rate``, at least 1.

    Example:
        >>> clip_length(Clip("a.wav", "", None, 4_000, 48_000, 48_000, 1, "a"), 24_000)
        24000
    """
    return max(1, round(clip.num_samples * sample_rate / clip.sample_rate))


def read_clip(
    folder: Path,
    clip: Clip,
    sample_rate: int,
    begin: int,
    end: int,
    report: Callable[[str], None] = logger.warning,
) -> Samples:
    """Read a section of a clip, mixed down to mono and resampled.

    The result is the same section of the whole resampled clip, wherever it begins. Samples that
    are not finite are replaced by silence.

    Args:
        folder: the folder that was indexed.
        clip: a clip of that index.
        sample_rate: sampling rate of the result in Hz.
        begin: first sample of the section, at ``sample_rate``.
        end: end of the section (exclusive), at ``sample_rate``; samples after the end of the
            clip are zero.
        report: called with one line if the clip contains samples that are not finite.

    Returns:
        Samples in [-1, 1], ``[end - begin]``.

    Raises:
        AudioError: the clip cannot be read, or ends earlier than its header claims.

    Example:
        >>> import soundfile
        >>> from codec.corpus.index import scan
        >>> Path("corpus").mkdir()
        >>> soundfile.write("corpus/owl.wav", np.zeros((8_000, 2)), 8_000)
        >>> clip = scan(Path("corpus")).clips[0]
        >>> read_clip(Path("corpus"), clip, 24_000, 0, 12_000).shape
        (12000,)
    """
    # Start reading where the sample grids of both rates coincide.
    step, grid = Fraction(clip.sample_rate, sample_rate).as_integer_ratio()
    reach = ceil(FILTER_REACH * max(1.0, grid / step)) if step != grid else 0
    origin = max(0, begin - reach) // grid * grid
    first, last = origin // grid * step, min(ceil_div((end + reach) * step, grid), clip.num_samples)
    audio = _read(folder, clip, first, last)
    if not np.isfinite(audio).all():
        report(f"{clip.name} contains NaN or infinite samples: they are replaced by silence")
        audio = np.nan_to_num(audio, posinf=0.0, neginf=0.0)
    if step != grid:
        audio = soxr.resample(audio.clip(-1, 1), clip.sample_rate, sample_rate)
    audio = audio[begin - origin : end - origin].clip(-1, 1)  # soxr's filter overshoots
    return np.pad(audio, (0, end - begin - len(audio)))


def _read(folder: Path, clip: Clip, first: int, last: int) -> Samples:
    """Samples of a clip at its own rate."""
    noisy = first > 0 and clip.name.lower().endswith(".mp3")
    with muted_stderr() if noisy else nullcontext(), open_clip(folder, clip, mono=True) as reader:
        if first:
            reader.seek(first)
        audio: Samples = reader.read(last - first)[0]
    if last - first - len(audio) > TOLERATED_SECONDS * clip.sample_rate:
        raise AudioError(
            f"{clip.name} ends before sample {last}, but its header claims {clip.num_samples}"
        )
    return audio


@contextmanager
def muted_stderr() -> Iterator[None]:
    """Suppress output of C libraries on stderr, where nothing else can be lost by it.

    libsndfile's MP3 decoder, mpg123, prints a warning after every seek and has no option to
    disable it. The warnings stay if Python itself writes to the same descriptor (see
    `codec.io.pipes.keep_stderr_apart`) and other threads may do so in the meantime.
    """
    if threading.active_count() > 1 and not stderr_is_apart():
        yield
        return
    with Path(os.devnull).open("wb") as nowhere:
        try:
            stderr = os.dup(2)
        except OSError:  # stderr is closed: nothing to suppress
            yield
            return
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
