"""Every codec of the comparison behind one small interface.

A codec takes audio at any rate and gives it back at that rate, as long and in its place, with the
bits that it really spent. Resampling, on both sides, is soxr's HQ. Delay is removed by one rule for
all: what a file format announces its own decoder removes, the rest is found by `align`.
"""

from __future__ import annotations

import io
import math
import shutil
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import soundfile
import soxr
import torch
from scipy.signal import correlate

from codec.errors import CodecError, ConfigError
from codec.format.container import Header
from codec.model_folder import DEFAULT_MODEL, find_model, read_description
from codec.network.model import Codec
from codec.network.weights import load_codec
from codec.stream import StreamDecoder, StreamEncoder

PACKET_SECONDS = 2.0
"""Of our own files, as the command writes them."""

MAX_DELAY_SECONDS = 0.1
DELAY_EVIDENCE = 0.1
"""How much of what a correlation lacks to 1 it must gain for a delay to be believed."""


class Coded(NamedTuple):
    """What a codec made of a sound.

    Attributes:
        audio: ``[N]`` float32, at the rate and of the length of the input, delay removed.
        payload_bits: what carries sound, without any container.
        file_bytes: size of the file that a user would get; None where there is no file format.
        delay: samples that `align` removed.
    """

    audio: np.ndarray
    payload_bits: int
    file_bytes: int | None
    delay: int = 0


class CodecUnderTest(ABC):
    """A codec of the comparison; what it shares with the others is resampling and alignment.

    Attributes:
        name: for tables.
        sample_rate: that it works at.
    """

    name: str
    sample_rate: int

    @abstractmethod
    def bitrates(self) -> tuple[int, ...]:
        """The bits per second it can run at, ascending."""

    @abstractmethod
    def _code(self, audio: np.ndarray, bitrate: int) -> tuple[np.ndarray, int, int | None]:
        """Audio at the codec's rate -> audio of about its length, payload bits, file bytes."""

    def code(self, audio: np.ndarray, sample_rate: int, bitrate: int) -> Coded:
        """Encode and decode ``[N]`` float32 in [-1, 1].

        Raises:
            ConfigError: it does not run at this bitrate.
        """
        if bitrate not in self.bitrates():
            offered = ", ".join(f"{value / 1000:g}" for value in self.bitrates())
            raise ConfigError(
                f"{self.name} does not run at {bitrate / 1000:g} kbit/s: choose from {offered}"
            )
        own = resample(audio, sample_rate, self.sample_rate)
        decoded, payload_bits, file_bytes = self._code(own, bitrate)
        decoded = resample(decoded, self.sample_rate, sample_rate)
        aligned, delay = align(decoded, audio, sample_rate)
        return Coded(aligned, payload_bits, file_bytes, delay)


def resample(audio: np.ndarray, source_rate: int, target_rate: int) -> np.ndarray:
    """``[N]`` float32 at another rate, by soxr's HQ."""
    if source_rate == target_rate:
        return np.asarray(audio, np.float32)
    return np.asarray(soxr.resample(audio, source_rate, target_rate), np.float32)


def align(decoded: np.ndarray, original: np.ndarray, sample_rate: int) -> tuple[np.ndarray, int]:
    """Find and remove the delay of a decoded sound.

    The delay is the lag, within `MAX_DELAY_SECONDS` either way, at which the two correlate most.
    A codec that does not keep the waveform has no clear maximum, so a lag must beat no lag at all
    by `DELAY_EVIDENCE` of what its normalised correlation lacks to 1: of a waveform that is kept
    one sample is believed, of noise none.

    Returns:
        ``decoded`` moved by the delay and cut or padded to the length of ``original``; the delay
        in samples, positive if ``decoded`` came late.
    """
    length = max(len(decoded), len(original))
    a, b = (np.pad(audio, (0, length - len(audio))) for audio in (decoded, original))
    scale = math.sqrt(float(np.square(a).sum()) * float(np.square(b).sum()))
    delay = 0
    if scale > 0:
        reach = min(round(MAX_DELAY_SECONDS * sample_rate), length - 1)
        correlation = correlate(a, b, method="fft")[length - 1 - reach : length + reach] / scale
        best = int(correlation.argmax())
        gained, lacking = correlation[best] - correlation[reach], 1 - correlation[best]
        if gained > DELAY_EVIDENCE * lacking:
            delay = best - reach
    moved = decoded[delay:] if delay >= 0 else np.pad(decoded, (-delay, 0))
    moved = moved[: len(original)]
    return np.pad(moved, (0, len(original) - len(moved))).astype(np.float32), delay


