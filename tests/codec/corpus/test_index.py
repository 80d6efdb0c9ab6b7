"""The index finds all usable audio in a folder, reports unusable files, and caches the result."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from codec.corpus import index as index_module
from codec.corpus.index import Index, open_clip, scan
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
        lambda text: '{"version": 1}',
        lambda text: text.replace('"version": 2', '"version": 1'),
        lambda text: text.replace("/data", "/other"),
        lambda text: text.replace("10007", '"10007"'),
        lambda text: text.replace("10007", "10007, 1"),
        lambda text: text.replace("10007", "-10007"),
        lambda text: text.replace('"speech_a.wav"', "null"),
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


@pytest.mark.parametrize("name", ["codec.corpus.index", "codec.corpus.clips", "train.data.crops"])
def test_audio_is_found_and_read_without_torch(name: str) -> None:
    script = f"import sys, {name}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
