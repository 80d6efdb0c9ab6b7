"""Running the command-line programs of codecs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from codec.errors import CodecError


def find_programs(names: Sequence[str], package: str) -> list[str]:
    """Paths of programs.

    Args:
        names: names of the programs.
        package: package that contains them, for the error message.

    Raises:
        CodecError: a program is not on the path.

    Example:
        >>> find_programs(["vocoder"], "vocoders")
        Traceback (most recent call last):
        codec.errors.CodecError: vocoder is not on the path: install vocoders, or leave it out
    """
    found = []
    for name in names:
        path = shutil.which(name)
        if path is None:
            raise CodecError(f"{name} is not on the path: install {package}, or leave it out")
        found.append(path)
    return found


def run_program(*command: str | Path) -> None:
    """Run a program and wait for it.

    Raises:
        CodecError: it failed; the message contains the last line of its standard error.
    """
    result = subprocess.run([str(part) for part in command], capture_output=True, check=False)
    if result.returncode:
        lines = result.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise CodecError(f"{Path(command[0]).name} failed: {lines[-1]}")
