"""The section of a comparison on the results page: its text, tables and plots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.comparison.summary import measures_in, verdict
from benchmarks.shared.metrics import METRICS
from benchmarks.shared.plots import Line, draw_lines, label_lines, new_figure, save
from benchmarks.shared.tables import markdown_table

ARROWS = {"higher": " ↑", "lower": " ↓", "zero": " →0", "": ""}
"""Suffix of a measure's title, for the direction that is better."""
OVERVIEW = (
    ("speech", "pesq_wb"),
    ("speech", "plcmos"),
    ("music", "visqol_audio"),
    ("sound", "visqol_audio"),
)
"""Class of sound and measure of each panel of the overview."""


def make_section(facts: dict[str, Any]) -> str:
    """The section as Markdown.

    Args:
        facts: figures of the comparison as they are written to ``rate_quality.json``.
    """
    absent = "; ".join(f"{name} ({reason})" for name, reason in facts["absent"].items())
    parts = [
        f"The first {facts['seconds']:g} s of each recording, mono at 24 kHz. Means ± half the "
        "width of the 95 % bootstrap confidence interval over the files; ↑ higher is better, ↓ "
        "lower is better, →0 best at zero. Payload: bits that carry audio; file: with the "
        "container. Delay and level are matched by the same rules for all codecs; the level "
        "correction is shown. Harmonic contrast: decoded less original. DNSMOS and PLCMOS hear "
        "only the decoded audio, so the originals have them too."
    ]
    if absent:
        parts.append(f"Not compared: {absent}.")
    parts += class_tables(facts["summary"], facts["originals"])
    if facts["pairs"]:
        parts += [
            "### Differences at similar bitrates",
            "Mean difference, ours minus theirs, over the same files; better or worse where the "
            "95 % confidence interval of the differences excludes zero.",
            difference_table(facts["pairs"]),
        ]
    return "\n\n".join(parts) + "\n"


def class_tables(summary: Sequence[dict[str, Any]], originals: dict[str, Any]) -> list[str]:
    """A heading and a Markdown table for each class of sound; the originals have the last row."""
    parts = []
    for sound_class in dict.fromkeys(line["class"] for line in summary):
        lines = [line for line in summary if line["class"] == sound_class]
        shown = measures_in(lines)
        titles = [metric.title + ARROWS[metric.better] for metric in shown.values()]
        rows = [
            [
                line["codec"],
                *(_kbits(line[name]) for name in ("payload_bitrate", "file_bitrate")),
                *(_mean(line.get(name), metric.decimals) for name, metric in shown.items()),
            ]
            for line in lines
        ]
        own = originals.get(sound_class, {})
        cells = [_mean(own.get(name), metric.decimals) for name, metric in shown.items()]
        rows.append(["original", "-", "-", *cells])
        parts.append(f"### {sound_class.capitalize()} ({_files(lines[0])})")
        parts.append(markdown_table(["codec", "payload kbit/s", "file kbit/s", *titles], rows))
    return parts


def difference_table(found: Sequence[dict[str, Any]]) -> str:
    """Where a model is better and worse than a peer at a similar bitrate, as a Markdown table."""
    header = ("class", "codec", "kbit/s", "peer", "kbit/s", "better", "worse", "undecided")
    rows = []
    for line in found:
        verdicts: dict[str, list[str]] = {"better": [], "worse": [], "undecided": []}
        for name, metric in METRICS.items():
            if name in line and metric.better in ("higher", "lower"):
                title = metric.title.partition(" (")[0]
                change = f"{title} {line[name]['mean']:+.{metric.decimals}f}"
                verdicts[verdict(metric, line[name])].append(change)
        own, other = _kbits(line["payload_bitrate"]), _kbits(line["peer_payload_bitrate"])
        cells = [line["class"], line["codec"], own, line["peer"], other]
        rows.append([*cells, *("; ".join(changes) or "-" for changes in verdicts.values())])
    return markdown_table(header, rows)


def _kbits(bitrate: float | None) -> str:
    return "-" if bitrate is None else f"{bitrate / 1000:.2f}"


def _files(line: dict[str, Any]) -> str:
    return f"{line['files']} file{'s' if line['files'] > 1 else ''}"


def _mean(figure: dict[str, Any] | None, decimals: int) -> str:
    if figure is None:
        return "-"
    half = (figure["high"] - figure["low"]) / 2
    mean = f"{figure['mean']:.{decimals}f}"
    return f"{mean} ±{half:.{decimals}f}" if figure["files"] > 1 else mean


def draw_plots(summary: Sequence[dict[str, Any]], out: Path) -> list[str]:
    """Write the overview and a plot for each class of sound; return the names of the PNG files."""
    overview = [
        (sound_class, name)
        for sound_class, name in OVERVIEW
        if any(line["class"] == sound_class and name in line for line in summary)
    ]
    plots = [_draw_panels(summary, overview, out, "rate_quality")] if overview else []
    for sound_class in dict.fromkeys(line["class"] for line in summary):
        lines = [line for line in summary if line["class"] == sound_class]
        names = [name for name, metric in measures_in(lines).items() if metric.better]
        panels = [(sound_class, name) for name in names]
        title = f"{sound_class} ({_files(lines[0])})"
        plots.append(_draw_panels(summary, panels, out, f"rate_quality_{sound_class}", title))
    return plots


def _draw_panels(
    summary: Sequence[dict[str, Any]],
    panels: Sequence[tuple[str, str]],
    out: Path,
    file: str,
    title: str = "",
) -> str:
    """One panel per class of sound and measure; without a title, each names its class."""
    figure, all_axes = new_figure(len(panels), 2 if len(panels) <= 4 else 3, title)
    for axes, (sound_class, name) in zip(all_axes, panels, strict=True):
        draw_lines(
            axes,
            rate_lines([line for line in summary if line["class"] == sound_class], name),
            x_title="payload (kbit/s)",
            y_title=METRICS[name].title + ARROWS[METRICS[name].better],
            log_x=True,
        )
        if not title:
            axes.set_title(sound_class, fontsize=11)
    label_lines(figure)
    return save(figure, out, file)


def rate_lines(lines: Sequence[dict[str, Any]], name: str) -> list[Line]:
    """A line per codec: one measure against the payload bitrate."""
    found = []
    for codec in dict.fromkeys(line["codec"] for line in lines):
        points = [line for line in lines if line["codec"] == codec and name in line]
        if points:
            kbits = [point["payload_bitrate"] / 1000 for point in points]
            values = [[point[name][end] for point in points] for end in ("mean", "low", "high")]
            found.append(Line(codec, kbits, *values))
    return found
