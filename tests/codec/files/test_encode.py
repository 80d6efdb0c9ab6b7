"""Arrays, bytes and file objects: the same as whole files, and refused in one line where not."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import soundfile
import torch

import codec.io.audio
from codec import Constant, concat_files, cut_file, decode, decode_file, encode, encode_file
from codec.errors import AudioError, CodecError, FormatError
from codec.files.listing import list_packets
from codec.format.reading import summarize_file
from codec.io.audio import AudioReader
from codec.network.model import Codec
from tests.conftest import sound


@pytest.fixture
def data(lapped: Codec) -> bytes:
    """A stream of two channels at another rate than the model's."""
    return encode(sound(9_001, 2), 16_000, model=lapped)


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 192_000])
@pytest.mark.parametrize(("num_samples", "channels"), [(0, 1), (1, 3), (10_007, 2)])
def test_an_array_gives_the_bytes_of_its_file_and_comes_back(
    lapped: Codec, tmp_path: Path, rate: int, num_samples: int, channels: int
) -> None:
    audio = sound(num_samples, channels)
    soundfile.write(tmp_path / "in.wav", audio.T, rate, subtype="FLOAT")
    encode_file(tmp_path / "in.wav", tmp_path / "a.codes", model=lapped)
    found = encode(audio, rate, model=lapped)
    assert found == (tmp_path / "a.codes").read_bytes()
    decoded, decoded_rate = decode(found, model=lapped)
    assert decoded.shape == audio.shape and decoded.dtype == np.float32 and decoded_rate == rate
    decode_file(tmp_path / "a.codes", tmp_path / "b.wav", model=lapped)
    written = soundfile.read(tmp_path / "b.wav", always_2d=True)[0].T
    np.testing.assert_allclose(decoded.clip(-1, 1), written, atol=1.1 / 32768)


def test_one_channel_needs_no_axis_and_any_float_is_taken(lapped: Codec) -> None:
    audio = sound(3_000)[0]
    expected = encode(audio[None], 8_000, model=lapped)
    exact = (audio * 2**10).round() / 2**10  # which 16 bits hold
    lists = encode(exact.tolist(), 8_000, model=lapped)
    assert encode(audio, 8_000, model=lapped) == expected
    assert encode(torch.from_numpy(audio), 8_000, model=lapped) == expected
    assert encode(exact.astype(np.float64), 8_000, model=lapped) == lists
    assert encode(exact.astype(np.float16), 8_000, model=lapped) == lists
    assert encode(np.repeat(audio, 2)[::2], np.int64(8_000), model=lapped) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.zeros(9, np.int16), r"audio is int16: give floats in \[-1, 1\] \(16-bit integers"),
        (np.zeros((24_000, 2)), r"audio has shape \[24000, 2\]: give \[n\] or \[channels, n\]"),
        (np.zeros((1, 1, 9)), r"audio has shape \[1, 1, 9\]: give"),
        (0.5, r"audio has shape \[\]: give"),
        ([[0.1], [0.1, 0.2]], "audio is no array: give floats of shape"),
        (torch.zeros(9, requires_grad=True), "audio is no array: give floats of shape"),
        ("talk.wav", "audio is <U8: give floats"),
        ([0.1, np.nan], "NaN or infinite samples: repair it"),
        ([1e300], "NaN or infinite samples: repair it"),
        ([1e20], "scale it so that they are near 1"),
    ],
)
def test_what_cannot_be_encoded_is_refused_in_one_line(
    lapped: Codec, audio: Any, message: str
) -> None:
    with pytest.raises(AudioError, match=message) as caught:
        encode(audio, 8_000, model=lapped)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rate", [7_999, 192_001, 44_100.0, "44100"])
def test_a_sampling_rate_out_of_range_is_refused(lapped: Codec, rate: Any) -> None:
    with pytest.raises(AudioError, match="from 8000 to 192000"):
        encode(np.zeros(9), rate, model=lapped)


def test_fewer_codebooks_are_decoded(lapped: Codec) -> None:
    audio = sound(3_000)
    full, less = (encode(audio, 8_000, model=lapped, rate=Constant(n)) for n in (4, 2))
    low, _ = decode(full, model=lapped, codebooks=2)
    assert np.array_equal(low, decode(less, model=lapped)[0])
    assert not np.array_equal(low, decode(full, model=lapped)[0])


def test_damaged_bytes_are_refused_and_the_rest_is_decoded_to_a_file(
    lapped: Codec, data: bytes
) -> None:
    with pytest.raises(FormatError, match=r"damaged: .* was cut short.*decode_file"):
        decode(data[:-3], model=lapped)
    out = io.BytesIO()
    summary = decode_file(io.BytesIO(data[:-3]), out, model=lapped)
    assert summary.damage() and soundfile.info(io.BytesIO(out.getvalue())).channels == 2


