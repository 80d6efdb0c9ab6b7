"""What is to be coded: recordings in folders, globs, WebDataset shards and manifests."""

from __future__ import annotations

import glob
import json
import os
import re
import reprlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codec.arguments import first_line
from codec.corpus.index import Clip, Index, index_files, index_folder
from codec.corpus.parquet import import_pyarrow, most_bytes, read_rows
from codec.corpus.shards import SHARD_SUFFIX
from codec.errors import CodecError, FormatError

MANIFEST_SUFFIXES = (".jsonl", ".json", ".ndjson", ".parquet")
PATH_COLUMNS = ("path", "audio_filepath")
"""Columns of a manifest that may hold the path of a recording; the second is that of NeMo."""
MAX_ROW_BYTES = 2**20
"""Bytes of text in a row of a manifest, or of a line of JSON."""
MAX_DEPTH = 16
"""Levels of lists and objects in a row of a manifest; Parquet allows few more."""
MAX_INTEGER = 2**63 - 1


@dataclass(frozen=True)
class Recording:
    """A recording to be coded.

    Its path is that of the file, or of the shard and the member in it, relative to the common
    folder of all sources. Bytes that are not UTF-8 are written as in addresses: ``caf%E9.wav``.
    """

    id: str  # which no other recording has: the path, or what a manifest gives
    path: str
    folder: str  # that the clip is relative to
    clip: Clip
    columns: dict[str, Any] = field(default_factory=dict)  # further ones of a manifest


@dataclass(frozen=True)
class Unusable:
    """Something that cannot be coded."""

    id: str  # as of a `Recording`
    reason: str  # one line


@dataclass(frozen=True)
class Sources:
    """All recordings of some sources, and what was found beside them."""

    recordings: tuple[Recording, ...]  # in the order of the sources; in a folder or shard, by name
    unusable: tuple[Unusable, ...]


