"""A folder of tokens: its manifest and card, and notes about which shards are finished."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from codec.corpus.index import clip_digest
from codec.corpus.sources import Recording, Sources, Unusable, shortened
from codec.corpus.tokens.format import TokenFormat, Tokens
from codec.corpus.tokens.naming import CARD, ERRORS, MANIFEST, PROGRESS, is_shard_name
from codec.corpus.tokens.writing import Layout
from codec.errors import CodecError, FormatError
from codec.io.outputs import UNFINISHED, write_atomically


def check_regular(path: Path, folder: Path | None = None) -> None:
    """Check that a path is that of a regular file, in ``folder`` if that is given.

    Devices and pipes may never end.

    Raises:
        CodecError: it is something else, elsewhere, or nothing.
    """
    if not path.exists():
        raise CodecError(f"{path} cannot be opened: there is no such file; check the path")
    if not path.is_file():
        raise CodecError(f"{path} is not a regular file: give files that aecodec tokenize wrote")
    if folder is not None and not path.resolve().is_relative_to(folder.resolve()):
        raise CodecError(f"{path} is a link out of {folder}: copy the file itself into it")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder of tokens.

    Raises:
        FormatError: it is damaged, of another version, or names files that are none of tokens.
        OSError: there is none.
    """
    path = folder / MANIFEST
    check_regular(path)
    text = path.read_bytes()
    try:
        manifest = dict(json.loads(text))
        for shard in manifest["shards"]:
            _files(shard)
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise FormatError(f"{path} is not a manifest of tokens: {error!r}") from error
    TokenFormat.from_dict(manifest, str(path))
    return manifest


def file_digest(path: Path) -> str:
    """SHA-256 of a file in hexadecimal digits; a `CodecError` if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CodecError(f"{path} cannot be opened: {error.strerror}; check the path") from error


def check_shard(folder: Path, name: str, digest: str | None) -> None:
    """Check that a shard is a file inside its folder, and has its hash if that is known.

    Raises:
        CodecError: it is missing, damaged or elsewhere.
    """
    path = folder / name
    check_regular(path, folder)
    if digest is not None and (found := file_digest(path)) != digest:
        raise FormatError(
            f"{path} is damaged: its SHA-256 is {found[:16]}, the manifest says {digest[:16]}; "
            f"copy it again, or delete {MANIFEST} to read it as it is"
        )


def shard_names(folder: Path) -> list[tuple[str, str | None]]:
    """Names of the shards of a folder with their hashes, which only a manifest knows."""
    if (folder / MANIFEST).exists():
        return [file for shard in read_manifest(folder)["shards"] for file in _files(shard)]
    if (folder / PROGRESS).exists():
        raise CodecError(f"{folder} is not finished: run the same aecodec tokenize again")
    for pattern in ("*.parquet", "*.tar", "**/*.codes"):
        found = (path for path in folder.glob(pattern) if not path.is_dir())
        if names := sorted(path.relative_to(folder).as_posix() for path in found):
            return [(name, None) for name in names]
    raise CodecError(f"{folder} holds no tokens: give a folder that aecodec tokenize wrote")


def _digest(facts: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _times(recordings: Sequence[Recording]) -> str:
    """Digest of the sizes and times of the files of recordings."""
    paths = [Path(recording.folder, recording.clip.path) for recording in recordings]
    times: dict[Path, list[int]] = {path: [] for path in paths}
    for path in times:
        with suppress(OSError):  # it has gone, which is found when it is read
            status = path.stat()
            times[path] = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    return _digest([times[path] for path in paths])


def _contents(recordings: Sequence[Recording]) -> str:
    """Digest of all that recordings contain, from the digests of what is coded."""
    digests = [""] * len(recordings)
    for number, recording in enumerate(recordings):
        with suppress(OSError):
            digests[number] = clip_digest(Path(recording.folder), recording.clip)
    return _digest(digests)


class TokenFolder:
    """A folder of tokens, and the notes in it about what is done."""

    def __init__(self, out: Path) -> None:
        self.out, self.progress = out, out / PROGRESS
        self._notes: dict[int, dict[str, Any]] = {}
        self._outdated: dict[int, dict[str, Any]] = {}
        self._times: dict[int, str] = {}
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

    def is_finished(self, number: int, shard: Sequence[Recording]) -> bool:
        """Whether a shard is there, unchanged, and its recordings are still the same."""
        times = self._times[number] = _times(shard)
        if (note := self._notes.get(number)) is None:
            return False
        if self._is_whole(note) and (
            note["times"] == times or note["contents"] == _contents(shard)
        ):
            note["times"] = times
            return True
        self._outdated[number] = self._notes.pop(number)
        return False

    def _is_whole(self, note: dict[str, Any]) -> bool:
        with suppress(CodecError):
            for name, digest in _files(note):
                check_shard(self.out, name, digest)
            return True
        return False

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
        digests: Sequence[str],
    ) -> None:
        """Write a shard, of which `is_finished` was asked before, then the note that it is.

        The digests are the SHA-256 of each recording as it was read.
        """
        names = writer.write(self.out, number, rows)
        if number in self._outdated:
            self._remove({*_names(self._outdated.pop(number))} - {*names})
        paths = [self.out / name for name in names]
        self._notes[number] = note = {
            "files": [
                {"name": name, "bytes": path.stat().st_size, "sha256": file_digest(path)}
                for name, path in zip(names, paths, strict=True)
            ],
            "num_recordings": len(rows),
            "num_frames": sum(len(row.frames) for row in rows),
            "seconds": sum(row.duration_seconds for row in rows),
            "errors": [asdict(error) for error in failed],
            "times": self._times[number],
            "contents": _digest(digests),
        }
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
    facts, kind = manifest, TokenFormat.from_dict(manifest, "the manifest")
    sizes = " or ".join(map(str, sorted({each.size for each in kind.codebooks})))
    together = kind.channels_coded_together
    channels = "mono" if together == 1 else f"{together} channels"
    rows = {
        "model": kind.model,
        "fingerprint of the model": f"`{kind.fingerprint}`",
        "recordings": facts["num_recordings"],
        "hours": f"{facts['hours']:.3f}",
        "frames": f"{facts['num_frames']}, {float(kind.frame_rate):g} per second",
        "codes": f"{kind.num_codes()} per frame, each below {sizes}",
        "sampling rate of the model": f"{kind.sample_rate} Hz, {channels}",
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
    return [name for name, _ in _files(note)]


def _files(note: dict[str, Any]) -> list[tuple[str, str]]:
    """Names and hashes of the files of a shard, as a manifest or note has them.

    Raises:
        ValueError, LookupError or TypeError: it is damaged, or names files that are none of tokens.
    """
    files = [(file["name"], file["sha256"]) for file in note["files"]]
    for name, digest in files:
        if not is_shard_name(name):
            raise ValueError(f"it names {shortened(name)}, which it cannot hold")
        if not isinstance(digest, str):
            raise TypeError("a hash is not a string")
    return files


def _is_note(note: Any) -> bool:
    """Whether this is what `TokenFolder.add` writes: anybody may have changed it."""
    try:
        _files(note)
        return (
            all(isinstance(note[key], str) for key in ("times", "contents"))
            and all(type(note[key]) is int for key in ("num_recordings", "num_frames"))
            and isinstance(note["seconds"], int | float)
            and all({*error} == {"id", "reason"} for error in note["errors"])
            and all(isinstance(each, str) for error in note["errors"] for each in error.values())
        )
    except (LookupError, TypeError, ValueError, AttributeError):
        return False