def zipped(path: Path) -> BinaryIO:
    path.with_suffix(".gz").write_bytes(gzip.compress(path.read_bytes()))
    return gzip.open(path.with_suffix(".gz"), "rb")  # type: ignore[return-value]


OPENED = {
    "file": lambda path: path.open("rb"),
    "unbuffered": lambda path: path.open("rb", buffering=0),
    "bytes": lambda path: io.BytesIO(path.read_bytes()),
    "zipped": zipped,
}


@pytest.mark.parametrize("kind", OPENED)
def test_file_objects_are_read_from_where_they_stand_and_stay_open(
    lapped: Codec, data: bytes, tmp_path: Path, kind: str
) -> None:
    soundfile.write(tmp_path / "in.wav", sound(3_000)[0], 8_000)
    encode_file(tmp_path / "in.wav", tmp_path / "whole.codes", model=lapped)
    (tmp_path / "a.bin").write_bytes(b"head" + (tmp_path / "in.wav").read_bytes())
    (tmp_path / "b.bin").write_bytes(b"head" + data)
    out = io.BytesIO(b"begun ")
    out.seek(6)
    with OPENED[kind](tmp_path / "a.bin") as file:
        file.read(4)
        encode_file(file, out, model=lapped)
        assert not file.closed
    assert out.getvalue() == b"begun " + (tmp_path / "whole.codes").read_bytes()
    with OPENED[kind](tmp_path / "b.bin") as file:
        file.read(4)
        assert summarize_file(file).num_samples == 9_001 and not file.closed
        file.seek(4)
        assert len(list(list_packets(file, lapped))) == 1
        file.seek(4)
        audio = io.BytesIO()
        assert decode_file(file, audio, model=lapped).damage() is None and not file.closed
    assert soundfile.info(io.BytesIO(audio.getvalue())).frames == 9_001


def test_streams_are_changed_between_file_objects(lapped: Codec, data: bytes) -> None:
    part, both = io.BytesIO(), io.BytesIO()
    cut_file(io.BytesIO(data), part, span=(0.1, 0.35), model=lapped)
    concat_files([io.BytesIO(data), io.BytesIO(part.getvalue())], both)
    assert both.getvalue() == data + part.getvalue()
    assert decode(part.getvalue(), model=lapped)[0].shape == (2, 4_000)
    assert decode(both.getvalue(), model=lapped)[0].shape == (2, 13_001)


@pytest.mark.parametrize(("name", "form"), [("a.flac", "FLAC"), ("a.tmp", "WAV"), (None, "WAV")])
def test_the_name_of_a_file_object_says_its_format(
    lapped: Codec, data: bytes, name: str | None, form: str
) -> None:
    out = io.BytesIO()
    if name is not None:
        out.name = name
    decode_file(io.BytesIO(data), out, model=lapped)
    assert soundfile.info(io.BytesIO(out.getvalue())).format == form


def test_nothing_goes_to_a_file_object_where_all_fails(
    lapped: Codec, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.BytesIO()
    for source in (b"RIFF", data[:20], b""):
        with pytest.raises(CodecError):
            decode_file(io.BytesIO(source), out, model=lapped)
        with pytest.raises(CodecError):
            encode_file(io.BytesIO(source), out, model=lapped)
    with pytest.raises(CodecError, match="the input ends before 9 seconds"):
        decode_file(io.BytesIO(data), out, model=lapped, span=(9, None))

    def full(*_: object) -> None:
        raise AudioError("no space")

    monkeypatch.setattr(codec.io.audio.AudioWriter, "write", full)
    with pytest.raises(AudioError, match="no space"):
        decode_file(io.BytesIO(data), out, model=lapped)
    assert out.getvalue() == b""


def test_files_of_text_and_the_input_as_output_are_refused(
    lapped: Codec, data: bytes, tmp_path: Path
) -> None:
    with (tmp_path / "a.txt").open("w+") as text:
        with pytest.raises(CodecError, match="target is a file of text: open it in binary mode"):
            encode_file("in.wav", text, model=lapped)  # type: ignore[arg-type]
        with pytest.raises(CodecError, match="source is a file of text: open it in binary mode"):
            decode_file(text, "out.wav", model=lapped)  # type: ignore[arg-type]
    file = io.BytesIO(data)
    with pytest.raises(CodecError, match="the output is the input itself"):
        cut_file(file, file, span=None, model=lapped)
    assert file.getvalue() == data


def test_progress_is_reported_of_files_that_do_not_tell_how_long_they_are(
    lapped: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that Ctrl-C reaches the threads that code several."""
    monkeypatch.setattr(AudioReader, "num_samples", 0)
    source = io.BytesIO()
    shares: list[float] = []
    soundfile.write(source, np.zeros(3 * lapped.config.sample_rate), 16_000, format="flac")
    source.seek(0)
    encode_file(source, io.BytesIO(), model=lapped, progress=shares.append)
    assert shares and set(shares) == {0.0}
