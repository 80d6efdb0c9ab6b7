"""Reader and writer count alike."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile

from codec.format.reading import summarize_file
from codec.network.model import Codec
from tests.conftest import encode_in_packets, sound


@pytest.mark.parametrize("num_frames", [1, 7, 400])
@pytest.mark.parametrize("num_samples", [0, 1, 39, 40, 41, 280, 10_007])
def test_the_summary_of_the_writer_is_that_of_the_reader(
    lapped: Codec, tmp_path: Path, num_samples: int, num_frames: int
) -> None:
    """A hop is 40 samples here, so most of these lengths end in the middle of a frame."""
    soundfile.write(tmp_path / "in.wav", sound(num_samples, 2).T, lapped.config.sample_rate)
    target = tmp_path / "a.codes"
    written = encode_in_packets(tmp_path / "in.wav", target, num_frames, model=lapped)
    assert written.damage() is None
    assert written == summarize_file(target)
    assert written.num_bytes == target.stat().st_size
