"""Tokens, the codes of recordings, in Parquet, WebDataset shards or ``.codes`` files."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from codec.arguments import check_path
from codec.bitrate import ceil_div
from codec.codes import Codebook, CodecSpec
from codec.corpus.extras import import_pyarrow
from codec.corpus.index import ARCHIVE_FAULTS, member_fault
from codec.corpus.parquet import read_batches
from codec.corpus.sources import Recording, shortened
from codec.engines.base import Codes
from codec.entropy.payload import PayloadDecoder
from codec.errors import CodecError, FormatError
from codec.format.container import CODED_FORMAT, Coding, Gap, Header, Packet, PacketWriter
from codec.format.payload import pack_codes
from codec.format.reading import StoredStream, open_codes, read_streams, together
from codec.io.audio import SUFFIXES
from codec.io.outputs import atomic_output
from codec.io.pipes import PIPE
from codec.registry import context_for
from codec.session.plan import file_frames

FORMAT = 1
"""Version of the shards and of their manifest."""
MANIFEST, ERRORS, CARD = "manifest.json", "errors.jsonl", "dataset_card.md"
PROGRESS = ".tokenize"
"""Folder in the output that remembers what is done, until all is."""
MAX_FACTS = 2**24
"""Size in bytes of the ``.json`` of a recording."""
ROW_GROUP_SECONDS = 3600.0
"""Audio in a row group of Parquet: about 3 MB of codes at 6 kbit/s."""

Frames = npt.NDArray[np.uint16]
"""Codes as they are stored, ``[T, K]``: frame, codebook."""


@dataclass(frozen=True)
class TokenFormat:
    """What all codes of a corpus have in common.

    Attributes:
        model: name of the model, for people.
        fingerprint: fingerprint of the model, in hexadecimal digits.
        sample_rate: sampling rate of the model in Hz.
        hop_length: samples per frame at that rate.
        num_codebooks: codebooks per frame.
        codebook_size: entries of a codebook: every code is below.

    Example:
        >>> from codec import load_model
        >>> kind = TokenFormat.of(load_model().spec, bitrate=3_000)
        >>> kind.num_codebooks, float(kind.frame_rate)
        (6, 50.0)
    """

    model: str
    fingerprint: str
    sample_rate: int
    hop_length: int
    num_codebooks: int
    codebook_size: int

    @classmethod
    def of(cls, spec: CodecSpec, bitrate: int | Fraction | None = None) -> TokenFormat:
        """That of a model.

        Raises:
            ConfigError: the bitrate is out of the model's range, or the model has no codes.
        """
        return cls(
            spec.name,
            spec.fingerprint.hex(),
            spec.sample_rate,
            spec.hop_length,
            spec.codebooks_for(bitrate),
            spec.codebook_size,
        )

    @classmethod
    def from_dict(cls, facts: Any, name: str) -> TokenFormat:
        """That of a shard or manifest.

        Args:
            facts: what `to_dict` gave.
            name: name for error messages.

        Raises:
            FormatError: it is of another version, or damaged.
        """
        try:
            version = facts["format"]
            if version != FORMAT:
                raise FormatError(
                    f"{name} has format {version}, this version of aecodec reads {FORMAT}: "
                    "upgrade aecodec"
                )
            kinds = {str: ("model", "fingerprint"), int: INTEGERS}
            values = {key: facts[key] for keys in kinds.values() for key in keys}
            for kind, keys in kinds.items():
                for key in keys:
                    if type(values[key]) is not kind or (kind is int and values[key] < 1):
                        raise ValueError(f"{key} is {values[key]!r}")
            bytes.fromhex(values["fingerprint"])
        except (LookupError, TypeError, ValueError) as error:
            raise FormatError(f"{name} does not describe its codes: {error!r}") from error
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """As JSON, with the version of the format."""
        return {"format": FORMAT} | asdict(self)

    @property
    def frame_rate(self) -> Fraction:
        """Frames per second."""
        return Fraction(self.sample_rate, self.hop_length)

    def header(self, original_sample_rate: int) -> Header:
        """Header of a stream of such codes, with the packets of files."""
        spec = CodecSpec(
            name=self.model,
            sample_rate=self.sample_rate,
            hop_length=self.hop_length,
            codebooks=(Codebook(self.codebook_size),) * self.num_codebooks,
            delay=0,
            fingerprint=bytes.fromhex(self.fingerprint),
        )
        return Header(
            channels=1,
            num_codebooks=self.num_codebooks,
            bits_per_code=spec.bits_per_code,
            frames_per_packet=file_frames(spec, 1, spec.num_codebooks * spec.bits_per_code),
            sample_rate=self.sample_rate,
            original_sample_rate=original_sample_rate,
            hop_length=self.hop_length,
            fingerprint=spec.fingerprint,
            format=CODED_FORMAT,  # which may have frames after the last sample
        )


INTEGERS = ("sample_rate", "hop_length", "num_codebooks", "codebook_size")


@dataclass(frozen=True)
class Tokens:
    """The codes of one recording.

    Attributes:
        kind: what it has in common with the others.
        id: name of the recording.
        path: where its audio was, relative to the common folder of all sources.
        frames: ``[T, K]`` uint16, frame by frame.
        original_samples: samples of the recording per channel.
        original_sample_rate: sampling rate of the recording in Hz.
        columns: further columns.

    Example:
        >>> from codec import load_model
        >>> from codec.engines.base import decode
        >>> engine = load_model()
        >>> frames = np.zeros((50, 12), np.uint16)
        >>> tokens = Tokens(TokenFormat.of(engine.spec), "a", "a.wav", frames, 44_100, 44_100)
        >>> tokens.codes.shape, tokens.num_samples, tokens.duration_seconds
        ((1, 12, 50), 24000, 1.0)
        >>> decode(engine, tokens.codes, tokens.num_samples).shape
        (1, 24000)
    """

    kind: TokenFormat
    id: str
    path: str
    frames: Frames
    original_samples: int
    original_sample_rate: int
    columns: dict[str, Any] = field(default_factory=dict)

    @property
    def codes(self) -> Codes:
        """``[1, K, T]`` int64, as `codec.engines.base.decode` takes them."""
        return np.ascontiguousarray(self.frames.T[None], dtype=np.int64)

    @property
    def num_samples(self) -> int:
        """Samples at the model's rate."""
        return ceil_div(self.original_samples * self.kind.sample_rate, self.original_sample_rate)

    @property
    def duration_seconds(self) -> float:
        """Length of the recording in seconds."""
        return self.original_samples / self.original_sample_rate

    def row(self) -> dict[str, Any]:
        """All but the codes, under the names of the columns."""
        return {
            "id": self.id,
            "path": self.path,
            "num_frames": len(self.frames),
            "num_codebooks": self.kind.num_codebooks,
            "duration_seconds": self.duration_seconds,
            "sample_rate": self.original_sample_rate,
            "model": self.kind.model,
            "fingerprint": self.kind.fingerprint,
        } | {SAFE.get(name, name): value for name, value in self.columns.items()}

    @classmethod
    def from_row(cls, kind: TokenFormat, row: dict[str, Any], frames: Any, name: str) -> Tokens:
        """Tokens of a row.

        Args:
            kind: of its shard.
            row: what `row` gave.
            frames: its codes, in any shape.
            name: name of the shard, for error messages.

        Raises:
            FormatError: the row contradicts itself or ``kind``.
        """
        given = row.get("id", "")
        try:
            row = {**row}
            number, path, rate = (row.pop(key) for key in ("id", "path", "sample_rate"))
            num_frames, num_codebooks = row.pop("num_frames"), row.pop("num_codebooks")
            seconds = row.pop("duration_seconds")
            # Text times a number would be a very long text.
            if not all(type(each) is int for each in (rate, num_frames, num_codebooks)):
                raise TypeError("a sampling rate or a number of frames or codebooks is no integer")
            original = round(float(seconds) * rate)
            fingerprint, _ = row.pop("fingerprint"), row.pop("model")
            flat = np.asarray(frames)
            if flat.dtype.kind not in "ui" or not flat.size == num_frames * num_codebooks:
                raise ValueError(f"{flat.size} codes are not {num_frames} x {num_codebooks}")
            if (num_codebooks, fingerprint) != (kind.num_codebooks, kind.fingerprint):
                raise ValueError("its model or number of codebooks is another")
            if flat.size and not 0 <= int(flat.min()) <= int(flat.max()) < kind.codebook_size:
                raise ValueError(f"a code is not below {kind.codebook_size}")
            shaped = flat.astype(np.uint16).reshape(num_frames, num_codebooks)
            tokens = cls(kind, str(number), str(path), shaped, original, rate, row)
            # There may be frames after the last sample, which complete the end.
            needed = ceil_div(tokens.num_samples, kind.hop_length)
            if not needed <= num_frames <= needed + kind.frame_rate:
                raise ValueError(f"{num_frames} frames are not {tokens.duration_seconds} seconds")
        except (LookupError, TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
            reason = f"no column {error}" if isinstance(error, KeyError) else str(error)
            raise FormatError(
                f"{name} has a damaged row {shortened(given)!r}: {shortened(reason)}"
            ) from error
        return tokens

    def write_stream(self, file: Any) -> None:
        """Write a ``.codes`` stream of format 2, as `codec.encode_file` without entropy coding."""
        header = self.kind.header(self.original_sample_rate)
        writer, step = PacketWriter(file, header), header.frames_per_packet
        num_frames, step_samples = len(self.frames), step * self.kind.hop_length
        full = max(self.num_samples // step_samples, ceil_div(num_frames, step) - 1) * step
        codes = self.codes
        for start in range(0, full, step):
            payload = pack_codes(codes[:, :, start : start + step], header)
            sequence = start // step % header.sequence_count
            writer.write(Packet(sequence, step, payload, coding=Coding.PLAIN))
        payload = pack_codes(codes[:, :, full:], header)
        sequence, last = full // step % header.sequence_count, num_frames - full
        writer.write(Packet(sequence, last, payload, self.original_samples, Coding.PLAIN))


COLUMNS = (
    "id",
    "path",
    "codes",
    "num_frames",
    "num_codebooks",
    "duration_seconds",
    "sample_rate",
    "model",
    "fingerprint",
)
# Columns of a manifest that have the name of one of ours are kept under another.
SAFE = {name: f"source_{name}" for name in COLUMNS}


# Names of our own files are not those of folders.
RESERVED = {MANIFEST, ERRORS, CARD}
MAX_NAME, MAX_FOLDERS = 220, 1000
"""Bytes in a name, so that suffixes fit into 255, and in the names of all folders before it."""


class FileNames:
    """Names of files for ids, without suffix: inside the folder, without dots, each one once.

    Names of folders keep their dots, but none is hidden or named like a file. What is too long for
    a file system ends in a digest.

    Args:
        *suffixes: what the names are to end in.

    Example:
        >>> name = FileNames(".codes")
        >>> name("a/b.c.wav"), name("a/b.c.flac"), name("../../b"), name("a.codes/.b/c.wav")
        ('a/b_c', 'a/b_c_flac', '_/_/b', 'a_codes/_b/c')
    """

    def __init__(self, *suffixes: str) -> None:
        self._suffixes = suffixes
        self._taken: set[str] = set()

    def __call__(self, number: str) -> str:
        """The name for an id that was not asked for before."""
        parts = number.replace("\\", "/").replace("\0", "_").split("/")
        parts = [part.replace("..", "_") for part in parts if part not in ("", ".")] or ["_"]
        folder = "/".join(_fitting(self._folder(part)) for part in parts[:-1])
        if len(folder.encode(errors="replace")) > MAX_FOLDERS:
            folder = _digest(folder)
        last = PurePosixPath(parts[-1])
        short = last.stem if last.suffix.lower() in SUFFIXES else last.name
        plain = [_fitting(each.replace(".", "_")) for each in (short, last.name)]
        names = [f"{folder}/{each}" if folder else each for each in plain]
        numbered = (f"{names[-1]}-{count}" for count in itertools.count(2))
        name = next(each for each in itertools.chain(names, numbered) if each not in self._taken)
        self._taken.add(name)
        return name

    def _folder(self, part: str) -> str:
        clashes = part in RESERVED or part.lower().endswith(self._suffixes)
        return part.replace(".", "_", -1 if clashes else 1) if clashes or part[0] == "." else part


def _fitting(part: str) -> str:
    data = part.encode(errors="replace")
    if len(data) <= MAX_NAME:
        return part
    return f"{data[: MAX_NAME - 17].decode(errors='ignore')}-{_digest(part)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:16]


class ParquetLayout:
    """A row per recording; ``codes`` is the list of codes frame by frame.

    A column of a manifest whose values have several types becomes text, in JSON but for strings.

    Args:
        kind: of all rows.
        recordings: all recordings of the corpus, for the types of their further columns.

    Raises:
        CodecError: pyarrow is not installed.
    """

    def __init__(self, kind: TokenFormat, recordings: Sequence[Recording]) -> None:
        self._pa = pa = import_pyarrow()
        self._mixed: set[str] = set()
        fields = [
            ("id", pa.string()),
            ("path", pa.string()),
            ("codes", pa.list_(pa.uint16())),
            ("num_frames", pa.int32()),
            ("num_codebooks", pa.int32()),
            ("duration_seconds", pa.float64()),
            ("sample_rate", pa.int32()),
            ("model", pa.string()),
            ("fingerprint", pa.string()),
        ]
        names = dict.fromkeys(name for recording in recordings for name in recording.columns)
        for name in names:
            column = SAFE.get(name, name)
            try:
                kept = pa.array([recording.columns.get(name) for recording in recordings]).type
            except pa.ArrowException:  # values of several types
                kept = pa.string()
                self._mixed.add(column)
            fields.append((column, kept))
        metadata = {"aecodec": json.dumps(kind.to_dict())}
        self._schema = pa.schema(fields, metadata)

    def write(self, out: Path, shard: int, rows: Sequence[Tokens]) -> list[str]:
        """Write a shard, and return the names of its files."""
        name = f"tokens-{shard:05}.parquet"
        options = {"compression": "zstd", "version": "2.6", "write_page_checksum": True}
        with (
            atomic_output(out / name, force=True) as file,
            self._pa.parquet.ParquetWriter(file, self._schema, **options) as writer,
        ):
            for group in _row_groups(rows):
                writer.write_table(self._table(group))
        return [name]

    def _table(self, rows: Sequence[Tokens]) -> Any:
        pa = self._pa
        offsets = np.cumsum([0, *(tokens.frames.size for tokens in rows)], dtype=np.int32)
        flat = np.concatenate([tokens.frames.ravel() for tokens in rows])
        codes = pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat, pa.uint16()))
        plain = [tokens.row() for tokens in rows]
        return pa.Table.from_arrays(
            [
                codes
                if field.name == "codes"
                else pa.array([self._value(row, field.name) for row in plain], field.type)
                for field in self._schema
            ],
            schema=self._schema,
        )

    def _value(self, row: Mapping[str, Any], column: str) -> Any:
        value = row.get(column)
        if column not in self._mixed or value is None or isinstance(value, str):
            return value
        return json.dumps(value, ensure_ascii=False, default=str)


