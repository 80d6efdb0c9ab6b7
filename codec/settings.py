"""Settings of frozen dataclasses: description and range of a value, stored with its field.

A dataclass gives each field a `setting` as its metadata and calls `check_settings` in
``__post_init__``. `check_keys` compares a table that was read from a file with the fields.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ParamSpec, get_args, get_origin, get_type_hints

from codec.errors import ConfigError

_KEY = "setting"
_KINDS: dict[Any, tuple[str, str]] = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "booleans"),
    str: ("a string", "strings"),
}
P = ParamSpec("P")


@dataclass(frozen=True)
class Setting:
    """Description and limits of one field. Limits that are None do not apply.

    The limits of a list or a table apply to each of its values.
    """

    description: str  # what the value means, with its unit
    low: float | None = None  # smallest value allowed
    high: float | None = None  # largest value allowed
    _: KW_ONLY
    above: float | None = None  # limit that values must exceed, instead of `low`
    below: float | None = None  # limit that values must stay under, instead of `high`
    choices: Iterable[str] = ()  # the strings allowed; any string if empty
    length: int | tuple[int, int] | None = None  # of a list, or the smallest and the largest one

    @property
    def limits(self) -> str:
        """The allowed values in words, empty if all are.

        Example:
            >>> Setting("share of crops", low=0, high=1).limits
            'lie in 0..1'
            >>> Setting("decay of the average", low=0, below=1).limits
            'lie in [0, 1)'
        """
        if self.choices:
            return "be one of " + ", ".join(f'"{choice}"' for choice in self.choices)
        lowest = self.low if self.above is None else self.above
        highest = self.high if self.below is None else self.below
        if lowest is not None and highest is not None:
            if self.above is None and self.below is None:
                return f"lie in {lowest}..{highest}"
            opening = "[" if self.above is None else "("
            closing = "]" if self.below is None else ")"
            return f"lie in {opening}{lowest}, {highest}{closing}"
        if lowest is not None:
            return f"be at least {lowest}" if self.above is None else f"be greater than {lowest}"
        if highest is not None:
            return f"be at most {highest}" if self.below is None else f"be less than {highest}"
        return ""

    def allows(self, value: Any) -> bool:
        """Whether one number, string or boolean is within the limits."""
        if self.choices:
            return value in self.choices
        return (
            (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )


def _as_metadata(make: Callable[P, Setting]) -> Callable[P, dict[str, Setting]]:
    return lambda *args, **limits: {_KEY: make(*args, **limits)}


setting = _as_metadata(Setting)
"""Metadata of a dataclass field: its `Setting`."""


def settings_of(kind: Any) -> dict[str, Setting]:
    """The settings of a dataclass, or of an instance of one, by the names of their fields."""
    return {
        field.name: field.metadata[_KEY]
        for field in dataclasses.fields(kind)
        if _KEY in field.metadata
    }


def check_settings(instance: Any, section: str = "") -> None:
    """Check type and limits of every field of a dataclass, to be called in ``__post_init__``.

    Values are replaced: lists become tuples and whole numbers in fields of floats become floats.
    Supported types are int, float, bool, str, tuples of these, tuples of tuples, and
    ``dict[str, ...]``. In error messages, the section ``"run"`` gives ``"run.steps"``.

    Raises:
        ConfigError: a value is of the wrong type or outside its limits.

    Example:
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Optimizer:
        ...     lr: float = dataclasses.field(metadata=setting("learning rate", above=0))
        ...
        ...     def __post_init__(self) -> None:
        ...         check_settings(self, "optimizer")
        >>> Optimizer(lr=0.0)
        Traceback (most recent call last):
            ...
        codec.errors.ConfigError: optimizer.lr is 0.0: it must be greater than 0
    """
    settings, kinds = settings_of(instance), get_type_hints(type(instance))
    for name in (field.name for field in dataclasses.fields(instance)):
        full_name = f"{section}.{name}" if section else name
        value = convert(full_name, getattr(instance, name), kinds[name], settings.get(name))
        object.__setattr__(instance, name, value)


def convert(name: str, value: Any, kind: Any, limits: Setting | None = None) -> Any:
    """``value``, as JSON or TOML give it, as the type ``kind``, checked against ``limits``.

    Raises:
        ConfigError: ``value`` is of another type or outside ``limits``.
    """
    if get_origin(kind) is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{name} is {value!r}: it must be a table of values")
        item = get_args(kind)[1]
        return {str(key): convert(f"{name}.{key}", v, item, limits) for key, v in value.items()}
    if get_origin(kind) is not tuple:
        return _plain(f"{name} is", value, kind, limits)
    item = get_args(kind)[0]
    if not isinstance(value, list | tuple):
        kinds = "lists" if get_origin(item) is tuple else _KINDS[item][1]
        raise ConfigError(f"{name} is {value!r}: it must be a list of {kinds}")
    if limits is not None and limits.length is not None:
        length = limits.length
        low, high = (length, length) if isinstance(length, int) else length
        if not low <= len(value) <= high:
            wanted = f"{low}" if low == high else f"{low} to {high}"
            raise ConfigError(f"{name} has {len(value)} entries: it must have {wanted}")
        limits = dataclasses.replace(limits, length=None)
    if get_origin(item) is tuple:
        return tuple(convert(name, each, item, limits) for each in value)
    return tuple(_plain(f"{name} holds", each, item, limits) for each in value)


def check_keys(kind: Any, values: Mapping[str, Any], where: str) -> None:
    """Compare the keys of a table, called ``where`` in messages, with the fields of a dataclass.

    Raises:
        ConfigError: a key is unknown (the message names the nearest known one), or one of a field
            without default is missing.

    Example:
        >>> check_keys(Setting, {"descripton": "gain"}, "[loss]")
        Traceback (most recent call last):
            ...
        codec.errors.ConfigError: unknown key 'descripton' in [loss]: did you mean 'description'?
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for key in values:
        if key not in fields:
            import difflib

            near = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {sorted(fields)}"
            raise ConfigError(f"unknown key {key!r} in {where}: {hint}")
    for key, field in fields.items():
        missing = dataclasses.MISSING
        has_default = field.default is not missing or field.default_factory is not missing
        if key not in values and not has_default:
            raise ConfigError(f"{where} lacks the key {key!r}")


def _plain(what: str, value: Any, kind: Any, limits: Setting | None) -> Any:
    """``value`` if it is of the plain type ``kind`` and within its limits.

    Whole numbers count as floats.
    """
    accepted: type | types.UnionType = int | float if kind is float else kind
    is_of_kind = isinstance(value, accepted) and (kind is bool or not isinstance(value, bool))
    # Larger numbers lose digits as floats. This also excludes infinity and NaN.
    if is_of_kind and kind is float:
        is_of_kind = abs(value) < 2**53
    if not is_of_kind:
        raise ConfigError(f"{what} {value!r}: it must be {_KINDS[kind][0]}")
    value = float(value) if kind is float else value
    if limits is not None and not limits.allows(value):
        raise ConfigError(f"{what} {value!r}: it must {limits.limits}")
    return value
