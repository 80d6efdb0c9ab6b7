"""How many codes each frame of a stream gets: allocation of bits by rate and distortion.

Bits go where they lower the error most. A code is sent if its slope, by how much it lowers the
error of its frame per bit, is larger than a Lagrange multiplier lambda, the same for all frames.
For a given number of bits this gives the least error in all (Shoham and Gersho, 1988,
doi:10.1109/29.90373).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from codec.rate.block import Block

Floats: TypeAlias = npt.NDArray[np.floating]

FIRST_RATIO = 0.85
"""The ratio of coded to plain bits, before anything is known."""


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
    values, affordable = frames.reshape(-1), max(len(frames), int(num_codes))
    if affordable >= len(values):
        return -np.inf
    place = len(values) - 1 - affordable  # the steepest slope that is not affordable any more
    return float(np.partition(values, place)[place])


class RateControl:
    """Chooses lambda so that the mean bitrate is that of a target.

    It is given the bits of every packet, with all that belongs to it. A stream that waits for what
    follows shares the bits among all frames that are known. In a live stream the choice depends on
    the frames before. Memory is constant.

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
        self.target = target
        self._frame_rate, self._bits_per_code = frame_rate, bits_per_code
        self._window = round(8.0 * frame_rate)  # frames by which a live stream chooses lambda
        self._past: deque[Floats] = deque()  # slopes of the newest frames of a live stream
        self._num_past = 0
        self._age = np.inf  # of lambda of a live stream, in seconds
        self._ratio = FIRST_RATIO  # of what codes cost to what plain ones would
        self._excess = 0.0  # bits per channel that were spent too much so far
        self._lambda = np.inf

    def next_lambda(self, block: Block, ahead: Sequence[Block] | None = None) -> float:
        """The slope that codes of the next packet must exceed: decrease of error per bit.

        Args:
            block: the next packet.
            ahead: the packets after it, as many as are known, of a stream that waits for them;
                none at its end. None in live streams, which cannot wait.
        """
        frames, per_frame = _competing(block), self.target / self._frame_rate
        if not len(frames):  # pauses have no part in the choice; what they save is for the others
            return self._lambda
        if ahead is not None:
            known = [block, *ahead]
            bits = per_frame * sum(each.codes.shape[2] for each in known) - self._excess
            frames, bits = np.concatenate([*map(_competing, known)]), bits * len(block.codes)
        elif self._is_due(block, frames):
            # Make up within 2 seconds for what was spent too much or too little, by half at most.
            correction = self._excess / (2.0 * self._frame_rate * per_frame)
            frames = np.concatenate(self._past)[-self._window * len(block.codes) :]
            bits = per_frame * (1 - np.clip(correction, -0.5, 0.5)) * len(frames)
        else:
            return self._lambda
        self._lambda = lambda_for(frames, bits / self._ratio // self._bits_per_code)
        return self._lambda

    def spent(self, bits: int, counts: npt.NDArray[np.int64]) -> None:
        """Take into account what a packet took.

        Args:
            bits: all that belongs to the packet, of all channels.
            counts: ``[C, T]``, numbers of codes of its frames.
        """
        channels, num_frames = counts.shape
        self._excess += bits / channels - self.target / self._frame_rate * num_frames
        if plain := self._bits_per_code * int(counts.sum()):
            # A mean over about 4 seconds: 1 - exp(-x), within x^4 / 720 of it, by operations that
            # are the same everywhere.
            x = num_frames / self._frame_rate / 4.0
            self._ratio += x / (1 + x / 2 + x * x / 12) * (bits / plain - self._ratio)

    def _is_due(self, block: Block, frames: Floats) -> bool:
        """Remember frames of a live stream; whether a new lambda, which changes slowly, is due."""
        self._past.append(frames)
        self._num_past += len(frames)
        while self._num_past - len(self._past[0]) >= self._window * len(block.codes):
            self._num_past -= len(self._past.popleft())
        self._age += block.codes.shape[2] / self._frame_rate
        if self._age < 0.2:
            return False
        self._age = 0.0
        return True


def _competing(block: Block) -> Floats:
    """Slopes ``[n, K]`` of the frames that are not in a pause."""
    assert block.slopes is not None
    frames = block.slopes.reshape(-1, block.slopes.shape[-1])
    return frames[frames[:, -1] > -np.inf]
