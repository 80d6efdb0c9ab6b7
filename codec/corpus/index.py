"""Index the audio in a folder: list every clip with its length and class, without decoding.

A clip is an audio file, or a member of a tar shard in WebDataset format, read in place (members
with other suffixes, such as ``key.json``, are ignored). Needs no torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from tqdm import tqdm

from codec.corpus.shards import ARCHIVE_FAULTS, SHARD_SUFFIX, member_fault, members
from codec.errors import AudioError
from codec.io.audio import SUFFIXES, AudioReader, open_audio
from codec.io.outputs import write_atomically
from codec.io.pipes import is_terminal
from codec.io.views import FileView

Item = TypeVar("Item")

logger = logging.getLogger(__name__)

CACHE_VERSION = 2
# Reading headers waits for the disk, not for the processor, so use more threads than cores.
THREADS = 16
# No format needs fewer bytes, even for silence: a header that claims a longer duration is wrong.
MIN_BYTES_PER_SECOND = 5


@dataclass(frozen=True)
class Clip:
    """One audio file or shard member.

    Attributes:
        path: path of the file or shard relative to the folder, with ``/`` as separator.
        member: name within the shard; empty for a file.
        offset: position of the audio data within the shard in bytes; None for a file.
        size: size of the audio data in bytes.
        num_samples: samples per channel, as far as they can be counted without decoding.
        sample_rate: sampling rate in Hz.
        channels: number of channels.
        sound_class: class of the recording: the first subfolder that contains it or, at the top
            level, the beginning of its name up to the first underscore. Members of a shard are
            classified as if they were extracted in place of the shard.

    Example:
        >>> clip = Clip("music/a.flac", "", None, 4096, 48_000, 24_000, 1, "music")
        >>> clip.name, clip.seconds
        ('music/a.flac', 2.0)
    """

    path: str
    member: str
    offset: int | None
    size: int
    num_samples: int
    sample_rate: int
    channels: int
    sound_class: str

    @property
    def name(self) -> str:
        """Name for reports: the path, followed by the member's name for a clip in a shard."""
        return f"{self.path}/{self.member}" if self.member else self.path

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.num_samples / self.sample_rate


@dataclass(frozen=True)
class Index:
    """The audio found in a folder."""

    folder: Path
    clips: tuple[Clip, ...]  # all usable ones, sorted by name
    skipped: dict[str, str]  # for each unusable file or shard member, by name, one line why

    @property
    def hours(self) -> float:
        return sum(clip.seconds for clip in self.clips) / 3600

    @property
    def hours_by_class(self) -> dict[str, float]:
        """Duration of each class in hours, sorted by class name."""
        hours = dict.fromkeys(sorted({clip.sound_class for clip in self.clips}), 0.0)
        for clip in self.clips:
            hours[clip.sound_class] += clip.seconds / 3600
        return hours


@dataclass(frozen=True, order=True)
class _File:
    """A directory entry; a file with the same size and modification time has not changed."""

    path: str
    size: int
    mtime_ns: int


def scan(folder: Path, cache: Path | None = None) -> Index:
    """Find all audio in ``folder``, its subfolders and its shards.

    Args:
        folder: folder to search; symbolic links are followed, and no folder is visited twice.
        cache: JSON file that stores the result, so that the next scan opens only new and changed
            files. A damaged cache, or one that belongs to another folder, is replaced.

    Returns:
        The index of all usable clips, with the reason for each one that was skipped.

    Raises:
        AudioError: the folder contains no usable audio.

    Example:
        >>> import numpy as np, soundfile
        >>> Path("corpus/birds").mkdir(parents=True)
        >>> soundfile.write("corpus/birds/owl.wav", np.zeros(8_000), 8_000)
        >>> index = scan(Path("corpus"))
        >>> [(clip.name, clip.sound_class, clip.seconds) for clip in index.clips]
        [('birds/owl.wav', 'birds', 1.0)]
    """
    if not folder.is_dir():
        raise AudioError(f"{folder} is not a folder: give a folder that contains audio")
    index = index_folder(folder, cache)
    skipped = index.skipped
    for reason in skipped.values():
        logger.warning("skipped: %s", reason)
    if not index.clips:
        tried = f"none of {len(skipped)} files with an audio suffix can be used" if skipped else ""
        raise AudioError(
            f"no audio in {folder}: {tried or 'give a folder of wav, flac, mp3, ogg or tar files'}"
        )
    return index


def index_folder(folder: Path, cache: Path | None = None) -> Index:
    """The index that `scan` returns; nothing is logged or raised, and it may have no clips."""
    skipped: dict[str, str] = {}
    return _index(folder, sorted(_walk(folder, skipped)), skipped, cache)


