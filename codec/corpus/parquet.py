"""Read Parquet files of any origin: a small file must not fill the memory.

Repeated values take next to nothing in a file, so 600 bytes can stand for gigabytes. What a file
may hold grows with its size, and it is read in small batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from codec.errors import FormatError, optional_packages

SOME_VALUES, VALUES_PER_BYTE = 2**25, 8
"""Values that a column of any file may have, and how many more for each of its bytes. Codes take
about a byte each, except in silence, of which nine hours at the highest bitrate fit."""
SOME_BYTES, BYTES_PER_BYTE = 2**26, 128
"""The same for bytes: text is compressed to a tenth, repeated text to less."""
BATCH_VALUES = 2**22
BATCH_ROWS = 2**14
MAX_FOOTER = 2**24
"""Bytes of the description at the end of a file: about 100 for each column of a row group."""
MAX_DEPTH = 16


def import_pyarrow() -> Any:
    """The package ``pyarrow``, with ``pyarrow.parquet``; a `MissingPackageError` without it."""
    with optional_packages("a Parquet file", "tokens"):
        import pyarrow
        import pyarrow.parquet
    return pyarrow


def most_bytes(size: int) -> int:
    """To how many bytes a file of ``size`` bytes may decode."""
    return SOME_BYTES + BYTES_PER_BYTE * size


def read_rows(file: Any, path: Path, name: str) -> Iterator[Any]:
    """The rows of a Parquet file, an open ``pyarrow.parquet.ParquetFile``, in record batches.

    Raises:
        FormatError: a row group claims more than a file of this size may hold.
    """
    size = path.stat().st_size
    most, most_values = most_bytes(size), SOME_VALUES + VALUES_PER_BYTE * size
    for number, group in enumerate(_row_groups(path, name)):
        if max(group.num_values, group.num_rows) > most_values or group.num_bytes > most:
            raise FormatError(
                f"{name} claims {group.num_values} values and {group.num_bytes} bytes in a "
                f"column, at most {most_values} and {most} are read from {size} bytes: use "
                "smaller row groups"
            )
        # Text that is stored once may be repeated in every row.
        rows = min(
            BATCH_ROWS,
            most // max(1, group.num_text_bytes),
            group.num_rows * BATCH_VALUES // max(1, group.num_values),
        )
        yield from file.iter_batches(batch_size=max(1, rows), row_groups=[number])


class _RowGroup(NamedTuple):
    """What a row group claims."""

    num_rows: int
    num_values: int  # in its longest column, of lists all elements
    num_bytes: int  # in its largest column, decompressed
    num_text_bytes: int  # the same among columns of text


def _row_groups(path: Path, name: str) -> list[_RowGroup]:
    """From the footer of a file; pyarrow's own access to it ends the process if it is damaged."""
    with path.open("rb") as file:
        file.seek(-8, 2)
        length = int.from_bytes(file.read(4), "little")
        if length > MAX_FOOTER:
            raise FormatError(f"{name} has a footer of {length} bytes, {MAX_FOOTER} are the most")
        file.seek(-8 - length, 2)
        footer = file.read(length)
    try:
        groups = []
        for group in _Compact(footer).struct()[4]:
            columns = [column[3] for column in group[1]]
            sizes = [int(column[6]) for column in columns]
            texts = [int(column[6]) for column in columns if column[1] in TEXT]
            values = [int(column[5]) for column in columns]
            largest = (max(each, default=0) for each in (values, sizes, texts))
            groups.append(_RowGroup(int(group[3]), *largest))
    except (LookupError, TypeError, ValueError) as error:
        raise FormatError(f"{name} is a damaged Parquet file: {error!r}") from error
    return groups


TEXT = (6, 7)
"""Parquet's numbers of its types of text: of any length, and of a fixed one."""


class _Compact:
    """The part of Thrift's compact protocol in which Parquet describes its columns."""

    def __init__(self, data: bytes) -> None:
        self._data, self._position = data, 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """The fields of a struct by their numbers.

        Raises:
            ValueError: it is damaged.
            IndexError: it is cut short.
        """
        if depth > MAX_DEPTH:
            raise ValueError("too deeply nested")
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._integer()
            kind = head & 15
            # Of a truth value in a struct, the type is the value.
            fields[number] = kind == 1 if kind in (1, 2) else self._value(kind, depth + 1)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2, 3):
            return self._byte()
        if kind in (4, 5, 6):
            return self._integer()
        if kind in (7, 8):
            size = 8 if kind == 7 else self._varint()
            self._position += size
            return None  # text and floating point are not needed
        if kind in (9, 10):
            head = self._byte()
            count = self._varint() if head >> 4 == 15 else head >> 4
            if count > len(self._data):
                raise ValueError("a list is longer than the file")
            return [self._value(head & 15, depth) for _ in range(count)]
        if kind == 12:
            return self.struct(depth)
        raise ValueError(f"unknown type {kind}")

    def _byte(self) -> int:
        self._position += 1
        return self._data[self._position - 1]

    def _integer(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("an integer is too long")
