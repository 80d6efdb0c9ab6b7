"""`JitterBuffer`: packets in any order in, a frame of sound at every tick out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from codec.arguments import check_number, check_type
from codec.arrays import Samples
from codec.calls.schedule import Schedule
from codec.core.frames import levels_and_weights
from codec.errors import ConfigError, FormatError
from codec.format.container import Header, Packet
from codec.registry import ModelLike, model_for
from codec.session.decoder import StreamDecoder

LATEST, MAX_DEPTH = 1e12, 3_600
"""Limits of times and depths, in seconds."""
QUIET_DB = 20.0
"""Sound may be stretched or shortened where it is so much weaker than the recent speech. That is
less than a pause, which is left out: nothing is lost here, and noisy calls have no pauses."""
SILENT_DB = -60.0
"""The same for any sound below this level."""
DECAY_DB = 3.0
"""Decrease of what counts as recent speech, per second."""


@dataclass(frozen=True)
class CallStatistics:
    """What a `JitterBuffer` has done so far.

    Attributes:
        received: packets that arrived, without duplicates.
        duplicates: packets that had arrived before; nothing was done with them.
        late: packets that arrived after their turn, or far from all others.
        skipped: packets that arrived in time and were left out, because playback began again at a
            later one.
        damaged: packets that did not fit the header of the stream.
        played: packets that were decoded as they were sent.
        recovered: packets that were missing, and whose frame came with a later one.
        concealed: packets that were missing and were concealed.
        silent: frames of silence that were not sent, for which comfort noise was played.
        stretched: frames by which playback was lengthened, in pauses or where the newest packet
            came too late.
        dropped: frames by which it was shortened, in pauses or where too many packets waited.
        depth: seconds that a packet of the usual delay waits before it is played.
        target: seconds that it should wait.
        jitter: interarrival jitter in seconds (RFC 3550, section 6.4.1).

    Example:
        >>> statistics = CallStatistics(played=90, recovered=8, concealed=2)
        >>> statistics.loss
        0.1
    """

    received: int = 0
    duplicates: int = 0
    late: int = 0
    skipped: int = 0
    damaged: int = 0
    played: int = 0
    recovered: int = 0
    concealed: int = 0
    silent: int = 0
    stretched: int = 0
    dropped: int = 0
    depth: float = 0.0
    target: float = 0.0
    jitter: float = 0.0

    @property
    def loss(self) -> float:
        """Share of packets that were missing when it was their turn."""
        due = self.played + self.recovered + self.concealed
        return (self.recovered + self.concealed) / due if due else 0.0


class JitterBuffer:
    """Turns packets that arrive in any order and at any time into uninterrupted sound.

    Packets may be reordered, duplicated, late or lost. A packet waits until it is its turn; what is
    missing then is recovered from a later packet that carries it (`Redundancy`), or concealed. The
    buffer is as deep as it must be for the share ``late`` of frames to come too late. It becomes
    deeper or shallower in pauses of the speech, by playing 10 ms of the pause backwards and
    forwards again or by skipping a frame of it. Speech is stretched only where the newest packet
    comes too late, and shortened only where more than ``max_depth`` waits. `Schedule` describes how
    playback follows a sender that jumps or restarts.

    It has no thread and no clock: times are arguments, in seconds of any clock that never goes
    back.

    Args:
        header: header of the stream.
        model: as for `StreamDecoder`; None finds the model that the header names.
        late: share of frames that may come too late, of those that come at all. A frame that comes
            with a later packet counts, so streams with redundancy wait for it.
        first_depth: seconds that the first packet waits.
        max_depth: most seconds that the buffer aims at. Longer gaps are skipped.

    Raises:
        ConfigError: ``late`` or a depth is out of range.
        ModelError: see `StreamDecoder`.

    Example:
        >>> import numpy as np
        >>> from codec import StreamEncoder
        >>> encoder = StreamEncoder(rate=3_000)
        >>> buffer = JitterBuffer(encoder.header)
        >>> packets = encoder.push(np.zeros((1, 24_000), np.float32))
        >>> for packet in packets[0], packets[3], packets[2]:
        ...     buffer.push(packet, now=0.02 * packet.sequence)
        >>> [buffer.pull(now=0.05 + 0.02 * tick).shape for tick in range(3)]
        [(1, 480), (1, 480), (1, 480)]
        >>> buffer.statistics.played, buffer.statistics.concealed
        (2, 1)
    """

    def __init__(
        self,
        header: Header,
        model: ModelLike | None = None,
        *,
        late: float = 0.01,
        first_depth: float = 0.04,
        max_depth: float = 0.5,
    ) -> None:
        check_type("header", header, Header, FormatError)
        late = check_number("late", late, 0, 1)
        first_depth = check_number("first_depth", first_depth, 0, MAX_DEPTH)
        max_depth = check_number("max_depth", max_depth, 0, MAX_DEPTH)
        if not 0 < late < 1:
            raise ConfigError(f"a late share of {late:g}: give more than 0 and less than 1")
        if first_depth > max_depth:
            raise ConfigError(
                f"depths of {first_depth:g} to {max_depth:g} s: the first must lie between 0 and "
                "the largest"
            )
        self._model = model_for(header, model)
        self._header = header
        self._schedule = Schedule(header, late=late, first_depth=first_depth, max_depth=max_depth)
        self._tick = header.hop_length / header.sample_rate  # seconds
        self._sound: Samples = np.zeros((header.channels, 0), np.float32)  # decoded, not played
        self._played: Samples = np.zeros((header.channels, header.hop_length), np.float32)
        self._speech = -200.0  # level of the loudest recent sound, in dB
        self._counts = Counter[str]()
        self._ended = False  # whether the decoder has decoded the last packet of its stream
        self._num_begins = 0  # of the schedule, when something was decoded last
        self._decoder: StreamDecoder
        self._start_decoder()

    def _start_decoder(self) -> None:
        """Begin with the first packet of a stream, also after the end of another one."""
        if self._ended:
            self._counts.update(self._decoder_counts())
        self._decoder, self._ended = StreamDecoder(self._header, self._model), False
        # What the decoder lags behind is filled with silence, so that every packet adds exactly its
        # own length.
        delay = np.zeros((self._header.channels, self._model.spec.delay), np.float32)
        self._sound = np.concatenate((self._sound, delay), axis=1)

    @property
    def finished(self) -> bool:
        """Whether the last packet of the stream was played.

        Silence follows it, until packets come of which the sender has begun another stream.
        """
        return self._schedule.finished

    @property
    def next_number(self) -> int:
        """Number of the packet whose turn is next: its sequence number, which never wraps.

        After a jump of the sender numbers go on as before.
        """
        return self._schedule.next_number

    @property
    def statistics(self) -> CallStatistics:
        """What was done so far."""
        schedule, counts = self._schedule, Counter(self._counts)
        counts.update(self._decoder_counts())
        for name in ("received", "duplicates", "late", "skipped", "stretched"):
            counts[name] += getattr(schedule, name)
        depth, target, jitter = schedule.depth, schedule.target, schedule.jitter
        return CallStatistics(**counts, depth=depth, target=target, jitter=jitter)

    def _decoder_counts(self) -> dict[str, int]:
        return {
            name: getattr(self._decoder, f"num_{name}")
            for name in ("recovered", "concealed", "silent")
        }

    def push(self, packet: Packet, now: float) -> None:
        """Take a packet that has arrived.

        Args:
            packet: any packet of the stream.
            now: time of its arrival in seconds.

        Raises:
            ConfigError: ``now`` is no finite number.
            FormatError: ``packet`` is none.
        """
        check_type("packet", packet, Packet, FormatError)
        now = check_number("now", now, -LATEST, LATEST)
        self._schedule.push(packet, now)

    def pull(self, now: float) -> Samples:
        """The next frame of sound.

        Args:
            now: the present time in seconds. Frames are played one after the other, so this is
                called every ``hop_length`` samples.

        Returns:
            Samples ``[C, hop_length]``: silence before the first packet is due.

        Raises:
            ConfigError: ``now`` is no finite number.
        """
        now = check_number("now", now, -LATEST, LATEST)
        hop, schedule = self._header.hop_length, self._schedule
        if not schedule.is_playing(now):
            return self._give(np.zeros_like(self._played))
        change = schedule.change(now, self._sound.shape[1] / self._header.sample_rate)
        if change > 0 and self._is_quiet(self._played):
            return self._stretched()
        is_full = schedule.is_full
        if is_full or (change < 0 and self._is_quiet(self._played)):
            self._decode(2 * hop)
            two = self._sound[:, : 2 * hop]
            if two.shape[1] == 2 * hop and (is_full or self._is_quiet(two)):
                return self._shortened()
        self._decode(hop)
        return self._give(self._take())

    def _decode(self, num_samples: int) -> None:
        """Decode packets until so many samples can be played."""
        if self._ended and not self.finished:
            self._start_decoder()
        elif self._num_begins != self._schedule.num_begins > 1 and self._header.chained:
            self._decoder.lost()  # what comes now must not depend on what came before
        self._num_begins = self._schedule.num_begins
        while self._sound.shape[1] < num_samples and not self.finished:
            packet, sound = self._schedule.take(), None
            decoder = self._decoder
            recovered, concealed = decoder.num_recovered, decoder.num_concealed
            if packet is not None:
                try:
                    sound = self._decoded(packet)
                    self._counts["played"] += decoder.num_concealed == concealed
                except FormatError:
                    self._counts["damaged"] += 1
            is_played = sound is not None
            if sound is None:
                sound = self._without_packet()
            elif packet is not None and packet.is_last:
                self._ended = True
                self._schedule.finish()
            self._sound = np.concatenate((self._sound, sound), axis=1)
            self._schedule.note(
                decoded=is_played or decoder.num_recovered > recovered,
                concealed=decoder.num_concealed > concealed,
                silent=decoder.is_silent,
            )

    def _decoded(self, packet: Packet) -> Samples:
        """The sound of a packet, which is as long as the header says."""
        frames, most = packet.num_frames, self._header.frames_per_packet
        if frames != most and not packet.is_last:
            raise FormatError(f"a packet of {frames} frames, the header says {most}")
        return self._decoder.push(packet)

    def _without_packet(self) -> Samples:
        """The sound of a missing packet, from the first later one that carries its frame."""
        for ahead, packet in self._schedule.carriers():
            try:
                return self._decoder.lost(1, packet, ahead)
            except FormatError:
                continue  # damaged; it is counted when it is its turn
        return self._decoder.lost()

    def _stretched(self) -> Samples:
        """The end of a pause backwards and forwards again: it has no jump at either end."""
        self._counts["stretched"] += 1
        half = self._header.hop_length // 2
        back = self._played[:, self._played.shape[1] - half :][:, ::-1]
        return self._give(np.concatenate((back, self._played[:, half:]), axis=1))

    def _shortened(self) -> Samples:
        """Two frames of a pause as one."""
        self._counts["dropped"] += 1
        first, second = self._take(), self._take()
        fade = np.linspace(0, 1, first.shape[1], dtype=np.float32)
        return self._give(first * (1 - fade) + second * fade)

    def _take(self) -> Samples:
        """A frame of decoded sound; silence after the end."""
        hop = self._header.hop_length
        taken, self._sound = self._sound[:, :hop], self._sound[:, hop:]
        return np.pad(taken, ((0, 0), (0, hop - taken.shape[1])))

    def _is_quiet(self, sound: Samples) -> bool:
        """Whether no frame of this belongs to speech."""
        levels, _ = levels_and_weights(sound.reshape(len(sound), -1, self._header.hop_length))
        return bool((levels < max(SILENT_DB, self._speech - QUIET_DB)).all())

    def _give(self, frame: Samples) -> Samples:
        levels, _ = levels_and_weights(frame)
        self._speech = max(self._speech - DECAY_DB * self._tick, float(levels.max()))
        self._played = frame
        return frame
