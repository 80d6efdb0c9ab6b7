"""`Packing` is a value that is checked when it is made."""

from __future__ import annotations

from typing import Any

import pytest

from codec.errors import ConfigError
from codec.rate.redundancy import Redundancy
from codec.session.packing import Packing


@pytest.mark.parametrize(
    ("make", "values"),
    [
        (Packing.live, (0, 2**16, 1.0, "1", None)),
        (lambda value: Packing.live(dtx=value), (1, "yes", None)),
        (lambda value: Packing.live(redundancy=value), (2, (2, 3_000))),
        (lambda value: Packing.live(overhead=value), (-1, 41.5, "file", None)),
        (Packing.file, (-1, 11, "2", float("nan"), None)),
        (lambda value: Packing.file(num_samples=value), (-1, 1.5, "all")),
    ],
)
def test_impossible_packings_are_refused_in_one_line(make: Any, values: tuple[object, ...]) -> None:
    for value in values:
        with pytest.raises(ConfigError) as caught:
            make(value)
        assert "\n" not in str(caught.value)


def test_equal_packings_are_equal() -> None:
    assert Packing.live() == Packing.live(1, dtx=False) != Packing.live(2)
    assert Packing.live(redundancy=Redundancy(1, 500)) == Packing.live(
        redundancy=Redundancy(1, 500)
    )
    assert Packing.file() == Packing.file(2.0) != Packing.live()
    assert Packing.file().is_file
    assert not Packing.live(3).is_file
