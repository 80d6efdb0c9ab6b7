"""Packages that only tokens of whole corpora need, imported with one clear line if missing."""

from __future__ import annotations

from typing import Any

from codec.errors import optional_packages


def import_pyarrow() -> Any:
    """The package ``pyarrow``, with ``pyarrow.parquet``.

    Raises:
        MissingPackageError: it is not installed.

    Example:
        >>> import_pyarrow().uint16().bit_width
        16
    """
    with optional_packages("a Parquet file", "tokens"):
        import pyarrow
        import pyarrow.parquet
    return pyarrow


def import_ray() -> Any:
    """The package ``ray``, with ``ray.data``.

    Raises:
        MissingPackageError: it is not installed.
    """
    with optional_packages("--ray", "ray"):
        import ray
        import ray.data
    return ray
