"""The index of a folder of audio: every piece of it, found and measured without decoding.

A piece is a file that libsndfile reads, or a member of a tar shard in WebDataset form
(``key.flac`` beside other members of the same key, which are ignored), read in place. No torch.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import stat
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from codec.errors import AudioError
from codec.io.audio import SUFFIXES, AudioReader, FileSection, open_audio
from codec.io.outputs import write_atomically

logger = logging.getLogger(__name__)

CACHE_VERSION = 1
SHARD_SUFFIX = ".tar"
# Headers are small and disks far: more threads than processors.
THREADS = 16
# No coding is this thin, silence included: a header that promises more seconds is wrong.
MIN_BYTES_PER_SECOND = 5


@dataclass(frozen=True)
class Clip:
    """One piece of audio.

    Attributes:
        path: of the file or shard, relative to the folder, with ``/``.
        member: name within the shard, empty for a file.
        offset: where the audio file starts in the shard, in bytes; None for a file.
        size: of the audio file, in bytes.
        num_samples: per channel, as its header says.
        sample_rate: in samples per second.
        channels: how many.
        kind: class of sound: the first folder that it lies in, or else the beginning of its name
            up to the first underscore. A shard counts as if its members lay in its place.
    """

    path: str
    member: str
    offset: int | None
    size: int
    num_samples: int
    sample_rate: int
    channels: int
    kind: str

    @property
    def name(self) -> str:
        """What the clip is called wherever it is listed."""
        return f"{self.path}/{self.member}" if self.member else self.path

    @property
    def seconds(self) -> float:
        return self.num_samples / self.sample_rate


@dataclass(frozen=True)
class Index:
    """What a folder holds.

    Attributes:
        folder: that was searched.
        clips: sorted by name.
        skipped: for each name that looked like audio but is not usable, one line that says why.
    """

    folder: Path
    clips: tuple[Clip, ...]
    skipped: dict[str, str]

    @property
    def hours(self) -> float:
        return sum(clip.seconds for clip in self.clips) / 3600

    @property
    def hours_by_kind(self) -> dict[str, float]:
        """Hours of every class, sorted by name."""
        hours = dict.fromkeys(sorted({clip.kind for clip in self.clips}), 0.0)
        for clip in self.clips:
            hours[clip.kind] += clip.seconds / 3600
        return hours


@dataclass(frozen=True, order=True)
class _File:
    """A file as the folder lists it; equal size and time mean that it has not changed."""

    path: str
    size: int
    mtime_ns: int


def scan(folder: Path, cache: Path | None = None) -> Index:
    """Find all audio under ``folder``, in its subfolders and shards.

    Args:
        folder: searched through; links are followed, but no folder is entered twice.
        cache: JSON file that remembers what was found, so that only new and changed files are
            opened the next time. A damaged one, or one of another folder, is made anew.

    Raises:
        AudioError: there is no usable audio.
    """
    if not folder.is_dir():
        raise AudioError(f"{folder} is not a folder: give one that holds audio")
    skipped: dict[str, str] = {}
    files = sorted(_walk(folder, skipped))
    remembered = _read_cache(cache, folder) if cache else {}
    known = {file: clips for file in files if (clips := remembered.get(file)) is not None}
    fresh: dict[_File, list[Clip]] = {file: [] for file in files if file not in known}
    faulty: set[str] = set()

    candidates = [(file, clip) for file in fresh for clip in _candidates(folder, file, skipped)]
    with ThreadPoolExecutor(THREADS) as pool:
        measured = pool.map(lambda candidate: _measure(folder, candidate[1]), candidates)
        progress = tqdm(
            measured, "scanning audio", len(candidates), disable=None, leave=False, unit="file"
        )
        for (file, clip), result in zip(candidates, progress):
            if isinstance(result, Clip):
                fresh[file].append(result)
            else:
                skipped[clip.name] = result
                faulty.add(file.path)
    for _, reason in sorted(skipped.items()):
        logger.warning("skipped: %s", reason)

    found = known | fresh
    # A fault may be mended without a trace in size or time (rights, a disk): look again next time.
    faulty |= skipped.keys()
    sound = {file: clips for file, clips in found.items() if file.path not in faulty}
    clips = sorted((clip for each in found.values() for clip in each), key=lambda clip: clip.name)
    if not clips:
        tried = f"none of {len(skipped)} files that look like it can be used" if skipped else ""
        raise AudioError(
            f"no audio under {folder}: {tried or 'give a folder of wav, flac, mp3, ogg or tar'}"
        )
    if cache and sound != remembered:
        _write_cache(cache, folder, sound)
    return Index(folder, tuple(clips), dict(sorted(skipped.items())))


@contextmanager
def open_clip(folder: Path, clip: Clip, *, mono: bool = False) -> Iterator[AudioReader]:
    """Open a clip for reading.

    Raises:
        AudioError: it cannot be opened, or is not audio.
    """
    if clip.offset is None:
        with open_audio(folder / clip.path, mono=mono, name=clip.name) as reader:
            yield reader
        return
    try:
        # Unbuffered: on a far disk a crop fetches what it needs and no more.
        shard = (folder / clip.path).open("rb", buffering=0)
    except OSError as error:
        raise AudioError(f"{clip.path} cannot be opened: {error.strerror}") from error
    with shard:
        section = FileSection(shard, clip.offset, clip.size)
        with open_audio(section, mono=mono, name=clip.name) as reader:
            yield reader


def _walk(folder: Path, skipped: dict[str, str]) -> Iterator[_File]:
    """Every file with a suffix of audio or shards."""

    def note(error: OSError) -> None:
        name = Path(error.filename).relative_to(folder).as_posix()
        skipped[name] = f"{name} cannot be opened: {error.strerror}"

    entered = set()
    for root, folders, names in os.walk(folder, followlinks=True, onerror=note):
        place = os.path.realpath(root)
        if place in entered:
            folders.clear()
            continue
        entered.add(place)
        folders.sort()  # so that of two links to a folder always the same one is taken
        for name in names:
            path = Path(root) / name
            relative = path.relative_to(folder).as_posix()
            if path.suffix.lower() not in {*SUFFIXES, SHARD_SUFFIX}:
                continue
            try:
                status = path.stat()
            except OSError as error:  # a link to nowhere, or one that was taken away just now
                skipped[relative] = f"{relative} cannot be opened: {error.strerror}"
                continue
            if stat.S_ISREG(status.st_mode):
                yield _File(relative, status.st_size, status.st_mtime_ns)
            else:
                skipped[relative] = f"{relative} is not a regular file"


def _candidates(folder: Path, file: _File, skipped: dict[str, str]) -> list[Clip]:
    """What may be audio in a file, not yet measured."""
    if not file.path.lower().endswith(SHARD_SUFFIX):
        kind = _kind(folder, _place(file.path, ""))
        return [Clip(file.path, "", None, file.size, 0, 0, 0, kind)]
    members = []
    try:
        with tarfile.open(folder / file.path, "r:") as shard:
            for member in shard:
                suffix = PurePosixPath(member.name).suffix.lower()
                if not member.isreg() or member.issparse() or suffix not in SUFFIXES:
                    continue
                kind = _kind(folder, _place(file.path, member.name))
                place = (member.name, member.offset_data, member.size)
                clip = Clip(file.path, *place, 0, 0, 0, kind)
                if member.offset_data + member.size > file.size:
                    skipped[clip.name] = f"{clip.name} is cut short, with its shard"
                else:
                    members.append(clip)
    except (OSError, tarfile.TarError) as error:
        # What was found before the fault stays.
        reason = error.strerror if isinstance(error, OSError) else error
        skipped[file.path] = f"{file.path} cannot be read to its end: {reason}"
    return members


def _measure(folder: Path, clip: Clip) -> Clip | str:
    """The clip as its header describes it, or what is wrong with it."""
    try:
        with open_clip(folder, clip) as reader:
            clip = dataclasses.replace(
                clip,
                num_samples=reader.num_samples,
                sample_rate=reader.sample_rate,
                channels=reader.channels,
            )
    except AudioError as error:
        return str(error)
    except OSError as error:
        return f"{clip.name} cannot be opened: {error.strerror}"
    if not clip.num_samples:
        return f"{clip.name} holds no samples"
    if clip.seconds > clip.size / MIN_BYTES_PER_SECOND:
        return f"{clip.name} cannot hold the {clip.num_samples} samples that its header promises"
    return clip


def _place(path: str, member: str) -> PurePosixPath:
    """Where audio lies, shards seen as the folders that they were made from."""
    return PurePosixPath(path).parent / member.lstrip("/") if member else PurePosixPath(path)


def _kind(folder: Path, path: PurePosixPath) -> str:
    if len(path.parts) > 1:
        return path.parts[0]
    start, underscore, _ = path.name.partition("_")
    return start if start and underscore else folder.resolve().name


def _read_cache(cache: Path, folder: Path) -> dict[_File, list[Clip]]:
    """What was found before; nothing if that cannot be told."""
    try:
        stored: Any = json.loads(cache.read_text("utf-8"))
        if stored["version"] != CACHE_VERSION or stored["folder"] != str(folder.resolve()):
            return {}
        found: dict[_File, list[Clip]] = {}
        for path, size, mtime_ns, clips in stored["files"]:
            found[_File(path, size, mtime_ns)] = [
                Clip(path, *facts, kind=_kind(folder, _place(path, facts[0])))  # type: ignore[misc]
                for facts in clips
            ]
        for clip in (clip for clips in found.values() for clip in clips):
            numbers = [clip.size, clip.num_samples, clip.sample_rate, clip.channels]
            numbers += [] if clip.offset is None else [clip.offset]
            if not all(isinstance(number, int) and number > 0 for number in numbers):
                return {}
        return found
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def _write_cache(cache: Path, folder: Path, found: dict[_File, list[Clip]]) -> None:
    files = [
        [*dataclasses.astuple(file), [list(dataclasses.astuple(clip)[1:-1]) for clip in clips]]
        for file, clips in found.items()
    ]
    content = {"version": CACHE_VERSION, "folder": str(folder.resolve()), "files": files}
    cache.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(cache, json.dumps(content).encode())
