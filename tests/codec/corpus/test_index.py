"""The index finds all usable audio in a folder, reports unusable files, and caches the result."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from codec.corpus import index as index_module
from codec.corpus.index import Index, index_files, index_folder, open_clip, scan
from codec.errors import AudioError
from codec.io.audio import open_audio
from tests.conftest import sound, wav

GOOD = {
    "speech_a.wav": ("speech", 10_007, 24_000, 1),
    "music/tiny.wav": ("music", 800, 8_000, 1),
    "music/high.FLAC": ("music", 9_000, 96_000, 1),
    "voices/anna/five.wav": ("voices", 3_000, 24_000, 5),
    "x.wav/ключ und müsli.wav": ("x.wav", 4_000, 24_000, 1),
    "shard.tar/a/k1.wav": ("a", 5_000, 24_000, 1),
    "shard.tar/sound_k2.wav": ("sound", 6_000, 8_000, 1),
    "cut.tar/sound_whole.wav": ("sound", 700, 24_000, 1),
}
BAD = {
    "broken.wav": "not audio that libsndfile reads",
    "text.wav": "not audio that libsndfile reads",
    "empty.ogg": "empty",
    "silent.wav": "no samples",
    "pipe.wav": "not a regular file",
    "gone.wav": "No such file",
    "shard.tar/bad.flac": "not audio that libsndfile reads",
    "shard.tar/k3.wav": "not audio that libsndfile reads",
    "cut.tar": "cannot be read to its end",
    "cut.tar/sound_cut.wav": "cut short",
    "nonsense.tar": "cannot be read to its end",
}


def facts(index: Index) -> dict[str, tuple[str, int, int, int]]:
    return {c.name: (c.sound_class, c.num_samples, c.sample_rate, c.channels) for c in index.clips}


def test_usable_audio_is_found_and_unusable_files_are_reported(
    hostile: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        index = scan(hostile)
    assert facts(index) == GOOD
    assert set(index.skipped) == set(BAD)
    for name, reason in BAD.items():
        assert index.skipped[name].startswith(name)
        assert reason in index.skipped[name]
        assert "\n" not in index.skipped[name]
        assert index.skipped[name] in caplog.text
    assert "notes.txt" not in caplog.text
    assert index.hours == pytest.approx(sum(n / rate for _, n, rate, _ in GOOD.values()) / 3600)
    assert index.hours_by_class["music"] * 3600 == pytest.approx(800 / 8_000 + 9_000 / 96_000)
    assert [clip.name for clip in index.clips] == sorted(GOOD)


def test_members_are_read_in_place(hostile: Path) -> None:
    for clip in scan(hostile).clips:
        if clip.offset is not None:
            with open_clip(hostile, clip) as reader:
                reader.seek(123)
                read = reader.read(400)
            data = (hostile / clip.path).read_bytes()[clip.offset : clip.offset + clip.size]
            whole, _ = soundfile.read(io.BytesIO(data), dtype="float32")
            assert np.array_equal(read[0], whole[123:523])


def test_files_without_a_class_in_their_name_get_the_folder_s_name(tmp_path: Path) -> None:
    (tmp_path / "birds").mkdir()
    for name in ("1.wav", "owl_2.wav", "_3.wav"):
        (tmp_path / "birds" / name).write_bytes(wav(100))
    classes = {clip.name: clip.sound_class for clip in scan(tmp_path / "birds").clips}
    assert classes == {"1.wav": "birds", "owl_2.wav": "owl", "_3.wav": "birds"}


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads everything")
def test_files_and_folders_without_read_permission_are_reported(tmp_path: Path) -> None:
    (tmp_path / "good.wav").write_bytes(wav(100))
    (tmp_path / "closed.wav").write_bytes(wav(100))
    (tmp_path / "closed").mkdir(mode=0)
    (tmp_path / "closed.wav").chmod(0)
    skipped = scan(tmp_path).skipped
    assert set(skipped) == {"closed", "closed.wav"}
    assert all("Permission denied" in reason for reason in skipped.values())


def test_a_clip_too_small_for_the_length_in_its_header_is_skipped(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "good.ogg", sound(30_000)[0], 24_000)
    data = bytearray((tmp_path / "good.ogg").read_bytes())
    last = data.rindex(b"OggS")
    data[last + 6 : last + 14] = (24_000 * 10**6).to_bytes(8, "little")  # its last position
    data[last + 22 : last + 26] = bytes(4)
    data[last + 22 : last + 26] = ogg_checksum(bytes(data[last:])).to_bytes(4, "little")
    (tmp_path / "liar.ogg").write_bytes(data)
    index = scan(tmp_path)
    assert [clip.name for clip in index.clips] == ["good.ogg"]
    assert "header claims" in index.skipped["liar.ogg"]


def ogg_checksum(page: bytes) -> int:
    """CRC-32 of RFC 3533: polynomial 0x04c11db7, neither reflected nor inverted."""
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    return crc


def test_folders_without_audio_raise_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="is not a folder"):
        scan(tmp_path / "nowhere")
    with pytest.raises(AudioError, match="give a folder of wav"):
        scan(tmp_path)
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(AudioError, match="none of 1 files") as caught:
        scan(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that a scan opens."""
    names: list[str] = []
    real = open_audio

    def recording_open(source: object, *, name: str, **options: bool) -> object:
        names.append(name)
        return real(source, name=name, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(index_module, "open_audio", recording_open)
    return names


def test_a_second_scan_opens_only_what_is_new_changed_or_faulty(
    hostile: Path, tmp_path: Path, opened: list[str]
) -> None:
    cache = tmp_path / "out" / "training" / "index.json"
    first = scan(hostile, cache)
    opened.clear()
    assert scan(hostile, cache) == first
    assert {name.partition("/")[0] for name in opened} == {
        name.partition("/")[0]
        for name in BAD
        if name not in ("pipe.wav", "gone.wav", "nonsense.tar")
    }

    (hostile / "speech_a.wav").write_bytes(wav(5))
    (hostile / "new.wav").write_bytes(wav(6))
    (hostile / "music" / "tiny.wav").unlink()
    (hostile / "text.wav").write_bytes(wav(7))
    opened.clear()
    index = scan(hostile, cache)
    assert {"speech_a.wav", "new.wav", "text.wav"} <= set(opened)
    assert not {"music/high.FLAC", "voices/anna/five.wav"} & set(opened)
    lengths = {clip.name: clip.num_samples for clip in index.clips}
    assert (lengths["speech_a.wav"], lengths["new.wav"], lengths["text.wav"]) == (5, 6, 7)
    assert "music/tiny.wav" not in lengths
    assert scan(hostile) == index


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: '{"version": 2}',
        lambda text: "[" * 100_000,
        lambda text: text.replace('"version": 2', '"version": 1'),
        lambda text: text.replace('"folder": "', '"folder": "0'),
        lambda text: text.replace("10007", '"10007"'),
        lambda text: text.replace("10007", "10007, 1"),
        lambda text: text.replace("10007", "-10007"),
        lambda text: text.replace('"speech_a.wav"', "null"),
        lambda text: text.replace('"a/k1.wav"', "7"),
        lambda text: text.replace("10007", str(10**30)),
        lambda text: text.replace('"a/k1.wav", ', f'"a/k1.wav", {10**30}'),
        lambda text: text + "\udcff",
    ],
)
def test_a_damaged_or_foreign_cache_is_replaced(
    hostile: Path, tmp_path: Path, damage: object
) -> None:
    cache = tmp_path / "index.json"
    index = scan(hostile, cache)
    text = cache.read_text()
    cache.write_bytes(damage(text).encode("utf-8", "surrogateescape"))  # type: ignore[operator]
    assert scan(hostile, cache) == index
    assert json.loads(cache.read_text()) == json.loads(text)


