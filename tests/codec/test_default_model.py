"""The packaged model keeps its promises: budget, latency, bitrates, and a floor on its sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.lib.stride_tricks import sliding_window_view
from pesq import pesq
from pystoi import stoi
from scipy.signal import welch
from torch.utils.flop_counter import FlopCounterMode

from codec import Constant, decode_file, encode_file
from codec.evaluation.metrics import count_codes, perplexity, si_sdr
from codec.model_folder import find_model
from codec.network.model import Codec
from codec.network.weights import load_codec
from codec.rate.modes import RateLike
from tests.conftest import RECORDING, encode_in_packets


@pytest.fixture(scope="module")
def default() -> Codec:
    return load_codec()


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    samples, rate = soundfile.read(RECORDING, dtype="float32")
    assert rate == 24_000
    return np.asarray(samples)


def test_encoder_and_decoder_stay_within_700_million_macs_per_second(default: Codec) -> None:
    seconds = 4
    with FlopCounterMode(display=False) as encoder:
        codes = default.encode(torch.zeros(1, 1, seconds * 24_000))
    with FlopCounterMode(display=False) as decoder:
        default.decode(codes)
    spent = [counter.get_total_flops() / 2 / seconds for counter in (encoder, decoder)]
    assert sum(spent) <= 700e6
    assert spent[1] >= 0.6 * sum(spent)  # the encoder can shrink almost for free


def test_latency_bitrates_and_size(default: Codec) -> None:
    config = default.config
    assert config.sample_rate == 24_000
    assert default.latency_seconds <= 0.040
    assert config.plain_bitrate(1) <= 750 and config.plain_bitrate(config.num_codebooks) >= 10_000
    folder = find_model("speech24k")
    assert (folder / "weights.safetensors").stat().st_size <= 15e6
    assert (folder / "card.md").read_text().startswith("# ")


def test_the_latency_is_what_it_says(default: Codec) -> None:
    """Sound is heard in the decoded stream no later than promised: look where a burst comes out."""
    audio = torch.zeros(1, 1, 24_000)
    audio[..., 12_000:12_480] = torch.randn(480) * 0.3
    codes = default.encode(audio)
    state, pieces = default.decoder.init_state(1), []
    for frame in codes.split(1, dim=-1):
        with torch.inference_mode():
            piece, state = default.decode_step(frame, state)
        pieces.append(piece)
    live = torch.cat(pieces, -1)[0, 0]
    energy = live.square().unfold(0, 240, 240).sum(-1)
    # Frame 25 holds the burst; it may come out half a frame later, not more.
    assert int(energy.argmax()) in (50, 51, 52)


def test_speech_survives(default: Codec, speech: np.ndarray) -> None:
    """Floors well under what the model card says, so that only real harm trips them."""
    audio = torch.from_numpy(speech)[None, None]
    codes = default.encode(audio)
    quality = []
    for count in (1, 3, 6, 12, 20):
        decoded = default.decode(codes[:, :count], len(speech))[0, 0].numpy()
        quality.append(stoi(speech, decoded, 24_000))
    assert quality == sorted(quality)
    assert quality[-1] > 0.9
    assert si_sdr(torch.from_numpy(decoded), torch.from_numpy(speech)) > 3
    level = np.sqrt(np.mean(decoded**2) / np.mean(speech**2))
    assert abs(20 * np.log10(level)) < 0.5
    assert abs(decoded.mean()) < 1e-3  # no DC


def test_the_first_command_of_the_readme_keeps_pesq(
    default: Codec, speech: np.ndarray, tmp_path: Path
) -> None:
    encode_file(RECORDING, tmp_path / "a.codes", model=default, rate=6_000)
    decode_file(tmp_path / "a.codes", tmp_path / "b.wav", model=default, sample_rate=16_000)
    import soxr

    decoded, _ = soundfile.read(tmp_path / "b.wav")
    original = soxr.resample(speech, 24_000, 16_000)
    assert len(original) == len(decoded)
    assert pesq(16_000, original, decoded, "wb") > 2.5


@pytest.mark.parametrize("rate", [None, 6_000, Constant(plain=True)])
def test_a_recording_of_whole_frames_fades_out_to_its_end(rate: RateLike, tmp_path: Path) -> None:
    time = np.arange(24_000) / 24_000 - 1
    k = np.arange(1, 5)[:, None]
    audio = 0.15 * np.cos(2 * np.pi * 110 * k * time + k).sum(axis=0)
    audio[-120:] *= np.linspace(1, 0, 120)
    soundfile.write(tmp_path / "a.wav", audio, 24_000)
    encode_file(tmp_path / "a.wav", tmp_path / "a.codes", rate=rate)
    decode_file(tmp_path / "a.codes", tmp_path / "b.wav")
    decoded, _ = soundfile.read(tmp_path / "b.wav")
    assert len(decoded) == len(audio)
    assert np.abs(decoded[-4:]).max() < 0.03  # of 0.2 where the end is made up


def test_silence_stays_silent(default: Codec) -> None:
    decoded = default.decode(default.encode(torch.zeros(1, 1, 24_000)))
    assert decoded.abs().max() < 10 ** (-50 / 20)


@pytest.mark.parametrize("codebooks", [3, 12, 20])
def test_noise_comes_back_as_noise(default: Codec, codebooks: int) -> None:
    """Where phase is not coded, a decoder that makes up the same one each time whistles."""
    noise = np.random.default_rng(0).normal(0, 0.1, 8 * 24_000).astype(np.float32)
    codes = default.encode(torch.from_numpy(noise)[None, None])
    decoded = default.decode(codes[:, :codebooks], len(noise))[0, 0].numpy()
    assert tallest_line(noise) < 4  # what chance does in eight seconds
    assert tallest_line(decoded) < 7
    assert abs(decoded.mean()) < 1e-3


def tallest_line(audio: np.ndarray) -> float:
    """By how many decibels any bin of the mean spectrum stands above the median around it."""
    _, power = welch(audio, nperseg=4096)
    level = 10 * np.log10(power + 1e-20)
    around = np.median(sliding_window_view(level, 121), axis=-1)
    return float((level[60:-60] - around).max())


def test_frames_join_without_clicks(default: Codec, speech: np.ndarray) -> None:
    """No jump is larger than those of the sound itself, and none at the edges of frames."""
    decoded = default.decode(default.encode(torch.from_numpy(speech)[None, None]), len(speech))
    jumps = np.abs(np.diff(decoded[0, 0].numpy()))
    assert jumps.max() < 1.2 * np.abs(np.diff(speech)).max()
    edges = jumps[default.config.hop_length - 1 :: default.config.hop_length]
    assert edges.max() < jumps.max()


def test_every_codebook_is_used(default: Codec, speech: np.ndarray) -> None:
    codes = default.encode(torch.from_numpy(speech)[None, None])
    # 306 frames cannot use 1024 entries: half of the frames having their own is plenty.
    assert perplexity(count_codes(codes, 1024)).min() > 100


def test_damage_is_local_on_real_speech(default: Codec, speech: np.ndarray, tmp_path: Path) -> None:
    encode_in_packets(RECORDING, tmp_path / "a.codes", 10, model=default)
    decode_file(tmp_path / "a.codes", tmp_path / "b.wav", model=default)
    data = bytearray((tmp_path / "a.codes").read_bytes())
    data[len(data) // 2] ^= 0x40
    (tmp_path / "c.codes").write_bytes(data)
    scan = decode_file(tmp_path / "c.codes", tmp_path / "d.wav", model=default)
    assert scan.num_lost == 1
    whole, _ = soundfile.read(tmp_path / "b.wav")
    partial, _ = soundfile.read(tmp_path / "d.wav")
    assert len(whole) == len(partial)
    differing = np.flatnonzero(np.abs(whole - partial) > 1e-3)
    assert 0 < differing[-1] - differing[0] < 24_000
