"""The contenders: how many bits they spend, and that decoded audio has no delay."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import av
import numpy as np
import pytest
import soundfile

import benchmarks.contenders
from benchmarks import rate_quality, speed
from benchmarks.contenders.aecodec import Aecodec
from benchmarks.contenders.base import Contender, align
from benchmarks.contenders.codec2 import Codec2
from benchmarks.contenders.ffmpeg import FFmpegContender, Opus
from benchmarks.contenders.lyra import Lyra
from benchmarks.contenders.opus_nolace import PACKAGE, OpusNoLACE
from benchmarks.contenders.pretrained import DAC, PretrainedContender
from benchmarks.contenders.registry import contenders, find_contender, peers
from benchmarks.contenders.speex import Speex
from codec import encode_file
from codec.engines.pretrained.families import random_engine, random_model
from codec.errors import CodecError, ConfigError
from codec.format.container import Header, Packet, PacketReader
from codec.network.model import Codec
from tests.conftest import PRETRAINED, RECORDING, sound

RATE = 24_000


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    samples, rate = soundfile.read(RECORDING, dtype="float32")
    assert rate == RATE
    return np.asarray(samples, np.float32)


@pytest.mark.parametrize("delay", [240, -240, 1])
def test_a_delayed_copy_is_found_and_aligned(speech: np.ndarray, delay: int) -> None:
    """240 samples are 10 ms."""
    late = np.roll(np.pad(speech, 500), delay)[500:-500]
    aligned, found = align(late, speech, RATE)
    assert found == delay
    inner = slice(500, -500)
    np.testing.assert_array_equal(aligned[inner], speech[inner])
    assert len(aligned) == len(speech)


def test_no_delay_is_found_in_audio_that_does_not_correlate(speech: np.ndarray) -> None:
    assert align(sound(len(speech))[0], speech, RATE)[1] == 0
    assert align(np.zeros_like(speech), speech, RATE)[1] == 0


def test_our_file_bits_are_those_of_the_command(speech: np.ndarray, tmp_path: Path) -> None:
    ours = Aecodec()
    coded = ours.code(speech, RATE, 1500)
    encode_file(RECORDING, tmp_path / "a.codes", model=ours.loaded, rate=1500)
    assert coded.file_bytes == (tmp_path / "a.codes").stat().st_size
    content = (tmp_path / "a.codes").read_bytes()
    header = Header.from_bytes(content)
    reader = PacketReader(header)
    packets = [*reader.push(content[header.size :]), *reader.finish()]
    sizes = [len(packet.payload) for packet in packets if isinstance(packet, Packet)]
    assert coded.payload_bits == 8 * sum(sizes)
    assert (len(coded.audio), coded.delay) == (len(speech), 0)


def test_our_bitrates_are_those_of_the_model(model_folder: Path, lapped: Codec) -> None:
    ours = Aecodec(model_folder)
    assert ours.bitrates() == tuple(int(lapped.config.plain_bitrate(n)) for n in (1, 2, 3, 4))
    noise = sound(8123)[0]
    coded = ours.code(noise, RATE, ours.bitrates()[1])
    assert len(coded.audio) == 8123
    frames = lapped.config.num_frames(8123 // 3 + 1 + lapped.delay)  # at the model's 8 kHz
    assert 0 <= coded.payload_bits - frames * 2 * lapped.config.bits_per_code < 8
    with pytest.raises(ConfigError, match="choose from"):
        ours.code(noise, RATE, 1)


@pytest.mark.parametrize("name", ["opus", "mp3", "aac"])
def test_bits_of_a_peer_are_the_bytes_of_its_packets(speech: np.ndarray, name: str) -> None:
    peer = find_contender(name).open()
    assert isinstance(peer, FFmpegContender)
    bitrate = peer.bitrates()[-1]
    coded = peer.code(speech, RATE, bitrate)
    packets, file = peer.encode(speech, bitrate).content
    with av.open(io.BytesIO(file), "r") as reader:
        stored = [bytes(packet) for packet in reader.demux(audio=0) if packet.size]
    assert stored == packets
    assert coded.payload_bits == 8 * sum(map(len, packets))
    assert coded.file_bytes == len(file) > coded.payload_bits / 8
    assert coded.payload_bits * RATE / len(speech) == pytest.approx(bitrate, rel=0.1)
    assert len(coded.audio) == len(speech)
    assert np.corrcoef(coded.audio, speech)[0, 1] > 0.9


def test_opus_frames_are_20_ms(speech: np.ndarray) -> None:
    packets, _ = Opus().encode(speech, 12_000).content
    assert len(packets) - len(speech) / RATE / 0.02 == pytest.approx(1, abs=1)


@pytest.mark.parametrize("length", [1, 479, 24_007])
def test_decoded_audio_has_the_length_of_the_original(speech: np.ndarray, length: int) -> None:
    for name in ("opus", "mp3", "aac"):
        peer = find_contender(name).open(speech=False)
        coded = peer.code(speech[20_000 : 20_000 + length], RATE, peer.bitrates()[0])
        assert len(coded.audio) == length, name
        assert np.isfinite(coded.audio).all()


FAKES = {
    "c2enc": "shutil.copy(sys.argv[2], sys.argv[3])",
    "c2dec": "shutil.copy(sys.argv[2], sys.argv[3])",
    "speexenc": "soundfile.write(sys.argv[-1], *soundfile.read(sys.argv[-2]), format='OGG')",
    "speexdec": "soundfile.write(sys.argv[2], *soundfile.read(sys.argv[1]), format='WAV')",
}
"""Programs that copy the audio, to test how programs are called."""


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, work in FAKES.items():
        (tmp_path / name).write_text(f"#!{sys.executable}\nimport shutil, sys, soundfile\n{work}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_codec2_runs_through_its_programs(fakes: Path, speech: np.ndarray) -> None:
    coded = Codec2().code(speech[:24_000], RATE, 1300)
    assert coded.payload_bits == 8 * 2 * 8000  # what the fake wrote: 16 bits at 8 kHz
    assert coded.file_bytes == 2 * 8000
    assert np.corrcoef(coded.audio, speech[:24_000])[0, 1] > 0.9


def test_speex_runs_through_its_programs(fakes: Path, speech: np.ndarray) -> None:
    coded = Speex().code(speech[:24_000], RATE, 9800)
    assert coded.file_bytes is not None
    assert 0 < coded.payload_bits < 8 * coded.file_bytes
    assert np.corrcoef(coded.audio, speech[:24_000])[0, 1] > 0.9


def test_a_program_that_fails_is_reported_in_one_line(fakes: Path, speech: np.ndarray) -> None:
    (fakes / "c2dec").write_text(f"#!{sys.executable}\nraise SystemExit('no such mode')\n")
    with pytest.raises(CodecError, match="c2dec failed: no such mode"):
        Codec2().code(speech[:24_000], RATE, 1300)


def test_a_missing_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name, contender in contenders().items():
        if contender.programs:
            with pytest.raises(CodecError, match=f"install {name}"):
                contender.open()


@pytest.mark.parametrize("name", ["codec2", "speex"])
def test_real_programs_code_speech(speech: np.ndarray, name: str) -> None:
    try:
        peer = find_contender(name).open()
    except CodecError as error:
        pytest.skip(str(error))
    for bitrate in peer.bitrates():
        coded = peer.code(speech, RATE, bitrate)
        # The programs of Codec 2 pad each frame to whole bytes.
        assert bitrate <= coded.payload_bits * RATE / len(speech) < 1.16 * bitrate
        assert len(coded.audio) == len(speech)


def random_network(name: str) -> PretrainedContender:
    contender = find_contender(name)
    assert issubclass(contender, PretrainedContender)
    return contender(random_engine(name, **PRETRAINED[name]))


@pytest.mark.parametrize("name", list(PRETRAINED))
def test_a_transformers_model_is_loaded_from_its_folder(
    name: str, tmp_path: Path, speech: np.ndarray
) -> None:
    pytest.importorskip("transformers", reason='pip install "aecodec[peers]"')
    made = random_network(name)
    random_model(name, **PRETRAINED[name]).save_pretrained(tmp_path)
    loaded = find_contender(name).open(str(tmp_path))
    bitrate = loaded.bitrates()[2]
    short = speech[24_000 : 24_000 + 12_345]
    coded = loaded.code(short, RATE, bitrate)
    np.testing.assert_array_equal(coded.audio, made.code(short, RATE, bitrate).audio)
    assert len(coded.audio) == len(short)
    assert coded.file_bytes is None
    frames = -(-len(short) // made.hop_length)
    assert coded.payload_bits * RATE / (frames * made.hop_length) == pytest.approx(bitrate, abs=1)


def test_published_shapes_have_the_published_bitrates() -> None:
    pytest.importorskip("transformers", reason='pip install "aecodec[peers]"')
    highest = {"encodec": 24_000, "dac": 24_000, "mimi": 4_400, "snac": 984}
    for name, bitrate in highest.items():
        codec = random_network(name)
        assert (codec.bitrates()[-1], codec.sample_rate) == (bitrate, RATE)


def test_missing_weights_are_reported_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason='pip install "aecodec[peers]"')
    with pytest.raises(CodecError, match=r"config\.json and model\.safetensors"):
        DAC.open(str(tmp_path))
    with pytest.raises(CodecError, match="--peer mimi=FOLDER"):
        find_contender("mimi").open()
    with pytest.raises(CodecError, match="no codec 'evs'"):
        find_contender("evs")


def test_every_contender_states_what_it_is_and_needs() -> None:
    known = contenders()
    assert sorted(known) == sorted(["aecodec", "aecodec-constant", "aecodec-plain", *peers()])
    without = ["opus", "mp3", "aac", "codec2", "speex"]
    assert list(peers()) == [*without, "encodec", "dac", "mimi", "snac", "lyra", "opus-nolace"]
    speech_only = {"codec2", "speex", "lyra", "opus-nolace"}
    assert {name for name in known if known[name].speech_only} == speech_only
    assert {name for name in known if known[name].needs_weights} == set(peers()) - set(without)
    for contender in known.values():
        assert bool(contender.programs) == bool(contender.programs_from)
        assert bool(contender.packages) == bool(contender.extra)
        assert contender.takes("speech")
        assert contender.takes("music") == (not contender.speech_only)


class FakeInterpreter:
    """Stands for the runtime of Lyra's graphs: features are the first samples of a frame."""

    opened: ClassVar[list[str]] = []

    def __init__(self, model_path: str, num_threads: int) -> None:
        self.name = Path(model_path).stem
        self.opened.append(self.name)
        self._calls = 0

    def allocate_tensors(self) -> None:
        pass

    def get_input_details(self) -> list[dict[str, int]]:
        return [{"index": 0}]

    def get_output_details(self) -> list[dict[str, int]]:
        return [{"index": 1}]

    def set_tensor(self, index: int, value: np.ndarray) -> None:
        shape = (1, 320) if self.name == "soundstream_encoder" else (1, 1, 64)
        assert index == 0 and value.shape == shape and value.dtype == np.float32
        self._value = value

    def invoke(self) -> None:
        self._calls += 1

    def get_tensor(self, index: int) -> np.ndarray:
        assert index == 1
        if self.name == "soundstream_encoder":
            return self._value[None, :, :64].copy()
        return np.full((1, 320), self._value[0, 0, 0] + 100 * self._calls, np.float32)

    def get_signature_runner(self, name: str) -> Callable[..., dict[str, np.ndarray]]:
        def encode(input_frames: np.ndarray, num_quantizers: np.ndarray) -> dict[str, np.ndarray]:
            codes = np.full((46, 1, 1), -1, np.int32)
            codes[:num_quantizers] = round(float(input_frames[0, 0, 0]))
            return {"output_0": codes, "output_1": np.array(4)}

        def decode(encoding_indices: np.ndarray) -> dict[str, np.ndarray]:
            assert encoding_indices.shape == (46, 1, 1)
            return {"output_0": np.full((1, 1, 64), encoding_indices[0, 0, 0], np.float32)}

        return encode if name == "encode" else decode


