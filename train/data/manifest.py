"""A manifest of the training audio: who speaks, up to which frequency; and weights from it.

Recordings drawn by their duration alone teach a codec the few speakers with hours of audio. A CSV
file beside them, with a header and at least the columns ``file``, ``speaker`` and ``bandwidth_hz``,
says what they are.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

from codec.corpus.index import Clip, Index
from codec.errors import ConfigError
from train.recipe.sections import DataConfig

COLUMNS = ("file", "speaker", "bandwidth_hz")
WIDE_HZ = 10_000
"""Bandwidth from which a recording counts as wide: nearly all that speech has."""


def clip_weights(index: Index, data: DataConfig) -> list[float]:
    """How often each clip is drawn relative to its duration, in the order of ``index.clips``.

    A clip that the manifest does not list is a speaker of its own, and not wide.

    Args:
        index: the clips.
        data: names the manifest, and how speakers and bandwidths are balanced.

    Returns:
        One weight per clip, all 1 without a manifest.

    Raises:
        ConfigError: the manifest cannot be read, or lists none of the clips.
    """
    if not data.manifest:
        return [1.0] * len(index.clips)
    rows = read_manifest(index.folder / data.manifest)
    if not any(clip.name in rows for clip in index.clips):
        raise ConfigError(
            f"data.manifest: {data.manifest} lists no file of {index.folder}: its column file must "
            "hold paths relative to that folder"
        )

    def speaker_of(clip: Clip) -> str:
        return rows.get(clip.name, (clip.name, 0.0))[0]

    seconds: dict[tuple[str, str], float] = defaultdict(float)
    for clip in index.clips:
        seconds[clip.sound_class, speaker_of(clip)] += clip.seconds
    weights = []
    for clip in index.clips:
        duration = seconds[clip.sound_class, speaker_of(clip)]
        wide = rows.get(clip.name, ("", 0.0))[1] >= WIDE_HZ
        weights.append(duration ** (data.speaker_balance - 1) * (data.wide_weight if wide else 1.0))
    return weights


def read_manifest(path: Path) -> dict[str, tuple[str, float]]:
    """Speaker and bandwidth in Hz of each file of a manifest.

    Raises:
        ConfigError: the file cannot be read, or a column or a number is missing.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise ConfigError(
                    f"{path} lacks the column {missing[0]}: give {', '.join(COLUMNS)}"
                )
            return {
                row["file"]: (row["speaker"], float(row["bandwidth_hz"] or 0)) for row in reader
            }
    except (OSError, UnicodeDecodeError, csv.Error, ValueError, TypeError) as error:
        raise ConfigError(f"data.manifest: {path} cannot be read: {error}") from error
