"""Means, intervals, tables and pictures of what `rate_quality.py` measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.shared.metrics import METRICS, Metric, mean_with_interval
from benchmarks.shared.plots import Line, draw_lines, label_lines, new_figure, save

PLOTTED = [name for name, metric in METRICS.items() if metric.better]
CLOSE = 1.25
"""Ratio of two bitrates that may still be compared."""
ENOUGH = 5
"""Files without which nothing is called better or worse."""
ARROWS = {"higher": " ↑", "lower": " ↓", "": ""}
"""Behind a measure's title: where better lies."""
OVERVIEW = (
    ("speech", "pesq_wb"),
    ("speech", "stoi"),
    ("music", "visqol_audio"),
    ("sound", "visqol_audio"),
)
"""Class and measure of each panel of the short picture."""


def summarise(rows: Sequence[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """Means with intervals, by class, codec and bitrate."""
    summary = []
    for kind in sorted({row["class"] for row in rows}, key=class_order):
        members = [row for row in rows if row["class"] == kind]
        for codec in members[0]["codecs"]:
            for bitrate in members[0]["codecs"][codec]:
                figures = [row["codecs"][codec][bitrate] for row in members]
                line: dict[str, Any] = {"class": kind, "codec": codec, "bitrate": int(bitrate)}
                line["files"] = len(figures)
                for name in ("payload_bitrate", "file_bitrate"):
                    values = [figure[name] for figure in figures]
                    line[name] = None if None in values else float(np.mean(values))
                for name in METRICS:
                    values = [figure[name] for figure in figures if name in figure]
                    if values:
                        line[name] = _statistics(values, seed)
                summary.append(line)
    return summary


def pairs(rows: Sequence[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """Ours beside each peer where their bitrates come closest, file by file.

    Returns:
        A line per class, model and peer, with the mean difference of every measure, ours less
        theirs, and its interval. Peers that come no closer than `CLOSE` are left out.
    """
    found = []
    for kind in sorted({row["class"] for row in rows}, key=class_order):
        members = [row["codecs"] for row in rows if row["class"] == kind]
        spent = {
            (codec, bitrate): float(
                np.mean([member[codec][bitrate]["payload_bitrate"] for member in members])
            )
            for codec, figures in members[0].items()
            for bitrate in figures
        }
        for own, other in _closest(spent):
            line: dict[str, Any] = {"class": kind, "codec": own[0], "beside": other[0]}
            line |= {"payload_bitrate": spent[own], "beside_payload_bitrate": spent[other]}
            couples = [(member[own[0]][own[1]], member[other[0]][other[1]]) for member in members]
            for name in METRICS:
                differences = [a[name] - b[name] for a, b in couples if name in a and name in b]
                if differences:
                    line[name] = _statistics(differences, seed)
            found.append(line)
    return found


def _closest(
    spent: dict[tuple[str, str], float],
) -> list[tuple[tuple[str, str], tuple[str, str]]]:
    """Of each model of ours and each other codec, the two bitrates that are closest."""
    codecs = list(dict.fromkeys(codec for codec, _ in spent))
    found = []
    for model in (codec for codec in codecs if codec.startswith("aecodec")):
        for peer in (codec for codec in codecs if codec != model):
            couples = [
                (own, other)
                for own in spent
                for other in spent
                if (own[0], other[0]) == (model, peer)
            ]
            own, other = min(couples, key=lambda couple: _ratio(*(spent[key] for key in couple)))
            if _ratio(spent[own], spent[other]) <= CLOSE:
                found.append((own, other))
    return found


def _ratio(a: float, b: float) -> float:
    return max(a, b) / min(a, b)


def _statistics(values: Sequence[float], seed: int) -> dict[str, float]:
    mean, low, high = mean_with_interval(values, seed=seed)
    return {"mean": mean, "low": low, "high": high, "files": len(values)}


def pair_table(found: Sequence[dict[str, Any]]) -> str:
    """In what we are better and worse than a peer at about the same bitrate, as Markdown."""
    parts = [
        "| sound | codec | kbit/s | beside | kbit/s | better in | worse in | undecided |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for line in found:
        verdicts: dict[str, list[str]] = {"better": [], "worse": [], "undecided": []}
        for name, metric in METRICS.items():
            if name in line and metric.better:
                figure = line[name]
                sign = 1 if metric.better == "higher" else -1
                decided = figure["low"] * figure["high"] > 0 and figure["files"] >= ENOUGH
                verdict = "better" if sign * figure["mean"] > 0 else "worse"
                said = f"{metric.title.partition(' (')[0]} {figure['mean']:+.{metric.decimals}f}"
                verdicts[verdict if decided else "undecided"].append(said)
        rates = [
            f"{line[name] / 1000:.2f}" for name in ("payload_bitrate", "beside_payload_bitrate")
        ]
        cells = [line["class"], line["codec"], rates[0], line["beside"], rates[1]]
        cells += ["; ".join(verdict) or "-" for verdict in verdicts.values()]
        parts.append(f"| {' | '.join(cells)} |")
    return "\n".join(parts)


def class_order(kind: str) -> tuple[bool, str]:
    """Speech first."""
    return kind != "speech", kind


def measures_of(lines: Sequence[dict[str, Any]]) -> dict[str, Metric]:
    """Those of `METRICS` that lines of a summary have."""
    return {name: metric for name, metric in METRICS.items() if any(name in line for line in lines)}


def tables(summary: Sequence[dict[str, Any]]) -> str:
    """A Markdown table per class: mean ± half the width of the 95 % interval."""
    parts = []
    for kind in dict.fromkeys(line["class"] for line in summary):
        lines = [line for line in summary if line["class"] == kind]
        shown = measures_of(lines)
        titles = [metric.title + ARROWS[metric.better] for metric in shown.values()]
        parts += [f"### {kind.capitalize()} ({_files(lines[0])})", ""]
        parts.append("| codec | payload kbit/s | file kbit/s | " + " | ".join(titles) + " |")
        parts.append("|---|" + "---|" * (2 + len(titles)))
        for line in lines:
            rates = [
                "-" if line[name] is None else f"{line[name] / 1000:.2f}"
                for name in ("payload_bitrate", "file_bitrate")
            ]
            cells = [_cell(line.get(name), metric.decimals) for name, metric in shown.items()]
            parts.append(f"| {' | '.join([line['codec'], *rates, *cells])} |")
        parts.append("")
    return "\n".join(parts)


def _files(line: dict[str, Any]) -> str:
    return f"{line['files']} file{'s' if line['files'] > 1 else ''}"


def _cell(figure: dict[str, Any] | None, decimals: int) -> str:
    if figure is None:
        return "-"
    half = (figure["high"] - figure["low"]) / 2
    mean = f"{figure['mean']:.{decimals}f}"
    return f"{mean} ±{half:.{decimals}f}" if figure["files"] > 1 else mean


def rate_lines(lines: Sequence[dict[str, Any]], name: str) -> list[Line]:
    """A line per codec of one measure over the bits really spent."""
    found = []
    for codec in dict.fromkeys(line["codec"] for line in lines):
        points = [line for line in lines if line["codec"] == codec and name in line]
        if points:
            kbits = [point["payload_bitrate"] / 1000 for point in points]
            values = [[point[name][end] for point in points] for end in ("mean", "low", "high")]
            found.append(Line(codec, kbits, *values))
    return found


def draw(summary: Sequence[dict[str, Any]], out: Path) -> list[str]:
    """The pictures: the short one first, then one per class; returns their names."""
    pictures = []
    kinds = list(dict.fromkeys(line["class"] for line in summary))
    overview = [
        (kind, name)
        for kind, name in OVERVIEW
        if any(line["class"] == kind and name in line for line in summary)
    ]
    sheets = [("rate_quality", "", overview)] if overview else []
    for kind in kinds:
        lines = [line for line in summary if line["class"] == kind]
        names = [name for name in PLOTTED if name in measures_of(lines)]
        title = f"{kind} ({_files(lines[0])})"
        sheets.append((f"rate_quality_{kind}", title, [(kind, name) for name in names]))
    for sheet, title, panels in sheets:
        figure, axes = new_figure(len(panels), 2 if len(panels) <= 4 else 3, title)
        for panel, (kind, name) in zip(axes, panels, strict=True):
            draw_lines(
                panel,
                rate_lines([line for line in summary if line["class"] == kind], name),
                x_title="payload (kbit/s)",
                y_title=METRICS[name].title + ARROWS[METRICS[name].better],
                log_x=True,
            )
            if not title:
                panel.set_title(kind, fontsize=11)
        label_lines(figure)
        pictures.append(save(figure, out, sheet))
    return pictures


def section(summary: Sequence[dict[str, Any]], facts: dict[str, Any]) -> str:
    """The Markdown of the results page."""
    absent = "; ".join(f"{name} ({reason})" for name, reason in facts["absent"].items())
    own = [
        f"{kind} {np.mean(widths):.1f} kHz"
        for kind, widths in facts["original_bandwidth"].items()
        if widths
    ]
    return "\n".join(
        [
            f"The first {facts['seconds']:g} s of each recording, mono at 24 kHz. Means ± half the "
            "width of the 95 % bootstrap interval over the files; ↑ higher is better, ↓ lower is "
            "better. Payload: what carries sound; file: with the container. Delay and level are "
            "matched in the same way for all codecs, the level correction is shown. The "
            f"originals' own bandwidth is, on average: {', '.join(own)}.",
            "",
            *([f"Not compared: {absent}.", ""] if absent else []),
            tables(summary),
            *(_beside(facts["pairs"]) if facts["pairs"] else []),
        ]
    )


def _beside(found: Sequence[dict[str, Any]]) -> list[str]:
    return [
        "### Beside each codec at about the same bitrate",
        "",
        "Mean difference, ours less theirs, over the same files; better or worse where the 95 % "
        "interval of the differences excludes zero.",
        "",
        pair_table(found),
    ]
