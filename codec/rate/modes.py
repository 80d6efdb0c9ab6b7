"""How many codes the frames of a stream get: `Constant`, `Average`, `Quality`, `FileSize`."""

from __future__ import annotations

import numbers
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TypeAlias

from codec.arguments import check_flag, check_number, check_whole, shown
from codec.bitrate import Bitrate, checked_bitrate
from codec.errors import ConfigError
from codec.format.container import MAX_CODEBOOKS


@dataclass(frozen=True)
class Constant:
    """The same number of codes in each frame.

    Codes are entropy-coded if the model has a context model, which changes no sample.

    Attributes:
        codebooks: number of codebooks, the first ones of the model; all of them if None.
        plain: whether all codes take the same number of bits instead, without entropy coding.

    Raises:
        ConfigError: a value is out of range.

    Example:
        >>> Constant(12)
        Constant(codebooks=12, plain=False)
    """

    codebooks: int | None = None
    plain: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if self.codebooks is not None:
            codebooks = check_whole("codebooks", self.codebooks, 1, MAX_CODEBOOKS)
            object.__setattr__(self, "codebooks", codebooks)
        object.__setattr__(self, "plain", check_flag("plain", self.plain))


@dataclass(frozen=True)
class Average:
    """A mean bitrate, where each frame gets the codes that it needs.

    All bytes of a whole file count; in live streams those of payloads, and of what their transport
    adds (``overhead`` of `Packing.live`; the head of a packet has 11 bytes). Redundant frames come
    on top. With a model that has no context model, all frames get the same number of codes, the
    largest whose bytes do not exceed the bitrate.

    Attributes:
        bitrate: bits per second and channel.

    Raises:
        ConfigError: the bitrate is no positive number.

    Example:
        >>> Average(2_400)
        Average(bitrate=2400)
    """

    bitrate: Bitrate

    def __post_init__(self) -> None:
        object.__setattr__(self, "bitrate", checked_bitrate(self.bitrate))


@dataclass(frozen=True)
class Quality:
    """A constant quality, where each frame gets the codes that it needs: no bitrate is aimed at.

    Attributes:
        quality: from 0 to 10 (`codec.rate.quality.quality_lambdas`).

    Raises:
        ConfigError: the quality is out of range.

    Example:
        >>> Quality(5)
        Quality(quality=5.0)
    """

    quality: float

    def __post_init__(self) -> None:
        quality = check_number("quality", self.quality, 0, 10)
        object.__setattr__(self, "quality", quality)


@dataclass(frozen=True)
class FileSize:
    """The highest quality at which a whole file is not larger; it is encoded several times.

    Attributes:
        num_bytes: bytes of the file.

    Raises:
        ConfigError: the size is no positive whole number.

    Example:
        >>> FileSize(1_000_000)
        FileSize(num_bytes=1000000)
    """

    num_bytes: int

    def __post_init__(self) -> None:
        num_bytes = check_whole("num_bytes", self.num_bytes, 1, 2**63)
        object.__setattr__(self, "num_bytes", num_bytes)


Rate: TypeAlias = Constant | Average | Quality | FileSize
RateLike: TypeAlias = Rate | int | float | Fraction | None
"""A rate, or a number of bits per second for `Average`; None stands for ``Constant()``."""


def as_rate(rate: RateLike) -> Rate:
    """The rate that ``rate`` stands for.

    Raises:
        ConfigError: it is neither a rate nor a positive number.

    Example:
        >>> as_rate(3_000), as_rate(None)
        (Average(bitrate=3000), Constant(codebooks=None, plain=False))
    """
    if rate is None:
        return Constant()
    if isinstance(rate, Rate):
        return rate
    if isinstance(rate, numbers.Real) and not isinstance(rate, bool):
        return Average(rate)
    raise ConfigError(
        f"rate is {shown(rate)}: give bits per second as 6000, or Constant(), Average(), "
        "Quality() or FileSize()"
    )