class Aecodec(CodecUnderTest):
    """A model of ours, through a real stream: its bits are the bytes that were written.

    Args:
        model: name of a packaged model, or folder.
        frames_per_packet: 1 as in a call; None for packets of two seconds as in files.
    """

    def __init__(
        self, model: str | Path = DEFAULT_MODEL, *, frames_per_packet: int | None = None
    ) -> None:
        self.codec: Codec = load_codec(model)
        config = self.codec.config
        description = read_description(find_model(model))
        self.name = f"aecodec {description['name']}"
        self.fingerprint = str(description["fingerprint"])
        self.sample_rate = config.sample_rate
        self._frames_per_packet = frames_per_packet or int(PACKET_SECONDS * config.frame_rate)

    def bitrates(self) -> tuple[int, ...]:
        config = self.codec.config
        return tuple(int(config.bitrate(n + 1)) for n in range(config.num_codebooks))

    def _code(self, audio: np.ndarray, bitrate: int) -> tuple[np.ndarray, int, int | None]:
        # Rates that are no whole numbers were rounded down for the list.
        num_codebooks = self.bitrates().index(bitrate) + 1
        encoder = StreamEncoder(
            self.codec,
            bitrate=self.codec.config.bitrate(num_codebooks),
            frames_per_packet=self._frames_per_packet,
        )
        packets = encoder.push(audio[None]) + encoder.finish()
        decoder = StreamDecoder(self.codec, encoder.header)
        decoded = np.concatenate([decoder.push(packet) for packet in packets], axis=1)[0]
        payload_bits = 8 * sum(len(packet.payload) for packet in packets)
        return decoded, payload_bits, Header.SIZE + sum(len(p.to_bytes()) for p in packets)


class FFmpegCodec(CodecUnderTest):
    """A codec inside PyAV's wheel, written to a real file in memory and read back from it.

    Reading the file removes the delay that its container announces, as any player does.

    Args:
        name: for tables.
        encoder: FFmpeg's name of the encoder.
        container: FFmpeg's name of the file format.
        bitrates: to offer, bits per second.
        options: of the encoder.
    """

    sample_rate = 24_000

    def __init__(
        self,
        name: str,
        encoder: str,
        container: str,
        bitrates: Sequence[int],
        options: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self._encoder, self._container = encoder, container
        self._bitrates = tuple(bitrates)
        self._options = options or {}

    def bitrates(self) -> tuple[int, ...]:
        return self._bitrates

    def _code(self, audio: np.ndarray, bitrate: int) -> tuple[np.ndarray, int, int | None]:
        packets, file = self.encode(audio, bitrate)
        return self.decode(file), 8 * sum(len(packet) for packet in packets), len(file)

    def encode(self, audio: np.ndarray, bitrate: int) -> tuple[list[bytes], bytes]:
        """``[N]`` float32 at `sample_rate` -> the encoder's packets, and the file of them."""
        target, packets = io.BytesIO(), []
        with av.open(target, "w", format=self._container) as file:
            stream: Any = file.add_stream(
                self._encoder, rate=self.sample_rate, options=dict(self._options)
            )
            stream.bit_rate = bitrate
            stream.layout = "mono"
            stream.format = _float_format(self._encoder)
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(audio, np.float32)[None], stream.format.name, "mono"
            )
            frame.sample_rate, frame.pts = self.sample_rate, 0
            frame.time_base = Fraction(1, self.sample_rate)
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                packets.append(bytes(packet))
                file.mux(packet)
        return packets, target.getvalue()

    def decode(self, file: bytes) -> np.ndarray:
        """A file's sound, ``[N]`` float32 at `sample_rate`."""
        with av.open(io.BytesIO(file)) as source:
            rate = source.streams.audio[0].rate
            frames = [frame.to_ndarray()[0] for frame in source.decode(audio=0)]
        # A sound of a few samples may come back as none.
        decoded = np.concatenate([np.zeros(0, np.float32), *frames])
        return resample(decoded, rate, self.sample_rate)


def _float_format(encoder: str) -> str:
    """The encoder's own kind of float samples: packed or planar, the same thing in mono."""
    formats = [known.name for known in av.Codec(encoder, "w").audio_formats or ()]
    return next(name for name in ("fltp", "flt") if name in formats)


class Codec2(CodecUnderTest):
    """Codec 2, a vocoder for speech at 8 kHz, through its programs ``c2enc`` and ``c2dec``."""

    name = "codec2"
    sample_rate = 8_000
    MODES = ("700C", "1300", "1600", "2400", "3200")
    programs = ("c2enc", "c2dec")

    def __init__(self) -> None:
        self._encoder, self._decoder = find_programs(self.programs, "codec2")

    def bitrates(self) -> tuple[int, ...]:
        return tuple(int(mode.rstrip("C")) for mode in self.MODES)

    def _code(self, audio: np.ndarray, bitrate: int) -> tuple[np.ndarray, int, int | None]:
        mode = self.MODES[self.bitrates().index(bitrate)]
        # The programs drop a frame that is not full; 40 ms is the longest.
        padded = np.pad(audio, (0, -len(audio) % 320))
        with tempfile.TemporaryDirectory() as folder:
            raw, bits, out = (Path(folder) / name for name in ("in.raw", "coded", "out.raw"))
            raw.write_bytes((padded.clip(-1, 1) * 32767).astype("<i2").tobytes())
            run_program(self._encoder, mode, raw, bits)
            run_program(self._decoder, mode, bits, out)
            decoded = np.frombuffer(out.read_bytes(), "<i2").astype(np.float32) / 32768
            size = bits.stat().st_size
        return decoded, 8 * size, size


