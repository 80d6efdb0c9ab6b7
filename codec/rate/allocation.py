"""How many codes each frame of a stream gets: allocation of bits by rate and distortion.

Bits go where they lower the error most. A code is sent if its slope, by how much it lowers the
error of its frame per bit, is larger than a Lagrange multiplier lambda, the same for all frames.
For a given number of bits this gives the least error in all (Shoham and Gersho, 1988,
doi:10.1109/29.90373).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from codec.arrays import Samples
from codec.core.frames import levels_and_weights
from codec.core.library import call, core
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


def lambda_for(frames: Floats, bits_per_code: float, budget: float) -> float:
    """The lambda at which frames take about ``budget`` bits in all.

    Args:
        frames: ``[n, K]``, `slopes` of n frames.
        bits_per_code: bits of each code.
        budget: bits of all frames together.

    Example:
        >>> frames = slopes(np.array([[1.0, 0.6, 0.5], [1.0, 0.2, 0.1]]), np.ones(3))
        >>> (frames > lambda_for(frames, 1.0, budget=4.0)).sum(axis=1).tolist()
        [2, 2]
    """
    found = np.empty(1)
    given = np.ascontiguousarray(frames, np.float64)
    call("aec_lambda", given.shape[1], given, budget, bits_per_code, found)
    return float(found[0])


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


FIRST_RATIO = 0.85
"""Ratio of coded to plain bits before anything is known: that of the core."""
_STATE_SIZE = 9  # AEC_RATE_STATE


class RateControl:
    """Chooses the numbers of codes so that the mean bitrate is that of a target.

    It is given the bits of every packet, with all that belongs to it. A stream that waits for what
    follows shares the bits among all frames that are known. In a live stream the choice depends on
    the frames before. Memory is constant. The core computes all of it, and does so in the page.

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
        self._frame_rate = frame_rate
        self._state = np.zeros(_STATE_SIZE)
        call("aec_rate_init", target / frame_rate, frame_rate, bits_per_code, self._state)

    @property
    def lambda_(self) -> float:
        """See `Allocator`."""
        return float(self._state[1])

    def change_target(self, target: float) -> None:
        """Change the target for what follows; in bits per second and channel."""
        self._state[0] = target / self._frame_rate

    def choose(self, block: Block, ahead: Sequence[Block] | None = None) -> Counts:
        """See `Allocator`."""
        # Pauses have no part in the choice. What they save is spent on the others.
        competing, num_frames = _competing(block), block.num_frames
        channels, num_codebooks = len(block.codes), competing.shape[1]
        name = "aec_rate_share"
        if ahead is None:
            name = "aec_rate_follow"
            if len(self._state) == _STATE_SIZE:  # the first packet: room for the newest frames
                size = core().aec_rate_size(self._frame_rate, channels, num_codebooks)
                self._state = np.pad(self._state, (0, size - _STATE_SIZE))
        elif len(competing):
            known = [block, *ahead]
            num_frames = sum(each.num_frames for each in known)
            competing = np.concatenate([_competing(each) for each in known])
        call(name, channels, num_codebooks, num_frames, competing, self._state)
        return _counts(block, self.lambda_)

    def spent(self, bits: int, counts: Counts) -> None:
        """See `Allocator`."""
        channels, num_frames = counts.shape
        call("aec_rate_spent", channels, num_frames, bits, int(counts.sum()), self._state)


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
