"""Code a whole corpus into shards of tokens: resumable, exact, on any number of processes.

The recordings are divided into shards by their duration before any is decoded, so the shards do not
depend on who does the work. A shard appears under its name when it is complete, and a note of its
hash after it. So an interrupted run repeats the shards without a note and no others.

A note also has a digest of the sizes and times of all recordings of its shard, and one of their
contents. If the first is as before, nothing has changed; otherwise, as after copying a corpus, the
contents are read, and only a shard with others is written again.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from codec.arguments import check_flag, check_number, check_path, check_type, check_whole, shown
from codec.bitrate import Bitrate
from codec.corpus.coding import Coded, Task, Work, code_audio, code_task, uncodable
from codec.corpus.index import clip_digest, fault
from codec.corpus.ray_data import Cluster
from codec.corpus.sources import Recording, Sources, Unusable, find_recordings
from codec.corpus.tokens import (
    CARD,
    ERRORS,
    FORMAT,
    LAYOUTS,
    MANIFEST,
    PROGRESS,
    Layout,
    TokenFormat,
    Tokens,
    check_regular,
    file_digest,
    is_shard_name,
    read_manifest,
)
from codec.corpus.workers import in_order
from codec.engines.base import Engine
from codec.errors import AudioError, CodecError
from codec.io.audio import open_audio
from codec.io.outputs import UNFINISHED, write_atomically
from codec.model_folder import DEFAULT_MODEL
from codec.registry import ModelLike, as_model

SHARD_HOURS = 10.0
"""Audio in a shard: about 30 MB at 6 kbit/s."""
TASK_SECONDS = 60.0
"""Audio in what a worker is given at once, or one longer recording: less would be too much talk."""

Progress = Callable[[float, float], None]
"""Called with the seconds of audio that are done and those to do in all."""


@dataclass(frozen=True)
class Outcome:
    """What is in a folder of tokens.

    Attributes:
        num_recordings: number of recordings coded.
        num_errors: number of those that could not be.
        hours: duration of the recordings coded.
        num_shards: number of shards.
        num_written: number of shards that were written now, and not by an earlier run.
        seconds: how long this run took.

    Example:
        >>> Outcome(2_212, 0, 7.0, 1, 1, 60.0).num_errors
        0
    """

    num_recordings: int
    num_errors: int
    hours: float
    num_shards: int
    num_written: int
    seconds: float


class TooManyErrorsError(CodecError):
    """More recordings than are allowed could not be coded.

    Example:
        >>> raise TooManyErrorsError("3 recordings could not be coded, 2 are allowed")
        Traceback (most recent call last):
        codec.corpus.tokenize.TooManyErrorsError: 3 recordings could not be coded, 2 are allowed
    """


class Tokenizer:
    """Codes recordings; also as a step of a pipeline of one's own.

    An instance takes a batch of columns and returns it with more columns, as ``map`` of the
    package ``datasets`` and ``map_batches`` of Ray Data want it.

    Args:
        model: an engine, a `Codec`, the name of a packaged model or a model folder.
        bitrate: target in bits per second; the model's highest if None.
        path_column: column of the batch that holds paths of audio files.
        errors: ``"raise"``, or ``"keep"`` to leave the codes of what cannot be read empty and name
            the reason in a column ``error``.

    Attributes:
        engine: the model.
        kind: what all codes have in common.

    Raises:
        ConfigError: the bitrate is out of the model's range, or the model has no codes.
        ModelError: there is no such model.

    Example:
        >>> import soundfile
        >>> soundfile.write("owl.wav", [[0.0, 0.0]] * 8_000, 8_000)
        >>> tokenizer = Tokenizer(bitrate=3_000)
        >>> batch = tokenizer({"path": ["owl.wav"]})
        >>> len(batch["codes"][0]), batch["num_frames"], batch["num_codebooks"]
        (306, [51], [6])
    """

    def __init__(
        self,
        model: ModelLike = DEFAULT_MODEL,
        *,
        bitrate: Bitrate | None = None,
        path_column: str = "path",
        errors: str = "raise",
    ) -> None:
        self.engine = as_model(model).engine
        self.kind = TokenFormat.of(self.engine.spec, bitrate)
        self._path_column, self._errors = path_column, errors

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Add the codes of a batch.

        Args:
            batch: columns by name, each a list or array.

        Returns:
            The same columns, and ``codes`` (each flat, frame by frame, uint16), ``num_frames``,
            ``num_codebooks``, ``duration_seconds``, ``sample_rate``, ``model``, ``fingerprint``.

        Raises:
            AudioError: a file cannot be read.
        """
        rows = [self._code_file(Path(str(path))) for path in batch[self._path_column]]
        added: dict[str, Any] = {
            "codes": [row.frames.ravel() for row in rows],
            "num_frames": [len(row.frames) for row in rows],
            "num_codebooks": [self.kind.num_codebooks for _ in rows],
            "duration_seconds": [row.num_samples / max(1, row.sample_rate) for row in rows],
            "sample_rate": [row.sample_rate for row in rows],
            "model": [self.kind.model for _ in rows],
            "fingerprint": [self.kind.fingerprint for _ in rows],
        }
        if self._errors == "keep":
            added["error"] = [row.reason for row in rows]
        return {**batch, **added}

    def _code_file(self, path: Path) -> Coded:
        try:
            with open_audio(path, mono=True) as reader:
                return code_audio(self.engine, self.kind.num_codebooks, reader)
        except Exception as error:  # no recording may end a pipeline that keeps errors
            if self._errors != "keep":
                raise AudioError(fault(str(path), error)) from error
            return uncodable(self.kind.num_codebooks, fault(str(path), error))


