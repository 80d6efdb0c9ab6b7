"""What is to be coded: recordings in folders, globs, WebDataset shards and manifests."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codec.corpus.index import SHARD_SUFFIX, Clip, Index, index_files, index_folder
from codec.errors import CodecError

MANIFEST_SUFFIXES = (".jsonl", ".json", ".ndjson", ".parquet")
PATH_COLUMNS = ("path", "audio_filepath")
"""Columns of a manifest that may hold the path of a recording; the second is that of NeMo."""


@dataclass(frozen=True)
class Recording:
    """A recording to be coded.

    Attributes:
        id: name that no other recording has: the path relative to the common folder of all sources,
            or what a manifest gives.
        folder: folder that the clip is relative to.
        clip: where the audio is.
        columns: further columns of its row in a manifest.

    Example:
        >>> clip = Clip("owl.wav", "", None, 16_044, 8_000, 8_000, 1, "owl")
        >>> Recording("birds/owl.wav", "corpus/birds", clip).path
        'corpus/birds/owl.wav'
    """

    id: str
    folder: str
    clip: Clip
    columns: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Path of the file, or of the shard and the member in it."""
        return os.path.normpath(Path(self.folder, self.clip.name))


@dataclass(frozen=True)
class Unusable:
    """Something that cannot be coded.

    Attributes:
        id: as of a `Recording`.
        reason: one line.

    Example:
        >>> Unusable("owl.wav", "owl.wav is empty (0 bytes)").id
        'owl.wav'
    """

    id: str
    reason: str


@dataclass(frozen=True)
class Sources:
    """All recordings of some sources.

    Attributes:
        recordings: in the order of the sources; in a folder or shard, by name.
        unusable: what was found beside them.

    Example:
        >>> Sources((), (Unusable("a.wav", "a.wav contains no samples"),)).hours
        0.0
    """

    recordings: tuple[Recording, ...]
    unusable: tuple[Unusable, ...]

    @property
    def hours(self) -> float:
        """Total duration in hours."""
        return sum(recording.clip.seconds for recording in self.recordings) / 3600


def find_recordings(
    sources: Sequence[str | Path], *, path_column: str | None = None, cache: Path | None = None
) -> Sources:
    """Find the recordings that sources name, without decoding them.

    A recording that two sources name is taken once.

    Args:
        sources: folders, audio files, ``.tar`` shards in WebDataset format, manifests (Parquet or
            JSON lines, with paths relative to the manifest), or globs of any of these.
        path_column: column of the paths in manifests; that of `PATH_COLUMNS` which is there if
            None.
        cache: folder that remembers lengths, so that the next search opens new files only.

    Raises:
        CodecError: a source does not exist, or a manifest cannot be read.

    Example:
        >>> import numpy as np, soundfile
        >>> soundfile.write("owl.wav", np.zeros(8_000), 8_000)
        >>> _ = Path("birds.jsonl").write_text('{"id": "1", "path": "owl.wav", "bird": "owl"}')
        >>> for recording in find_recordings(["birds.jsonl"]).recordings:
        ...     print(recording.id, recording.path, recording.columns, recording.clip.seconds)
        1 owl.wav {'bird': 'owl'} 1.0
    """
    places = list(_expand(sources))
    root = _common_folder(places)
    recordings: dict[str, Recording] = {}
    unusable: list[Unusable] = []
    for number, place in enumerate(places):
        if place.suffix.lower() in MANIFEST_SUFFIXES:
            found = _from_manifest(place, path_column)
        elif place.is_dir():
            kept = cache / f"index-{number}.json" if cache else None
            found = _from_index(index_folder(place, kept), root)
        else:
            found = _from_index(index_files(place.parent, [place.name]), root)
        for item in found:
            if isinstance(item, Unusable):
                unusable.append(item)
                continue
            first = recordings.setdefault(item.id, item)
            if _place(first) != _place(item):
                reason = (
                    f"{item.path} has the id {item.id!r} of {first.path}: "
                    "give ids in a column 'id' of a manifest"
                )
                unusable.append(Unusable(item.id, reason))
    return Sources(tuple(recordings.values()), tuple(unusable))


def _expand(sources: Iterable[str | Path]) -> Iterator[Path]:
    for source in map(str, sources):
        matches = [source] if os.path.lexists(source) else sorted(glob.glob(source, recursive=True))  # noqa: PTH207
        if not matches:
            pattern = glob.has_magic(source)
            raise CodecError(
                f"nothing matches {source}: check the pattern"
                if pattern
                else f"{source} does not exist: check the path"
            )
        yield from map(Path, matches)


def _common_folder(places: list[Path]) -> Path:
    """The folder that ids are relative to."""
    folders = [os.path.abspath(place if place.is_dir() else place.parent) for place in places]  # noqa: PTH100
    return Path(os.path.commonpath(folders)) if folders else Path()


def _from_index(index: Index, root: Path) -> Iterator[Recording | Unusable]:
    start = os.path.relpath(index.folder, root)
    for clip in index.clips:
        yield Recording(_inner(start, clip.name), str(index.folder), clip)
    for name, reason in index.skipped.items():
        yield Unusable(_inner(start, name), reason)


def _place(recording: Recording) -> tuple[str, int | None]:
    return os.path.abspath(recording.path), recording.clip.offset  # noqa: PTH100


def _inner(start: str, name: str) -> str:
    return name if start == "." else f"{Path(start).as_posix()}/{name}"


def _from_manifest(manifest: Path, path_column: str | None) -> Iterator[Recording | Unusable]:
    rows: list[tuple[str, dict[str, Any]]] = []
    for row in _rows(manifest):
        if isinstance(row, Unusable):
            yield row
            continue
        columns = [path_column] if path_column else [name for name in PATH_COLUMNS if name in row]
        column = columns[0] if columns else PATH_COLUMNS[0]
        if column not in row:
            raise CodecError(
                f"{manifest} has no column {column!r}, only {', '.join(row)}: "
                "name the one with the paths by --path-column"
            )
        path = row.pop(column)
        if not isinstance(path, str) or not path:
            yield Unusable(str(path), f"{manifest} has {path!r} where a path should be")
        elif path.lower().endswith(SHARD_SUFFIX):
            yield Unusable(path, f"{path} is a shard in a manifest: give shards as sources")
        else:
            rows.append((path, row))
    index = index_files(manifest.parent, [path for path, _ in rows])
    clips = {clip.path: clip for clip in index.clips}
    for path, row in rows:
        given = row.pop("id", None)
        name = path if given is None else str(given)
        if path in clips:
            yield Recording(name, str(manifest.parent), clips[path], row)
        else:
            yield Unusable(name, index.skipped[path])


def _rows(manifest: Path) -> Iterator[dict[str, Any] | Unusable]:
    if manifest.suffix.lower() == ".parquet":
        from codec.corpus.extras import import_pyarrow

        pa = import_pyarrow()
        try:
            yield from pa.parquet.read_table(manifest).to_pylist()
        except (OSError, pa.ArrowException) as error:
            reason = str(error).splitlines()[0]
            raise CodecError(f"{manifest} is not a Parquet file: {reason}") from error
        return
    try:
        with manifest.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    row = json.loads(line) if line.strip() else None
                except ValueError:
                    row = line
                if isinstance(row, dict):
                    yield row
                elif row is not None:
                    where = f"line {number} of {manifest}"
                    yield Unusable(where, f"{where} is not a JSON object")
    except (OSError, UnicodeDecodeError) as error:
        raise CodecError(f"{manifest} cannot be read as lines of JSON: {error}") from error
