"""Write tokens as Parquet, WebDataset shards or ``.codes`` files."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from codec.bitrate import ceil_div
from codec.corpus.index import by_duration
from codec.corpus.parquet import import_pyarrow
from codec.corpus.sources import Recording
from codec.corpus.tokens.format import COLUMNS, SAFE, TokenFormat, Tokens
from codec.corpus.tokens.naming import FileNames
from codec.format.container import CODED_FORMAT, Coding, Header, Packet, PacketWriter
from codec.format.payload import pack_codes
from codec.io.outputs import atomic_output
from codec.session.packing import Packing
from codec.session.plan import packet_frames

ROW_GROUP_SECONDS = 3600.0
"""Audio in a row group of Parquet: about 3 MB of codes at 6 kbit/s."""


class ParquetLayout:
    """A row per recording; ``codes`` is the list of codes frame by frame.

    A column of a manifest whose values have several types becomes text, in JSON but for strings.

    Raises:
        CodecError: pyarrow is not installed.
    """

    def __init__(self, kind: TokenFormat, recordings: Sequence[Recording]) -> None:
        self._pa = pa = import_pyarrow()
        self._mixed: set[str] = set()
        fields = [(name, pa.type_for_alias(kept)) for name, kept in COLUMNS.items()]
        fields = [(name, pa.list_(kept) if name == "codes" else kept) for name, kept in fields]
        for name in dict.fromkeys(name for each in recordings for name in each.columns):
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
        name = f"tokens-{shard:05}.parquet"
        options = {"compression": "zstd", "version": "2.6", "write_page_checksum": True}
        with (
            atomic_output(out / name, force=True) as file,
            self._pa.parquet.ParquetWriter(file, self._schema, **options) as writer,
        ):
            for group in by_duration(rows, lambda row: row.duration_seconds, ROW_GROUP_SECONDS):
                writer.write_table(self._table(group))
        return [name]

    def _table(self, rows: Sequence[Tokens]) -> Any:
        pa = self._pa
        offsets = np.cumsum([0, *(tokens.frames.size for tokens in rows)], dtype=np.int32)
        flat = np.concatenate([tokens.frames.ravel() for tokens in rows])
        codes = pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat, pa.uint16()))
        plain = [tokens.row() for tokens in rows]
        columns = {
            field.name: pa.array([self._value(row, field.name) for row in plain], field.type)
            for field in self._schema
            if field.name != "codes"
        }
        return pa.table(columns | {"codes": codes}, self._schema)

    def _value(self, row: Mapping[str, Any], column: str) -> Any:
        value = row.get(column)
        if column not in self._mixed or value is None or isinstance(value, str):
            return value
        return json.dumps(value, ensure_ascii=False, default=str)


class WebDatasetLayout:
    """A tar of a ``.npy`` (``[T, K]`` uint16) and a ``.json`` per recording."""

    def __init__(self, kind: TokenFormat, recordings: Sequence[Recording]) -> None:
        name = FileNames(".npy", ".json")
        self._keys = {recording.id: name(recording.id) for recording in recordings}

    def write(self, out: Path, shard: int, rows: Sequence[Tokens]) -> list[str]:
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
    """A ``.codes`` file per recording; further columns are not kept."""

    def __init__(self, kind: TokenFormat, recordings: Sequence[Recording]) -> None:
        name = FileNames(".codes")
        self._names = {recording.id: f"{name(recording.id)}.codes" for recording in recordings}

    def write(self, out: Path, shard: int, rows: Sequence[Tokens]) -> list[str]:
        names = [self._names[tokens.id] for tokens in rows]
        for name, tokens in zip(names, rows, strict=True):
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            with atomic_output(out / name, force=True) as file:
                write_stream(tokens, file)
        return names


def write_stream(tokens: Tokens, file: Any) -> None:
    """Write a ``.codes`` stream of format 2, as `codec.encode_file` without entropy coding."""
    header = _header(tokens)
    writer, step = PacketWriter(file, header), header.frames_per_packet
    num_frames, step_samples = len(tokens.frames), step * header.hop_length
    full = max(tokens.num_samples // step_samples, ceil_div(num_frames, step) - 1) * step
    codes = tokens.codes
    for start in range(0, full + 1, step):
        part = codes[:, :, start : start + step if start < full else None]
        sequence = start // step % header.sequence_count
        length = tokens.original_samples if start == full else None
        payload = pack_codes(part, header)
        writer.write(Packet(sequence, part.shape[2], payload, length, Coding.PLAIN))


def _header(tokens: Tokens) -> Header:
    kind = tokens.kind
    return Header(
        channels=kind.channels_coded_together,
        codebooks=kind.codebooks,
        channels_coded_together=kind.channels_coded_together,
        frames_per_packet=packet_frames(Packing.file(), kind, 1, sum(kind.bits)),
        sample_rate=kind.sample_rate,
        original_sample_rate=tokens.original_sample_rate,
        hop_length=kind.hop_length,
        fingerprint=bytes.fromhex(kind.fingerprint),
        format=CODED_FORMAT,  # which may have frames after the last sample
    )


Layout = ParquetLayout | WebDatasetLayout | CodesLayout
"""Made of the format of all rows and all recordings of the corpus, for their columns and the order
in which they get names; ``write`` writes a shard and returns the names of its files."""
LAYOUTS: dict[str, Callable[[TokenFormat, Sequence[Recording]], Layout]] = {
    "parquet": ParquetLayout,
    "webdataset": WebDatasetLayout,
    "codes": CodesLayout,
}