def tokenize(
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    model: ModelLike = DEFAULT_MODEL,
    bitrate: Bitrate | None = None,
    layout: str = "parquet",
    workers: int | None = None,
    ray: Cluster | None = None,
    shard_hours: float = SHARD_HOURS,
    max_errors: int | None = None,
    path_column: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """Code all recordings of some sources into a folder of tokens.

    Recordings are mixed down to mono. What cannot be read is listed in ``errors.jsonl``. The same
    call again continues where the last one was interrupted, and writes those shards again whose
    recordings have changed.

    Args:
        sources: see `codec.corpus.sources.find_recordings`.
        out: folder of the tokens, created if missing.
        model: an engine, a `Codec`, the name of a packaged model or a model folder.
        bitrate: target in bits per second; the model's highest if None.
        layout: ``"parquet"``, ``"webdataset"`` or ``"codes"``.
        workers: number of processes, see `codec.corpus.workers.in_order`; if None, this one, or on
            a cluster as many as it has room for.
        ray: a cluster that does the work.
        shard_hours: hours of audio per shard.
        max_errors: recordings that may be unusable; any number if None.
        path_column: column of the paths in manifests.
        force: start again where ``out`` holds other tokens.
        progress: called with the seconds of audio that are done and those to do.

    Returns:
        What is in ``out``.

    Raises:
        TooManyErrorsError: more than ``max_errors`` recordings are unusable. If so many fail while
            they are decoded, as with a disk that has gone, work ends there and can be continued.
        CodecError: a source is missing or has no audio, or ``out`` holds something else.
        ConfigError: an argument is of another type, or out of range.

    Example:
        >>> import soundfile
        >>> Path("corpus").mkdir()
        >>> soundfile.write("corpus/owl.wav", [0.0] * 8_000, 8_000)
        >>> _ = Path("corpus/cat.wav").write_text("no sound")
        >>> outcome = tokenize(["corpus"], "tokens")
        >>> outcome.num_recordings, outcome.num_errors, outcome.num_shards
        (1, 1, 1)
        >>> sorted(path.name for path in Path("tokens").iterdir())
        ['dataset_card.md', 'errors.jsonl', 'manifest.json', 'tokens-00000.parquet']
    """
    started = time.monotonic()
    check_type("sources", sources, (list, tuple))
    if not sources:
        raise CodecError("no source is given: name folders, shards or manifests")
    for source in sources:
        check_path("source", source)
    out, force = check_path("out", out), check_flag("force", force)
    shard_hours = check_number("shard_hours", shard_hours, 0, 1e6)
    if max_errors is not None:
        max_errors = check_whole("max_errors", max_errors, 0, 2**63)
    if path_column is not None:
        check_type("path_column", path_column, str)
    if ray is not None:
        check_type("ray", ray, Cluster)
    if not isinstance(layout, str) or layout not in LAYOUTS:
        raise CodecError(f"no layout {shown(layout)}: choose one of {', '.join(LAYOUTS)}")
    engine, folder = as_model(model).engine, _Folder(out)
    kind = TokenFormat.of(engine.spec, bitrate)
    if not kind.fingerprint:
        raise CodecError("this model has no fingerprint yet: save_codec() and load_codec() it")
    folder.prepare(force=force)
    found = find_recordings(sources, path_column=path_column, cache=folder.progress)
    if not found.recordings and not found.unusable:
        raise CodecError(f"no audio in {', '.join(map(str, sources))}: name other sources")
    writer = LAYOUTS[layout](kind, found.recordings)
    shards = _divide(found.recordings, shard_hours * 3600)
    folder.begin(_job(kind, layout, shards))
    states = [_State.of(shard) for shard in shards]
    unfinished = [n for n, state in enumerate(states) if not folder.is_finished(n, state)]

    tasks = [task for number in unfinished for task in _tasks(number, shards[number])]
    work = partial(code_task, kind.num_codebooks)
    results = ray.run(engine, work, tasks, workers) if ray else _run(engine, work, tasks, workers)
    errors = _Errors(found.unusable, folder.errors(), max_errors)
    counted = _counted(tasks, results, progress)
    try:
        for number, group in itertools.groupby(counted, key=lambda pair: pair[0].shard):
            coded: dict[int, Coded] = {}
            for task, outcomes in group:
                coded |= zip(task.positions, outcomes, strict=True)
                errors.add(shards[number], task, outcomes)
            rows = [_tokens(kind, shards[number][n], coded[n]) for n in sorted(coded)]
            digests = [coded[n].digest for n in sorted(coded)]
            folder.add(
                number,
                writer,
                [row for row in rows if isinstance(row, Tokens)],
                [row for row in rows if isinstance(row, Unusable)],
                {"times": states[number].times, "contents": _digest(digests)},
            )
    finally:
        write_atomically(folder.out / ERRORS, errors.lines())
    manifest = folder.finish(kind, layout, found)
    errors.check_total()
    return Outcome(
        manifest["num_recordings"],
        manifest["num_errors"],
        manifest["hours"],
        len(shards),
        len(unfinished),
        time.monotonic() - started,
    )


def _run(
    engine: Engine, work: Work, tasks: Sequence[Task], workers: int | None
) -> Iterator[list[Coded]]:
    return in_order(engine, work, tasks, max(1, min(workers or 1, len(tasks))))


def _divide(recordings: Sequence[Recording], seconds: float) -> list[list[Recording]]:
    """Consecutive recordings of that duration, or one longer recording."""
    shards: list[list[Recording]] = []
    room = 0.0
    for recording in recordings:
        if not shards or recording.clip.seconds > room:
            shards.append([])
            room = seconds
        shards[-1].append(recording)
        room -= recording.clip.seconds
    return shards


def _tasks(shard: int, recordings: Sequence[Recording]) -> Iterator[Task]:
    """Long recordings first: begun last, one of them would keep a worker busy after all others."""
    order = sorted(range(len(recordings)), key=lambda n: -recordings[n].clip.seconds)
    positions: list[int] = []
    seconds = 0.0
    for position in order:
        positions.append(position)
        seconds += recordings[position].clip.seconds
        if seconds >= TASK_SECONDS or position == order[-1]:
            clips = tuple((recordings[n].folder, recordings[n].clip) for n in positions)
            yield Task(shard, tuple(positions), clips)
            positions, seconds = [], 0.0


def _counted(
    tasks: Sequence[Task], results: Iterable[list[Coded]], progress: Progress | None
) -> Iterator[tuple[Task, list[Coded]]]:
    total, done = sum(task.seconds for task in tasks), 0.0
    if progress is not None and tasks:
        progress(done, total)
    for task, outcomes in zip(tasks, results, strict=True):
        yield task, outcomes
        done += task.seconds
        if progress is not None:
            progress(done, total)


def _tokens(kind: TokenFormat, recording: Recording, coded: Coded) -> Tokens | Unusable:
    if coded.reason:
        return Unusable(recording.id, coded.reason)
    return Tokens(
        kind,
        recording.id,
        recording.path,
        coded.frames,
        coded.num_samples,
        coded.sample_rate,
        recording.columns,
    )


def _job(kind: TokenFormat, layout: str, shards: Sequence[Sequence[Recording]]) -> str:
    """Digest of all that determines the shards, but for the contents of the recordings."""
    digest = hashlib.sha256(json.dumps([FORMAT, layout, asdict(kind)]).encode())
    for shard in shards:
        for recording in shard:
            clip = recording.clip
            where = [clip.offset, clip.size, clip.num_samples, clip.sample_rate, clip.channels]
            facts = [recording.id, recording.path, where, recording.columns]
            digest.update(json.dumps(facts, default=repr).encode())
        digest.update(b"\n")
    return digest.hexdigest()


def _digest(facts: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


@dataclass(frozen=True)
class _State:
    """The state of the recordings of a shard.

    Attributes:
        recordings: the recordings.
        times: digest of the sizes and times of their files.
    """

    recordings: Sequence[Recording]
    times: str

    @classmethod
    def of(cls, recordings: Sequence[Recording]) -> _State:
        """The state of now."""
        paths = [Path(recording.folder, recording.clip.path) for recording in recordings]
        times = {path: cls._times(path) for path in dict.fromkeys(paths)}
        return cls(recordings, _digest([times[path] for path in paths]))

    @staticmethod
    def _times(path: Path) -> list[int]:
        try:
            status = path.stat()
        except OSError:  # it has gone, which is found when it is read
            return []
        return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]

    def contents(self) -> str:
        """Digest of all contents, as of the digests of what is coded."""
        digests = []
        for recording in self.recordings:
            try:
                digests.append(clip_digest(Path(recording.folder), recording.clip))
            except OSError:
                digests.append("")
        return _digest(digests)


class _Errors:
    """What could not be coded, and how much of that is allowed."""

    def __init__(
        self, found: Sequence[Unusable], earlier: Sequence[Unusable], most: int | None
    ) -> None:
        self._found, self._failed, self._most = list(found), list(earlier), most

    def add(self, shard: Sequence[Recording], task: Task, outcomes: Sequence[Coded]) -> None:
        for position, outcome in zip(task.positions, outcomes, strict=True):
            if outcome.reason:
                self._failed.append(Unusable(shard[position].id, outcome.reason))
        self._check(self._failed, "work ended; the same command continues it")

    def check_total(self) -> None:
        self._check(self._found + self._failed, "all others are done")

    def _check(self, errors: Sequence[Unusable], rest: str) -> None:
        if self._most is not None and len(errors) > self._most:
            raise TooManyErrorsError(
                f"{len(errors)} recordings could not be coded, {self._most} are allowed "
                f"(see {ERRORS}): {rest}"
            )

    def lines(self) -> bytes:
        errors = sorted(self._found + self._failed, key=lambda error: (error.id, error.reason))
        return b"".join(
            json.dumps(asdict(error), ensure_ascii=False).encode() + b"\n" for error in errors
        )


class _Folder:
    """A folder of tokens, and the notes in it about what is done."""

    def __init__(self, out: Path) -> None:
        self.out, self.progress = out, out / PROGRESS
        self._notes: dict[int, dict[str, Any]] = {}
        self._outdated: dict[int, dict[str, Any]] = {}
        self._job = ""

    def prepare(self, *, force: bool) -> None:
        """Make sure that the folder is ours."""
        if self.out.exists() and not self.out.is_dir():
            raise CodecError(f"{self.out} is a file: give a folder to --out")
        if self.progress.is_symlink():
            raise CodecError(f"{self.progress} is a link: give another folder to --out")
        ours = (self.out / MANIFEST).exists() or self.progress.exists()
        if not ours and self.out.exists() and any(self.out.iterdir()):
            raise CodecError(f"{self.out} holds other files: give an empty or new folder to --out")
        if force and ours:
            self._load()
            for note in self._notes.values():
                self._remove(_names(note))
            (self.out / MANIFEST).unlink(missing_ok=True)
            self._forget()
            self._notes, self._job = {}, ""

    def begin(self, job: str) -> None:
        """Continue a job, or begin it if the folder is empty."""
        self._load()
        if self._job not in ("", job):
            if (self.out / MANIFEST).exists():
                self._forget()
            raise CodecError(
                f"{self.out} holds tokens of other recordings, or made with other settings: give "
                "another --out, or --force to start again"
            )
        self._job = job
        self.progress.mkdir(parents=True, exist_ok=True)
        write_atomically(self.progress / "job.json", json.dumps({"job": job}).encode())

    def _load(self) -> None:
        """Read the notes of an earlier run."""
        notes: dict[int, Any] = {}
        if (self.out / MANIFEST).exists():
            manifest = read_manifest(self.out)
            self._job = str(manifest.get("job"))
            notes = dict(enumerate(manifest["shards"]))
        job = _read_json(self.progress / "job.json")
        self._job = str(job.get("job", self._job))
        for path in self.progress.glob("shard-*.json"):
            if match := re.fullmatch(r"shard-(\d{5,})\.json", path.name):
                notes[int(match[1])] = _read_json(path)
        self._notes = {number: note for number, note in notes.items() if _is_note(note)}

    def _remove(self, names: Iterable[str]) -> None:
        """Delete files of tokens; a note can name no others."""
        for name in names:
            path = self.out / name
            inside = path.parent.resolve().is_relative_to(self.out.resolve())
            if is_shard_name(name) and inside and path.is_file() and not path.is_symlink():
                path.unlink()

    def _forget(self) -> None:
        """Remove the notes, and their folder if it holds nothing else."""
        ours = r"(job|shard-\d{5,}|index-\d+)\.json"
        for path in self.progress.glob("*"):
            name = path.name
            if (re.fullmatch(ours, name) or name.startswith(UNFINISHED)) and not path.is_dir():
                path.unlink()
        with suppress(OSError):
            self.progress.rmdir()

    def is_finished(self, number: int, state: _State) -> bool:
        """Whether a shard is there, unchanged, and its recordings are still the same."""
        if (note := self._notes.get(number)) is None:
            return False
        if self._is_whole(note) and (
            note["times"] == state.times or note["contents"] == state.contents()
        ):
            note["times"] = state.times
            return True
        self._outdated[number] = self._notes.pop(number)
        return False

    def _is_whole(self, note: dict[str, Any]) -> bool:
        for file in note["files"]:
            try:
                check_regular(self.out / file["name"], self.out)
                if file_digest(self.out / file["name"]) != file["sha256"]:
                    return False
            except CodecError:
                return False
        return True

    def errors(self) -> list[Unusable]:
        """What failed in the shards that are finished."""
        notes = self._notes.values()
        return [Unusable(**error) for note in notes for error in note["errors"]]

    def add(
        self,
        number: int,
        writer: Layout,
        rows: Sequence[Tokens],
        failed: Sequence[Unusable],
        state: dict[str, str],
    ) -> None:
        """Write a shard, then the note that it is finished; ``state`` is that of its recordings."""
        names = writer.write(self.out, number, rows)
        if number in self._outdated:
            self._remove({*_names(self._outdated.pop(number))} - {*names})
        self._notes[number] = note = {
            "files": [
                {
                    "name": name,
                    "bytes": (self.out / name).stat().st_size,
                    "sha256": file_digest(self.out / name),
                }
                for name in names
            ],
            "num_recordings": len(rows),
            "num_frames": sum(len(row.frames) for row in rows),
            "seconds": sum(row.duration_seconds for row in rows),
            "errors": [asdict(error) for error in failed],
        } | state
        path = self.progress / f"shard-{number:05}.json"
        write_atomically(path, json.dumps(note).encode())

    def finish(self, kind: TokenFormat, layout: str, found: Sources) -> dict[str, Any]:
        """Write card and manifest, and forget the notes."""
        shards = [self._notes[number] for number in sorted(self._notes)]
        manifest = kind.to_dict() | {
            "layout": layout,
            "num_recordings": sum(note["num_recordings"] for note in shards),
            "num_frames": sum(note["num_frames"] for note in shards),
            "hours": sum(note["seconds"] for note in shards) / 3600,
            "num_errors": len(found.unusable) + len(self.errors()),
            "job": self._job,
            "shards": shards,
        }
        self._remove_leftovers()
        write_atomically(self.out / CARD, card(manifest).encode())
        write_atomically(self.out / MANIFEST, json.dumps(manifest, indent=1).encode() + b"\n")
        self._forget()
        return manifest

    def _remove_leftovers(self) -> None:
        """Remove the hidden files in which a run that was killed was writing."""
        names = {MANIFEST}.union(*map(_names, self._notes.values()))
        folders = {(self.out / name).parent for name in names}
        for path in self.out.rglob(f"{UNFINISHED}*"):
            if path.parent in folders and path.is_file() and not path.is_symlink():
                path.unlink()


def card(manifest: dict[str, Any]) -> str:
    """Text of the card of a corpus of tokens, in Markdown.

    Args:
        manifest: contents of its ``manifest.json``.

    Example:
        >>> facts = {"model": "m", "fingerprint": "00", "sample_rate": 24_000, "hop_length": 480,
        ...     "num_codebooks": 12, "codebook_size": 1024, "layout": "parquet", "hours": 7.0,
        ...     "num_recordings": 2, "num_frames": 9, "num_errors": 0, "shards": []}
        >>> print(card(facts).splitlines()[6])
        # Audio tokens
    """
    facts = manifest
    frame_rate = facts["sample_rate"] / facts["hop_length"]
    rows = {
        "model": facts["model"],
        "fingerprint of the model": f"`{facts['fingerprint']}`",
        "recordings": facts["num_recordings"],
        "hours": f"{facts['hours']:.3f}",
        "frames": f"{facts['num_frames']}, {frame_rate:g} per second",
        "codes": f"{facts['num_codebooks']} per frame, each below {facts['codebook_size']}",
        "sampling rate of the model": f"{facts['sample_rate']} Hz, mono",
        "layout": facts["layout"],
        "shards": len(facts["shards"]),
        "recordings that could not be coded": f"{facts['num_errors']} (see `{ERRORS}`)",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return CARD_TEXT.format(table=table)


CARD_TEXT = """\
---
tags:
- audio
- audio-tokens
- aecodec
---
# Audio tokens

Codes of recordings, made by `aecodec tokenize`. `aecodec detokenize` decodes them.

| | |
|---|---|
{table}

Describe here where the recordings come from, and their licence.

`codes` are listed frame by frame: all codebooks of the first frame, then of the second.
`manifest.json` has the SHA-256 of every shard.
"""


def _read_json(path: Path) -> dict[str, Any]:
    """A note, or nothing if it was never written."""
    try:
        check_regular(path)
        return dict(json.loads(path.read_bytes()))
    except (CodecError, OSError, ValueError, TypeError, RecursionError):
        return {}


def _names(note: dict[str, Any]) -> list[str]:
    """Names of the files of a shard."""
    return [file["name"] for file in note["files"]]


def _is_note(note: Any) -> bool:
    """Whether this is what `_Folder.add` writes: anybody may have changed it."""
    try:
        return (
            all(is_shard_name(file["name"]) for file in note["files"])
            and all(isinstance(file["sha256"], str) for file in note["files"])
            and all(isinstance(note[key], str) for key in ("times", "contents"))
            and all(type(note[key]) is int for key in ("num_recordings", "num_frames"))
            and isinstance(note["seconds"], int | float)
            and all({*error} == {"id", "reason"} for error in note["errors"])
            and all(isinstance(each, str) for error in note["errors"] for each in error.values())
        )
    except (LookupError, TypeError, AttributeError):
        return False
