"""Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; ``|`` in a cell is escaped.

    Args:
        header: titles of the columns.
        rows: cells of each row, as many as there are columns.

    Raises:
        ValueError: a row has more or fewer cells than there are columns.

    Example:
        >>> print(markdown_table(("codec", "kbit/s"), [("opus", "6.0"), ("mp3", "16.0")]))
        | codec | kbit/s |
        |---|---|
        | opus | 6.0 |
        | mp3 | 16.0 |
    """
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a row has {len(row)} cells, the table {len(header)} columns: {row}")
    lines = [_line(header), "|" + "---|" * len(header), *map(_line, rows)]
    return "\n".join(lines)


def cell(value: float | None, decimals: int, factor: float = 1.0) -> str:
    """A figure in a table; a dash if it is undefined."""
    return "-" if value is None else f"{value * factor:.{decimals}f}"


def _line(cells: Sequence[str]) -> str:
    escaped = [cell.replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"
