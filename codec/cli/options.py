"""Options that several commands share, what becomes of them, and the log of long-running ones."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from codec.bitrate import parse_bitrate
from codec.cli.errors import WrongUse, clear_errors
from codec.engines.names import BACKENDS, Backend
from codec.errors import ConfigError

if TYPE_CHECKING:
    from codec.registry import Model

F = TypeVar("F", bound=Callable[..., object])


def several(*each: Callable[[F], F]) -> Callable[[F], F]:

    def decorate(command: F) -> F:
        for option in reversed(each):
            command = option(command)
        return command

    return decorate


def gathered(**values: Callable[..., object]) -> Callable[[F], F]:
    """Give a command values that functions make of the options which their parameters name."""

    def decorate(command: F) -> F:
        @wraps(command)
        def with_values(**given: Any) -> object:
            made = {}
            for name, make in values.items():
                names = inspect.signature(make).parameters
                with clear_errors():
                    made[name] = make(**{each: given.pop(each) for each in names if each in given})
            return command(**given, **made)

        return with_values  # type: ignore[return-value]

    return decorate


@dataclass(frozen=True)
class ModelChoice:
    """The model that options name."""

    model: str | None = None
    backend: Backend | None = None
    threads: int = 1

    def load(self, for_files: int = 1) -> Model:
        """The model; several files are worked on side by side, and a single one by all threads."""
        from codec.model_folder import DEFAULT_MODEL
        from codec.registry import load_model

        name = DEFAULT_MODEL if self.model is None else self.model
        loaded = load_model(name, backend=self.backend)
        loaded.engine.threads = self.threads if for_files == 1 else 1
        return loaded


def removed(*names: str, remedy: str, is_flag: bool = False) -> Callable[[F], F]:
    """An option of earlier versions, which is refused with the remedy."""

    def refuse(ctx: click.Context, option: click.Parameter, value: object) -> None:
        if value not in (None, False):
            raise WrongUse(f"{names[-1]} is no option any more: {remedy}")

    return click.option(*names, is_flag=is_flag, hidden=True, expose_value=False, callback=refuse)


def bitrate(text: str) -> Fraction:
    """``6000``, ``6k`` or ``2.4k``."""
    try:
        return parse_bitrate(text)
    except ConfigError as error:
        raise WrongUse(str(error)) from error


def counts(text: str) -> tuple[int, ...]:
    """``3,6,12``."""
    if not re.fullmatch(r"[0-9]{1,3}(,[0-9]{1,3})*", text):
        raise WrongUse(f"codebooks {text!r}: give numbers as 3,6,12")
    return tuple(int(each) for each in text.split(","))


def size(text: str) -> int:
    """``5000``, ``250kB``, ``1MB`` or ``1.5M``, of 1000 or 1000000 bytes."""
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)(k|K|M|)B?", text.strip())
    units = {"": 1, "k": 1_000, "K": 1_000, "M": 1_000_000}
    if match and (found := int(float(match[1]) * units[match[2]])):
        return found
    raise WrongUse(f"size {text!r}: give bytes as 5000, 250kB or 1MB")


def rate(text: str) -> int | Literal["model"]:
    """Samples per second, or ``model``."""
    if text == "model":
        return "model"
    if not text.isdecimal() or not 1000 <= int(text) <= 384_000:
        raise WrongUse(f"sample rate {text!r}: give samples per second (1000 to 384000) or 'model'")
    return int(text)


def time(text: str) -> float:
    """Seconds of ``65.5``, ``1:05.5`` or ``1:01:05.5``."""
    try:
        parts = [float(part) for part in text.split(":")]
    except ValueError:
        parts = []
    if not 1 <= len(parts) <= 3 or not all(0 <= part < float("inf") for part in parts):
        raise WrongUse(f"time {text!r}: give seconds, or minutes and seconds as 1:05.5")
    return math.fsum(part * 60**power for power, part in enumerate(reversed(parts)))


def output_suffix(name: str) -> str:
    """Suffix of a format of audio files that can be written: ``.wav`` for ``WAV`` or ``.wav``."""
    from codec.io.audio import FORMATS

    suffix = f".{name.lower().lstrip('.')}"
    if suffix not in FORMATS:
        names = ", ".join(each[1:] for each in FORMATS)
        raise WrongUse(f"format {suffix[1:]!r} is unknown: give one of {names}")
    return suffix


def log_to_stderr() -> None:
    import logging

    logging.basicConfig(level=logging.INFO, format="%(message)s")


PATH = click.Path(path_type=Path)
POSITIVE = click.FloatRange(min=0, min_open=True)

MODEL = click.option("-m", "--model", help="Packaged model, folder, or e.g. encodec=FOLDER.")
STREAM_MODEL = click.option(
    "-m", "--model", help="Model folder; otherwise the one the stream names."
)
BACKEND = click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    help="The core in 8 bits, or PyTorch. [the core if it runs the model]",
)
THREADS = click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    help="Files at once, or threads for a single one. [1]",
)
CODEBOOKS = click.option(
    *("-k", "--codebooks"),
    type=click.IntRange(1, 255),
    help="At most this many, the first ones. [all]",
)
START = click.option("--from", "start", type=time, default="0", help="Seconds, or 1:05.5. [0]")
END = click.option("--to", "end", type=time, help="Seconds, or 1:05.5. [the end]")
FORCE = click.option("-f", "--force", is_flag=True, help="Replace existing files.")
FORCE_ONE = click.option("-f", "--force", is_flag=True, help="Replace an existing file.")