def test_links_and_sparse_members_of_archives_are_named_by_every_scan(tmp_path: Path) -> None:
    """A sparse member of ten kilobytes may stand for gigabytes of silence."""
    with tarfile.open(tmp_path / "in.tar", "w") as archive:
        for name, kind in (
            *(("link.wav", tarfile.SYMTYPE), ("twin.wav", tarfile.LNKTYPE)),
            *(("pipe.wav", tarfile.FIFOTYPE), ("folder.wav", tarfile.DIRTYPE)),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "good.wav"
            archive.addfile(member)
        sparse = tarfile.TarInfo("sparse.wav")
        data = b"0\n".ljust(512, b"\0")
        sparse.size = len(data)
        sparse.pax_headers = {
            **{"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "sparse.wav"},
            "GNU.sparse.realsize": str(2**31),
        }
        archive.addfile(sparse, io.BytesIO(data))
        member = tarfile.TarInfo("good.wav")
        member.size = len(data := wav(100))
        archive.addfile(member, io.BytesIO(data))
    cache = tmp_path / "cache" / "index.json"
    for _ in range(2):
        index = index_folder(tmp_path, cache)
        assert [clip.name for clip in index.clips] == ["in.tar/good.wav"]
        assert index.skipped == {
            "in.tar/link.wav": "in.tar/link.wav is a link in an archive: store the file itself",
            "in.tar/twin.wav": "in.tar/twin.wav is a link in an archive: store the file itself",
            "in.tar/pipe.wav": "in.tar/pipe.wav is not a regular file",
            "in.tar/sparse.wav": "in.tar/sparse.wav is a sparse member of an archive: "
            "store it without --sparse",
        }


def forged_archive(kind: str) -> bytes:
    """An archive after which `tarfile` stumbles in an unusual way."""
    member = tarfile.TarInfo("a.wav")
    if kind == "deep":  # one extended header after the other
        header = tarfile.TarInfo("x")
        header.type, header.size = tarfile.XHDTYPE, 0
        return header.tobuf() * 5_000
    if kind == "endless":  # of negative size: the next member is the same one
        member.size = -512
    elif kind == "huge":
        member.size = 2**62
    else:
        member.type, member.size = tarfile.XHDTYPE, 2**60
    return member.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


@pytest.mark.parametrize("kind", ["deep", "endless", "huge", "header"])
def test_a_forged_archive_has_a_line_and_the_others_are_found(tmp_path: Path, kind: str) -> None:
    (tmp_path / "bad.tar").write_bytes(forged_archive(kind))
    (tmp_path / "good.wav").write_bytes(wav(100))
    index = index_folder(tmp_path)
    assert [clip.name for clip in index.clips] == ["good.wav"]
    assert index.skipped.keys() <= {"bad.tar", "bad.tar/a.wav"} and index.skipped
    assert not any("\n" in line for line in index.skipped.values())


@pytest.mark.parametrize("name", ["a\0.wav", "\ud800.wav", "/dev/zero", "a" * 300, "a/" * 3_000])
def test_names_of_no_file_are_listed(tmp_path: Path, name: str) -> None:
    (tmp_path / "good.wav").write_bytes(wav(100))
    index = index_files(tmp_path, [name, "good.wav"])
    assert [clip.name for clip in index.clips] == ["good.wav"]
    assert list(index.skipped) == [name] and index.skipped[name].startswith(name)


def test_the_cache_does_not_tell_where_the_corpus_is(hostile: Path, tmp_path: Path) -> None:
    scan(hostile, tmp_path / "index.json")
    assert str(hostile.parent) not in (tmp_path / "index.json").read_text()


@pytest.mark.parametrize("name", ["codec.corpus.index", "codec.corpus.clips", "train.data.crops"])
def test_audio_is_found_and_read_without_torch(name: str) -> None:
    script = f"import sys, {name}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