@pytest.fixture
def lyra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lyra:
    for name in ("soundstream_encoder", "quantizer", "lyragan"):
        (tmp_path / f"{name}.tflite").touch()
    monkeypatch.setattr("benchmarks.contenders.lyra._interpreter_class", lambda: FakeInterpreter)
    return Lyra.open(str(tmp_path))


@pytest.mark.parametrize(("length", "frames"), [(0, 0), (1, 1), (320, 1), (321, 2), (961, 4)])
def test_lyra_counts_the_bits_of_whole_frames(lyra: Lyra, length: int, frames: int) -> None:
    assert lyra.bitrates() == (3_200, 6_000, 9_200)
    for bitrate, codes in zip(lyra.bitrates(), (16, 30, 46), strict=True):
        encoded = lyra.encode(np.ones(length, np.float32), bitrate)
        assert encoded.content.shape == (frames, 46)
        assert ((encoded.content >= 0).sum(axis=1) == codes).all()
        assert encoded.payload_bits == frames * codes * 4
        assert lyra.decode(encoded).shape == (frames * 320,)


def test_lyra_runs_frames_in_order_and_starts_anew_for_each_recording(lyra: Lyra) -> None:
    audio = np.repeat(np.arange(3, dtype=np.float32), 320)
    expected = np.repeat(np.array([100, 201, 302], np.float32), 320)
    for _ in range(2):
        np.testing.assert_array_equal(lyra.decode(lyra.encode(audio, 3_200)), expected)


