"""Parquet files of any origin are read within limits, and damaged ones end in an error."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from codec.corpus import parquet
from codec.corpus.parquet import read_rows
from codec.errors import FormatError


def table() -> pa.Table:
    lists = [list(range(number % 7)) for number in range(1_000)]
    texts = [f"text {number % 9}" for number in range(1_000)]
    return pa.table({"list": lists, "text": texts, "number": range(1_000)})


def read(path: Path) -> pa.Table:
    with pa.parquet.ParquetFile(path) as file:
        return pa.Table.from_batches(read_rows(file, path, path.name))


@pytest.mark.parametrize("options", [{}, {"compression": "zstd", "version": "1.0"}])
def test_what_a_footer_claims_is_read_as_pyarrow_reads_it(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    path = tmp_path / "a.parquet"
    pa.parquet.write_table(table(), path, row_group_size=300, **options)
    assert read(path).equals(table())
    metadata = pa.parquet.read_metadata(path)
    groups = parquet._row_groups(path, "a")
    assert len(groups) == metadata.num_row_groups == 4
    for number, found in enumerate(groups):
        group = metadata.row_group(number)
        columns = [group.column(column) for column in range(group.num_columns)]
        assert found.num_rows == group.num_rows
        assert found.num_values == max(column.num_values for column in columns)
        assert found.num_bytes == max(column.total_uncompressed_size for column in columns)
        assert found.num_text_bytes == columns[1].total_uncompressed_size


def test_batches_are_small_where_values_are_many_or_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "BATCH_VALUES", 100)
    path = tmp_path / "a.parquet"
    pa.parquet.write_table(table(), path)
    with pa.parquet.ParquetFile(path) as file:
        batches = list(read_rows(file, path, "a"))
    assert len(batches) > 20 and pa.Table.from_batches(batches).equals(table())
    # One long text in the dictionary of a column, in every row.
    monkeypatch.setattr(parquet, "SOME_BYTES", 2**18)
    pa.parquet.write_table(pa.table({"text": ["y" * 2**12] * 500}), path)
    with pa.parquet.ParquetFile(path) as file:
        assert max(batch.num_rows for batch in read_rows(file, path, "a")) < 150


@pytest.mark.parametrize("kind", ["values", "bytes", "footer"])
def test_more_than_a_file_of_its_size_may_hold_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = tmp_path / "a.parquet"
    column = pa.array(["y" * 2**21]) if kind == "bytes" else pa.array([np.zeros(2**21, np.int8)])
    pa.parquet.write_table(pa.table({"a": column}), path, compression="zstd")
    assert path.stat().st_size < 5_000
    read(path)
    name = {"values": "SOME_VALUES", "bytes": "SOME_BYTES", "footer": "MAX_FOOTER"}[kind]
    monkeypatch.setattr(parquet, name, 100)
    with pytest.raises(FormatError, match=r"a\.parquet (claims|has a footer)") as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_a_damaged_footer_raises_an_error(tmp_path: Path) -> None:
    """As everything else in a file; pyarrow's access to such metadata ends the process."""
    path, rng = tmp_path / "a.parquet", random.Random(1)
    pa.parquet.write_table(table(), path)
    data = path.read_bytes()
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    failures = 0
    for _ in range(100):
        damaged = bytearray(data)
        for _ in range(3):
            damaged[rng.randrange(start, len(data))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            read(path)
        except (FormatError, OSError, pa.ArrowException, ValueError):
            failures += 1
    assert failures > 30
