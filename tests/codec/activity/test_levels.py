"""Levels of frames, and the loudest of them."""

from __future__ import annotations

import numpy as np
import pytest

from codec.activity.levels import LOWEST_DB, LoudestLevel, frame_levels


def test_levels_are_those_of_each_frame() -> None:
    frames = np.stack([np.full((3, 7), 0.1, np.float32), np.zeros((3, 7), np.float32)])
    np.testing.assert_allclose(frame_levels(frames), [[-20] * 3, [-120] * 3], atol=1e-4)


def test_what_is_louder_counts_at_once_and_decays_in_time() -> None:
    loudest = LoudestLevel(decay_db=2.0)
    assert loudest.db == LOWEST_DB
    loudest.follow(np.array([[-30.0, -50.0], [-10.0, -40.0]]), seconds=1.0)
    assert loudest.db == -10
    for seconds in (0.5, 1.5):
        loudest.follow(np.array([[-60.0]]), seconds)
    assert loudest.db == pytest.approx(-14)
    loudest.follow(np.zeros((1, 0)), seconds=100.0)
    assert loudest.db == LOWEST_DB