def test_lyra_without_its_graphs_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CodecError, match="--peer lyra=FOLDER"):
        Lyra.open()
    with pytest.raises(CodecError, match=r"soundstream_encoder\.tflite is missing"):
        Lyra.open(str(tmp_path))


# Stands for the decoder of the npm package: as many samples as there are bytes in the packets.
FAKE_DECODER = """
exports.OpusMLDecoder = class {
  constructor({ speechQualityEnhancement, sampleRate, channels }) {
    this.ready = Promise.resolve();
    this.asked = [speechQualityEnhancement, sampleRate, channels].join(" ");
  }
  decodeFrames(packets) {
    const size = packets.reduce((sum, packet) => sum + packet.length, 0);
    const errors = packets.some((packet) => packet[0] === 255) ? [{ message: "corrupted" }] : [];
    if (this.asked !== "nolace 24000 1") errors.push({ message: this.asked });
    return { channelData: [new Float32Array(size).map((_, n) => n / 65536)], errors };
  }
};
"""


@pytest.fixture
def nolace(tmp_path: Path) -> OpusNoLACE:
    if shutil.which("node") is None:
        pytest.skip("needs node")
    package = tmp_path / "node_modules" / PACKAGE
    package.mkdir(parents=True)
    (package / "package.json").write_text('{"main": "index.js"}')
    (package / "index.js").write_text(FAKE_DECODER)
    return OpusNoLACE.open(str(tmp_path))


