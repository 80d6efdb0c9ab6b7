"""Rates are values that are checked when they are made."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from codec.errors import CodecError, ConfigError
from codec.rate.modes import Average, Constant, FileSize, Quality, as_rate


@pytest.mark.parametrize(
    ("make", "values"),
    [
        (Constant, (0, -1, 2.0, "12", True, 256)),
        (lambda value: Constant(plain=value), (1, "no", None)),
        (Average, (0, -1, "6k", float("nan"), None, True)),
        (Quality, (-0.1, 10.1, "5", float("nan"), None)),
        (FileSize, (0, 1.5, "1MB", None)),
        (as_rate, ("6k", True, [6000], -6000, Constant)),
    ],
)
def test_impossible_rates_are_refused_in_one_line(make: Any, values: tuple[object, ...]) -> None:
    for value in values:
        with pytest.raises(ConfigError) as caught:
            make(value)
        assert isinstance(caught.value, CodecError)
        assert "\n" not in str(caught.value)


def test_a_number_is_an_average_and_none_is_constant() -> None:
    assert as_rate(None) == Constant() == Constant(None, plain=False)
    numbers: tuple[Any, ...] = (3_000, 3_000.0, Fraction(3_000), np.float32(3e3), np.int16(3_000))
    for number in numbers:
        assert as_rate(number) == Average(3_000)
    assert as_rate(Fraction(10, 3)) == Average(Fraction(10, 3))
    for rate in (Constant(3), Average(1), Quality(0), FileSize(1)):
        assert as_rate(rate) is rate
