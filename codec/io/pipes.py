"""Standard files, devices, named pipes, file objects: what can neither be sought nor renamed."""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias

from codec.arguments import check_path, shown
from codec.errors import CodecError

File: TypeAlias = Path | BinaryIO
FileLike: TypeAlias = str | Path | BinaryIO
"""A path, ``-`` for standard input or output, or a binary file object.

A file object is read from its position on, and written as the data comes; it is never closed. What
was written before an error stays in it, whereas a path appears only when its file is complete."""

PIPE = Path("-")
"""Stands for standard input or output on the command line and in paths."""

STDERR = 2
"""Descriptor of standard error."""


def check_file(name: str, value: Any, method: Literal["read", "write"]) -> File:
    """A path, or a binary file object with a method.

    Raises:
        CodecError: it is neither, or a file object for text.

    Example:
        >>> check_file("target", io.StringIO(), "write")
        Traceback (most recent call last):
        codec.errors.CodecError: target is a file of text: open it in binary mode
    """
    if isinstance(value, io.TextIOBase):
        raise CodecError(f"{name} is a file of text: open it in binary mode")
    if callable(getattr(value, method, None)):
        file: BinaryIO = value
        return file
    if not isinstance(value, str | Path):
        raise CodecError(f"{name} is {shown(value)}: give a path or a binary file object")
    return check_path(name, value)


def name_of(file: File) -> str:
    """What an input is called in messages."""
    return str(file) if isinstance(file, Path) else "the input"


def is_pipe(path: File) -> bool:
    """Whether it is no regular file and must not be replaced by rename."""
    if not isinstance(path, Path) or path == PIPE:
        return True
    return path.exists() and not path.is_file() and not path.is_dir()


def open_pipe(file: File, name: Literal["input", "output"]) -> AbstractContextManager[BinaryIO]:
    """Open a path, where ``-`` is standard input or output; a file object stays open.

    Raises:
        CodecError: the process was started without standard input or output.
        OSError: the file cannot be opened.
    """
    if not isinstance(file, Path):
        return nullcontext(file)
    if file != PIPE:
        return file.open("rb" if name == "input" else "wb")
    standard = sys.stdin if name == "input" else sys.stdout
    if standard is None:
        raise CodecError(f"there is no standard {name}: name a file instead of '-'")
    # Errors of what is written are reported at the latest when it is closed.
    return nullcontext(standard.buffer) if name == "input" else standard.buffer


def is_terminal() -> bool:
    """Whether standard error is a terminal, and progress bars are shown; services have none."""
    return sys.stderr is not None and not sys.stderr.closed and sys.stderr.isatty()


def open_standard_files() -> None:
    """Open the null device in place of standard input, output and error that are closed.

    Otherwise the next files that are opened get their descriptors, and what libraries in C report
    to standard error lands in an output.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def keep_stderr_apart() -> None:
    """Let Python write to standard error by a descriptor of its own, in a process of ours.

    What libraries in C write there can then be suppressed without a loss of anything else.
    """
    if sys.stderr is not None and not stderr_is_apart():
        encoding, errors = sys.stderr.encoding, sys.stderr.errors
        sys.stderr = os.fdopen(os.dup(STDERR), "w", 1, encoding=encoding, errors=errors)


def stderr_is_apart() -> bool:
    """Whether Python writes to standard error by another descriptor than libraries in C."""
    try:
        return sys.stderr is None or sys.stderr.fileno() != STDERR
    except (OSError, ValueError):  # it has no descriptor, or is closed
        return True


@contextmanager
def seekable_input(source: File) -> Iterator[File]:
    """``source`` itself, or a temporary copy of what a pipe or file object holds."""
    if isinstance(source, Path) and not is_pipe(source):
        yield source
        return
    with tempfile.TemporaryFile() as file:
        with open_pipe(source, "input") as pipe:
            shutil.copyfileobj(pipe, file)
        file.seek(0)
        yield file