@pytest.mark.parametrize("bitrate", OpusNoLACE.offered)
def test_opus_with_nolace_decodes_wideband_packets_without_the_delay_of_the_file(
    nolace: OpusNoLACE, speech: np.ndarray, bitrate: int
) -> None:
    encoded = nolace.encode(speech, bitrate)
    packets = encoded.content.packets
    assert encoded.payload_bits == 8 * sum(map(len, packets))
    # RFC 6716, section 3.1: configurations 8 to 11 are SILK at wideband.
    assert {packet[0] >> 5 for packet in packets} == {2}
    with av.open(io.BytesIO(encoded.content.file), "r") as file:
        assert [bytes(packet) for packet in file.demux(audio=0) if packet.size] == packets
    plain = Opus().encode(speech, bitrate)
    assert len(packets) == len(plain.content.packets)
    # Where libopus chooses wideband itself, they are those of FFmpeg.
    if plain.content.packets[0][0] >> 5 == 2:
        assert packets == plain.content.packets
    decoded = nolace.decode(encoded)
    skip = round(decoded[0] * 65536)
    assert 0 < skip < 0.01 * RATE
    assert len(decoded) == encoded.payload_bits // 8 - skip
    np.testing.assert_array_equal(np.diff(np.rint(decoded * 65536)), 1)


