from __future__ import annotations

import dataclasses
import json
from fractions import Fraction
from typing import Any

import pytest

from codec.bitrate import parse_bitrate
from codec.config import CodecConfig
from codec.errors import ConfigError
from codec.settings import settings_of
from tests.conftest import LADDER, LAPPED, VAE


@pytest.mark.parametrize("config", [LAPPED, LADDER])
def test_a_config_is_the_same_after_json(config: CodecConfig) -> None:
    assert CodecConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_derived_numbers() -> None:
    assert LADDER.hop_length == 36
    assert LADDER.frame_rate == Fraction(11025, 36)
    assert LADDER.bits[0] == 3
    assert LADDER.plain_bitrate(2) == Fraction(11025, 36) * 6
    assert [LAPPED.num_frames(n) for n in (0, 1, 39, 40, 41)] == [0, 1, 1, 1, 2]


def test_a_bitrate_maps_to_the_most_codebooks_that_do_not_exceed_it() -> None:
    step = LAPPED.plain_bitrate(1)
    assert step == 1000
    assert [LAPPED.codebooks_for(b) for b in (1000, 1999, 2000, 3999, 4000)] == [1, 1, 2, 3, 4]
    for count in range(1, 4):
        assert LADDER.codebooks_for(LADDER.plain_bitrate(count)) == count


@pytest.mark.parametrize("bitrate", [1, 999, 4001, 10**9])
def test_a_bitrate_out_of_range_names_the_range(bitrate: int) -> None:
    with pytest.raises(ConfigError, match=r"1 kbit/s to 4 kbit/s .* steps of 1 kbit/s"):
        LAPPED.codebooks_for(bitrate)


def test_a_bitrate_of_0_is_refused() -> None:
    with pytest.raises(ConfigError, match="bitrate is 0: give bits per second as 6000"):
        LAPPED.codebooks_for(0)


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("6000", 6000),
        ("6k", 6000),
        ("2.4K", 2400),
        (" 918.75 ", Fraction(3675, 4)),
        ("1.001k", 1001),
    ],
)
def test_bitrates_are_read_as_people_write_them(text: str, bits: int) -> None:
    assert parse_bitrate(text) == bits


@pytest.mark.parametrize(
    "text", ["", "k", "abc", "-6k", "0", "nan", "inf", "6kk", "1e99", "6 k", "٣"]
)
def test_invalid_bitrates_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"write 6000, 6k or 2\.4k"):
        parse_bitrate(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample_rate": 0}, "sample_rate is 0"),
        ({"strides": (0, 2)}, "strides holds 0"),
        ({"strides": (300, 300)}, "hop length"),
        ({"strides": ()}, "strides has 0 entries"),
        ({"strides": (20, 2, 2)}, "one entry per stride"),
        ({"strides": "20"}, "list of whole numbers"),
        ({"kernel_size": 2.5}, "whole number"),
        ({"kernel_size": True}, "whole number"),
        ({"codebook_size": 1_000_000}, "codebook_size is 1000000"),
        ({"codebook_size": 100}, "power of two"),
        ({"num_codebooks": 0}, "num_codebooks is 0"),
        ({"codebook_dim": 11}, "codebook_dim is 11"),
        ({"lookahead": -1}, "lookahead is -1"),
        ({"lookahead": 641}, r"lookahead is 641: it must lie in 0\.\.640"),
        ({"lapped_transform": 1}, "true or false"),
        ({"encoder_dilations": (1, 2)}, "list of whole numbers"),
        ({"decoder_dilations": ((1,), (0,))}, "decoder_dilations holds 0"),
        ({"bottleneck": "vqq"}, 'bottleneck is \'vqq\': it must be one of "vq", "fsq", "vae"'),
        ({"bottleneck": 1}, "bottleneck is 1: it must be a string"),
        ({"recurrent": "rnn"}, 'it must be one of "none", "gru", "lstm"'),
        ({"recurrent": None}, "it must be a string"),
    ],
)
def test_an_impossible_config_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        dataclasses.replace(LAPPED, **changes)
    assert "\n" not in str(caught.value)


def test_unknown_and_missing_keys_are_errors() -> None:
    values = LAPPED.to_dict()
    with pytest.raises(ConfigError, match="'stride' in the codec config: did you mean 'strides'"):
        CodecConfig.from_dict(values | {"stride": 2})
    with pytest.raises(ConfigError, match=r"'xyz' in the codec config: known: .*'bottleneck'"):
        CodecConfig.from_dict(values | {"xyz": 2})
    del values["strides"]
    with pytest.raises(ConfigError, match="the codec config lacks the key 'strides'"):
        CodecConfig.from_dict(values)


def test_fields_added_later_may_be_missing() -> None:
    values = LAPPED.to_dict()
    for name, default in (("bottleneck", "vq"), ("recurrent", "none"), ("lookahead", 0)):
        assert values.pop(name) == default
    assert CodecConfig.from_dict(values) == LAPPED


def of_earlier_version(config: CodecConfig, **changes: Any) -> dict[str, Any]:
    """The values of a file of a version that had the key ``delay`` and no lookahead."""
    values = config.to_dict() | changes
    del values["lookahead"]
    return values


def test_the_delay_of_earlier_versions_becomes_a_lookahead() -> None:
    assert CodecConfig.from_dict(of_earlier_version(LAPPED, delay=20)) == LAPPED
    assert CodecConfig.from_dict(of_earlier_version(LADDER, delay=7)) == LADDER
    later = CodecConfig.from_dict(of_earlier_version(LAPPED, delay=31))
    assert later == dataclasses.replace(LAPPED, lookahead=11)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"delay": 5}, "delay is 5 but the layers have 20 samples: leave out delay"),
        ({"delay": -1}, "delay is -1 .*: leave out delay"),
        ({"delay": "x"}, "delay is 'x': it must be a whole number"),
        ({"delay": None}, "delay is None: it must be a whole number"),
        ({"delay": 10**6}, "lookahead is 999980: it must lie in"),
    ],
)
def test_an_impossible_delay_of_earlier_versions_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        CodecConfig.from_dict(of_earlier_version(LAPPED, **changes))


def test_a_delay_together_with_a_lookahead_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"both delay \(27\) and lookahead \(7\) are given"):
        CodecConfig.from_dict(LAPPED.to_dict() | {"delay": 27, "lookahead": 7})


def test_every_field_has_a_description() -> None:
    described = settings_of(CodecConfig)
    assert list(described) == [field.name for field in dataclasses.fields(CodecConfig)]
    assert all(setting.description for setting in described.values())


def test_a_vae_has_no_bitrates() -> None:
    assert LAPPED.plain_bitrates == [1000, 2000, 3000, 4000] and LAPPED.has_codes
    assert VAE.plain_bitrates == [] and not VAE.has_codes
    assert (LAPPED.embedding_dim, VAE.embedding_dim) == (10, 4)
    assert LAPPED.codebooks_for(None) == 4
