"""Line plots whose lines are named where they run, instead of in a legend."""

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

# Okabe and Ito's colours, told apart by most of the colour-blind; our own is the darkest.
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
}
SPARE_COLOURS = ("#6A3D9A", "#B15928", "#1B7837", "#E7298A")
KBITS = (0.25, 0.5, 1, 2, 3, 6, 12, 24, 48)
"""Ticks of an axis of bitrates."""


class Line(NamedTuple):
    """A line with error bars; all sequences of one length.

    Attributes:
        name: written beside it; its first word chooses the colour.
        x: where the points are.
        y: their heights.
        low: lower ends of the error bars.
        high: upper ends.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def new_figure(panels: int, columns: int, title: str = "") -> tuple[Figure, list[Axes]]:
    """A figure of ``panels`` axes in rows of ``columns``, drawn without a display."""
    rows = -(-panels // columns)
    figure = Figure(figsize=(4.4 * columns, 3.5 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure, [figure.add_subplot(rows, columns, number + 1) for number in range(panels)]


def draw_lines(
    axes: Axes, lines: Sequence[Line], *, x_title: str, y_title: str, log_x: bool = False
) -> None:
    """Draw lines with error bars; `label_lines` names them once all panels are drawn."""
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
    """A colour for each name: the codec's own, and spare ones for what shares it."""
    taken: list[str] = []
    spare = iter(SPARE_COLOURS * len(names))
    for name in names:
        own = COLOURS.get(name.split()[0], "")
        taken.append(own if own and own not in taken else next(spare))
    return taken


def label_lines(figure: Figure) -> list[Text]:
    """Write each line's name beside it, where it covers least; the labels never overlap.

    Every point of a line is tried, in eight directions. A label may touch its own line if it must,
    other lines only if nothing else is left, and other labels never.

    Returns:
        The labels.
    """
    figure.canvas.draw()  # lays the figure out, so that places in pixels are known
    # Kept as it is: the labels must not move the axes that they were placed by.
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
        text.set_position(tuple(best))
        placed.append(Bbox.from_bounds(*best, *size))
        labels.append(text)
    for text in labels:  # from pixels to the axes, so that it holds at any resolution
        where = axes.transAxes.inverted().transform(text.get_position())
        text.set_transform(axes.transAxes)
        text.set_position(tuple(where))
    return labels


def _corners(anchors: np.ndarray, size: np.ndarray) -> list[np.ndarray]:
    """Lower left corners of a label around each anchor, near ones and ends of the line first."""
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
    """Pixels that a line and its error bars cover, every three pixels or so: ``[n, 2]``."""
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
    return box.x0 < frame.x0 + 2 or box.x1 > frame.x1 or box.y0 < frame.y0 + 2 or box.y1 > frame.y1


def save(figure: Figure, out: Path, name: str) -> str:
    """Write ``NAME.png`` and ``NAME.svg``; returns the former's name."""
    out.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": name}):  # the same picture, the same bytes
        figure.savefig(out / f"{name}.svg", metadata={"Date": None})
    figure.savefig(out / f"{name}.png", dpi=110)
    return f"{name}.png"
