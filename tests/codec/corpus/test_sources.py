"""Recordings are found in folders, globs, shards and manifests, each once and under its own id."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from codec.corpus import sources
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
    seconds = sum(each.clip.seconds for each in found.recordings)
    assert seconds == pytest.approx(sum(n / rate for _, n, rate, _ in GOOD.values()))
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


def test_names_that_are_not_utf_8_are_written_as_in_addresses(two: Path) -> None:
    (two / "a" / "x.wav").rename(two / "a" / os.fsdecode(b"caf\xe9.wav"))
    (two / "a" / "bad\udce9.wav").write_text("no sound")
    found = find_recordings([two])
    assert ids(found)[0] == found.recordings[0].path == "a/caf%E9.wav"
    assert [error.id for error in found.unusable] == ["a/bad%E9.wav"]
    assert all(each.reason.isascii() for each in found.unusable)
    row = json.dumps({"path": "a/caf\udce9.wav"})
    (two / "m.jsonl").write_text(row)
    assert ids(find_recordings([two / "m.jsonl"])) == ["a/caf%E9.wav"]


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b'"x": %d' % 10**30, "line 2 of m.jsonl has an integer of more than 64 bits"),
        (b'"x": [{"y": %d}]' % -(10**30), "an integer of more than 64 bits in the column 'x'"),
        (b'"x": "\\ud800"', "text that is not Unicode (a lone surrogate) in the column 'x'"),
        (b'"\\ud800": 1', "text that is not Unicode (a lone surrogate) in the column"),
        (b'"id": "\\udc00"', "a lone surrogate"),
        (b'"x": ' + nested(20).encode(), "more than 16 levels"),
        (b'"x": ' + nested(100_000).encode(), "more than 16 levels"),
        (b'"x": "%s"' % (b"y" * 2**20), "is longer than 1048576 bytes: shorten it"),
        (b'"x": "\xe9"', "is not UTF-8"),
        (b'"x": %s' % (b"9" * 5_000), "is not a JSON object"),
        (b'"path": "a\\u0000.wav"', "cannot be opened: embedded null byte"),
        (b'"path": "\\ud800.wav"', "cannot be opened"),
        (b'"path": "/dev/zero"', "is not a regular file"),
        (b'"path": %s' % nested(900).encode(), "where a path should be"),
        (b'"path": null', "where a path should be"),
    ],
)
def test_a_bad_row_of_a_manifest_is_a_line_and_the_others_are_found(
    two: Path, row: bytes, reason: str
) -> None:
    lines = [b'{"path": "a/x.wav"}', b'{"path": "b/x.wav", ' + row + b"}", b'{"path": "b/x.wav"}']
    (two / "m.jsonl").write_bytes(b"\n".join(lines))
    found = find_recordings([two / "m.jsonl"])
    assert ids(found) == ["a/x.wav", "b/x.wav"]
    (error,) = found.unusable
    assert reason in error.reason and "\n" not in error.reason and len(error.reason) < 400
    (error.id + error.reason).encode()


def test_rows_without_a_path_are_listed_if_others_have_one(two: Path) -> None:
    (two / "m.jsonl").write_text('{"x": 1}\n{"path": "a/x.wav"}')
    found = find_recordings([two / "m.jsonl"])
    assert ids(found) == ["a/x.wav"]
    assert "line 1 of m.jsonl has no column 'path', only x" in found.unusable[0].reason


def test_values_that_python_cannot_hold_cost_their_row(two: Path) -> None:
    dates = pa.array([0, 10**15], pa.timestamp("s"))
    table = pa.table({"path": ["a/x.wav", "b/x.wav"], "when": dates})
    pa.parquet.write_table(table, two / "m.parquet")
    found = find_recordings([two / "m.parquet"])
    assert [each.columns for each in found.recordings] == [{"when": datetime(1970, 1, 1)}]
    assert "row 2 of m.parquet cannot be read" in found.unusable[0].reason


def test_a_manifest_that_is_no_regular_file_is_refused(two: Path) -> None:
    os.mkfifo(two / "m.jsonl")
    with pytest.raises(CodecError, match="not a regular file"):
        find_recordings([two / "m.jsonl"])


@pytest.mark.parametrize("kind", ["values", "text", "list"])
def test_a_manifest_that_is_a_bomb_has_a_line_with_the_limit(
    two: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of some kilobytes; the limits are lowered so that the test stays small."""
    for name in ("SOME_VALUES", "SOME_BYTES"):
        monkeypatch.setattr(f"codec.corpus.parquet.{name}", 2**17)
    count = 2_000
    columns = {
        "values": pa.array(["a/x.wav"] * 2**19),
        "text": pa.array(["a/x.wav"] * count),
        "list": pa.array(["a/x.wav"]),
    }
    more = {
        "values": pa.nulls(2**19),
        "text": pa.array(["y" * 10_000] * count),
        "list": pa.array([[0] * 2**19]),
    }
    table = pa.table({"path": columns[kind], "x": more[kind]})
    pa.parquet.write_table(table, two / "m.parquet", compression="zstd")
    size = (two / "m.parquet").stat().st_size
    assert size < 5_000
    found = find_recordings([two / "m.parquet"])
    (error,) = {each.reason for each in found.unusable}
    assert "m.parquet" in error and str(size) in error and "\n" not in error


def test_messages_do_not_tell_where_the_corpus_is(two: Path) -> None:
    rows = ["{", '{"path": 1}', '{"path": "a/x.wav", "id": 1}', '{"path": "b/x.wav", "id": 1}']
    (two / "m.jsonl").write_text("\n".join([*rows, '{"path": "gone.wav"}']))
    found = find_recordings([two / "m.jsonl", two / "a"])
    assert len(found.unusable) == 4
    assert not any(str(two) in error.id + error.reason for error in found.unusable)
    assert {recording.path for recording in found.recordings} == {"a/x.wav"}


def test_text_of_a_row_is_limited(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_ROW_BYTES", 100)
    rows = [{"path": "a/x.wav", "text": "y" * 200}, {"path": "b/x.wav", "text": "y"}]
    pa.parquet.write_table(pa.Table.from_pylist(rows), two / "m.parquet")
    found = find_recordings([two / "m.parquet"])
    assert ids(found) == ["b/x.wav"]
    assert "more text than 100 bytes" in found.unusable[0].reason