def test_what_opus_with_nolace_lacks_is_reported(nolace: OpusNoLACE, tmp_path: Path) -> None:
    with pytest.raises(CodecError, match="--peer opus-nolace=FOLDER"):
        OpusNoLACE.open()
    with pytest.raises(CodecError, match=f"run npm install {PACKAGE}"):
        OpusNoLACE.open(str(tmp_path / "elsewhere"))
    encoded = nolace.encode(np.zeros(4_800, np.float32), 9_000)
    encoded.content.packets[0] = bytes([255])
    with pytest.raises(CodecError, match="the decoder of opus-nolace failed"):
        nolace.decode(encoded)


def test_the_real_lyra_codes_speech(speech: np.ndarray) -> None:
    folder = os.environ.get("LYRA_GRAPHS")
    if not folder:
        pytest.skip("set LYRA_GRAPHS to the folder with the graphs of Lyra v2")
    coded = Lyra.open(folder).code(speech, RATE, 6_000)
    assert coded.payload_bits * RATE / len(speech) == pytest.approx(6_000, rel=0.01)
    assert np.corrcoef(coded.audio, speech)[0, 1] > 0.3


THROWAWAY = '''
import numpy as np

from benchmarks.contenders.base import Contender, Encoded


class EightBit(Contender):
    """Samples of eight bits."""

    name = "eight-bit"
    sample_rate = 8_000

    def bitrates(self):
        return (64_000,)

    def encode(self, audio, bitrate):
        content = (127 * audio.clip(-1, 1)).round().astype(np.int8)
        return Encoded(content, 8 * len(content), len(content))

    def decode(self, encoded):
        return encoded.content.astype(np.float32) / 127
'''


@pytest.fixture
def throwaway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Contender]:
    """A contender in one file that is added to the folder of contenders."""
    (tmp_path / "eight_bit.py").write_text(THROWAWAY)
    path = [*benchmarks.contenders.__path__, str(tmp_path)]
    monkeypatch.setattr(benchmarks.contenders, "__path__", path)
    monkeypatch.delitem(sys.modules, "benchmarks.contenders.eight_bit", raising=False)
    return find_contender("eight-bit")


@pytest.mark.slow
def test_one_file_adds_a_contender_to_all_benchmarks(
    throwaway: type[Contender],
    model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for benchmark in (rate_quality, speed):
        with pytest.raises(SystemExit):
            benchmark.parse_arguments(["--help"])
        assert throwaway.name in capsys.readouterr().out
    words = ["--quick", "--seconds", "1", "--jobs", "1", "--no-visqol", "--peers", "eight-bit"]
    rate_quality.main([*words, "--model", str(model_folder), "--out", str(tmp_path / "out")])
    figures = json.loads((tmp_path / "out" / "rate_quality.json").read_text("utf-8"))
    lines = [line for line in figures["summary"] if line["codec"] == "eight-bit"]
    assert [line["class"] for line in lines] == ["speech", "music", "sound"]
    assert {line["payload_bitrate"] for line in lines} == {64_000}
    assert min(line["si_sdr"]["mean"] for line in lines) > 3