def index_files(folder: Path, names: Iterable[str]) -> Index:
    """Index files and shards that are named, whatever their suffix; nothing is logged or raised.

    The names are relative to the folder, with ``/`` as separator; a ``.tar`` is a shard.
    """
    skipped: dict[str, str] = {}
    files = sorted({file for name in names if (file := _file(folder, name, skipped))})
    return _index(folder, files, skipped, None)


@contextmanager
def open_clip(folder: Path, clip: Clip, *, mono: bool = False) -> Iterator[AudioReader]:
    """Open a clip for reading.

    Args:
        folder: the folder that was indexed.
        clip: a clip of that index.
        mono: mix all channels down to one.

    Yields:
        A reader positioned at the first sample.

    Raises:
        AudioError: the clip cannot be opened, or is not audio.

    Example:
        >>> import numpy as np, soundfile
        >>> Path("corpus").mkdir()
        >>> soundfile.write("corpus/owl.wav", np.zeros(8_000), 8_000)
        >>> folder = Path("corpus")
        >>> with open_clip(folder, scan(folder).clips[0]) as reader:
        ...     reader.read(100).shape
        (1, 100)
    """
    with ExitStack() as stack:
        path = folder / clip.path
        source: Path | FileView = path
        if clip.offset is not None:
            try:
                # Unbuffered, so that on a network disk a crop fetches only the bytes it needs.
                shard = stack.enter_context(path.open("rb", buffering=0))
            except OSError as error:
                raise AudioError(f"{clip.path} cannot be opened: {error.strerror}") from error
            source = FileView(shard, [(clip.offset, clip.size)])
        yield stack.enter_context(open_audio(source, mono=mono, name=clip.name))


def clip_digest(folder: Path, clip: Clip) -> str:
    """SHA-256 of the bytes of a clip of the index of a folder, in hexadecimal digits.

    Raises:
        OSError: the clip cannot be read.
    """
    with (folder / clip.path).open("rb", buffering=0) as file:
        source = file if clip.offset is None else FileView(file, [(clip.offset, clip.size)])
        return hashlib.file_digest(source, "sha256").hexdigest()


def fault(name: str, error: Exception) -> str:
    """Why the recording ``name`` cannot be used, in one line.

    Example:
        >>> fault("owl.wav", ValueError("embedded null byte")), fault("owl.wav", MemoryError())
        ('owl.wav cannot be read: embedded null byte', 'owl.wav cannot be read: MemoryError')
    """
    if isinstance(error, AudioError):  # it names the recording
        return " ".join(str(error).split())
    return f"{' '.join(name.split())} cannot be read: {why(error)}"


