"""All audio of a file is read, whatever its headers say, and what is written is there or not."""

from __future__ import annotations

import io
import resource
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
import pytest
import soundfile

import codec.io.audio
from codec.arrays import Samples
from codec.corpus.clips import read_clip
from codec.corpus.index import index_files
from codec.errors import AudioError
from codec.io.audio import FORMATS, create_audio, open_audio
from codec.io.views import FileView

RATE, LENGTH = 24_000, 30_000
NOISE = np.random.default_rng(0).normal(0, 0.1, LENGTH).astype(np.float32)


def coded(kind: str, subtype: str = "PCM_16", samples: Samples = NOISE, **options: Any) -> bytes:
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", RATE, 1, subtype, format=kind, **options) as writer:
        writer.write(samples)
    return file.getvalue()


def put(data: bytes, place: int, new: bytes) -> bytes:
    return data[:place] + new + data[place + len(new) :]


def num_read(data: bytes, tmp_path: Path, name: str = "a.bin") -> int:
    """How many samples of a file are read."""
    (tmp_path / name).write_bytes(data)
    with open_audio(tmp_path / name) as reader:
        return sum(block.shape[1] for block in reader.blocks())


def with_length(kind: str, length: int) -> bytes:
    """A file of `LENGTH` samples whose header claims ``length`` bytes of audio."""
    data = coded(kind)
    if kind == "AU":
        return put(data, 8, (length % 2**32).to_bytes(4))
    if kind == "RF64":
        return put(data, data.index(b"ds64") + 16, (length % 2**64).to_bytes(8, "little"))
    if kind == "W64":
        return put(data, data.index(b"data") + 16, ((length + 24) % 2**63).to_bytes(8, "little"))
    if kind == "CAF":
        return put(data, data.index(b"data") + 4, (length % 2**64).to_bytes(8))
    if kind == "AIFF":
        return put(data, data.index(b"SSND") + 4, (length % 2**32).to_bytes(4))
    return put(data, data.index(b"data") + 4, (length % 2**32).to_bytes(4, "little"))


def mp3(samples: Samples = NOISE, mode: str = "CONSTANT", level: float = 0.5) -> bytes:
    """An MP3 file without the frame that tells its length, as recorders write it."""
    data = coded("MP3", "MPEG_LAYER_III", samples, bitrate_mode=mode, compression_level=level)
    start = max(data.find(b"Xing"), data.find(b"Info"))
    return data[data.index(data[:2], start + 130) :]


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "AU", "CAF", "W64", "RF64"])
@pytest.mark.parametrize("length", [0, -1, LENGTH, 10 * LENGTH, 2**31 - 1])
def test_a_wrong_length_in_a_header_loses_no_audio(tmp_path: Path, kind: str, length: int) -> None:
    data = with_length(kind, length)
    assert num_read(data, tmp_path) == LENGTH
    whole, _ = soundfile.read(io.BytesIO(coded(kind)), dtype="float32")
    with open_audio(tmp_path / "a.bin") as reader:
        assert reader.num_samples == LENGTH
        assert np.array_equal(reader.read(LENGTH)[0], whole)
        reader.seek(12_345)
        assert np.array_equal(reader.read(100)[0], whole[12_345:12_445])


def test_what_follows_the_audio_of_a_wav_file_is_not_read_as_audio(tmp_path: Path) -> None:
    chunk = b"LIST" + (300).to_bytes(4, "little") + b"INFO" + bytes(296)
    cut = b"id3 " + (10_000).to_bytes(4, "little") + bytes(500)
    tag = b"TAG" + bytes(125)
    for rest in (chunk, chunk + cut, tag, b"APETAGEX" + bytes(600)):
        assert num_read(coded("WAV") + rest, tmp_path) == LENGTH
    assert (
        num_read(coded("W64") + b"LIST" + bytes(12) + struct.pack("<Q", 424) + bytes(400), tmp_path)
        == LENGTH
    )


