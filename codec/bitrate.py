"""Bitrates: exact numbers, and how they are written."""

from __future__ import annotations

import numbers
import re
from fractions import Fraction
from typing import Any, TypeAlias

from codec.arguments import check_number, shown
from codec.errors import ConfigError

Bitrate: TypeAlias = int | Fraction
"""Bits per second, exact."""


def parse_bitrate(text: str) -> Fraction:
    """Bits per second of ``"6000"``, ``"6k"`` or ``"2.4k"``.

    Raises:
        ConfigError: not a positive number.

    Example:
        >>> parse_bitrate("2.4k")
        Fraction(2400, 1)
    """
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)([kK]?)", text.strip())
    bits = Fraction(match[1]) * (1000 if match[2] else 1) if match else Fraction(0)
    if bits <= 0:
        raise ConfigError(
            f"bitrate {text!r} is not a positive number of bits per second: write 6000, 6k or 2.4k"
        )
    return bits


def checked_bitrate(bitrate: Any) -> Bitrate:
    """A bitrate as an exact number; NumPy's numbers and floats count.

    Raises:
        ConfigError: it is none, such as a string, or not positive.

    Example:
        >>> checked_bitrate(6e3)
        Fraction(6000, 1)
    """
    if isinstance(bitrate, str):
        raise ConfigError(f"bitrate {shown(bitrate)} is a string: give bits per second as 6000")
    value = check_number("bitrate", bitrate, 0, 1e12)
    if value <= 0:
        raise ConfigError(f"bitrate is {bitrate}: give bits per second as 6000")
    if isinstance(bitrate, numbers.Integral):
        return int(bitrate)
    return bitrate if isinstance(bitrate, Fraction) else Fraction(value)


def format_bitrate(bits_per_second: Fraction | float) -> str:
    """Bits per second in kbit/s, for messages.

    Example:
        >>> format_bitrate(2400)
        '2.4 kbit/s'
    """
    return f"{float(bits_per_second) / 1000:.6g} kbit/s"


def ceil_div(numerator: int, denominator: int) -> int:
    """Integer division rounded up.

    Example:
        >>> ceil_div(481, 480)
        2
    """
    return -(-numerator // denominator)
