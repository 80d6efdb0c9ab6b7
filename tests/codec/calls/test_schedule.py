"""The schedule of a call finds the sender again, whatever came before."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from benchmarks.arrivals import SHARE, check, make_plan
from codec.calls.schedule import Schedule
from codec.codes import Codebook
from codec.format.container import CODED_FORMAT, Coding, Header, Packet

SCHEDULES = 500
"""Random schedules in one run of the tests; benchmarks/arrivals.py draws more."""
TICK = 0.02
HEADER = Header(
    channels=1,
    codebooks=(Codebook(16),) * 2,
    frames_per_packet=1,
    sample_rate=24_000,
    original_sample_rate=24_000,
    hop_length=480,
    fingerprint=bytes(16),
    format=CODED_FORMAT,
)


def make_packets(*sequences: int) -> list[Packet]:
    return [Packet(each % 65_536, 1, b"a", coding=Coding.PLAIN) for each in sequences]


class Listener:
    """Plays what it is given, tick by tick, and notes what was played."""

    def __init__(self, **options: float) -> None:
        settings = {"late": 0.01, "first_depth": 0.04, "max_depth": 0.5} | options
        self.schedule = Schedule(HEADER, **settings)
        self.tick = 0
        self.played: list[int | None] = []

    def hear(self, *arrivals: list[Packet]) -> None:
        """A tick for each list of packets, which arrive in it."""
        for packets in arrivals:
            now = self.tick * TICK
            for packet in packets:
                self.schedule.push(packet, now)
            if self.schedule.is_playing(now) and not self.schedule.finished:
                taken = self.schedule.take()
                missing = taken is None
                self.schedule.note(decoded=not missing, concealed=missing, silent=False)
                self.played.append(None if taken is None else taken.sequence)
                if taken is not None and taken.is_last:
                    self.schedule.finish()
            self.tick += 1


def regular(first: int, count: int) -> list[list[Packet]]:
    return [make_packets(number) for number in range(first, first + count)]


def test_random_arrivals_never_end_a_call() -> None:
    for seed in range(SCHEDULES):
        wanted, played = check(make_plan(seed))
        assert played >= SHARE * wanted, f"seed {seed}: {played} of {wanted} were played"


@pytest.mark.parametrize("stall", [10, 60, 200, 1_000])
def test_a_stall_and_a_burst_cost_what_is_stale_and_no_more(stall: int) -> None:
    listener = Listener()
    listener.hear(*regular(0, 50), *[[]] * stall, make_packets(*range(50, 50 + stall)))
    listener.hear(*regular(50 + stall, 100))
    assert set(range(50 + stall, 50 + stall + 70)) <= set(listener.played)


def test_playback_that_begins_late_plays_the_newest_packets() -> None:
    listener = Listener()
    for number in range(200):
        listener.schedule.push(make_packets(number)[0], number * TICK)
    listener.tick = 200
    listener.hear(*regular(200, 100))
    assert listener.played[0] is not None and listener.played[0] > 200 - 0.7 / TICK
    assert None not in listener.played


def test_late_packets_are_played_where_nothing_else_can_be() -> None:
    """Of a sender whose clock is slower, until the buffer is deep enough again."""
    listener = Listener(first_depth=0.0)
    listener.hear(*regular(0, 50), [], *regular(50, 100))
    assert [each for each in listener.played if each is not None] == list(range(150))


def test_a_packet_that_is_reordered_stays_late() -> None:
    listener = Listener(first_depth=0.0)
    listener.hear(*regular(0, 10), [], make_packets(11), make_packets(12, 10), *regular(13, 10))
    assert 10 not in listener.played and listener.schedule.late == 1


def test_one_forged_packet_far_away_changes_nothing() -> None:
    for forged in (300, 30_000, -300, -30_000):
        listener = Listener()
        listener.hear(*regular(0, 50), make_packets(50, 50 + forged), *regular(51, 100))
        assert listener.played == list(range(listener.tick - 2))
        assert listener.schedule.late == 1


def test_a_jump_plays_what_waits_and_goes_on() -> None:
    for jump in (300, 30_000, -30_000):
        listener = Listener()
        listener.hear(*regular(0, 50), *regular(50 + jump, 50))
        played = [each for each in listener.played if each is not None]
        sent = [*range(50), *(each % 65_536 for each in range(51 + jump, 100 + jump))]
        assert played == sent[: len(played)] and len(played) > 90


def test_a_sender_that_restarts_with_numbers_of_before_is_heard_again() -> None:
    """Its packets look like duplicates at first."""
    listener = Listener()
    listener.hear(*regular(0, 300), *regular(0, 100))
    restarted = listener.played[300:]
    assert len([each for each in restarted if each is not None]) > 75


def test_a_call_goes_on_after_a_last_packet() -> None:
    """One that is forged, or the true one before another stream begins."""
    (packet,) = make_packets(50)
    last = dataclasses.replace(packet, num_samples=24_000)
    for following in (51, 0, 20_000):
        listener = Listener()
        listener.hear(*regular(0, 50), [last], *regular(following, 100))
        assert not listener.schedule.finished
        assert len(listener.played) > 50 + 75


def test_duplicates_after_the_last_packet_do_not_begin_again() -> None:
    (packet,) = make_packets(50)
    listener = Listener()
    listener.hear(*regular(0, 50), [dataclasses.replace(packet, num_samples=24_000)])
    listener.hear([], [], [], *regular(40, 10))
    assert listener.schedule.finished and listener.schedule.duplicates == 10


def test_of_two_packets_with_one_number_the_newer_one_is_played() -> None:
    """The other one was forged before the number was used."""
    listener = Listener()
    listener.hear(*regular(0, 20))
    for forged in make_packets(*range(20, 40)):
        listener.schedule.push(dataclasses.replace(forged, payload=b"b"), 0.4)
    listener.hear(*regular(20, 30))
    assert listener.schedule.duplicates == 0 and listener.schedule.skipped == 20
    assert None not in listener.played


def test_memory_is_bounded_whatever_arrives() -> None:
    schedule = Schedule(HEADER, late=0.01, first_depth=0.04, max_depth=0.5)
    rng = np.random.default_rng(0)
    for number, sequence in enumerate(rng.integers(65_536, size=20_000)):
        schedule.push(make_packets(int(sequence))[0], number * 1e-3)
    for number in range(20_000):  # nobody asks for them
        schedule.push(make_packets(number)[0], 20 + number * TICK)
    assert len(schedule._waiting) <= 29 and len(schedule._delays) <= 500
    assert len(schedule._seen) < 1_100


def test_the_benchmark_draws_all_that_can_happen() -> None:
    """Each thing happens in some of the schedules that the tests check."""
    plans = [make_plan(seed) for seed in range(SCHEDULES)]
    packets = [packet for plan in plans for _, packet in plan.arrivals]
    assert {each.payload for each in packets} >= {b"earlier", b"forged", b"last"}
    assert {each.coding for each in packets} >= {None, Coding.PLAIN, Coding.COMFORT_NOISE}
    assert any(plan.pauses for plan in plans) and any(plan.copies > 1 for plan in plans)
