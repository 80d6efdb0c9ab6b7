"""`Schedule`: which packet is played when, whatever arrives. It knows no sound and no engine.

A packet is *due* if its number lies in the window of numbers that begins with the next one; then it
waits for its turn. Any other packet is a *stray*. Playback follows the sender by three rules:

1. A packet comes too late, nothing after it has been played, and the next one is not there yet:
   playback goes back to it.
2. Two strays in a row and in order are far from the window, or come after the end of the stream:
   the sender has jumped, and playback goes on with the second one.
3. Strays that are late or duplicates, none of them far from the one before, are all that has come
   for `STRAY_SECONDS`: the sender has restarted, and playback goes on with the newest one.

So it cannot be silent for good. In regular arrival the next packet is due, or one of the rules
makes it due within `STRAY_SECONDS` and two packets. From then on packets stay due: rule 1 covers
the beginning of the window, and `is_full` keeps them from its end. Wrong packets in the window are
gone when it has passed.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterator

from codec.entropy.payload import MAX_FRAMES, earlier_counts
from codec.format.container import Header, Packet

WINDOW_SECONDS = 10.0
"""The depth follows the delays of the newest packets, of this long."""
FIRST_SECONDS = 1.0
"""For so long the depth is not below that of the beginning: the delays are not known yet."""
SLACK_FRAMES = 1.5
"""The depth may exceed its target by so much before a pause is shortened."""
DRY_SECONDS = 0.12
"""After so much concealment in a row, which has faded to silence, playback may begin again."""
STRAY_SECONDS = 0.3
"""After so long, packets that are late or known are those of a sender that has restarted."""
SPARE_PACKETS = 4
"""The window is longer than the largest depth by so many packets."""


class Schedule:
    """Packets in the order in which they are played.

    Arguments and attributes are those of `codec.calls.jitter.JitterBuffer` and its statistics.

    Attributes:
        num_begins: how often playback has begun; the first packet then does not follow the last.
        stretched: frames by which playback went back to late packets.
    """

    def __init__(
        self, header: Header, *, late: float, first_depth: float, max_depth: float
    ) -> None:
        self._tick = header.hop_length / header.sample_rate  # seconds
        self._frames = header.frames_per_packet
        self._packet = self._frames * self._tick
        self._count = header.sequence_count
        self._window = min(round(WINDOW_SECONDS / self._packet), self._count // 2)
        # Numbers ahead of the window must remain, by which a jump of the sender is known.
        wanted = math.ceil(max_depth / self._packet) + SPARE_PACKETS
        self._capacity = min(wanted, self._count // 4)
        self._max_depth = min(max_depth, (self._capacity - SPARE_PACKETS) * self._packet)
        self._first_depth = min(first_depth, self._max_depth)
        self._late = late

        self.next_number = self._first = 0  # whose turn it is, and where playback began
        self._newest = -1  # number of the last packet that arrived and was due
        self._played = -1  # newest number whose frames were decoded
        self._start = math.inf  # time at which playback begins
        self._concealed = 0.0  # seconds in a row
        self._is_silent = False  # whether packets that do not come are silence
        self._waiting: dict[int, Packet] = {}  # by number
        self._seen: set[int] = set()  # numbers that have arrived
        self._shift = 0  # from sequence numbers to numbers: the jumps of the sender
        self._stray: Packet | None = None  # the last of strays in a row
        self._strays_since = 0.0  # time at which the first of them came
        # By number, when a frame was first there, less when its turn was at the sender; and sorted.
        self._delays: dict[int, float] = {}
        self._sorted_delays: list[float] = []
        self._transit: float | None = None
        self.finished, self.num_begins = False, 0
        self.received = self.duplicates = self.late = self.skipped = self.stretched = 0
        self.depth, self.target, self.jitter = 0.0, self._first_depth, 0.0

    def push(self, packet: Packet, now: float) -> None:
        """Take a packet that has arrived, of the stream or one that only looks like it."""
        begins = self._start == math.inf
        number = packet.sequence if begins else self._number(packet)
        other = self._waiting.get(number)
        if packet == other:
            self.duplicates += 1
            return
        is_new = number not in self._seen or other is not None
        self.received += is_new
        self.duplicates += not is_new
        if begins:
            self._begin(number, now)
        elif self._is_due(number):
            self.skipped += other is not None  # two that differ: the newer one is right
            self.late -= not is_new  # before playback went back
        elif is_new and self._goes_back(number, now):
            pass
        elif self._is_jump(packet, now, is_far=is_new and not self._is_late(number)):
            self.received += not is_new
            self.duplicates -= not is_new
            number = self._join(packet, now)
        else:
            self.late += is_new
            if is_new and self._is_late(number):
                self._note_arrival(packet, number, now)
            return
        self._stray = None
        self._keep(packet, number, now)

    def is_playing(self, now: float) -> bool:
        """Whether packets are played now; before the first one is due, there is silence."""
        if self._is_dry and self._stray is not None:
            packet, number = self._stray, self._number(self._stray)
            if number >= self.next_number:  # nothing came after a jump: play what there is
                self.late -= 1
                self._begin(number, now)
                self._keep(packet, number, now)
        return now >= self._start

    def change(self, now: float, ahead: float) -> int:
        """Frames by which a pause should be lengthened, or shortened if negative.

        Decoded sound that is not played yet lasts so many seconds ``ahead``.
        """
        if self.finished:
            return 0
        self.depth = self._depth_at(now + ahead)
        if self.depth < self.target:
            return 1
        can_shorten = self._is_silent or self.next_number in self._waiting
        too_deep = self.depth > self.target + SLACK_FRAMES * self._tick
        return -1 if too_deep and can_shorten else 0

    @property
    def is_full(self) -> bool:
        """Whether the newest packet must wait so long that also speech must be shortened."""
        return self._newest - self.next_number >= self._capacity - SPARE_PACKETS // 2

    def take(self) -> Packet | None:
        """The packet whose turn it is; None if it is missing. It is the next one's turn then.

        Say with `note` what was made of it.
        """
        packet = self._waiting.pop(self.next_number, None)
        self.next_number += 1
        return packet

    def carriers(self) -> Iterator[tuple[int, Packet]]:
        """Packets that carry the frame of the one that `take` missed, the nearest first.

        With each comes the number of packets between the missing one and it.
        """
        for ahead in range(MAX_FRAMES):
            packet = self._waiting.get(self.next_number + ahead)
            if packet is not None and ahead < len(earlier_counts(packet)):
                yield ahead, packet

    def note(self, *, decoded: bool, concealed: bool, silent: bool) -> None:
        """Tell what was played in the turn of the packet that was taken last.

        Args:
            decoded: whether its frames were decoded, from it or from a later one.
            concealed: whether they were concealed.
            silent: whether packets that do not come after it are silence.
        """
        if decoded:
            self._played = self.next_number - 1
        self._concealed = self._concealed + self._packet if concealed else 0.0
        self._is_silent = silent

    def finish(self) -> None:
        """The last packet of the stream was played."""
        self.finished = True
        self._drop(list(self._waiting))

    def _number(self, packet: Packet) -> int:
        """The number of a packet: of those with its sequence number the nearest to the next."""
        return self.next_number + self._distance(packet.sequence + self._shift, self.next_number)

    def _distance(self, sequence: int, other: int) -> int:
        """How far a sequence number is ahead of another one, whichever way is shorter."""
        half = self._count // 2
        return (sequence - other + half) % self._count - half

    @property
    def _is_dry(self) -> bool:
        """Whether nothing has come for so long that nothing is heard any more."""
        return self._concealed >= DRY_SECONDS and not self._waiting and not self.finished

    def _is_due(self, number: int) -> bool:
        return 0 <= number - self.next_number < self._capacity and not self.finished

    def _is_late(self, number: int) -> bool:
        return -self._window <= number - self.next_number < 0

    def _begin(self, number: int, now: float) -> None:
        """Begin to play with a packet that has just arrived; delays before it mean nothing now."""
        self._drop(list(self._waiting))
        self._delays.clear()
        self._sorted_delays.clear()
        self._transit = self._stray = None
        self._first = self.next_number = number
        self._played = number - 1
        self.target = self._first_depth
        self._start = now + self.target
        self._concealed, self._is_silent, self.finished = 0.0, False, False
        self.num_begins += 1

    def _goes_back(self, number: int, now: float) -> bool:
        """Go back to a late packet, if nothing after it has been played or waits for that."""
        if self.finished or not self._is_late(number):
            return False
        if now < self._start:  # nothing has been played since playback began
            wait = max(self._waiting, default=number) - number + (self._start - now) / self._packet
            if wait >= self._capacity:
                return False
            self._first = self.next_number = number
            self._played = number - 1
            return True
        if self.next_number in self._waiting or number <= self._played:
            return False
        back = self.next_number - number
        if self._is_dry or back * self._packet >= DRY_SECONDS:
            self._begin(number, now)
        else:
            self.stretched += back * self._frames
            self.next_number = number
        return True

    def _join(self, packet: Packet, now: float) -> int:
        """Number the packets anew from this one on: it comes after those that can be played now."""
        end = self.next_number
        while end in self._waiting:
            end += 1
        number = end + 1  # the one before it was not believed
        if end == self.next_number or not self._is_due(number):
            number = self.next_number
            self._begin(number, now)
        self._drop([each for each in self._waiting if each >= end])
        self._shift = number - packet.sequence
        return number

    def _keep(self, packet: Packet, number: int, now: float) -> None:
        """Let a packet wait for its turn."""
        self._waiting[number] = packet
        self._newest = number
        self._note_arrival(packet, number, now)

    def _drop(self, numbers: list[int]) -> None:
        self.skipped += len(numbers)
        for number in numbers:
            del self._waiting[number]
            self._seen.discard(number)

    def _is_jump(self, packet: Packet, now: float, *, is_far: bool) -> bool:
        """Whether a stray and those before it show that the sender has jumped."""
        last, self._stray = self._stray, packet
        ahead = 0 if last is None else self._distance(packet.sequence, last.sequence)
        if last is None or abs(ahead) > self._capacity:
            self._strays_since = now
            return False
        return ahead > 0 and (is_far or now - self._strays_since >= STRAY_SECONDS)

    def _note_arrival(self, packet: Packet, number: int, now: float) -> None:
        self._note_delay(packet, number, now)
        self._seen.add(number)
        if len(self._seen) > 2 * self._window + self._capacity:
            # Numbers that are further back are recognised no more, but their turn is over.
            oldest = self.next_number - self._window
            self._seen = {each for each in self._seen if each >= oldest}

    def _note_delay(self, packet: Packet, number: int, now: float) -> None:
        """Follow the delays of frames, which come with their packet or with a later one."""
        transit = now - number * self._packet
        if self._transit is not None:
            self.jitter += (abs(transit - self._transit) - self.jitter) / 16
        self._transit = transit
        for age in range(len(earlier_counts(packet)) + 1):
            earlier = number - age
            if earlier >= self._first and earlier not in self._delays:
                self._delays[earlier] = transit + age * self._packet
                insort(self._sorted_delays, self._delays[earlier])
        while len(self._delays) > self._window:
            oldest = self._delays.pop(next(iter(self._delays)))
            del self._sorted_delays[bisect_left(self._sorted_delays, oldest)]
        if self._delays:
            in_time = math.ceil((1 - self._late) * len(self._delays)) - 1
            needed = self._sorted_delays[in_time] - self._sorted_delays[0]
            if len(self._delays) * self._packet < FIRST_SECONDS:
                needed = max(needed, self._first_depth)
            self.target = min(needed, self._max_depth)

    def _depth_at(self, turn: float) -> float:
        """How long a packet with the least delay waits for its turn."""
        if not self._delays:  # nothing came since playback began again: leave it as it is
            return self.target
        return max(0.0, turn - self.next_number * self._packet - self._sorted_delays[0])
