"""Read tokens of all layouts, recording by recording."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from codec.arguments import check_path, first_line
from codec.arrays import StoredCodes
from codec.corpus.index import why
from codec.corpus.parquet import import_pyarrow, read_rows
from codec.corpus.shards import ARCHIVE_FAULTS, member_fault, members
from codec.corpus.sources import shortened
from codec.corpus.tokens.folder import check_regular, check_shard, shard_names
from codec.corpus.tokens.format import TokenFormat, Tokens
from codec.entropy.payload import PayloadDecoder
from codec.errors import CodecError, FormatError
from codec.format.container import Gap
from codec.format.reading import StoredStream, open_codes, read_streams, together
from codec.io.pipes import PIPE
from codec.registry import context_for

MAX_FACTS = 2**24
"""Size in bytes of the ``.json`` of a recording."""


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
    for name, digest in shard_names(path):
        try:
            check_shard(path, name, digest)
        except CodecError as error:
            yield name, error
        else:
            yield from _read_shard(path / name, name)


def _read_shard(path: Path, name: str) -> Iterator[tuple[str, Tokens | CodecError]]:
    read = {".parquet": _read_parquet, ".tar": _read_webdataset}.get(path.suffix)
    rows = _read_streams(path, name) if read is None else read(path)
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
            for batch in read_rows(file, path, str(path)):
                codes = batch["codes"]
                if not pa.types.is_list(codes.type):
                    raise ValueError("its codes are not lists")
                for number, row in enumerate(batch.drop_columns("codes").to_pylist()):
                    flat = codes[number].values
                    frames = () if flat is None else flat.to_numpy(zero_copy_only=False)
                    yield _row(kind, row, frames, path)
    except (OSError, ValueError, LookupError, OverflowError, pa.ArrowException) as error:
        reason = first_line(error)
        raise FormatError(f"{path} cannot be read as a shard of tokens: {reason}") from error


def _read_webdataset(path: Path) -> Iterator[Tokens | CodecError]:
    array_key, frames = "", np.zeros(0)
    size = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as archive:
            for member in members(archive):
                reason = member_fault(member, size)
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
        raise FormatError(f"{path} cannot be read as a shard of tokens: {why(error)}") from error


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
    if header.num_groups(header.channels) > 1:
        raise FormatError(
            f"{path} has {header.channels} channels: tokens are of those whose codes are the same, "
            f"{header.channels_coded_together} here"
        )
    decoder = PayloadDecoder(header, context_for(header))
    pieces: list[StoredCodes] = []
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
    kind = TokenFormat.of(header)
    rate, num_samples = header.original_sample_rate, summary.num_samples
    assert num_samples is not None  # else it is damaged
    return Tokens(kind, name, str(path), np.concatenate(pieces), num_samples, rate)


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