def test_an_empty_wav_file_stays_empty(tmp_path: Path) -> None:
    empty = coded("WAV", samples=NOISE[:0])
    assert num_read(empty, tmp_path) == 0
    assert num_read(empty + b"LIST" + (600).to_bytes(4, "little") + bytes(600), tmp_path) == 0


def test_audio_longer_than_32_bits_allow_is_read_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codec.io.chunks.LONGEST", 7_001)
    for kind in ("WAV", "AIFF"):
        assert num_read(with_length(kind, -1), tmp_path) == LENGTH
        whole, _ = soundfile.read(io.BytesIO(coded(kind)), dtype="float32")
        with open_audio(tmp_path / "a.bin") as reader:
            reader.seek(3_000)
            assert np.array_equal(reader.read(9_000)[0], whole[3_000:12_000])


JOINED = [
    *((kind, "PCM_16") for kind in ("WAV", "AIFF", "AU", "CAF", "W64", "RF64", "FLAC")),
    *(("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")),
]


@pytest.mark.parametrize(("kind", "subtype"), JOINED)
def test_all_files_that_are_joined_to_one_are_read(tmp_path: Path, kind: str, subtype: str) -> None:
    one, other = coded(kind, subtype), coded(kind, subtype, NOISE[:7_000])
    assert num_read(one + one, tmp_path) == 2 * LENGTH
    assert num_read(one + other + one, tmp_path) == 2 * LENGTH + 7_000
    parts = [soundfile.read(io.BytesIO(part), dtype="float32")[0] for part in (one, other, one)]
    whole = np.concatenate(parts)
    with open_audio(tmp_path / "a.bin") as reader:
        np.testing.assert_allclose(reader.read(3 * LENGTH)[0], whole, atol=1e-6)
        reader.seek(0)
        np.testing.assert_allclose(reader.read(LENGTH)[0], whole[:LENGTH], atol=1e-6)


def test_joined_files_of_other_rates_or_channels_are_refused_by_name(tmp_path: Path) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.zeros((9_000, 2)), RATE, format="WAV")
    with pytest.raises(AudioError, match="number 2 has 2 channels at 24000 Hz, not 1"):
        num_read(coded("WAV") + file.getvalue(), tmp_path)
    (tmp_path / "a.bin").write_bytes(coded("WAV") + file.getvalue())
    with open_audio(tmp_path / "a.bin", mono=True) as reader:
        assert sum(block.shape[1] for block in reader.blocks()) == LENGTH + 9_000


@pytest.mark.parametrize("told", [0, 4_096, 12_345, 10**6, 2**36 - 1])
@pytest.mark.parametrize("end", [b"", b"TAG" + bytes(125), bytes(5_000)])
def test_a_flac_file_is_read_to_its_end_whatever_length_it_claims(
    tmp_path: Path, told: int, end: bytes
) -> None:
    data = coded("FLAC")
    data = put(data, 21, (data[21] & 0xF0 | told >> 32).to_bytes(1) + (told % 2**32).to_bytes(4))
    assert num_read(data + end, tmp_path) == LENGTH
    with open_audio(tmp_path / "a.bin") as reader:
        assert reader.num_samples == LENGTH


JUNK = {
    "zeros at the end": lambda data: data + bytes(2_048),
    "zeros inside": lambda data: data[:9_000] + bytes(2_048) + data[9_000:],
    "noise inside": lambda data: (
        data[:9_000] + np.random.default_rng(1).bytes(5_000) + data[9_000:]
    ),
    "zeros in front": lambda data: bytes(600) + data,
    "text in front": lambda data: b"Icecast\n" * 2_000 + data,
    "lyrics": lambda data: data + b"LYRICSBEGIN" + b"la la la " * 300 + b"002711LYRICS200",
    "ID3v2 in front": lambda data: b"ID3\3\0\0\0\0\x20\0" + bytes(4_096) + data,
    "two ID3v2": lambda data: 2 * (b"ID3\3\0\0\0\0\x20\0" + bytes(4_096)) + data,
    "ID3v2 inside": lambda data: (
        data[:9_000] + b"ID3\3\0\0\0\0\x20\0" + bytes(4_096) + data[9_000:]
    ),
    "APE": lambda data: data + b"APETAGEX" + struct.pack("<4I", 2_000, 3_000, 1, 0) + bytes(2_976),
}


