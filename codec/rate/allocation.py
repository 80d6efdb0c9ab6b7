"""How many codes each frame of a stream gets: allocation of bits by rate and distortion.

Bits go where they lower the error most. A code is sent if its slope, by how much it lowers the
error of its frame per bit, is larger than a Lagrange multiplier lambda, the same for all frames.
For a given number of bits this gives the least error in all (Shoham and Gersho, 1988,
doi:10.1109/29.90373).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from codec.arrays import Samples
from codec.core.frames import levels_and_weights
from codec.core.library import call
from codec.rate.block import UNLIMITED, Block

Floats: TypeAlias = npt.NDArray[np.floating]
Counts: TypeAlias = npt.NDArray[np.int64]
"""Numbers of codes ``[C, T]``: channel, frame."""


def slopes(errors: Floats, bits: Floats) -> Floats:
    """Slopes of rate and distortion: how much each codebook lowers the error of a frame per bit.

    They are those of the convex hull: if a codebook lowers the error little and those after it
    much, it has their common slope, and no slope is steeper than the one before it.

    Args:
        errors: ``[..., K]``, errors that remain after each codebook.
        bits: ``[K]``, bits of a code of each codebook.

    Returns:
        ``[..., K]``, never rising along the codebooks. That of the first codebook, which every
        frame has, is infinite.

    Example:
        >>> slopes(np.array([[1.0, 0.6, 0.5, 0.1]]), np.ones(4)).round(2).tolist()
        [[inf, 0.4, 0.25, 0.25]]
    """
    errors = np.ascontiguousarray(errors, np.float64)
    found = np.empty_like(errors)
    call("aec_slopes", errors, np.asarray(bits, np.float64), found)
    return found


def lambda_for(frames: Floats, bits: Floats, budget: float) -> float:
    """The lambda at which frames take about ``budget`` bits in all.

    Args:
        frames: ``[n, K]``, `slopes` of n frames.
        bits: ``[K]``, bits of a code of each codebook.
        budget: bits of all frames together.

    Example:
        >>> frames = slopes(np.array([[1.0, 0.6, 0.5], [1.0, 0.2, 0.1]]), np.ones(3))
        >>> (frames > lambda_for(frames, np.ones(3), budget=4.0)).sum(axis=1).tolist()
        [2, 2]
    """
    # The steepest slope that is not affordable any more is not above lambda.
    values = frames.reshape(-1)
    if (bits == bits[0]).all():
        affordable = max(len(frames), int(budget // bits[0]))
        if affordable >= len(values):
            return -np.inf
        place = len(values) - 1 - affordable
        return float(np.partition(values, place)[place])
    order = np.argsort(-values, kind="stable")
    spent = np.cumsum(np.broadcast_to(bits, frames.shape).reshape(-1)[order])
    affordable = max(len(frames), int(np.searchsorted(spent, budget, side="right")))
    return float(values[order[affordable]]) if affordable < len(values) else -np.inf


def perceptual_weight(audio: Samples, num_frames: int) -> Floats:
    """Weights ``[C, T]`` of the errors in the frames of ``audio``, ``[C, T * hop_length]``.

    Errors in quiet frames are less audible: weights are the power of a frame to 0.3. Of exponents
    from 0 to 0.5 this gives the highest PESQ at equal bytes: on speech at 1.5 and 3 kbit/s 0.1 more
    than 0. Below -100 dB of full scale all frames are equally silent.
    """
    return levels_and_weights(audio.reshape(len(audio), num_frames, -1))[1]


class Allocator(Protocol):
    """Chooses how many codes each frame of a stream of variable bitrate gets."""

    @property
    def lambda_(self) -> float:
        """The slope that a codebook had to exceed in the last choice: decrease of error per bit."""
        ...

    def choose(self, block: Block, ahead: Sequence[Block] | None = None) -> Counts:
        """Numbers of codes of the frames of the next packet.

        Args:
            block: the next packet.
            ahead: the packets after it, as many as are known, of a stream that waits for them;
                none at its end. None in live streams, which cannot wait.

        Returns:
            ``[C, T]``, at least one.
        """
        ...

    def spent(self, bits: int, counts: Counts) -> None:
        """Take into account what a packet took.

        Args:
            bits: all that belongs to the packet, of all channels.
            counts: ``[C, T]``, numbers of codes of its frames.
        """
        ...


class ConstantQuality:
    """Sends all codebooks whose slope is above a fixed lambda.

    Args:
        lambda_: decrease of the weighted error per bit.

    Example:
        >>> errors = np.cumprod(np.full((1, 2, 4), 0.5), axis=2) * [[1.0], [0.1]]
        >>> codes = np.zeros((1, 4, 2), np.int64)
        >>> block = Block(codes, slopes=slopes(errors, np.full(4, 10.0)))
        >>> ConstantQuality(lambda_=0.01).choose(block)
        array([[3, 1]])
    """

    def __init__(self, lambda_: float) -> None:
        self.lambda_ = lambda_

    def choose(self, block: Block, ahead: Sequence[Block] | None = None) -> Counts:
        """See `Allocator`."""
        return _counts(block, self.lambda_)

    def spent(self, bits: int, counts: Counts) -> None:
        """Nothing depends on it."""


WINDOW_SECONDS = 8.0
"""In live streams lambda is chosen by the newest frames, this long."""
HORIZON_SECONDS = 2.0
"""Time within which live streams make up for bits that were spent too much or too little."""
MOST_CORRECTION = 0.5
"""Largest such correction, as a share of the target."""
CHOICE_SECONDS = 0.2
"""Time for which lambda of a live stream holds at least: it would change little from one frame to
the next."""
RATIO_SECONDS = 4.0
"""Time over which the ratio of coded to plain bits is averaged."""
FIRST_RATIO = 0.85
"""That ratio before anything is known."""


class RateControl:
    """Chooses the numbers of codes so that the mean bitrate is that of a target.

    It is given the bits of every packet, with all that belongs to it. A stream that waits for what
    follows shares the bits among all frames that are known. In a live stream the choice depends on
    the frames before. Memory is constant.

    Args:
        target: bits per second and channel, all bytes counted.
        frame_rate: frames per second.
        bits_per_code: bits of a plain code.

    Example:
        >>> control = RateControl(target=1_000.0, frame_rate=50.0, bits_per_code=10)
        >>> errors = np.cumprod(np.full((1, 50, 4), 0.5), axis=2)
        >>> errors[:, :25] /= 100  # half of it needs little
        >>> codes = np.zeros((1, 4, 50), np.int64)
        >>> block = Block(codes, slopes=slopes(errors, np.full(4, 10.0)))
        >>> control.choose(block)[0, [0, -1]].tolist()
        [1, 3]
    """

    def __init__(self, target: float, frame_rate: float, bits_per_code: int) -> None:
        self._frame_rate, self._bits_per_code = frame_rate, bits_per_code
        self.change_target(target)
        self._past: deque[Floats] = deque()  # slopes of the newest frames of a live stream
        self._num_past = 0
        self._age = np.inf  # of lambda of a live stream, in seconds
        self._ratio = FIRST_RATIO  # of what codes cost to what plain ones would
        self._excess = 0.0  # bits per channel that were spent too much so far
        self.lambda_ = np.inf

    def change_target(self, target: float) -> None:
        """Change the target for what follows; in bits per second and channel."""
        self._target = target / self._frame_rate

    def choose(self, block: Block, ahead: Sequence[Block] | None = None) -> Counts:
        """See `Allocator`."""
        # Pauses have no part in the choice. What they save is spent on the others.
        competing = _competing(block)
        if len(competing) and ahead is None:
            self._follow_the_past(block, competing)
        elif len(competing) and ahead is not None:
            known = [block, *ahead]
            budget = self._target * sum(each.num_frames for each in known) - self._excess
            window = np.concatenate([_competing(each) for each in known])
            self._set_lambda(window, budget * len(block.codes))
        return _counts(block, self.lambda_)

    def spent(self, bits: int, counts: Counts) -> None:
        """See `Allocator`."""
        channels, num_frames = counts.shape
        self._excess += bits / channels - self._target * num_frames
        if plain := self._bits_per_code * int(counts.sum()):
            # 1 - exp(-x), within x^4 / 720 of it, by operations that are the same everywhere.
            x = num_frames / self._frame_rate / RATIO_SECONDS
            self._ratio += x / (1 + x / 2 + x * x / 12) * (bits / plain - self._ratio)

    def _follow_the_past(self, block: Block, competing: Floats) -> None:
        """Set lambda of a live stream from time to time."""
        window = round(WINDOW_SECONDS * self._frame_rate) * len(block.codes)
        self._past.append(competing)
        self._num_past += len(competing)
        while self._num_past - len(self._past[0]) >= window:
            self._num_past -= len(self._past.popleft())
        self._age += block.num_frames / self._frame_rate
        if self._age >= CHOICE_SECONDS:
            correction = self._excess / (HORIZON_SECONDS * self._frame_rate * self._target)
            correction = np.clip(correction, -MOST_CORRECTION, MOST_CORRECTION)
            past = np.concatenate(self._past)[-window:]
            self._set_lambda(past, self._target * (1 - correction) * len(past))
            self._age = 0.0

    def _set_lambda(self, frames: Floats, bits: float) -> None:
        per_code = np.full(frames.shape[1], float(self._bits_per_code))
        self.lambda_ = lambda_for(frames, per_code, bits / self._ratio)


def _counts(block: Block, lambda_: float) -> Counts:
    """Numbers of codes of all frames, whether they are limited or not."""
    assert block.slopes is not None
    counts: Counts = (block.slopes > lambda_).sum(axis=-1)
    return counts


def _competing(block: Block) -> Floats:
    """Slopes ``[n, K]`` of the frames whose numbers of codes are not limited."""
    assert block.slopes is not None
    if block.limits is None:
        return block.slopes.reshape(-1, block.slopes.shape[-1])
    competing: Floats = block.slopes[block.limits == UNLIMITED]
    return competing
