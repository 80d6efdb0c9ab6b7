"""Read Parquet files of any origin: a small file must not fill the memory.

Repeated values take next to nothing in a file, so 600 bytes can stand for gigabytes. What a file
may hold grows with its size, and it is read in small batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from codec.errors import FormatError

SOME_VALUES, VALUES_PER_BYTE = 2**25, 8
"""Values that a column of any file may have, and how many more for each of its bytes. Codes take
about a byte each, except in silence, of which nine hours at the highest bitrate fit."""
SOME_BYTES, BYTES_PER_BYTE = 2**26, 128
"""The same for bytes: text is compressed to a tenth, repeated text to less."""
BATCH_VALUES = 2**22
BATCH_ROWS = 2**14


def most_bytes(size: int) -> int:
    """To how many bytes a file of ``size`` bytes may decode."""
    return SOME_BYTES + BYTES_PER_BYTE * size


def read_batches(file: Any, size: int, name: str) -> Iterator[Any]:
    """The rows of a Parquet file in batches.

    Args:
        file: a ``pyarrow.parquet.ParquetFile``.
        size: its size in bytes.
        name: its name, for error messages.

    Yields:
        Record batches.

    Raises:
        FormatError: a row group claims more than a file of this size may hold.
    """
    most, most_values = most_bytes(size), SOME_VALUES + VALUES_PER_BYTE * size
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        columns = [group.column(column) for column in range(group.num_columns)]
        values = max((column.num_values for column in columns), default=0)
        claimed = max((column.total_uncompressed_size for column in columns), default=0)
        if max(values, group.num_rows) > most_values or claimed > most:
            raise FormatError(
                f"{name} claims {values} values and {claimed} bytes in a column, at most "
                f"{most_values} and {most} are read from {size} bytes: use smaller row groups"
            )
        # A value that is stored once may be repeated in every row.
        texts = (each for each in columns if each.physical_type == "BYTE_ARRAY")
        longest = max((each.total_uncompressed_size for each in texts), default=0)
        rows = min(
            BATCH_ROWS,
            most // max(1, longest),
            group.num_rows * BATCH_VALUES // max(1, values),
        )
        yield from file.iter_batches(batch_size=max(1, rows), row_groups=[number])
