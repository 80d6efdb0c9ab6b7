"""Types, limits and keys of settings, and the messages about wrong ones."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

import pytest

from codec.errors import ConfigError
from codec.settings import check_keys, check_settings, setting, settings_of


@dataclass(frozen=True, kw_only=True)
class Example:
    count: int = field(metadata=setting("number of things", 1, 10))
    name: str = field(default="a", metadata=setting("a name", choices=("a", "b")))
    share: float = field(default=0.5, metadata=setting("share of things", 0, below=1))
    rate: float = field(default=1.0, metadata=setting("rate in Hz", above=0))
    sizes: tuple[int, ...] = field(default=(1, 2), metadata=setting("sizes", 0, 9, length=(1, 3)))
    pair: tuple[float, ...] = field(default=(0.0, 1.0), metadata=setting("a range", length=2))
    levels: tuple[tuple[int, ...], ...] = field(default=(), metadata=setting("levels", 1))
    weights: dict[str, float] = field(default_factory=dict, metadata=setting("weights", 0))
    exact: bool = False

    def __post_init__(self) -> None:
        check_settings(self, "example")


def test_plain_values_are_converted_to_the_types_of_the_fields() -> None:
    values: dict[str, Any] = {"sizes": [3], "levels": [[1, 2], []], "weights": {"x": 2}}
    example = Example(count=2, rate=3, **values)
    assert example.sizes == (3,) and example.levels == ((1, 2), ())
    assert isinstance(example.rate, float) and isinstance(example.weights["x"], float)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 11}, "example.count is 11: it must lie in 1..10"),
        ({"count": 1.0}, "example.count is 1.0: it must be a whole number"),
        ({"count": True}, "example.count is True: it must be a whole number"),
        ({"name": "c"}, 'example.name is \'c\': it must be one of "a", "b"'),
        ({"name": 1}, "example.name is 1: it must be a string"),
        ({"share": 1}, "example.share is 1.0: it must lie in [0, 1)"),
        ({"share": True}, "example.share is True: it must be a number"),
        ({"rate": 0}, "example.rate is 0.0: it must be greater than 0"),
        ({"rate": float("nan")}, "example.rate is nan: it must be a number"),
        ({"sizes": ()}, "example.sizes has 0 entries: it must have 1 to 3"),
        ({"sizes": (10,)}, "example.sizes holds 10: it must lie in 0..9"),
        ({"sizes": "12"}, "example.sizes is '12': it must be a list of whole numbers"),
        ({"sizes": ("x",)}, "example.sizes holds 'x': it must be a whole number"),
        ({"pair": (1,)}, "example.pair has 1 entries: it must have 2"),
        ({"levels": (1,)}, "example.levels is 1: it must be a list of whole numbers"),
        ({"levels": 1}, "example.levels is 1: it must be a list of lists"),
        ({"levels": ((0,),)}, "example.levels holds 0: it must be at least 1"),
        ({"weights": {"x": -1}}, "example.weights.x is -1.0: it must be at least 0"),
        ({"weights": 1}, "example.weights is 1: it must be a table of values"),
        ({"exact": 1}, "example.exact is 1: it must be true or false"),
    ],
)
def test_a_wrong_value_is_refused_with_its_limits(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Example(**{"count": 1} | values)
    assert str(caught.value) == message


def test_unknown_and_missing_keys_are_named() -> None:
    check_keys(Example, {"count": 1}, "[example]")
    with pytest.raises(ConfigError, match=r"'shar' in \[example\]: did you mean 'share'\?"):
        check_keys(Example, {"count": 1, "shar": 1}, "[example]")
    with pytest.raises(ConfigError, match=r"'xyz' in \[example\]: known: \['count', "):
        check_keys(Example, {"count": 1, "xyz": 1}, "[example]")
    with pytest.raises(ConfigError, match=r"\[example\] lacks the key 'count'"):
        check_keys(Example, {}, "[example]")


def test_settings_hold_the_descriptions_of_fields() -> None:
    settings = settings_of(Example)
    assert settings["rate"].description == "rate in Hz"
    assert "exact" not in settings


def test_settings_import_no_torch() -> None:
    code = "import sys, codec.settings, codec.config; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
