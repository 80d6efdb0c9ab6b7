"""The robustness benchmark: degradations are as strong as stated, and are reverted where stated."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks import robustness
from benchmarks.contenders import libopus
from benchmarks.contenders.aecodec import Aecodec
from benchmarks.contenders.base import Coded, Contender, Encoded
from benchmarks.contenders.ffmpeg import Opus
from benchmarks.degradation import experiments, measuring, packet_loss, patterns
from benchmarks.degradation.subject import Subject
from benchmarks.shared.recordings import Recording
from codec.errors import CodecError
from codec.evaluation.metrics import rms
from codec.rate.redundancy import Redundancy
from codec.session.encoder import StreamEncoder
from codec.session.packing import Packing
from tests.conftest import RECORDING, sound


class Perfect(Contender):
    """A contender that returns its input, and records it."""

    name = "opus"
    sample_rate = 24_000

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def bitrates(self) -> tuple[int, ...]:
        return (6_000,)

    def encode(self, audio: np.ndarray, bitrate: int) -> Encoded:
        raise NotImplementedError

    def decode(self, encoded: Encoded) -> np.ndarray:
        raise NotImplementedError

    def code(self, audio: np.ndarray, sample_rate: int, bitrate: int) -> Coded:
        self.seen.append(audio)
        return Coded(audio, 0, 0)


@pytest.fixture
def speech() -> np.ndarray:
    return np.asarray(soundfile.read(RECORDING, dtype="float32")[0], np.float32)


@pytest.fixture
def ours(model_folder: Path) -> Aecodec:
    return Aecodec(model_folder)


@pytest.fixture
def perfect(speech: np.ndarray, ours: Aecodec) -> Subject:
    ours.code = Perfect().code  # type: ignore[method-assign]
    ours.sample_rate = 24_000
    noise = sound(len(speech))[0]
    return Subject(speech, noise, ours, Perfect(), 0, False, {})  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", packet_loss.LOSSES)
@pytest.mark.parametrize("burst", packet_loss.MEAN_BURSTS)
def test_packets_are_lost_at_the_stated_rate(rate: float, burst: float | None) -> None:
    lost = patterns.loss_pattern(rate, burst, 200_000, np.random.default_rng(0))
    assert lost.mean() == pytest.approx(rate, rel=0.05)
    if rate:
        bursts = [len(list(run)) for is_lost, run in itertools.groupby(lost) if is_lost]
        assert np.mean(bursts) == pytest.approx(burst or 1 / (1 - rate), rel=0.05)


@pytest.mark.parametrize("lengths", packet_loss.STRATA.values())
def test_bursts_of_a_stratum_have_its_lengths(lengths: tuple[int, int]) -> None:
    lost = patterns.burst_pattern(0.1, *lengths, 200_000, np.random.default_rng(0))
    assert lost.mean() == pytest.approx(0.1, rel=0.05)
    runs = [len(list(run)) for is_lost, run in itertools.groupby(lost) if is_lost][:-1]
    assert (min(runs), max(runs)) == lengths


def test_every_codec_takes_part_in_every_condition(speech: np.ndarray, ours: Aecodec) -> None:
    """What libopus codes without forward error correction is the sound of plain packets."""
    audio = speech[6_000:18_000]
    subject = Subject(audio, audio, ours, Opus(), 0, False, {})
    lost = np.zeros(packet_loss.num_packets(subject), bool)
    lost[4:8] = lost[16] = True
    ours.sample_rate = 24_000  # a small model, whose sound does not matter here
    trials = {
        trial.series: trial for trial in packet_loss.lossy(subject, lost, 0.1, "some condition")
    }
    assert list(trials) == [
        *("aecodec 6", "aecodec 9", "aecodec 9 with redundancy", "opus 9", "opus 12"),
        *("opus 9 with FEC", "opus 12 with FEC", "opus 12 sent twice"),
    ]
    assert trials["opus 12 with FEC"].decoded is trials["opus 12"].decoded
    assert {trial.facts["lost"] for trial in trials.values()} == {100 * lost.mean()}
    whole = {
        trial.series: trial for trial in packet_loss.lossy(subject, lost & False, 0.1, "no loss")
    }

    def harm(name: str, first: int, last: int) -> float:
        heard, undisturbed = trials[name].decoded, whole[name].decoded
        assert heard is not None and undisturbed is not None
        return rms((heard - undisturbed)[480 * first : 480 * last])

    # The single lost packet comes back with the next one, a longer burst does not.
    assert harm("opus 12 sent twice", 14, 20) < 0.1 * harm("opus 12", 14, 20)
    assert harm("opus 12 sent twice", 4, 8) > 10 * harm("opus 12 sent twice", 14, 20)


@pytest.mark.parametrize("burst", [None, 3.0])
def test_packets_lost_at_one_rate_are_lost_at_higher_rates(burst: float | None) -> None:
    losses = [
        patterns.loss_pattern(rate, burst, 5_000, np.random.default_rng(1))
        for rate in packet_loss.LOSSES
    ]
    for fewer, more in itertools.pairwise(losses):
        assert not (fewer & ~more).any()


def test_opus_without_loss_decodes_as_usual_and_lost_packets_are_concealed(
    speech: np.ndarray,
) -> None:
    opus = Opus()
    encoded = opus.encode(speech, 12_000)
    lost = np.zeros(len(encoded.content.packets), bool)
    whole = opus.decode_with_losses(encoded, lost)
    by_player = opus.decode(encoded)
    by_player = np.pad(by_player, (0, len(whole) - len(by_player)))
    # Another decoder, whose resampling delays bands by slightly different amounts.
    assert whole @ by_player > 0.98 * len(whole) * rms(whole) * rms(by_player)
    lost[100] = lost[150:153] = True
    concealed = opus.decode_with_losses(encoded, lost)
    assert len(concealed) == len(whole)
    delay = 156  # samples of delay that the decoder drops at the start
    start = 100 * 480 - delay
    assert start - 48 < np.flatnonzero(np.abs(concealed - whole) > 1e-4)[0] < start + 480
    hole = slice(start, start + 480)
    assert rms(concealed[hole] - whole[hole]) > 0.1 * rms(whole[hole])
    assert rms(concealed[hole]) > 0.3 * rms(whole[hole])


def test_opus_recovers_lost_packets_with_forward_error_correction(speech: np.ndarray) -> None:
    opus = Opus(expected_loss=0.2)
    encoded = opus.encode(speech, 24_000)  # at low bitrates, libopus leaves it out
    packets = encoded.content.packets
    lost = np.zeros(len(packets), bool)
    whole = libopus.decode_with_losses(packets, lost, 24_000, fec=True)
    lost[20:-5:5] = True
    recovered, concealed = (
        libopus.decode_with_losses(packets, lost, 24_000, fec=fec) for fec in (True, False)
    )
    assert rms(recovered - whole) < 0.5 * rms(concealed - whole)


def test_ours_recovers_lost_packets_with_redundancy(ours: Aecodec) -> None:
    audio = sound(8_000)[0]
    lost = np.random.default_rng(0).random(300) < 0.3
    errors = []
    for redundancy in (None, Redundancy(3, 6_000)):
        encoded = ours.encode(audio, 4_000, frames_per_packet=1, redundancy=redundancy)
        whole = ours.decode_with_losses(encoded, np.zeros(300, bool))
        heard = ours.decode_with_losses(encoded, lost)
        assert heard.shape == whole.shape == audio.shape
        errors.append(rms(heard - whole))
    assert errors[1] < 0.6 * errors[0]


@pytest.mark.parametrize("redundancy", [None, Redundancy(2, 1_000)])
def test_streams_take_at_most_the_stated_bitrate(
    ours: Aecodec, redundancy: Redundancy | None
) -> None:
    audio = sound(8_000)[0]
    subject = Subject(audio, audio, ours, Opus(), 0, True, {})
    for bitrate in (5_000, 9_000):
        encoded = packet_loss.encode_within(subject, bitrate, redundancy)
        assert encoded.payload_bits <= bitrate
    assert encoded.payload_bits >= 4_000, "all codebooks of this model"


def test_bits_are_flipped_at_the_rate_and_stay_flipped_at_higher_rates() -> None:
    data = np.random.default_rng(0).bytes(200_000)
    flipped = []
    for rate in (0.0, 1e-4, 1e-3):
        damaged = patterns.flip_bits(data, rate, np.random.default_rng(0))
        change = np.frombuffer(data, np.uint8) ^ np.frombuffer(damaged, np.uint8)
        flipped.append(np.unpackbits(change).astype(bool))
        assert flipped[-1].mean() == pytest.approx(rate, rel=0.1)
    assert not (flipped[1] & ~flipped[2]).any()


def test_only_the_damaged_packet_is_lost(ours: Aecodec) -> None:
    encoder = StreamEncoder(ours.loaded, packing=Packing.live(10))
    packets = encoder.push(sound(8_000)) + encoder.finish()
    data = bytearray(b"".join(packet.to_bytes() for packet in packets))
    whole, lost = experiments.decode_damaged(ours, encoder.header, bytes(data))
    assert whole is not None
    assert (len(whole), lost) == (8_000, 0)
    data[len(packets[0].to_bytes()) + encoder.header.head_size] ^= 1
    damaged, lost = experiments.decode_damaged(ours, encoder.header, bytes(data))
    assert damaged is not None
    assert lost == 1 / len(packets)
    assert len(damaged) == 8_000
    np.testing.assert_array_equal(damaged[:380], whole[:380])


def test_a_stream_without_intact_packets_is_unreadable(ours: Aecodec) -> None:
    encoder = StreamEncoder(ours.loaded, packing=Packing.live(4))
    packets = encoder.push(sound(12 * 8_000)) + encoder.finish()
    data = bytearray(b"".join(packet.to_bytes() for packet in packets))
    data[encoder.header.head_size - 1 :: len(packets[0].to_bytes())] = bytes(len(packets))
    decoded, lost = experiments.decode_damaged(ours, encoder.header, bytes(data))
    assert decoded is None
    assert lost > 0.9


def test_noise_has_the_stated_power(perfect: Subject) -> None:
    trials = [trial for trial in experiments.background_noise(perfect) if "uncoded" in trial.series]
    assert [trial.condition for trial in trials] == ["20", "10", "0"]
    for trial in trials:
        assert trial.decoded is not None
        assert np.abs(trial.decoded).max() <= 1
        scale = (trial.decoded @ trial.reference) / (trial.reference @ trial.reference)
        noise = trial.decoded - scale * trial.reference
        ratio = 20 * math.log10(scale * rms(trial.reference) / rms(noise))
        assert ratio == pytest.approx(float(trial.condition), abs=0.2)


def test_without_recordings_the_noise_is_pink() -> None:
    noise = measuring.make_noise((), 2**17, 24_000, seed=0)
    spectrum = np.square(np.abs(np.fft.rfft(noise)))
    frequencies = np.fft.rfftfreq(len(noise), 1 / 24_000)
    octaves = [
        spectrum[(frequencies >= low) & (frequencies < 2 * low)].sum()
        for low in 50 * 2 ** np.arange(7)
    ]
    assert max(octaves) < 1.3 * min(octaves)


def test_noise_is_taken_from_recordings_that_are_not_silent(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "sound_silent.wav", np.zeros(2_000), 24_000)
    soundfile.write(tmp_path / "sound_loud.wav", sound(1_000)[0], 24_000)
    noises = [Recording(path, path.name, "sound") for path in sorted(tmp_path.iterdir())]
    for seed in range(4):
        noise = measuring.make_noise(noises, 2_500, 24_000, seed)
        np.testing.assert_allclose(noise[1_000:2_000], sound(1_000)[0], atol=1e-4)


def test_shifts_are_reverted(perfect: Subject) -> None:
    """With a perfect codec, every generation returns the original."""
    for trial in experiments.tandem(perfect):
        assert trial.decoded is not None
        np.testing.assert_allclose(trial.decoded, perfect.audio, atol=1e-6)
    opus: Contender = perfect.opus
    assert isinstance(opus, Perfect)
    shifts = [len(audio) - len(perfect.audio) for audio in opus.seen[: experiments.GENERATIONS]]
    hop = perfect.ours.hop_length
    assert len(set(shifts)) > 1 and all(0 < shift < hop for shift in shifts)


@pytest.mark.slow
def test_a_quick_run_writes_means_of_what_it_measured(
    tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("speech_a.flac", "speech_b.flac"):
        shutil.copy(RECORDING, tmp_path / name)
    out = tmp_path / "out"
    words = f"--quick --seconds 1.5 --jobs 2 --data {tmp_path} --model {model_folder} --out {out}"
    # Those in bursts differ in a number, and measuring takes long.
    chosen = [name for name in experiments.EXPERIMENTS if name not in ("bursts_1", "bursts_4")]
    robustness.main([*words.split(), "--only", *chosen])
    figures = json.loads((out / "robustness.json").read_text("utf-8"))
    assert capsys.readouterr().out.strip() == figures["markdown"].strip()
    assert figures["noise"] == "pink noise"
    assert list(figures["files"]) == ["speech_a.flac", "speech_b.flac"]
    assert {row["experiment"] for row in figures["summary"]} == set(chosen)
    for point in figures["summary"]:
        key = ("experiment", "series", "condition")
        rows = [row for row in figures["rows"] if all(row[name] == point[name] for name in key)]
        assert [row["file"] for row in rows] == ["speech_a.flac", "speech_b.flac"]
        for name, value in point["metrics"].items():
            values = [row["metrics"][name] for row in rows if name in row["metrics"]]
            assert value["mean"] == pytest.approx(np.mean(values))
            assert value["files"] == len(values)
            assert value["low"] <= value["mean"] + 1e-9 and value["mean"] <= value["high"] + 1e-9
    (ours,) = {
        row["facts"]["payload"] for row in figures["summary"] if row["series"] == "aecodec 6"
    }
    assert ours == pytest.approx(4.8)  # kbit/s: 20 bits, all of this model's, in whole bytes
    assert len(figures["plots"]) == len(chosen)
    for plot in figures["plots"]:
        picture = out / plot
        assert picture.stat().st_size > 10_000
        assert picture.with_suffix(".svg").is_file()


def test_an_interrupted_run_continues(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(RECORDING, tmp_path / "speech_a.flac")
    recording = Recording(tmp_path / "speech_a.flac", "speech_a.flac", "speech")
    settings = measuring.Settings(str(model_folder), 1.0, (), True, ("tandem",))
    rows = measuring.finished_or_run(recording, settings, tmp_path / "kept")
    calls = []

    def measured_again(*_: object) -> list[dict[str, object]]:
        calls.append(1)
        return []

    monkeypatch.setattr(measuring, "experiments_on", measured_again)
    assert measuring.finished_or_run(recording, settings, tmp_path / "kept") == rows != []
    assert not calls
    # Other settings are another measurement.
    other = settings._replace(seconds=0.9)
    assert measuring.finished_or_run(recording, other, tmp_path / "kept") == [] and calls


def test_a_folder_without_speech_is_named(tmp_path: Path) -> None:
    shutil.copy(RECORDING, tmp_path / "music_a.flac")
    with pytest.raises(SystemExit, match=f"error: {tmp_path} has no recordings of speech"):
        robustness.main(["--data", str(tmp_path)])


def test_a_silent_recording_is_named(tmp_path: Path, model_folder: Path) -> None:
    soundfile.write(tmp_path / "speech_silent.wav", np.zeros(24_000), 24_000)
    silent = Recording(tmp_path / "speech_silent.wav", "speech_silent.wav", "speech")
    settings = measuring.Settings(str(model_folder), 0.5, (), quick=True)
    with pytest.raises(CodecError, match=r"speech_silent.wav starts with 0.5 s of silence"):
        measuring.experiments_on(silent, settings)