@pytest.mark.parametrize("junk", JUNK)
def test_what_is_no_audio_in_an_mp3_file_costs_no_more_than_the_frame_it_hits(
    tmp_path: Path, junk: str
) -> None:
    plain = num_read(mp3(), tmp_path)
    assert LENGTH <= plain < LENGTH + 3 * 1_152
    assert plain - 576 <= num_read(JUNK[junk](mp3()), tmp_path) <= plain


def test_an_mp3_file_of_variable_bitrate_is_read_to_its_end(tmp_path: Path) -> None:
    loud, quiet = NOISE[:9_000], np.float32(0.001) * np.resize(NOISE, 60_000)
    data = mp3(np.concatenate((loud, quiet, loud)), "VARIABLE", 0.3)
    assert num_read(data, tmp_path) >= 78_000
    with open_audio(tmp_path / "a.bin") as reader:
        assert reader.num_samples >= 78_000
        whole = reader.read(100_000)
        reader.seek(50_000)
        np.testing.assert_allclose(reader.read(9_000), whole[:, 50_000:59_000], atol=1e-6)


def test_an_mp3_header_of_a_longer_or_shorter_file_is_not_believed(tmp_path: Path) -> None:
    data = coded("MP3", "MPEG_LAYER_III")
    mark = max(data.find(b"Xing"), data.find(b"Info"))
    for told in (5, 10_000):
        assert (
            abs(num_read(put(data, mark + 8, told.to_bytes(4)) + bytes(300), tmp_path) - LENGTH)
            < 1_200
        )


