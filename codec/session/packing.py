"""`Packing`: how the frames of a stream become packets."""

from __future__ import annotations

from dataclasses import dataclass

from codec.arguments import check_flag, check_number, check_type, check_whole
from codec.rate.redundancy import Redundancy

PACKET_SECONDS = 2.0
"""Length of a packet in files."""


@dataclass(frozen=True)
class Packing:
    """How the frames of a stream become packets: `Packing.live` or `Packing.file`.

    Attributes:
        frames: number of frames in a packet of a live stream.
        dtx: whether silence is left out (discontinuous transmission).
        redundancy: redundant frames in packets, against losses; None if there are never any.
        overhead: bytes that the transport adds to a packet.
        seconds: length of a packet of a file; None in live streams.
        num_samples: length of a file at its original rate, if it is known.

    Example:
        >>> Packing.live(2) == Packing(frames=2), Packing.file().is_file
        (True, True)
    """

    frames: int = 1
    dtx: bool = False
    redundancy: Redundancy | None = None
    overhead: int = 0
    seconds: float | None = None
    num_samples: int | None = None

    def __post_init__(self) -> None:
        checked: dict[str, float | None] = {
            "frames": check_whole("frames", self.frames, 1, 0xFFFF),
            "dtx": check_flag("dtx", self.dtx),
            "overhead": check_whole("overhead", self.overhead, 0, 0xFFFF),
        }
        if self.redundancy is not None:
            check_type("redundancy", self.redundancy, Redundancy)
        if self.seconds is not None:
            checked["seconds"] = check_number("seconds", self.seconds, 0, 10)
        if self.num_samples is not None:
            checked["num_samples"] = check_whole("num_samples", self.num_samples, 0, 2**63)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @classmethod
    def live(
        cls,
        frames: int = 1,
        *,
        dtx: bool = False,
        redundancy: Redundancy | None = None,
        overhead: int = 0,
    ) -> Packing:
        """Packets that are sent as soon as they are full.

        Args:
            frames: number of frames in a packet.
            dtx: whether silence is left out (discontinuous transmission): every 0.4 s a packet of
                comfort noise describes it, and nothing is sent between them. `Packet.sequence`
                counts what is left out.
            redundancy: redundant frames in packets, against losses. Start with
                ``Redundancy(0, 0)`` to add some later.
            overhead: bytes that a packet costs beside its payload, which an `Average` bitrate
                includes: with RTP, UDP and IP about 41.

        Raises:
            ConfigError: a value is out of range.

        Example:
            >>> Packing.live(2, overhead=41).frames
            2
        """
        return cls(frames, dtx, redundancy, overhead)

    @classmethod
    def file(cls, seconds: float = PACKET_SECONDS, *, num_samples: int | None = None) -> Packing:
        """Packets of a ``.codes`` file, all of whose bytes an `Average` bitrate includes.

        Packets wait for those after them, up to a minute of audio of all channels, so that bits are
        shared among all that is known; pauses take next to no bits.

        Args:
            seconds: length of a packet, which has one frame at least, and fewer than that if they
                would not fit.
            num_samples: length of the audio at its original rate, if it is known. Packets of short
                recordings are then divided into segments, which are decoded side by side.

        Raises:
            ConfigError: a value is out of range.

        Example:
            >>> Packing.file().seconds
            2.0
        """
        return cls(seconds=check_number("seconds", seconds, 0, 10), num_samples=num_samples)

    @property
    def is_file(self) -> bool:
        """Whether packets are those of a file."""
        return self.seconds is not None
