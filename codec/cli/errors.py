"""How the command line fails: one line on stderr, and an exit status."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from codec.errors import CodecError


def in_one_line(text: object) -> str:
    r"""A text with its control characters written out: names of files may hold any.

    Example:
        >>> print(in_one_line("a\nb.wav"))
        a\nb.wav
    """
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda found: repr(found[0])[1:-1], str(text))


class Failure(click.ClickException):
    """One line on stderr, exit status 1."""

    def show(self, file: Any = None) -> None:
        click.echo(f"aecodec: {in_one_line(self.message)}", err=True)

    def about(self, path: Path) -> str:
        """The message, with the file that it is about."""
        return self.message if str(path) in self.message else f"{path}: {self.message}"


class WrongUse(Failure):
    """One line on stderr, exit status 2."""

    exit_code = 2


class Interrupted(Failure):
    """Ended by Ctrl-C."""

    exit_code = 130


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turn expected errors into a `Failure` with one clear line."""
    try:
        yield
    except CodecError as error:
        raise Failure(str(error)) from error
    except BrokenPipeError as error:
        raise Failure("the reader of the output closed the pipe") from error
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        reason = error.strerror or error
        raise Failure(f"cannot read or write{where}: {reason}; choose another place") from error
    except MemoryError as error:
        raise Failure("not enough memory: close other programs, or use fewer channels") from error
    except RuntimeError as error:
        # PyTorch reports a lack of memory in these ways; any other RuntimeError is a bug.
        if type(error).__name__ != "OutOfMemoryError" and "allocate memory" not in str(error):
            raise
        raise Failure(
            "not enough memory: close other programs; in training, lower data.batch_size or "
            "data.crop_frames"
        ) from error