def test_the_index_has_the_true_lengths_and_clips_reach_their_ends(tmp_path: Path) -> None:
    files = {
        "size.wav": with_length("WAV", 0),
        "joined.wav": coded("WAV") + coded("WAV", samples=NOISE[:5_000]),
        "joined.mp3": 2 * coded("MP3", "MPEG_LAYER_III"),
        "pipe.flac": put(coded("FLAC"), 21, bytes((coded("FLAC")[21] & 0xF0, 0, 0, 0, 0))),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    clips = {clip.name: clip for clip in index_files(tmp_path, files).clips}
    lengths = {name: clip.num_samples for name, clip in clips.items()}
    assert lengths == {
        "size.wav": LENGTH,
        "joined.wav": LENGTH + 5_000,
        "joined.mp3": 2 * LENGTH,
        "pipe.flac": LENGTH,
    }
    for clip in clips.values():
        end = clip.num_samples
        audio = read_clip(tmp_path, clip, RATE, end - 2_000, end)
        assert np.abs(audio[-500:]).max() > 0.1


def test_a_damaged_file_is_refused_with_the_seconds_that_were_read(tmp_path: Path) -> None:
    data = put(coded("FLAC", samples=np.resize(NOISE, 60_000)), 60_000, bytes(200))
    with pytest.raises(AudioError, match=r"is damaged: only \d\.\d\d of 2\.50 seconds can be read"):
        num_read(data, tmp_path)


def media(path: Path, container: str, *, sound: bool = True, picture: bool = False) -> Path:
    """A file that PyAV writes, with `NOISE` in AAC and one picture."""
    with av.open(str(path), "w", format=container) as out:
        if picture:
            video = out.add_stream("mpeg4", rate=25, width=64, height=64, pix_fmt="yuv420p")
        if sound:
            audio = out.add_stream("aac", rate=RATE, layout="mono")
            samples = av.AudioFrame.from_ndarray(NOISE[None], "fltp", "mono")
            samples.sample_rate = RATE
            out.mux([*audio.encode(samples), *audio.encode(None)])
        if picture:
            image = av.VideoFrame(64, 64, "yuv420p")
            image.pts = 0
            out.mux([*video.encode(image), *video.encode(None)])
    return path


@pytest.mark.parametrize(
    ("name", "container"), [("a.m4a", "ipod"), ("a.aac", "adts"), ("a.mka", "matroska")]
)
def test_what_libsndfile_does_not_read_is_read_through_pyav(
    tmp_path: Path, name: str, container: str
) -> None:
    path = media(tmp_path / name, container)
    with open_audio(path) as reader:
        whole = np.concatenate([*reader.blocks()], axis=1)
        assert (reader.sample_rate, reader.channels) == (RATE, 1)
        assert abs(whole.shape[1] - LENGTH) <= 0.1 * RATE
        assert abs(reader.num_samples - LENGTH) <= 0.1 * RATE
        reader.seek(10_000)
        assert np.array_equal(reader.read(5_000), whole[:, 10_000:15_000])
    with path.open("rb") as file:  # from a pipe or an archive
        size = path.stat().st_size
        with open_audio(FileView(file, [(0, size)])) as reader:
            assert reader.read(LENGTH).shape[1] == min(LENGTH, whole.shape[1])


@pytest.mark.parametrize("container", ["ipod", "matroska", "adts"])
def test_tags_in_front_of_any_container_are_skipped(tmp_path: Path, container: str) -> None:
    data = media(tmp_path / "a.bin", container).read_bytes()
    tagged = b"ID3\3\0\0\0\0\x0f\0" + bytes(15 * 128) + data
    assert num_read(tagged, tmp_path) == num_read(data, tmp_path) > LENGTH


def test_the_sound_of_a_video_is_read_and_a_video_without_sound_is_refused(tmp_path: Path) -> None:
    with open_audio(media(tmp_path / "a.mp4", "mp4", picture=True)) as reader:
        assert abs(reader.read(2 * LENGTH).shape[1] - LENGTH) <= 0.1 * RATE
    media(tmp_path / "b.mp4", "mp4", sound=False, picture=True)
    with pytest.raises(AudioError, match="has no audio stream"), open_audio(tmp_path / "b.mp4"):
        pass


@pytest.mark.parametrize("damage", [b"\0", b"\x55", b"\xff"])
def test_whatever_error_ffmpeg_has_with_a_damaged_file_it_is_refused_with_its_seconds(
    tmp_path: Path, damage: bytes
) -> None:
    data = media(tmp_path / "a.m4a", "ipod").read_bytes()
    data = put(data, data.index(b"mdat") + 5_000, damage * 400)
    with pytest.raises(AudioError, match=r"is damaged: only 1\.\d\d of 1\.\d\d seconds"):
        num_read(data, tmp_path)


def test_what_ffmpeg_cannot_decode_is_refused_in_one_line(tmp_path: Path) -> None:
    data = media(tmp_path / "a.mka", "matroska").read_bytes()
    with pytest.raises(AudioError, match="cannot be decoded: Decoder not found; convert it first"):
        num_read(data.replace(b"A_AAC", b"A_XXX"), tmp_path)
    musepack = b"MPCKSH\x0f\x95\xfa\xc1\x14\x08\x81\x89\x87\x44"
    with pytest.raises(AudioError, match=r"only 0\.00 of 50\.91 seconds can be read"):
        num_read(musepack + bytes(100), tmp_path)
    with pytest.raises(AudioError, match="has no audio stream"):
        num_read(musepack + b"\0\x80" + bytes(100), tmp_path)


def test_a_list_of_addresses_is_not_followed(tmp_path: Path) -> None:
    coded_path = tmp_path / "secret.wav"
    coded_path.write_bytes(coded("WAV"))
    lists = [
        "#EXTM3U\n#EXTINF:10,\nsecret.wav\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile secret.wav\n",
    ]
    for content in lists:
        with pytest.raises(AudioError, match="not audio that libsndfile reads"):
            num_read(content.encode(), tmp_path, "talk.mp3")


def test_without_pyav_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AudioError, match=r"not audio that libsndfile.*aecodec\[media\]"):
        num_read(b"\0\0\0\x20ftypM4A " + bytes(100), tmp_path, "a.m4a")
    data = put(coded("FLAC", samples=np.resize(NOISE, 60_000)), 60_000, bytes(200))
    with pytest.raises(AudioError, match=r"of 2\.50 seconds.*aecodec\[media\]"):
        num_read(data, tmp_path)