def why(error: Exception) -> str:
    """What an error says, in one line."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return " ".join(reason.split()) or type(error).__name__


def with_bar(items: Iterable[Item], title: str, total: int) -> Iterable[Item]:
    """The items, one for each file, with a progress bar on a terminal."""
    hidden = not is_terminal()
    shown: Iterable[Item] = tqdm(items, title, total, disable=hidden, leave=False, unit="file")
    return shown


def by_duration(
    items: Iterable[Item], seconds_of: Callable[[Item], float], most: float
) -> Iterator[list[Item]]:
    """Consecutive items that last up to ``most`` seconds together, or one longer item."""
    group: list[Item] = []
    seconds = 0.0
    for item in items:
        if group and seconds + seconds_of(item) > most:
            yield group
            group, seconds = [], 0.0
        group.append(item)
        seconds += seconds_of(item)
    if group:
        yield group


def _index(folder: Path, files: list[_File], skipped: dict[str, str], cache: Path | None) -> Index:
    remembered = _read_cache(cache, folder) if cache else {}
    found: dict[_File, list[Clip]] = {file: remembered.get(file, []) for file in files}
    faulty: set[_File] = set()
    candidates: list[tuple[_File, Clip]] = []
    for file in (file for file in files if file not in remembered):
        before = len(skipped)
        candidates += [(file, clip) for clip in _candidates(folder, file, skipped)]
        if len(skipped) > before:  # perhaps a member only
            faulty.add(file)
    with ThreadPoolExecutor(THREADS) as pool:
        measured = pool.map(lambda candidate: _measure(folder, candidate[1]), candidates)
        shown = with_bar(measured, "scanning audio", len(candidates))
        for (file, clip), result in zip(candidates, shown):
            if isinstance(result, Clip):
                found[file].append(result)
            else:
                skipped[clip.name] = result
                faulty.add(file)

    # Some faults (permissions, a disk) are repaired without a change of size or modification
    # time, so skipped files are not cached and are opened again by the next scan.
    sound = {file: clips for file, clips in found.items() if file not in faulty}
    clips = sorted((clip for each in found.values() for clip in each), key=lambda clip: clip.name)
    if cache and clips and sound != remembered:
        _write_cache(cache, folder, sound)
    return Index(folder, tuple(clips), dict(sorted(skipped.items())))


def _file(folder: Path, relative: str, skipped: dict[str, str]) -> _File | None:
    """The directory entry of a file, or None if it is unusable."""
    try:
        status = (folder / relative).stat()
    except (OSError, ValueError) as error:  # missing, a dangling link, or a NUL in the name
        skipped[relative] = f"{relative} cannot be opened: {why(error)}"
        return None
    if not stat.S_ISREG(status.st_mode):
        skipped[relative] = f"{relative} is not a regular file"
        return None
    return _File(relative, status.st_size, status.st_mtime_ns)


def _walk(folder: Path, skipped: dict[str, str]) -> Iterator[_File]:

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
        folders.sort()  # if two links lead to the same folder, always follow the same one
        for name in names:
            path = Path(root) / name
            relative = path.relative_to(folder).as_posix()
            if path.suffix.lower() not in {*SUFFIXES, SHARD_SUFFIX}:
                continue
            if file := _file(folder, relative, skipped):
                yield file


def _candidates(folder: Path, file: _File, skipped: dict[str, str]) -> list[Clip]:
    """Clips that a file may contain, with lengths and rates not yet known."""
    if not file.path.lower().endswith(SHARD_SUFFIX):
        sound_class = _class_of(folder, file.path, "")
        return [Clip(file.path, "", None, file.size, 0, 0, 0, sound_class)]
    clips: list[Clip] = []
    try:
        with tarfile.open(folder / file.path, "r:") as shard:
            for member in members(shard):
                if PurePosixPath(member.name).suffix.lower() not in SUFFIXES or member.isdir():
                    continue
                sound_class = _class_of(folder, file.path, member.name)
                place = (member.name, member.offset_data, member.size)
                clip = Clip(file.path, *place, 0, 0, 0, sound_class)
                if reason := member_fault(member, file.size):
                    skipped[clip.name] = f"{clip.name} {reason}"
                else:
                    clips.append(clip)
    except ARCHIVE_FAULTS as error:
        # Members found before the fault remain usable.
        skipped[file.path] = f"{file.path} cannot be read to its end: {why(error)}"
    return clips


def _measure(folder: Path, clip: Clip) -> Clip | str:
    """The clip with length, rate and channels from its header, or the reason to skip it."""
    try:
        with open_clip(folder, clip) as reader:
            names = ("num_samples", "sample_rate", "channels")
            clip = dataclasses.replace(clip, **{name: getattr(reader, name) for name in names})
    except Exception as error:  # no file may end the search for others
        return fault(clip.name, error)
    if not clip.num_samples:
        return f"{clip.name} contains no samples"
    if _claims_too_much(clip):
        return f"{clip.name} is too small for the {clip.num_samples} samples that its header claims"
    return clip


def _claims_too_much(clip: Clip) -> bool:
    return clip.num_samples * MIN_BYTES_PER_SECOND > clip.size * clip.sample_rate


def _class_of(folder: Path, path: str, member: str) -> str:
    """The class of a recording, as if every shard were extracted in its place."""
    place = PurePosixPath(path)
    place = place.parent / member.lstrip("/") if member else place
    if len(place.parts) > 1:
        return place.parts[0]
    start, underscore, _ = place.name.partition("_")
    return start if start and underscore else folder.resolve().name


def _read_cache(cache: Path, folder: Path) -> dict[_File, list[Clip]]:
    """Clips stored by an earlier scan; empty if the cache is missing, damaged or foreign."""
    try:
        stored: Any = json.loads(cache.read_text("utf-8"))
        if stored["version"] != CACHE_VERSION or stored["folder"] != _digest_of(folder):
            return {}
        found: dict[_File, list[Clip]] = {}
        for path, size, mtime_ns, rows in stored["files"]:
            clips = [Clip(*[path, *row, _class_of(folder, path, row[0])]) for row in rows]
            if not all(_is_sound(clip, size) for clip in clips):
                return {}
            found[_File(path, size, mtime_ns)] = clips
        return found
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}


def _is_sound(clip: Clip, file_size: int) -> bool:
    """Whether a clip from a cache can be in a file of that size."""
    numbers = [clip.size, clip.num_samples, clip.sample_rate, clip.channels]
    numbers += [] if clip.offset is None else [clip.offset]
    are_whole = all(isinstance(number, int) and number > 0 for number in numbers)
    return are_whole and (clip.offset or 0) + clip.size <= file_size and not _claims_too_much(clip)


def _write_cache(cache: Path, folder: Path, found: dict[_File, list[Clip]]) -> None:
    files = [
        [*dataclasses.astuple(file), [list(dataclasses.astuple(clip)[1:-1]) for clip in clips]]
        for file, clips in found.items()
    ]
    content = {"version": CACHE_VERSION, "folder": _digest_of(folder), "files": files}
    cache.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(cache, json.dumps(content).encode())


def _digest_of(folder: Path) -> str:
    """Stands for the path of a folder, which is nobody's business but its owner's."""
    return hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()
