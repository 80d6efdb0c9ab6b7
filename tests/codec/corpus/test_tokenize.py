"""Tokens of a corpus: exact, resumable, the same for any number of workers, and back again."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import soundfile

from codec import decode_file, encode_file
from codec.codes import Codebook
from codec.corpus import coding, ray_data, read_tokens
from codec.corpus.coding import code_task
from codec.corpus.detokenize import detokenize
from codec.corpus.sources import find_recordings
from codec.corpus.tokenize import (
    Outcome,
    Shards,
    Tokenizer,
    TooManyErrorsError,
    _tasks,
    tokenize,
)
from codec.corpus.tokens import reading, writing
from codec.corpus.tokens.format import TokenFormat, Tokens
from codec.corpus.tokens.naming import FileNames
from codec.engines.base import Engine, decode
from codec.errors import AudioError, CodecError, ConfigError, FormatError
from codec.format.container import PacketWriter
from codec.registry import load_model
from codec.session.encoder import StreamEncoder
from codec.session.packing import Packing
from tests.codec.corpus.test_index import BAD, GOOD
from tests.conftest import REPOSITORY, make_shard, sound, wav

LAYOUTS = ("parquet", "webdataset", "codes")


@pytest.fixture(scope="module")
def engine(model_folder: Path) -> Engine:
    return load_model(model_folder).engine


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of awkward lengths, rates and channels; one is longer than a packet."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "birds").mkdir()
    for number, (length, rate, channels) in enumerate(
        [(1, 8_000, 1), (799, 8_000, 1), (4_001, 44_100, 2), (9_600, 96_000, 5), (36_007, 8_000, 1)]
    ):
        audio = sound(length, channels, seed=number).T
        soundfile.write(folder / "birds" / f"{number}.wav", audio, rate)
    soundfile.write(folder / "birds" / "4.flac", sound(3_000, seed=9)[0], 8_000)
    make_shard(folder / "s.tar", {"k.wav": wav(3_000, 16_000), "k.json": b"{}", "l.wav": b""})
    return folder


SHARD_HOURS = 0.4 / 3600
"""Makes several shards of the corpus."""


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def run(corpus: Path, out: Path, engine: Engine, **options: Any) -> Outcome:
    tokenizer = Tokenizer(engine, codebooks=options.pop("codebooks", None))
    shards = Shards(options.pop("layout", "parquet"), options.pop("shard_hours", SHARD_HOURS))
    return tokenize([corpus], out, tokenizer, shards=shards, **options)


@pytest.fixture(scope="module", params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def whole(
    corpus: Path, engine: Engine, layout: str, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The corpus, tokenized without disturbance."""
    out = tmp_path_factory.mktemp("whole") / layout
    outcome = run(corpus, out, engine, layout=layout)
    assert (outcome.num_recordings, outcome.num_errors) == (7, 1)
    assert outcome.num_shards == outcome.num_written > 2
    return out