def chunk(name: bytes, content: bytes) -> bytes:
    return name + len(content).to_bytes(4, "little") + content


def test_all_chunks_of_audio_in_a_wav_file_are_read(tmp_path: Path) -> None:
    data = coded("WAV")
    start = data.index(b"data")
    head, audio = data[:start], data[start + 8 :]
    for rest in (
        chunk(b"data", audio),
        chunk(b"LIST", b"INFO" + bytes(500)) + chunk(b"data", audio),
    ):
        assert num_read(data + rest, tmp_path) == 2 * LENGTH
    pieces = [chunk(b"data", audio[begin : begin + 8_000]) for begin in range(0, len(audio), 8_000)]
    assert num_read(head + b"".join(pieces), tmp_path) == LENGTH
    with open_audio(tmp_path / "a.bin") as reader:
        whole, _ = soundfile.read(io.BytesIO(data), dtype="float32")
        assert np.array_equal(reader.read(LENGTH)[0], whole)


@pytest.mark.parametrize("magic", [b"RF64", b"BW64"])
@pytest.mark.parametrize("told", [0, LENGTH, 2 * LENGTH, 2**63])
@pytest.mark.parametrize("length", [2 * LENGTH, 2**32 - 1])
def test_the_two_lengths_of_a_long_wav_file_may_both_be_wrong(
    tmp_path: Path, magic: bytes, told: int, length: int
) -> None:
    data = coded("RF64")
    data = put(magic + data[4:], data.index(b"ds64") + 16, told.to_bytes(8, "little"))
    data = put(data, data.index(b"data") + 4, length.to_bytes(4, "little"))
    assert num_read(data, tmp_path) == LENGTH


def test_the_last_block_of_a_codec_in_a_wav_file_is_not_taken_for_padding(tmp_path: Path) -> None:
    for subtype in ("MS_ADPCM", "GSM610"):
        data = coded("WAV", subtype)
        place = data.index(b"data") + 4
        length = int.from_bytes(data[place : place + 4], "little")
        for missing in (2, 130):
            wrong = put(data, place, (length - missing).to_bytes(4, "little"))
            assert num_read(wrong, tmp_path) >= num_read(data, tmp_path) - 0.05 * RATE


