"""Writing files: complete under their name or not there at all, even after a power cut."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from codec.arguments import check_flag
from codec.errors import CodecError
from codec.io.pipes import File, FileLike, check_file, is_pipe, open_pipe, open_standard_files

UNFINISHED = ".unfinished-"
"""Names of files and folders that are being written begin with this."""


@contextmanager
def atomic_output(target: File, *, force: bool, seekable: bool = False) -> Iterator[BinaryIO]:
    """Open a file that appears under its name only when it is complete.

    A device, named pipe or file object is written directly, and a file object is not closed; if the
    writer seeks, it is completed in a temporary file first. ``force`` replaces an existing file.

    Raises:
        CodecError: the target exists, is a folder, or its folder cannot be written to.
    """
    force = check_flag("force", force)
    open_standard_files()
    if not isinstance(target, Path) or is_pipe(target):
        with open_pipe(target, "output") as pipe:
            if not seekable:
                yield pipe
                return
            with tempfile.TemporaryFile() as file:
                yield file
                file.seek(0)
                shutil.copyfileobj(file, pipe)
        return
    check_writable(target, force=force)
    try:
        # Not with the name of the target, which may be as long as names can be.
        handle, temporary = _create(target.parent)
    except OSError as error:
        raise CodecError(
            f"cannot write to {target.parent}: {error.strerror}; choose another place"
        ) from error
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave the new name on an empty file
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _create(folder: Path) -> tuple[int, Path]:
    """A new file with a random name, and the permissions that this process gives to any other.

    `tempfile` gives it others, and the mask of the process can only be read by changing it, which
    other threads would notice.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    while True:
        path = folder / f"{UNFINISHED}{secrets.token_hex(4)}"
        with suppress(FileExistsError):
            return os.open(path, flags, 0o666), path


def write_atomically(path: Path, data: bytes) -> None:
    """Write a whole file, replacing what is there."""
    with atomic_output(path, force=True) as file:
        file.write(data)


@contextmanager
def files_together(folder: Path) -> Iterator[Path]:
    """An empty folder for files that replace those of ``folder`` when all are written.

    If one of them cannot be written, ``folder`` stays as it is. It is created if missing.
    """
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=folder, prefix=UNFINISHED))
    try:
        yield aside
        written = [path for path in aside.rglob("*") if path.is_file()]
        written.sort(key=lambda path: path.stat().st_mtime_ns)  # the order of writing
        for path in written:
            with path.open("rb") as file:
                os.fsync(file.fileno())
        for path in written:
            target = folder / path.relative_to(aside)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        if is_new and not any(folder.iterdir()):
            folder.rmdir()


def check_writable(target: Path, *, force: bool) -> None:
    """Check that a file may be written before the work for it begins.

    Raises:
        CodecError: ``target`` is a folder, or exists and ``force`` is not given.
    """
    if target.is_dir():
        raise CodecError(f"{target} is a folder: name a file in it")
    if os.path.lexists(target) and not force:
        raise CodecError(f"{target} exists: give --force to replace it")


def check_files(source: FileLike, target: FileLike) -> tuple[File, File]:
    """An input and an output, which are two files.

    Raises:
        CodecError: one is neither a path nor a binary file object, or both are the same file.
    """
    source, target = check_file("source", source, "read"), check_file("target", target, "write")
    if isinstance(source, Path) and isinstance(target, Path):
        is_same = source.is_file() and target.is_file() and source.samefile(target)
    else:
        is_same = source is target
    if is_same:
        name = target if isinstance(target, Path) else "the output"
        raise CodecError(f"{name} is the input itself: give the output another name")
    return source, target
