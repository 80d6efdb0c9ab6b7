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
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from codec.arguments import check_flag, check_number, check_path, check_type, check_whole, shown
from codec.corpus.coding import Coded, Task, Work, code_audio, code_task, uncodable
from codec.corpus.index import fault
from codec.corpus.ray_data import Cluster
from codec.corpus.sources import Recording, Unusable, find_recordings
from codec.corpus.tokens.folder import ShardState, TokenFolder
from codec.corpus.tokens.format import TokenFormat, Tokens
from codec.corpus.tokens.naming import ERRORS
from codec.corpus.tokens.writing import LAYOUTS
from codec.corpus.workers import in_order
from codec.engines.base import Engine
from codec.errors import AudioError, CodecError
from codec.io.audio import open_audio
from codec.io.outputs import write_atomically
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
        codebooks: number of codebooks, the first ones of the model; all if None.
        path_column: column of the batch that holds paths of audio files.
        errors: ``"raise"``, or ``"keep"`` to leave the codes of what cannot be read empty and name
            the reason in a column ``error``.

    Attributes:
        engine: the model.
        kind: what all codes have in common.

    Raises:
        ConfigError: the model has not so many codebooks, or no codes.
        ModelError: there is no such model.

    Example:
        >>> import soundfile
        >>> soundfile.write("owl.wav", [[0.0, 0.0]] * 8_000, 8_000)
        >>> tokenizer = Tokenizer(codebooks=6)
        >>> batch = tokenizer({"path": ["owl.wav"]})
        >>> len(batch["codes"][0]), batch["num_frames"], batch["num_codebooks"]
        (306, [51], [6])
    """

    def __init__(
        self,
        model: ModelLike = DEFAULT_MODEL,
        *,
        codebooks: int | None = None,
        path_column: str = "path",
        errors: str = "raise",
    ) -> None:
        self.engine = as_model(model).engine
        self.kind = TokenFormat.of(self.engine.spec, codebooks)
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
            "num_codebooks": [self.kind.num_codes() for _ in rows],
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
            with open_audio(path, mono=self.kind.channels_coded_together == 1) as reader:
                return code_audio(self.engine, len(self.kind.codebooks), reader)
        except Exception as error:  # no recording may end a pipeline that keeps errors
            if self._errors != "keep":
                raise AudioError(fault(str(path), error)) from error
            return uncodable(self.kind.num_codes(), fault(str(path), error))


def tokenize(
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    model: ModelLike = DEFAULT_MODEL,
    codebooks: int | None = None,
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
        codebooks: number of codebooks, the first ones of the model; all if None.
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
    engine, folder = as_model(model).engine, TokenFolder(out)
    kind = TokenFormat.of(engine.spec, codebooks)
    if not kind.fingerprint:
        raise CodecError("this model has no fingerprint yet: save_codec() and load_codec() it")
    folder.prepare(force=force)
    found = find_recordings(sources, path_column=path_column, cache=folder.progress)
    if not found.recordings and not found.unusable:
        raise CodecError(f"no audio in {', '.join(map(str, sources))}: name other sources")
    writer = LAYOUTS[layout](kind, found.recordings)
    shards = _divide(found.recordings, shard_hours * 3600)
    folder.begin(_job(kind, layout, shards))
    states = [ShardState.of(shard) for shard in shards]
    unfinished = [n for n, state in enumerate(states) if not folder.is_finished(n, state)]

    tasks = [task for number in unfinished for task in _tasks(number, shards[number])]
    work = partial(code_task, len(kind.codebooks))
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
            folder.add(
                number,
                writer,
                [row for row in rows if isinstance(row, Tokens)],
                [row for row in rows if isinstance(row, Unusable)],
                states[number],
                [coded[n].digest for n in sorted(coded)],
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
    facts = kind.to_dict()
    digest = hashlib.sha256(json.dumps([facts.pop("format"), layout, facts]).encode())
    for shard in shards:
        for recording in shard:
            clip = recording.clip
            where = [clip.offset, clip.size, clip.num_samples, clip.sample_rate, clip.channels]
            row = [recording.id, recording.path, where, recording.columns]
            digest.update(json.dumps(row, default=repr).encode())
        digest.update(b"\n")
    return digest.hexdigest()


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
