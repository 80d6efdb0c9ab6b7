"""How many codes each frame of a stream gets: allocation of bits by rate and distortion.

Bits go where they lower the error most. A code is sent if its slope, by how much it lowers the
error of its frame per bit, is larger than a Lagrange multiplier lambda, the same for all frames.
For a given number of bits this gives the least error in all (Shoham and Gersho, 1988,
doi:10.1109/29.90373).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from codec.core.library import call, core
from codec.rate.block import Block

Floats: TypeAlias = npt.NDArray[np.floating]

FIRST_RATIO = 0.85
"""The ratio of coded to plain bits before anything is known: that of the core."""


def lambda_for(frames: Floats, num_codes: float) -> float:
    """The lambda at which frames have about ``num_codes`` codes in all, at least one each.

    Args:
        frames: ``[n, K]``, slopes of n frames, see `codec.core.frames.slopes`.
        num_codes: of all frames together.

    Example:
        >>> frames = np.array([[np.inf, 0.4, 0.1], [np.inf, 0.8, 0.2]])
        >>> (frames > lambda_for(frames, num_codes=4)).sum(axis=1).tolist()
        [2, 2]
    """
    found = np.empty(1)
    call("aec_lambda", frames.shape[1], np.ascontiguousarray(frames), num_codes, 1.0, found)
    return float(found[0])


class RateControl:
    """Chooses lambda so that the mean bitrate is that of a target.

    It is given the bits of every packet, with all that belongs to it. A stream that waits for what
    follows shares the bits among all frames that are known. In a live stream the choice depends on
    the frames before. Memory is constant. The core computes all of it, and does so in the page.

    Args:
        target: bits per second and channel, all bytes counted; may be changed for what follows.
        frame_rate: frames per second.
        bits_per_code: bits of a plain code.

    Example:
        >>> control = RateControl(target=1_000.0, frame_rate=50.0, bits_per_code=10)
        >>> slopes = np.tile([np.inf, 0.4, 0.2, 0.1], (1, 50, 1))
        >>> slopes[:, :25] /= 100  # half of it needs little
        >>> block = Block(np.zeros((1, 4, 50), np.int64), slopes)
        >>> (slopes > control.next_lambda(block)).sum(axis=2)[0, [0, -1]].tolist()
        [1, 3]
    """

    def __init__(self, target: float, frame_rate: float, bits_per_code: int) -> None:
        self.target, self._frame_rate = target, frame_rate
        self._state = np.zeros(9)  # AEC_RATE_STATE
        call("aec_rate_init", target / frame_rate, frame_rate, bits_per_code, self._state)

    def next_lambda(self, block: Block, ahead: Sequence[Block] | None = None) -> float:
        """The slope that codes of the next packet must exceed: decrease of error per bit.

        Args:
            block: the next packet.
            ahead: the packets after it, as many as are known, of a stream that waits for them;
                none at its end. None in live streams, which cannot wait.
        """
        # Pauses have no part in the choice. What they save is spent on the others.
        frames, num_frames = _competing(block), block.codes.shape[2]
        channels, num_codebooks = len(block.codes), frames.shape[1]
        name = "aec_rate_share"
        if ahead is None:
            name = "aec_rate_follow"
            size = core().aec_rate_size(self._frame_rate, channels, num_codebooks)
            if len(self._state) < size:  # the first packet: room for the newest frames
                self._state = np.pad(self._state, (0, size - len(self._state)))
        elif len(frames):
            num_frames += sum(each.codes.shape[2] for each in ahead)
            frames = np.concatenate([frames, *map(_competing, ahead)])
        self._state[0] = self.target / self._frame_rate
        call(name, channels, num_codebooks, num_frames, frames, self._state)
        return float(self._state[1])

    def spent(self, bits: int, counts: npt.NDArray[np.int64]) -> None:
        """Take into account what a packet took.

        Args:
            bits: all that belongs to the packet, of all channels.
            counts: ``[C, T]``, numbers of codes of its frames.
        """
        channels, num_frames = counts.shape
        self._state[0] = self.target / self._frame_rate
        call("aec_rate_spent", channels, num_frames, bits, int(counts.sum()), self._state)


def _competing(block: Block) -> Floats:
    """Slopes ``[n, K]`` of the frames that are not in a pause."""
    assert block.slopes is not None
    frames = block.slopes.reshape(-1, block.slopes.shape[-1])
    return frames[frames[:, -1] > -np.inf]
