"""Standard input and output, devices and named pipes: what can neither be sought nor renamed."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from codec.errors import CodecError

PIPE = Path("-")
"""Stands for standard input or output on the command line and in paths."""


def is_pipe(path: Path) -> bool:
    """Whether this is ``-``, a device or a named pipe, which must not be replaced by rename."""
    return path == PIPE or (path.exists() and not path.is_file() and not path.is_dir())


def standard_input() -> BinaryIO:
    """The bytes of standard input.

    Raises:
        CodecError: the process was started without one.
    """
    if sys.stdin is None:
        raise CodecError("there is no standard input: name a file instead of '-'")
    return sys.stdin.buffer


def standard_output() -> BinaryIO:
    """The bytes of standard output.

    Raises:
        CodecError: the process was started without one.
    """
    if sys.stdout is None:
        raise CodecError("there is no standard output: name a file instead of '-'")
    return sys.stdout.buffer


@contextmanager
def seekable_input(source: Path) -> Iterator[Path | BinaryIO]:
    """``source`` itself, or a temporary copy of what a pipe holds."""
    if not is_pipe(source):
        yield source
        return
    with tempfile.TemporaryFile() as file:
        with standard_input() if source == PIPE else source.open("rb") as pipe:
            shutil.copyfileobj(pipe, file)
        file.seek(0)
        yield file
