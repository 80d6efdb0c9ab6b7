"""Manifests: speakers and bandwidths decide how often recordings are drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from codec.corpus.index import Index, scan
from codec.errors import ConfigError
from train.data.crops import Crops
from train.data.manifest import clip_weights
from train.recipe.sections import DataConfig

RATE = 8_000
# Samples, speaker and bandwidth of each file.
FILES = {
    "a/1.wav": (8_000, "anna", 11_000),
    "a/2.wav": (8_000, "anna", 4_000),
    "a/3.wav": (4_000, "bert", 4_000),
    "b/4.wav": (4_000, "anna", 4_000),
}


@pytest.fixture
def index(tmp_path: Path) -> Index:
    lines = ["file,more,speaker,bandwidth_hz"]
    for value, (name, (length, speaker, bandwidth)) in enumerate(FILES.items(), 1):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, np.full(length, value / 10), RATE)
        lines.append(f"{name},x,{speaker},{bandwidth}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    return scan(tmp_path)


def data(**values: object) -> DataConfig:
    return DataConfig(crop_frames=1, batch_size=1, **values)  # type: ignore[arg-type]


def shares(index: Index, config: DataConfig) -> np.ndarray:
    """Share of each file among many crops."""
    crops = Crops(index, RATE, clip_weights=clip_weights(index, config), memory_gb=1)
    rng = np.random.default_rng(0)
    drawn = np.rint([10 * crops.draw(rng, 50)[25] for _ in range(4000)]).astype(int)
    return np.bincount(drawn, minlength=5)[1:] / 4000


# Four standard deviations of 4000 draws are .032 at most.
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [8 / 24, 8 / 24, 4 / 24, 4 / 24]),
        # Anna's two files of class a share what bert has; class b keeps its sixth.
        ({"speaker_balance": 0.0}, [5 / 24, 5 / 24, 10 / 24, 4 / 24]),
        # In class a: 8 x 3, 8 and 4 parts of 36.
        ({"wide_weight": 3.0}, [24 / 36 * 5 / 6, 8 / 36 * 5 / 6, 4 / 36 * 5 / 6, 1 / 6]),
    ],
)
def test_recordings_are_drawn_by_speaker_and_bandwidth(
    index: Index, settings: dict[str, float], expected: list[float]
) -> None:
    found = shares(index, data(manifest="manifest.csv", **settings))
    assert found == pytest.approx(expected, abs=0.032)


def test_without_a_manifest_duration_alone_counts(index: Index) -> None:
    assert clip_weights(index, data(speaker_balance=0.0, wide_weight=9.0)) == [1.0] * 4


def test_files_that_a_manifest_does_not_list_are_speakers_of_their_own(
    index: Index, tmp_path: Path
) -> None:
    (tmp_path / "manifest.csv").write_text("file,speaker,bandwidth_hz\na/1.wav,anna,\n")
    weights = clip_weights(index, data(manifest="manifest.csv", speaker_balance=0.0))
    assert weights == pytest.approx([1.0, 1.0, 2.0, 2.0])  # one part each, by seconds


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "manifest.csv cannot be read"),
        (b"file,speaker\na/1.wav,anna\n", "lacks the column bandwidth_hz"),
        (b"file,speaker,bandwidth_hz\na/1.wav,anna,wide\n", "cannot be read: could not convert"),
        (b"file,speaker,bandwidth_hz\n\xff\xfe,anna,1\n", "cannot be read"),
        (b"file,speaker,bandwidth_hz\nelsewhere.wav,anna,1\n", "lists no file"),
        (b"", "lacks the column file"),
    ],
)
def test_a_wrong_manifest_is_named(
    index: Index, tmp_path: Path, content: bytes | None, message: str
) -> None:
    if content is None:
        (tmp_path / "manifest.csv").unlink()
    else:
        (tmp_path / "manifest.csv").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        clip_weights(index, data(manifest="manifest.csv"))