class Speex(CodecUnderTest):
    """Speex, wideband at 16 kHz, through its programs ``speexenc`` and ``speexdec``."""

    name = "speex"
    sample_rate = 16_000
    # What the wideband modes of quality 0 to 6 take, by the manual; the bits spent are counted.
    MODES = (3_950, 5_750, 7_750, 9_800, 12_800, 16_800, 20_600)
    programs = ("speexenc", "speexdec")

    def __init__(self) -> None:
        self._encoder, self._decoder = find_programs(self.programs, "speex")

    def bitrates(self) -> tuple[int, ...]:
        return self.MODES

    def _code(self, audio: np.ndarray, bitrate: int) -> tuple[np.ndarray, int, int | None]:
        with tempfile.TemporaryDirectory() as folder:
            wav, coded, out = (Path(folder) / name for name in ("in.wav", "in.spx", "out.wav"))
            soundfile.write(wav, audio, self.sample_rate, subtype="PCM_16")
            quality = str(self.MODES.index(bitrate))
            run_program(self._encoder, "-w", "--quality", quality, wav, coded)
            run_program(self._decoder, coded, out)
            decoded, rate = soundfile.read(out, dtype="float32")
            with av.open(str(coded)) as file:
                size = sum(packet.size for packet in file.demux(audio=0))
            file_bytes = coded.stat().st_size
        return resample(decoded, rate, self.sample_rate), 8 * size, file_bytes


def find_programs(names: Sequence[str], package: str) -> list[str]:
    """Paths of programs.

    Raises:
        CodecError: one of them is not on this machine.
    """
    found = [shutil.which(name) for name in names]
    for name, path in zip(names, found, strict=True):
        if path is None:
            raise CodecError(f"{name} is not on this machine: install {package}, or leave it out")
    return [path for path in found if path]


def run_program(*command: str | Path) -> None:
    """Run a program; if it fails, a CodecError says what it said."""
    result = subprocess.run([str(part) for part in command], capture_output=True, check=False)
    if result.returncode:
        said = result.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise CodecError(f"{Path(command[0]).name} failed: {said[-1]}")


class TransformersCodec(CodecUnderTest):
    """EnCodec, DAC or Mimi as Hugging Face's ``transformers`` runs them.

    They have no file format of their own; the payload is codes times the bits of a code.

    Args:
        kind: one of `PUBLISHED`.
        model: a loaded model; see `load_transformer` and `random_transformer`.
    """

    def __init__(self, kind: str, model: Any) -> None:
        self.name = kind
        self.model = model
        config = model.config
        self.sample_rate = int(config.sampling_rate)
        if kind == "encodec" and (config.audio_channels != 1 or config.chunk_length_s):
            raise CodecError("this EnCodec is not the 24 kHz mono one: give facebook/encodec_24khz")
        if kind == "encodec":
            self._num_codebooks, self.hop_length = config.num_quantizers, config.hop_length
        elif kind == "dac":
            self._num_codebooks, self.hop_length = config.n_codebooks, config.hop_length
        else:
            self._num_codebooks = config.num_quantizers
            self.hop_length = round(config.sampling_rate / config.frame_rate)
        self._bits_per_code = int(config.codebook_size).bit_length() - 1

    @property
    def num_parameters(self) -> int:
        """Of the network; EnCodec and Mimi hold codebooks as buffers, which do not count here."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def _bitrate(self, num_codebooks: int) -> Fraction:
        frame_rate = Fraction(self.sample_rate, self.hop_length)
        return num_codebooks * self._bits_per_code * frame_rate

    def bitrates(self) -> tuple[int, ...]:
        counts = range(1, self._num_codebooks + 1)
        if self.name == "encodec":  # trained at these only
            return tuple(round(1000 * kbits) for kbits in self.model.config.target_bandwidths)
        return tuple(int(self._bitrate(count)) for count in counts)

    def _code(self, audio: np.ndarray, bitrate: int) -> tuple[np.ndarray, int, int | None]:
        codes = self.encode(audio, bitrate)
        return self.decode(codes), codes.numel() * self._bits_per_code, None

    def encode(self, audio: np.ndarray, bitrate: int) -> torch.Tensor:
        """``[N]`` float32 at `sample_rate` -> codes ``[1, K, T]``."""
        padded = np.pad(audio, (0, -len(audio) % self.hop_length)).astype(np.float32)
        batch = torch.from_numpy(padded)[None, None]
        with torch.inference_mode():
            if self.name == "encodec":
                codes = self.model.encode(batch, bandwidth=bitrate / 1000).audio_codes[0]
            elif self.name == "dac":
                count = self.bitrates().index(bitrate) + 1
                codes = self.model.encode(batch, n_quantizers=count).audio_codes
            else:
                count = self.bitrates().index(bitrate) + 1
                codes = self.model.encode(batch, num_quantizers=count).audio_codes
        return codes

    def decode(self, codes: torch.Tensor) -> np.ndarray:
        """Codes ``[1, K, T]`` -> ``[N]`` float32 at `sample_rate`."""
        with torch.inference_mode():
            if self.name == "encodec":
                decoded = self.model.decode(codes[None], [None]).audio_values
            else:
                decoded = self.model.decode(audio_codes=codes).audio_values
        return decoded.flatten().numpy()


PUBLISHED: dict[str, dict[str, Any]] = {
    "encodec": {},
    "dac": {"downsampling_ratios": [2, 4, 5, 8], "n_codebooks": 32, "sampling_rate": 24_000},
    "mimi": {},
}
"""What makes ``transformers``' configuration the published 24 kHz model."""


