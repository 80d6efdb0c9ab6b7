"""The pictures of spectrograms: which speakers, which levels, and that a picture is written."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import spectrograms
from benchmarks.shared.recordings import SAMPLE_RATE
from codec.errors import CodecError
from tests.conftest import RECORDING


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("speech_a_0", "speech_a_1", "speech_b_0", "speech_c_0", "music_d_0"):
        shutil.copy(RECORDING, folder / f"{name}.flac")
    return folder


def test_each_row_is_another_speaker(folder: Path) -> None:
    chosen = [each.name for each in spectrograms.choose_speakers(folder, 9)]
    assert [name.split("_")[1] for name in chosen] == ["a", "b", "c"]
    assert len(spectrograms.choose_speakers(folder, 2)) == 2
    for path in folder.glob("speech*"):
        path.unlink()
    with pytest.raises(CodecError, match=f"{folder} has no recordings of speech"):
        spectrograms.choose_speakers(folder, 2)


def test_a_tone_is_a_line_at_its_frequency() -> None:
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    levels = spectrograms.spectrogram(np.sin(2 * np.pi * 3_000 * time).astype(np.float32))
    assert levels.max() == 0
    middle = levels[:, levels.shape[1] // 2]
    assert middle.argmax() == 128  # bins of 23.4 Hz
    assert middle[100] < -60
    assert len(middle) == pytest.approx(8_000 / SAMPLE_RATE * 1024, abs=1)


def test_a_picture_has_a_row_per_speaker_and_a_column_per_codec(
    folder: Path, model_folder: Path, tmp_path: Path
) -> None:
    words = f"--data {folder} --model {model_folder} --peers opus --speakers 2 --out {tmp_path}"
    spectrograms.main(words.split())
    with Image.open(tmp_path / "spectrograms.png") as picture:
        assert picture.size == (3 * 320, 2 * 210)
        assert len(picture.convert("RGB").getcolors(2**24) or ()) > 100
