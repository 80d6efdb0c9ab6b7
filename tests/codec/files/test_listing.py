"""What the packets of a file hold, and nothing of it is lost that is not taken."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
from click.testing import CliRunner

from codec import concat_files, cut_file, decode_file
from codec.cli.app import main
from codec.files.listing import list_packets
from codec.format.container import Packet, PacketReader
from codec.format.reading import summarize_file
from codec.network.model import Codec
from codec.session.decoder import StreamDecoder
from codec.session.encoder import StreamEncoder
from codec.session.packing import Packing
from tests.conftest import encode_in_packets, sound


@pytest.fixture
def whole(lapped: Codec, tmp_path: Path) -> Path:
    """Five seconds in packets of 0.1 seconds."""
    soundfile.write(tmp_path / "in.wav", sound(40_010)[0], 8_000)
    encode_in_packets(tmp_path / "in.wav", tmp_path / "a.codes", 20, model=lapped)
    return tmp_path / "a.codes"


def test_packets_of_a_cut_begin_before_its_audio(lapped: Codec, whole: Path) -> None:
    cut, joined = whole.with_name("b.codes"), whole.with_name("c.codes")
    cut_file(whole, cut, span=(4.05, 4.5), model=lapped)
    skip = summarize_file(cut).header.skip / 8_000
    found = [each.seconds for each in list_packets(cut, lapped)]
    assert found == pytest.approx([n / 10 - skip for n in range(len(found))]) and skip > 1
    concat_files([whole, cut, whole], joined)
    found = [each.seconds for each in list_packets(joined, lapped)]
    length = 40_010 / 8_000  # not of whole frames
    assert length - skip in found and length + 0.45 in found


def test_packets_that_nobody_takes_are_not_lost(lapped: Codec, whole: Path) -> None:
    """A reader and a session go on as if all had been taken."""
    data = whole.read_bytes()
    summary = summarize_file(whole)
    reader = PacketReader(summary.header)
    reader.push(data[summary.header.size : 300])
    (packet,) = (each for each in reader.push(data[300:]) if each.sequence == 30)  # type: ignore[union-attr]
    assert isinstance(packet, Packet)
    decoder = StreamDecoder(summary.header, lapped)
    items = PacketReader(summary.header).push(data[summary.header.size :])
    packets = [each for each in items if isinstance(each, Packet)]
    decoder.push_each(packets[:7])
    assert decoder.num_emitted == 7 * 20 * 40 - lapped.delay


def test_a_file_that_cannot_be_listed_does_not_keep_others_from_it(
    whole: Path, tmp_path: Path
) -> None:
    """Its packets name a context model that is not the model's."""
    bad = tmp_path / "bad.codes"
    bad.write_bytes(b"nothing")
    result = CliRunner().invoke(main, ["info", "--packets", str(bad), str(whole)])
    assert result.exit_code == 1 and result.output.count("plain") == 51


@pytest.mark.parametrize("part", ["magic", "header", "last packet"])
def test_what_is_left_of_damaged_joined_files_is_decoded(
    lapped: Codec, whole: Path, part: str
) -> None:
    """Three files: what the damage touches is missing, and the others are whole."""
    data = whole.read_bytes()
    decode_file(whole, whole.with_name("whole.wav"), model=lapped)
    expected, _ = soundfile.read(whole.with_name("whole.wav"))
    place = {"magic": len(data) + 2, "header": len(data) + 20, "last packet": len(data) - 3}[part]
    damaged = bytearray(3 * data)
    damaged[place] ^= 4
    joined = whole.with_name("joined.codes")
    joined.write_bytes(damaged)
    summary = decode_file(joined, joined.with_suffix(".wav"), model=lapped)
    damage = summary.damage()
    assert damage is not None
    found, _ = soundfile.read(joined.with_suffix(".wav"))
    if part == "last packet":
        assert abs(len(found) - 3 * len(expected)) <= 20 * 40
        assert (found[:39_000] == expected[:39_000]).all()
        assert (found[-2 * len(expected) :] == [*expected, *expected]).all()
    else:
        assert (found == [*expected, *expected]).all()
    result = CliRunner().invoke(main, ["verify", str(joined)])
    assert result.exit_code == 1 and damage in result.output


def test_very_many_channels_are_decoded_some_at_a_time(
    lapped: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same samples; a step holds a minute of all channels at most."""
    encoder = StreamEncoder(lapped, channels=7, packing=Packing.live(11))
    packets = encoder.push(sound(2_000, 7)) + encoder.finish()
    expected = StreamDecoder(encoder.header, lapped).push_all(packets)
    seconds = 3 * 11 * 40 / 8_000
    monkeypatch.setattr("codec.session.decoder.TOGETHER_SECONDS", seconds)
    decoder = StreamDecoder(encoder.header, lapped)
    engine, steps = decoder._engine, []
    step = engine.decode_step

    def counted(codes, state):  # type: ignore[no-untyped-def]
        steps.append(codes.shape)
        return step(codes, state)

    monkeypatch.setattr(engine, "decode_step", counted)
    pieces = [decoder.push_all(packets[:2]), decoder.lost(), decoder.push_all(packets[3:])]
    assert {shape[0] for shape in steps} == {3, 1} and sum(map(len, pieces)) == 7 * 3
    before = 2 * 11 * 40 - lapped.delay
    assert abs(pieces[0] - expected[:, :before]).max() < 1e-5
    assert sum(piece.shape[1] for piece in pieces) == 2_000
