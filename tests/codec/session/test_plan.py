"""Which streams there are, and with which words others are refused."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from codec import encode
from codec.engines.torch import TorchEngine
from codec.errors import ConfigError
from codec.network.model import Codec
from codec.rate.modes import Average, Constant, FileSize, Quality, RateLike
from codec.rate.redundancy import Redundancy
from codec.registry import Model
from codec.session.encoder import StreamEncoder
from codec.session.packing import Packing
from codec.session.plan import make_plan
from tests.codec.entropy.oracle import matching_context
from tests.conftest import sound


@pytest.fixture(scope="module")
def plain(lapped: Codec) -> Model:
    """A model of 4 codebooks of 1 kbit/s each, without a context model."""
    return Model(TorchEngine(lapped))


@pytest.fixture(scope="module")
def coded(lapped: Codec) -> Model:
    codes = lapped.encode(torch.from_numpy(sound(8_000)[None]))[0].numpy()
    context = matching_context(np.random.default_rng(0), codes, lapped.config.codebook_size)
    return Model(TorchEngine(lapped), context)


REFUSED: list[tuple[str, RateLike, Packing, dict[str, Any], str]] = [
    ("plain", Quality(5), Packing.live(), {}, "fit one with aecodec fit-context, or give"),
    ("plain", Average(900), Packing.live(), {}, "out of range: .* take 1.6 kbit/s to 4.8 kbit/s"),
    ("plain", Average(4_801), Packing.live(), {}, "out of range: .* take 1.6 kbit/s to 4.8 kbit/s"),
    ("coded", FileSize(1_000), Packing.live(), {}, "give another rate, or encode a whole file"),
    ("coded", FileSize(1_000), Packing.file(), {}, "give another rate, or encode a whole file"),
    ("coded", Constant(5), Packing.live(), {}, "codebooks is 5: this model has 1 to 4"),
    ("coded", Average(900), Packing.live(), {}, "out of range"),
    ("coded", Average(5_000), Packing.file(), {}, "out of range"),
    ("coded", Average(1_500), Packing.live(overhead=9), {}, "9 bytes of overhead .* give at least"),
    ("coded", None, Packing.live(2, dtx=True), {}, "neither leave out silence .*: give frames=1"),
    ("coded", None, Packing.live(2, redundancy=Redundancy(0, 0)), {}, "carry redundancy: give"),
    ("coded", None, Packing.live(3_000), {}, "2000 frames at most, give fewer"),
    ("coded", 2_000, Packing.live(1_900), {"channels": 2}, "1820 frames at most, give fewer"),
    ("coded", None, Packing.live(), {"channels": 256}, "channels is 256: it must be"),
    ("coded", None, Packing.live(), {"effort": 4}, "effort is 4: it must be"),
]


@pytest.mark.parametrize(("name", "rate", "packing", "options", "message"), REFUSED)
def test_impossible_streams_are_refused_with_the_remedy(
    plain: Model,
    coded: Model,
    name: str,
    rate: RateLike,
    packing: Packing,
    options: dict[str, Any],
    message: str,
) -> None:
    model = {"plain": plain, "coded": coded}[name]
    with pytest.raises(ConfigError, match=message) as caught:
        make_plan(model, rate, packing, **options)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=message):
        StreamEncoder(model, rate=rate, packing=packing, **options)


def test_rates_that_vary_need_the_errors_of_codes(
    coded: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(TorchEngine, "analyze_step")
    for rate in (Average(2_000), Quality(5)):
        with pytest.raises(ConfigError, match="give a constant number of codebooks"):
            make_plan(coded, rate)
    assert not make_plan(coded, Constant(2)).header.variable


def test_the_header_says_what_was_planned(coded: Model) -> None:
    live = make_plan(coded, 2_000, Packing.live(dtx=True), channels=2).header
    assert live.variable and live.dtx and not live.pauses and live.channels == 2
    assert live.frames_per_packet == live.segments == 1
    file = make_plan(coded, 2_000, Packing.file(num_samples=24_000)).header
    assert file.variable and file.pauses and file.frames_per_packet == 400 and file.segments == 4
    constant = make_plan(coded, Constant(3), Packing.file()).header
    assert constant.context and constant.num_codebooks == 3 and constant.segments == 1
    assert not constant.variable and not constant.pauses
    plain = make_plan(coded, Constant(3, plain=True), Packing.file()).header
    assert not plain.context and plain.num_codebooks == 3


def test_only_files_of_an_average_bitrate_wait(coded: Model) -> None:
    assert make_plan(coded, 2_000, Packing.file()).wait == 32
    assert make_plan(coded, 2_000, Packing.file(), channels=2).wait == 16
    for rate, packing in (
        (2_000, Packing.live(400)),
        (Quality(5), Packing.file()),
        (Constant(), Packing.file()),
    ):
        assert make_plan(coded, rate, packing).wait == 0


@pytest.mark.parametrize("packing", [Packing.file(0.5, num_samples=10_000), Packing.live(8)])
@pytest.mark.parametrize("channels", [1, 2])
def test_an_average_of_plain_codes_is_the_most_codebooks_whose_bytes_are_not_more(
    plain: Model, channels: int, packing: Packing
) -> None:
    """Of a file with its header and the heads of its packets; of a call, its payloads."""
    audio = sound(10_000, channels)
    for count in (1, 2, 3, 4):
        encoder = StreamEncoder(plain, rate=Constant(count), channels=channels, packing=packing)
        packets = encoder.push(audio)
        size, samples = len(packets[0].payload), 8 * 40
        if packing.is_file:
            packets += encoder.finish()
            size, samples = encoder.header.size + sum(each.size for each in packets), 10_000
        bitrate = Fraction(8 * size * 8_000, samples * channels)
        plan = make_plan(plain, bitrate, packing, channels=channels)
        assert plan.rate == Constant(count) and plan.header == encoder.header
        if count > 1:
            less = make_plan(plain, bitrate - Fraction(1, 10), packing, channels=channels)
            assert less.rate == Constant(count - 1)


def test_an_average_of_plain_codes_cannot_be_changed(plain: Model) -> None:
    encoder = StreamEncoder(plain, rate=3_000, packing=Packing.live(8))
    assert encoder.header.num_codebooks == 3 and encoder.bitrate is None
    with pytest.raises(ConfigError, match="only an average bitrate can be changed"):
        encoder.bitrate = 2_000
    transport = StreamEncoder(plain, rate=3_000, packing=Packing.live(8, overhead=5))
    assert transport.header.num_codebooks == 2


def test_the_plain_bitrate_of_a_file_of_joint_channels_counts_all_its_bytes(stereo: Codec) -> None:
    num_samples, rate = 100 * stereo.config.hop_length, stereo.config.sample_rate
    plan = make_plan(stereo, None, Packing.file(num_samples=num_samples), channels=2)
    data = encode(sound(num_samples, 2), rate, model=stereo)
    assert plan.plain_bitrate() == Fraction(8 * len(data) * rate, num_samples * 2)