def find_recordings(
    sources: Sequence[str | Path], *, path_column: str | None = None, cache: Path | None = None
) -> Sources:
    """Find the recordings that sources name, without decoding them.

    A recording that two sources name is taken once. What is wrong with one of them is listed and
    ends nothing.

    Args:
        sources: folders, audio files, ``.tar`` shards in WebDataset format, manifests (Parquet or
            JSON lines, with paths relative to the manifest), or globs of any of these.
        path_column: column of the paths in manifests; that of `PATH_COLUMNS` which is there if
            None.
        cache: folder that remembers lengths, so that the next search opens new files only.

    Raises:
        CodecError: a source does not exist, or a manifest cannot be read or names no paths.

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
        if place.is_dir():
            kept = cache / f"index-{number}.json" if cache else None
            found = _from_index(index_folder(place, kept), root)
        elif place.suffix.lower() in MANIFEST_SUFFIXES:
            found = _from_manifest(place, path_column, root)
        else:
            found = _from_index(index_files(place.parent, [place.name]), root)
        for item in found:
            if isinstance(item, Unusable):
                unusable.append(Unusable(readable(item.id), readable(item.reason)))
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
        if not matches and glob.has_magic(source):
            raise CodecError(f"nothing matches {source}: check the pattern")
        if not matches:
            raise CodecError(f"{source} does not exist: check the path")
        yield from map(Path, matches)


def _common_folder(places: list[Path]) -> Path:
    """The folder that ids are relative to."""
    folders = [os.path.abspath(place if place.is_dir() else place.parent) for place in places]  # noqa: PTH100
    return Path(os.path.commonpath(folders)) if folders else Path()


def readable(name: str) -> str:
    """A name of a file, or text about one, as text that every program reads.

    Example:
        >>> readable(os.fsdecode(bytes([99, 97, 102, 0xE9])))
        'caf%E9'
    """
    # Python gives bytes that are not UTF-8 as lone surrogates; others come from JSON.
    name = re.sub("[\udc80-\udcff]", lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", name)
    return name.encode("utf-8", "replace").decode()


def _from_index(index: Index, root: Path) -> Iterator[Recording | Unusable]:
    start = os.path.relpath(index.folder, root)
    for clip in index.clips:
        name = readable(_inner(start, clip.name))
        yield Recording(name, name, str(index.folder), clip)
    for name, reason in index.skipped.items():
        yield Unusable(_inner(start, name), reason)


def _place(recording: Recording) -> tuple[str, int | None]:
    path = Path(recording.folder, recording.clip.name)
    return os.path.abspath(path), recording.clip.offset  # noqa: PTH100


def _inner(start: str, name: str) -> str:
    return name if start == "." else f"{Path(start).as_posix()}/{name}"


def _from_manifest(
    manifest: Path, path_column: str | None, root: Path
) -> Iterator[Recording | Unusable]:
    where = _inner(os.path.relpath(manifest.parent, root), manifest.name)
    rows: list[tuple[str, dict[str, Any]]] = []
    without: list[Unusable] = []
    named = False
    for place, row in _rows(manifest, where):
        if isinstance(row, str):
            yield Unusable(place, row)
            continue
        columns = [path_column] if path_column else [name for name in PATH_COLUMNS if name in row]
        column = columns[0] if columns else PATH_COLUMNS[0]
        if column not in row:
            names = shortened(", ".join(row))
            without.append(Unusable(place, f"{place} has no column {column!r}, only {names}"))
            continue
        named = True
        path = row.pop(column)
        if not isinstance(path, str) or not path:
            short = shortened(path)
            yield Unusable(short, f"{place} has {short!r} where a path should be")
        elif path.lower().endswith(SHARD_SUFFIX):
            yield Unusable(path, f"{path} is a shard in a manifest: give shards as sources")
        elif reason := _unfit(row):
            yield Unusable(shortened(row.get("id", path)), f"{place} has {reason}")
        else:
            rows.append((path, row))
    if without and not named:
        raise CodecError(f"{without[0].reason}: name the one with the paths by --path-column")
    yield from without
    index = index_files(manifest.parent, [path for path, _ in rows])
    clips = {clip.path: clip for clip in index.clips}
    for path, row in rows:
        given = row.pop("id", None)
        name = readable(path) if given is None else str(given)
        if path in clips:
            relative = Path(os.path.relpath(manifest.parent / path, root)).as_posix()
            yield Recording(name, readable(relative), str(manifest.parent), clips[path], row)
        else:
            yield Unusable(name, index.skipped[path])


def _unfit(columns: dict[str, Any]) -> str:
    """Why the columns of a row cannot be kept; empty if they can."""
    size = 0
    for name, value in columns.items():
        try:
            for leaf in _leaves({name: value}):
                if isinstance(leaf, int) and not -MAX_INTEGER - 1 <= leaf <= MAX_INTEGER:
                    raise ValueError("an integer of more than 64 bits")
                if isinstance(leaf, str | bytes):
                    size += len(leaf.encode() if isinstance(leaf, str) else leaf)
                if size > MAX_ROW_BYTES:
                    raise ValueError(f"more text than {MAX_ROW_BYTES} bytes in a row")
        except UnicodeEncodeError:
            return f"text that is not Unicode (a lone surrogate) in the column {shortened(name)!r}"
        except ValueError as error:
            return f"{error} in the column {shortened(name)!r}"
    return ""


def _leaves(value: Any, depth: int = -1) -> Iterator[Any]:
    """What a column holds, names of objects included."""
    if depth > MAX_DEPTH:
        raise ValueError(f"more than {MAX_DEPTH} levels of lists and objects")
    if isinstance(value, dict):
        yield from value
        value = value.values()
    elif not isinstance(value, list | tuple):
        yield value
        return
    for each in value:
        yield from _leaves(each, depth + 1)


def shortened(value: Any) -> str:
    """The beginning of something that may be long, for a message."""
    text = value if isinstance(value, str) else reprlib.repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def _rows(manifest: Path, where: str) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """Where each row of a manifest is, and the row, or why there is none."""
    if not manifest.is_file():
        raise CodecError(f"{manifest} is not a regular file: give a manifest or audio files")
    read = _parquet_rows if manifest.suffix.lower() == ".parquet" else _json_rows
    return read(manifest, where)


def _parquet_rows(manifest: Path, where: str) -> Iterator[tuple[str, dict[str, Any] | str]]:
    pa = import_pyarrow()
    size = manifest.stat().st_size
    count, held = 0, 0
    try:
        with pa.parquet.ParquetFile(manifest) as file:
            for batch in read_rows(file, manifest, where):
                held += batch.nbytes + 64 * batch.num_rows  # all rows are kept
                if held > most_bytes(size):
                    raise FormatError(
                        f"{where} holds more than {most_bytes(size)} bytes of text and numbers in "
                        f"{size} bytes: what follows row {count} is left out; divide it"
                    )
                for row in _values(batch):
                    count += 1
                    place = f"row {count} of {where}"
                    if isinstance(row, dict):
                        yield place, row
                    else:
                        yield place, f"{place} cannot be read: {shortened(str(row))}"
    except FormatError as error:
        yield where, str(error)
    except (OSError, ValueError, LookupError, OverflowError, pa.ArrowException) as error:
        raise CodecError(f"{manifest} is not a Parquet file: {first_line(error)}") from error


def _values(batch: Any) -> Iterator[dict[str, Any] | Exception]:
    """Rows as Python's values; what they cannot hold, such as the year 99999, is an error."""
    faults = (ValueError, OverflowError, RecursionError)
    try:
        yield from batch.to_pylist()
    except faults:
        for number in range(batch.num_rows):
            try:
                yield from batch.slice(number, 1).to_pylist()
            except faults as error:
                yield error


def _json_rows(manifest: Path, where: str) -> Iterator[tuple[str, dict[str, Any] | str]]:
    found, wrong = False, ""
    try:
        with manifest.open("rb") as file:
            lines = iter(lambda: file.readline(MAX_ROW_BYTES + 1), b"")
            for number, line in enumerate(lines, 1):
                place = f"line {number} of {where}"
                whole = len(line) <= MAX_ROW_BYTES
                while not whole and not line.endswith(b"\n"):  # the rest of the line
                    line = file.readline(MAX_ROW_BYTES) or b"\n"
                try:
                    if not whole:
                        raise ValueError(f"is longer than {MAX_ROW_BYTES} bytes: shorten it")
                    if not (text := line.decode()).strip():
                        continue
                    row = _parse(text)
                except UnicodeDecodeError as error:
                    wrong = str(error)
                    yield place, f"{place} is not UTF-8: {error}"
                except ValueError as error:
                    yield place, f"{place} {error}"
                else:
                    found = True
                    yield place, row
    except OSError as error:
        wrong = error.strerror or str(error)
        found = False
    if wrong and not found:
        raise CodecError(f"{manifest} cannot be read as lines of JSON: {wrong}")


def _parse(text: str) -> dict[str, Any]:
    """An object in a line of JSON."""
    try:
        row = json.loads(text)
    except RecursionError:
        raise ValueError(f"has more than {MAX_DEPTH} levels of lists and objects") from None
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise ValueError("is not a JSON object")
    return row
