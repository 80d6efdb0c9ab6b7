"""Recordings are found in folders, globs, shards and manifests, each once and under its own id."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from codec.corpus.sources import Sources, find_recordings
from codec.errors import CodecError
from tests.codec.corpus.test_index import BAD, GOOD
from tests.conftest import make_shard, wav


def ids(found: Sources) -> list[str]:
    return [recording.id for recording in found.recordings]


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Folders ``a`` and ``b`` with a file of the same name, and a shard."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.wav").write_bytes(wav(100 + len(name)))
    make_shard(tmp_path / "s.tar", {"k/1.wav": wav(300), "k/1.json": b"{}", "2.wav": wav(400)})
    return tmp_path


def test_a_folder_gives_its_recordings_and_what_is_wrong_with_the_others(hostile: Path) -> None:
    found = find_recordings([hostile])
    assert ids(found) == sorted(GOOD)
    assert {error.id for error in found.unusable} == set(BAD)
    for error in found.unusable:
        assert BAD[error.id] in error.reason
    assert found.hours * 3600 == pytest.approx(sum(n / rate for _, n, rate, _ in GOOD.values()))
    paths = {recording.id: recording.path for recording in found.recordings}
    assert paths["shard.tar/a/k1.wav"] == "shard.tar/a/k1.wav"


def test_several_sources_have_ids_relative_to_their_common_folder(two: Path) -> None:
    assert ids(find_recordings([two / "a", two / "b"])) == ["a/x.wav", "b/x.wav"]
    assert ids(find_recordings([two / "b", two / "s.tar"])) == [
        "b/x.wav",
        "s.tar/2.wav",
        "s.tar/k/1.wav",
    ]
    assert ids(find_recordings([two / "a"])) == ["x.wav"]
    assert ids(find_recordings([two / "a/x.wav"])) == ["x.wav"]


def test_what_two_sources_name_is_taken_once(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(two)
    found = find_recordings(["a", "*/x.wav", str(two / "b" / "x.wav"), "."])
    assert ids(found) == ["a/x.wav", "b/x.wav", "s.tar/2.wav", "s.tar/k/1.wav"]
    assert not found.unusable


def test_globs_match_files_folders_and_shards(two: Path) -> None:
    assert ids(find_recordings([f"{two}/*"])) == [
        "a/x.wav",
        "b/x.wav",
        "s.tar/2.wav",
        "s.tar/k/1.wav",
    ]
    assert ids(find_recordings([f"{two}/**/x.wav"])) == ["a/x.wav", "b/x.wav"]


ROWS = [
    {"path": "a/x.wav", "text": "one", "speaker": 3},
    {"path": "b/x.wav", "text": None, "speaker": 4},
    {"path": "gone.wav", "text": "two", "speaker": 5},
    {"path": "s.tar", "text": "three", "speaker": 6},
    {"path": "", "text": "four", "speaker": 7},
]


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet"])
def test_manifests_carry_their_columns(two: Path, kind: str) -> None:
    path = two / f"m.{kind}"
    if kind == "parquet":
        pa.parquet.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        path.write_text("\n".join(map(json.dumps, ROWS)) + "\n\n")
    found = find_recordings([path])
    assert [(each.id, each.columns) for each in found.recordings] == [
        ("a/x.wav", {"text": "one", "speaker": 3}),
        ("b/x.wav", {"text": None, "speaker": 4}),
    ]
    assert [error.id for error in found.unusable] == ["s.tar", "", "gone.wav"]
    reasons = [error.reason for error in found.unusable]
    for reason, part in zip(reasons, ["give shards as sources", "where a path", "No such file"]):
        assert part in reason


def test_bad_lines_and_repeated_ids_of_a_manifest_are_listed(two: Path) -> None:
    lines = [
        '{"id": 7, "audio_filepath": "a/x.wav"}',
        "{broken",
        "[1]",
        f'{{"id": 7, "audio_filepath": "{two / "b" / "x.wav"}"}}',
        '{"id": null, "audio_filepath": "b/x.wav"}',
    ]
    (two / "m.jsonl").write_text("\n".join(lines))
    found = find_recordings([two / "m.jsonl"])
    assert ids(found) == ["7", "b/x.wav"]
    reasons = sorted(error.reason for error in found.unusable)
    assert "has the id '7' of" in reasons[0] and "column 'id'" in reasons[0]
    assert reasons[1].startswith("line 2 of") and reasons[2].startswith("line 3 of")


def test_sources_that_are_none_have_an_error_of_one_line(two: Path) -> None:
    (two / "m.jsonl").write_text('{"file": "a/x.wav"}')
    (two / "bad.parquet").write_bytes(b"PAR1")
    (two / "bad.jsonl").write_bytes(b"\xff\xfe")
    for source, message in (
        ("none", "check the path"),
        ("none*", "check the pattern"),
        ("m.jsonl", "--path-column"),
        ("bad.parquet", "not a Parquet file"),
        ("bad.jsonl", "lines of JSON"),
    ):
        with pytest.raises(CodecError, match=message) as caught:
            find_recordings([two / source])
        assert "\n" not in str(caught.value)
    assert ids(find_recordings([two / "m.jsonl"], path_column="file")) == ["a/x.wav"]


def test_a_cache_opens_known_files_no_more(two: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = find_recordings([two / "a"], cache=cache)
    stamp = (two / "a" / "x.wav").stat()
    (two / "a" / "x.wav").write_bytes(bytes(stamp.st_size))  # no longer audio
    os.utime(two / "a" / "x.wav", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert find_recordings([two / "a"], cache=cache) == first
    assert not find_recordings([two / "a"]).recordings
