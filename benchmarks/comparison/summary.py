"""Statistics over files: means, and differences between codecs at similar bitrates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.shared.metrics import METRICS, Metric, mean_with_interval
from benchmarks.shared.recordings import class_order

SIMILAR_BITRATES = 1.25
"""Maximum ratio of two bitrates that are compared."""
MIN_FILES = 5
"""Number of files below which nothing is called better or worse."""


def summarise(rows: Sequence[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """Means with confidence intervals, by class of sound, codec and bitrate.

    Args:
        rows: one row per recording, see `benchmarks.comparison.coding.rows_by_file`.
        seed: seed of the bootstrap.
    """
    summary = []
    for sound_class in sorted({row["class"] for row in rows}, key=class_order):
        members = [row for row in rows if row["class"] == sound_class]
        for codec in members[0]["codecs"]:
            for bitrate in members[0]["codecs"][codec]:
                figures = [row["codecs"][codec][bitrate] for row in members]
                line = {"class": sound_class, "codec": codec, "bitrate": int(bitrate)}
                summary.append(line | _means(figures, seed))
    return summary


def summarise_originals(
    originals: Mapping[str, Mapping[str, Sequence[float]]], seed: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Means with confidence intervals of the recordings themselves, by class of sound and figure.

    Args:
        originals: see `benchmarks.comparison.coding.measure_originals`.
        seed: seed of the bootstrap.
    """
    return {
        sound_class: {name: _statistics(values, seed) for name, values in figures.items()}
        for sound_class, figures in originals.items()
    }


def _means(figures: Sequence[dict[str, Any]], seed: int) -> dict[str, Any]:
    line: dict[str, Any] = {"files": len(figures)}
    for name in ("payload_bitrate", "file_bitrate"):
        values = [figure[name] for figure in figures]
        line[name] = None if None in values else float(np.mean(values))
    for name in METRICS:
        values = [figure[name] for figure in figures if name in figure]
        if values:
            line[name] = _statistics(values, seed)
    return line


def _statistics(values: Sequence[float], seed: int) -> dict[str, float]:
    mean, low, high = mean_with_interval(values, seed=seed)
    return {"mean": mean, "low": low, "high": high, "files": len(values)}


def paired_differences(rows: Sequence[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """Differences between each model of aecodec and each peer, file by file.

    A pair is compared at those two bitrates that are closest, if their ratio is at most
    `SIMILAR_BITRATES`.

    Args:
        rows: one row per recording, see `benchmarks.comparison.coding.rows_by_file`.
        seed: seed of the bootstrap.

    Returns:
        A line per class of sound, model and peer, with the mean difference (ours minus theirs) and
        its confidence interval for every measure.
    """
    found = []
    for sound_class in sorted({row["class"] for row in rows}, key=class_order):
        members = [row["codecs"] for row in rows if row["class"] == sound_class]
        spent = {
            (codec, bitrate): float(
                np.mean([member[codec][bitrate]["payload_bitrate"] for member in members])
            )
            for codec, figures in members[0].items()
            for bitrate in figures
        }
        for own, other in _closest(spent):
            line: dict[str, Any] = {"class": sound_class, "codec": own[0], "peer": other[0]}
            line |= {"payload_bitrate": spent[own], "peer_payload_bitrate": spent[other]}
            pairs = [(member[own[0]][own[1]], member[other[0]][other[1]]) for member in members]
            for name in METRICS:
                differences = [a[name] - b[name] for a, b in pairs if name in a and name in b]
                if differences:
                    line[name] = _statistics(differences, seed)
            found.append(line)
    return found


def _closest(
    spent: dict[tuple[str, str], float],
) -> list[tuple[tuple[str, str], tuple[str, str]]]:
    """For each model of aecodec and each peer, the two bitrates that are closest."""
    codecs = list(dict.fromkeys(codec for codec, _ in spent))
    found = []
    for model in (codec for codec in codecs if codec.startswith("aecodec")):
        for peer in (codec for codec in codecs if codec != model):
            pairs = [
                (own, other)
                for own in spent
                for other in spent
                if (own[0], other[0]) == (model, peer)
            ]
            own, other = min(pairs, key=lambda pair: _ratio(*(spent[key] for key in pair)))
            if _ratio(spent[own], spent[other]) <= SIMILAR_BITRATES:
                found.append((own, other))
    return found


def _ratio(a: float, b: float) -> float:
    return max(a, b) / min(a, b)


def verdict(metric: Metric, figure: dict[str, Any]) -> str:
    """Whether a difference is "better", "worse" or "undecided".

    It is undecided if the confidence interval contains zero, or with fewer than `MIN_FILES` files.

    Example:
        >>> verdict(METRICS["mel"], {"mean": -0.2, "low": -0.3, "high": -0.1, "files": 20})
        'better'
    """
    if figure["low"] * figure["high"] <= 0 or figure["files"] < MIN_FILES:
        return "undecided"
    return "better" if (figure["mean"] > 0) == (metric.better == "higher") else "worse"


def measures_in(lines: Sequence[dict[str, Any]]) -> dict[str, Metric]:
    """Those of `METRICS` that occur in lines of a summary."""
    return {name: metric for name, metric in METRICS.items() if any(name in line for line in lines)}
