"""Random arrivals of packets at a jitter buffer, which must play on whatever came before.

    python benchmarks/arrivals.py [--schedules 1000000] [--seed 0]

Each schedule is drawn from its own seed: a stream, a depth, some of all that networks, senders,
devices and forgers do to packets, and then regular arrival. After one second of that, or the
largest depth and nine packets if that is longer, at least 95 % of the packets of the next second
must be played. Nothing is decoded. Seeds that fail are printed.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from codec.activity.noise import REFRESH_SECONDS
from codec.calls.schedule import Schedule
from codec.format.container import CODED_FORMAT, NOISE_SECONDS, PLAIN_FORMAT, Coding, Header, Packet

SHARE = 0.95
"""Of the packets that must be played after one second."""
MAX_DEPTH = 0.5
"""Largest ``max_depth`` of these schedules, in seconds; it is the default of `JitterBuffer`."""
REGULAR, EARLIER, FORGED = b"regular", b"earlier", b"forged"
"""Payloads, which tell where a packet comes from."""


@lru_cache(2**18)
def make_packet(sequence: int, frames: int, payload: bytes, coding: Coding | None) -> Packet:
    return Packet(sequence, frames, payload, None, coding)


@dataclass
class Plan:
    """What happens in a schedule, before the regular arrival and then.

    Attributes:
        header: header of the stream.
        late: share of frames that may come too late.
        first_depth: seconds that the first packet waits.
        max_depth: most seconds that packets should wait.
        arrivals: times and packets.
        pauses: times from which and until which the device does not ask.
        catches_up: whether it asks for all of that time afterwards.
        tick: seconds of a frame by the clock of the device.
        first_pull: time at which it begins to ask.
        block: frames for which it asks at once.
        copies: how often each packet comes in the regular arrival.
        quiet: ticks after which the sound becomes a pause or none; 0 if it never is one.
        regular: time at which the regular arrival begins.
        sequence: first sequence number then.
    """

    header: Header
    late: float
    first_depth: float
    max_depth: float
    arrivals: list[tuple[float, Packet]] = field(default_factory=list)
    pauses: list[tuple[float, float]] = field(default_factory=list)
    catches_up: bool = False
    tick: float = 0.02
    first_pull: float = 0.0
    block: int = 1
    copies: int = 1
    quiet: int = 0
    regular: float = 0.0
    sequence: int = 0

    @property
    def settled(self) -> float:
        """Seconds of regular arrival after which packets must be played."""
        return max(1.0, self.max_depth + 9 * self.packet_seconds)

    @property
    def packet_seconds(self) -> float:
        header = self.header
        return header.frames_per_packet * header.hop_length / header.sample_rate


class Sender:
    """Draws what happens before the regular arrival."""

    def __init__(self, rng: random.Random, plan: Plan) -> None:
        self._rng, self._plan, self._header = rng, plan, plan.header
        self._seconds = plan.packet_seconds
        self._count = plan.header.sequence_count
        self.sequence = rng.choice((0, self._count - 3, rng.randrange(self._count)))
        self.now = 0.0

    def act(self) -> None:
        """One of the things that happen."""
        self._rng.choice(self._ACTS)(self)

    def _packet(
        self, sequence: int, payload: bytes = EARLIER, coding: Coding | None = None
    ) -> Packet:
        if coding is None and self._header.format == CODED_FORMAT:
            coding = Coding.PLAIN
        sequence %= self._count
        return make_packet(sequence, self._header.frames_per_packet, payload, coding)

    def _send(self, packet: Packet, delay: float = 0.0) -> None:
        self._plan.arrivals.append((self.now + delay, packet))

    def _next(self) -> Packet:
        packet = self._packet(self.sequence)
        self.sequence += 1
        self.now += self._seconds
        return packet

    def _length(self, mean: float = 0.3) -> int:
        """Packets of a while."""
        return 1 + int(min(self._rng.expovariate(1 / mean), 3.0) / self._seconds)

    def _arrive_regularly(self) -> None:
        for _ in range(self._length()):
            self._send(self._next())

    def _arrive_with_jitter(self) -> None:
        mean = self._rng.choice((0.005, 0.02, 0.1, 0.5))
        for _ in range(self._length()):
            self._send(self._next(), self._rng.expovariate(1 / mean))

    def _get_lost(self) -> None:
        share = self._rng.random()
        for _ in range(self._length()):
            packet = self._next()
            if self._rng.random() > share:
                self._send(packet)

    def _stall(self) -> None:
        """The network holds packets back and then brings all at once."""
        packets = [self._next() for _ in range(self._length(0.7))]
        for packet in packets:
            self._send(packet)

    def _be_delayed(self) -> None:
        """From now on packets take longer, or less time."""
        self.now = max(0.0, self.now + self._rng.uniform(-0.5, 1.0))

    def _stop(self) -> None:
        """The sender pauses; its numbers go on, or not."""
        packets = self._length()
        self.now += packets * self._seconds
        self.sequence += self._rng.choice((0, packets))

    def _be_away(self) -> None:
        """For so long that numbers wrap, more or less."""
        self.now += self._rng.choice((0.5, 1.0, 3.0))
        self.sequence += self._rng.randrange(self._count)

    def _jump(self) -> None:
        most = self._rng.choice((3, 30, 300, self._count // 2))
        self.sequence += self._rng.randint(-most, most)

    def _restart(self) -> None:
        self.sequence = self._rng.choice((0, self._rng.randrange(self._count)))

    def _be_silent(self) -> None:
        """Comfort noise, and then nothing but it."""
        if not self._header.dtx:
            return
        every = max(1, round(REFRESH_SECONDS / self._seconds))
        for n in range(self._length(1.0)):
            packet = self._packet(self.sequence, coding=Coding.COMFORT_NOISE)
            if n % every == 0:
                self._send(packet)
            self._next()

    def _be_forged(self) -> None:
        """Packets from near or far, alone, in order, or as many as memory could hold."""
        near = self.sequence + self._rng.randint(-40, 40)
        first = self._rng.choice((near, self._rng.randrange(self._count)))
        step = self._rng.choice((1, 1, 2, 7, -1))
        for n in range(self._rng.choice((1, 2, 3, 10, 100))):
            self._send(self._packet(first + n * step, FORGED))

    def _end(self) -> None:
        """The last packet of the stream, or a forged one, perhaps far ahead."""
        ahead = self._rng.choice((0, 0, 5, self._rng.randrange(self._count)))
        packet = self._packet(self.sequence + ahead)
        self._send(Packet(packet.sequence, 1, b"last", 1, packet.coding))
        self._next()

    def _come_again(self) -> None:
        """What has been sent is sent again, at once or at its own pace."""
        pace = self._rng.choice((0.0, self._seconds))
        back = self._rng.choice((self._length(), 0))
        for n in range(back):
            self._send(self._packet(self.sequence - back + n), n * pace)

    def _carry(self) -> None:
        """Packets with earlier frames, of which some are lost."""
        if not self._header.can_have_earlier:
            return
        for _ in range(self._length()):
            sequence = self._next().sequence
            head = bytes([self._rng.randrange(256)])
            if self._rng.random() < 0.7:
                self._send(self._packet(sequence, head, Coding.PLAIN_WITH_EARLIER))

    def _be_paused(self) -> None:
        """The device asks for nothing for a while."""
        self._plan.pauses.append((self.now, self.now + self._rng.expovariate(1.0)))

    _ACTS = (
        _arrive_regularly,
        _arrive_with_jitter,
        _get_lost,
        _stall,
        _be_delayed,
        _stop,
        _be_away,
        _jump,
        _restart,
        _be_silent,
        _be_forged,
        _end,
        _come_again,
        _carry,
        _be_paused,
    )


def make_plan(seed: int) -> Plan:
    """The schedule of a seed."""
    rng = random.Random(seed)
    frames = rng.choice((1, 1, 1, 2, 3, 5))
    coded = rng.random() < 0.7
    header = Header(
        channels=1,
        num_codebooks=2,
        bits_per_code=4,
        frames_per_packet=frames,
        sample_rate=24_000,
        original_sample_rate=24_000,
        hop_length=rng.choice((480, 960)),
        fingerprint=bytes(16),
        format=CODED_FORMAT if coded else PLAIN_FORMAT,
        dtx=coded and frames == 1 and rng.random() < 0.5,
    )
    max_depth = rng.choice((0.0, 0.1, 0.2, MAX_DEPTH, MAX_DEPTH))
    plan = Plan(
        header,
        late=rng.choice((0.01, 0.1, 0.5)),
        first_depth=rng.choice((0.0, min(0.04, max_depth), max_depth)),
        max_depth=max_depth,
        catches_up=rng.random() < 0.3,
        tick=header.hop_length / header.sample_rate * (1 + rng.uniform(-1e-3, 1e-3)),
        first_pull=rng.choice((0.0, rng.uniform(0, 3))),
        block=rng.choice((1, 1, 1, 3)) if max_depth else 1,
        copies=rng.choice((1, 1, 1, 2)),
        quiet=rng.choice((0, 1, 25)),
    )
    sender = Sender(rng, plan)
    for _ in range(rng.randrange(8)):
        sender.act()
    # What is still on its way then is lost.
    begin = max(0.0, sender.now)
    plan.arrivals = sorted(
        ((at, packet) for at, packet in plan.arrivals if at < begin), key=lambda each: each[0]
    )
    plan.regular, plan.sequence = begin + rng.uniform(0, 0.02), sender.sequence
    return plan


class Player:
    """As a `JitterBuffer`, of which only the schedule is real."""

    def __init__(self, plan: Plan) -> None:
        self._header = plan.header
        self.schedule = Schedule(
            plan.header, late=plan.late, first_depth=plan.first_depth, max_depth=plan.max_depth
        )
        self._frame = plan.header.hop_length / plan.header.sample_rate
        self._ahead = 0  # frames that are decoded and not played
        self._silent = 0  # frames of silence that need not be sent
        self.num_played = 0
        self.played: set[int] = set()  # sequence numbers of packets of the regular arrival

    def push(self, packet: Packet, now: float) -> None:
        self.schedule.push(packet, now)

    def pull(self, now: float, *, quiet: bool) -> None:
        schedule = self.schedule
        if not schedule.is_playing(now):
            return
        change = schedule.change(now, self._ahead * self._frame)
        if change > 0 and quiet:
            return
        count = 2 if schedule.is_full or (change < 0 and quiet) else 1
        while self._ahead < count and not schedule.finished:
            self._decode()
        self._ahead = max(0, self._ahead - count)

    def _decode(self) -> None:
        packet = self.schedule.take()
        decoded, concealed = packet is not None, False
        if packet is not None:
            self.num_played += 1
            self._silent = 0
            if packet.payload is REGULAR:
                self.played.add(packet.sequence)
            elif packet.is_last:
                self.schedule.finish()
            if packet.coding == Coding.COMFORT_NOISE:
                self._silent = round(NOISE_SECONDS / self._frame)
        elif next(self.schedule.carriers(), None) is not None:
            self._silent, decoded = 0, True
        elif self._silent:
            self._silent -= 1
        else:
            concealed = True
        self._ahead += self._header.frames_per_packet
        self.schedule.note(decoded=decoded, concealed=concealed, silent=self._silent > 0)


def pulls(plan: Plan, end: float) -> Iterator[float]:
    """Times at which the device asks for a frame."""
    now = min(plan.first_pull, plan.regular)
    for since, until in [*sorted(plan.pauses), (end, end)]:
        while now < since:
            for _ in range(plan.block):
                yield now
            now += plan.block * plan.tick
        until = min(until, plan.regular)
        if until > now:
            missed = int((until - now) / plan.tick)
            now = until
            for _ in range(missed * plan.catches_up):
                yield now


def check(plan: Plan) -> tuple[int, int]:
    """Packets that must be played after a second of regular arrival, and how many of them were."""
    player, header, seconds = Player(plan), plan.header, plan.packet_seconds
    coding = Coding.PLAIN if header.format == CODED_FORMAT else None
    first, last = math.ceil(plan.settled / seconds), math.ceil((plan.settled + 1) / seconds)
    wanted = {(plan.sequence + n) % header.sequence_count for n in range(first, last)}
    position, arrived, arrivals = 0, 0, plan.arrivals
    for tick, now in enumerate(pulls(plan, plan.regular + plan.settled + 2 + 10 * seconds)):
        while position < len(arrivals) and arrivals[position][0] <= now:
            player.push(arrivals[position][1], arrivals[position][0])
            position += 1
        while plan.regular + arrived * seconds <= now:
            sequence = (plan.sequence + arrived) % header.sequence_count
            packet = make_packet(sequence, header.frames_per_packet, REGULAR, coding)
            for _ in range(plan.copies):
                player.push(packet, plan.regular + arrived * seconds)
            arrived += 1
            if arrived == first:
                player.played.clear()
        player.pull(now, quiet=bool(plan.quiet and tick // plan.quiet % 2))
        if arrived > last and wanted <= player.played:
            break
    check_books(player)
    return len(wanted), len(wanted & player.played)


def check_books(player: Player) -> None:
    """Nothing is lost without being counted, and memory is bounded."""
    schedule = player.schedule
    waiting = len(schedule._waiting)
    counted = player.num_played + schedule.late + schedule.skipped + waiting
    assert schedule.received == counted, f"{schedule.received} received, {counted} counted"
    assert waiting <= schedule._capacity
    assert len(schedule._seen) <= 2 * schedule._window + schedule._capacity + 1
    assert len(schedule._delays) == len(schedule._sorted_delays) <= schedule._window


def main() -> None:
    """Check schedules, and say which of them fail."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--schedules", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first schedule")
    options = parser.parse_args()
    failed, least, begin = 0, 1.0, time.perf_counter()
    for seed in range(options.seed, options.seed + options.schedules):
        wanted, played = check(make_plan(seed))
        least = min(least, played / wanted)
        if played < SHARE * wanted:
            failed += 1
            print(f"seed {seed}: {played} of {wanted} packets were played", flush=True)
    seconds = time.perf_counter() - begin
    print(
        f"seeds {options.seed} to {options.seed + options.schedules - 1}: {failed} of "
        f"{options.schedules} schedules failed; the least share that was played is "
        f"{100 * least:.1f} %; {seconds:.0f} s"
    )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