def _classes(kind: str) -> tuple[Any, Any]:
    try:
        import transformers
    except ImportError as error:
        raise CodecError(f'{kind} needs transformers: pip install "aecodec[peers]"') from error
    names = {"encodec": "Encodec", "dac": "Dac", "mimi": "Mimi"}
    return (
        getattr(transformers, f"{names[kind]}Config"),
        getattr(transformers, f"{names[kind]}Model"),
    )


def load_transformer(kind: str, folder: str | Path) -> TransformersCodec:
    """A model with weights from a local folder; nothing is ever downloaded.

    Raises:
        CodecError: the folder does not hold such a model.
    """
    config_class, model_class = _classes(kind)
    folder = Path(folder)
    if not (folder / "config.json").is_file() or not (folder / "model.safetensors").is_file():
        raise CodecError(
            f"{folder} holds no {kind}: give a folder with its config.json and model.safetensors"
        )
    config = config_class.from_pretrained(folder, local_files_only=True)
    model = model_class.from_pretrained(
        folder, config=config, local_files_only=True, use_safetensors=True
    )
    return TransformersCodec(kind, model.eval())


def random_transformer(kind: str, **config: Any) -> TransformersCodec:
    """The published shape with random weights: of no use for listening, as fast as the real one.

    Args:
        kind: ``encodec``, ``dac`` or ``mimi``.
        config: settings of its configuration, in place of the published ones.
    """
    config_class, model_class = _classes(kind)
    torch.manual_seed(0)
    model = model_class(config_class(**(PUBLISHED[kind] | config)))
    with torch.no_grad():
        for buffer_name, buffer in model.named_buffers():
            if buffer_name.endswith(("embed", "embed_sum")):  # they start as zeros
                buffer.normal_()
    return TransformersCodec(kind, model.eval())


PEERS = ("opus", "mp3", "aac", "codec2", "speex")
"""What needs no weights."""


def open_peer(name: str, *, speech: bool, folder: str | Path | None = None) -> CodecUnderTest:
    """A codec of the comparison by name.

    Args:
        name: one of `PEERS` or of `PUBLISHED`.
        speech: Opus is told what it codes: ``voip`` for speech, ``audio`` for all else.
        folder: the weights, for those of `PUBLISHED`.

    Raises:
        CodecError: unknown, or not on this machine.
    """
    if name == "opus":
        options = {"application": "voip" if speech else "audio", "frame_duration": "20"}
        rates = (6_000, 8_000, 9_000, 12_000, 16_000, 24_000)
        return FFmpegCodec("opus", "libopus", "ogg", rates, options)
    if name == "mp3":
        return FFmpegCodec("mp3", "libmp3lame", "mp3", (16_000, 24_000, 32_000))
    if name == "aac":
        return FFmpegCodec("aac", "aac", "ipod", (16_000, 24_000, 32_000))
    if name == "codec2":
        return Codec2()
    if name == "speex":
        return Speex()
    if name in PUBLISHED:
        if folder is None:
            raise CodecError(f"{name} needs its weights: give --peer {name}=FOLDER")
        return _loaded(name, str(folder))
    raise CodecError(f"no codec {name!r}: there are {', '.join((*PEERS, *PUBLISHED))}")


@cache
def _loaded(kind: str, folder: str) -> TransformersCodec:
    return load_transformer(kind, folder)