class WebDatasetLayout:
    """A tar of a ``.npy`` (``[T, K]`` uint16) and a ``.json`` per recording.

    Args:
        kind: of all rows.
        recordings: all recordings of the corpus, which get their keys in this order.
    """

    def __init__(self, kind: TokenFormat, recordings: Sequence[Recording]) -> None:
        name = FileNames(".npy", ".json")
        self._keys = {recording.id: name(recording.id) for recording in recordings}

    def write(self, out: Path, shard: int, rows: Sequence[Tokens]) -> list[str]:
        """Write a shard, and return the names of its files."""
        name = f"tokens-{shard:05}.tar"
        with (
            atomic_output(out / name, force=True) as file,
            tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for tokens in rows:
                array = io.BytesIO()
                np.save(array, tokens.frames, allow_pickle=False)
                facts = tokens.row() | {"aecodec": tokens.kind.to_dict()}
                text = json.dumps(facts, ensure_ascii=False, default=str).encode()
                for suffix, data in ((".npy", array.getvalue()), (".json", text)):
                    member = tarfile.TarInfo(self._keys[tokens.id] + suffix)
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
        return [name]


class CodesLayout:
    """A ``.codes`` file per recording; further columns are not kept.

    Args:
        kind: of all rows.
        recordings: all recordings of the corpus, which get their names in this order.
    """

    def __init__(self, kind: TokenFormat, recordings: Sequence[Recording]) -> None:
        name = FileNames(".codes")
        self._names = {recording.id: f"{name(recording.id)}.codes" for recording in recordings}

    def write(self, out: Path, shard: int, rows: Sequence[Tokens]) -> list[str]:
        """Write the files of a shard, and return their names."""
        names = [self._names[tokens.id] for tokens in rows]
        for name, tokens in zip(names, rows, strict=True):
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            with atomic_output(out / name, force=True) as file:
                tokens.write_stream(file)
        return names


Layout = ParquetLayout | WebDatasetLayout | CodesLayout
LAYOUTS: dict[str, Callable[[TokenFormat, Sequence[Recording]], Layout]] = {
    "parquet": ParquetLayout,
    "webdataset": WebDatasetLayout,
    "codes": CodesLayout,
}
"""Every way to store tokens, by name."""


def read_tokens(path: str | Path) -> Iterator[Tokens]:
    """Read tokens, recording by recording.

    Args:
        path: a folder that ``aecodec tokenize`` wrote, or one of its shards or ``.codes`` files.

    Yields:
        Tokens, whose ``codes`` and ``num_samples`` go into `codec.engines.base.decode`.

    Raises:
        FormatError: a shard is damaged, of another version, or not one of aecodec's.
        CodecError: nothing is there, or the folder is not finished.
        ModelError: a ``.codes`` file needs the context model of a model that is not packaged.

    Example:
        >>> import soundfile
        >>> from codec.corpus.tokenize import tokenize
        >>> Path("corpus").mkdir()
        >>> soundfile.write("corpus/owl.wav", np.zeros(8_000), 8_000)
        >>> _ = tokenize(["corpus"], "tokens")
        >>> for tokens in read_tokens("tokens"):
        ...     print(tokens.id, tokens.frames.shape, tokens.codes.shape, tokens.num_samples)
        owl.wav (51, 20) (1, 20, 51) 24000
    """
    for _, tokens in read_each(check_path("path", path)):
        if isinstance(tokens, CodecError):
            raise tokens
        yield tokens


def read_each(path: str | Path) -> Iterator[tuple[str, Tokens | CodecError]]:
    """`read_tokens`, but what cannot be read takes the place of a recording and ends nothing.

    Args:
        path: see `read_tokens`.

    Yields:
        The name of a shard, and the tokens of a recording in it, or what is wrong with it.

    Raises:
        CodecError: nothing is there, or the folder is not finished.
    """
    path = Path(path)
    if not path.is_dir():
        if path != PIPE:
            check_regular(path)
        yield from _read_shard(path, path.name)
        return
    for name, digest in _shard_names(path):
        shard = path / name
        try:
            check_regular(shard, path)
            if digest is not None and (found := file_digest(shard)) != digest:
                raise FormatError(
                    f"{shard} is damaged: its SHA-256 is {found[:16]}, the manifest says "
                    f"{digest[:16]}; copy it again, or delete {MANIFEST} to read it as it is"
                )
        except CodecError as error:
            yield name, error
        else:
            yield from _read_shard(shard, name)


def check_regular(path: Path, folder: Path | None = None) -> None:
    """Check that a path is that of a regular file: devices and pipes may never end.

    Args:
        path: the path.
        folder: where the file must be, for a name that comes from a file.

    Raises:
        CodecError: it is something else, elsewhere, or nothing.
    """
    if not path.exists():
        raise CodecError(f"{path} cannot be opened: there is no such file; check the path")
    if not path.is_file():
        raise CodecError(f"{path} is not a regular file: give files that aecodec tokenize wrote")
    if folder is not None and not path.resolve().is_relative_to(folder.resolve()):
        raise CodecError(f"{path} is a link out of {folder}: copy the file itself into it")


def is_shard_name(name: object) -> bool:
    """Whether this is the name of a file that ``aecodec tokenize`` writes, inside its folder.

    Example:
        >>> [is_shard_name(name) for name in ("tokens-00000.tar", "a/b.codes", "../b.codes")]
        [True, True, False]
    """
    if not isinstance(name, str) or "\0" in name:
        return False
    inside = all(part not in ("", ".", "..", PROGRESS) for part in re.split(r"[/\\]", name))
    return (
        inside and re.fullmatch(r"tokens-\d{5,}\.(parquet|tar)|.*\.codes", name, re.S) is not None
    )


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
        for file in (file for shard in manifest["shards"] for file in shard["files"]):
            if not is_shard_name(file["name"]):
                raise ValueError(f"it names {shortened(file['name'])}, which it cannot hold")
            if not isinstance(file["sha256"], str):
                raise TypeError("a hash is not a string")
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise FormatError(f"{path} is not a manifest of tokens: {error!r}") from error
    TokenFormat.from_dict(manifest, str(path))
    return manifest


def file_digest(path: Path) -> str:
    """SHA-256 of a file in hexadecimal digits.

    Raises:
        CodecError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CodecError(f"{path} cannot be opened: {error.strerror}; check the path") from error


def _shard_names(folder: Path) -> list[tuple[str, str | None]]:
    """Names of the shards of a folder with their hashes, which only a manifest knows."""
    if (folder / MANIFEST).exists():
        return [
            (file["name"], file["sha256"])
            for shard in read_manifest(folder)["shards"]
            for file in shard["files"]
        ]
    if (folder / PROGRESS).exists():
        raise CodecError(f"{folder} is not finished: run the same aecodec tokenize again")
    for pattern in ("*.parquet", "*.tar", "**/*.codes"):
        found = (path for path in folder.glob(pattern) if not path.is_dir())
        if names := sorted(path.relative_to(folder).as_posix() for path in found):
            return [(name, None) for name in names]
    raise CodecError(f"{folder} holds no tokens: give a folder that aecodec tokenize wrote")


def _read_shard(path: Path, name: str) -> Iterator[tuple[str, Tokens | CodecError]]:
    if path.suffix == ".parquet":
        rows = _read_parquet(path)
    elif path.suffix == ".tar":
        rows = _read_webdataset(path)
    else:
        rows = _read_streams(path, name)
    try:
        for row in rows:
            yield name, row
    except CodecError as error:
        yield name, error


def _row(kind: TokenFormat, facts: Any, frames: Any, path: Path) -> Tokens | CodecError:
    try:
        return Tokens.from_row(kind, facts, frames, str(path))
    except FormatError as error:
        return error


def _read_parquet(path: Path) -> Iterator[Tokens | CodecError]:
    pa = import_pyarrow()
    try:
        with pa.parquet.ParquetFile(path, page_checksum_verification=True) as file:
            metadata = file.schema_arrow.metadata or {}
            kind = TokenFormat.from_dict(_json(metadata.get(b"aecodec", b"null")), str(path))
            for batch in read_batches(file, path, str(path)):
                codes = batch["codes"]
                if not pa.types.is_list(codes.type):
                    raise ValueError("its codes are not lists")
                for number, row in enumerate(batch.drop_columns("codes").to_pylist()):
                    flat = codes[number].values
                    frames = () if flat is None else flat.to_numpy(zero_copy_only=False)
                    yield _row(kind, row, frames, path)
    except (OSError, ValueError, LookupError, OverflowError, pa.ArrowException) as error:
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise FormatError(f"{path} cannot be read as a shard of tokens: {reason}") from error


def _read_webdataset(path: Path) -> Iterator[Tokens | CodecError]:
    array_key, frames = "", np.zeros(0)
    size, last = path.stat().st_size, -1
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                reason = member_fault(member, size)
                if member.offset <= last:  # forged: it would be read forever
                    reason = "overlaps the one before"
                last = member.offset
                key, _, suffix = member.name.rpartition(".")
                if suffix != "npy" and member.size > MAX_FACTS:
                    reason = f"has {member.size} bytes: {MAX_FACTS} are the most"
                elif suffix != "npy" and key != array_key:
                    reason = "comes without its .npy before it"
                data = None if reason else archive.extractfile(member)
                if data is None:
                    raise FormatError(f"{path} has a member {shortened(member.name)} that {reason}")
                if suffix == "npy":
                    array_key, frames = key, _array(data.read())
                    continue
                facts = _json(data.read())
                if not isinstance(facts, dict):
                    raise FormatError(
                        f"{path} has a member {shortened(member.name)} that is no JSON"
                    )
                kind = TokenFormat.from_dict(facts.pop("aecodec", None), str(path))
                yield _row(kind, facts, frames, path)
    except ARCHIVE_FAULTS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FormatError(f"{path} cannot be read as a shard of tokens: {reason}") from error


def _read_streams(path: Path, name: str) -> Iterator[Tokens | CodecError]:
    """The streams of a file, which are several if files were joined."""
    own = name.removesuffix(".codes")
    with open_codes(path) as file:
        for number, stream in enumerate(read_streams(file), 1):
            try:
                yield _read_stream(stream, path, own if number == 1 else f"{own}-{number}")
            except CodecError as error:
                yield error
                stream.read_on()


def _read_stream(stream: StoredStream, path: Path, name: str) -> Tokens:
    header, summary = stream.header, stream.summary
    if header.variable:
        raise FormatError(
            f"{path} has a variable number of codes per frame: encode it again with --codebooks"
        )
    if header.skip:
        raise FormatError(f"{path} is a cut: decode it, and encode what comes out")
    if header.dtx:
        raise FormatError(
            f"{path} leaves out silence, whose frames have few codes or none: decode it, and "
            "encode what comes out"
        )
    if header.channels != 1:
        raise FormatError(f"{path} has {header.channels} channels: tokens are of mono audio")
    decoder = PayloadDecoder(header, context_for(header))
    pieces: list[Frames] = []
    skipped = 0  # bytes between packets, even if no packet is missing
    for item in (item for batch in stream.batches for item in together(batch, len(batch))):
        if isinstance(item, Gap):
            skipped += item.num_bytes
        else:
            decoded = (codes for codes in decoder.decode(item) if codes is not None)
            pieces += [codes[0].T.astype(np.uint16) for codes in decoded]
    damage = summary.damage() or (f"{skipped} bytes are no packets" if skipped else None)
    if damage:
        raise FormatError(f"{path} is damaged: {damage}")
    kind = TokenFormat(
        "",
        header.fingerprint.hex(),
        header.sample_rate,
        header.hop_length,
        header.num_codebooks,
        2**header.bits_per_code,
    )
    rate, num_samples = header.original_sample_rate, summary.num_samples
    assert num_samples is not None  # else it is damaged
    return Tokens(kind, name, str(path), np.concatenate(pieces), num_samples, rate)


def _row_groups(rows: Sequence[Tokens]) -> Iterator[Sequence[Tokens]]:
    """Rows in groups of `ROW_GROUP_SECONDS`, or one longer row."""
    group: list[Tokens] = []
    seconds = 0.0
    for tokens in rows:
        if group and seconds + tokens.duration_seconds > ROW_GROUP_SECONDS:
            yield group
            group, seconds = [], 0.0
        group.append(tokens)
        seconds += tokens.duration_seconds
    if group:
        yield group


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _array(data: bytes) -> npt.NDArray[Any]:
    try:
        return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # of many kinds: the header is parsed as Python's source
        raise ValueError(f"a .npy is damaged: {error}") from error
