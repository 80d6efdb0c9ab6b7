"""`JitterBuffer`: packets in any order in, a frame of sound at every tick out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from codec.entropy.payload import earlier_counts
from codec.entropy.redundancy import MAX_FRAMES
from codec.errors import ConfigError, FormatError
from codec.format.container import Header, Packet
from codec.io.audio import Samples
from codec.registry import Model, as_engine, codec_for
from codec.stream import StreamDecoder

WINDOW_SECONDS = 10.0
"""The depth follows the delays of the newest packets, of this long."""
FIRST_SECONDS = 1.0
"""For so long the depth is not below that of the beginning: the delays are not known yet."""
SLACK_FRAMES = 1.5
"""The depth may exceed its target by so much before a pause is shortened."""
DRY_SECONDS = 0.12
"""After so much concealment in a row, which has faded to silence, playback may begin again."""
PAUSE_RATIO = 0.1
"""In a pause the level is below this share of the recent speech."""
SILENCE = 1e-3
"""Any level below this is a pause."""
LEVEL_SECONDS = 3.0
"""Time in which the level of recent speech decays to 1 / e."""


@dataclass(frozen=True)
class CallStatistics:
    """What a `JitterBuffer` has done so far.

    Attributes:
        received: packets that arrived, without duplicates.
        duplicates: packets that had arrived before; nothing was done with them.
        late: packets that arrived after their turn.
        damaged: packets that did not fit the header of the stream.
        played: packets that were decoded as they were sent.
        recovered: packets that were missing, and whose frame came with a later one.
        concealed: packets that were missing and were concealed.
        silent: frames of silence that were not sent, for which comfort noise was played.
        stretched: frames by which pauses were lengthened, to wait longer for packets.
        dropped: frames by which pauses were shortened.
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
    deeper or shallower in pauses of the speech only, by playing 10 ms of the pause backwards and
    forwards again or by skipping a frame of it, so that speech is never stretched or cut.

    It has no thread and no clock: times are arguments, in seconds of any clock.

    Args:
        model: as for `StreamDecoder`; None finds the model that the header names.
        header: header of the stream.
        late: share of frames that may come too late, of those that come at all. A frame that comes
            with a later packet counts, so streams with redundancy wait for it.
        first_depth: seconds that the first packet waits.
        max_depth: most seconds that the buffer aims at. Longer gaps are skipped.

    Attributes:
        finished: whether the last packet of the stream was played. Silence follows it.

    Raises:
        ConfigError: ``late`` or a depth is out of range.
        ModelError: see `StreamDecoder`.

    Example:
        >>> import numpy as np
        >>> from codec import StreamEncoder
        >>> encoder = StreamEncoder(bitrate=3_000)
        >>> buffer = JitterBuffer(None, encoder.header)
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
        model: Model | None,
        header: Header,
        *,
        late: float = 0.01,
        first_depth: float = 0.04,
        max_depth: float = 0.5,
    ) -> None:
        if not 0 < late < 1:
            raise ConfigError(f"a late share of {late:g}: give more than 0 and less than 1")
        if not 0 <= first_depth <= max_depth:
            raise ConfigError(
                f"depths of {first_depth:g} to {max_depth:g} s: the first must lie between 0 and "
                "the largest"
            )
        engine = codec_for(header) if model is None else as_engine(model)
        self._decoder = StreamDecoder(engine, header)
        self._header, self._late = header, late
        self._first_depth, self._max_depth = first_depth, max_depth
        self._tick = header.hop_length / header.sample_rate  # seconds
        self._packet = header.frames_per_packet * self._tick
        self._window = min(round(WINDOW_SECONDS / self._packet), header.sequence_count // 2)
        self._capacity = max(2, math.ceil(2 * max_depth / self._packet))
        self._waiting: dict[int, Packet] = {}  # by number: the sequence number that never wraps
        self._seen: set[int] = set()  # numbers that have arrived
        self._newest: int | None = None  # newest number, and its sequence number
        self._sequence = 0
        self._jump: int | None = None  # sequence number that would confirm a jump
        self._first = self._next = 0  # where playback began, and whose turn it is
        self._start = math.inf  # time at which it begins
        self._concealed = 0.0  # seconds in a row
        # By number, when a frame was first there, less when its turn was at the sender.
        self._delays: dict[int, float] = {}
        # Sound that is decoded and not played. What the decoder lags behind is filled with silence,
        # so that every packet adds exactly its own length.
        self._sound: Samples = np.zeros((header.channels, engine.info.delay), np.float32)
        self._played: Samples = np.zeros((header.channels, header.hop_length), np.float32)
        self._level = 0.0
        self._transit: float | None = None
        self._counts = dict.fromkeys(
            ("received", "duplicates", "late", "damaged", "played", "stretched", "dropped"), 0
        )
        self._target, self._depth, self._jitter = first_depth, 0.0, 0.0
        self.finished = False

    @property
    def next_number(self) -> int:
        """Number of the packet whose turn is next: its sequence number, which never wraps."""
        return self._next

    @property
    def statistics(self) -> CallStatistics:
        """What was done so far."""
        return CallStatistics(
            **self._counts,
            recovered=self._decoder.num_recovered,
            concealed=self._decoder.num_concealed,
            silent=self._decoder.num_silent,
            depth=self._depth,
            target=self._target,
            jitter=self._jitter,
        )

    def push(self, packet: Packet, now: float) -> None:
        """Take a packet that has arrived.

        Args:
            packet: any packet of the stream.
            now: time of its arrival in seconds.
        """
        number = self._number(packet.sequence)
        if number is None:
            self._counts["received"] += 1
            self._counts["late"] += 1
            return
        if number in self._seen:
            self._counts["duplicates"] += 1
            return
        self._counts["received"] += 1
        self._remember(number)
        if self._start == math.inf or (number < self._next and self._is_dry(number)):
            self._begin(number, now)
        elif number < self._next and now < self._start:
            self._first = self._next = number
        self._note_delay(packet, number, now)
        if number < self._next:
            self._counts["late"] += 1
            return
        self._waiting[number] = packet
        if len(self._waiting) > self._capacity:  # what is newest matters most
            del self._waiting[min(self._waiting)]

    def pull(self, now: float) -> Samples:
        """The next frame of sound.

        Args:
            now: the present time in seconds. Frames are played one after the other, so this is
                called every ``hop_length`` samples.

        Returns:
            Samples ``[C, hop_length]``: silence before the first packet is due.
        """
        hop = self._header.hop_length
        self._skip_gap(now)
        if now < self._start:
            return self._give(np.zeros_like(self._played))
        if not self.finished:
            self._depth = self._depth_at(now)
            if self._is_quiet(self._played):
                if self._depth < self._target:
                    return self._stretched()
                too_deep = self._depth > self._target + SLACK_FRAMES * self._tick
                if too_deep and (self._next in self._waiting or self._decoder.is_silent):
                    self._decode(2 * hop)
                    two = self._sound[:, : 2 * hop]
                    if two.shape[1] == 2 * hop and self._is_quiet(two):
                        return self._shortened()
        self._decode(hop)
        return self._give(self._take())

    def _number(self, sequence: int) -> int | None:
        """The number of a packet; None if it is far from all others, as damage could make it.

        Two such packets in a row are a jump of the sender, after which numbers go on as before.
        """
        if self._newest is None:
            self._newest, self._sequence = sequence, sequence
        count = self._header.sequence_count
        ahead = (sequence - self._sequence + count // 2) % count - count // 2
        if abs(ahead) > self._window:
            is_jump = sequence == self._jump
            self._jump = (sequence + 1) % count
            if not is_jump:
                return None
            ahead = 2  # the one before was not believed
        number = self._newest + ahead
        if ahead > 0:
            self._newest, self._sequence = number, sequence
        return number

    def _remember(self, number: int) -> None:
        assert self._newest is not None
        self._seen.add(number)
        if len(self._seen) > 2 * self._window:
            # Numbers that are further back are recognised no more, but their turn is over.
            self._seen = {each for each in self._seen if each >= self._newest - self._window}

    def _begin(self, number: int, now: float) -> None:
        """Begin to play with a packet that has just arrived; delays before it mean nothing now."""
        self._first = self._next = number
        self._target = self._first_depth
        self._start = now + self._target
        self._waiting = {each: self._waiting[each] for each in self._waiting if each >= number}
        self._delays.clear()
        self._concealed = 0.0

    def _is_dry(self, number: int) -> bool:
        """Whether nothing has come for so long that a newer packet begins anew, although late."""
        dry = self._concealed >= DRY_SECONDS and not self._waiting
        return dry and number == self._newest

    def _note_delay(self, packet: Packet, number: int, now: float) -> None:
        """Follow the delays of frames, which come with their packet or with a later one."""
        transit = now - number * self._packet
        if self._transit is not None:
            self._jitter += (abs(transit - self._transit) - self._jitter) / 16
        self._transit = transit
        for age in range(len(earlier_counts(packet)) + 1):
            if number - age >= self._first:
                self._delays.setdefault(number - age, transit + age * self._packet)
        while len(self._delays) > self._window:
            del self._delays[min(self._delays)]
        delays = np.sort(list(self._delays.values()))
        if len(delays):
            in_time = math.ceil((1 - self._late) * len(delays)) - 1
            needed = float(delays[in_time] - delays[0])
            if len(delays) * self._packet < FIRST_SECONDS:
                needed = max(needed, self._first_depth)
            self._target = min(needed, self._max_depth)

    def _depth_at(self, now: float) -> float:
        """How long a packet with the least delay waits."""
        if not self._delays:  # nothing came since playback began again: leave it as it is
            return self._target
        ahead = self._sound.shape[1] / self._header.sample_rate
        turn: float = now + ahead - self._next * self._packet
        return max(0.0, turn - min(self._delays.values()))

    def _skip_gap(self, now: float) -> None:
        """Go to the next packet where more are missing than the buffer may be deep."""
        earliest = min(self._waiting, default=self._next)
        if self._decoder.is_silent:
            return
        if (earliest - self._next) * self._packet > self._max_depth:
            self._begin(earliest, now)

    def _decode(self, num_samples: int) -> None:
        """Decode packets until so many samples can be played."""
        while self._sound.shape[1] < num_samples and not self.finished:
            packet = self._waiting.pop(self._next, None)
            decoded = None
            if packet is not None:
                try:
                    decoded = self._decoder.push(packet)
                    self._counts["played"] += 1
                    self.finished = packet.is_last
                except FormatError:
                    self._counts["damaged"] += 1
            if decoded is None:
                decoded = self._without_packet()
            else:
                self._concealed = 0.0
            self._sound = np.concatenate((self._sound, decoded), axis=1)
            self._next += 1

    def _without_packet(self) -> Samples:
        """The sound of a missing packet, from the first later one that carries its frame."""
        concealed, decoded = self._decoder.num_concealed, None
        for number in sorted(self._waiting):
            ahead = number - self._next - 1
            if ahead >= MAX_FRAMES:
                break
            if ahead < len(earlier_counts(self._waiting[number])):
                try:
                    decoded = self._decoder.lost(1, self._waiting[number], ahead)
                    break
                except FormatError:
                    continue  # damaged; it is counted when it is its turn
        if decoded is None:
            decoded = self._decoder.lost()
        is_concealed = self._decoder.num_concealed > concealed
        self._concealed = self._concealed + self._packet if is_concealed else 0.0
        return decoded

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
        frames = sound.reshape(len(sound), -1, self._header.hop_length)
        loudest = float(np.sqrt(np.square(frames).mean(axis=(0, 2))).max(initial=0.0))
        return loudest < max(SILENCE, PAUSE_RATIO * self._level)

    def _give(self, frame: Samples) -> Samples:
        level = float(np.sqrt(np.square(frame).mean()))
        self._level = max(level, self._level * math.exp(-self._tick / LEVEL_SECONDS))
        self._played = frame
        return frame
