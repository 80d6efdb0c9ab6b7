"""Packages that only tokens of whole corpora need, imported with one clear line if missing."""

from __future__ import annotations

import importlib
from typing import Any

from codec.errors import CodecError


def import_pyarrow() -> Any:
    """The package ``pyarrow``, with ``pyarrow.parquet``.

    Raises:
        CodecError: it is not installed.

    Example:
        >>> import_pyarrow().uint16().bit_width
        16
    """
    return _import("pyarrow", "pyarrow.parquet", extra="tokens", purpose="Parquet files need")


def import_ray() -> Any:
    """The package ``ray``, with ``ray.data``.

    Raises:
        CodecError: it is not installed.
    """
    return _import("ray", "ray.data", extra="ray", purpose="--ray needs")


def _import(package: str, *modules: str, extra: str, purpose: str) -> Any:
    try:
        for module in modules:
            importlib.import_module(module)
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise CodecError(
            f'{purpose} {package}, which is not installed: pip install "aecodec[{extra}]"'
        ) from error
