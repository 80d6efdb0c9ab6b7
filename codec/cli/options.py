"""Types of options that several commands share, and the log of long-running ones."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Literal, TypeVar

import click

from codec.bitrate import Bitrate, parse_bitrate
from codec.cli.errors import WrongUse
from codec.engines.names import BACKENDS
from codec.errors import ConfigError

F = TypeVar("F", bound=Callable[..., object])

POSITIVE = click.FloatRange(min=0, min_open=True)

BACKEND = click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    help="onnxruntime or PyTorch. [onnx for models with graphs]",
)
THREADS = click.option(
    "--threads", type=click.IntRange(min=1), default=1, help="Threads of onnxruntime. [1]"
)
CODEBOOKS = click.option(
    "-k",
    "--codebooks",
    type=click.IntRange(1, 255),
    help="At most this many, the first ones. [all]",
)


def removed(*names: str, remedy: str, is_flag: bool = False) -> Callable[[F], F]:
    """An option of earlier versions, which is refused with what takes its place.

    Args:
        *names: of the option.
        remedy: what to give instead.
        is_flag: whether it has no value.
    """

    def refuse(ctx: click.Context, option: click.Parameter, value: object) -> None:
        if value not in (None, False):
            raise WrongUse(f"{names[-1]} is no option any more: {remedy}")

    return click.option(*names, is_flag=is_flag, hidden=True, expose_value=False, callback=refuse)


# `click.ParamType` takes a parameter from version 8.4 on only.


class BitrateType(click.ParamType):  # type: ignore[type-arg]
    """``6000``, ``6k`` or ``2.4k``."""

    name = "bitrate"

    def convert(self, value: Any, param: Any, ctx: Any) -> Bitrate:
        try:
            return value if isinstance(value, int | Fraction) else parse_bitrate(value)
        except ConfigError as error:
            raise WrongUse(str(error)) from error


class ByteSize(click.ParamType):  # type: ignore[type-arg]
    """``5000``, ``250kB``, ``1MB`` or ``1.5M``, of 1000 or 1000000 bytes."""

    name = "size"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)(k|K|M|)B?", str(value).strip())
        size = (
            int(float(match[1]) * {"": 1, "k": 1_000, "K": 1_000, "M": 1_000_000}[match[2]])
            if match
            else 0
        )
        if size <= 0:
            raise WrongUse(f"size {value!r}: give bytes as 5000, 250kB or 1MB")
        return size


class OutputRate(click.ParamType):  # type: ignore[type-arg]
    """A number of samples per second, or ``model``."""

    name = "rate"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | Literal["model"]:
        if value == "model":
            return "model"
        if not str(value).isdecimal() or not 1000 <= int(value) <= 384_000:
            raise WrongUse(
                f"sample rate {value!r}: give samples per second (1000 to 384000) or 'model'"
            )
        return int(value)


class Seconds(click.ParamType):  # type: ignore[type-arg]
    """``65.5``, ``1:05.5`` or ``1:01:05.5``."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        try:
            parts = [float(part) for part in str(value).split(":")]
        except ValueError:
            parts = []
        if not 1 <= len(parts) <= 3 or not all(0 <= part < float("inf") for part in parts):
            raise WrongUse(f"time {value!r}: give seconds, or minutes and seconds as 1:05.5")
        seconds = 0.0
        for part in parts:
            seconds = 60 * seconds + part
        return seconds


START = click.option("--from", "start", type=Seconds(), default=0.0, help="Seconds, or 1:05.5. [0]")
END = click.option("--to", "end", type=Seconds(), help="Seconds, or 1:05.5. [the end]")


def output_suffix(name: str) -> str:
    """Suffix of a format of audio files that can be written: ``.wav`` for ``WAV`` or ``.wav``."""
    from codec.io.audio import FORMATS

    suffix = f".{name.lower().lstrip('.')}"
    if suffix not in FORMATS:
        names = ", ".join(each[1:] for each in FORMATS)
        raise WrongUse(f"format {suffix[1:]!r} is unknown: give one of {names}")
    return suffix


def log_to_stderr() -> None:
    """Show the log messages of training and evaluation."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