def originals(corpus: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """Every recording of the corpus as a file."""
    for path in sorted(corpus.glob("birds/*")):
        yield path.relative_to(corpus).as_posix(), path
    member = folder / "k.wav"
    with tarfile.open(corpus / "s.tar") as shard:
        data = shard.extractfile("k.wav")
        assert data is not None
        member.write_bytes(data.read())
    yield "s.tar/k.wav", member


def test_tokens_are_the_codes_that_encoding_the_file_gives(
    corpus: Path, engine: Engine, layout: str, whole: Path, tmp_path: Path
) -> None:
    read = {row.id: row for row in read_tokens(whole)}
    assert len(read) == 7
    for name, path in originals(corpus, tmp_path):
        encode_file(path, tmp_path / "a.codes", model=engine, mono=True, force=True)
        expected = next(iter(read_tokens(tmp_path / "a.codes")))
        # A .codes file has no other id than its name, and 4.flac comes before 4.wav.
        short = name if name == "birds/4.wav" else name.rpartition(".")[0]
        row = read[short.replace("4.wav", "4_wav") if layout == "codes" else name]
        facts = soundfile.info(path)
        assert np.array_equal(row.frames, expected.frames)
        assert (row.original_samples, row.original_sample_rate) == (facts.frames, facts.samplerate)
        stream = io.BytesIO()
        writing.write_stream(row, stream)
        assert stream.getvalue() == (tmp_path / "a.codes").read_bytes()
        decode_file(tmp_path / "a.codes", tmp_path / "a.wav", model=engine, force=True)
        heard = decode(engine, row.codes, row.num_samples)
        if facts.samplerate == engine.spec.sample_rate:
            written, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
            np.testing.assert_allclose(heard[0], written, atol=1e-4)  # 16 bits


def _same(row: Tokens, other: Tokens) -> bool:
    return np.array_equal(row.frames, other.frames) and (
        row.original_samples == other.original_samples
    )


def test_two_workers_write_the_same_bytes_as_one(
    corpus: Path, engine: Engine, tmp_path: Path
) -> None:
    for workers in (1, 2):
        run(corpus, tmp_path / f"{workers}", engine, workers=workers)
    assert digests(tmp_path / "1") == digests(tmp_path / "2")


class Killed(BaseException):
    """Ends the work at once."""


@pytest.mark.parametrize("number", range(1, 15, 3))
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    corpus: Path,
    engine: Engine,
    layout: str,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    """Killed before the n-th file appears, with what it leaves behind if it is killed."""
    calls, real = itertools.count(1), Path.replace

    def replace(path: Path, target: Path) -> Path:
        if next(calls) == number:
            shutil.copy(path, path.with_name(path.name + "x"))  # not cleaned up
            raise Killed
        return real(path, target)

    out = tmp_path / "out"
    monkeypatch.setattr(Path, "replace", replace)
    try:
        run(corpus, out, engine, layout=layout)
    except Killed:
        assert not (out / "manifest.json").exists()
        with pytest.raises(CodecError, match="not finished"):
            list(read_tokens(out))
    monkeypatch.undo()
    before = digests(out)
    again = run(corpus, out, engine, layout=layout)
    assert digests(out) == digests(whole)
    kept = [name for name in before if name.startswith("tokens-") and "x" not in name[-2:]]
    if layout != "codes" and kept:
        assert again.num_written <= again.num_shards - len(kept) + 1
    assert again.num_recordings == 7


@pytest.mark.slow
def test_a_killed_command_goes_on_to_the_same_bytes(
    corpus: Path, model_folder: Path, tmp_path: Path
) -> None:
    """SIGKILL, with two workers, which end too."""
    command = [sys.executable, "-m", "codec.cli", "tokenize", str(corpus), "--workers", "2"]
    command += ["--model", str(model_folder), "--shard-hours", str(SHARD_HOURS)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    out = tmp_path / "out"
    process = subprocess.Popen(
        [*command, "--out", str(out)], env=environment, stderr=subprocess.DEVNULL
    )
    while not list(out.glob("tokens-*")):
        assert process.poll() is None
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    workers = children.read_text().split() if children.exists() else []
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline, "a worker outlives the main process"
        time.sleep(0.05)
    run(corpus, out, load_model(model_folder).engine)
    run(corpus, tmp_path / "whole", load_model(model_folder).engine)
    assert digests(out) == digests(tmp_path / "whole")


def test_a_finished_run_is_not_repeated_but_a_damaged_shard_is(
    corpus: Path, engine: Engine, layout: str, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    assert run(corpus, out, engine, layout=layout).num_written == 0
    shard = sorted(out.glob("**/*.codes") if layout == "codes" else out.glob("tokens-*"))[1]
    data = bytearray(shard.read_bytes())
    data[-30] ^= 1
    shard.write_bytes(data)
    with pytest.raises(FormatError, match="is damaged"):
        list(read_tokens(out))
    assert run(corpus, out, engine, layout=layout).num_written == 1
    assert digests(out) == digests(whole)


def test_other_settings_or_recordings_are_refused_without_force(
    corpus: Path, engine: Engine, whole: Path, layout: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    more = tmp_path / "more.wav"
    more.write_bytes(wav(100))
    for options in ({"codebooks": 1}, {"shard_hours": 1.0}):
        with pytest.raises(CodecError, match=r"other recordings.*--force"):
            run(corpus, out, engine, layout=layout, **options)
    with pytest.raises(CodecError, match="--force"):
        tokenize([corpus, more], out, Tokenizer(engine), shards=Shards(layout, SHARD_HOURS))
    assert digests(out) == digests(whole)
    outcome = run(corpus, out, engine, layout="parquet", codebooks=1, force=True)
    assert outcome.num_recordings == 7
    assert {path.suffix for path in out.rglob("*") if path.is_file()} <= {
        *(".parquet", ".json", ".jsonl", ".md")
    }
    assert {row.frames.shape[1] for row in read_tokens(out)} == {1}


def test_a_folder_of_something_else_is_left_alone(
    corpus: Path, engine: Engine, tmp_path: Path
) -> None:
    (tmp_path / "precious.txt").write_text("precious")
    for out, message in ((tmp_path, "other files"), (tmp_path / "precious.txt", "is a file")):
        with pytest.raises(CodecError, match=message):
            run(corpus, out, engine, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_bad_files_are_listed_and_the_others_done(
    hostile: Path, engine: Engine, tmp_path: Path
) -> None:
    outcome = tokenize([hostile], tmp_path / "out", Tokenizer(engine))
    assert (outcome.num_recordings, outcome.num_errors) == (len(GOOD), len(BAD))
    lines = (tmp_path / "out" / "errors.jsonl").read_text().splitlines()
    errors = {error["id"]: error["reason"] for error in map(json.loads, lines)}
    assert errors.keys() == BAD.keys()
    assert all(BAD[name] in reason for name, reason in errors.items())
    read = {row.id: row for row in read_tokens(tmp_path / "out")}
    assert {name: row.original_samples for name, row in read.items()} == {
        name: facts[1] for name, facts in GOOD.items()
    }
    with pytest.raises(TooManyErrorsError, match=f"{len(BAD)} recordings.*10 are allowed"):
        tokenize([hostile], tmp_path / "out", Tokenizer(engine), max_errors=10)
    again = tokenize([hostile], tmp_path / "out", Tokenizer(engine), max_errors=len(BAD))
    assert again.num_written == 0


def test_failures_while_decoding_end_the_work_at_the_limit_and_can_be_repaired(
    engine: Engine, tmp_path: Path
) -> None:
    """Files whose header is fine: a disk that has gone must not make a corpus of errors."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for number in range(6):
        audio = sound(2_000, seed=number)[0]
        if number in (3, 4):
            audio[1_000] = np.nan
        soundfile.write(folder / f"{number}.wav", audio, 8_000, subtype="FLOAT")
    options: dict[str, Any] = {"tokenizer": Tokenizer(engine), "shards": Shards(hours=0.5 / 3600)}
    with pytest.raises(TooManyErrorsError, match="the same command continues"):
        tokenize([folder], out, max_errors=0, **options)
    assert [path.name for path in out.glob("tokens-*")] == ["tokens-00000.parquet"]
    assert "NaN" in (out / "errors.jsonl").read_text()
    outcome = tokenize([folder], out, max_errors=2, **options)
    assert (outcome.num_recordings, outcome.num_errors, outcome.num_written) == (4, 2, 2)
    assert len((out / "errors.jsonl").read_text().splitlines()) == 2
    assert [row.id for row in read_tokens(out)] == ["0.wav", "1.wav", "2.wav", "5.wav"]


def test_wrong_arguments_have_an_error_of_one_line(
    engine: Engine, corpus: Path, tmp_path: Path, vae: Any
) -> None:
    (tmp_path / "none").mkdir()
    for error, message, use in (
        (CodecError, "no source", lambda: tokenize([], tmp_path / "o", Tokenizer(engine))),
        (CodecError, "choose one of", lambda: run(corpus, tmp_path / "o", engine, layout="zip")),
        (ConfigError, "codebooks is 9", lambda: run(corpus, tmp_path / "o", engine, codebooks=9)),
        (CodecError, "no audio in", lambda: run(tmp_path / "none", tmp_path / "o", engine)),
        (ConfigError, "no codes", lambda: run(corpus, tmp_path / "o", vae)),
        (CodecError, "no tokens", lambda: list(read_tokens(tmp_path / "none"))),
        (CodecError, "no model", lambda: Tokenizer("nothing")),
    ):
        with pytest.raises(error, match=message) as caught:
            use()
        assert "\n" not in str(caught.value)


def test_columns_of_a_manifest_arrive_with_their_types(
    corpus: Path, engine: Engine, tmp_path: Path
) -> None:
    rows = [
        {"path": str(corpus / "birds" / "1.wav"), "text": "one", "tags": [1, 2], "num_frames": 5},
        {"path": str(corpus / "birds" / "2.wav"), "text": None, "tags": []},
    ]
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("\n".join(map(json.dumps, rows)))
    tokenize([manifest], tmp_path / "out", Tokenizer(engine), shards=Shards(hours=1e-6))
    tables = [pa.parquet.read_table(path) for path in sorted((tmp_path / "out").glob("*.parquet"))]
    assert len(tables) == 2 and tables[0].schema == tables[1].schema
    table = pa.concat_tables(tables)
    assert table.schema.field("codes").type == pa.list_(pa.uint16())
    assert table.schema.field("tags").type == pa.list_(pa.int64())
    assert table["text"].to_pylist() == ["one", None]
    assert table["source_num_frames"].to_pylist() == [5, None]
    assert table["num_frames"].to_pylist() == [21, 19]
    read = list(read_tokens(tmp_path / "out"))
    assert read[0].columns == {"text": "one", "tags": [1, 2], "source_num_frames": 5}


def test_a_column_of_several_types_becomes_text(engine: Engine, tmp_path: Path) -> None:
    manifest, values = tmp_path / "m.jsonl", (1, "1", None, [1, "a"], {"b": 1.5})
    rows = [{"path": f"{n}.wav", "x": value} for n, value in enumerate(values)]
    manifest.write_text("\n".join(map(json.dumps, rows)))
    for row in rows:
        (tmp_path / str(row["path"])).write_bytes(wav(100))
    tokenize([manifest], tmp_path / "out", Tokenizer(engine), shards=Shards(hours=1e-6))
    read = sorted(read_tokens(tmp_path / "out"), key=lambda tokens: tokens.id)
    assert [tokens.columns.get("x") for tokens in read] == [
        "1",
        "1",
        None,
        '[1, "a"]',
        '{"b": 1.5}',
    ]


def test_row_groups_are_sized_by_audio(
    corpus: Path, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "ROW_GROUP_SECONDS", 0.5)
    run(corpus, tmp_path / "out", engine, shard_hours=1.0)
    with pa.parquet.ParquetFile(tmp_path / "out" / "tokens-00000.parquet") as file:
        groups = [file.read_row_group(number) for number in range(file.num_row_groups)]
    seconds = [table["duration_seconds"].to_pylist() for table in groups]
    assert len(groups) > 2 and sum(map(len, seconds)) == 7
    assert all(len(each) == 1 or sum(each) <= 0.5 for each in seconds)


@pytest.mark.parametrize("package", ["datasets", "pandas"])
def test_other_packages_read_the_parquet(
    corpus: Path, engine: Engine, tmp_path: Path, package: str
) -> None:
    reader = pytest.importorskip(package)
    run(corpus, tmp_path / "out", engine, shard_hours=1.0)
    path = str(tmp_path / "out" / "tokens-00000.parquet")
    expected = {row.id: row.frames for row in read_tokens(path)}
    if package == "pandas":
        rows = reader.read_parquet(path).to_dict("records")
    else:
        cache = str(tmp_path / "cache")
        rows = reader.load_dataset("parquet", data_files=path, split="train", cache_dir=cache)
    found = {
        row["id"]: np.reshape(row["codes"], (row["num_frames"], row["num_codebooks"]))
        for row in rows
    }
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_webdataset_members_are_arrays_and_facts(
    corpus: Path, engine: Engine, tmp_path: Path
) -> None:
    run(corpus, tmp_path / "out", engine, layout="webdataset", shard_hours=1.0)
    with tarfile.open(tmp_path / "out" / "tokens-00000.tar") as archive:
        names = archive.getnames()
    assert names[:2] == ["birds/0.npy", "birds/0.json"]
    assert names[-2:] == ["s.tar/k.npy", "s.tar/k.json"]
    assert len(set(names)) == len(names) == 14
    assert all(name.rpartition("/")[2].count(".") == 1 for name in names)


def among_the_codes(shard: Path) -> int:
    """A position in a shard."""
    if shard.suffix == ".parquet":
        column = pa.parquet.read_metadata(shard).row_group(0).column(2)
        return int(column.data_page_offset + column.total_compressed_size // 4)
    return 700 if shard.suffix == ".tar" else shard.stat().st_size // 2


@pytest.mark.parametrize("damage", ["cut", "flip", "other", "codes"])
def test_damaged_shards_raise_an_error_of_one_line(
    corpus: Path, engine: Engine, layout: str, whole: Path, tmp_path: Path, damage: str
) -> None:
    shard = sorted(whole.glob("**/*.codes") if layout == "codes" else whole.glob("tokens-*"))[2]
    data = bytearray(shard.read_bytes())
    bad = tmp_path / shard.name
    if damage == "codes":
        if layout != "parquet":
            pytest.skip("the same check of a row")
        table = pa.parquet.read_table(shard)
        wrong = [[99] * len(row) for row in table["codes"].to_pylist()]
        codes = pa.array(wrong, table["codes"].type)
        pa.parquet.write_table(table.set_column(2, "codes", codes), bad)
    else:
        middle = among_the_codes(shard)
        data = {
            "cut": data[: len(data) // 2],
            "flip": data[:middle] + bytes(8) + data[middle + 8 :],
            "other": bytearray(b"RIFF" * 100),
        }[damage]
        bad.write_bytes(data)
    with pytest.raises(CodecError) as caught:
        rows = list(read_tokens(bad))
        assert not all(_same(a, b) for a, b in zip(rows, read_tokens(shard), strict=True))
        raise FormatError("a flipped byte in a text is not noticed here, but by the manifest")
    assert "\n" not in str(caught.value)


def test_audio_comes_back_under_its_id(
    corpus: Path, engine: Engine, layout: str, whole: Path, tmp_path: Path
) -> None:
    failures = detokenize(whole, tmp_path / "out", model=engine, suffix=".flac")
    assert failures == 0
    written = {
        path.relative_to(tmp_path / "out").as_posix(): soundfile.info(path)
        for path in (tmp_path / "out").rglob("*.flac")
    }
    facts = {name: (info.frames, info.samplerate) for name, info in written.items()}
    assert sorted(facts.values()) == sorted(
        [
            *((1, 8_000), (799, 8_000), (4_001, 44_100), (9_600, 96_000), (36_007, 8_000)),
            *((3_000, 8_000), (3_000, 16_000)),
        ]
    )
    encode_file(corpus / "birds/4.wav", tmp_path / "a.codes", model=engine)
    decode_file(tmp_path / "a.codes", tmp_path / "a.flac", model=engine)
    name = next(name for name, each in facts.items() if each == (36_007, 8_000))
    assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "a.flac").read_bytes()
    reports: list[str] = []
    options: dict[str, Any] = {"model": engine, "suffix": ".flac"}
    again = detokenize(
        whole, tmp_path / "out", report=lambda _, why: reports.append(why), **options
    )
    assert again == 7 and all("--force" in reason for reason in reports)
    with pytest.raises(CodecError, match="give the right folder with --model"):
        detokenize(whole, tmp_path / "other", model="speech24k")
    assert not (tmp_path / "other").exists()


def test_names_of_files_stay_in_their_folder_and_are_unique() -> None:
    name = FileNames(".codes")
    ids = ["a.wav", "a.flac", "a_flac", "../a", "/etc/a", "a", "", "x/../a.b", "a\\b", "."]
    names = [name(each) for each in ids]
    assert len(set(names)) == len(ids)
    for each in names:
        assert not each.startswith("/") and ".." not in each.split("/")
        assert "." not in each.rpartition("/")[2] and each.rpartition("/")[2]


def test_names_of_files_fit_a_file_system_and_are_none_of_ours() -> None:
    name = FileNames(".codes")
    ids = [
        *("x.wav", "x.codes/b.wav", "X.CODES/b.wav", ".tokenize/a.wav", "manifest.json/a.wav"),
        *(
            "a/errors.jsonl/b.wav",
            ".a/.b/c.wav",
            "é" * 300,
            "é" * 300 + "!",
            "a/" * 3_000 + "b.wav",
        ),
        *("v1.2/a.wav", "b" * 220 + ".wav"),
    ]
    names = [name(each) for each in ids]
    assert len(set(names)) == len(ids)
    for each in names:
        *folders, last = each.split("/")
        assert all(len(f"{part}.codes".encode()) < 236 for part in (*folders, last))
        assert len(each.encode()) < 1_300
        assert not any(folder.lower().endswith(".codes") for folder in folders)
        assert not any(folder.startswith(".") for folder in folders)
        assert not {*folders} & {"manifest.json", "errors.jsonl", "dataset_card.md", ".tokenize"}
    assert names[-2:] == ["v1.2/a", "b" * 220]  # as ever


def test_a_tokenizer_takes_batches_of_a_pipeline(
    corpus: Path, engine: Engine, tmp_path: Path
) -> None:
    paths = [str(corpus / "birds" / name) for name in ("1.wav", "4.flac")]
    batch = Tokenizer(engine)({"path": np.array(paths), "text": ["a", "b"]})
    run(corpus, tmp_path / "out", engine)
    expected = {row.id: row for row in read_tokens(tmp_path / "out")}
    for number, name in enumerate(("birds/1.wav", "birds/4.flac")):
        assert np.array_equal(batch["codes"][number], expected[name].frames.ravel())
        assert batch["codes"][number].dtype == np.uint16
        assert batch["duration_seconds"][number] == expected[name].duration_seconds
    assert batch["text"] == ["a", "b"]
    with pytest.raises(AudioError, match="check the path"):
        Tokenizer(engine)({"path": ["gone.wav"]})
    kept = Tokenizer(engine, errors="keep")({"path": ["gone.wav", paths[0]]})
    assert "check the path" in kept["error"][0] and kept["error"][1] == ""
    assert [len(codes) for codes in kept["codes"]] == [0, 84]


def test_a_tokenizer_finds_the_column_of_paths_or_is_told(
    corpus: Path, engine: Engine, tmp_path: Path
) -> None:
    path = str(corpus / "birds" / "1.wav")
    told = Tokenizer(engine, path_column="file")
    for batch in (
        Tokenizer(engine)({"audio_filepath": [path]}),
        told({"file": [path], "path": ""}),
    ):
        assert batch["num_frames"] == [21]
    manifest = tmp_path / "m.jsonl"
    manifest.write_text(json.dumps({"file": path}))
    assert tokenize([manifest], tmp_path / "out", told).num_recordings == 1
    with pytest.raises(CodecError, match="--path-column"):
        tokenize([manifest], tmp_path / "other", Tokenizer(engine))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_cluster_writes_the_same_bytes(corpus: Path, engine: Engine, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: the extra aecodec[ray]")
    run(corpus, tmp_path / "alone", engine)
    cluster = ray_data.Cluster("local", workers=2)
    outcome = run(corpus, tmp_path / "cluster", engine, workers=cluster)
    assert outcome.num_recordings == 7
    assert digests(tmp_path / "cluster") == digests(tmp_path / "alone")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_tokenizer_is_a_step_of_ray_data(
    corpus: Path, engine: Engine, model_folder: Path
) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed: the extra aecodec[ray]")
    paths = [str(path) for path in sorted(corpus.glob("birds/*"))]
    expected = Tokenizer(engine)({"path": paths})
    ray.init("local", include_dashboard=False, log_to_driver=False)
    try:
        data = ray.data.from_items([{"path": path, "text": path[-5:]} for path in paths])
        coded = data.map_batches(
            Tokenizer,
            fn_constructor_kwargs={"model": str(model_folder)},
            batch_size=2,
            compute=ray.data.ActorPoolStrategy(size=1),
        )
        rows = sorted(coded.take_all(), key=lambda row: row["path"])
    finally:
        ray.shutdown()
    assert [row["text"] for row in rows] == [path[-5:] for path in paths]
    for row, codes in zip(rows, expected["codes"], strict=True):
        assert np.array_equal(row["codes"], codes) and np.asarray(row["codes"]).dtype == np.uint16


def test_blocks_of_a_cluster_are_sized_by_audio_and_its_workers_keep_the_order(
    corpus: Path, engine: Engine
) -> None:
    """Without Ray: what it would run."""
    recordings = find_recordings([corpus]).recordings
    tasks = list(_tasks(0, recordings))
    blocks = ray_data._blocks(tasks, seconds=0.4)
    assert [block.num_rows for block in blocks] != [1] * 7
    work = partial(code_task, 4)
    worker = ray_data.Worker(engine, work)

    class Blocks:
        def iter_batches(self, **options: Any) -> Iterator[Any]:
            return map(worker, blocks)

    rows = list(ray_data._rows(Blocks()))
    expected = [coded for task in tasks for coded in work(engine, task)]
    assert len(rows) == len(expected) == 7
    for row, other in zip(rows, expected, strict=True):
        assert np.array_equal(row.frames, other.frames) and row.frames.dtype == np.uint16
        assert row.num_samples == other.num_samples


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(CodecError, match=r'pip install "aecodec\[ray\]"'):
        ray_data.Cluster()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(CodecError, match=r'pip install "aecodec\[tokens\]"'):
        list(read_tokens(tmp_path / "a.parquet"))


def test_a_format_of_a_later_version_is_refused() -> None:
    kind = TokenFormat("m", "00" * 16, 8_000, 40, (Codebook(32),) * 4)
    assert TokenFormat.from_dict(kind.to_dict(), "x") == kind
    for facts, message in (
        (kind.to_dict() | {"format": 3}, "upgrade aecodec"),
        (kind.to_dict() | {"hop_length": 0}, "hop_length is 0"),
        (kind.to_dict() | {"fingerprint": "xy"}, "does not describe"),
        (None, "does not describe"),
    ):
        with pytest.raises(FormatError, match=message):
            TokenFormat.from_dict(facts, "x")


# Nothing is stale.


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Four recordings of the same length."""
    folder = tmp_path / "small"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.wav").write_bytes(wav(2_000, seed=number))
    make_shard(folder / "s.tar", {"k.wav": wav(2_000, seed=3)})
    return folder


ONE_EACH = 1e-6
"""Hours in a shard: a recording."""


def test_a_recording_that_was_replaced_gets_new_tokens(
    small: Path, engine: Engine, layout: str, tmp_path: Path
) -> None:
    """Of the same size, length and time; the others are not coded again."""
    options: dict[str, Any] = {"layout": layout, "shard_hours": ONE_EACH}
    run(small, tmp_path / "out", engine, **options)
    stamp = (small / "1.wav").stat()
    (small / "1.wav").write_bytes(wav(2_000, seed=7))
    os.utime(small / "1.wav", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    make_shard(small / "s.tar", {"k.wav": wav(2_000, seed=8)})
    outcome = run(small, tmp_path / "out", engine, **options)
    assert (outcome.num_written, outcome.num_shards) == (2, 4)
    run(small, tmp_path / "fresh", engine, **options)
    assert digests(tmp_path / "out") == digests(tmp_path / "fresh")


def test_a_recording_that_was_replaced_while_work_was_interrupted_gets_new_tokens(
    small: Path, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = coding.code_audio

    def code(*arguments: Any) -> Any:
        if len(list((tmp_path / "out").glob("tokens-*"))) == 2:
            raise Killed
        return real(*arguments)

    monkeypatch.setattr(coding, "code_audio", code)
    with pytest.raises(Killed):
        run(small, tmp_path / "out", engine, shard_hours=ONE_EACH)
    monkeypatch.undo()
    (small / "0.wav").write_bytes(wav(2_000, seed=9))
    assert run(small, tmp_path / "out", engine, shard_hours=ONE_EACH).num_written == 3
    run(small, tmp_path / "fresh", engine, shard_hours=ONE_EACH)
    assert digests(tmp_path / "out") == digests(tmp_path / "fresh")


def test_a_corpus_that_was_copied_or_touched_is_not_coded_again(
    small: Path, engine: Engine, tmp_path: Path
) -> None:
    run(small, tmp_path / "out", engine, shard_hours=ONE_EACH)
    tokens_before = digests(tmp_path / "out")
    shutil.copytree(small, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    for _ in range(2):
        outcome = run(tmp_path / "elsewhere", tmp_path / "out", engine, shard_hours=ONE_EACH)
        assert (outcome.num_written, outcome.num_recordings) == (0, 4)
    after = digests(tmp_path / "out")
    assert all(after[name] == tokens_before[name] for name in after if "tokens-" in name)


def test_a_repaired_recording_is_coded_and_a_broken_one_leaves_nothing_behind(
    small: Path, engine: Engine, layout: str, tmp_path: Path
) -> None:
    """Both with the header that they had."""
    good, options = (small / "0.wav").read_bytes(), {"layout": layout, "shard_hours": ONE_EACH}

    def break_it() -> None:
        audio = sound(2_000)[0]
        audio[5] = np.nan
        soundfile.write(small / "0.wav", audio, 24_000, subtype="FLOAT")

    break_it()
    broken = (small / "0.wav").read_bytes()
    soundfile.write(small / "0.wav", sound(2_000)[0], 24_000, subtype="FLOAT")
    good = (small / "0.wav").read_bytes()
    assert len(good) == len(broken)
    found = []
    for data in (broken, good, broken):
        (small / "0.wav").write_bytes(data)
        outcome = run(small, tmp_path / "out", engine, **options)
        found.append((outcome.num_recordings, outcome.num_errors))
        names = {file.name for file in (tmp_path / "out").rglob("*.codes")}
        assert layout != "codes" or ("0.codes" in names) == (data == good)
    assert found == [(3, 1), (4, 0), (3, 1)]


# One recording does not end the others.


@pytest.fixture
def awkward(tmp_path: Path) -> tuple[Path, set[str]]:
    """A corpus with names that were too much for some stage, and the ids of its recordings."""
    folder, long = tmp_path / "awkward", "y" * 300 + ".wav"
    names = {
        *("x.wav", "x.codes/b.wav", "x.npy/b.wav", ".tokenize/a.wav", "manifest.json/a.wav"),
        *(".errors.jsonl.dddddddd/a.wav", "errors.jsonl/a.wav", "tokens-00000.parquet/a.wav"),
        *("new\nline.wav", "back\\slash.wav", " .wav", "a" * 250 + ".wav", "-.wav"),
    }
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(wav(100))
    (folder / os.fsdecode(b"caf\xe9.wav")).write_bytes(wav(100))
    make_shard(folder / "s.tar", {long: wav(100), "caf\udce9.wav": wav(100)})
    return folder, {*names, "caf%E9.wav", f"s.tar/{long}", "s.tar/caf%E9.wav"}


def test_no_name_ends_a_corpus_and_every_recording_comes_back(
    awkward: tuple[Path, set[str]], engine: Engine, layout: str, tmp_path: Path
) -> None:
    folder, names = awkward
    out = tmp_path / "out"
    outcome = run(folder, out, engine, layout=layout)
    assert (outcome.num_recordings, outcome.num_errors) == (len(names), 0)
    read = list(read_tokens(out))
    assert len(read) == len(names)
    assert layout == "codes" or {row.id for row in read} == names
    before = digests(out)
    assert run(folder, out, engine, layout=layout).num_written == 0
    assert digests(out) == before
    assert detokenize(out, tmp_path / "back", model=engine) == 0
    assert len([*(tmp_path / "back").rglob("*.wav")]) == len(names)


def test_what_cannot_be_coded_is_a_line_whatever_it_raises(
    small: Path, engine: Engine, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (small / "1.wav").rename(small / os.fsdecode(b"caf\xe9.wav"))
    errors = iter(
        [MemoryError(), RuntimeError("two\nlines"), ValueError("\ud800"), OSError(5, "I/O")]
    )

    def fail(*arguments: Any) -> Any:
        raise next(errors)

    monkeypatch.setattr(coding, "code_audio", fail)
    outcome = run(small, tmp_path / "out", engine, layout=layout, shard_hours=1.0)
    assert (outcome.num_recordings, outcome.num_errors) == (0, 4)
    lines = (tmp_path / "out" / "errors.jsonl").read_bytes().decode().splitlines()
    reasons = {error["id"]: error["reason"] for error in map(json.loads, lines)}
    assert reasons == {
        "0.wav": "0.wav cannot be read: MemoryError",
        "2.wav": "2.wav cannot be read: two lines",
        "caf%E9.wav": "caf%E9.wav cannot be read: ?",
        "s.tar/k.wav": "s.tar/k.wav cannot be read: I/O",
    }


def test_two_workers_and_a_cluster_code_files_of_any_name(
    awkward: tuple[Path, set[str]], engine: Engine, tmp_path: Path
) -> None:
    folder, names = awkward
    (folder / os.fsdecode(b"bad\xe9.wav")).write_bytes(wav(100))
    found = find_recordings([folder])
    (folder / os.fsdecode(b"bad\xe9.wav")).write_text("no sound")
    tasks = list(_tasks(0, found.recordings))
    work = partial(code_task, 4)
    worker = ray_data.Worker(engine, work)

    class Blocks:
        def iter_batches(self, **options: Any) -> Iterator[Any]:
            return map(worker, ray_data._blocks(tasks, seconds=0.01))

    rows = list(ray_data._rows(Blocks()))
    assert len(rows) == len(names) + 1
    assert [row.reason.partition(" ")[0] for row in rows if row.reason] == ["bad%E9.wav"]
    assert all(len(row.digest) == 64 for row in rows)
    outcome = run(folder, tmp_path / "out", engine, workers=2)
    assert (outcome.num_recordings, outcome.num_errors) == (len(names), 1)


def test_a_step_of_a_pipeline_keeps_all_errors(engine: Engine) -> None:
    names = ["a\0b.wav", "\ud800.wav", "a" * 300]
    kept = Tokenizer(engine, errors="keep")({"path": names})
    assert all(kept["error"]) and not any("\n" in reason for reason in kept["error"])
    with pytest.raises(AudioError, match="check the path"):
        Tokenizer(engine)({"path": names})


def test_paths_are_relative_to_the_corpus(small: Path, engine: Engine, tmp_path: Path) -> None:
    rows = [{"path": str(small / "0.wav"), "id": "first"}, {"path": "small/1.wav"}]
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("\n".join(map(json.dumps, rows)))
    run(small, tmp_path / "a", engine)
    tokenize([manifest], tmp_path / "b", Tokenizer(engine))
    assert [row.path for row in read_tokens(tmp_path / "a")] == [
        *("0.wav", "1.wav", "2.wav", "s.tar/k.wav")
    ]
    assert [row.path for row in read_tokens(tmp_path / "b")] == ["small/0.wav", "small/1.wav"]
    for path in [*(tmp_path / "a").iterdir(), *(tmp_path / "b").iterdir()]:
        assert str(tmp_path).encode() not in path.read_bytes()


# Streams.


def encoded(folder: Path, name: str, seed: int, engine: Engine) -> bytes:
    (folder / "in.wav").write_bytes(wav(3_000, seed=seed))
    encode_file(folder / "in.wav", folder / name, model=engine, force=True)
    return (folder / name).read_bytes()


def test_all_streams_of_a_file_are_read(engine: Engine, tmp_path: Path) -> None:
    parts = [encoded(tmp_path, f"{seed}.codes", seed, engine) for seed in range(3)]
    (tmp_path / "joined").mkdir()
    joined = tmp_path / "joined" / "all.codes"
    joined.write_bytes(b"".join(parts))
    read = list(read_tokens(joined))
    assert [row.id for row in read] == ["all", "all-2", "all-3"]
    for number, row in enumerate(read):
        (expected,) = read_tokens(tmp_path / f"{number}.codes")
        assert _same(row, expected)
    assert detokenize(joined, tmp_path / "out", model=engine) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("all-2.wav", "all-3.wav", "all.wav")
    ]
    damaged = bytearray(b"".join(parts))
    damaged[-len(parts[2]) // 2] ^= 1
    joined.write_bytes(damaged)
    with pytest.raises(FormatError, match="is damaged"):
        list(read_tokens(joined))
    reports: list[tuple[str, str]] = []
    again = detokenize(
        joined.parent,
        tmp_path / "again",
        model=engine,
        report=lambda *report: reports.append(report),
    )
    assert again == 1 and [name for name, reason in reports if reason] == ["all.codes"]
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == ["all-2.wav", "all.wav"]


def test_streams_without_silence_are_refused_in_one_line_each(
    engine: Engine, tmp_path: Path
) -> None:
    """Most of their frames have no codes, or few."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a", "c"):
        encoder = StreamEncoder(engine, packing=Packing.live(dtx=True))
        with (folder / f"{name}.codes").open("wb") as file:
            writer = PacketWriter(file, encoder.header)
            audio = np.concatenate((sound(8_000), np.zeros((1, 8_000), np.float32)), axis=1)
            for packet in [*encoder.push(audio), *encoder.finish()]:
                writer.write(packet)
    encoded(folder, "b.codes", 0, engine)
    with pytest.raises(FormatError, match="leaves out silence"):
        list(read_tokens(folder / "a.codes"))
    reports: list[tuple[str, str]] = []
    failures = detokenize(
        folder, tmp_path / "out", model=engine, report=lambda *report: reports.append(report)
    )
    assert failures == 2
    assert [name for name, reason in reports if "leaves out silence" in reason] == [
        *("a.codes", "c.codes")
    ]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.wav"]


# Nothing foreign is read or deleted.

FOREIGN = ("../precious.txt", "precious.txt", "../precious.codes", "sub/../../precious.codes")


def name_in_manifest(folder: Path, name: str) -> None:
    """Let the manifest of a folder of tokens name another file, with its hash."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_bytes())
    named = folder / name
    sha = hashlib.sha256(named.read_bytes()).hexdigest() if named.is_file() else "0" * 64
    manifest["shards"][0]["files"].append({"name": name, "bytes": 8, "sha256": sha})
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", [*FOREIGN, "absolute", "link.codes", "away/precious.codes"])
def test_force_deletes_nothing_that_it_did_not_make(
    small: Path, engine: Engine, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    run(small, out, engine)
    (out / "sub").mkdir()
    precious = [tmp_path / "precious.codes", tmp_path / "precious.txt", out / "precious.txt"]
    for path in precious:
        path.write_text("precious")
    (out / "link.codes").symlink_to(precious[0])
    (out / "away").symlink_to(tmp_path)
    if name == "absolute":
        name = str(precious[0])
    name_in_manifest(out, name)
    (out / ".tokenize").mkdir()
    for path in (out / ".tokenize" / "mine.txt", out / ".tokenize" / "shard-x.json"):
        path.write_text("precious")
        precious.append(path)
    note = {"files": [{"name": name, "sha256": ""}], "errors": [{"wrong": 1}]}
    (out / ".tokenize" / "shard-00007.json").write_text(json.dumps(note))
    try:
        run(small, out, engine, force=True)
    except CodecError as error:
        assert "which it cannot hold" in str(error) and "\n" not in str(error)
    assert all(path.read_text() == "precious" for path in precious)
    assert (out / "link.codes").is_symlink()


def test_notes_are_not_read_or_deleted_through_a_link(
    small: Path, engine: Engine, tmp_path: Path
) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "job.json").write_text("{}")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".tokenize").symlink_to(tmp_path / "notes")
    with pytest.raises(CodecError, match="is a link"):
        run(small, tmp_path / "out", engine, force=True)
    assert (tmp_path / "notes" / "job.json").exists()


@pytest.mark.parametrize(
    "name", ["/dev/zero", *FOREIGN, "link.codes", "zero.codes", "pipe.codes", "away/precious.codes"]
)
def test_a_manifest_that_names_what_is_no_file_of_tokens_costs_that_alone(
    small: Path, engine: Engine, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    run(small, out, engine, layout="codes")
    encoded(tmp_path, "precious.codes", 0, engine)
    (out / "link.codes").symlink_to(tmp_path / "precious.codes")
    (out / "zero.codes").symlink_to("/dev/zero")
    (out / "away").symlink_to(tmp_path)
    os.mkfifo(out / "pipe.codes")
    name_in_manifest(out, name)
    with pytest.raises(CodecError, match=r"cannot hold|is a link out of|not a regular file"):
        list(read_tokens(out))
    reports: list[str] = []
    options: dict[str, Any] = {"report": lambda _, reason: reports.append(reason)}
    if name in ("/dev/zero", *FOREIGN):
        with pytest.raises(FormatError, match="cannot hold"):
            detokenize(out, tmp_path / "back", model=engine, **options)
        return
    assert detokenize(out, tmp_path / "back", model=engine, **options) == 1
    assert len([*(tmp_path / "back").rglob("*.wav")]) == 4


@pytest.mark.parametrize("name", ["/dev/zero", "pipe.codes", "pipe.parquet", "gone.tar"])
def test_what_is_no_regular_file_is_not_read(engine: Engine, tmp_path: Path, name: str) -> None:
    for each in ("pipe.codes", "pipe.parquet"):
        os.mkfifo(tmp_path / each)
    for use in (lambda path: list(read_tokens(path)), lambda path: detokenize(path, tmp_path)):
        with pytest.raises(CodecError, match=r"not a regular file|no such file"):
            use(tmp_path / name)
    assert os.path.lexists(tmp_path / name) or name == "gone.tar"


def test_notes_and_manifests_of_others_are_no_traceback(
    small: Path, engine: Engine, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for note in ('{"files": [], "errors": [{"a": 1}]}', "[" * 100_000, '{"files": [1]}', "[1]"):
        (out / ".tokenize").mkdir(parents=True)
        (out / ".tokenize" / "shard-00000.json").write_text(note)
        (out / ".tokenize" / "job.json").write_text(note)
        assert run(small, out, engine).num_recordings == 4
        shutil.rmtree(out)
    out.mkdir()
    for text in ("[" * 100_000, "[]", '{"shards": [{"files": [{}]}]}'):
        (out / "manifest.json").write_text(text)
        for use in (lambda: run(small, out, engine), lambda: list(read_tokens(out))):
            with pytest.raises(FormatError, match="not a manifest of tokens"):
                use()


# Much from little.


def test_archives_of_tokens_hold_no_links_and_nothing_longer_than_themselves(
    small: Path, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(small, tmp_path / "out", engine, layout="webdataset")
    with tarfile.open(next((tmp_path / "out").glob("*.tar"))) as archive:
        good = [(member.name, archive.extractfile(member).read()) for member in archive]  # type: ignore[union-attr]
    facts = json.loads(good[1][1])

    def read(*members: tuple[tarfile.TarInfo, bytes]) -> None:
        bad = tmp_path / "bad.tar"
        with bad.open("wb") as file:
            for member, data in members:
                file.write(member.tobuf() + data.ljust(-(-len(data) // 512) * 512, b"\0"))
            file.write(bytes(1024))
        list(read_tokens(bad))

    def member(name: str, data: bytes, **facts: Any) -> tuple[tarfile.TarInfo, bytes]:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        for key, value in facts.items():
            setattr(info, key, value)
        return info, data

    array, text = member("0.npy", good[0][1]), member("0.json", good[1][1])
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(2**31)}
    header = np.lib.format.magic(1, 0) + b"\x76\0"
    shape = b"{'descr': '<u2', 'fortran_order': False, 'shape': (%d,), }" % 2**45
    read(array, text)
    for members, message in (
        ([member("0.npy", b"0\n".ljust(512, b"\0"), pax_headers=sparse)], "a sparse member"),
        ([member("0.npy", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")], "a link"),
        ([member("0.npy", b"", type=tarfile.LNKTYPE, linkname="x")], "a link"),
        ([member("0.npy", b"", type=tarfile.FIFOTYPE)], "not a regular file"),
        ([member("0.npy", b"", size=2**33)], "cut short"),
        ([member("0.npy", header + shape.ljust(117) + b"\n")], "cannot be read"),
        ([text], r"0\.json that comes without its \.npy"),
        ([array, member("0.json", b"[" * 100_000)], "no JSON"),
        ([array, member("0.json", b"[]")], "no JSON"),
        ([member("a" * 300 + ".npy", good[0][1]), text], "without its"),
        *(
            ([array, member("0.json", json.dumps(facts | wrong).encode())], "damaged row")
            for wrong in (
                {"num_frames": "a" * 9, "num_codebooks": 10**11},
                {"duration_seconds": "a", "sample_rate": 10**11},
                {"duration_seconds": 1e400},
                {"sample_rate": 0},
            )
        ),
    ):
        with pytest.raises(FormatError, match=message) as caught:
            read(*members)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    monkeypatch.setattr(reading, "MAX_FACTS", 50)
    with pytest.raises(FormatError, match="50 are the most"):
        read(array, text)


def test_a_shard_of_parquet_that_is_a_bomb_is_refused_with_the_limit(
    small: Path, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(small, tmp_path / "out", engine)
    (shard,) = (tmp_path / "out").glob("*.parquet")
    table = pa.parquet.read_table(shard)[:1]
    rows = list(read_tokens(shard))
    monkeypatch.setattr("codec.corpus.parquet.SOME_VALUES", 2**16)
    codes = pa.array([np.zeros(2**20, np.uint16)], table["codes"].type)
    pa.parquet.write_table(table.set_column(2, "codes", codes), tmp_path / "bomb.parquet")
    size = (tmp_path / "bomb.parquet").stat().st_size
    assert size < 10_000
    with pytest.raises(FormatError, match=rf"claims 1048576 values .* from {size} bytes") as caught:
        list(read_tokens(tmp_path / "bomb.parquet"))
    assert "\n" not in str(caught.value)
    again = list(read_tokens(shard))
    assert all(map(_same, rows, again)) and len(again) == len(rows) == 4


def test_a_damaged_row_costs_its_recording_alone(
    small: Path, engine: Engine, tmp_path: Path
) -> None:
    run(small, tmp_path / "out", engine)
    (shard,) = (tmp_path / "out").glob("*.parquet")
    table = pa.parquet.read_table(shard)
    frames = table["num_frames"].to_pylist()
    frames[1] += 1
    column = pa.array(frames, pa.int32())
    name = table.schema.names.index("num_frames")
    pa.parquet.write_table(table.set_column(name, "num_frames", column), tmp_path / "bad.parquet")
    reports: list[tuple[str, str]] = []
    failures = detokenize(
        tmp_path / "bad.parquet",
        tmp_path / "back",
        model=engine,
        report=lambda *report: reports.append(report),
    )
    assert failures == 1 and "damaged row '1.wav'" in dict(reports)["bad.parquet"]
    assert len([*(tmp_path / "back").rglob("*.wav")]) == 3
