"""Where packets, frames and samples are, compared with what exact fractions say."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest

from codec.errors import CodecError
from codec.format.container import Gap, Header, Packet
from codec.format.timeline import (
    POSTROLL_SECONDS,
    PREROLL_SECONDS,
    Timeline,
    check_span,
    resampled_length,
)
from codec.io.audio import Resampler

RATES = [8_000, 11_025, 22_050, 24_000, 44_100, 48_000, 96_001]
OUTPUT_RATES = [1_000, 8_000, 11_025, 24_000, 48_000]
LENGTHS = [0, 1, 479, 480, 481, 10_007, 10**9 + 7]


def header(original_sample_rate: int, **changes: int) -> Header:
    plain = Header(
        channels=1,
        num_codebooks=2,
        bits_per_code=5,
        frames_per_packet=100,
        sample_rate=24_000,
        original_sample_rate=original_sample_rate,
        hop_length=480,
        fingerprint=bytes(16),
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("num_samples", LENGTHS)
def test_the_model_codes_every_sample_and_less_than_one_more(rate: int, num_samples: int) -> None:
    exact = Fraction(num_samples, rate)
    length = Timeline(header(rate)).model_length(num_samples)
    assert 0 <= Fraction(length, 24_000) - exact < Fraction(1, 24_000)
    assert length == resampled_length(num_samples, rate, 24_000)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("num_samples", LENGTHS)
def test_audio_that_goes_to_the_model_and_back_has_samples_enough(
    rate: int, num_samples: int
) -> None:
    timeline = Timeline(header(rate))
    assert timeline.length(num_samples) == num_samples
    assert timeline.output_length(timeline.model_length(num_samples)) >= num_samples


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("output_rate", OUTPUT_RATES)
def test_what_is_skipped_is_skipped_at_every_rate(rate: int, output_rate: int) -> None:
    timeline = Timeline(header(rate, skip=rate + 1), output_rate)
    assert timeline.skip == math.ceil(Fraction((rate + 1) * output_rate, rate))
    assert timeline.seconds(0) == pytest.approx(-1 - 1 / rate)
    assert timeline.seconds(50) == pytest.approx(-1 / rate)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("output_rate", OUTPUT_RATES)
@pytest.mark.parametrize("skip", [0, 1, 54_321])
@pytest.mark.parametrize("frames_per_packet", [1, 37, 100])
def test_a_part_begins_with_a_whole_sample_and_early_enough(
    rate: int, output_rate: int, skip: int, frames_per_packet: int
) -> None:
    stream = header(rate, skip=skip, frames_per_packet=frames_per_packet)
    timeline = Timeline(stream, output_rate)
    step = stream.frames_per_packet * stream.hop_length
    for first in (1, output_rate, 7 * output_rate + 1, 100 * output_rate - 1):
        part = timeline.part(first)
        begin = Fraction(part.first_packet * step * output_rate, stream.sample_rate)
        assert begin.denominator == 1
        assert part.skip == timeline.skip + first - begin
        assert part.first_packet == 0 or part.skip >= PREROLL_SECONDS * output_rate
        # Packets that begin with a whole sample are never farther apart than that many.
        apart = step * output_rate // math.gcd(step * output_rate, stream.sample_rate)
        assert part.skip <= PREROLL_SECONDS * output_rate + 2 + max(apart, step * output_rate)


def test_a_part_from_the_beginning_on_begins_with_the_first_packet() -> None:
    timeline = Timeline(header(44_100, skip=5 * 44_100))
    assert timeline.part(0) == (0, 5 * 44_100, None)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("skip", [0, 54_321])
def test_a_part_ends_with_the_frames_that_its_last_samples_need(rate: int, skip: int) -> None:
    timeline = Timeline(header(rate, skip=skip))
    for last in (1, rate, 7 * rate + 1):
        frames = timeline.part(0, last).num_frames
        assert frames is not None
        more = Fraction(frames * 480, 24_000) - Fraction(skip + last, rate)
        assert POSTROLL_SECONDS <= more < POSTROLL_SECONDS + 2 * 0.02


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("num_samples", LENGTHS)
def test_the_number_of_frames_follows_from_the_samples(rate: int, num_samples: int) -> None:
    fewest = math.ceil(Fraction(num_samples * 24_000, rate * 480))
    assert Timeline(header(rate)).frame_counts(num_samples) == range(fewest, fewest + 1)
    # A stream of format 2 may have a second more.
    later = Timeline(header(rate, format=2)).frame_counts(num_samples)
    assert later == range(fewest, fewest + 51)


def test_frames_after_the_end_are_decoded_only_where_a_whole_one_follows() -> None:
    plain, cut = Timeline(header(24_000)), Timeline(header(24_000, skip=480))
    assert plain.decoded_length(1_000, num_frames=4) == 1_000
    assert cut.decoded_length(1_000, num_frames=4) == 1_480  # 440 samples more are padding
    assert cut.decoded_length(960, num_frames=4) == 1_920
    assert cut.decoded_length(1_000, num_frames=5) == 2_400


def test_a_gap_has_the_frames_of_its_packets() -> None:
    timeline = Timeline(header(24_000))
    assert timeline.num_frames(Gap(3, 17)) == 300
    assert timeline.num_frames(Gap(3, 0, is_silence=True)) == 300
    assert timeline.num_frames(Packet(0, 7, b"")) == 7


@pytest.mark.parametrize("source_rate", RATES[:-1])
@pytest.mark.parametrize("target_rate", [8_000, 24_000, 44_100])
def test_the_resampler_makes_as_many_samples(source_rate: int, target_rate: int) -> None:
    audio = np.random.default_rng(0).normal(0, 0.1, (1, 5_003)).astype(np.float32)
    resampler = Resampler(source_rate, target_rate, 1)
    length = resampled_length(5_003, source_rate, target_rate)
    found = resampler.push(audio).shape[1]
    assert length - found >= 0 and found + resampler.finish(length).shape[1] == length


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        (None, (0.0, None)),
        ((None, None), (0.0, None)),
        ((2, 3.5), (2.0, 3.5)),
        ([1, None], (1, None)),
    ],
)
def test_spans_are_checked(span: object, expected: object) -> None:
    assert check_span(span) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("span", "reason"),
    [
        ((2, 2), "nothing lies between 2 and 2 seconds"),
        ((-1, 2), "start is -1"),
        ((0, float("nan")), "end is nan"),
        ((1, 2, 3), "span has 3 values"),
        ("12", "span is '12'"),
        (5.0, "span is 5.0"),
    ],
)
def test_what_is_no_span_is_refused_in_one_line(span: object, reason: str) -> None:
    with pytest.raises(CodecError, match=reason) as caught:
        check_span(span)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
