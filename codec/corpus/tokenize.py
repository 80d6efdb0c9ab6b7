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
from codec.corpus.coding import Coded, Task, code_audio, code_task, uncodable
from codec.corpus.index import by_duration, fault
from codec.corpus.ray_data import Cluster
from codec.corpus.sources import PATH_COLUMNS, Recording, Unusable, find_recordings
from codec.corpus.tokens.folder import TokenFolder
from codec.corpus.tokens.format import TokenFormat, Tokens
from codec.corpus.tokens.naming import ERRORS
from codec.corpus.tokens.writing import LAYOUTS
from codec.corpus.workers import in_order
from codec.errors import AudioError, CodecError
from codec.io.audio import open_audio
from codec.io.outputs import write_atomically
from codec.model_folder import DEFAULT_MODEL
from codec.registry import ModelLike, as_model

MAX_WORKERS = 10_000
TASK_SECONDS = 60.0
"""Audio in what a worker is given at once, or one longer recording: less would be too much talk."""

Progress = Callable[[float, float], None]
"""Called with the seconds of audio that are done and those to do in all."""


@dataclass(frozen=True)
class Shards:
    """How tokens are divided into files.

    Attributes:
        layout: ``"parquet"``, ``"webdataset"`` or ``"codes"``.
        hours: audio in a shard; 10 hours are about 30 MB at 6 kbit/s.

    Raises:
        CodecError: there is no such layout, or the hours are out of range.
    """

    layout: str = "parquet"
    hours: float = 10.0

    def __post_init__(self) -> None:
        if not isinstance(self.layout, str) or self.layout not in LAYOUTS:
            raise CodecError(f"no layout {shown(self.layout)}: choose one of {', '.join(LAYOUTS)}")
        check_number("hours", self.hours, 0, 1e6)


@dataclass(frozen=True)
class Outcome:
    """What is in a folder of tokens."""

    num_recordings: int  # that were coded
    num_errors: int  # recordings that could not be coded
    hours: float  # duration of the recordings coded
    num_shards: int
    num_written: int  # shards that were written now, and not by an earlier run
    seconds: float  # how long this run took


class TooManyErrorsError(CodecError):
    """More recordings than are allowed could not be coded."""


