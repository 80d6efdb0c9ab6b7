"""Checks of arguments: one line that names the value and what is allowed. NumPy's numbers count.

Each takes the name of an argument, for the message, and its value, and raises a `ConfigError`, or
the error given, for a value of another type or out of range.
"""

from __future__ import annotations

import math
import numbers
import operator
import os
from pathlib import Path
from typing import Any

from codec.errors import CodecError, ConfigError


def check_whole(
    name: str, value: Any, low: int, high: int, error: type[CodecError] = ConfigError
) -> int:
    """A whole number from ``low`` to ``high``; no boolean, and no float, even if it is whole.

    Example:
        >>> check_whole("effort", "high", 0, 3)
        Traceback (most recent call last):
        codec.errors.ConfigError: effort is 'high': it must be a whole number from 0 to 3
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = low - 1
    if isinstance(value, bool) or not low <= number <= high:
        raise error(f"{name} is {shown(value)}: it must be a whole number from {low} to {high}")
    return number


def check_number(name: str, value: Any, low: float, high: float) -> float:
    """A finite number from ``low`` to ``high``: an int, a float or a fraction.

    Example:
        >>> check_number("quality", float("nan"), 0, 10)
        Traceback (most recent call last):
        codec.errors.ConfigError: quality is nan: it must be a number from 0 to 10
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not low <= value <= high or not math.isfinite(value):
        raise ConfigError(f"{name} is {shown(value)}: it must be a number from {low:g} to {high:g}")
    return float(value)


def check_flag(name: str, value: Any, error: type[CodecError] = ConfigError) -> bool:
    """True or False; not a number, a text or an array, of which one might mean another.

    Example:
        >>> check_flag("mono", "no")
        Traceback (most recent call last):
        codec.errors.ConfigError: mono is 'no': give True or False
    """
    # NumPy's booleans are no bool, and NumPy is not imported for a command's help.
    if not isinstance(value, bool) and type(value).__name__ not in ("bool", "bool_"):
        raise error(f"{name} is {shown(value)}: give True or False")
    return bool(value)


def check_type(
    name: str, value: Any, kind: type | tuple[type, ...], error: type[CodecError] = ConfigError
) -> None:
    """An object of a class, or of one of several.

    Example:
        >>> check_type("data", "text", (bytes, bytearray))
        Traceback (most recent call last):
        codec.errors.ConfigError: data is 'text': give bytes or bytearray
    """
    if not isinstance(value, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        names = " or ".join(each.__name__ for each in kinds)
        raise error(f"{name} is {shown(value)}: give {names}")


def check_path(name: str, value: Any) -> Path:
    """A path that the system can look up, whether something is there or not.

    Raises:
        CodecError: it is no path, or one that the system refuses: too long, or not to be entered.

    Example:
        >>> check_path("source", 5)
        Traceback (most recent call last):
        codec.errors.CodecError: source is 5: give a path
    """
    if not isinstance(value, str | Path):
        raise CodecError(f"{name} is {shown(value)}: give a path")
    try:
        os.lstat(value)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CodecError(
            f"{shown(str(value))} cannot be used: {reason}; give another path"
        ) from error
    return Path(value)


def shown(value: object) -> str:
    """A value in a message: never more than a line, and never an error of its own.

    Example:
        >>> shown("6k"), len(shown("long" * 100))
        ("'6k'", 60)
    """
    try:
        text = repr(value)
    except Exception:  # numbers of many digits, and whatever others define
        text = f"a {type(value).__name__}"
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
