"""`ChannelGroups`: the channels of a recording, as an engine takes and returns them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from codec.arrays import Samples
from codec.codes import CodecSpec


class ChannelGroups:
    """The channels of a recording in groups of those that a model codes together.

    A group that has fewer channels is completed by repeats of its last one, which is decoded as
    their mean.

    Args:
        spec: geometry of the model.
        channels: channels of the recording, C.
        together: channels of the recording in a group; as many as the model codes together if None,
            or all of them if they are fewer.

    Attributes:
        num_inputs: channels that the engine takes and returns: G groups of
            ``spec.channels_coded_together``.

    Example:
        >>> from dataclasses import replace
        >>> from codec import load_model
        >>> stereo = replace(load_model().spec, channels_coded_together=2)
        >>> groups = ChannelGroups(stereo, channels=3)
        >>> audio = groups.inputs(np.array([[1.0], [2.0], [3.0]], np.float32))
        >>> audio.tolist()
        [[1.0], [2.0], [3.0], [3.0]]
        >>> groups.outputs([audio]).tolist()
        [[1.0], [2.0], [3.0]]
    """

    def __init__(self, spec: CodecSpec, channels: int, together: int | None = None) -> None:
        size = spec.channels_coded_together
        together = min(size, channels) if together is None else together
        self.num_inputs = size * -(-channels // together)
        group, place = np.divmod(np.arange(self.num_inputs), size)
        last = np.minimum((group + 1) * together, channels) - 1
        self._channels = np.minimum(group * together + place, last)
        self._is_complete = self.num_inputs == channels

    def inputs(self, audio: Samples) -> Samples:
        """Audio ``[C, n]`` of the recording as ``[num_inputs, n]``."""
        return np.ascontiguousarray(audio if self._is_complete else audio[self._channels])

    def outputs(self, parts: Sequence[Samples]) -> Samples:
        """Audio ``[C, n]`` of the recording.

        Args:
            parts: all ``num_inputs`` channels that the engine returned, in one array or several.
        """
        audio = np.concatenate(parts)
        if self._is_complete:
            return audio
        starts = np.flatnonzero(np.diff(self._channels, prepend=-1))
        repeats = np.diff(starts, append=self.num_inputs)[:, None]
        return (np.add.reduceat(audio, starts) / repeats).astype(np.float32)