class Tokenizer:
    """Codes recordings; also as a step of a pipeline of one's own.

    An instance takes a batch of columns and returns it with more columns, as ``map`` of the
    package ``datasets`` and ``map_batches`` of Ray Data want it.

    Args:
        model: an engine, a `Codec`, the name of a packaged model or a model folder.
        codebooks: number of codebooks, the first ones of the model; all if None.
        path_column: column of the paths of audio files, in batches or manifests; that of
            `PATH_COLUMNS` which is there if None.
        errors: of batches: ``"raise"``, or ``"keep"`` to leave the codes of what cannot be read
            empty and name the reason in a column ``error``.

    Attributes:
        engine: the model.
        kind: what all codes have in common.
        path_column: as given.

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
        path_column: str | None = None,
        errors: str = "raise",
    ) -> None:
        if path_column is not None:
            check_type("path_column", path_column, str)
        self.engine = as_model(model).engine
        self.kind = TokenFormat.of(self.engine.spec, codebooks)
        self.path_column, self._errors = path_column, errors

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
        named = (name for name in PATH_COLUMNS if name in batch)
        column = self.path_column or next(named, PATH_COLUMNS[0])
        rows, kind = [self._code_file(Path(str(path))) for path in batch[column]], self.kind
        added: dict[str, Any] = {
            "codes": [row.frames.ravel() for row in rows],
            "num_frames": [len(row.frames) for row in rows],
            "num_codebooks": [kind.num_codes()] * len(rows),
            "duration_seconds": [row.num_samples / max(1, row.sample_rate) for row in rows],
            "sample_rate": [row.sample_rate for row in rows],
            "model": [kind.model] * len(rows),
            "fingerprint": [kind.fingerprint] * len(rows),
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
    tokenizer: Tokenizer | None = None,
    *,
    shards: Shards | None = None,
    workers: int | Cluster = 1,
    max_errors: int | None = None,
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
        tokenizer: model and number of codebooks, and the column of the paths in manifests.
        shards: how the tokens are divided into files.
        workers: number of processes, see `codec.corpus.workers.in_order`, or a
            `codec.corpus.ray_data.Cluster`.
        max_errors: recordings that may be unusable; any number if None.
        force: start again where ``out`` holds other tokens.
        progress: called with the seconds of audio that are done and those to do.

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
    for source in sources:
        check_path("source", source)
    if not isinstance(workers, Cluster):
        workers = check_whole("workers", workers, 1, MAX_WORKERS)
    if max_errors is not None:
        max_errors = check_whole("max_errors", max_errors, 0, 2**63)
    folder, force = TokenFolder(check_path("out", out)), check_flag("force", force)
    job = _Job(tokenizer or Tokenizer(), shards or Shards(), sources, folder, force)
    job.run(workers, max_errors, progress)
    return job.outcome(time.monotonic() - started)


class _Job:
    """What is to be coded, divided into shards, and which of them are to be written."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        shards: Shards,
        sources: Sequence[str | Path],
        folder: TokenFolder,
        force: bool,
    ) -> None:
        if not sources:
            raise CodecError("no source is given: name folders, shards or manifests")
        self._engine, self._kind, self._folder = tokenizer.engine, tokenizer.kind, folder
        if not self._kind.fingerprint:
            raise CodecError("this model has no fingerprint yet: save_codec() and load_codec() it")
        folder.prepare(force=force)
        column = tokenizer.path_column
        found = find_recordings(sources, path_column=column, cache=folder.progress)
        if not found.recordings and not found.unusable:
            raise CodecError(f"no audio in {', '.join(map(str, sources))}: name other sources")
        self._found, self._layout = found, shards.layout
        self._writer = LAYOUTS[shards.layout](self._kind, found.recordings)
        seconds = shards.hours * 3600
        self._shards = [*by_duration(found.recordings, lambda each: each.clip.seconds, seconds)]
        folder.begin(_digest(self._kind, shards.layout, self._shards))
        self._unfinished = [
            n for n, shard in enumerate(self._shards) if not folder.is_finished(n, shard)
        ]

    def run(
        self, workers: int | Cluster, max_errors: int | None, progress: Progress | None
    ) -> None:
        """Write all shards that are not finished."""
        tasks = [task for n in self._unfinished for task in _tasks(n, self._shards[n])]
        work = partial(code_task, len(self._kind.codebooks))
        if isinstance(workers, Cluster):
            results = workers.run(self._engine, work, tasks)
        else:
            results = in_order(self._engine, work, tasks, min(workers, len(tasks)))
        self._failed, self._most = self._folder.errors(), max_errors
        counted = _counted(tasks, results, progress)
        try:
            for number, group in itertools.groupby(counted, key=lambda pair: pair[0].shard):
                self._add(number, group)
        finally:
            write_atomically(self._folder.out / ERRORS, self._error_lines())

    def _add(self, number: int, group: Iterable[tuple[Task, list[Coded]]]) -> None:
        """Write a shard from the outcomes of its tasks."""
        shard, by_position = self._shards[number], dict[int, Coded]()
        for task, outcomes in group:
            for position, outcome in zip(task.positions, outcomes, strict=True):
                by_position[position] = outcome
                if outcome.reason:
                    self._failed.append(Unusable(shard[position].id, outcome.reason))
            self._check(self._failed, "work ended; the same command continues it")
        coded = [by_position[n] for n in range(len(shard))]
        pairs = [*zip(shard, coded, strict=True)]
        rows = [
            Tokens(self._kind, r.id, r.path, c.frames, c.num_samples, c.sample_rate, r.columns)
            for r, c in pairs
            if not c.reason
        ]
        failed = [Unusable(r.id, c.reason) for r, c in pairs if c.reason]
        self._folder.add(number, self._writer, rows, failed, [each.digest for each in coded])

    def _check(self, errors: Sequence[Unusable], rest: str) -> None:
        if self._most is not None and len(errors) > self._most:
            raise TooManyErrorsError(
                f"{len(errors)} recordings could not be coded, {self._most} are allowed "
                f"(see {ERRORS}): {rest}"
            )

    def _error_lines(self) -> bytes:
        errors = [*self._found.unusable, *self._failed]
        errors.sort(key=lambda error: (error.id, error.reason))
        lines = (json.dumps(asdict(error), ensure_ascii=False) + "\n" for error in errors)
        return "".join(lines).encode()

    def outcome(self, seconds: float) -> Outcome:
        """Complete the folder; a `TooManyErrorsError` if more is unusable than may be."""
        manifest = self._folder.finish(self._kind, self._layout, self._found)
        self._check([*self._found.unusable, *self._failed], "all others are done")
        facts = {name: manifest[name] for name in ("num_recordings", "num_errors", "hours")}
        made = {"num_shards": len(self._shards), "num_written": len(self._unfinished)}
        return Outcome(**facts, **made, seconds=seconds)


def _tasks(shard: int, recordings: Sequence[Recording]) -> Iterator[Task]:
    """Long recordings first: begun last, one of them would keep a worker busy after all others."""
    order = sorted(range(len(recordings)), key=lambda n: -recordings[n].clip.seconds)
    for group in by_duration(order, lambda n: recordings[n].clip.seconds, TASK_SECONDS):
        clips = tuple((recordings[n].folder, recordings[n].clip) for n in group)
        yield Task(shard, tuple(group), clips)


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


def _digest(kind: TokenFormat, layout: str, shards: Sequence[Sequence[Recording]]) -> str:
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
