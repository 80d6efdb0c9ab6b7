"""The speed benchmark: counts are correct, and figures agree with each other."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from benchmarks import speed
from benchmarks.contenders.aecodec import Aecodec
from benchmarks.contenders.registry import find_contender
from benchmarks.timing import clips, commands
from codec.config import CodecConfig
from codec.errors import CodecError
from codec.network.weights import load_codec
from tests.conftest import LADDER, LAPPED, REPOSITORY, make_codec


def macs_by_hand(config: CodecConfig) -> dict[str, Fraction]:
    """Multiply-accumulates per second of audio, layer by layer from the config."""
    encode, decode = Fraction(0), Fraction(0)
    rate = Fraction(config.sample_rate)  # vectors per second at a level
    finer = (1, 1)
    for level, stride in enumerate(config.strides):
        rate /= stride
        widths = narrow, wide = config.encoder_channels[level], config.decoder_channels[level]
        if config.lapped_transform and level == 0:
            encode += rate * (2 * stride * stride + stride * narrow)
            decode += rate * (wide * wide + 2 * stride * wide + 2 * stride * stride)
        else:
            encode += rate * 2 * stride * finer[0] * narrow
            decode += rate * 2 * stride * finer[1] * wide
        squares = config.kernel_size + 1  # the taps of a unit's convolution, and its projection
        encode += rate * len(config.encoder_dilations[level]) * squares * narrow**2
        decode += rate * len(config.decoder_dilations[level]) * squares * wide**2
        finer = widths
    latent, entry, books = config.latent_dim, config.codebook_dim, config.num_codebooks
    look_up = latent * entry + entry * config.codebook_size + entry * latent
    encode += rate * (finer[0] * latent + books * look_up)
    decode += rate * (config.kernel_size * latent * finer[1] + books * entry * latent)
    if config.decoder_fine_stride:
        decode += fine_macs_by_hand(config)
    return {"encode": encode, "decode": decode}


def fine_macs_by_hand(config: CodecConfig) -> Fraction:
    """Those of the second synthesis stage."""
    stride, width = config.decoder_fine_stride, config.decoder_fine_channels
    block, channels, ratio = (
        config.strides[0],
        config.decoder_channels[0],
        config.strides[0] // stride,
    )
    spectrum = 2 * (stride + 1)
    conditions = 3 * width // 4
    transforms = (4 + 1) * spectrum * 2 * stride  # of four sounds, and the inverse
    units = len(config.decoder_fine_dilations) * (config.kernel_size + 1) * width**2
    heads = width * width + width * (stride + 1) + width * (3 + 1) * spectrum
    frame = transforms + (4 * spectrum + conditions) * width + units + heads
    pitch = 3 * channels * 128 + 128 * 121
    return Fraction(config.sample_rate, block) * (
        ratio * frame + channels * conditions * ratio + pitch
    )


def test_counted_macs_of_the_packaged_model_are_those_of_its_config() -> None:
    by_hand = macs_by_hand(load_codec().config)
    assert sum(by_hand.values()) == 643_993_600  # from its config on paper
    # Entropy-coded frames may lack codes, which takes a product more.
    counted = clips.macs_per_second(Aecodec("speech24k"), 6_000)
    assert counted == pytest.approx(by_hand, rel=1e-3)


@pytest.mark.parametrize("config", [LAPPED, LADDER], ids=["lapped", "ladder"])
def test_counted_macs_are_those_of_any_config(config: CodecConfig, tmp_path: Path) -> None:
    make_codec(config, tmp_path)
    ours = Aecodec(tmp_path)
    counted = clips.macs_per_second(ours, ours.bitrates()[-1])
    assert counted == pytest.approx(macs_by_hand(config))


@pytest.mark.parametrize(
    ("name", "parameters", "encode", "decode"),
    [
        ("encodec", 14.9, 1.49 + 0.08, 1.49),  # 1.49 is without the codebook search
        pytest.param("mimi", 79.3, 2.66, 2.70, marks=pytest.mark.slow),
        pytest.param("dac", 74.7, 18.4, 41.7, marks=pytest.mark.slow),
    ],
)
def test_peers_have_the_size_and_the_macs_that_are_published(
    name: str, parameters: float, encode: float, decode: float
) -> None:
    pytest.importorskip("transformers")
    peer = find_contender(name).open_for_timing()
    assert peer.num_parameters == pytest.approx(parameters * 1e6, rel=0.01)
    counted = clips.macs_per_second(peer, peer.nearest_bitrate(6_000))
    assert counted["encode"] == pytest.approx(encode * 1e9, rel=0.02)
    assert counted["decode"] == pytest.approx(decode * 1e9, rel=0.02)


def test_a_peer_needs_a_folder() -> None:
    with pytest.raises(SystemExit, match="--peer must be NAME=FOLDER"):
        speed.main(["--peer", "lyra"])


@pytest.mark.slow
def test_a_quick_run_writes_figures_that_agree_with_each_other(tmp_path: Path) -> None:
    options = f"--quick --peers opus --minutes 0.1 --out {tmp_path}"
    result = subprocess.run(
        [sys.executable, "benchmarks/speed.py", *options.split()],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    figures = json.loads((tmp_path / "speed.json").read_text("utf-8"))
    assert figures["markdown"].strip() == result.stdout.strip()
    assert figures["models"] == {"speech24k": load_codec().fingerprint.hex()}
    config = load_codec().config

    (offline,) = figures["offline"]
    assert list(offline["codecs"]) == ["aecodec", "opus"]
    for name, codec in offline["codecs"].items():
        for side in ("encode", "decode"):
            figure, ours = codec[side], offline["codecs"]["aecodec"][side]
            best = codec["seconds"] / min(figure["round_seconds"])
            assert figure["times_real_time"] == pytest.approx(best)
            assert figure["ratio_to_ours"] == pytest.approx(best / ours["times_real_time"])
            if name == "aecodec":
                macs = figure["mmac_per_second_of_audio"] * 1e6 * best
                peak = offline["matrix_product_gmac_per_second"] * 1e9
                assert figure["share_of_matrix_product"] == pytest.approx(macs / peak)

    assert [row["push_ms"] for row in figures["streaming"]] == [20, 40, 100, 1000]
    for row in figures["streaming"]:
        seconds = row["num_pushes"] * row["push_ms"] / 1000
        plain = seconds * config.plain_bitrate(config.num_codebooks) / 8
        assert 0.3 * plain < row["payload_bytes"] < plain  # entropy coding saves a part
        assert 8 < row["packet_bytes"] < 1.1 * plain / row["num_pushes"] + 16
        for side in ("encode", "decode"):
            assert row[side]["median_ms"] <= row[side]["p99_ms"] <= row[side]["worst_ms"]

    (compared,) = figures["engines"]
    assert [row["frames"] for row in compared["rows"]] == [1, 100]
    for row in compared["rows"]:
        assert row["same_codes"] > 0.5 and -60 < row["difference_db"] < 0  # one rounds to 8 bits
        assert min(row["milliseconds"].values()) > 0

    (sessions,) = figures["sessions"]
    for side in ("encode", "decode", "both"):
        figure = sessions[side]
        assert figure["median_ms"] <= figure["p999_ms"] <= sessions["frame_ms"] == 20

    (first,) = figures["first_packet"]
    assert first["latency_ms"] == 32.5
    (row,) = figures["memory"]
    assert row["minutes"] == 0.1
    plain = 6 * config.plain_bitrate(config.num_codebooks) / 8
    assert 0.3 * plain < row["codes_bytes"] < plain


@pytest.mark.slow
def test_memory_does_not_grow_with_length() -> None:
    """Peak memory of the command, on a few seconds and on some minutes."""
    short, long = commands.memory("speech24k", [0.1, 4])
    for side in ("encode", "decode"):
        assert 0 < long[f"{side}_mib"] < 1.1 * short[f"{side}_mib"]


def test_a_command_that_fails_says_why() -> None:
    with pytest.raises(CodecError, match=r"failed: .*status 3"):
        commands.run_command(sys.executable, "-c", "raise SystemExit(3)")


def test_the_peak_memory_of_a_command_is_its_own() -> None:
    """It is not that of the process which started it, in which torch is loaded."""
    _, small = commands.run_command(sys.executable, "-c", "pass")
    _, large = commands.run_command(sys.executable, "-c", "b'x' * 2**27")
    assert small < 64
    assert 128 < large - small + 4 < 160


def test_without_transformers_the_neural_peers_are_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(speed, "installed", lambda _: None)
    asked: list[str] = []

    def stop(model: str, peers: list[str], *_: object) -> dict[str, object]:
        asked.extend(peers)
        raise CodecError("enough")

    monkeypatch.setattr(speed, "measure", stop)
    with pytest.raises(SystemExit, match="error: enough"):
        speed.main(["--quick"])
    assert asked == ["opus"]
    assert 'without dac: pip install "aecodec[peers]"' in capsys.readouterr().err
