"""Redundancy: packets that also carry redundant frames, the first codes of frames before them.

If a packet is lost, the packets after it bring its sound back at a lower quality (RFC 2198 does the
same for any codec). The first codebooks matter most, and a gap that a later packet can fill is the
longer, the rarer it is: so the newest frame gets the most codes, and older ones fewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from codec.arguments import check_number, check_whole
from codec.bitrate import Bitrate
from codec.codes import Geometry
from codec.entropy.context import NO_CODE
from codec.entropy.payload import MAX_EARLIER_CODEBOOKS, MAX_FRAMES, layout

# Expected loss up to which a preset is used, its frames, and its bits per second and channel. At
# 9 kbit/s in all, losses at random and in bursts of two packets: what redundancy takes from the
# codes of a packet's own frame lowers the quality of all frames, and so pays only if it is used.
_PRESETS = (
    (0.0, 0, 0),
    (0.03, 1, 1_500),
    (0.05, 2, 2_000),
    (0.1, 2, 3_000),
    (0.2, 3, 4_000),
    (1.0, 4, 5_000),
)


@dataclass(frozen=True)
class Redundancy:
    """How many redundant frames each packet carries, and at which bitrate.

    A receiver can use up to ``frames`` consecutive losses of this, if it waits for as many frames.

    Attributes:
        frames: number of redundant frames, 0 to `MAX_FRAMES`.
        bitrate: bits per second and channel that their codes take on average, on top of those of
            the packet's own frame.

    Raises:
        ConfigError: a value is out of range.

    Example:
        >>> Redundancy.for_loss(0.1)
        Redundancy(frames=2, bitrate=3000)
    """

    frames: int
    bitrate: Bitrate

    def __post_init__(self) -> None:
        frames = check_whole("redundancy.frames", self.frames, 0, MAX_FRAMES)
        object.__setattr__(self, "frames", frames)
        check_number("redundancy.bitrate", self.bitrate, 0, 1e12)

    @classmethod
    def for_loss(cls, loss: float) -> Redundancy:
        """A preset for an expected share of lost packets, from 0 to 1.

        Raises:
            ConfigError: ``loss`` is not a share.
        """
        loss = check_number("loss", loss, 0, 1)
        return next(cls(frames, bits) for most, frames, bits in _PRESETS if loss <= most)


def best_layout(frames: int, bits: float, costs: Sequence[int]) -> tuple[int, ...]:
    """The layout of most codebooks that is affordable.

    Args:
        frames: most redundant frames.
        bits: most bits of all of them.
        costs: bits of the first codebooks of a frame: of none, of one, and so on.

    Example:
        >>> best_layout(3, 135.0, range(0, 121, 10)), best_layout(3, 20.0, range(0, 121, 10))
        ((6, 4, 2), (1, 1))
    """
    frames = min(frames, int(bits / costs[1]))
    found: tuple[int, ...] = ()
    for newest in range(1, min(len(costs) - 1, MAX_EARLIER_CODEBOOKS) + 1 if frames else 1):
        larger = layout(frames, newest)
        if sum(costs[count] for count in larger) > bits:
            break
        found = larger
    return found


class RedundancyControl:
    """Chooses the redundant frames of each packet, so that a bitrate is met on average.

    Args:
        redundancy: most frames, and the bitrate.
        geometry: of the codes.

    Example:
        >>> from codec import load_model
        >>> control = RedundancyControl(Redundancy(2, bitrate=1_500), load_model().spec)
        >>> earlier = control.choose([np.full((1, 12, 1), n) for n in range(5)])
        >>> earlier.tolist()  # [G, k, n], the oldest frame first, -1 for absent codes
        [[[3, 4], [-1, 4]]]
    """

    def __init__(self, redundancy: Redundancy, geometry: Geometry) -> None:
        self._frames, self._geometry = redundancy.frames, geometry
        self._per_packet = float(redundancy.bitrate) / float(geometry.frame_rate)
        self._per_packet *= geometry.channels_coded_together
        self._credit = 0.0  # bits of a group
        self._ratio = 1.0  # of what codes cost to what plain ones would

    def choose(self, past: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
        """Codes ``[G, k, n]`` of the last n frames, the oldest first; `NO_CODE` where absent.

        Args:
            past: codes ``[G, K, 1]`` of the frames before, the newest last.
        """
        # The share of four packets is saved up at most.
        self._credit = min(self._credit + self._per_packet, 4 * self._per_packet)
        bits, num_codes = self._geometry.bits, self._geometry.num_codes
        costs = [sum(bits[: num_codes(n)]) for n in range(len(self._geometry.codebooks) + 1)]
        found = best_layout(min(self._frames, len(past)), self._credit / self._ratio, costs)
        counts = [num_codes(codebooks) for codebooks in found]
        if not counts:
            return np.zeros((1, 0, 0), np.int64)
        frames = np.concatenate(past[-len(counts) :], axis=2)[:, : counts[0]].copy()
        for age, count in enumerate(counts):
            frames[:, count:, -1 - age] = NO_CODE
        return frames

    def spent(self, bits: float, earlier: npt.NDArray[np.int64]) -> None:
        """Take into account the bits of the chosen codes, of all channels together."""
        present = (earlier >= 0).sum(axis=(0, 2))
        if present.any():
            self._credit -= bits / len(earlier)
            ratio = bits / int(present @ self._geometry.bits[: len(present)])
            self._ratio = 0.98 * self._ratio + (1 - 0.98) * ratio
