"""Line plots whose lines are labelled directly instead of in a legend."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.transforms import Bbox

# Mostly the palette of Okabe and Ito, safe for colour-blind readers; ours is the darkest.
COLOURS = {
    "aecodec": "#111111",
    "opus": "#D55E00",
    "mp3": "#009E73",
    "aac": "#CC79A7",
    "codec2": "#B8860B",
    "speex": "#3A9BD9",
    "encodec": "#0050A0",
    "dac": "#7F7F7F",
    "mimi": "#8C564B",
    "lyra": "#E7298A",
    "snac": "#66A61E",
}
SPARE_COLOURS = ("#6A3D9A", "#B15928", "#1B7837", "#A6761D")
"""For codecs that are not listed above, and for further lines of the same codec."""
KBITS = (0.25, 0.5, 1, 2, 3, 6, 12, 24, 48)
"""Ticks of a bitrate axis, in kbit/s."""


class Line(NamedTuple):
    """A line with error bars; all sequences have the same length.

    Attributes:
        name: label; its first word selects the colour.
        x: x coordinates of the points.
        y: y coordinates of the points.
        low: lower ends of the error bars.
        high: upper ends of the error bars.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def new_figure(panels: int, columns: int, title: str = "") -> tuple[Figure, list[Axes]]:
    """A figure with ``panels`` axes in rows of ``columns``; it needs no display."""
    rows = -(-panels // columns)
    figure = Figure(figsize=(4.4 * columns, 3.5 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure, [figure.add_subplot(rows, columns, number + 1) for number in range(panels)]


def draw_lines(
    axes: Axes, lines: Sequence[Line], *, x_title: str, y_title: str, log_x: bool = False
) -> None:
    """Draw lines with error bars; call `label_lines` when all panels are drawn.

    Args:
        axes: panel to draw in.
        lines: lines to draw.
        x_title: title of the x axis, with its unit.
        y_title: title of the y axis, with its unit.
        log_x: whether the x axis shows bitrates in kbit/s on a logarithmic scale.
    """
    for line, colour in zip(lines, colours([line.name for line in lines]), strict=True):
        below, above = np.subtract(line.y, line.low), np.subtract(line.high, line.y)
        axes.errorbar(
            line.x,
            line.y,
            yerr=np.maximum((below, above), 0),
            color=colour,
            marker="o",
            markersize=3.5,
            linewidth=2.2 if line.name.startswith("aecodec") else 1.3,
            elinewidth=1,
            capsize=2,
            label=line.name,
        )
    axes.set_xlabel(x_title)
    axes.set_ylabel(y_title)
    axes.grid(True, linewidth=0.4, alpha=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.1, y=0.12)
    if log_x:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(KBITS))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def colours(names: Sequence[str]) -> list[str]:
    """A colour for each name: that of the codec, or a spare one if it is already in use.

    Example:
        >>> colours(["aecodec speech24k", "opus", "aecodec mine"])
        ['#111111', '#D55E00', '#6A3D9A']
    """
    taken: list[str] = []
    spare = iter(SPARE_COLOURS * len(names))
    for name in names:
        own = COLOURS.get(name.split()[0], "")
        taken.append(own if own and own not in taken else next(spare))
    return taken


def label_lines(figure: Figure) -> list[Text]:
    """Write the name of each line next to it, where it covers least; labels do not overlap.

    Positions around every point of a line are tried, in eight directions. Covering another label
    or leaving the panel costs most, covering another line less, covering its own line least.

    Returns:
        The labels.
    """
    figure.draw_without_rendering()  # computes the layout, so that positions in pixels are known
    # The layout is frozen: labels must not move the axes that they were placed in.
    figure.set_layout_engine("none")
    labels = []
    for axes in figure.axes:
        labels += _label_axes(axes)
    return labels


def _label_axes(axes: Axes) -> list[Text]:
    drawn = [container for container in axes.containers if container.get_label()]
    traces = [_trace(axes, container) for container in drawn]
    placed: list[Bbox] = []
    labels = []
    frame = axes.get_window_extent()
    for number, container in enumerate(drawn):
        line: Any = container[0]
        text = axes.text(
            0, 0, str(container.get_label()), color=line.get_color(), fontsize=8.5, va="bottom"
        )
        text.set_transform(None)
        extent = text.get_window_extent()
        size = np.array((extent.width, extent.height))
        best, best_cost = np.zeros(2), float("inf")
        anchors = _pixels(axes, line)
        for corner in _corners(anchors, size):
            box = Bbox.from_bounds(*corner, *size)
            cost = 1000.0 * sum(_overlap(box, other) for other in placed)
            cost += 1000.0 * _outside(box, frame)
            for other, trace in enumerate(traces):
                cost += (1 if other == number else 4) * _inside(trace, box)
            if cost < best_cost:
                best, best_cost = corner, cost
        text.set_position((float(best[0]), float(best[1])))
        placed.append(Bbox.from_bounds(*best, *size))
        labels.append(text)
    for text in labels:  # from pixels to coordinates of the axes, valid at any resolution
        x, y = axes.transAxes.inverted().transform(text.get_position())
        text.set_transform(axes.transAxes)
        text.set_position((float(x), float(y)))
    return labels


def _corners(anchors: np.ndarray, size: np.ndarray) -> list[np.ndarray]:
    """Lower left corners of a label around each anchor: near ones first, ends of the line first."""
    order = sorted(range(len(anchors)), key=lambda number: min(len(anchors) - 1 - number, number))
    corners = []
    for gap in (6, 14, 26, 40):
        for number in order:
            x, y = anchors[number]
            for across in (0.5, 0, 1):
                for up in (0, 1, 0.5):
                    if (across, up) != (0.5, 0.5):
                        offset = np.sign((0.5 - across, 0.5 - up)) * gap
                        corners.append(np.array((x, y)) - size * (across, up) + offset)
    return corners


def _pixels(axes: Axes, line: Any) -> np.ndarray:
    return axes.transData.transform(np.column_stack(line.get_data()).astype(float))


def _trace(axes: Axes, container: Any) -> np.ndarray:
    """Pixels that a line and its error bars cover, about every three pixels: ``[n, 2]``."""
    polylines = [_pixels(axes, container[0])]
    for bars in container[2]:
        polylines += [axes.transData.transform(segment) for segment in bars.get_segments()]
    pieces = []
    for polyline in polylines:
        pieces.append(polyline)
        for start, end in itertools.pairwise(polyline):
            steps = np.linspace(0, 1, max(2, int(np.hypot(*(end - start)) / 3)))[:, None]
            pieces.append(start + steps * (end - start))
    return np.concatenate(pieces)


def _inside(points: np.ndarray, box: Bbox) -> int:
    within = (points > (box.x0 - 1, box.y0 - 1)) & (points < (box.x1 + 1, box.y1 + 1))
    return int(within.all(axis=1).sum())


def _overlap(a: Bbox, b: Bbox) -> bool:
    return Bbox.intersection(a.padded(1), b.padded(1)) is not None


def _outside(box: Bbox, frame: Bbox) -> bool:
    left_or_right = box.x0 < frame.x0 + 2 or box.x1 > frame.x1
    return bool(left_or_right or box.y0 < frame.y0 + 2 or box.y1 > frame.y1)


def save(figure: Figure, out: Path, name: str) -> str:
    """Write ``NAME.png`` and ``NAME.svg`` to a folder; return the name of the PNG file."""
    out.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": name}):  # equal pictures have equal bytes
        figure.savefig(out / f"{name}.svg", metadata={"Date": None})
    figure.savefig(out / f"{name}.png", dpi=110)
    return f"{name}.png"