KINDS = [("WAV", "PCM_16"), ("AU", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS")]


@pytest.mark.parametrize("first", [*KINDS, ("MP3", "MPEG_LAYER_III")])
@pytest.mark.parametrize("second", [*KINDS, ("MP3", "MPEG_LAYER_III")])
def test_files_of_different_kinds_that_are_joined_are_all_read(
    tmp_path: Path, first: tuple[str, str], second: tuple[str, str]
) -> None:
    one, other = coded(*first), coded(*second, NOISE[:7_000])
    assert num_read(one + other, tmp_path) == LENGTH + 7_000
    assert num_read(one + other + one, tmp_path) == 2 * LENGTH + 7_000


def test_what_is_joined_and_cannot_be_read_is_refused_by_its_place(tmp_path: Path) -> None:
    phone = media(tmp_path / "a.m4a", "ipod").read_bytes()
    for data in (phone + phone, coded("FLAC") + phone, coded("WAV") + phone):
        with pytest.raises(AudioError, match="number 2 cannot be read: divide it"):
            num_read(data, tmp_path)
    changing = 20 * (coded("WAV", samples=NOISE[:100]) + coded("AU", samples=NOISE[:100]))
    with pytest.raises(AudioError, match="cannot be read: divide it"):
        num_read(changing, tmp_path)


def test_the_beginning_of_a_wav_file_inside_another_is_not_taken_for_one(tmp_path: Path) -> None:
    data = coded("FLAC")  # as flac --keep-foreign-metadata writes it
    foreign = b"riff" + coded("WAV")[:44]
    block = b"\x02" + len(foreign).to_bytes(3) + foreign
    assert num_read(data[:42] + block + data[42:], tmp_path) == LENGTH


def test_damaged_pages_of_an_ogg_file_are_reported(tmp_path: Path) -> None:
    data = coded("OGG", "VORBIS", np.resize(NOISE, 200_000))
    places = [place for place in range(len(data)) if data.startswith(b"OggS", place)]
    seen = r"is damaged: only \d\.\d\d of \d\.\d\d seconds can be read"
    middle = (places[-1] + places[-2]) // 2
    for wrong in (
        data[: places[-1] + 800],
        data[: places[3] + 900],
        put(data, middle, bytes(4)),
    ):
        with pytest.raises(AudioError, match=seen):
            num_read(wrong, tmp_path)
    assert num_read(data + bytes(5_000), tmp_path) == 200_000


def test_a_container_whose_middle_is_damaged_is_reported(tmp_path: Path) -> None:
    data = media(tmp_path / "a.mka", "matroska").read_bytes()
    place = len(data) // 3
    with pytest.raises(AudioError, match="is damaged: only"):
        num_read(put(data, place, bytes(len(data) // 3)), tmp_path)


def test_errors_of_decoders_are_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.ac3"
    with av.open(str(path), "w", format="ac3") as out:
        audio = out.add_stream("ac3", rate=48_000, layout="mono")
        samples = av.AudioFrame.from_ndarray(np.resize(NOISE, 60_000)[None], "fltp", "mono")
        samples.sample_rate = 48_000
        out.mux([*audio.encode(samples), *audio.encode(None)])
    data = path.read_bytes()
    assert num_read(data + bytes(5_000), tmp_path) > 59_000
    for place in range(500, len(data), 997):
        with suppress(AudioError):
            num_read(put(data, place, b"\x55\xaa"), tmp_path)
    wrong = coded("WAV")
    with pytest.raises(AudioError, match="no audio stream"):  # no channels
        num_read(put(wrong, wrong.index(b"fmt ") + 10, bytes(2)), tmp_path)
    assert "Traceback" not in capfd.readouterr().err


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file can be larger than ``size`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write(file: BinaryIO, suffix: str) -> None:
    with create_audio(file, suffix, RATE, 1) as writer:
        for begin, end in pairwise((0, 10_000, 20_001, LENGTH)):
            writer.write(NOISE[None, begin:end])


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_full_disk_is_reported_wherever_it_fills(tmp_path: Path, suffix: str) -> None:
    with (tmp_path / "whole").open("w+b") as file:
        write(file, suffix)
    size = (tmp_path / "whole").stat().st_size
    for room in (0, 10, size // 2, size - 300, size - 1):
        with (
            (tmp_path / "cut").open("w+b") as file,
            pytest.raises(AudioError, match="cannot be written: File too large"),
            full_disk(room),
        ):
            write(file, suffix)


def test_wav_beyond_its_limit_becomes_rf64_and_others_name_a_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "short").open("w+b") as file:
        write(file, ".wav")
    samples, _ = soundfile.read(tmp_path / "short")
    for most in (1, 30_000, 2 * LENGTH - 1):
        monkeypatch.setattr(codec.io.audio, "MAX_SHORT_SIZE", most)
        with (tmp_path / "long").open("wb") as file:
            write(file, ".wav")
        assert soundfile.info(tmp_path / "long").format == "RF64"
        assert np.array_equal(soundfile.read(tmp_path / "long")[0], samples)
    for suffix in (".aiff", ".au"):
        with (tmp_path / "long").open("w+b") as file, pytest.raises(AudioError, match=r"\.rf64"):
            write(file, suffix)
